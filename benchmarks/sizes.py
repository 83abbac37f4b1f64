"""How large the cases are: as the project's logs, or small enough for a test."""

from __future__ import annotations

from typing import NamedTuple

# Ids of KuaiRand's fields at a budget of 1 %: 45,560 in all (numeric ones are bins).
KUAIRAND = (25157, 6362, 16, 5642, 4, 13, 6064, 6, 108, 10, 2, 3, 3, 9, 10, 8, 9, 3, 8, 50, 1422, 16, 35, 4, 116, 450)
KUAIRAND += (8, 8, 8, 6)


class Sizes(NamedTuple):
    """Shapes of all cases. Students: `refine` of the default config; the log: KuaiRand at 1 % of the rows."""

    fields: tuple[int, ...] = KUAIRAND  # ids of each
    dim: int = 8
    batch: int = 512  # rows of a reference step
    steps: int = 40  # of them, in a pass
    history: int = 50  # events of a row, at most
    batches: tuple[int, ...] = (512, 4096, 32_768)  # rows of a reference step on a GPU
    rows: int = 65_536  # whose influence is scored
    memory: int = 2304  # entries
    codes: int = 32  # a field
    inner_batch: int = 64
    outer_rows: int = 512
    unrolls: tuple[int, int, int] = (20, 60, 200)
    vocabularies: tuple[int, int] = (10_000, 10_000_000)
    many_ids: int = 1_000_000  # beside PyTorch, whose step costs O(ids)
    split: int = 30 << 15  # ids of tables that are split over devices, about 2^20
    per_sample: tuple[int, int] = (256, 16)  # rows PyTorch is fastest with: gathered rows, whole tables
    simulated: tuple[int, int] = (8, 10_000)  # blocks, rows of each
    long: tuple[int, int] = (100, 1_000_000)  # the same, of the long stream
    read: tuple[int, int] = (14, 360_000)  # days and rows of each of a log that is read
    repeats: int = 7


FULL = Sizes()
SMOKE = Sizes(
    fields=(30, 12, 5),
    dim=4,
    read=(2, 200),
    batch=32,
    steps=3,
    history=4,
    batches=(16, 32),
    rows=256,
    memory=48,
    codes=8,
    inner_batch=8,
    outer_rows=16,
    unrolls=(2, 4, 6),
    vocabularies=(60, 600),
    many_ids=300,
    split=3 << 8,
    per_sample=(16, 4),
    simulated=(2, 200),
    long=(4, 120),
    repeats=2,
)
SIZES = {'full': FULL, 'smoke': SMOKE}
