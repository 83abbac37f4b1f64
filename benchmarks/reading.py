"""Reading a log: rows a second from Parquet and CSV, peak memory by the log's size, and what a second day costs."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks import child, clock
from diet_jax.config import default_config
from diet_jax.data.stream import open_stream

START, DAY = 1_709_251_200, 86_400  # 2024-03-01 00:00 UTC
KINDS = ('parquet', 'csv')


def case(sizes: str, workdir: Path) -> dict:
    """`read_rows_parquet`, `read_rows_csv`; `read_memory_*`: peak of a log four times as large; `read_second_day_*`."""
    found = {}
    for kind in KINDS:
        small, large = (child.run('reading', sizes, folder=f'{workdir}:{kind}:{times}') for times in (1, 4))
        found[f'read_rows_{kind}'] = clock.figure(small['rows'] / small['seconds'], 'rows/s')
        peaks = large['peak'] / small['peak']
        found[f'read_memory_{kind}'] = clock.figure(large['peak'], 'bytes', 'a quarter of the log', peaks)
        day = small['second_day'] * small['days'] / small['seconds']
        found[f'read_second_day_{kind}'] = clock.figure(small['second_day'], 's', 'a day of the first run', day)
    return found


def run(sizes, told: str) -> dict:
    """Prepares a log of files of a day, and then one more day. told: 'folder:parquet or csv:times as many days'."""
    folder, kind, times = told.split(':')
    rows, days = sizes.read[1], sizes.read[0] * int(times)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = Path(place) / 'log'
        root.mkdir()
        for day in range(days):
            write_day(root, day, rows, kind)
        before = time.perf_counter()
        stream = open_stream(described(root), Path(place) / 'run', lambda line: None)
        seconds = time.perf_counter() - before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        write_day(root, days, rows, kind)
        before = time.perf_counter()
        open_stream(described(root), Path(place) / 'run', lambda line: None)
        second_day = time.perf_counter() - before
    read = sum(block.rows for block in stream.blocks)
    return {'rows': read, 'seconds': seconds, 'peak': peak, 'days': days, 'second_day': second_day}


def write_day(root: Path, day: int, rows: int, kind: str) -> None:
    """A day of 20 columns: ids of Zipf's law, small whole numbers, words, a number, a label."""
    rng = np.random.default_rng(day)
    columns = {
        'ts': START + DAY * day + np.sort(rng.integers(0, DAY, rows)),
        'user': rng.zipf(1.3, rows) % 200_000,
        'item': rng.zipf(1.2, rows) % 100_000,
    }
    columns |= {f'f{k}': rng.integers(0, 10 ** (1 + k % 4), rows) for k in range(13)}
    for k in range(3):
        columns[f's{k}'] = np.array([f'v{j}' for j in range(50 * (k + 1))])[rng.integers(0, 50 * (k + 1), rows)]
    columns |= {'x': rng.normal(size=rows).round(4), 'y': (rng.random(rows) < 0.3).astype(int)}
    write = pq.write_table if kind == 'parquet' else pa.csv.write_csv
    write(pa.table(columns), root / f'day-{day:03d}.{kind}')


def described(root: Path):
    """`config.data` of such a log."""
    data = default_config().data
    data.root, data.log = str(root), ('day-*',)
    data.time.column, data.time.unit, data.label.column = 'ts', 's', 'y'
    data.fields = ('user', 'item', *(f'f{k}' for k in range(13)), *(f's{k}' for k in range(3)))
    data.numeric.x = 16
    return data
