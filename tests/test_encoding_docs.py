"""docs/encoding.md: its blocks number a log as the library does, bit for bit."""

import datetime
import json
import re
from pathlib import Path

import duckdb
import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tiny
from ml_collections import ConfigDict

from diet_jax.artifact.read import load_memory
from diet_jax.base.layout import PAD
from diet_jax.config import default_data

PAGE = (Path(__file__).resolve().parent.parent / 'docs' / 'encoding.md').read_text()
HOUR = 3_600_000
START = 1_650_796_200_000  # 2022-04-25 00:00 in UTC+5:30, a Monday
BIG = 2**53 + 1  # where floats skip numbers
NULLABLE = {pa.int64(): pandas.Int64Dtype(), pa.bool_(): pandas.BooleanDtype(), pa.string(): pandas.StringDtype()}


def a_day(day: int, rows: int = tiny.ROWS) -> pa.Table:
    """A day of a log: values as text, gaps, words that differ by how they are read, and every day new ones."""
    rng = np.random.default_rng(day)
    pick = lambda words: rng.choice(np.array(words, object), rows).tolist()  # noqa: E731
    new = [f'i{x}' for x in range(6 + 4 * day)]
    user, gap = BIG + 2 * rng.integers(0, 20 + 5 * day, rows), rng.random((3, rows)) < 0.1
    some = lambda words, most: None if rng.random() < 0.1 else pick(words)[: rng.integers(0, most)]  # noqa: E731
    lists = lambda words, most=4: [some(words, most) for _ in range(rows)]  # noqa: E731
    return pa.table(
        {
            'user': pa.array(user, mask=gap[0]),
            'item': pick([*new, '7', '7.0', '007', 'TRUE', 'true', '', 'NULL', None]),
            'size': pick(['1', '2.0', '-3', '<NA>', str(40 + day)]),
            'on': pick(['True', 'FALSE', 'true', '', None]),
            'switch': pa.array(rng.random(rows) < 0.5, mask=gap[1]),
            'version': pick(['1.0', '1', 'TRUE', 'true', '\\N', f'{day}.10']),
            'price': pa.array(np.round(rng.gamma(2.0, size=rows), 3), mask=gap[2]),
            'late': rng.normal(size=rows) if day else np.zeros(rows),
            'tags': pa.array(lists(['a', 'b', '5', '5.0', '', None, f'd{day}']), pa.list_(pa.string())),
            'seen': pa.array(lists([*new, '7.0', '007', None], 6), pa.list_(pa.string())),
            'numbers': pa.array(lists([1, 2, None, 30 + day]), pa.list_(pa.int64())),
            'ts': START + day * 24 * HOUR + rng.permutation(rows) * 24 * HOUR // rows,
            'click': rng.integers(0, 2, rows),
        }
    )


@pytest.fixture(scope='module')
def memory(tmp_path_factory):
    """The folder of the memory after the second of four days."""
    root, workdir = tmp_path_factory.mktemp('log'), tmp_path_factory.mktemp('encoding')
    for day in range(4):
        pq.write_table(a_day(day), root / f'log-{day}.parquet')
    config = tiny.get_config()
    data = config.data = default_data()
    data.root, data.log = str(root), ('log-*.parquet',)
    data.time.column, data.time.utc_offset_hours, data.label.column = 'ts', 5.5, 'click'
    data.fields, data.time_fields = ('user', 'item', 'size', 'on', 'switch', 'version'), ('hour', 'weekday')
    data.numeric, data.csv.strings = ConfigDict({'price': 4, 'late': 10}), ('version',)
    data.lists = ConfigDict(
        {'tags': dict(max_len=2, keep='first'), 'seen': dict(max_len=3, shares='item'), 'numbers': dict(max_len=2)}
    )
    data.histories = ConfigDict({'clicked': dict(of=('item', 'size'), by='user', max_len=3, gap=True)})
    tiny.distill(workdir, config)
    return workdir / 'history' / '00002'


def hard_log(folder) -> pa.Table:
    """A later day; numbers at the boundaries and just beside them; histories longer than the memory's, with gaps."""
    table, rng = a_day(3), np.random.default_rng(9)
    fields = {field['name']: field for field in json.loads((folder / 'manifest.json').read_text())['fields']}
    for name in ('price', 'late'):
        bounds = np.array(fields[name]['bounds'])
        with np.errstate(over='ignore'):  # below the lowest number
            odd = np.concatenate([bounds, np.nextafter(bounds, -np.inf), np.nextafter(bounds, np.inf)])
        odd = np.concatenate([odd, [0.0, -0.0, 5e-324, 1e308, np.inf, -np.inf, np.nan]])
        values = table[name].to_numpy().copy()
        values[: len(odd)] = odd
        index = table.column_names.index(name)
        table = table.set_column(index, name, pa.array(values, mask=rng.random(len(values)) < 0.05))
    for name, words in dict(item=['i1', 'i2', None, 'never'], size=[1, None, -3, 99], gap=[0, 5, 12, 60]).items():
        lists = [rng.choice(np.array(words, object), n).tolist() for n in rng.integers(0, 6, len(table))]
        table = table.append_column(f'clicked_{name}', pa.array(lists))
    return table


def block(tool: str):
    """What the page's block of a tool defines."""
    found = re.search(rf'^## {tool}\n.*?```python\n(.*?)```', PAGE, re.S | re.M)
    names = {'__name__': tool}
    exec(compile(found[1], f'docs/encoding.md {tool}', 'exec'), names)
    return names['encode']


def by_pandas(folder, table):
    found = block('pandas')(folder, table.to_pandas(types_mapper=NULLABLE.get))
    return {name: found[name].tolist() for name in found.columns}


def by_polars(folder, table):
    return block('polars')(folder, polars.from_arrow(table)).to_dict(as_series=False)


def by_duckdb(folder, table):
    return block('DuckDB')(folder, table).to_arrow_table().to_pydict()


def by_spark(folder, table):
    sql = pytest.importorskip('pyspark.sql', reason='pyspark is not installed: the block of Spark is not run')
    path = folder.parent / 'log.parquet'
    pq.write_table(table.append_column('row', pa.array(range(len(table)))), path)
    with sql.SparkSession.builder.master('local[2]').config('spark.sql.shuffle.partitions', 2).getOrCreate() as spark:
        found = block('Spark')(spark, str(folder), spark.read.parquet(str(path)), 'row').orderBy('row').collect()
    return {name: [row[name] for row in found] for name in found[0].asDict()}


@pytest.mark.parametrize('by', [by_pandas, by_polars, by_duckdb, by_spark])
@pytest.mark.parametrize('written', ['typed', 'as text'])
def test_a_block_of_the_page_numbers_a_log_as_the_library_does(memory, by, written):
    log, known = hard_log(memory), load_memory(memory)
    if written == 'as text':
        for name in ('user', 'size', 'switch', 'price', 'late', 'ts'):
            log = log.set_column(log.column_names.index(name), name, log[name].cast(pa.string()))
    expected, found = known.encode(log), by(memory, log)
    for f, field in enumerate(known.fields):
        np.testing.assert_array_equal(found[f'{field.name}__code'], expected.codes[:, f], err_msg=field.name)
    for field in known.lists:
        lists = [row[row != PAD].tolist() for row in expected.list_codes[field.name]]
        assert [list(map(int, row)) for row in found[f'{field.name}__code']] == lists, field.name


def test_plain_pandas_too_where_no_integer_is_beside_a_null(memory):
    log = hard_log(memory)
    log = log.set_column(0, 'user', log['user'].fill_null(1))
    found = block('pandas')(memory, log.to_pandas())
    for f, field in enumerate(load_memory(memory).fields):
        expected = load_memory(memory).encode(log).codes[:, f]
        np.testing.assert_array_equal(found[f'{field.name}__code'], expected, err_msg=field.name)


def test_that_log_is_a_hard_one(memory):
    known = load_memory(memory)
    ids, fields = known.encode(hard_log(memory)).ids, {field.name: field for field in known.fields}
    sizes = np.array([len(known.codebook[name][0]) for name in fields])
    named = lambda hit: {name for name, any_ in zip(fields, (ids == hit).any(0)) if any_}  # noqa: E731
    assert named(sizes) == {*fields} - {'hour', 'weekday'}, 'missing'
    assert named(sizes + 1) >= {'user', 'item', 'size', 'version', 'weekday'}, 'unseen'
    assert fields['late'].bounds[0] == np.finfo(np.float64).min and fields['price'].bounds[0] > 0
    assert fields['late'].missing_code <= len(fields['late'].bounds), 'clustered: a bin is not its own code'
    kinds = [known.codebook[name][0].type for name in ('user', 'item', 'switch')]
    assert kinds == [pa.int64(), pa.string(), pa.bool_()]


def test_weekdays_begin_on_monday_in_every_tool():
    days = [datetime.datetime(2024, 3, day) for day in range(1, 15)]
    expected, said = [day.weekday() for day in days], re.findall(r'^\| (\w+).* \| `(.*)` \|$', PAGE, re.M)
    table, code = pa.table({'t': days}), dict(said)
    assert set(code) == {'pandas', 'PyArrow', 'polars', 'DuckDB', 'Spark'}
    assert eval(code['pandas'], {'t': table.to_pandas()['t']}).tolist() == expected
    assert eval(code['PyArrow'], {'t': table['t'], 'pc': pc}).to_pylist() == expected
    assert eval(code['polars'], {'t': polars.from_arrow(table)['t']}).to_list() == expected
    assert [row[0] for row in duckdb.sql(f'SELECT {code["DuckDB"]} FROM "table"').fetchall()] == expected
