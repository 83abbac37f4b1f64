"""Quirks that a second look found: what was read wrong, or refused with advice that did not work, when tried."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest
from quirky import DAYS, ROWS, START, csv, data_of, days, facts, parquet, refused, same, written

from diet_jax.base.errors import UserError
from diet_jax.commands import doors
from diet_jax.data.stream import open_stream
from diet_jax.describe import survey


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


def test_a_date_is_that_date_at_midnight(tmp_path, healthy):
    def dates(values):
        return pa.array([datetime.date(2000, 1, 1) + datetime.timedelta(days=v) for v in values])

    kinds = (pa.date32(), pa.timestamp('us'), pa.timestamp('ns'), pa.date64())
    data = written(tmp_path, lambda d, c: c.update(user=dates(c['user']).cast(kinds[d])), parquet)
    assert same(facts(data, tmp_path / 'w'), healthy)


def test_a_folder_that_contradicts_its_file_is_refused(tmp_path):
    for d, columns in enumerate(days()):
        stamped = {**columns, 'date': [f'2025-01-0{d + 1}'] * ROWS}
        parquet(tmp_path / 'log', 0, stamped, f'date=2024-03-0{d + 1}/part-{{}}.parquet')
    data = data_of(tmp_path / 'log', log=('date=*/part-*',))
    data.block.update(by='column', column='date')
    refused(data, tmp_path / 'w', "column 'date' holds '2025-01-01', and its folder says '2024-03-01'")


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


def test_pandas_nat_as_a_whole_number_is_a_row_without_a_time(tmp_path, healthy):
    data = written(
        tmp_path,
        lambda d, c: c.update(ts=[-(2**63) if d == 1 and k == 3 else t * 10**9 for k, t in enumerate(c['ts'])]),
        parquet,
    )
    data.time.unit = 'ns'
    found = facts(data, tmp_path / 'w')
    assert found.rows == [ROWS, ROWS - 1, ROWS, ROWS] and "1 rows dropped whose 'ts' is 0 (1970)" in found.said


def test_a_number_cuts_no_blocks_and_is_no_key(tmp_path):
    data = written(tmp_path, lambda d, columns: columns.update(day=[d] * ROWS))
    data.block.update(by='column', column='day')
    data.numeric = {'x': 4, 'day': 3}
    refused(data, tmp_path / 'w', "'day' is in data.numeric and is data.block.column")
    assert not (tmp_path / 'w').exists()


def test_a_refusal_leaves_no_folder_above_the_workdir(tmp_path):
    csv(tmp_path / 'log', 0, {**days()[0], 'x': ['what'] * ROWS})
    refused(data_of(tmp_path / 'log'), tmp_path / 'runs' / 'mine', "holds 'what', no number")
    assert not (tmp_path / 'runs').exists()


def test_positive_floats_and_thresholds_with_decimal_commas(tmp_path, healthy):
    data = written(tmp_path / 'a', lambda d, c: c.update(y=[4.5 if y else 2.0 for y in c['y']]), parquet)
    data.label.positive = (4.5,)
    assert same(facts(data, tmp_path / 'w'), healthy)
    data = written(
        tmp_path / 'b',
        lambda d, c: c.update(y=['4,5' if y else '2,5' for y in c['y']], x=[str(x).replace('.', ',') for x in c['x']]),
        lambda root, d, columns: csv(root, d, columns, delimiter=';'),
    )
    data.csv.update(delimiter=';', decimal_point=',')
    data.label.threshold = 4
    assert same(facts(data, tmp_path / 'v'), healthy)


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


@pytest.mark.parametrize('first', ['ORCID', 'BZh9', 'PAR1', 'ARROW1', 'Obj'])
def test_a_header_may_begin_as_a_format_does(tmp_path, healthy, first):
    data = written(tmp_path, lambda d, columns: {first: [1] * ROWS, **columns})
    assert same(facts(data, tmp_path / 'w'), healthy)


def test_times_of_a_day_and_odd_side_tables_are_one_line(tmp_path):
    data = written(tmp_path, lambda d, c: c.update(ts=pa.array([0] * ROWS, pa.time64('us'))), parquet)
    data.time.unit = 'iso'
    refused(data, tmp_path / 'w', "day0.parquet: column 'ts' does not parse as a time")
    data.side_tables = ({'path': 'a.csv', 'key': 'user', 'csv': 'x'},)
    refused(data, tmp_path / 'w', "data.side_tables[0].csv is 'x': it must be a dict")


def test_a_wrong_separator_is_noticed_in_little_files(tmp_path):
    rng = np.random.default_rng(0)
    for d in range(DAYS):
        lists = ['|'.join(f'N{x}-{int(rng.random() < 0.4)}' for x in range(5)) for _ in range(20)]
        csv(tmp_path / 'log', d, dict(ts=[START + 86400 * d + k for k in range(20)], user=range(20), shown=lists))
    data = data_of(tmp_path / 'log')
    data.label.column, data.numeric, data.fields = '', {}, ('user', 'shown')
    data.impressions.update(items='shown', mark='-')
    refused(data, tmp_path / 'w', "column 'shown' holds", 'data.impressions.separator')
    data.impressions.separator = '|'
    assert facts(data, tmp_path / 'w').rows == [100] * DAYS


def test_describe_takes_all_good_files_where_one_is_none(tmp_path):
    rng = np.random.default_rng(0)
    for d in range(30):
        ts = np.sort(START + 86400 * d + rng.choice(86000, 40, False))
        columns = {'user_id': rng.integers(0, 9, 40), 'item_id': rng.integers(0, 6, 40), 'ts': ts}
        csv(tmp_path / 'log', d, {**columns, 'click': rng.integers(0, 2, 40)}, 'log-{:02d}.csv')
    (tmp_path / 'log' / 'log-20.csv').write_text('user_id,item_id,ts,click\n')
    found = survey(str(tmp_path / 'log'))
    assert found.rows == 29 * 40 and found.log.patterns == ('log-*.csv',)


def test_describe_refuses_a_label_of_one_and_nothing(tmp_path):
    rng = np.random.default_rng(0)
    ts = np.sort(START + rng.choice(86400 * 9, 900, False))
    columns = {'user_id': rng.integers(0, 9, 900), 'item_id': rng.integers(0, 6, 900), 'ts': ts}
    csv(tmp_path / 'log', 0, {**columns, 'click': ['1' if v else '' for v in rng.integers(0, 2, 900)]})
    with pytest.raises(UserError, match="column 'click' is 1 or missing .* write 0 where nothing was clicked"):
        survey(str(tmp_path / 'log'))


def test_describe_gives_a_name_to_columns_whose_own_no_field_can_have(tmp_path):
    rng = np.random.default_rng(0)
    n, ts = 1800, np.sort(START + rng.choice(86400 * 15, 1800, False))
    columns = {'user_id': rng.integers(0, 9, n), 'item/id': rng.integers(100, 130, n), 'stage': rng.integers(0, 4, n)}
    csv(tmp_path / 'log', 0, {**columns, 'ts': ts, 'click': rng.integers(0, 2, n)}, 'log.csv')
    csv(tmp_path / 'log', 0, {'item/id': range(100, 130), 'a__code': [k % 4 for k in range(30)]}, 'items.csv')
    text = doors.describe(str(tmp_path / 'log'))[0]
    names = {'item/id': 'item_id', 'stage': 'stage_field', 'a__code': 'a__code_field'}
    space: dict = {}
    exec(text, space)
    data = space['get_config']().data
    assert dict(data.rename) == names and {*names.values()} <= {*data.fields}
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    field = [field.name for field in stream.fields].index('a__code_field')
    assert set(stream.values(np.unique(stream.load(0).ids[:, field])).to_pylist()) <= {0, 1, 2, 3}


def test_the_config_of_a_folder_with_a_file_that_is_none_is_read(tmp_path):
    rng = np.random.default_rng(0)
    for d in range(30):
        ts = np.sort(START + 86400 * d + rng.choice(86000, 40, False))
        columns = {'user_id': rng.integers(0, 9, 40), 'item_id': rng.integers(0, 6, 40), 'ts': ts}
        csv(tmp_path / 'log', d, {**columns, 'click': rng.integers(0, 2, 40)}, 'log-{:02d}.csv')
    (tmp_path / 'log' / 'log-20.csv').write_text('user_id,item_id,ts,click\n')
    space: dict = {}
    exec(doors.describe(str(tmp_path / 'log'))[0], space)
    stream = open_stream(space['get_config']().data, tmp_path / 'w', lambda line: None)
    assert sum(block.rows for block in stream.blocks) == 29 * 40


@pytest.mark.parametrize('written_as', ['%m/%d/%Y %I:%M:%S %p', '%d.%m.%Y %H:%M:%S', '%Y/%m/%d %H:%M'])
def test_describe_finds_the_format_of_dates_in_words(tmp_path, written_as):
    rng = np.random.default_rng(0)
    ts = np.sort(START + rng.choice(86400 * 20, 1800, False)) // 60 * 60
    when = [datetime.datetime.fromtimestamp(t, datetime.UTC).strftime(written_as) for t in ts.tolist()]
    columns = {'user_id': rng.integers(0, 9, 1800), 'item_id': rng.integers(0, 30, 1800), 'time': when}
    csv(tmp_path / 'log', 0, {**columns, 'click': rng.integers(0, 2, 1800)}, 'log.csv')
    space: dict = {}
    text = doors.describe(str(tmp_path / 'log'))[0]
    exec(text, space)
    data = space['get_config']().data
    assert data.time.format == written_as and 'would fit, too' not in text
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    first = stream.load(0).time[0]
    assert first in ts * 10**6


def test_describe_says_where_a_day_may_be_a_month(tmp_path):
    rng = np.random.default_rng(0)
    ts = np.sort(START + rng.choice(86400 * 11, 900, False))  # no day after the 12th
    when = [datetime.datetime.fromtimestamp(t, datetime.UTC).strftime('%d/%m/%Y %H:%M:%S') for t in ts.tolist()]
    columns = {'user_id': rng.integers(0, 9, 900), 'item_id': rng.integers(0, 30, 900), 'time': when}
    csv(tmp_path / 'log', 0, {**columns, 'click': rng.integers(0, 2, 900)}, 'log.csv')
    text = doors.describe(str(tmp_path / 'log'))[0]
    assert "data.time.format = '%d/%m/%Y %H:%M:%S'  # ? '%m/%d/%Y %H:%M:%S' would fit, too" in text


# A second day, of which files that are as they were are not read again.


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


def test_rows_of_other_ratings_are_no_repeats(tmp_path):
    def change(d, columns):
        twice = {name: [*column, *column] for name, column in columns.items()}
        twice['y'] = [5 if y else 3 for y in columns['y']] + [4 if y else 2 for y in columns['y']]
        return twice

    data = written(tmp_path, change)
    data.duplicates, data.label.threshold = 'drop', 4
    assert facts(data, tmp_path / 'w').rows == [2 * ROWS] * DAYS


def test_clicked_items_that_are_written_otherwise_in_one_file_are_refused(tmp_path):
    for d, columns in enumerate(days()):
        for h, mark in enumerate(('', 'x')):
            shown = [[500, 501, 502] for _ in range(10)]
            clicked = [[f'{mark}501'] for _ in range(10)]
            table = {'ts': columns['ts'][h::5], 'user': columns['user'][h::5], 'shown': shown, 'clicked': clicked}
            parquet(tmp_path / 'log', f'{d}-{h}', table)
    data = data_of(tmp_path / 'log')
    data.label.column, data.numeric, data.fields = '', {}, ('user', 'shown')
    data.impressions.update(items='shown', clicked='clicked')
    refused(data, tmp_path / 'w', "day0-1.parquet: column 'clicked': none of its 10 clicked items")


def test_a_folder_and_a_column_that_agree_are_one(tmp_path):
    for d, columns in enumerate(days()):
        parquet(tmp_path / 'log', d, {**columns, 'h': [d] * ROWS} if d == 1 else columns, f'h=0{d}/day{{}}.parquet')
    parquet(tmp_path / 'log', 9, {n: c[:5] for n, c in days()[1].items()}, 'h=01/day{}.parquet')
    data = data_of(tmp_path / 'log', log=('h=*/day*',))
    data.fields = ('user', 'item', 'h')
    assert facts(data, tmp_path / 'w').values['h'] == DAYS


def test_narrow_dictionaries_and_small_decimals_are_read(tmp_path, healthy):
    def table(d, columns):
        user = (
            pa.array([f'u{u}' for u in columns['user']]).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string()))
        )
        return pa.table({**columns, 'user': user})

    parquet(
        tmp_path / 'a',
        0,
        pa.concat_tables([table(d, columns) for d, columns in enumerate(days())]),
        row_group_size=ROWS,
    )
    assert same(facts(data_of(tmp_path / 'a'), tmp_path / 'w'), healthy)
    if hasattr(pa, 'decimal32'):
        data = written(
            tmp_path / 'b',
            lambda d, c: c.update(user=pa.array([decimal.Decimal(u) for u in c['user']], pa.decimal32(5, 0))),
            parquet,
        )
        assert same(facts(data, tmp_path / 'v'), healthy)


def test_a_header_without_an_end_of_line_is_a_file_without_rows(tmp_path, healthy):
    data = written(tmp_path, lambda d, columns: columns)
    (tmp_path / 'log' / 'day9.csv').write_text(','.join(days()[0]))
    assert same(facts(data, tmp_path / 'w'), healthy)


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


def test_a_label_that_is_null_everywhere_is_one_line_with_since_too(tmp_path):
    data = written(tmp_path, lambda d, columns: columns.update(day=[f'd{d}'] * ROWS, y=[''] * ROWS))
    data.block.update(by='column', column='day')
    data.since = 'd1'
    refused(data, tmp_path / 'w', "column 'y' is null in every row")
    assert not (tmp_path / 'w').exists()
