"""Negatives drawn for a log of clicks come from the past, and from nothing but the past."""

import pathlib
import re

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from test_data import DAY, START, opened, same_bytes

from diet_jax.base.errors import UserError
from diet_jax.config.data import check_data, data_digest, default_data
from diet_jax.data import negatives

HOUR = 3_600_000


def make_clicks(days=4, rows=150, seed=0, users=12, items=25) -> pa.Table:
    """Clicks with many ties in time, repeats of a pair, and items that come and go."""
    rng = np.random.default_rng(seed)
    n = days * rows
    hour = np.sort(rng.integers(0, 24 * days * 4, n))[rng.permutation(n)]  # a tie every quarter of an hour
    item = (rng.zipf(1.6, n) + hour // 64) % items
    return pa.table(
        {
            'user': pa.array([None if u == 0 else f'u{u}' for u in rng.integers(0, users, n)]),
            'item': item,
            'kind': item % 4 + 10,
            'place': rng.integers(0, 5, n),
            'ts': START + hour * (HOUR // 4),
            'day': hour // 96 + 20220425,
        }
    )


def config(root, **changes):
    data = default_data()
    data.root, data.log = str(root), ('log*.parquet', 'log*.csv')
    data.time.column = 'ts'
    data.fields, data.group = ('user', 'item', 'kind', 'place', 'author'), 'user'
    data.time_fields = ('hour',)
    data.side_tables = (dict(path='items.csv', key='item'),)
    data.negatives.update(per_click=2, item='item', item_columns=('kind',), window_hours=6.0)
    data.update(changes)  # merges: negatives=dict(by=...) leaves the other keys
    return data


def write(root, log, name='log.parquet') -> pathlib.Path:
    root.mkdir(exist_ok=True, parents=True)
    pq.write_table(log, root / name)
    items = pa.table({'item': np.arange(25), 'author': [f'a{i // 3}' for i in range(25)]})
    pa.csv.write_csv(items, root / 'items.csv')
    return root


def decoded(stream, t) -> dict[str, list]:
    block = stream.load(t)
    columns = {f.name: stream.values(block.ids[:, i]).to_pylist() for i, f in enumerate(stream.fields)}
    return {**columns, 'label': block.label.astype(int).tolist(), 'time': block.time.tolist()}


def pool_of(log: list[dict], click: dict, hours: float) -> set:
    """The definition, word by word."""
    past = [row for row in log if click['ts'] - hours * HOUR <= row['ts'] < click['ts']]
    own = {row['item'] for row in past if row['user'] == click['user'] and click['user'] is not None}
    return {row['item'] for row in past} - own - {click['item']}


both_ways = pytest.mark.parametrize('draws_by', ['items', 'clicks'])


@both_ways
@pytest.mark.parametrize('per_click', [1, 2, 30])
def test_every_click_gets_distinct_items_of_its_own_causal_pool_and_as_many_as_there_are(tmp_path, per_click, draws_by):
    log = make_clicks()
    data = config(write(tmp_path, log), negatives=dict(by=draws_by, per_click=per_click))
    stream = opened(data, tmp_path / 'w')
    rows, seen, pools = log.to_pylist(), 0, []
    for t in range(4):
        block = decoded(stream, t)
        order = np.flatnonzero(block['label'])
        ends = [*order[1:], len(block['label'])]
        clicks = [(block['time'][i], block['user'][i], block['item'][i], block['place'][i]) for i in order]
        wanted = [row for row in rows if row['day'] == 20220425 + t]
        wanted = sorted(wanted, key=lambda row: row['ts'])  # stable: ties as in the file
        assert clicks == [(row['ts'], row['user'], row['item'], row['place']) for row in wanted]
        for begin, end, row in zip(order, ends, wanted, strict=True):  # the click first, then its negatives
            pool = pool_of(rows, row, 6.0)
            drawn = block['item'][begin + 1 : end]
            assert set(drawn) <= pool and len(set(drawn)) == len(drawn) == min(per_click, len(pool))
            for name, value in (('user', row['user']), ('place', row['place']), ('time', row['ts'])):
                assert set(block[name][begin:end]) == {value}  # the context is the click's
            assert block['kind'][begin:end] == [i % 4 + 10 for i in block['item'][begin:end]]  # of the item
            assert block['author'][begin:end] == [f'a{i // 3}' for i in block['item'][begin:end]]  # joined after
            pools.append(len(pool))
        seen += len(block['label'])
    lacking = sum(size < per_click for size in pools)
    drawn = sum(min(size, per_click) for size in pools)
    assert (seen, stream.label) == (len(rows) + drawn, 'click')
    said = next(note for note in stream.notes if 'negatives' in note)
    assert said.startswith(f'{drawn} negatives drawn for {len(rows)} clicks ({per_click} a click, seed 0)')
    assert f'; {np.mean(pools):.0f} to draw from on average' in said
    assert ('in proportion to its clicks in the 6 h before' in said) == (draws_by == 'clicks')
    assert f'{lacking} clicks had no recently active item to draw from' in stream.notes[-1]


def made_of(log: pa.Table) -> negatives.Clicks:
    return negatives.Clicks(log['ts'].to_numpy(), log['user'].combine_chunks(), {'item': log['item'].combine_chunks()})


@both_ways
@pytest.mark.parametrize('attempts', [negatives.ATTEMPTS, 0])  # quick ones with redraws, and the listing of a pool
def test_a_draw_is_uniform_over_the_pool_or_over_its_clicks(monkeypatch, attempts, draws_by):
    """Against the definition, for every click of a log with ties, own items, and windows that come and go."""
    monkeypatch.setattr(negatives, 'ATTEMPTS', attempts)
    log = make_clicks(days=1)
    rows, seeds, n = log.to_pylist(), 300, len(log)
    pools = negatives.Pools(made_of(log), np.arange(n), 6 * HOUR, draws_by)
    item, ts = log['item'].to_numpy(), log['ts'].to_numpy()
    counts = np.zeros((n, n))
    for seed in range(seeds):
        picked = pools.sample(1, seed)[:, 0]
        np.add.at(counts, (np.flatnonzero(picked >= 0), picked[picked >= 0]), 1)
    chi_square, degrees = 0.0, 0
    for click, count in zip(range(n), counts, strict=True):
        pool = pool_of(rows, rows[click], 6.0)
        inside = (ts >= ts[click] - 6 * HOUR) & (ts < ts[click]) & np.isin(item, list(pool))
        assert count[~inside].sum() == 0 and count.sum() == (seeds if pool else 0)
        cells = count[inside] if draws_by == 'clicks' else np.bincount(item[inside], count[inside], 25)[list(pool)]
        if len(cells) > 1:
            chi_square += ((cells - cells.mean()) ** 2 / cells.mean()).sum()
            degrees += len(cells) - 1
    assert degrees > 1000 and abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)


@both_ways
@pytest.mark.parametrize('attempts', [negatives.ATTEMPTS, 0])
def test_two_negatives_are_a_draw_and_a_draw_from_what_is_left(monkeypatch, attempts, draws_by):
    monkeypatch.setattr(negatives, 'ATTEMPTS', attempts)
    weight = np.arange(5, 25)  # clicks an item
    popularity, total, n = np.repeat(np.arange(20), weight), weight.sum(), 20_000
    item = np.random.default_rng(0).permutation(popularity)
    past = negatives.Clicks(np.arange(total), pa.nulls(total, pa.int64()), {'item': pa.array(item)})
    later = negatives.Clicks(np.full(n, total), pa.array(np.arange(n)), {'item': pa.array(np.full(n, 99))})
    clicks = negatives.join_clicks(past, later)  # the later ones all at one instant
    pools = negatives.Pools(clicks, np.arange(total, total + n), 10**6, draws_by)
    assert (pools.free == 20).all()
    drawn = clicks.columns['item'].to_numpy()[pools.sample(2, seed=0)]
    together = np.zeros((20, 20))
    np.add.at(together, (drawn[:, 0], drawn[:, 1]), 1)
    share = (np.ones(20) if draws_by == 'items' else weight) / (20 if draws_by == 'items' else total)
    expected = n * share[:, None] * share / (1 - share[:, None])
    np.fill_diagonal(expected, 0)
    assert expected.sum() == pytest.approx(n) and np.trace(together) == 0
    off = ~np.eye(20, dtype=bool)
    assert ((together - expected)[off] ** 2 / expected[off]).sum() < 470  # chi-square of 379 degrees, p = 0.001
    assert (drawn != clicks.columns['item'].to_numpy()[pools.sample(2, seed=1)]).any(axis=1).mean() > 0.9


@both_ways
def test_the_one_item_that_a_user_has_not_clicked_is_found_however_rare_it_is(draws_by):
    item = np.concatenate([np.repeat(np.arange(3000), 20), [7777], np.full(50, 5)])
    time = np.concatenate([np.arange(60_001), np.full(50, 60_001)])
    user = np.where(item == 7777, 'another', 'robot')
    clicks = negatives.Clicks(time, pa.array(user), {'item': pa.array(item)})
    picked = negatives.Pools(clicks, np.arange(60_001, 60_051), 10**6, draws_by).sample(2, 0)
    assert (picked == [60_000, -1]).all()


@both_ways
def test_listing_a_pool_gives_what_is_left_of_it(monkeypatch, draws_by):
    """Without the quick attempts every draw goes the slow way, which must obey the same rules."""
    monkeypatch.setattr(negatives, 'ATTEMPTS', 0)
    monkeypatch.setattr(negatives, 'PAIRS', 50)
    log = make_clicks(days=1)
    users = pa.array([u or 'nobody' for u in log['user'].to_pylist()])
    clicks = made_of(log)._replace(user=users)
    picked = negatives.Pools(clicks, np.arange(len(log)), 6 * HOUR, draws_by).sample(40, 3)
    rows = [dict(row, user=user.as_py()) for row, user in zip(log.to_pylist(), users, strict=True)]
    item = log['item'].to_numpy()
    for row, drawn in zip(rows, picked, strict=True):
        found = item[drawn[drawn >= 0]].tolist()
        assert len(set(found)) == len(found) and set(found) == pool_of(rows, row, 6.0)


@both_ways
@pytest.mark.parametrize('by', ['column', 'period', 'rows'])
def test_days_prepared_one_after_the_other_equal_all_at_once(tmp_path, by, draws_by):
    log = make_clicks()
    changes = {'block': dict(by=by, column='day', hours=24.0, rows=110), 'negatives': dict(by=draws_by)}
    day = log['day'].to_numpy()
    root = write(tmp_path / 'a', log.filter(pa.array(day < 20220427)), 'log_1.parquet')
    first = opened(config(root, **changes), tmp_path / 'w')
    (root / 'log_1.parquet').rename(root / 'gone')  # the window is in the cache
    if by == 'rows':  # but a block of rows that is not full yet is not
        write(root, log.filter(pa.array((day < 20220427) & (day > 20220425))), 'log_1.parquet')
    write(root, log.filter(pa.array(day >= 20220427)), 'log_2.parquet')
    grown = opened(config(root, **changes), tmp_path / 'w')
    whole = opened(config(write(tmp_path / 'b', log), **changes), tmp_path / 'v')
    assert len(whole.blocks) > len(first.blocks) >= 2
    assert same_bytes(grown, whole)
    assert len(list(grown.folder.glob('clicks-*.parquet'))) == 2  # of now, and for who reads by the manifest of before
    assert grown.notes[1:] == whole.notes[1:]  # the first says how many files were read


@both_ways
def test_neither_the_order_of_the_files_nor_another_field_changes_a_draw(tmp_path, draws_by):
    log = make_clicks().drop_columns(['place'])
    log = log.append_column('place', pa.array(np.zeros(len(log), int)))  # so that ties are equal in all but the item
    fields = ('user', 'item', 'kind', 'author')
    by = dict(by=draws_by)
    whole = opened(config(write(tmp_path / 'a', log), negatives=by), tmp_path / 'wa')
    fewer = opened(config(tmp_path / 'a', fields=fields, negatives=by), tmp_path / 'wb')
    other = write(tmp_path / 'c', log.take(np.random.default_rng(1).permutation(len(log))))
    shuffled = opened(config(other, negatives=by), tmp_path / 'wc')
    for t in range(4):
        expected = decoded(whole, t)
        assert decoded(fewer, t)['item'] == expected['item']
        keys = ('time', 'user', 'item', 'label')
        found = decoded(shuffled, t)
        rows = [sorted(zip(*(b[key] for key in keys), strict=True), key=str) for b in (found, expected)]
        assert rows[0] == rows[1]


def test_rows_before_since_are_in_no_block_but_in_the_first_pools(tmp_path):
    log = make_clicks()
    whole = opened(config(write(tmp_path, log)), tmp_path / 'w')
    late = opened(config(tmp_path, since='2022-04-26'), tmp_path / 'w')
    assert [b.key for b in late.blocks] == ['2022-04-26', '2022-04-27', '2022-04-28']
    assert all(decoded(late, t) == decoded(whole, t + 1) for t in range(3))
    by_column = config(tmp_path, since='20220427', block=dict(by='column', column='day'))
    assert [b.key for b in opened(by_column, tmp_path / 'v').blocks] == ['20220427', '20220428']
    by_column.since = '2022-04-27'  # a time, of another block than any key says
    assert [b.key for b in opened(by_column, tmp_path / 'v').blocks] == ['20220427', '20220428']
    by_column.since = 'Monday'
    with pytest.raises(UserError, match="data.since 'Monday' is the key of no block .20220425 .. 20220428., and no "):
        opened(by_column, tmp_path / 'v')
    by_rows = opened(config(tmp_path, since='2022-04-26T12', block=dict(by='rows', rows=100)), tmp_path / 'v')
    late = [row for row in log.to_pylist() if row['ts'] >= START + DAY + 12 * HOUR]
    assert by_rows.load(0).time.min() == min(row['ts'] for row in late)


def test_a_labelled_log_keeps_its_own_negatives_and_only_clicks_are_drawn_for(tmp_path):
    log = make_clicks()
    kind = np.where(np.arange(len(log)) % 3 == 0, 'buy', 'view')
    data = config(write(tmp_path, log.append_column('act', pa.array(kind))))
    data.label.update(column='act', positive=('buy',))
    stream = opened(data, tmp_path / 'w')
    rows = [row for row, act in zip(log.to_pylist(), kind, strict=True) if act == 'buy']
    facts = [block['negatives'] for block in stream._manifest['blocks']]
    assert stream.label == 'act' and sum(fact['clicks'] for fact in facts) == len(rows)
    drawn = sum(min(2, len(pool_of(rows, row, 6.0))) for row in rows)  # views put nothing into a pool
    assert sum(fact['drawn'] for fact in facts) == drawn
    assert sum(block.rows for block in stream.blocks) == len(log) + drawn
    assert sum(block.positives for block in stream.blocks) == len(rows)


def test_a_log_of_clicks_that_changes_its_past_is_refused(tmp_path):
    log = make_clicks()
    data = config(write(tmp_path, log))
    opened(data, tmp_path / 'w')
    write(tmp_path, log.take(np.random.default_rng(0).permutation(len(log))))  # another order is the same log
    opened(data, tmp_path / 'w')
    write(tmp_path, log.slice(0, len(log) - 1))
    day = log['day'].to_numpy()
    key, rows = str(day[-1])[-2:], int((day == day[-1]).sum())  # of the log: the drawn ones do not count
    with pytest.raises(
        UserError, match=f'back in time: block 2022-04-{key} had {rows} rows when prepared, now {rows - 1}'
    ):
        opened(data, tmp_path / 'w')


def test_what_is_off_does_not_rename_a_cache():
    """Blocks that were prepared before there were negatives stay where they are."""
    data = default_data()
    data.root, data.log, data.fields = 'x', ('y',), ('user', 'item')
    data.time.column, data.label.column = 't', 'l'
    before = data_digest(check_data(data))
    data.negatives.seed, data.negatives.item = 5, 'item'
    assert data_digest(check_data(data)) == before
    data.negatives.per_click = 1
    assert data_digest(check_data(data)) != before


def _changed(**changes):
    def change(data):
        data.negatives.update(changes)

    return change


def _set(path, value):
    def change(data):
        section, _, key = path.rpartition('.')
        (data[section] if section else data)[key] = value

    return change


BAD = [
    (_changed(per_click=-1), 'data.negatives.per_click is -1: it must be a whole number, 0 or more'),
    (_changed(item=''), 'data.negatives.item is empty: name the field'),
    (_changed(item='itm'), "data.negatives.item 'itm' is not in data.fields .did you mean 'item'."),
    (_changed(item='author'), "log.parquet has no column 'author'"),
    (_changed(item_columns=('knd',)), "data.negatives.item_columns holds 'knd' .did you mean 'kind'."),
    (_changed(user='usr'), "log.parquet has no column 'usr' .did you mean 'user'."),
    (_changed(user='item'), "data.negatives.user 'item' is the item"),
    (_changed(window_hours=0.0), 'data.negatives.window_hours is 0.0: it must be longer than 0'),
    (_changed(window_hours=1e-9), 'data.negatives.window_hours 1e-09 is shorter than data.time.unit'),
    (_changed(seed=-3), 'data.negatives.seed is -3: it must be a whole number'),
    (_changed(by='click'), "data.negatives.by is 'click': it must be one of items, clicks"),
    (_changed(per_click=0), 'data.label.column is empty: .*data.negatives.per_click'),
    (_set('label.threshold', 3.0), 'data.label.column is empty, but threshold or positive is set'),
    (_set('source', 'simulated'), 'a simulated stream has negatives'),
    (_set('since', '20220426'), "data.since '20220426' is no local time: write it as"),
    (_set('since', '2022-13-01'), "data.since '2022-13-01' is no local time: write it as"),
    (_set('since', '2023-01-01'), "data.since '2023-01-01' is after the last row .2022-04-28"),
]


@pytest.mark.parametrize('change, message', BAD)
def test_a_bad_config_is_one_clear_line(tmp_path, change, message):
    data = config(write(tmp_path, make_clicks()))
    change(data)
    with pytest.raises(UserError) as error:
        opened(data, tmp_path / 'w')
    assert re.search(message, str(error.value)), str(error.value)
    assert '\n' not in str(error.value)


def test_a_click_without_an_item_and_a_block_without_a_pool_are_named(tmp_path):
    log = make_clicks()
    item = pa.array([None, *log['item'].to_pylist()[1:]])
    data = config(write(tmp_path, log.set_column(1, 'item', item)))
    with pytest.raises(UserError, match=r"block 2022-04-2\d: column 'item' is null in 1 clicks"):
        opened(data, tmp_path / 'w')
    write(tmp_path, log.set_column(0, 'user', pa.array(['one'] * len(log))).set_column(1, 'item', pa.array([3] * 600)))
    with pytest.raises(UserError, match="block 2022-04-25 has .* rows, all with 'click' = 1"):
        opened(data, tmp_path / 'w')
