"""A little log to be written in odd ways, and what must not depend on how it is written.

Every log is the same little one, written another way: four days, 50 rows each. What `facts` says of it must not depend
on how it is written.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diet_jax.base.errors import UserError
from diet_jax.config.data import default_data
from diet_jax.data.stream import open_stream

START, DAYS, ROWS = 1_709_251_200, 4, 50  # 2024-03-01 00:00 UTC
USERS, ITEMS = 9, 6


def days() -> list[dict]:
    rng = np.random.default_rng(0)
    found = []
    for d in range(DAYS):
        time = START + 86400 * d + np.sort(rng.choice(86400, ROWS, replace=False))
        user, item = np.arange(ROWS) % USERS, (np.arange(ROWS) // 2) % ITEMS
        city = np.array(['ams', 'ber', 'cph'])[rng.integers(0, 3, ROWS)]
        x, click = rng.normal(size=ROWS).round(3), (rng.random(ROWS) < 0.4).astype(int)
        columns = dict(ts=time, user=user + 100, item=item + 500, city=city, x=x, y=click)
        found.append({name: column.tolist() for name, column in columns.items()})
    return found


def data_of(root, **changes):
    data = default_data()
    data.root, data.log = str(root), ('day*',)
    data.time.column, data.time.unit, data.label.column = 'ts', 's', 'y'
    data.fields, data.numeric, data.group = ('user', 'item', 'city'), {'x': 4}, 'user'
    data.update(changes)
    return data


def csv(root, day: int, columns: dict, name='day{}.csv', delimiter=','):
    root.mkdir(parents=True, exist_ok=True)
    lines = [delimiter.join(columns), *(delimiter.join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (root / name.format(day)).write_text('\n'.join(lines) + '\n')


def parquet(root, day: int, columns: dict, name='day{}.parquet', **options):
    path = root / name.format(day)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)


class Facts(NamedTuple):
    rows: list[int]  # of the blocks
    clicks: list[float]
    values: dict[str, int]  # different values of each field
    missing: dict[str, int]  # rows without one
    said: str


def facts(data, workdir) -> Facts:
    said = []
    stream = open_stream(data, workdir, said.append)
    blocks = [stream.load(t) for t in range(len(stream.blocks))]
    ids = np.concatenate([block.ids for block in blocks])
    names = [field.name for field in stream.fields]
    return Facts(
        [len(block.label) for block in blocks],
        [round(float(block.label.mean()), 6) for block in blocks],
        {name: len(np.unique(ids[:, f][ids[:, f] >= 2 * len(names)])) for f, name in enumerate(names)},
        {name: int((ids[:, f] == 2 * f).sum()) for f, name in enumerate(names)},
        '\n'.join(said),
    )


def same(a: Facts, b: Facts) -> bool:
    return a[:4] == b[:4]


def refused(data, workdir, *parts: str) -> str:
    """One line that has all parts; nothing is written."""
    with pytest.raises(UserError) as error:
        open_stream(data, workdir, lambda line: None)
    text = str(error.value)
    assert '\n' not in text and all(part in text for part in parts), text
    assert not list(workdir.rglob('*.parquet'))
    return text


def written(tmp_path, change, how=csv):
    """A log whose days are changed by change(day, columns) before they are written."""
    for d, columns in enumerate(days()):
        columns = change(d, columns) or columns
        how(tmp_path / 'log', d, columns)
    return data_of(tmp_path / 'log')


def read(data, workdir):
    """(stream, its blocks, what was said) of a log."""
    said = []
    stream = open_stream(data, workdir, said.append)
    return stream, [stream.load(t) for t in range(len(stream.blocks))], said


def bytes_of(workdir) -> list[bytes]:
    return [path.read_bytes() for path in sorted(workdir.rglob('rows/*'))]


def healthy_log(root, how=csv, of=range(DAYS)):
    for d in of:
        how(root, d, days()[d])
    return data_of(root)
