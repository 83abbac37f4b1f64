"""A memory encodes a log as the run that made it does, from the memory's own files."""

import datetime
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import tiny
from ml_collections import ConfigDict

from diet_jax.artifact.encode import encode
from diet_jax.artifact.format import CodedField
from diet_jax.artifact.read import load_memory
from diet_jax.base.atomic import write_json
from diet_jax.base.errors import UserError
from diet_jax.config import default_data
from diet_jax.config.data import Simulated
from diet_jax.data.simulated import simulate_block
from diet_jax.data.stream import open_stream

HOUR = 3_600_000
START = 1_650_816_000_000  # 2022-04-25 00:00 in UTC+8, a Monday
FIELDS = ('user', 'item', 'shop', 'city', 'grams', 'price', 'hour', 'weekday')
STAGES = (1, 4)


def a_day(day: int, rows: int = tiny.ROWS) -> pa.Table:
    """A day of a log in no order: integers and words with gaps, and every day users and items that are new."""
    rng = np.random.default_rng(day)
    user, item = rng.integers(0, 20 + 5 * day, rows), rng.integers(0, 12 + 4 * day, rows)
    price = np.round(rng.gamma(2.0, size=rows), 3)
    gap = rng.random((4, rows)) < 0.05
    return pa.table(
        {
            'user': pa.array(user * 10**13, mask=gap[0]),
            'item': pa.array(np.where(gap[1], '', [f'i{x}' for x in item]), mask=gap[2]),
            'price': pa.array(np.where(gap[1], np.nan, price), mask=gap[3], from_pandas=False),
            'ts': START + day * 24 * HOUR + rng.permutation(rows) * 24 * HOUR // rows,
            'click': rng.integers(0, 2, rows),
        }
    )


def write_log(root) -> None:
    """Four days, and two side tables of which the second is joined by a column of the first."""
    for day in range(4):
        pq.write_table(a_day(day), root / f'log-{day}.parquet')
    items = np.arange(20)  # the last items of the log are not in there
    shops = pa.array([f's{i % 6}' for i in items], mask=items % 7 == 3)
    grams = pa.array(items * 0.5, mask=items % 5 == 0)
    pa.csv.write_csv(pa.table({'item': [f'i{i}' for i in items], 'shop': shops, 'grams': grams}), root / 'items.csv')
    pq.write_table(pa.table({'shop': [f's{i}' for i in range(4)], 'city': [7, 8, 7, None]}), root / 'shops.parquet')


def get_config(root) -> ConfigDict:
    config = tiny.get_config()
    data = config.data = default_data()
    data.root, data.log = str(root), ('log-*.parquet',)
    data.time.column, data.time.utc_offset_hours, data.label.column = 'ts', 8.0, 'click'
    data.fields, data.numeric = ('user', 'item', 'shop', 'city'), ConfigDict({'grams': 3, 'price': 4})
    data.time_fields = ('hour', 'weekday')
    data.side_tables = (dict(path='items.csv', key='item'), dict(path='shops.parquet', key='shop', columns=('city',)))
    return config


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The folder of the log, and the finished workdir of its run."""
    root, workdir = tmp_path_factory.mktemp('log'), tmp_path_factory.mktemp('encode') / 'run'
    write_log(root)
    tiny.distill(workdir, get_config(root))
    return root, workdir


@pytest.fixture(scope='module')
def stream(run):
    return open_stream(get_config(run[0]).data, run[1], emit=lambda line: None)


@pytest.fixture(scope='module')
def memory(run):
    """The memory of the last stage."""
    return load_memory(run[1] / 'memory')


@pytest.fixture
def adrift(memory, run, tmp_path):
    """The same where the log and its side tables are gone."""
    shutil.copytree(run[1] / 'memory', tmp_path / 'memory')
    path = tmp_path / 'memory' / 'manifest.json'
    write_json(path, json.loads(path.read_text().replace(str(run[0]), str(tmp_path / 'gone'))))
    return load_memory(tmp_path / 'memory')


def joined(table: pa.Table) -> pa.Table:
    """The log's rows with what the side tables say, found value by value."""
    items = {'shop': {}, 'grams': {}}
    for i in range(20):
        items['shop'][f'i{i}'] = None if i % 7 == 3 else f's{i % 6}'
        items['grams'][f'i{i}'] = None if i % 5 == 0 else i * 0.5
    for name, of in items.items():
        table = table.append_column(name, pa.array([of.get(i) for i in table['item'].to_pylist()]))
    city = {'s0': 7, 's1': 8, 's2': 7}
    return table.append_column('city', pa.array([city.get(s) for s in table['shop'].to_pylist()], pa.int64()))


def same(a, b) -> bool:
    return np.array_equal(a.ids, b.ids) and np.array_equal(a.codes, b.codes)


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by('ts')


@pytest.mark.parametrize('stage', STAGES)
def test_codes_are_those_of_the_run(run, stream, stage):
    memory = load_memory(run[1] / 'history' / f'{stage:05d}')
    assert [f.name for f in memory.fields] == list(FIELDS)
    code, unseen, missing = memory.code_of_slots(stream), 0, 0
    for day, info in enumerate(stream.blocks):
        rows = memory.encode(in_order(a_day(day)))
        block = stream.load(day)
        np.testing.assert_array_equal(rows.codes, code[block.ids] - memory.offsets(), err_msg=info.key)
        assert rows.codes.dtype == rows.ids.dtype == np.int32 and rows.ids.shape == block.ids.shape
        sizes = [len(memory.codebook[name][0]) for name in FIELDS]
        missing, unseen = missing + (rows.ids == sizes).sum(0), unseen + (rows.ids == np.add(sizes, 1)).sum(0)
    assert (missing[:6] > 0).all() and (missing[6:] == 0).all(), 'every column has gaps, but time has none'
    assert (unseen[[0, 1]] > 0).all() == (stage == 1), 'later days bring users and items that the first did not know'
    assert unseen[7] == (0 if stage == 4 else 3 * tiny.ROWS), 'and other days of the week'


@pytest.mark.parametrize('stage', STAGES)
def test_ids_tell_the_same_values_apart_as_the_slots_of_the_run(run, stream, stage):
    memory = load_memory(run[1] / 'history' / f'{stage:05d}')
    for f, name in enumerate(FIELDS):
        values, codes = memory.codebook[name]
        id_of_slot = {}
        for day in range(4):
            slots, ids = stream.load(day).ids[:, f], memory.encode(in_order(a_day(day))).ids[:, f]
            known = ids < len(values)
            assert values.take(pa.array(ids[known])).to_pylist() == stream.values(slots[known]).to_pylist()
            assert ((ids == len(values)) == (slots == 2 * f)).all(), 'missing'
            for slot, number in zip(slots[known], ids[known]):
                assert id_of_slot.setdefault(slot, number) == number
        assert len(set(id_of_slot.values())) == len(id_of_slot) <= len(values) == len(codes)
        assert memory.ids[:, f].max() <= len(values), 'no entry of a memory is unseen'


def test_the_memory_and_the_log_share_their_numbers(run, stream, memory):
    """An entry is a row of the log: encoded, that row has the entry's ids and codes."""
    entries = set(map(tuple, np.concatenate([memory.ids, memory.codes], 1).tolist()))
    log = [memory.encode(a_day(day)) for day in range(4)]
    rows = {tuple(row) for e in log for row in np.concatenate([e.ids, e.codes], 1).tolist()}
    assert entries <= rows
    table = np.zeros(memory.num_ids)
    for e in log:
        np.add.at(table, e.ids + memory.id_offsets(), 1)
    assert table.sum() == 4 * tiny.ROWS * len(FIELDS) and (e.codes + memory.offsets()).max() < memory.num_codes


def test_the_simulated_log_too(distilled):
    stream = open_stream(tiny.get_config().data, distilled, emit=lambda line: None)
    memory = load_memory(distilled / 'history' / '00002')
    parameters = Simulated(**tiny.get_config().data.simulated)
    for t in range(4):
        rows = memory.encode(simulate_block(parameters, t))
        expected = memory.code_of_slots(stream)[stream.load(t).ids] - memory.offsets()
        order = lambda codes: codes[np.lexsort(codes.T)]  # noqa: E731  # some rows share a time
        np.testing.assert_array_equal(order(rows.codes), order(expected))


def test_hour_and_weekday_are_local_and_begin_on_monday(memory):
    table = a_day(2)
    rows, zone = memory.encode(table).ids, datetime.timezone(datetime.timedelta(hours=8))
    for f, part in ((6, lambda d: d.hour), (7, lambda d: d.weekday())):
        values = memory.codebook[FIELDS[f]][0].take(pa.array(rows[:, f])).to_pylist()
        assert values == [part(datetime.datetime.fromtimestamp(t / 1000, zone)) for t in table['ts'].to_pylist()]
    zoned = table['ts'].cast(pa.timestamp('ms')).cast(pa.timestamp('ns', 'UTC'))
    local = pa.chunked_array([table['ts'].to_numpy() + 8 * HOUR]).cast(pa.timestamp('ms'))
    for time in (zoned, local, table['ts'].cast(pa.float64()), table['ts'].cast(pa.string())):
        assert np.array_equal(memory.encode(table.set_column(3, 'ts', time)).ids, rows), time.type


class OnlyAStream:
    """What any other library's table is to us."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def test_every_kind_of_table(memory):
    table = a_day(3)
    expected = memory.encode(table)
    coded = table['item'].combine_chunks().dictionary_encode()
    views = pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.cast(pa.string_view()))
    for other in (
        table.to_pydict(),
        {name: column.combine_chunks() for name, column in zip(table.column_names, table.columns)},
        OnlyAStream(table),
        table.to_batches()[0],
        table.to_reader(max_chunksize=100),
        table.set_column(1, 'item', coded),
        table.set_column(1, 'item', views),
        table.set_column(1, 'item', table['item'].cast(pa.large_string())),
        table.set_column(1, 'item', table['item'].cast(pa.string_view())),
        table.set_column(0, 'user', table['user'].cast(pa.uint64())),
        table.set_column(2, 'price', table['price'].cast(pa.string())),
        table.select(['ts', 'price', 'item', 'user']),
    ):
        assert same(memory.encode(other), expected), type(other)
    empty = memory.encode(table.slice(0, 0))
    assert empty.ids.shape == empty.codes.shape == (0, len(FIELDS))


def test_pandas(memory):
    pandas = pytest.importorskip('pandas', reason='pandas is not installed: encode takes its DataFrame')
    table, expected = a_day(3), memory.encode(a_day(3))
    frame = table.to_pandas()
    assert frame['user'].dtype == np.float64, 'integers with gaps are floats there'
    assert same(memory.encode(frame), expected)
    assert same(memory.encode(frame.sample(frac=1, random_state=0).sort_index()), expected), 'the index is no column'
    frame['item'], frame['ts'] = frame['item'].astype('category'), pandas.to_datetime(frame['ts'], unit='ms', utc=True)
    assert same(memory.encode(frame), expected)


def test_polars(memory):
    polars = pytest.importorskip('polars', reason='polars is not installed: encode takes its DataFrame')
    frame, expected = polars.from_arrow(a_day(3)), memory.encode(a_day(3))
    assert same(memory.encode(frame), expected)
    assert same(memory.encode(frame.with_columns(polars.col('item').cast(polars.Categorical))), expected)


def test_columns_of_side_tables_are_taken_from_the_table_where_it_has_them(memory, adrift):
    table, expected = a_day(3), memory.encode(a_day(3))
    whole = joined(table)
    assert same(adrift.encode(whole), expected), 'no side table is opened'
    assert same(memory.encode(whole.drop_columns('city')), expected), 'the key of the second is at hand'
    other = pa.array(['s1'] * len(table))
    rows = memory.encode(whole.drop_columns(['shop', 'city']).append_column('shop', other))
    for name, value in (('shop', 's1'), ('city', 8)):
        f, values = FIELDS.index(name), memory.codebook[name][0].to_pylist()
        assert set(rows.ids[:, f].tolist()) == {values.index(value)}
    with pytest.raises(UserError, match="data.root '.*gone' is not a folder"):
        adrift.encode(table)


def test_types_that_fit_are_cast(memory):
    table = a_day(3)
    expected = memory.encode(table)
    words = table['user'].cast(pa.string()).fill_null('')
    for user in (words, table['user'].cast(pa.float64()), table['user'].cast(pa.decimal128(20)).cast(pa.string())):
        assert same(memory.encode(table.set_column(0, 'user', user)), expected), user.type
    nothing = memory.encode(table.set_column(0, 'user', pa.nulls(len(table))))
    assert (nothing.ids[:, 0] == len(memory.codebook['user'][0])).all(), 'all missing'
    numbers = memory.encode(table.set_column(1, 'item', pa.array(range(len(table)))))
    assert (numbers.ids[:, 1] == len(memory.codebook['item'][0]) + 1).all(), "7 is '7', which is no item: unseen"


@pytest.mark.parametrize(
    'column, values, said',
    [
        ('user', ['7', '007'], "the table: column 'user' holds '007', but the memory has integers there: give it as "),
        (
            'user',
            [None, 'u7'],
            "the table: column 'user' holds 'u7', but the memory has integers there: give it as the",
        ),
        ('user', ['1', '9' * 19], f"the table: column 'user' holds '{'9' * 19}', but the memory has integers there"),
        ('user', ['1', '0x10'], "the table: column 'user' holds '0x10', but the memory has integers there"),
        ('user', [1.0, 1.5], "the table: column 'user' holds 1.5, no whole number: give it as the log has it"),
        (
            'item',
            [['i1'], ['i2']],
            "the table: column 'item' is of type list<.*>, which is no category: give it as the",
        ),
        ('price', ['1.5', 'dear'], "the table: column 'price' holds 'dear', no number: give it as the log has it"),
        ('price', [b'1', b'2'], "the table: column 'price' is of type binary and holds "),
        ('ts', [START, None], "the table: column 'ts' is null in 1 of 2 rows: give it as the log has it"),
        (
            'ts',
            ['1', 'noon'],
            "the table: column 'ts' holds 'noon', no whole number of unit 'ms': give it as the log has it",
        ),
        (
            'ts',
            [START, START * 1000],
            "the table: column 'ts' holds 1650816000000000, after the year 2200 in unit 'ms'",
        ),
    ],
)
def test_values_that_do_not_fit_are_refused(memory, column, values, said):
    table = joined(a_day(3).slice(0, 2)).to_pydict()
    with pytest.raises(UserError, match=said) as caught:
        memory.encode({**table, column: values})
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'drop, said',
    [
        (['user'], "the table has no column 'user', nor has a side table .there are: item, price, ts, click.: add it"),
        (['price'], "the table has no column 'price', nor has a side table"),
        (['item'], "no column 'item', by which items.csv is joined: add it, or what comes from there: grams, shop"),
        (['ts'], "the table has no column 'ts' .*, from which hour and weekday come: add it"),
    ],
)
def test_missing_columns_are_named(memory, drop, said):
    with pytest.raises(UserError, match=said) as caught:
        memory.encode(a_day(3).drop_columns(drop))
    assert '\n' not in str(caught.value)


def test_what_is_no_table_is_refused(memory):
    table = a_day(3)
    for other, said in (
        ([1, 2], 'a builtins.list is no table: give a pandas or polars DataFrame, an Arrow table, or a dict'),
        ('log.parquet', 'a builtins.str is no table'),
        ({'user': [1], 'item': ['i1', 'i2']}, 'the table does not convert to Arrow .*: give every column one type'),
        ({'user': [1, 'one']}, 'the table does not convert to Arrow .*: give every column one type'),
        (table.append_column('user', table['user']), "the table has two columns 'user': take one of them out"),
    ):
        with pytest.raises(UserError, match=said):
            memory.encode(other)


def test_a_memory_of_an_earlier_version_is_read_but_encodes_nothing(run, tmp_path):
    folder = shutil.copytree(run[1] / 'memory', tmp_path / 'memory')
    manifest = json.loads((folder / 'manifest.json').read_text())
    for key in ('data', 'roles', 'weekday', 'students'):
        del manifest[key]
    write_json(folder / 'manifest.json', manifest)
    memory = load_memory(folder)
    assert len(memory.label()) == len(memory.ids) == manifest['rows']
    with pytest.raises(UserError, match='the memory of stage 4 was written by an earlier version, .*: distill again'):
        memory.encode(a_day(0))


def test_a_table_with_the_names_of_the_log_is_renamed_as_the_log_is():
    field = CodedField('os', 'categorical', 3, (), 2, 0)
    book, data = {'os': (pa.array(['a', 'b']), np.array([1, 1]))}, {'side_tables': [], 'rename': {'device/os': 'os'}}
    for name in ('device/os', 'os'):
        assert encode({name: ['b', 'z', None]}, [field], book, data).ids.tolist() == [[1], [3], [2]]


def test_lists_of_a_log_are_read_as_the_log_is():
    """What is missing is dropped before a list is cut, and cut where the log's is; a history stands as it is."""
    fields = [CodedField('item', 'categorical', 9, (), 7, 0)]
    fields += [CodedField(name, 'list', 9, (), 7, 0, 2, 'item') for name in ('first', 'last', 'clicked')]
    book = {'item': (pa.array(['5.0', 'a', 'b', 'c']), np.array([1, 2, 3, 4]))}
    how = dict(separator='|', max_len=2, shares='item')
    data = {'side_tables': [], 'csv': {'strings': ['item']}}
    data['lists'] = {name: {**how, 'keep': name} for name in ('first', 'last')}
    lists = [['', 'a', 'b', 'c', None], ['5.0', 'new'], None]
    table = {'item': ['a', '5.0', 'new'], 'clicked': [['a', None], ['5.0'], []]}
    table |= {'first': lists, 'last': ['|a|b|c|', '5.0|new', None]}
    rows = encode(table, fields, book, data)
    assert rows.codes[:, 0].tolist() == [2, 1, 0], 'as written'
    assert rows.list_codes['first'].tolist() == [[2, 3], [1, 0], [-1, -1]]
    assert rows.list_codes['last'].tolist() == [[3, 4], [1, 0], [-1, -1]]
    assert rows.list_codes['clicked'].tolist() == [[2, 7], [-1, 1], [-1, -1]]


def test_a_column_of_words_is_one_of_words_whatever_a_table_shows_of_it():
    """A day may hold nothing but 1.5, or true beside 1, of a column that is text in the log."""
    field, book = (
        CodedField('os', 'categorical', 5, (), 4, 0),
        {'os': (pa.array(['1', '1.5', 'true', 'x']), np.arange(4))},
    )
    for values, codes in ((['1.5', '1.5'], [1, 1]), (['true', '1'], [2, 0]), ([True, None], [2, 4])):
        assert encode({'os': values}, [field], book, {'side_tables': []}).codes[:, 0].tolist() == codes
