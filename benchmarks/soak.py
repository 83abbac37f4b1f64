"""A year and more of a daily job: what a stage takes after 50, 100, ... 500 tiny days, and what lies on the disk.

    python -m benchmarks.soak --stages=500 [--keep=10]

Every tenth of the days is a process of its own: the log is opened and the checkpoint restored, as a daily job does.
--keep is `history.keep`.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path

import numpy as np
from absl import app, flags, logging

from diet_jax.config import default_config, simulated_data
from diet_jax.device.programs import keep_compiled
from diet_jax.run import driver, overhead
from diet_jax.run.record import read_metrics

_STAGES = flags.DEFINE_integer('stages', 500, 'Days.', lower_bound=10)
_KEEP = flags.DEFINE_integer('keep', 0, 'history.keep; 0: all.')
ROWS = 320
COLUMNS = ('days', 'ms a stage', 'ms in all', 'MB at most', 'open files', 'files', 'MB on disk', 'in history/')


def config(stages: int, keep: int, last: int):
    """A tiny run up to some day. Its capacity is that of the end: a memory that grows would be another question."""
    c = default_config()
    c.data = simulated_data(blocks=stages, rows_per_block=ROWS, users=40, items=30, new_items_per_block=2, authors=6)
    c.data.until = str(np.datetime64('2024-01-01') + last - 1)
    c.reference.update(dim=4, batch=64)
    c.codebook.codes = 64
    c.twins.models = ()
    c.memory.update(row_budget=0.005, capacity=int(0.005 * ROWS * stages) + 64)
    c.addressing.update(components=4, query_rows=128, basis_rows=128)
    c.refine.update(pool=2, outer_steps=2, inner_steps=2, window=2, batch=16, outer_rows=64, past_rows=32)
    c.refine.update(check_rows=64, check_epochs=1)
    c.history.keep = keep
    return c


def days(workdir: Path, stages: int, keep: int, first: int, last: int) -> list[float]:
    """Distills some days; `COLUMNS` after them."""
    logging.set_verbosity(logging.ERROR)
    keep_compiled()
    opened = []
    count = lambda _: opened.append(len(os.listdir('/proc/self/fd')))  # noqa: E731
    driver.distill(config(stages, keep, last), workdir, emit=lambda line: None, after_stage=count)
    seconds = [line['seconds'] for line in read_metrics(workdir)[first:last]]
    size = lambda folder: sum(p.stat().st_size for p in folder.rglob('*') if p.is_file()) / 1e6  # noqa: E731
    return [
        last,
        1e3 * float(np.median([s['stage'] for s in seconds])),
        1e3 * float(np.median([s['total'] - s['compile'] for s in seconds])),
        overhead.peak_memory() / 1e6,
        opened[-1],
        sum(p.is_file() for p in workdir.rglob('*')),
        size(workdir),
        size(workdir / 'history'),
    ]


def main(_) -> None:
    stages = _STAGES.value
    ends = [stages * i // 10 for i in range(11)]
    print(''.join(f'{name:>13}' for name in COLUMNS))
    with tempfile.TemporaryDirectory(dir=os.environ.get('TMPDIR', '.')) as folder:
        for first, last in zip(ends, ends[1:]):
            with multiprocessing.get_context('spawn').Pool(1) as pool:
                found = pool.apply(days, (Path(folder) / 'run', stages, _KEEP.value, first, last))
            forms = ('d', '.1f', '.1f', '.0f', 'd', 'd', '.1f', '.1f')
            print(''.join(f'{format(x, form):>13}' for x, form in zip(found, forms, strict=True)), flush=True)


if __name__ == '__main__':
    app.run(main)
