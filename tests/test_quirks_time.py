"""Quirks of time: units, zones, words, and blocks in order.

What people have reported to be read wrong of real logs, each with what is right.
"""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from quirky import DAYS, ROWS, START, csv, data_of, days, facts, parquet, refused, same, written

from diet_jax.base.errors import UserError
from diet_jax.data.stream import open_stream

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


def test_a_zone_of_a_format_is_used(tmp_path):
    zone, written_as = datetime.timezone(datetime.timedelta(hours=8)), '%d/%m/%Y %H:%M:%S %z'
    data = written(
        tmp_path,
        lambda d, c: c.update(ts=[datetime.datetime.fromtimestamp(t, zone).strftime(written_as) for t in c['ts']]),
    )
    data.time.unit, data.time.format = 'iso', written_as
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert stream.utc_offset_hours == 8.0
    assert int(stream.load(0).time[0]) == days()[0]['ts'][0] * 10**6


def test_a_day_that_no_month_has_is_refused(tmp_path):
    def change(d, columns):
        moments = [datetime.datetime.fromtimestamp(t, datetime.UTC) for t in columns['ts']]
        columns['ts'] = [m.strftime('%d/%m/%Y %H:%M:%S') for m in moments]
        columns['ts'][7] = '31/02/2024 10:00:00' if d == 2 else columns['ts'][7]

    data = written(tmp_path, change)
    data.time.unit, data.time.format = 'iso', '%d/%m/%Y %H:%M:%S'
    refused(data, tmp_path / 'w', "day2.csv: column 'ts' holds '31/02/2024 10:00:00'")


def test_pandas_nat_as_a_whole_number_is_a_row_without_a_time(tmp_path, healthy):
    data = written(
        tmp_path,
        lambda d, c: c.update(ts=[-(2**63) if d == 1 and k == 3 else t * 10**9 for k, t in enumerate(c['ts'])]),
        parquet,
    )
    data.time.unit = 'ns'
    found = facts(data, tmp_path / 'w')
    assert found.rows == [ROWS, ROWS - 1, ROWS, ROWS] and "1 rows dropped whose 'ts' is 0 (1970)" in found.said


def test_seconds_with_a_fraction_are_to_be_a_smaller_unit(tmp_path, healthy):
    data = written(tmp_path / 'a', lambda d, columns: columns.update(ts=[f'{t}.25' for t in columns['ts']]))
    refused(data, tmp_path / 'w', f"holds '{days()[0]['ts'][0]}.25', no whole number of unit 's'", 'a smaller unit')
    data = written(tmp_path / 'b', lambda d, columns: columns.update(ts=[t * 1000 + 250 for t in columns['ts']]))
    data.time.unit = 'ms'
    assert same(facts(data, tmp_path / 'w'), healthy)


def test_a_first_block_of_one_label_is_left_out_with_since(tmp_path, healthy):
    data = written(tmp_path, lambda d, columns: columns.update(y=[0] * ROWS if d == 0 else columns['y']))
    refused(data, tmp_path / 'w', "all with 'y' = 0", 'leave it out with data.since')
    data.since = '2024-03-02'
    assert facts(data, tmp_path / 'w').rows == healthy.rows[1:]


def test_times_of_a_day_and_odd_side_tables_are_one_line(tmp_path):
    data = written(tmp_path, lambda d, c: c.update(ts=pa.array([0] * ROWS, pa.time64('us'))), parquet)
    data.time.unit = 'iso'
    refused(data, tmp_path / 'w', "day0.parquet: column 'ts' does not parse as a time")
    data.side_tables = ({'path': 'a.csv', 'key': 'user', 'csv': 'x'},)
    refused(data, tmp_path / 'w', "data.side_tables[0].csv is 'x': it must be a dict")


def test_a_label_that_is_null_everywhere_is_one_line_with_since_too(tmp_path):
    data = written(tmp_path, lambda d, columns: columns.update(day=[f'd{d}'] * ROWS, y=[''] * ROWS))
    data.block.update(by='column', column='day')
    data.since = 'd1'
    refused(data, tmp_path / 'w', "column 'y' is null in every row")
    assert not (tmp_path / 'w').exists()


def test_a_zone_of_hours_alone_is_one(tmp_path):
    """As PostgreSQL writes it: 2024-03-01 08:03:56+08."""
    zone = datetime.timezone(datetime.timedelta(hours=8))
    moments = [[datetime.datetime.fromtimestamp(t, zone) for t in columns['ts']] for columns in days()]
    data = written(tmp_path, lambda d, c: c.update(ts=[f'{t:%Y-%m-%d %H:%M:%S}+08' for t in moments[d]]))
    data.time.unit = 'iso'
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert stream.utc_offset_hours == 8.0 and int(stream.load(0).time[0]) == days()[0]['ts'][0] * 10**6
