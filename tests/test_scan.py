"""One pass over the log's files: in pieces as at once, a second day for the price of a second day, shapes of rows."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from quirky import DAYS, ROWS, csv, data_of, days, facts, parquet, refused, same

from diet_jax.base.errors import UserError
from diet_jax.config.data import check_data
from diet_jax.data import scan, tables
from diet_jax.data.stream import open_stream


def bytes_of(workdir) -> list[bytes]:
    return [path.read_bytes() for path in sorted(workdir.rglob('rows/*'))]


def healthy_log(root, how=csv, of=range(DAYS)):
    for d in of:
        how(root, d, days()[d])
    return data_of(root)


@pytest.mark.parametrize('by', ['period', 'column', 'rows'])
@pytest.mark.parametrize('how', [csv, parquet], ids=['csv', 'parquet'])
def test_pieces_of_any_size_give_the_same_bytes(tmp_path, monkeypatch, how, by):
    for d, columns in enumerate(days()):
        how(tmp_path / 'log', d, {**columns, 'day': [f'd{d}'] * ROWS})
    data = data_of(tmp_path / 'log')
    data.block.update(by=by, column='day' if by == 'column' else '', rows=37 if by == 'rows' else 0)
    open_stream(data, tmp_path / 'w', lambda line: None)
    monkeypatch.setattr(tables, 'CSV_BLOCKS', (512, 1 << 20))
    monkeypatch.setattr(tables.batches, '__defaults__', (*tables.batches.__defaults__[:1], 7, lambda size: None))
    open_stream(data, tmp_path / 'v', lambda line: None)
    assert bytes_of(tmp_path / 'w') == bytes_of(tmp_path / 'v')


@pytest.mark.parametrize('by', ['period', 'rows'])
def test_a_second_day_reads_the_second_days_file(tmp_path, monkeypatch, by):
    healthy_log(tmp_path / 'all')
    data = healthy_log(tmp_path / 'log', of=range(3))
    for each in (data, whole := data_of(tmp_path / 'all')):
        each.block.update(by=by, rows=ROWS if by == 'rows' else 0)
    open_stream(data, tmp_path / 'w', lambda line: None)
    healthy_log(tmp_path / 'log')
    read, batches = set(), tables.batches

    def watched(root, file, *args, **more):
        read.add(file.name)
        return batches(root, file, *args, **more)

    monkeypatch.setattr(tables, 'batches', watched)
    open_stream(data, tmp_path / 'w', (said := []).append)
    assert read == {'day3.csv'}
    assert 'data: 3 files are as they were when prepared, and were not read again' in said
    open_stream(whole, tmp_path / 'v', lambda line: None)
    assert bytes_of(tmp_path / 'w') == bytes_of(tmp_path / 'v')


def test_rows_of_an_unread_files_block_are_a_changed_past(tmp_path):
    data = healthy_log(tmp_path / 'log')
    open_stream(data, tmp_path / 'w', lambda line: None)
    more = {name: column[:5] for name, column in days()[2].items()}
    csv(tmp_path / 'log', 9, more)  # day9.csv has five more rows of the third day
    with pytest.raises(UserError, match='block 2024-03-03 had 50 rows when prepared, now 55'):
        open_stream(data, tmp_path / 'w', lambda line: None)
    for d in range(2):  # the third day is now the first that is left, and still has more
        (tmp_path / 'log' / f'day{d}.csv').unlink()
    with pytest.raises(UserError, match='block 2024-03-03 had 50 rows when prepared, now 55'):
        open_stream(data, tmp_path / 'w', lambda line: None)


def test_a_file_that_is_split_in_two_is_the_same_past(tmp_path):
    data = healthy_log(tmp_path / 'log')
    open_stream(data, tmp_path / 'w', lambda line: None)
    (tmp_path / 'log' / 'day2.csv').unlink()
    for part, rows in enumerate((slice(0, 20), slice(20, None))):
        csv(tmp_path / 'log', part, {name: column[rows] for name, column in days()[2].items()}, 'day2-{}.csv')
    open_stream(data, tmp_path / 'w', (said := []).append)
    assert said[-1] == 'data: no block is new after 2024-03-04'


def test_rows_held_back_are_read_again(tmp_path):
    data = healthy_log(tmp_path / 'log')
    data.until = '2024-03-02'
    assert len(open_stream(data, tmp_path / 'w', lambda line: None).blocks) == 2
    data.until = ''
    open_stream(data, tmp_path / 'w', lambda line: None)
    open_stream(data, tmp_path / 'v', lambda line: None)
    assert bytes_of(tmp_path / 'w') == bytes_of(tmp_path / 'v')


def test_nothing_is_left_of_a_pass_that_fails(tmp_path):
    data = healthy_log(tmp_path / 'log')
    csv(tmp_path / 'log', 7, {**days()[0], 'x': ['what'] * ROWS})
    refused(data, tmp_path / 'w', "day7.csv: column 'x' holds 'what', no number")
    assert not (tmp_path / 'w').exists()


def test_a_large_log_shows_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr('diet_jax.data.prepare.LARGE', 1)
    monkeypatch.setattr('diet_jax.data.prepare.STEP', 1)
    csv(tmp_path / 'odd', 0, {**days()[0], 'x': ['what'] * ROWS})
    refused(data_of(tmp_path / 'odd'), tmp_path / 'v', "holds 'what', no number")
    assert not (tmp_path / 'v').exists()
    data = healthy_log(tmp_path / 'log')
    open_stream(data, tmp_path / 'w', (said := []).append)
    size = sum(path.stat().st_size for path in (tmp_path / 'log').iterdir())
    lines = [line for line in said if 'reading the log' in line]
    assert len(lines) == DAYS and f'{size / 1e6:.0f} of {size / 1e6:.0f} MB' in lines[-1]
    assert 'reading the log' in (tmp_path / 'w' / 'log.txt').read_text()


def test_pieces_are_made_one_ahead_and_a_fault_comes_in_its_place():
    def numbers():
        yield 1
        yield 2
        raise ValueError('three')

    found = []
    with pytest.raises(ValueError, match='three'):
        for number in scan.ahead(numbers()):
            found.append(number)
    assert found == [1, 2]


# Zones: a column's own, unless an offset is given.


def zoned(root, zone):
    for d, columns in enumerate(days()):
        time = pa.array(np.array(columns['ts']) * 10**3, pa.timestamp('ms', zone))
        parquet(root, d, pa.table({**columns, 'ts': time}))
    data = data_of(root)
    data.time.unit, data.time_fields = 'ms', ('hour',)
    return data


@pytest.mark.parametrize('zone, hours', [('Asia/Shanghai', 8), ('+05:30', 5.5), ('America/New_York', -5), ('UTC', 0)])
def test_days_and_hours_are_of_the_columns_own_zone(tmp_path, zone, hours):
    data = zoned(tmp_path / 'log', zone)
    stream = open_stream(data, tmp_path / 'w', (said := []).append)
    given = zoned(tmp_path / 'log', zone)
    given.time.utc_offset_hours = float(hours)
    same_as = open_stream(given, tmp_path / 'v', lambda line: None)
    assert [block.key for block in stream.blocks] == [block.key for block in same_as.blocks]
    assert bytes_of(tmp_path / 'w') == bytes_of(tmp_path / 'v') and stream.utc_offset_hours == hours
    first = (np.array(days()[0]['ts'])[0] + hours * 3600) // 3600 % 24
    assert stream.values(stream.load(0).ids[:1, -1]).to_pylist() == [first]
    if hours:
        assert any(f"'ts' is in zone {zone}; days and hours are cut in UTC{hours:+g}" in line for line in said)


def test_a_zone_in_words_is_used(tmp_path):
    for d, columns in enumerate(days()):
        local = [datetime.datetime.fromtimestamp(t, datetime.UTC) + datetime.timedelta(hours=8) for t in columns['ts']]
        csv(tmp_path / 'log', d, {**columns, 'ts': [f'{t:%Y-%m-%dT%H:%M:%S}+08:00' for t in local]})
    data = data_of(tmp_path / 'log')
    data.time.unit = 'iso'
    assert open_stream(data, tmp_path / 'w', lambda line: None).utc_offset_hours == 8.0


def test_an_offset_that_blocks_were_not_cut_at_is_refused(tmp_path):
    data = zoned(tmp_path / 'log', 'Asia/Shanghai')
    open_stream(data, tmp_path / 'w', lambda line: None)
    data.time.utc_offset_hours = 0.0
    with pytest.raises(UserError, match="utc_offset_hours is 0, but the log's blocks were cut at 8"):
        open_stream(data, tmp_path / 'w', lambda line: None)
    data.time.utc_offset_hours = 8.0  # the way out
    open_stream(data, tmp_path / 'w', lambda line: None)
    with pytest.raises(UserError, match='data.time.utc_offset_hours is 80.0: it must be a number of hours'):
        check_data({'time': {'utc_offset_hours': 80.0, 'column': 't'}, 'label': {'column': 'y'}, 'fields': ['u']})


# Rows of other shapes.


def test_marked_lists_are_rows(tmp_path, healthy):
    """Five rows of one day are one list, as in MIND: '500-1 501-0'."""
    for d, columns in enumerate(days()):
        lists = [
            ' '.join(f'{i}-{y}' for i, y in zip(columns['item'][a : a + 5], columns['y'][a : a + 5], strict=True))
            for a in range(0, ROWS, 5)
        ]
        first = {name: columns[name][::5] for name in ('ts', 'user', 'city', 'x')}
        csv(tmp_path / 'log', d, {**first, 'shown': lists})
    data = data_of(tmp_path / 'log')
    data.label.column, data.fields = '', ('user', 'shown', 'city', 'position')
    data.impressions.update(items='shown', mark='-')
    found = facts(data, tmp_path / 'w')
    assert found.rows == healthy.rows and found.clicks == healthy.clicks
    assert found.values['shown'] == healthy.values['item'] and found.values['position'] == 5
    clicks = round(sum(rate * ROWS for rate in healthy.clicks))
    assert f'40 lists of items shown are 200 rows, {clicks} of them clicked' in found.said


def test_lists_beside_clicked_ones_with_prices_and_repeats(tmp_path):
    for d, columns in enumerate(days()):
        time = columns['ts'][::5]
        shown = [columns['item'][a : a + 5] for a in range(0, ROWS, 5)]
        clicked = [
            [item for item, y in zip(s, columns['y'][a : a + 5], strict=True) if y]
            for a, s in zip(range(0, ROWS, 5), shown)
        ]
        price = [[float(item) / 7 for item in s] for s in shown]
        table = pa.table({'ts': time, 'user': columns['user'][::5], 'shown': shown, 'clicked': clicked, 'price': price})
        parquet(tmp_path / 'log', d, pa.concat_tables([table, table.slice(0, 1)]))  # the first list comes twice
    data = data_of(tmp_path / 'log')
    data.label.column, data.fields, data.numeric = '', ('user', 'shown'), {'price': 3, 'list_length': 2}
    data.impressions.update(items='shown', clicked='clicked', parallel=('price',))
    data.duplicates = 'drop'
    found = facts(data, tmp_path / 'w')
    assert found.rows == [ROWS] * DAYS and found.values['price'] == 3
    assert '20 rows dropped that repeat an earlier one in every column' in found.said
    # the label is 1 where the item is among those clicked
    want = []
    for columns in days():
        for a in range(0, ROWS, 5):
            hit = {i for i, y in zip(columns['item'][a : a + 5], columns['y'][a : a + 5], strict=True) if y}
            want += [float(item in hit) for item in columns['item'][a : a + 5]]
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert np.concatenate([stream.load(t).label for t in range(DAYS)]).tolist() == want


def test_the_first_of_several_values_in_the_log_and_in_a_side_table(tmp_path, healthy):
    for d, columns in enumerate(days()):
        csv(tmp_path / 'log', d, {**columns, 'city': [f'{c}|zrh' for c in columns['city']]})
    genres = ['Comedy|War', 'War', 'Drama|Comedy', '', 'War|Drama', 'Comedy']
    csv(tmp_path / 'log', '', {'movie': list(range(500, 506)), 'genres': genres}, 'movies.csv')
    data = data_of(tmp_path / 'log', first_value={'city': '|', 'genres': '|'})
    data.fields = (*data.fields, 'genres')
    data.side_tables = (dict(path='movies.csv', key='movie', on='item'),)
    found = facts(data, tmp_path / 'w')
    assert found.values == {**healthy.values, 'genres': 3} and found.missing['genres'] > 0
    assert found.rows == healthy.rows and found.clicks == healthy.clicks
    assert same(found._replace(values=healthy.values, missing=healthy.missing), healthy)


def test_a_side_table_joined_by_a_key_of_another_name_that_comes_from_a_side_table(tmp_path):
    data = healthy_log(tmp_path / 'log')
    csv(tmp_path / 'log', '', {'id': list(range(500, 506)), 'author': [1, 2, 3, 1, 2, 3]}, 'items.csv')
    csv(tmp_path / 'log', '', {'name': [1, 2], 'country': ['nl', 'de']}, 'authors.csv')
    data.fields = (*data.fields, 'country')
    data.side_tables = (dict(path='items.csv', key='id', on='item'), dict(path='authors.csv', key='name', on='author'))
    found = facts(data, tmp_path / 'w')
    third = sum(item in (502, 505) for columns in days() for item in columns['item'])
    assert found.values['country'] == 2 and found.missing['country'] == third
    assert f"{third} of 200 rows have a 'author' that authors.csv does not: missing there" in found.said
    data.side_tables = (dict(path='items.csv', key='id', on='itme'),)
    refused(data, tmp_path / 'v', "has no key column 'itme'", "did you mean 'item'")
