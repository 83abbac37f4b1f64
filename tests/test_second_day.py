"""A second day: what is prepared stays, what is not changed is not read again, and all comes out as at once."""

import numpy as np
import pytest
from quirky import ROWS, bytes_of, csv, data_of, days, facts, healthy_log, parquet, refused, same

from diet_jax.base.errors import UserError
from diet_jax.data import tables
from diet_jax.data.stream import open_stream


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


def test_words_behind_whole_numbers_are_words_on_a_second_day_too(tmp_path):
    for d in (0, 1):
        csv(tmp_path / 'log', d, days()[d])
    data = data_of(tmp_path / 'log')
    open_stream(data, tmp_path / 'w', lambda line: None)
    third = days()[2]
    third['user'] = ['true' if user == 100 else 'false' for user in third['user']]
    csv(tmp_path / 'log', 2, third)
    for workdir in ('w', 'v'):
        stream = open_stream(data, tmp_path / workdir, lambda line: None)
        assert set(stream.values(np.unique(stream.load(2).ids[:, 0])).to_pylist()) == {'true', 'false'}


def test_a_later_day_may_lack_keys_and_words_that_the_first_days_had(tmp_path):
    for d in range(2):
        csv(tmp_path / 'log', d, {**days()[d], 'y': ['buy' if y else 'see' for y in days()[d]['y']]})
    csv(tmp_path / 'log', '', {'user': list(range(100, 109)), 'name': list('abcdefghi')}, 'users.csv')
    data = data_of(tmp_path / 'log')
    data.fields, data.numeric, data.group = ('name', 'user'), {'x': 4}, 'user'
    data.label.positive, data.side_tables = ('buy', 'fav'), ({'path': 'users.csv', 'key': 'user'},)
    refused(data, tmp_path / 'w', "data.label.positive holds 'fav'")
    data.label.positive = ('buy',)
    open_stream(data, tmp_path / 'w', lambda line: None)
    third = days()[2]
    third['user'] = [user + 900 for user in third['user']]
    csv(tmp_path / 'log', 2, {**third, 'y': ['buy' if y else 'see' for y in third['y']]})
    said = []
    open_stream(data, tmp_path / 'w', said.append)
    assert any(f"{ROWS} of {ROWS} rows have a 'user' that users.csv does not" in line for line in said)


def test_a_field_comes_from_where_it_came_from_before(tmp_path):
    def logged(root, of):
        csv(root, '', {'item': range(500, 506), 'city': list('uvwxyz')}, 'items.csv')
        for d in of:
            csv(root, d, days()[d] if d < 3 else {n: c for n, c in days()[d].items() if n != 'city'})
        return data_of(root, side_tables=({'path': 'items.csv', 'key': 'item'},))

    open_stream(logged(tmp_path / 'a', range(3)), tmp_path / 'w', lambda line: None)
    found = facts(logged(tmp_path / 'a', [3]), tmp_path / 'w')
    once = facts(logged(tmp_path / 'a', [3]), tmp_path / 'v')
    assert same(found, once) and (found.values['city'], found.missing['city']) == (3, ROWS)

    def other(root, of):
        csv(root, '', {'item': range(500, 506), 'city': list('uvwxyz')}, 'items.csv')
        for d in of:
            csv(root, d, days()[d] if d == 3 else {n: c for n, c in days()[d].items() if n != 'city'})
        return data_of(root, side_tables=({'path': 'items.csv', 'key': 'item'},))

    open_stream(other(tmp_path / 'b', range(3)), tmp_path / 'u', lambda line: None)
    found = facts(other(tmp_path / 'b', [3]), tmp_path / 'u')
    assert (found.values['city'], found.missing['city']) == (6, 0)
    assert "column 'city' of the log is not read: it comes from a side table, as it did before" in found.said


@pytest.mark.parametrize('name', ['city', 'x'])
def test_a_column_that_goes_away_is_missing(tmp_path, name):
    for d in range(3):
        csv(tmp_path / 'log', d, days()[d])
    data = data_of(tmp_path / 'log')
    open_stream(data, tmp_path / 'w', lambda line: None)
    csv(tmp_path / 'log', 3, {n: c for n, c in days()[3].items() if n != name})
    found = facts(data, tmp_path / 'w')
    assert same(found, facts(data, tmp_path / 'v')) and found.missing[name] == ROWS


def test_files_are_compacted_one_after_the_other(tmp_path):
    for d, columns in enumerate(days()):
        for h in range(3):
            csv(tmp_path / 'log', f'{d}-{h}', {n: c[h::3] for n, c in columns.items()})
    data = data_of(tmp_path / 'log')
    open_stream(data, tmp_path / 'w', lambda line: None)
    for h in range(3):
        (tmp_path / 'log' / f'day2-{h}.csv').unlink()
        parquet(tmp_path / 'log', f'2-{h}', {n: c[h::3] for n, c in days()[2].items()})
        open_stream(data, tmp_path / 'w', lambda line: None)
    csv(tmp_path / 'log', 9, {n: c[:5] for n, c in days()[2].items()})
    with pytest.raises(UserError, match='block 2024-03-03 had 50 rows when prepared, now 55'):
        open_stream(data, tmp_path / 'w', lambda line: None)


def test_a_later_file_without_rows_or_labels_is_no_fault(tmp_path):
    for d in range(3):
        csv(tmp_path / 'log', d, days()[d])
    data = data_of(tmp_path / 'log')
    open_stream(data, tmp_path / 'w', lambda line: None)
    (tmp_path / 'log' / 'day8.csv').write_text(','.join(days()[0]) + '\n')
    open_stream(data, tmp_path / 'w', lambda line: None)
    csv(tmp_path / 'log', 3, {**days()[3], 'y': [''] * ROWS})
    said = []
    assert len(open_stream(data, tmp_path / 'w', said.append).blocks) == 3
    assert any(f"{ROWS} rows dropped whose 'y' is null" in line for line in said)
