"""Quirks of files and rows: what is swallowed, twice there, in another format, changed since.

What people have reported to be read wrong of real logs, each with what is right.
"""

import datetime
import gzip
import json
import os

import numpy as np
import pyarrow as pa
import pytest
from quirky import DAYS, ITEMS, ROWS, USERS, csv, data_of, days, facts, parquet, refused, same, written

from diet_jax.base.errors import UserError
from diet_jax.config.data import check_data
from diet_jax.data.stream import open_stream

# Rows.


def test_rows_that_a_quote_swallows_are_noticed(tmp_path, healthy):
    def change(d, columns):
        columns['title'] = [f't{k}' for k in range(ROWS)]
        columns['title'][10], columns['title'][30] = '"an open quote', 'ends with one"'
        return {name: columns[name] for name in ('ts', 'user', 'item', 'title', 'city', 'x', 'y')}

    data = written(tmp_path, change, lambda root, d, columns: csv(root, d, columns, 'day{}.tsv', '\t'))
    data.csv.delimiter = '\t'
    refused(data, tmp_path / 'w', 'day0.tsv: quotes swallow 20 of 50 rows', "data.csv.quote=''")
    data.csv.quote = ''
    assert same(facts(data, tmp_path / 'w'), healthy)


def test_line_breaks_in_quotes_are_read_at_any_size(tmp_path, healthy):
    def change(d, columns):
        long = '"' + 'lorem ' * 5000 + '\nsecond, line\r\n' + 'ipsum ' * 5000 + '"'
        return {'text': [long if k % 2 else '"one\nline, and one"' for k in range(ROWS)], **columns}

    assert same(facts(written(tmp_path, change), tmp_path / 'w'), healthy)


def test_escapes_decimals_and_thousands_can_be_set(tmp_path, healthy):
    def change(d, columns):
        columns['x'] = [f'{1000 * x:,.1f}'.replace(',', ' ').replace('.', ',').replace(' ', '.') for x in columns['x']]
        columns['city'] = [f'{c}\\;{c}' for c in columns['city']]

    data = written(tmp_path, change, lambda root, d, columns: csv(root, d, columns, delimiter=';'))
    data.csv.update(delimiter=';', escape='\\', decimal_point=',', thousands='.')
    assert same(facts(data, tmp_path / 'w'), healthy)
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert 'ams;ams' in stream.vocabulary.values(2, np.unique(stream.load(0).ids[:, 2])).to_pylist()


@pytest.mark.parametrize('how', [csv, parquet])
def test_duplicates_are_known_by_value_and_name(tmp_path, healthy, how):
    """The second copy has its columns in another order, its whole numbers with a point, and another format."""

    def change(d, columns):
        if d == 2:
            again = {**columns, 'user': [f'{u}.0' for u in columns['user']], 'x': [f'{x:.4f}' for x in columns['x']]}
            csv(tmp_path / 'log', d, dict(reversed(again.items())), 'day{}-again.csv')

    data = written(tmp_path, change, how)
    data.duplicates = 'drop'
    found = facts(data, tmp_path / 'w')
    assert same(found, healthy) and f'{ROWS} rows dropped that repeat' in found.said


def test_lists_and_structs_beside_the_fields_do_no_harm(tmp_path, healthy):
    def change(d, columns):
        seen = pa.array([[1, 2, k] for k in range(ROWS)], pa.list_(pa.int32()))
        blob, wait = pa.array([b'\xff%d' % k for k in range(ROWS)]), pa.array(range(ROWS), pa.duration('s'))
        meta = pa.array([{'a': k} for k in range(ROWS)])
        return {**columns, 'seen': seen, 'meta': meta, 'blob': blob, 'wait': wait}

    data = written(tmp_path, change, parquet)
    data.duplicates = 'drop'
    assert same(facts(data, tmp_path / 'w'), healthy)
    data.fields = ('user', 'item', 'city', 'seen')
    refused(data, tmp_path / 'v', "column 'seen' is of type list<element: int32>", 'take it out of data.fields')


# Files.


def test_folders_give_columns(tmp_path, healthy):
    for d, columns in enumerate(days()):
        city = np.array(columns.pop('city'))
        for name in ('ams', 'ber', 'cph'):
            rows = {k: np.array(v)[city == name] for k, v in columns.items()}
            parquet(tmp_path / 'log', 0, rows, f'date=2024-03-0{d + 1}/city={name}/part-{{}}.parquet')
    data = data_of(tmp_path / 'log', log=('date=*/city=*/part-*.parquet',))
    data.block.by, data.block.column = 'column', 'date'
    assert same(facts(data, tmp_path / 'w'), healthy)
    (tmp_path / 'log' / 'date=2024-03-01' / 'city=ams').rename(
        tmp_path / 'log' / 'date=2024-03-01' / 'city=__HIVE_DEFAULT_PARTITION__'
    )
    assert facts(data, tmp_path / 'v').missing['city'] == days()[0]['city'].count('ams')


@pytest.mark.parametrize('how', [csv, parquet])
def test_a_column_that_comes_later_is_missing_before(tmp_path, healthy, how):
    def change(d, columns):
        if d < 2:
            del columns['city'], columns['x']

    data = written(tmp_path, change, how)
    data.fields, data.numeric = ('user', 'city'), {}
    found = facts(data, tmp_path / 'w')
    assert found.missing['city'] == 2 * ROWS and found.values['city'] == 3
    assert "column 'city' is not in 2 of 4 files (day0" in found.said
    data.fields, data.group = ('user', 'town'), 'user'
    refused(data, tmp_path / 'v', "column 'town'")


@pytest.mark.parametrize('name', ['day{}.parquet.gzip', 'day{}', 'day{}.csv'])
def test_parquet_is_known_by_what_it_is(tmp_path, healthy, name):
    data = written(tmp_path, lambda d, columns: None, lambda root, d, columns: parquet(root, d, columns, name))
    assert same(facts(data, tmp_path / 'w'), healthy)


def test_compressed_text_is_known_by_what_it_is(tmp_path, healthy):
    for d, columns in enumerate(days()):
        csv(tmp_path / 'log', d, columns)
        plain = tmp_path / 'log' / f'day{d}.csv'
        (tmp_path / 'log' / f'day{d}').write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    assert same(facts(data_of(tmp_path / 'log'), tmp_path / 'w'), healthy)


def test_what_is_not_read_is_said_in_words(tmp_path):
    for d, columns in enumerate(days()):
        csv(tmp_path / 'log', d, columns)
    path = tmp_path / 'log' / 'day0.csv'
    text = path.read_bytes()
    (tmp_path / 'log' / 'day0.csv.gz').write_bytes(gzip.compress(text))
    refused(data_of(tmp_path / 'log'), tmp_path / 'w', 'day0.csv and day0.csv.gz look like one file twice')
    (tmp_path / 'log' / 'day0.csv.gz').unlink()
    for first, said in (
        (b'PK\x03\x04', 'a zip archive: unpack it'),
        (b'ORC\x0a\x03', 'an ORC file'),
        (b'\x80\x04\x95', 'a pickle'),
    ):
        path.write_bytes(first + text)
        refused(data_of(tmp_path / 'log'), tmp_path / 'w', f'day0.csv is {said}')
    parquet(tmp_path / 'other', 0, days()[0])
    path.write_bytes(gzip.compress((tmp_path / 'other' / 'day0.parquet').read_bytes()))
    refused(data_of(tmp_path / 'log'), tmp_path / 'w', 'day0.csv is a Parquet file inside gzip')
    path.write_bytes(gzip.compress(text)[:-9])
    refused(data_of(tmp_path / 'log'), tmp_path / 'w', 'day0.csv does not unpack as gzip (', '): fetch it again')
    path.unlink()
    path.mkdir()
    data = data_of(tmp_path / 'log', log=('day0.csv',))
    refused(data, tmp_path / 'w', "data.log day0.csv is a folder: name its files, 'day0.csv/*.parquet' for one")


@pytest.mark.parametrize('kind', ['dictionary', 'binary', 'decimal', 'large_string', 'uint64', 'date'])
def test_types_of_parquet(tmp_path, healthy, kind):
    def change(d, columns):
        user = pa.array(columns['user'])
        text = user.cast(pa.string())
        columns['user'] = {
            'dictionary': lambda: text.dictionary_encode(),
            'binary': lambda: text.cast(pa.binary()),
            'decimal': lambda: user.cast(pa.decimal128(20)),
            'large_string': lambda: text.cast(pa.large_string()),
            'uint64': lambda: user.cast(pa.uint64()),
            'date': lambda: user.cast(pa.int32()).cast(pa.date32()),
        }[kind]()

    assert same(facts(written(tmp_path, change, parquet), tmp_path / 'w'), healthy)


def test_a_column_twice_is_refused(tmp_path):
    def change(d, columns):
        return pa.table([*map(pa.array, columns.values()), pa.array(columns['user'])], names=[*columns, 'user'])

    refused(written(tmp_path, change, parquet), tmp_path / 'w', "day0.parquet has two columns 'user'")


@pytest.mark.parametrize('name', ['stage', 'count', 'weight', 'device/os', '__label', 'user__code', '..', 'a\\b'])
@pytest.mark.parametrize('side', [False, True])
def test_a_name_that_the_memory_cannot_have_is_refused_before_work_and_renaming_helps(tmp_path, healthy, name, side):
    for d, columns in enumerate(days()):
        columns[name] = columns.pop('user' if side else 'city')
        csv(tmp_path / 'log', d, columns)
    data = data_of(tmp_path / 'log')
    if side:  # the key, renamed in both
        csv(tmp_path / 'log', 0, {name: range(100, 109), 'age': range(9)}, 'users.csv')
        data.side_tables = ({'path': 'users.csv', 'key': name},)
        data.fields, data.group = (name, 'item', 'age'), name
    else:
        data.fields = ('user', 'item', name)
    refused(data, tmp_path / 'w', f"field '{name}'", 'data.rename = ')
    data.rename = ((name, 'mine'),)
    data.fields = tuple('mine' if field == name else field for field in data.fields)
    if side:
        data.side_tables, data.group = ({'path': 'users.csv', 'key': 'mine'},), 'mine'
        assert facts(data, tmp_path / 'w').values == {'mine': USERS, 'item': ITEMS, 'age': 9, 'x': 4}
    else:
        assert facts(data, tmp_path / 'w').values == {'user': USERS, 'item': ITEMS, 'mine': 3, 'x': 4}


def test_renaming_is_checked():
    with pytest.raises(UserError, match="data.rename gives two columns the name 'a'"):
        check_data({'rename': (('x', 'a'), ('y', 'a'))})
    for bad in (('x', 'a'), 3, (('x', ''),)):
        with pytest.raises(UserError, match='data.rename is .* it must hold pairs'):
            check_data({'rename': bad})


# The second day.


@pytest.mark.parametrize('day', [0, 2])
def test_a_changed_past_is_refused_at_the_same_size_and_time_stamp(tmp_path, day):
    data = written(tmp_path, lambda d, columns: None)
    before = facts(data, tmp_path / 'w')
    path = tmp_path / 'log' / f'day{day}.csv'
    stat = os.stat(path)
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([lines[0], *(line[:-1] + str(1 - int(line[-1])) for line in lines[1:])]) + '\n')
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert os.stat(path).st_size == stat.st_size
    with pytest.raises(UserError, match=f'the log goes back in time: block 2024-03-0{day + 1} had {ROWS} rows'):
        open_stream(data, tmp_path / 'w', lambda line: None)
    path.write_text('\n'.join(lines) + '\n')
    assert same(facts(data, tmp_path / 'w'), before), 'restored, it goes on'


def test_what_was_read_stands_in_the_manifest(tmp_path):
    data = written(tmp_path, lambda d, columns: None)
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    kinds = json.loads((stream.folder / 'manifest.json').read_text())['columns']
    assert kinds == {'user': 'int64', 'item': 'int64', 'city': 'string', 'x': 'number'}


@pytest.mark.parametrize('legitimate', ['"a, b"', '"a\nb"', 'plain'])
def test_swallowed_lines_are_noticed_beside_a_quote_that_means_something(tmp_path, legitimate):
    def change(d, columns):
        title = [f't{k}' for k in range(ROWS)]
        title[10], title[30], title[40] = '"open', 'end"', legitimate
        return {
            **{n: columns[n] for n in ('ts', 'user', 'item')},
            'title': title,
            **{n: columns[n] for n in 'city x y'.split()},
        }

    data = written(tmp_path, change)
    refused(data, tmp_path / 'w', 'day0.csv: quotes swallow 20 of 50 rows', "data.csv.quote=''")


@pytest.mark.parametrize('text', ['"one\ntwo, three"', '"a, b\n\nc"', '"1,2,3\n4,5\n6"'])
def test_line_breaks_that_are_meant_are_read(tmp_path, healthy, text):
    data = written(tmp_path, lambda d, columns: {**columns, 'title': [text] * ROWS})
    assert same(facts(data, tmp_path / 'w'), healthy)


@pytest.mark.parametrize('name', ['__hash', 'position', 'list_length', '=x'])
def test_a_field_may_have_the_name_of_what_is_kept_beside_rows(tmp_path, healthy, name):
    data = written(tmp_path, lambda d, c: {(name if key == 'city' else key): values for key, values in c.items()})
    data.fields = ('user', 'item', name)
    found = facts(data, tmp_path / 'w')
    assert found.rows == healthy.rows and found.values[name] == healthy.values['city']
    data.duplicates = 'drop'
    assert facts(data, tmp_path / 'v').rows == healthy.rows


@pytest.mark.parametrize('name', ['__time', '__label'])
def test_a_block_column_may_too(tmp_path, healthy, name):
    data = written(tmp_path, lambda d, columns: {**columns, name: [f'd{d}'] * ROWS})
    data.block.update(by='column', column=name)
    assert facts(data, tmp_path / 'w').rows == healthy.rows


@pytest.mark.parametrize('change', ['ns', 'ms', 'zone', 'csv', 'flag', 'spelling'])
def test_a_row_is_repeated_whatever_its_time_and_label_are_written_as(tmp_path, change):
    def stamped(columns, unit='us', zone=None):
        return {**columns, 'ts': pa.array(columns['ts'], pa.timestamp('s')).cast(pa.timestamp(unit, zone))}

    for d, columns in enumerate(days()):
        parquet(tmp_path / 'log', d, stamped(columns))
    again = days()[2]
    if change == 'csv':
        iso = [datetime.datetime.fromtimestamp(t, datetime.UTC).strftime('%Y-%m-%d %H:%M:%S') for t in again['ts']]
        csv(tmp_path / 'log', 7, {**again, 'ts': iso})
    elif change == 'flag':
        parquet(tmp_path / 'log', 7, {**stamped(again), 'y': [bool(y) for y in again['y']]})
    elif change == 'spelling':
        iso = [datetime.datetime.fromtimestamp(t, datetime.UTC).isoformat() for t in again['ts']]
        csv(tmp_path / 'log', 7, {**again, 'ts': iso, 'x': [f'{x:.6f}' for x in again['x']]})
    else:
        parquet(
            tmp_path / 'log',
            7,
            stamped(again, 'us' if change == 'zone' else change, 'UTC' if change == 'zone' else None),
        )
    data = data_of(tmp_path / 'log')
    data.duplicates, data.time.unit, data.time.utc_offset_hours = 'drop', 'iso', 0.0
    found = facts(data, tmp_path / 'w')
    assert found.rows == [ROWS] * DAYS and f'{ROWS} rows dropped that repeat' in found.said


def test_rows_of_other_ratings_are_no_repeats(tmp_path):
    def change(d, columns):
        twice = {name: [*column, *column] for name, column in columns.items()}
        twice['y'] = [5 if y else 3 for y in columns['y']] + [4 if y else 2 for y in columns['y']]
        return twice

    data = written(tmp_path, change)
    data.duplicates, data.label.threshold = 'drop', 4
    assert facts(data, tmp_path / 'w').rows == [2 * ROWS] * DAYS


def test_a_side_tables_encoding_is_set_for_it_alone(tmp_path):
    data = written(tmp_path, lambda d, columns: columns.update(city=['é'] * ROWS))
    text = 'user,name\n' + '\n'.join(f'{u},Zo\xeb' for u in range(100, 109))
    (tmp_path / 'log' / 'users.csv').write_bytes(text.encode('latin1'))
    data.fields, data.side_tables = ('user', 'city', 'name'), ({'path': 'users.csv', 'key': 'user'},)
    refused(data, tmp_path / 'w', "users.csv: column 'name'", "set csv=dict(encoding='latin1', ...) of the side table")
    data.side_tables = ({'path': 'users.csv', 'key': 'user', 'csv': {'encoding': 'latin1'}},)
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    found = [stream.values(np.unique(stream.load(0).ids[:, f])).to_pylist() for f in (1, 2)]
    assert found == [['é'], ['Zoë']]


def test_a_folder_that_contradicts_its_file_is_refused(tmp_path):
    for d, columns in enumerate(days()):
        stamped = {**columns, 'date': [f'2025-01-0{d + 1}'] * ROWS}
        parquet(tmp_path / 'log', 0, stamped, f'date=2024-03-0{d + 1}/part-{{}}.parquet')
    data = data_of(tmp_path / 'log', log=('date=*/part-*',))
    data.block.update(by='column', column='date')
    refused(data, tmp_path / 'w', "column 'date' holds '2025-01-01', and its folder says '2024-03-01'")


def test_a_folder_and_a_column_that_agree_are_one(tmp_path):
    for d, columns in enumerate(days()):
        parquet(tmp_path / 'log', d, {**columns, 'h': [d] * ROWS} if d == 1 else columns, f'h=0{d}/day{{}}.parquet')
    parquet(tmp_path / 'log', 9, {n: c[:5] for n, c in days()[1].items()}, 'h=01/day{}.parquet')
    data = data_of(tmp_path / 'log', log=('h=*/day*',))
    data.fields = ('user', 'item', 'h')
    assert facts(data, tmp_path / 'w').values['h'] == DAYS


@pytest.mark.parametrize('first', ['ORCID', 'BZh9', 'PAR1', 'ARROW1', 'Obj'])
def test_a_header_may_begin_as_a_format_does(tmp_path, healthy, first):
    data = written(tmp_path, lambda d, columns: {first: [1] * ROWS, **columns})
    assert same(facts(data, tmp_path / 'w'), healthy)


def test_a_header_without_an_end_of_line_is_a_file_without_rows(tmp_path, healthy):
    data = written(tmp_path, lambda d, columns: columns)
    (tmp_path / 'log' / 'day9.csv').write_text(','.join(days()[0]))
    assert same(facts(data, tmp_path / 'w'), healthy)


def test_a_refusal_leaves_no_folder_above_the_workdir(tmp_path):
    csv(tmp_path / 'log', 0, {**days()[0], 'x': ['what'] * ROWS})
    refused(data_of(tmp_path / 'log'), tmp_path / 'runs' / 'mine', "holds 'what', no number")
    assert not (tmp_path / 'runs').exists()
