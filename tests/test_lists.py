"""Fields that are lists: whatever way a log writes them, the rows hold the values that it means, in its order."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from quirky import DAYS, ROWS, bytes_of, csv, data_of, days, parquet, refused

from diet_jax.base.errors import UserError
from diet_jax.base.layout import PAD
from diet_jax.data.stream import open_stream

GENRES = ['Comedy', 'War', 'Drama', 'Film Noir', 'Musical']


def lists_of_days(seed=0, most=4, ids=range(500, 512)) -> list[dict]:
    """Per day {'genres': [...], 'seen': [...]}: lists of words and of items, some of them empty."""
    rng = np.random.default_rng(seed)
    return [
        {
            name: [[of[i] for i in rng.integers(0, len(of), rng.integers(0, most + 1))] for _ in range(ROWS)]
            for name, of in (('genres', GENRES), ('seen', ids))
        }
        for _ in range(DAYS)
    ]


def logged(root, lists, how='parquet', of=range(DAYS)):
    """A log with lists, and the config that reads it."""
    for d in of:
        columns = dict(days()[d])
        if how == 'parquet':
            columns |= {'genres': pa.array(lists[d]['genres'], pa.large_list(pa.string()))}
            parquet(root, d, columns | {'seen': pa.array(lists[d]['seen'], pa.list_(pa.int32()))})
        elif how == 'separated':
            csv(root, d, columns | {name: ['|'.join(map(str, x)) for x in lists[d][name]] for name in lists[d]})
        else:  # as pandas prints it
            printed = {name: [f'"{x}"' for x in lists[d][name]] for name in lists[d]}
            csv(root, d, columns | printed)
    data = data_of(root)
    separator = '|' if how == 'separated' else ''
    data.lists = {'genres': dict(separator=separator), 'seen': dict(separator=separator, shares='item')}
    return data


def read(stream, name) -> list[list]:
    """Per row of all blocks the values of a list."""
    f = stream.layout.names.index(name)
    found = []
    for t in range(len(stream.blocks)):
        part = stream.load(t).ids[:, stream.layout.at(f)]
        for row in part.tolist():
            kept = [slot for slot in row if slot != PAD]
            assert row == [PAD] * (len(row) - len(kept)) + kept
            found.append(stream.values(np.array(kept)).to_pylist() if kept else [])
    return found


def flat(lists, name):
    return [row for day in lists for row in day[name]]


@pytest.mark.parametrize('how', ['parquet', 'separated', 'printed'])
def test_lists_are_what_they_mean_however_they_are_written(tmp_path, how):
    lists = lists_of_days()
    stream = open_stream(logged(tmp_path / 'log', lists, how), tmp_path / 'w', lambda line: None)
    assert stream.layout.names == ('user', 'item', 'city', 'x', 'genres', 'seen')
    assert stream.layout.widths == (1, 1, 1, 1, 20, 20) and stream.layout.owners == (0, 1, 2, 3, 4, 1)
    assert stream.layout.sequences[4:] == ('genres', 'seen')
    assert read(stream, 'genres') == flat(lists, 'genres') and read(stream, 'seen') == flat(lists, 'seen')


def test_all_ways_to_write_them_are_the_same_bytes(tmp_path):
    for how in ('parquet', 'separated', 'printed'):
        open_stream(logged(tmp_path / how, lists_of_days(), how), tmp_path / f'w-{how}', lambda line: None)
    rows = [bytes_of(tmp_path / f'w-{how}') for how in ('parquet', 'separated', 'printed')]
    assert rows[0] == rows[1] == rows[2]


def test_an_id_first_seen_in_a_list_gets_its_fields_slot_then_and_there(tmp_path):
    lists = lists_of_days()
    data = logged(tmp_path / 'log', lists)
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    known, slots = {}, 12  # 2 x 6 fields: missing and unseen
    rows = [day | more for day, more in zip(days(), lists)]
    for t, day in enumerate(rows):
        new = [x for x in dict.fromkeys([*day['item'], *(x for row in day['seen'] for x in row)]) if x not in known]
        fresh = len({x for x in day['user']} - known.get('users', set())) if t else len(set(day['user']))
        known['users'] = known.get('users', set()) | set(day['user'])
        start = slots + fresh
        known |= {x: start + k for k, x in enumerate(new)}
        block = stream.load(t)
        assert block.ids[:, 1].tolist() == [known[x] for x in day['item']]
        last = block.ids[:, stream.layout.at(5)]
        assert [[s for s in row if s != PAD] for row in last.tolist()] == [[known[x] for x in r] for r in day['seen']]
        assert block.ids.max() < stream.blocks[t].num_slots
        slots = stream.blocks[t].num_slots
    assert (stream.field_of_slot(stream.num_slots) == 5).sum() == 2  # its own two, which nothing has


@pytest.mark.parametrize('keep', ['last', 'first'])
def test_a_list_is_cut_after_what_is_missing_is_dropped(tmp_path, keep):
    lists = lists_of_days(1, most=6)
    for day in lists:
        day['genres'] = [['Comedy', 'NULL', *row, None] if i % 3 else None for i, row in enumerate(day['genres'])]
    data = logged(tmp_path / 'log', lists)
    data.lists.genres.max_len, data.lists.genres.keep = 2, keep
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    meant = [[x for x in row or () if x not in (None, 'NULL')] for row in flat(lists, 'genres')]
    assert read(stream, 'genres') == [row[-2:] if keep == 'last' else row[:2] for row in meant]
    assert stream.layout.widths[4] == 2


KINDS = [
    pa.list_(pa.int8()),
    pa.list_(pa.uint64()),
    pa.large_list(pa.int64()),
    pa.list_(pa.float32()),
    pa.list_view(pa.int64()),
]
KINDS += [pa.list_(pa.dictionary(pa.int8(), pa.string())), pa.large_list(pa.large_string()), pa.list_(pa.binary())]


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_lists_of_any_type_of_parquet(tmp_path, kind):
    lists = lists_of_days(3, ids=range(1, 9))
    text = not (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type))
    of = (lambda x: f'{x}'.encode()) if pa.types.is_binary(kind.value_type) else str if text else (lambda x: x)
    for d, columns in enumerate(days()):
        seen = pa.array([[of(x) for x in row] for row in lists[d]['seen']], kind)
        parquet(tmp_path / 'log', d, {**columns, 'seen': seen})
    data = data_of(tmp_path / 'log')
    data.lists = {'seen': dict()}
    assert read(open_stream(data, tmp_path / 'w', lambda line: None), 'seen') == flat(lists, 'seen')


def test_numbers_with_a_fraction_are_refused_in_text_too_or_taken_as_written(tmp_path):
    for d, columns in enumerate(days()):
        csv(tmp_path / 'log', d, {**columns, 'sizes': ['0.50|1'] * ROWS})
    data = data_of(tmp_path / 'log')
    data.lists = {'sizes': dict(separator='|')}
    refused(data, tmp_path / 'w', "'sizes' holds '0.50', no whole number: name the column in data.csv.strings")
    data.csv.strings = ('sizes',)
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert read(stream, 'sizes') == [['0.50', '1']] * ROWS * DAYS


def test_a_value_that_is_cut_off_gets_no_slot(tmp_path):
    lists = lists_of_days()
    for day in lists:
        day['genres'] = [['Never', 'Comedy'] for _ in day['genres']]
    data = logged(tmp_path / 'log', lists)
    data.lists.genres.max_len = 1
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert (stream.field_of_slot(stream.num_slots) == 4).sum() == 3


def test_a_list_and_the_field_that_it_shares_are_of_one_kind(tmp_path):
    lists = lists_of_days()
    for d, columns in enumerate(days()):
        item = pa.array([f'{x}' if x % 2 else None for x in columns['item']])  # text beside whole numbers
        seen = pa.array(lists[d]['seen'], pa.list_(pa.int16()))
        parquet(tmp_path / 'log', d, {**columns, 'item': item, 'seen': seen})
    data = data_of(tmp_path / 'log')
    data.lists = {'seen': dict(shares='item')}
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert read(stream, 'seen') == flat(lists, 'seen')  # 501 and '501' are one
    for d, columns in enumerate(days()):
        seen = pa.array([[*map(str, row), 'other'] for row in lists[d]['seen']])
        parquet(tmp_path / 'log', d, {**columns, 'seen': seen})
    stream = open_stream(data, tmp_path / 'v', lambda line: None)
    assert read(stream, 'seen') == [[*map(str, row), 'other'] for row in flat(lists, 'seen')]
    assert {type(x) for x in stream.values(np.unique(stream.load(0).ids[:, 1])).to_pylist()} == {str}


@pytest.mark.parametrize('rename', [False, True])
def test_a_side_table_may_bring_a_list(tmp_path, rename):
    for d in range(DAYS):
        csv(tmp_path / 'log', d, days()[d])
    genres = {500 + i: GENRES[: i % 4] for i in range(5)}  # the sixth item is not there
    name = 'kinds' if rename else 'genres'
    csv(tmp_path / 'log', '', {'item': list(genres), name: ['|'.join(x) for x in genres.values()]}, 'items.csv')
    data = data_of(tmp_path / 'log', side_tables=({'path': 'items.csv', 'key': 'item'},))
    data.lists = {'genres': dict(separator='|')}
    data.rename = (('kinds', 'genres'),) if rename else ()
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert read(stream, 'genres') == [genres.get(x, []) for day in days() for x in day['item']]


@pytest.mark.parametrize('by', ['period', 'rows'])
def test_a_second_day_gives_what_all_at_once_gives_and_files_may_go(tmp_path, by):
    lists = lists_of_days(2)
    data, whole = logged(tmp_path / 'log', lists, of=[0]), logged(tmp_path / 'all', lists)
    for each in (data, whole):
        each.block.update(by=by, rows=ROWS if by == 'rows' else 0)
    open_stream(whole, tmp_path / 'v', lambda line: None)
    for d in range(DAYS):
        logged(tmp_path / 'log', lists, of=[d])
        open_stream(data, tmp_path / 'w', lambda line: None)
        if d:
            (tmp_path / 'log' / f'day{d - 1}.parquet').unlink()
    assert bytes_of(tmp_path / 'w') == bytes_of(tmp_path / 'v')


def test_another_list_in_a_prepared_block_is_a_changed_past(tmp_path):
    lists = lists_of_days()
    data = logged(tmp_path / 'log', lists)
    open_stream(data, tmp_path / 'w', lambda line: None)
    row = next(i for i, x in enumerate(lists[1]['genres']) if len(set(x)) > 1)
    lists[1]['genres'][row] = lists[1]['genres'][row][::-1]
    logged(tmp_path / 'log', lists, of=[1])
    if lists[1]['genres'][row] != lists[1]['genres'][row][::-1]:
        with pytest.raises(UserError, match='block 2024-03-02 had 50 rows when prepared, now 50, or other values'):
            open_stream(data, tmp_path / 'w', lambda line: None)


def test_repeated_rows_are_those_with_equal_lists(tmp_path):
    lists = lists_of_days()
    data = logged(tmp_path / 'log', lists)
    data.duplicates = 'drop'
    columns = {**days()[0], **{name: column for name, column in lists[0].items()}}
    columns = {name: [*column, column[3], column[3]] for name, column in columns.items()}
    columns['genres'][-1] = ['Another']
    schema = pq.read_schema(tmp_path / 'log' / 'day0.parquet')
    pq.write_table(pa.table(columns, schema=schema), tmp_path / 'log' / 'day0.parquet')
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert stream.blocks[0].rows == ROWS + 1 and ['Another'] in read(stream, 'genres')


def test_a_list_beside_the_items_shown_goes_with_each_of_them(tmp_path):
    lists = lists_of_days()
    for d, columns in enumerate(days()):
        shown = [[x, x + 1] for x in columns['item']]
        clicked = [[x + y] for x, y in zip(columns['item'], columns['y'])]
        del columns['item'], columns['y']
        parquet(tmp_path / 'log', d, {**columns, 'item': shown, 'clicks': clicked, 'genres': lists[d]['genres']})
    data = data_of(tmp_path / 'log')
    data.label.column, data.impressions.items, data.impressions.clicked = '', 'item', 'clicks'
    data.lists = {'genres': dict()}
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert read(stream, 'genres') == [x for row in flat(lists, 'genres') for x in (row, row)]


def test_a_list_of_the_log_goes_with_the_click_and_one_of_the_items_table_with_the_drawn_item(tmp_path):
    lists = lists_of_days()
    for d, columns in enumerate(days()):
        parquet(tmp_path / 'log', d, {**columns, 'before': lists[d]['genres']})
    tags = {500 + i: [f't{i}', f't{i + 1}'] for i in range(6)}
    parquet(tmp_path / 'log', '', {'item': list(tags), 'tags': list(tags.values())}, 'items.parquet')
    data = data_of(tmp_path / 'log', side_tables=({'path': 'items.parquet', 'key': 'item'},))
    data.label.column = ''
    data.negatives.update(per_click=1, item='item')
    data.lists = {'before': dict(), 'tags': dict()}
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    ids = np.concatenate([stream.load(t).ids for t in range(DAYS)])
    item, label = stream.values(ids[:, 1]).to_pylist(), np.concatenate([stream.load(t).label for t in range(DAYS)])
    before = read(stream, 'before')
    assert read(stream, 'tags') == [tags[x] for x in item]
    assert [row for row, y in zip(before, label) if y] == flat(lists, 'genres') and (label == 0).sum() > 100
    assert all(before[i] == before[i - 1] for i in np.flatnonzero(label == 0))
    data.negatives.item_columns = ('before',)
    refused(data, tmp_path / 'x', "data.negatives.item_columns holds 'before', a list", 'side table')


def test_a_list_that_comes_later_is_empty_before(tmp_path):
    lists = lists_of_days()
    data = logged(tmp_path / 'log', lists)
    table = pq.read_table(tmp_path / 'log' / 'day0.parquet')
    pq.write_table(table.drop_columns(['genres']), tmp_path / 'log' / 'day0.parquet')
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert read(stream, 'genres') == [[]] * ROWS + flat(lists[1:], 'genres')


def test_a_history_may_stand_beside_lists(tmp_path):
    data = logged(tmp_path / 'log', lists_of_days())
    data.histories = {'clicked': dict(of='item', max_len=4, gap=True)}
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert stream.layout.names[4:] == ('genres', 'seen', 'clicked', 'clicked_gap')
    assert read(stream, 'genres') == flat(lists_of_days(), 'genres')
    gap = [x for row in read(stream, 'clicked_gap') for x in row]
    assert gap and all(0 <= x < 20 for x in gap)
    assert [len(a) for a in read(stream, 'clicked')] == [len(a) for a in read(stream, 'clicked_gap')]


def lists_of(**lists):
    return dict(lists=lists)


NO_CITY = dict(fields=('user', 'item'), numeric={})
BAD = [
    (lists_of(genres=dict(max_len=0)), 'data.lists.genres.max_len is 0: it must be a whole number, 1 or more'),
    (lists_of(genres=dict(max_len='5')), "data.lists.genres.max_len is '5'"),
    (lists_of(genres=dict(max_len=True)), 'data.lists.genres.max_len is True'),
    (lists_of(genres=dict(keep='all')), "data.lists.genres.keep is 'all': it must be one of 'last', 'first'"),
    (lists_of(genres=dict(seperator='|')), "data.lists.genres has no key 'seperator' (did you mean 'separator'"),
    (lists_of(genres=dict(separator=1)), 'data.lists.genres.separator is 1: it must be the text'),
    (
        lists_of(seen=dict(shares='itme')),
        "data.lists.seen.shares is 'itme' (did you mean 'item'?): name one of data.fi",
    ),
    (lists_of(seen=dict(shares='x')), "data.lists.seen.shares is 'x'"),
    (lists_of(item=dict()), "field 'item' is named twice in data.fields, data.numeric, data.time_fields, data.lists"),
    (lists_of(y=dict()), "data.label.column 'y' is also a field"),
    (lists_of(ts=dict()), "data.time.column 'ts' is also a field"),
    (lists_of(genres=dict()) | dict(first_value={'genres': '|'}), "'genres' is in data.lists and is data.first_value"),
    (
        lists_of(genre=dict()),
        "no log file or side table has column 'genre' (did you mean 'genres'?): correct data.lists",
    ),
    (dict(fields=('user', 'genres'), lists={}), 'no category: name it in data.lists, or take it out of data.fields'),
    (NO_CITY | lists_of(city=dict()), 'text and no list: data.lists.city.separator must be what stands between two'),
    (
        NO_CITY | lists_of(city=dict(separator='|')),
        "'city' has the separator '|' in no row, as 'cph': correct data.lis",
    ),
    (NO_CITY | lists_of(x=dict()), 'and no list: name it in data.fields or data.numeric instead'),
    (
        lists_of(floats=dict()),
        "'floats' holds 0.5, no whole number: lists hold ids or words; take 'floats' out of data.",
    ),
    (lists_of(nested=dict()), "take 'nested' out of data.lists"),
    (dict(lists=('genres',)), "data.lists is ['genres']: it must be a dict, as {'genres': dict(separator='|')}"),
    (
        dict(lists={'genres': '|'}),
        "data.lists.genres is '|': it must be a dict of separator, max_len, keep, shares, weights, as",
    ),
    (lists_of(genres=dict()) | dict(source='simulated'), 'data.lists is for log files'),
]


@pytest.mark.parametrize('changes, message', BAD, ids=[message[:60] for _, message in BAD])
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(tmp_path, changes, message):
    data = logged(tmp_path / 'log', lists_of_days()).to_dict()
    for d in range(DAYS):
        path = tmp_path / 'log' / f'day{d}.parquet'
        table = pq.read_table(path).append_column('floats', pa.array([[0.5]] * ROWS))
        pq.write_table(table.append_column('nested', pa.array([[[1]]] * ROWS)), path)
    refused({**data, **changes}, tmp_path / 'w', message)
    assert not list((tmp_path / 'w').rglob('*.part'))


def test_a_separator_that_a_later_day_lacks_is_no_fault(tmp_path):
    lists = lists_of_days()
    data = logged(tmp_path / 'log', lists, 'separated', range(2))
    open_stream(data, tmp_path / 'w', lambda line: None)
    lists[2]['genres'] = [['War']] * ROWS
    logged(tmp_path / 'log', lists, 'separated', [2])
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert read(stream, 'genres') == flat(lists[:3], 'genres')


@pytest.mark.parametrize('shares', ['', 'item'])
def test_words_behind_whole_numbers_and_lists_behind_empty_ones_on_a_second_day(tmp_path, shares):
    lists = lists_of_days(4)
    lists[0]['seen'] = [[] for _ in range(ROWS)]
    for d in (2, 3):
        lists[d]['seen'] = [[*map(str, row), 'new'] for row in lists[d]['seen']]
    for d in range(DAYS):
        seen = pa.array(lists[d]['seen'], pa.list_(pa.string() if d > 1 else pa.int64()))
        parquet(tmp_path / 'log', d, {**days()[d], 'seen': seen})
        data = data_of(tmp_path / 'log')
        data.lists = {'seen': dict(shares=shares)}
        stream = open_stream(data, tmp_path / 'w', lambda line: None)
    meant = [[str(x) for x in row] for row in flat(lists, 'seen')]
    assert read(stream, 'seen') == meant
    whole = open_stream(data, tmp_path / 'v', lambda line: None)
    assert read(whole, 'seen') == meant and bytes_of(tmp_path / 'w') == bytes_of(tmp_path / 'v')
