"""From a folder of little synthetic logs to what its files and columns are."""

import csv
import gzip
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from diet_jax.base.errors import UserError
from diet_jax.data import files
from diet_jax.describe import look, sample, survey
from diet_jax.describe.formats import of_text
from diet_jax.describe.measure import auc_alone

START = 1_709_251_200  # 2024-03-01 00:00 UTC
DAY = 86_400
USERS, ITEMS = 40, 90


def rows(days=14, each=80, seed=0) -> dict:
    """A log whose clicks depend on the item; times in seconds, sorted."""
    rng = np.random.default_rng(seed)
    n = days * each
    item = rng.integers(0, ITEMS, n)
    click = (rng.random(n) < np.where(item % 3 == 0, 0.7, 0.2)).astype(int)
    return {
        'user_id': rng.integers(0, USERS, n),
        'item_id': item + 500,
        'tab': rng.integers(0, 4, n),
        'ts': np.sort(START + rng.integers(0, days * DAY, n)),
        'click': click,
    }


def write_csv(path, columns, delimiter=',', header=True):
    os.makedirs(path.parent, exist_ok=True)
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file, delimiter=delimiter)
        if header:
            writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_parquet(path, columns):
    os.makedirs(path.parent, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def by_day(folder, log, write, ending):
    day = (log['ts'] - START) // DAY
    for d in np.unique(day):
        write(folder / f'log-2024-03-{d + 1:02d}.{ending}', {name: values[day == d] for name, values in log.items()})


def taken(found) -> dict:
    return {column.name: guess.taken for column, guess in found.columns}


def test_every_column_of_a_labelled_log_is_taken_for_what_it_is(tmp_path):
    log, rng = rows(), np.random.default_rng(1)
    n = len(log['ts'])
    log['request'] = np.array([f'r{i:06d}' for i in range(n)])
    log['watch_time'] = log['click'] * rng.integers(1, 500, n)
    log['is_like'] = log['click'] * rng.integers(0, 2, n)
    log['hint'] = log['click'] * 7 + 3  # says the label, and has no name that does
    log['price'] = rng.random(n).round(3)
    log['is_test'] = np.zeros(n, int)
    log['session_start'] = log['ts'] - 60
    log['words'] = np.empty(n, object)
    log['words'][:] = [[1, 2]] * n
    by_day(tmp_path, log, write_parquet, 'parquet')
    items = np.arange(ITEMS) + 500
    side = {
        'item_id': items,
        'author': items % 60,
        'tags': [('a|b', 'b', 'c|a')[i % 3] for i in items],
        'title': [f'a title that is {i}' for i in items],
        'click_cnt': items % 50,
        'width': items * 1.5 % 7,
    }
    write_csv(tmp_path / 'items.csv', side)
    found = survey(str(tmp_path))
    assert taken(found) == {
        'user_id': 'field',
        'item_id': 'field',
        'tab': 'field',
        'ts': 'time',
        'click': 'label',
        'request': 'id',
        'watch_time': 'outcome',
        'is_like': 'outcome',
        'hint': 'leak',
        'price': 'numeric',
        'is_test': 'constant',
        'session_start': 'time',
        'words': 'constant',
        'author': 'field',
        'tags': 'field',
        'title': 'unique',
        'click_cnt': 'statistic',
        'width': 'numeric',
    }
    assert found.roles[:4] == ('user_id', 'item_id', 'author', 'tab')
    assert (found.log.patterns, len(found.log.files)) == (('log-*.parquet',), 14)
    assert [(side.group.name, side.key) for side in found.sides] == [('items.csv', 'item_id')]
    assert (found.clock.column, found.clock.unit, found.label.column, found.rows) == ('ts', 's', 'click', n)
    figures = {column.name: column for column, _ in found.columns}
    assert figures['user_id'].values == USERS and figures['author'].values == 60
    assert figures['hint'].auc == 1.0 and figures['item_id'].auc > 0.65 > 0.6 > figures['tab'].auc
    assert {column.name for column, guess in found.columns if not guess.sure} >= {'watch_time', 'hint', 'click_cnt'}
    np.testing.assert_array_equal(found.days.rows, np.bincount((log['ts'] - START) // DAY))


@pytest.mark.parametrize('delimiter', [',', '\t', ';', '|'])
def test_any_delimiter(tmp_path, delimiter):
    by_day(tmp_path, rows(), lambda path, columns: write_csv(path, columns, delimiter), 'csv')
    (tmp_path / 'README.txt').write_text('A log, of clicks.\nTwo lines, or three,\n\nthat are no table.\n')
    found = survey(str(tmp_path))
    assert (found.log.format.delimiter, found.log.format.header, len(found.log.files)) == (delimiter, True, 14)
    assert found.fields('field') == ['user_id', 'item_id', 'tab'] and 'not read: README.txt' in found.notes


def test_files_without_a_header_are_named_by_their_values(tmp_path):
    """MovieLens' files: users and items by the tables that have their keys, a rating, a time; Latin-1; zip codes."""
    log, rng = rows(days=3), np.random.default_rng(2)
    stars = rng.choice([1, 2, 3, 4, 5], len(log['ts']), p=[0.06, 0.11, 0.26, 0.35, 0.22])
    lines = zip(log['user_id'] + 1, log['item_id'] - 499, stars, log['ts'], strict=True)
    with gzip.open(tmp_path / 'ratings.dat.gz', 'wt') as file:
        file.writelines('::'.join(map(str, line)) + '\n' for line in lines)
    users = [f'{u}::{"FM"[u % 2]}::{u % 20:03d}' for u in range(1, USERS + 20)]
    (tmp_path / 'users.dat').write_text('\n'.join(users) + '\n')
    genres = ('Comedy', 'Drama|War', 'War', 'Comedy|Drama')
    movies = [f'{i}::Amélie, "{i}"::{genres[i % 4]}' for i in range(1, ITEMS + 1)]
    (tmp_path / 'movies.dat').write_bytes(('\n'.join(movies) + '\n').encode('latin1'))
    found = survey(str(tmp_path))
    assert found.log.format[2:] == ('::', 'utf8', False) and found.names == ('user', 'item', 'rating', 'timestamp')
    assert (found.label.column, found.label.threshold) == ('rating', 4.0)
    tables = {side.group.name: (side.key, side.names, side.group.format.encoding) for side in found.sides}
    assert tables == {
        'users.dat': ('user', ('user', 'user_c1', 'user_c2'), 'utf8'),
        'movies.dat': ('item', ('item', 'movie_c1', 'movie_c2'), 'latin1'),
    }
    assert found.fields('field') == ['user', 'item', 'movie_c2', 'user_c1', 'user_c2']
    assert found.strings == () and taken(found)['movie_c1'] == 'unique'
    assert found.first_value == {}
    assert any("movies.dat: 'movie_c2' holds several values in a cell, taken as one" in note for note in found.notes)


TICKS = {'s': 1, 'ms': 10**3, 'us': 10**6, 'ns': 10**9}


@pytest.mark.parametrize('unit', TICKS)
def test_the_unit_of_a_time_is_that_of_its_size(tmp_path, unit):
    log = rows()
    log['ts'] = log['ts'] * TICKS[unit]
    write_parquet(tmp_path / 'log.parquet', log)
    found = survey(str(tmp_path))
    assert (found.clock.unit, found.clock.offset) == (unit, 0.0)
    assert found.clock.seconds.min() // DAY == START // DAY


def test_times_with_a_type_or_in_words(tmp_path):
    log = rows()
    zoned = pa.array(log['ts'] * 10**6, pa.timestamp('us', 'Asia/Shanghai'))
    write_parquet(tmp_path / 'zoned' / 'log.parquet', {**log, 'ts': zoned})
    found = survey(str(tmp_path / 'zoned'))
    assert (found.clock.unit, found.clock.offset, found.clock.sure) == ('us', 8.0, True)
    words = [str(np.datetime64(int(t), 's')).replace('T', ' ') for t in log['ts']]
    write_csv(tmp_path / 'words' / 'log.csv', {**log, 'ts': words})
    found = survey(str(tmp_path / 'words'))
    assert (found.clock.unit, found.clock.offset) == ('iso', 0.0)
    np.testing.assert_array_equal(found.clock.seconds, log['ts'])


def test_local_time_is_told_by_a_column_of_dates(tmp_path):
    log = rows()
    local = [str(np.datetime64(int(t) - 5 * 3600, 's'))[:10] for t in log['ts']]
    write_csv(tmp_path / 'log.csv', {**log, 'date': local})
    found = survey(str(tmp_path))
    assert found.clock.offset == -5.0 and taken(found)['date'] == 'time'


@pytest.mark.parametrize(
    ('days', 'each', 'by', 'size'), [(14, 80, 'period', 24), (6, 80, 'period', 12), (3, 80, 'period', 6)]
)
def test_blocks_are_days_or_as_long_as_gives_a_dozen(tmp_path, days, each, by, size):
    write_parquet(tmp_path / 'log.parquet', rows(days, each))
    cut = survey(str(tmp_path)).blocks
    assert (cut.by, cut.hours, cut.count, cut.since, cut.until) == (by, size, days * 24 // size, '', '')


def test_uneven_or_short_days_are_blocks_of_rows_and_strays_are_left_out(tmp_path):
    log = rows(days=40, each=50)
    burst = log['ts'] - START
    log['ts'] = START + np.where(np.arange(len(burst)) % 10, burst % DAY, burst)  # nine of ten rows on the first day
    write_parquet(tmp_path / 'burst' / 'log.parquet', log)
    cut = survey(str(tmp_path / 'burst')).blocks
    assert (cut.by, cut.rows, cut.since) == ('rows', 120, '')  # 2000 rows, 16 blocks
    log = rows(days=14)
    log['ts'][:3] -= 20 * DAY
    log['ts'][-2:] += 9 * DAY
    write_parquet(tmp_path / 'strays' / 'log.parquet', log)
    cut = survey(str(tmp_path / 'strays')).blocks
    assert (cut.by, cut.hours, cut.since, cut.until) == ('period', 24, '2024-03-01', '2024-03-14')


def test_a_log_of_clicks_names_what_goes_with_the_item(tmp_path):
    log = rows()
    del log['click']
    log['category'] = log['item_id'] % 7
    write_parquet(tmp_path / 'log.parquet', log)
    found = survey(str(tmp_path))
    assert (found.label.column, found.item_columns, found.blocks.since) == ('', ('category',), '2024-03-02')
    assert found.roles[:4] == ('user_id', 'item_id', 'category', 'tab')
    share = found.fresh['items'][1:]
    day, seen = (log['ts'] - START) // DAY, set(log['item_id'][log['ts'] < START + DAY])
    second = log['item_id'][day == 1]
    assert share[0] == np.mean([item not in seen for item in second])


def test_actions_are_a_label_where_one_of_them_is_seeing(tmp_path):
    log = rows()
    log['behavior'] = np.where(log.pop('click'), 'buy', 'pv')
    write_csv(tmp_path / 'log.csv', log)
    found = survey(str(tmp_path))
    assert (found.label.column, found.label.positive) == ('behavior', ('buy',))
    np.testing.assert_array_equal(found.label.values, rows()['click'])


def test_a_pattern_takes_no_file_of_another_table(tmp_path):
    by_day(tmp_path, rows(), write_csv, 'csv')
    write_csv(tmp_path / 'log-items.csv', {'item_id': range(500, 590), 'author_id': [i % 9 for i in range(90)]})
    found = survey(str(tmp_path))
    assert found.log.patterns == ('log-[0-9]*.csv',) and [s.group.name for s in found.sides] == ['log-items.csv']


def test_one_table_in_two_formats_is_read_once(tmp_path):
    write_csv(tmp_path / 'log.csv', rows())
    write_parquet(tmp_path / 'log.parquet', rows())
    found = survey(str(tmp_path))
    assert found.log.patterns == ('log.parquet',) and 'not read: log.csv' in found.notes


def test_folders_and_names_of_engines(tmp_path):
    log, uuid = rows(days=14), '5c1b1f5a-0000-4000-8000-00000000000'
    day = (log['ts'] - START) // DAY
    for d in range(14):
        part = {name: values[day == d] for name, values in log.items()}
        write_parquet(tmp_path / f'dt=2024-03-{d + 1:02d}' / f'part-{d:05d}-{uuid}{d % 10}.parquet', part)
    (tmp_path / '_SUCCESS').write_text('')
    found = survey(str(tmp_path))
    assert found.log.patterns == ('dt=*/part-*.parquet',) and len(found.log.files) == 14


def test_a_table_of_users_with_their_dates_is_no_log(tmp_path):
    """It has as many rows as the log and a time, but a row a user; a log may number its rows."""
    log = rows()
    n = len(log['ts'])
    log['user_id'] = np.arange(n) % 1000
    write_csv(tmp_path / 'log.csv', {'id': np.arange(n), **log})
    write_csv(
        tmp_path / 'users.csv', {'user_id': range(1000), 'created_at': START - np.arange(1000), 'x': [1, 2] * 500}
    )
    found = survey(str(tmp_path))
    assert found.log.name == 'log.csv' and [side.group.name for side in found.sides] == ['users.csv']
    assert (taken(found)['created_at'], taken(found)['x'], taken(found)['id']) == ('time', 'field', 'id')


def test_a_large_table_is_sampled_all_over(tmp_path):
    log = rows(days=14, each=3000)
    write_csv(tmp_path / 'text' / 'log.csv', log)
    pq_path = tmp_path / 'columns' / 'log.parquet'
    pq_path.parent.mkdir()
    pq.write_table(pa.table(log), pq_path, row_group_size=1000)
    for folder, limits in (('text', dict(size=100_000)), ('columns', dict(cells=50_000))):
        root = files.open_root(str(tmp_path / folder))
        (group,), _ = look.groups(root)
        part = sample.read(root, group, **limits)
        times = part.columns['ts'].to_numpy()
        assert not part.whole and len(times) < 0.5 * len(log['ts'])
        assert part.rows == pytest.approx(len(log['ts']), rel=0.02)
        assert times[0] == log['ts'][0] and (times[-1] - START) // DAY == 13
        assert set(times) <= set(log['ts'])


def test_a_sample_of_a_sorted_text_cuts_it_as_the_whole_does(tmp_path, monkeypatch):
    """A tenth of it is read: at so many places that no day is missed."""
    write_csv(tmp_path / 'log.csv', rows(days=30, each=2000))
    whole = survey(str(tmp_path))
    limit = (tmp_path / 'log.csv').stat().st_size // 10
    read = sample.read
    monkeypatch.setattr(
        sample, 'read', lambda root, group, cells=0, size=limit: read(root, group, size=min(size, limit))
    )
    part = survey(str(tmp_path))
    assert whole.whole and not part.whole and len(part.clock.seconds) < 0.12 * whole.rows
    assert part.blocks[:5] == whole.blocks[:5] == ('period', 24, 0, '', '') and part.blocks.count == 30
    assert taken(part) == taken(whole) and part.roles[:4] == whole.roles[:4]


def test_the_auc_of_a_column_alone_is_that_of_its_means():
    rng = np.random.default_rng(0)
    column, y = rng.integers(0, 5, 4000), rng.random(4000)
    y = (y < np.array([0.1, 0.5, 0.3, 0.9, 0.2])[column]).astype(np.float32)
    held_out = np.arange(4000) % 3 == 0
    means = np.array([y[~held_out & (column == value)].mean() for value in range(5)])
    expected = roc_auc_score(y[held_out], means[column[held_out]])
    assert auc_alone(pa.array(column), y, held_out) == pytest.approx(expected, abs=1e-6)
    assert auc_alone(pa.array(rng.random(4000)), y, held_out) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ('text', 'delimiter', 'header'),
    [
        ('a,b\n1,2\n3,4\n', ',', True),
        ('1\t2\n3\t4\n', '\t', False),
        ('x|y\nfoo|bar\nbaz|foo\n', '|', True),
        ('foo|bar\nbaz|bar\n', '|', False),
        (',user,item\n0,1,2\n1,3,4\n', ',', True),
        ('1::"A::b\n2::c::d\n3::e::f\n', '::', False),
    ],
)
def test_what_a_text_is(text, delimiter, header):
    found = of_text(text.encode())
    assert (found.delimiter, found.header) == (delimiter, header)


@pytest.mark.parametrize('text', ['', 'one\ntwo\n', '{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n', 'a, b\nc\nd, e, f\n'])
def test_what_is_no_table(text):
    assert of_text(text.encode()) is None


def test_a_log_of_several_columns_sets_names_what_only_some_files_have(tmp_path):
    by_day(tmp_path, rows(), write_parquet, 'parquet')
    last = tmp_path / 'log-2024-03-14.parquet'
    pq.write_table(
        pq.read_table(last).append_column('city', pa.array(['x', 'y'] * 1000)[: pq.read_table(last).num_rows]), last
    )
    found = survey(str(tmp_path))
    assert 'only some of the log files have city: no fields' in found.notes and 'city' not in taken(found)


def test_the_folder_must_be_there(tmp_path):
    with pytest.raises(UserError, match="none' is not a folder: set --root to the folder of the log files"):
        survey(str(tmp_path / 'none'))
