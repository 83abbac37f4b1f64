"""How much a device is given at once: a CPU's caches hold little, an accelerator wants all of it in flight.

No result depends on it, but for the order in which floating-point numbers are summed. Sizes were measured on two CPU
cores and on one H200 (docs/performance.md).
"""

from __future__ import annotations

from typing import NamedTuple

import jax


class Tiling(NamedTuple):
    rows: int  # of the log, scored or looked up at once
    ids: int  # different ids of a batch that a lazy step updates at once
    points: int  # of a tile of rows that look for their nearest entries
    entries: int  # of a tile of those entries
    slots: int  # of a tile of ids that look for their nearest codes
    abreast: bool  # students of one grid step side by side (vmap) and not one after another


CPU = Tiling(rows=1024, ids=2048, points=256, entries=32, slots=256, abreast=False)
ACCELERATOR = Tiling(rows=1 << 17, ids=1 << 30, points=8192, entries=2048, slots=8192, abreast=True)


def tiling() -> Tiling:
    """Of the devices that JAX runs on by default; static, read while a function is traced."""
    return CPU if jax.default_backend() == 'cpu' else ACCELERATOR
