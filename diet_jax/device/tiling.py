"""How much a device is given at once: a CPU's caches hold little, an accelerator wants all of it in flight.

No result depends on it, but for the order in which floating-point numbers are summed. Sizes were measured on two CPU
cores and on one H200 (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


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


def chunked(function: Callable, arrays, chunk: int | None = None):
    """Maps `function` over chunks of the leading axis: any number of rows in constant memory, one compiled shape.

    Args: function: a tuple of arrays [chunk, ...] -> pytree of arrays [chunk, ...]; arrays: tuple of [N, ...].
    Returns: the pytree with leading axis N.
    """
    n = arrays[0].shape[0]
    out = jax.lax.map(function, split(arrays, chunk))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], out)


def mapped(function: Callable, xs):
    """Maps trainings of students over the leading axis: side by side where the device is wide enough, else in turn,
    for on a CPU a wider vmap only spills the caches."""
    return jax.vmap(function)(xs) if tiling().abreast else jax.lax.map(function, xs)


def split(arrays, chunk: int | None = None):
    """Pads the leading axis with zeros to a multiple of `chunk`: [N, ...] -> [ceil(N / chunk), chunk, ...].

    chunk: as many rows as suit the device (`tiling`), where it is not given.
    """
    n = arrays[0].shape[0]
    size = min(chunk or tiling().rows, n)
    return jax.tree.map(
        lambda x: jnp.pad(x, ((0, -n % size),) + ((0, 0),) * (x.ndim - 1)).reshape(-1, size, *x.shape[1:]),
        tuple(arrays),
    )
