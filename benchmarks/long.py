"""A stream that is never stored, as long as one likes: does block 100 cost what block 10 did?

The driver of `diet-distill` on `data.generated`, in a process of its own, so that its peak memory is that of the
stream and of nothing else. Everything that the driver does is run, checkpoints and artifacts included.

What was chosen, so that the time goes into what grows if anything does, and 100 million rows take an hour or less:

- no twins, and 4,096 rows a reference step;
- 20,000 users, 20,000 items and 200 more a block: 62,000 ids in the end, in tables sized for them at the start;
- a row budget of 2e-5, for 200 entries after block 10 and 2,000 after block 100: the memory's valid part grows tenfold
  in a fixed capacity of 2,304, that of KuaiRand. Every row is compared with the whole capacity, and the check's epochs
  are over the valid part: what a larger memory costs is another question, `config.memory.row_budget`'s.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import child, clock
from diet_jax.config import default_config, simulated_data
from diet_jax.run import overhead
from diet_jax.run.driver import distill
from diet_jax.run.record import read_metrics


class Readings(NamedTuple):
    """Of every stage, in order."""

    seconds: list[float]  # of the stage, compilation apart
    total: list[float]  # the same with reading (as far as it was waited for), checkpoint and artifact
    peak_bytes: list[int]  # largest resident size of the process so far, when the stage was on disk
    rows: int  # of a block
    compiles: int  # stages that compiled anything


def config(sizes):
    """The run's config; `sizes.long` says how many blocks of how many rows."""
    blocks, rows = sizes.long
    ids = max(rows // 50, 10)
    c = default_config()
    c.data = simulated_data(
        blocks=blocks,
        rows_per_block=rows,
        users=ids,
        items=ids,
        new_items_per_block=max(ids // 100, 1),
        authors=max(ids // 10, 2),
    )
    c.twins.models = ()
    c.reference.batch = min(8 * sizes.batch, rows)
    c.memory.row_budget = max(2e-5, 1.01 / rows)
    c.memory.capacity = sizes.memory
    return c


def run(sizes, folder) -> Readings:
    """Distills the stream into `folder`, which is emptied before; `folder`/log.txt tells how far it is."""
    shutil.rmtree(folder, ignore_errors=True)
    peaks = []
    distill(config(sizes), folder, after_stage=lambda stage: peaks.append(overhead.peak_memory()))
    seconds = [line['seconds'] for line in read_metrics(folder)]
    return Readings(
        [s['stage'] for s in seconds],
        [s['total'] - s['compile'] for s in seconds],
        peaks,
        sizes.long[1],
        sum(s['compile'] > 0 for s in seconds),
    )


def figures(readings: Readings) -> dict:
    """`stage_time_block_100_vs_10`: medians of the last tenth of the blocks and of the second tenth, so that a single
    hiccup does not count; `peak_memory_block_100_vs_10`: after the last block, and after the first tenth;
    `long_stream_rows`: rows/s of everything."""
    blocks = len(readings.seconds)
    tenth = max(blocks // 10, 1)
    pair = f'block_{blocks}_vs_{tenth}'
    late, early = _quartiles(readings.seconds[-tenth:]), _quartiles(readings.seconds[tenth : 2 * tenth])
    high, low = readings.peak_bytes[-1], readings.peak_bytes[tenth - 1]
    rate = readings.rows * blocks / sum(readings.total)
    ratio = late.median / early.median
    return {
        f'stage_time_{pair}': clock.milliseconds(late, f'blocks {tenth + 1} to {2 * tenth}', ratio),
        f'peak_memory_{pair}': clock.figure(high, 'bytes', f'block {tenth}', high / low),
        'long_stream_rows': clock.figure(rate, 'rows/s', rows=readings.rows * blocks, compiles=readings.compiles),
    }


def case(sizes: str, workdir: Path) -> dict:
    """`figures` of a run in `workdir`/long."""
    return figures(Readings(*child.run('long', sizes, folder=workdir / 'long')))


def _quartiles(seconds: Sequence[float]) -> clock.Seconds:
    return clock.Seconds(*(float(np.quantile(seconds, q)) for q in (0.5, 0.25, 0.75)))
