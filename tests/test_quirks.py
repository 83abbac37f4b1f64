"""Quirks of real logs: what people have reported to be read wrong, each with what is right.

Every log is the same little one, written another way: four days, 50 rows each. What `facts` says of it must not depend
on how it is written.
"""

import datetime
import gzip
import json
import os
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diet_jax.base.errors import UserError
from diet_jax.config.data import check_data, default_data
from diet_jax.data.stream import open_stream
from diet_jax.stats import metrics
from diet_jax.stats.resampling import auc_user_bootstrap

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


@pytest.fixture(scope='module')
def healthy(tmp_path_factory) -> Facts:
    root = tmp_path_factory.mktemp('healthy')
    for d, columns in enumerate(days()):
        csv(root / 'log', d, columns)
    found = facts(data_of(root / 'log'), root / 'w')
    assert found.rows == [ROWS] * DAYS and found.values == {'user': USERS, 'item': ITEMS, 'city': 3, 'x': 4}
    assert 'read as whole numbers: item, user' in found.said and 'read as text: city' in found.said
    return found


def written(tmp_path, change, how=csv):
    """A log whose days are changed by change(day, columns) before they are written."""
    for d, columns in enumerate(days()):
        columns = change(d, columns) or columns
        how(tmp_path / 'log', d, columns)
    return data_of(tmp_path / 'log')


# Categories: one kind a column, over all files.


@pytest.mark.parametrize('how', [csv, parquet])
@pytest.mark.parametrize('point_zero', [(1, 3), (0,), (0, 1, 2, 3)])
def test_whole_numbers_with_a_point_are_the_same_users(tmp_path, healthy, how, point_zero):
    def change(d, columns):
        if d in point_zero:
            columns['user'] = [f'{u}.0' for u in columns['user']]
        elif how is parquet and d % 2:
            columns['user'] = [float(u) for u in columns['user']]

    assert same(facts(written(tmp_path, change, how), tmp_path / 'w'), healthy)


def test_a_word_in_a_later_file_makes_no_new_users(tmp_path, healthy):
    def change(d, columns):
        columns['user'] = [f'{u}.0' if d == 1 else u for u in columns['user']]
        if d == 3:
            columns['user'][0] = 'guest'

    found = facts(written(tmp_path, change), tmp_path / 'w')
    assert found.values == {**healthy.values, 'user': USERS + 1} and 'read as text: city, user' in found.said


def test_leading_zeros_exponents_and_long_numbers_are_text(tmp_path):
    words = ['501', '0501', '00501', '12e4', '120000', '1' * 19, '1' * 20]

    def change(d, columns):
        columns['item'] = [words[k % 7] for k in range(ROWS)]

    data = written(tmp_path, change)
    assert facts(data, tmp_path / 'w').values['item'] == 7
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    values = stream.vocabulary.values(1, np.unique(stream.load(0).ids[:, 1])).to_pylist()
    assert sorted(values) == sorted(words), 'as the log has them'


def test_numbers_of_19_digits_are_whole_numbers_where_they_fit(tmp_path):
    ids = [1726821708034062800, 1726821708034062801, 9223372036854775807]

    def change(d, columns):
        columns['user'] = [ids[k % 3] for k in range(ROWS)]

    found = facts(written(tmp_path, change), tmp_path / 'w')
    assert found.values['user'] == 3 and 'whole numbers: item, user' in found.said


def test_floats_that_have_lost_digits_are_refused(tmp_path):
    def change(d, columns):
        columns['user'] = [1.7268217080340628e18 + 4096 * u for u in columns['user']]

    data = written(tmp_path, change, parquet)
    refused(data, tmp_path / 'w', 'day0.parquet', "column 'user'", 'its last digits are lost', 'data.fields')
    data.fields, data.group = ('item', 'city'), 'item'
    assert facts(data, tmp_path / 'w').rows == [ROWS] * DAYS, 'the way out works'


@pytest.mark.parametrize('how', [csv, parquet])
@pytest.mark.parametrize('word', ['NULL', '\\N', 'nan', 'None', '<NA>', ''])
def test_null_words_mean_missing_everywhere(tmp_path, how, word):
    def change(d, columns):
        columns['user'] = [word if k % 5 == 0 else str(u) for k, u in enumerate(columns['user'])]
        columns['city'] = [word if k % 2 else c for k, c in enumerate(columns['city'])]
        columns['x'] = [word if k % 10 == 0 else str(x) for k, x in enumerate(columns['x'])]
        columns['y'] = [word if k == 3 else str(y) for k, y in enumerate(columns['y'])]

    found = facts(written(tmp_path, change, how), tmp_path / 'w')
    assert found.rows == [ROWS - 1] * DAYS and "4 rows dropped whose 'y' is null" in found.said
    assert found.missing['user'] == DAYS * 10 and found.missing['city'] == DAYS * 24 and found.missing['x'] == DAYS * 5
    assert found.values['user'] == USERS and found.values['city'] == 3


def test_null_words_can_be_said(tmp_path):
    def change(d, columns):
        columns['city'] = ['-' if k % 2 else c for k, c in enumerate(columns['city'])]
        columns['x'] = ['-' if k % 10 == 0 else x for k, x in enumerate(columns['x'])]

    data = written(tmp_path, change)
    refused(data, tmp_path / 'w', "day0.csv: column 'x' holds '-', no number", 'data.null_words')
    data.null_words = ('-',)
    assert facts(data, tmp_path / 'w').missing == {'user': 0, 'item': 0, 'city': DAYS * 25, 'x': DAYS * 5}


@pytest.mark.parametrize('spelling', [('True', 'False'), ('true', 'false'), ('TRUE', 'FALSE'), ('1', '0')])
def test_booleans_are_one_thing_however_they_are_written(tmp_path, spelling):
    def change(d, columns):
        words = spelling if d == 1 else ('true', 'false')
        columns['city'] = [words[u % 2] for u in columns['user']]

    found = facts(written(tmp_path, change), tmp_path / 'w')
    assert found.values['city'] == 2 and 'read as true and false: city' in found.said
    stream = open_stream(data_of(tmp_path / 'log'), tmp_path / 'w', lambda line: None)
    assert set(stream.vocabulary.values(2, np.unique(stream.load(0).ids[:, 2])).to_pylist()) == {True, False}


def test_a_parquet_boolean_is_the_word_of_a_csv(tmp_path):
    for d, columns in enumerate(days()):
        columns['city'] = [bool(u % 2) for u in columns['user']]
        (parquet if d % 2 else csv)(tmp_path / 'log', d, columns)  # csv writes True and False
    assert facts(data_of(tmp_path / 'log'), tmp_path / 'w').values['city'] == 2


def test_a_boolean_that_gets_a_word_on_a_later_day_is_text_and_keeps_its_slots(tmp_path):
    for d, columns in enumerate(days()):
        columns['city'] = [('false', 'true')[u % 2] for u in columns['user']]
        csv(tmp_path / 'log', d, columns)
    before = open_stream(data_of(tmp_path / 'log'), tmp_path / 'w', lambda line: None)
    kept = before.load(0).ids
    late = {**days()[0], 'ts': [t + DAYS * 86400 for t in days()[0]['ts']], 'city': ['true', 'unknown'] * (ROWS // 2)}
    csv(tmp_path / 'log', DAYS, late)
    after = open_stream(data_of(tmp_path / 'log'), tmp_path / 'w', lambda line: None)
    np.testing.assert_array_equal(after.load(0).ids, kept)
    values = after.vocabulary.values(2, after.load(DAYS).ids[:2, 2]).to_pylist()
    assert (
        values == ['true', 'unknown']
        and after.load(DAYS).ids[0, 2] == kept[:, 2][np.array(days()[0]['user']) % 2 == 1][0]
    )


def test_ones_and_words_that_are_true_beside_others_are_refused(tmp_path):
    def change(d, columns):
        columns['city'] = [['true', 'false'], ['1', '0'], ['true', 'maybe'], ['true', 'false']][d] * (ROWS // 2)

    data = written(tmp_path, change)
    refused(data, tmp_path / 'w', "column 'city'", "'maybe'", 'data.csv.strings')
    data.csv.strings = ('city',)
    assert facts(data, tmp_path / 'w').values['city'] == 5, 'as written'


def test_side_tables_are_read_as_the_log_is(tmp_path, healthy):
    """Keys with a point in the log, as text in the table; a null word; a word that makes the column text in both."""
    for d, columns in enumerate(days()):
        del columns['city']
        columns['user'] = [f'{u}.0' for u in columns['user']]
        csv(tmp_path / 'log', d, columns)
    table = {'user': [*(str(u) for u in range(100, 108)), 'guest'], 'city': ['007', '7', 'NULL', *['ams'] * 6]}
    csv(tmp_path / 'log', 0, table, 'users.csv')
    data = data_of(tmp_path / 'log', side_tables=({'path': 'users.csv', 'key': 'user'},))
    found = facts(data, tmp_path / 'w')
    users = np.concatenate([np.array(day['user']) for day in days()])
    assert found.values['city'] == 3 and found.missing['city'] == np.isin(users, [102, 108]).sum()
    assert f"{(users == 108).sum()} of {DAYS * ROWS} rows have a 'user' that users.csv does not" in found.said


def test_a_side_table_with_none_of_the_keys_is_refused(tmp_path):
    for d, columns in enumerate(days()):
        del columns['city']
        csv(tmp_path / 'log', d, columns)
    csv(tmp_path / 'log', 0, {'user': ['u100', 'u101'], 'city': ['a', 'b']}, 'users.csv')
    data = data_of(tmp_path / 'log', side_tables=({'path': 'users.csv', 'key': 'user'},))
    refused(data, tmp_path / 'w', "users.csv has none of the log's values of 'user'", "'u100'", "'100'")


def test_rows_without_a_user_are_in_no_group(tmp_path):
    """GAUC is that of the known users alone, and each row without one is a test user of its own."""

    def change(d, columns):
        columns['user'] = ['' if k % 5 < 3 else u for k, u in enumerate(columns['user'])]

    stream = open_stream(written(tmp_path, change), tmp_path / 'w', lambda line: None)
    block, z = stream.load(2), np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
    known = block.ids[:, 0] != 0
    assert (block.group[~known] == -1).all() and (~known).sum() == 30
    np.testing.assert_array_equal(stream.outcomes(2)[1], block.group)
    assert metrics.gauc(z, block.label, block.group) == metrics.gauc(z[known], block.label[known], block.ids[known, 0])
    assert np.isnan(metrics.gauc(z, block.label, np.full(ROWS, -1)))
    draws = auc_user_bootstrap(z[None], block.label, block.group, resamples=400)
    alone = auc_user_bootstrap(
        z[None], block.label, np.where(known, block.group, 1000 + np.arange(ROWS)), resamples=400
    )
    np.testing.assert_array_equal(draws, alone)


# Labels.


@pytest.mark.parametrize('positive', [('true',), (True,), (1,), ('TRUE',)])
@pytest.mark.parametrize('words', [('true', 'false'), ('True', 'False'), ('1', '0')])
def test_labels_in_words_are_positive_in_every_file(tmp_path, healthy, positive, words):
    def change(d, columns):
        columns['y'] = [words[1 - y] for y in columns['y']]
        if d in (1, 3):
            columns['y'][columns['y'].index(words[1])] = 'unknown'

    data = written(tmp_path, change)
    data.label.positive = positive
    assert facts(data, tmp_path / 'w').clicks == healthy.clicks


def test_a_label_of_booleans_in_parquet_is_the_same(tmp_path, healthy):
    def change(d, columns):
        columns['y'] = [bool(y) for y in columns['y']]

    data = written(tmp_path, change, parquet)
    assert facts(data, tmp_path / 'w').clicks == healthy.clicks
    data.label.positive = ('true',)
    assert facts(data, tmp_path / 'v').clicks == healthy.clicks


def test_a_positive_word_that_no_row_has_is_refused(tmp_path):
    data = written(tmp_path, lambda d, columns: columns.update(y=['yes' if y else 'no' for y in columns['y']]))
    data.label.positive = ('Yes',)
    refused(data, tmp_path / 'w', "data.label.positive holds 'Yes', which no row of 'y' has; there are: no, yes")
    data.label.positive = ('yes',)
    assert facts(data, tmp_path / 'w').rows == [ROWS] * DAYS


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
        return {**columns, 'seen': seen, 'meta': pa.array([{'a': k} for k in range(ROWS)])}

    data = written(tmp_path, change, parquet)
    data.duplicates = 'drop'
    assert same(facts(data, tmp_path / 'w'), healthy)
    data.fields = ('user', 'item', 'city', 'seen')
    refused(data, tmp_path / 'v', "column 'seen' is of type list<element: int32>", 'take it out of data.fields')


# Time.


@pytest.mark.parametrize('kind', ['text', 'text with a point', 'float'])
def test_seconds_as_text_are_times(tmp_path, healthy, kind):
    write = {'text': str, 'text with a point': lambda t: f'{t}.0', 'float': float}[kind]
    data = written(tmp_path, lambda d, columns: columns.update(ts=[write(t) for t in columns['ts']]), parquet)
    assert same(facts(data, tmp_path / 'w'), healthy)


def test_zones_int96_and_local_times_end_in_one_clock(tmp_path, healthy):
    """Local midnight in Shanghai cuts the days, whichever way a file says its times."""
    for d, columns in enumerate(days()):
        utc = np.array(columns['ts']) * 10**9 - 8 * 3600 * 10**9
        zoned, naive = pa.array(utc, pa.timestamp('ns', 'Asia/Shanghai')), pa.array(utc, pa.timestamp('ns'))
        local = pa.array(utc + 8 * 3600 * 10**9, pa.timestamp('ns'))
        table = pa.table({**columns, 'ts': (zoned, naive, local, zoned)[d]})
        parquet(tmp_path / 'log', d, table, use_deprecated_int96_timestamps=d == 1, store_schema=d != 1)
    data = data_of(tmp_path / 'log')
    data.time.unit, data.time.utc_offset_hours = 'ms', 8.0
    found = facts(data, tmp_path / 'w')
    assert same(found, healthy) and "'ts' has zone Asia/Shanghai, UTC in some files and none in others" in found.said


@pytest.mark.parametrize('written_as', ['%d/%m/%Y %H:%M:%S', '%m-%d-%y %H.%M.%S'])
def test_dates_in_words_by_a_format(tmp_path, healthy, written_as):
    def change(d, columns):
        moment = [datetime.datetime.fromtimestamp(t, datetime.UTC) for t in columns['ts']]
        columns['ts'] = [m.strftime(written_as) for m in moment]

    data = written(tmp_path, change)
    data.time.unit = 'iso'
    refused(data, tmp_path / 'w', "day0.csv: column 'ts' does not parse as a time", 'data.time.format')
    data.time.format = written_as
    assert same(facts(data, tmp_path / 'w'), healthy)
    data.time.format = '%Y/%m/%d'
    refused(data, tmp_path / 'v', "day0.csv: column 'ts' holds", "not written as data.time.format '%Y/%m/%d'")


@pytest.mark.parametrize('spell', ['%m/%d/%Y', '%d.%m.%y', 'day-%j', '%Y%m%d', '%G-W%V-%u', '%a %d'])
def test_blocks_of_a_column_stand_in_order_of_time_however_they_are_spelled(tmp_path, spell):
    """Over a year's end: 12/28/2023 .. 01/02/2024."""

    def logged(d):
        columns, new_year = days()[d % DAYS], datetime.datetime(2023, 12, 28, tzinfo=datetime.UTC)
        day = new_year + datetime.timedelta(days=d)
        columns['ts'] = [t - START - 86400 * (d % DAYS) + int(day.timestamp()) for t in columns['ts']]
        columns['dt'] = [day.strftime(spell)] * ROWS
        csv(tmp_path / 'log', d, columns)
        return columns['dt'][0], np.mean(columns['y'])

    keys, clicks = zip(*(logged(d) for d in range(5)))
    data = data_of(tmp_path / 'log')
    data.block.by, data.block.column = 'column', 'dt'
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert [block.key for block in stream.blocks] == list(keys)
    np.testing.assert_allclose([stream.load(t).label.mean() for t in range(5)], clicks, rtol=1e-6)
    sixth, _ = logged(5)  # the second day
    assert [block.key for block in open_stream(data, tmp_path / 'w', lambda line: None).blocks][-1] == sixth
    for name, wanted, left in (
        ('until', keys[2], keys[:3]),
        ('until', '2023-12-31', keys[:4]),
        ('since', keys[3], [*keys[3:], sixth]),
        ('since', '2024-01-01', [*keys[4:], sixth]),
    ):
        some = data_of(tmp_path / 'log')
        some.block.by, some.block.column = 'column', 'dt'
        some[name] = wanted
        found = [block.key for block in open_stream(some, tmp_path / name, lambda line: None).blocks]
        assert found == list(left), (name, wanted)
        again = [block.key for block in open_stream(some, tmp_path / 'w', lambda line: None).blocks]
        assert again == list(left), 'of a cache that holds all'
        some[name] = 'Sunday'
        refused(some, tmp_path / 'x', f"data.{name} 'Sunday' is the key of no block ({keys[0]} .. {sixth})")


def test_blocks_that_do_not_follow_each_other_in_time_are_refused_or_said(tmp_path):
    data = written(tmp_path, lambda d, columns: columns.update(part=[f'part{k % 2}' for k in range(ROWS)]))
    data.block.by, data.block.column = 'column', 'part'
    refused(data, tmp_path / 'w', "column 'part'", 'rows of block part', "data.block.by='period'")

    def late(d, columns):
        columns['ts'][:2] = [t - 86400 for t in columns['ts'][:2]] if d else columns['ts'][:2]
        columns['part'] = [f'day{d}'] * ROWS

    data = written(tmp_path, late)
    data.block.by, data.block.column = 'column', 'part'
    assert '2 rows of block day1 are older than half of block day0' in facts(data, tmp_path / 'v').said


def test_a_late_row_does_not_put_a_block_on_the_day_before(tmp_path):
    """until='2024-03-02' by time is the second day, though a row of the third is as old."""

    def change(d, columns):
        columns['ts'][0] -= 86400 * (d == 2)
        columns['part'] = [f'part {9 - d}'] * ROWS

    data = written(tmp_path, change)
    data.block.by, data.block.column, data.until = 'column', 'part', '2024-03-02'
    assert [b.key for b in open_stream(data, tmp_path / 'w', lambda line: None).blocks] == ['part 9', 'part 8']


def test_since_names_a_block_whose_file_has_gone(tmp_path):
    data = written(tmp_path, lambda d, columns: columns.update(part=[f'p{9 - d}'] * ROWS))
    data.block.by, data.block.column, data.since = 'column', 'part', 'p8'
    assert [b.key for b in open_stream(data, tmp_path / 'w', lambda line: None).blocks] == ['p8', 'p7', 'p6']
    for d in (0, 1):
        (tmp_path / 'log' / f'day{d}.csv').unlink()
    assert len(open_stream(data, tmp_path / 'w', lambda line: None).blocks) == 3


def test_what_is_left_of_a_block_whose_older_file_has_gone_is_compared(tmp_path):
    whole, half = days(), ROWS // 2
    for d, columns in enumerate(whole):
        for part, rows in (('a', slice(0, half)), ('b', slice(half, ROWS))):
            csv(tmp_path / 'log', d, {name: column[rows] for name, column in columns.items()}, f'day{{}}{part}.csv')
    data = data_of(tmp_path / 'log')
    open_stream(data, tmp_path / 'w', lambda line: None)
    (tmp_path / 'log' / 'day0a.csv').unlink()
    assert len(open_stream(data, tmp_path / 'w', lambda line: None).blocks) == DAYS
    changed = {name: column[half:] for name, column in whole[0].items()}
    changed['y'] = [1 - changed['y'][0], *changed['y'][1:]]
    csv(tmp_path / 'log', 0, changed, 'day{}b.csv')
    with pytest.raises(
        UserError, match='of block 2024-03-01, of 50 rows when prepared, 25 are left, and 1 of these are'
    ):
        open_stream(data, tmp_path / 'w', lambda line: None)


def test_blocks_of_one_time_stand_by_the_numbers_in_their_keys(tmp_path):
    data = written(tmp_path, lambda d, columns: columns.update(ts=[START] * ROWS, part=[f'day-{d + 8}'] * ROWS))
    data.block.by, data.block.column = 'column', 'part'
    keys = [b.key for b in open_stream(data, tmp_path / 'w', lambda line: None).blocks]
    assert keys == ['day-8', 'day-9', 'day-10', 'day-11']


def test_an_older_block_on_the_second_day_is_refused(tmp_path):
    data = written(tmp_path, lambda d, columns: columns.update(part=[f'p{9 - d}'] * ROWS))
    data.block.by, data.block.column = 'column', 'part'
    assert [b.key for b in open_stream(data, tmp_path / 'w', lambda line: None).blocks] == ['p9', 'p8', 'p7', 'p6']
    old = {**days()[0], 'ts': [t - 86400 for t in days()[0]['ts']], 'part': ['p99'] * ROWS}
    csv(tmp_path / 'log', 9, old)
    with pytest.raises(UserError, match='the log goes back in time: it now has rows of p99'):
        open_stream(data, tmp_path / 'w', lambda line: None)


def test_units_that_differ_between_files_are_noticed_at_both_ends(tmp_path):
    data = written(tmp_path, lambda d, columns: columns.update(ts=[t * (1000 if d >= 2 else 1) for t in columns['ts']]))
    data.time.unit = 'ms'
    refused(data, tmp_path / 'w', 'day0.csv', "column 'ts' holds 17092", "1970-01-20 in unit 'ms'", 'in day2.csv')
    data.time.unit = 's'
    refused(data, tmp_path / 'w', 'day2.csv', "column 'ts' holds 17095", "after the year 2200 in unit 's'")


def test_a_few_rows_of_time_0_are_named_and_make_no_block(tmp_path, healthy):
    def change(d, columns):
        if d == 1:
            for name, column in columns.items():
                column.append(0 if name == 'ts' else column[0])

    found = facts(written(tmp_path, change), tmp_path / 'w')
    assert same(found, healthy) and "1 rows dropped whose 'ts' is 0 (1970)" in found.said
    many = written(tmp_path, lambda d, columns: columns['ts'].__setitem__(slice(0, 5), [0] * 5))
    refused(many, tmp_path / 'v', "day0.csv: column 'ts' is 0 (1970) in 20 of 200 rows")


def test_times_that_count_from_some_start_are_fine(tmp_path, healthy):
    data = written(tmp_path, lambda d, columns: columns.update(ts=[t - START for t in columns['ts']]))
    found = facts(data, tmp_path / 'w')
    assert same(found, healthy) and 'every time lies before 1980' in found.said


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
        (b'ORC', 'an ORC file'),
        (b'\x80\x04\x95', 'a pickle'),
    ):
        path.write_bytes(first + text)
        refused(data_of(tmp_path / 'log'), tmp_path / 'w', f'day0.csv is {said}')
    parquet(tmp_path / 'other', 0, days()[0])
    path.write_bytes(gzip.compress((tmp_path / 'other' / 'day0.parquet').read_bytes()))
    refused(data_of(tmp_path / 'log'), tmp_path / 'w', 'day0.csv is a Parquet file inside gzip')


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
