"""A row's history is what its user did before it: against a slow construction, block after block, in plain Python."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from quirky import bytes_of, refused

from diet_jax.base.errors import UserError
from diet_jax.base.layout import PAD
from diet_jax.config.data import check_data, data_digest, default_data, simulated_data
from diet_jax.data.generated import ROWS
from diet_jax.data.stream import open_stream

START, DAY = 1_709_251_200, 86_400  # 2024-03-01 00:00 UTC
HISTORIES = {
    'clicked': dict(of=('item', 'tag'), max_len=3, gap=True),
    'seen': dict(of='item', by='tab', where='', max_len=5),
    'skipped': dict(of=('x', 'hour'), where='not label', max_len=4),
}


def make_log(seed=0, days=4, rows=60) -> pa.Table:
    """Many rows of one time stamp, users, items and tags that are missing, and rows that are late by a day."""
    rng = np.random.default_rng(seed)
    n = days * rows
    day = np.repeat(np.arange(days), rows)
    late = (rng.random(n) < 0.02) & (day > 0)

    def some(values, share):
        return pa.array(values, mask=rng.random(n) < share)

    return pa.table(
        {
            'user': some(rng.integers(0, 8, n), 0.1),
            'item': some(rng.integers(100, 120, n) + day, 0.1),
            'tag': some([f't{t}' for t in rng.integers(0, 4, n)], 0.2),
            'tab': rng.integers(0, 3, n),
            'x': some(rng.normal(size=n), 0.1),
            'ts': START + (day - late) * DAY + rng.integers(0, 24, n) * 3600,
            'click': rng.integers(0, 2, n),
            'day': day,
        }
    ).take(pa.array(rng.permutation(n)))


def write(root, log, days=range(4)):
    root.mkdir(exist_ok=True)
    for d in days:
        pq.write_table(log.filter(pa.compute.equal(log['day'], d)), root / f'log{d}.parquet')
    data = default_data()
    data.root, data.log = str(root), ('log*.parquet',)
    data.time.column, data.time.unit, data.label.column = 'ts', 's', 'click'
    data.block.by, data.block.column = 'column', 'day'
    data.fields, data.numeric, data.group = ('user', 'item', 'tag', 'tab'), {'x': 4}, 'user'
    data.time_fields = ('hour',)
    data.histories = HISTORIES
    return data


def slowly(stream, name, of, by, where, max_len, gap=False) -> list[list[list]]:
    """Of every block, of every row [(slots of the event, ..., its gap), ...], from the rows' own slots alone."""
    names = [field.name for field in stream.fields]
    found, kept = [], {}  # user -> [(time, slots), ...]
    for t in range(len(stream.blocks)):
        block = stream.load(t)
        column = {n: block.ids[:, f].tolist() for f, n in enumerate(names[: names.index('hour') + 1])}
        users, times = column[by], block.time.tolist()
        for i, user in enumerate(users):
            event = {'label': block.label[i] == 1, 'not label': block.label[i] == 0, '': True}[where]
            if event and user != 2 * names.index(by):
                kept.setdefault(user, []).append((times[i], [column[one][i] for one in of]))
        for user in kept:
            kept[user].sort(key=lambda pair: pair[0])  # stable
        rows = []
        for user, time in zip(users, times):
            before = [event for event in kept.get(user, []) if event[0] < time][-max_len:]
            ago = [[math.floor(math.log2(1 + time - then))] if gap else [] for then, _ in before]
            rows.append([slots + gaps for (_, slots), gaps in zip(before, ago)])
        found.append(rows)
        kept = {user: events[-max_len:] for user, events in kept.items()}
    return found


def quickly(stream, t, *names):
    """The same of some columns of block t, as `load` gives them."""
    block, every = stream.load(t), [field.name for field in stream.fields]
    columns = []
    for name in names:
        part = block.ids[:, stream.layout.at(every.index(name))]
        lengths = (part != PAD).sum(axis=1)
        assert ((part == PAD) == (np.arange(part.shape[1]) < part.shape[1] - lengths[:, None])).all()  # at the end
        columns.append([row[len(row) - n :] for row, n in zip(part.tolist(), lengths)])
    return [[list(event) for event in zip(*row, strict=True)] for row in zip(*columns, strict=True)]


def check(stream):
    slow = [slowly(stream, 'clicked', ('item', 'tag'), 'user', 'label', 3, gap=True)]
    slow += [
        slowly(stream, 'seen', ('item',), 'tab', '', 5),
        slowly(stream, 'skipped', ('x', 'hour'), 'user', 'not label', 4),
    ]
    gap = [field.name for field in stream.fields].index('clicked_gap')
    for t in range(len(stream.blocks)):
        clicked = quickly(stream, t, 'clicked_item', 'clicked_tag', 'clicked_gap')
        of_gaps = [event[2] for row in clicked for event in row]
        if of_gaps:
            assert set(stream.field_of_slot(stream.num_slots)[of_gaps]) == {gap}
            value = dict(zip(of_gaps, stream.values(np.array(of_gaps)).to_pylist()))
            clicked = [[[item, tag, value[ago]] for item, tag, ago in row] for row in clicked]
        assert clicked == slow[0][t]
        assert quickly(stream, t, 'seen') == slow[1][t]
        assert quickly(stream, t, 'skipped_x', 'skipped_hour') == slow[2][t]


@pytest.mark.parametrize('seed', range(5))
def test_a_history_is_what_a_slow_construction_gives(tmp_path, seed):
    stream = open_stream(write(tmp_path / 'log', make_log(seed)), tmp_path / 'w', lambda line: None)
    names = ('clicked_item', 'clicked_tag', 'clicked_gap', 'seen', 'skipped_x', 'skipped_hour')
    assert stream.layout.names == ('user', 'item', 'tag', 'tab', 'x', 'hour', *names)
    assert stream.layout.widths[6:] == (3, 3, 3, 5, 4, 4)
    assert stream.layout.owners[6:] == (1, 2, 8, 1, 4, 5)
    assert stream.layout.sequences[6:] == ('clicked',) * 3 + ('seen',) + ('skipped',) * 2
    check(stream)


def test_restarts_and_old_files_that_are_gone_change_nothing(tmp_path):
    log = make_log(9)
    whole = write(tmp_path / 'all', log)
    open_stream(whole, tmp_path / 'v', lambda line: None)
    for d in range(4):
        data = write(tmp_path / 'log', log, [d])
        stream = open_stream(data, tmp_path / 'w', lambda line: None)
        left = [path.name for path in (tmp_path / 'w').rglob('*.parquet') if path.parent.name != 'rows']
        stays = [t for t in (d, d + 1) if t]  # of now, and for who reads by the manifest of before
        assert sorted(left) == [f'{kind}-{t:05d}.parquet' for kind in ('histories', 'vocabulary') for t in stays]
        (tmp_path / 'log' / f'log{d}.parquet').unlink()
    assert bytes_of(tmp_path / 'w') == bytes_of(tmp_path / 'v')
    check(stream)


def test_the_order_in_which_histories_are_named_does_not_matter_later(tmp_path):
    data = write(tmp_path / 'log', make_log(5), range(2))
    open_stream(data, tmp_path / 'w', lambda line: None)
    write(tmp_path / 'log', make_log(5))
    data = data.to_dict()
    data['histories'] = dict(reversed(data['histories'].items()))
    check(open_stream(data, tmp_path / 'w', lambda line: None))


def test_what_interrupted_a_preparation_leaves_the_tail_of_before(tmp_path, monkeypatch):
    data = write(tmp_path / 'log', make_log(3), range(2))
    open_stream(data, tmp_path / 'w', lambda line: None)
    write(tmp_path / 'log', make_log(3))
    with monkeypatch.context() as m, pytest.raises(OSError, match='full'):
        m.setattr('diet_jax.data.histories.Histories.write', lambda self, path: (_ for _ in ()).throw(OSError('full')))
        open_stream(data, tmp_path / 'w', lambda line: None)
    check(stream := open_stream(data, tmp_path / 'w', lambda line: None))
    open_stream(data, tmp_path / 'v', lambda line: None)
    assert len(stream.blocks) == 4 and bytes_of(tmp_path / 'w') == bytes_of(tmp_path / 'v')
    next((tmp_path / 'w').rglob('histories-*.parquet')).unlink()
    pq.write_table(
        make_log(3, days=5).filter(pa.compute.equal(make_log(3, days=5)['day'], 4)), tmp_path / 'log/log4.parquet'
    )
    with pytest.raises(UserError, match='histories-00004.parquet is missing: delete the folder'):
        open_stream(data, tmp_path / 'w', lambda line: None)


def test_rows_of_one_time_stamp_do_not_see_each_other_and_an_event_without_values_counts(tmp_path):
    n, none = 6, [None] * 2
    table = pa.table(
        {
            'user': [7] * n,
            'item': [*none, 3, 4, 5, 6],
            'tag': [*none, 'a', 'b', 'c', 'd'],
            'tab': [0] * n,
            'x': [0.0] * n,
            'ts': [START, START + 1, START + 3, START + 3, START + 3, START + 4],
            'click': [1, 1, 1, 0, 1, 0],
            'day': [0] * n,
        }
    )
    stream = open_stream(write(tmp_path / 'log', table, [0]), tmp_path / 'w', lambda line: None)
    names = [field.name for field in stream.fields]
    item, tag = (2 * names.index(name) for name in ('item', 'tag'))
    clicked = quickly(stream, 0, 'clicked_item', 'clicked_tag')
    nothing = [item, tag]
    assert clicked[:2] == [[], [nothing]] and clicked[2] == clicked[3] == clicked[4] == [nothing] * 2
    last = [[stream.values(np.array([slot])).to_pylist()[0] for slot in event] for event in clicked[5]]
    assert last == [[None, None], [3, 'a'], [5, 'c']]


def test_rows_before_since_are_no_events(tmp_path):
    log = make_log(1)
    data = write(tmp_path / 'log', log)
    data.since = '1'
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert [block.key for block in stream.blocks] == ['1', '2', '3']
    check(stream)


def test_drawn_negatives_are_no_events(tmp_path):
    data = write(tmp_path / 'log', make_log(2).append_column('all', pa.array(np.ones(240))))
    log = make_log(2)
    for d in range(4):
        rows = log.filter(pa.compute.equal(log['day'], d)).filter(
            pa.compute.is_valid(log.filter(pa.compute.equal(log['day'], d))['item'])
        )
        pq.write_table(rows, tmp_path / 'log' / f'log{d}.parquet')
    data.label.column, data.fields = '', ('user', 'item', 'tag', 'tab')
    data.negatives.update(per_click=1, item='item')
    data.histories = {'seen': dict(of='item', where='', max_len=5), 'clicked': dict(of='item', max_len=5)}
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    clicked = slowly(stream, 'clicked', ('item',), 'user', 'label', 5)
    assert sum(block.rows for block in stream.blocks) > 300
    for t in range(4):
        assert quickly(stream, t, 'seen') == quickly(stream, t, 'clicked') == clicked[t]
    data.histories = {'skipped': dict(of='item', where='not label')}
    refused(data, tmp_path / 'x', "data.histories.skipped.where is 'not label'", 'data.negatives')


def test_a_simulated_stream_has_histories_where_it_is_stored(tmp_path):
    data = simulated_data(blocks=3, rows_per_block=400, users=20, items=30)
    data.histories = {'clicked': dict(of=('item', 'category'), by='user', max_len=6)}
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    names = [field.name for field in stream.fields]
    every = slowly_simulated(stream, names)
    for t in range(3):
        assert quickly(stream, t, 'clicked_item', 'clicked_category') == every[t]
    data.simulated.rows_per_block = ROWS
    with pytest.raises(UserError, match='data.histories of a simulated stream need blocks that are stored'):
        open_stream(data, tmp_path / 'x', lambda line: None)


def slowly_simulated(stream, names):
    user, item, category = (names.index(name) for name in ('user', 'item', 'category'))
    found, kept = [], []
    for t in range(len(stream.blocks)):
        block = stream.load(t)
        kept += [(time, *ids) for time, ids, y in zip(block.time.tolist(), block.ids.tolist(), block.label) if y]
        found.append(
            [
                [[e[1 + item], e[1 + category]] for e in kept if e[1 + user] == ids[user] and e[0] < time][-6:]
                for time, ids in zip(block.time.tolist(), block.ids.tolist())
            ]
        )
    return found


def test_parts_of_a_block_are_parts_of_its_lists(tmp_path):
    stream = open_stream(write(tmp_path / 'log', make_log(4)), tmp_path / 'w', lambda line: None)
    whole = stream.load(2).ids
    np.testing.assert_array_equal(stream.load(2, 13, 47).ids, whole[13:47])
    assert whole.shape == (60, stream.layout.columns) and whole.dtype == np.int32


def test_a_log_without_histories_has_the_cache_of_before():
    data = simulated_data()
    assert data_digest(check_data(data)) == 'e77d5d9b59734137'  # of the version before there were any
    data.histories = {'clicked': dict(of='item')}
    assert data_digest(check_data(data)) != 'e77d5d9b59734137'


BAD = [
    (
        dict(clicked=dict(of='itme')),
        "data.histories.clicked.of is 'itme', no field of one value a row (did you mean 'item'",
    ),
    (dict(clicked=dict(of='item', by='who')), "data.histories.clicked.by is 'who', no field of one value a row"),
    (dict(clicked=dict(of='item', max_len=0)), 'data.histories.clicked.max_len is 0: it must be a whole number'),
    (dict(clicked=dict(of='item', max_len=2.5)), 'data.histories.clicked.max_len is 2.5: it must be a whole number'),
    (dict(clicked=dict(of='item', where='clicks')), "data.histories.clicked.where is 'clicks': it must be one of"),
    (dict(clicked=dict(of='item', gap='yes')), "data.histories.clicked.gap is 'yes': it must be True or False"),
    (dict(clicked=dict(max_len=3)), 'data.histories.clicked.of is empty: name the field'),
    (dict(clicked=dict(off='item')), "data.histories.clicked has no key 'off'"),
    (dict(clicked=dict(of=('item', 'item'))), 'names a field twice'),
    (dict(item=dict(of='item')), "field 'item' is named twice"),
    (dict(a=dict(of=('item', 'tag')), a_item=dict(of='item')), "field 'a_item' is named twice"),
    (dict([('a/b', dict(of='item'))]), 'holds a character that no file name can have'),
    ('clicked', 'data.histories is'),
    (dict(clicked='item'), "data.histories.clicked is 'item': it must be a dict of of, by, where, max_len, gap"),
]


@pytest.mark.parametrize('histories, message', BAD, ids=[m[:60] for _, m in BAD])
def test_what_is_wrong_is_said_before_the_log_is_opened(tmp_path, histories, message):
    data = write(tmp_path / 'log', make_log(), []).to_dict()
    data['histories'] = histories
    data['root'] = str(tmp_path / 'not there')
    refused(data, tmp_path / 'w', message)
