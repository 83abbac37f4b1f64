"""Log files become the blocks that the log means: order, cuts, joins, vocabulary, cache."""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from diet_jax.base.errors import UserError
from diet_jax.config.data import default_data
from diet_jax.data import scan, times
from diet_jax.data.stream import open_stream

DAY = 86_400_000
START = 1_650_844_800_000  # 2022-04-25 00:00 UTC, a Monday


def make_log(days=4, rows=200, seed=0) -> pa.Table:
    """An unsorted log with unique times."""
    rng = np.random.default_rng(seed)
    n = days * rows
    day = rng.permutation(np.repeat(np.arange(days), rows))
    time = START + day * DAY + rng.permutation(n) * 100_000 % DAY
    return pa.table(
        {
            'user': rng.integers(0, 30, n),
            'item': pa.array([f'i{x}' for x in rng.integers(0, 50 + 5 * day, n)]),
            'price': rng.gamma(2.0, size=n),
            'click': rng.integers(0, 2, n),
            'ts': time,
            'day': day + 20220425,
            'other': rng.integers(0, 9, n),
        }
    )


def make_users() -> pa.Table:
    return pa.table({'user': np.arange(30)[::-1], 'city': [f'c{u % 7}' if u % 5 else None for u in range(30)][::-1]})


def config(folder, **changes):
    data = default_data()
    data.root, data.log = str(folder), ('log*.parquet', 'log*.csv')
    data.time.column, data.label.column = 'ts', 'click'
    data.block.by, data.block.column = 'column', 'day'
    data.fields, data.group = ('user', 'item', 'city'), 'user'
    data.numeric.price = 4
    data.time_fields = ('hour', 'weekday')
    data.side_tables = (dict(path='users.csv', key='user'),)
    data.update(changes)
    return data


def write(root: pathlib.Path, log: pa.Table, name='log.parquet', users=None) -> pathlib.Path:
    root.mkdir(exist_ok=True, parents=True)
    if name.endswith('.csv'):
        pa.csv.write_csv(log, root / name)
    else:
        pq.write_table(log, root / name)
    pa.csv.write_csv(make_users() if users is None else users, root / 'users.csv')
    return root


def opened(data, workdir, said=None):
    return open_stream(data, workdir, emit=(said if said is not None else []).append)


def same_bytes(a, b) -> bool:
    def read(stream):
        return [pathlib.Path(block.path).read_bytes() for block in stream.blocks]

    return read(a) == read(b)


def test_rows_come_out_as_they_went_in(tmp_path):
    log = make_log()
    stream = opened(config(write(tmp_path, log)), tmp_path / 'w')
    city = dict(zip(*(make_users()[name].to_pylist() for name in ('user', 'city')), strict=True))
    assert [block.key for block in stream.blocks] == ['20220425', '20220426', '20220427', '20220428']
    for t, info in enumerate(stream.blocks):
        block = stream.load(t)
        rows = log.filter(pa.compute.equal(log['day'], int(info.key))).sort_by('ts')
        np.testing.assert_array_equal(block.time, rows['ts'].to_numpy())
        np.testing.assert_array_equal(block.label, rows['click'].to_numpy())
        assert block.ids.dtype == np.int32 and block.label.dtype == np.float32 and block.time.dtype == np.int64
        assert stream.values(block.ids[:, 0]).to_pylist() == rows['user'].to_pylist()
        assert stream.values(block.ids[:, 1]).to_pylist() == rows['item'].to_pylist()
        assert stream.values(block.ids[:, 2]).to_pylist() == [city[user] for user in rows['user'].to_pylist()]
        local = rows['ts'].to_numpy() // 3_600_000
        np.testing.assert_array_equal(stream.values(block.ids[:, 4]).to_numpy(), local % 24)
        assert set(stream.values(block.ids[:, 5]).to_pylist()) == {t}  # Monday, Tuesday, ...
        np.testing.assert_array_equal(block.group, block.ids[:, 0])
        assert (info.rows, info.positives) == (len(rows), rows['click'].to_numpy().sum())
    raw = sum((tmp_path / name).stat().st_size for name in ('log.parquet', 'users.csv'))
    assert abs(sum(block.raw_bytes for block in stream.blocks) - raw) <= len(stream.blocks)


def test_order_and_format_of_the_files_do_not_matter(tmp_path):
    log = make_log()
    whole = opened(config(write(tmp_path / 'a', log)), tmp_path / 'wa')
    shuffled = log.take(np.random.default_rng(1).permutation(len(log)))
    root = write(tmp_path / 'b', shuffled.slice(0, 300), 'log_2.csv')
    write(root, shuffled.slice(300), 'log_1.parquet')
    assert same_bytes(whole, opened(config(root), tmp_path / 'wb'))
    assert same_bytes(whole, opened(config(f'file://{root}'), tmp_path / 'wc'))  # as s3:// or gs://


def test_vocabulary_is_append_only_and_ordered_by_field_then_first_appearance(tmp_path):
    stream = opened(config(write(tmp_path, make_log())), tmp_path / 'w')
    fields = len(stream.fields)
    np.testing.assert_array_equal(stream.field_of_slot(2 * fields), np.repeat(np.arange(fields), 2))
    before = 2 * fields
    for t, info in enumerate(stream.blocks):
        ids = stream.load(t).ids
        new = [ids[:, f][np.sort(np.unique(ids[:, f], return_index=True)[1])] for f in range(fields)]
        new = [slots[slots >= before] for slots in new]
        categorical = np.concatenate([new[f] for f in range(fields) if stream.fields[f].kind != 'numeric'])
        assert (np.diff(categorical) > 0).all()
        assert ids.max() < info.num_slots
        owner = stream.field_of_slot(info.num_slots)
        assert all((owner[ids[:, f]] == f).all() for f in range(fields))
        before = info.num_slots
    assert stream.num_slots == before
    assert stream.values(np.array([2, 3])).to_pylist() == [None, None]  # missing and unseen of one field
    with pytest.raises(ValueError, match='does not belong'):
        stream.values(np.array([0, 2]))


def test_bins_are_quantiles_of_the_first_block_only(tmp_path):
    log = make_log()
    stream = opened(config(write(tmp_path, log)), tmp_path / 'w')
    first = log.filter(pa.compute.equal(log['day'], 20220425))['price'].to_numpy()
    np.testing.assert_allclose(stream.fields[3].bounds, np.quantile(first, [0.25, 0.5, 0.75]))
    bins = stream.values(stream.load(0).ids[:, 3]).to_numpy()
    assert np.bincount(bins).tolist() == [50, 50, 50, 50]
    later = log.filter(pa.compute.equal(log['day'], 20220427)).sort_by('ts')['price'].to_numpy()
    expected = np.searchsorted(stream.fields[3].bounds, later, side='right')
    np.testing.assert_array_equal(stream.values(stream.load(2).ids[:, 3]).to_numpy(), expected)


@pytest.mark.parametrize('by', ['column', 'period', 'rows'])
def test_appending_days_equals_preparing_all_at_once(tmp_path, by):
    log, said = make_log(), []
    changes = {'block': dict(by=by, column='day', hours=24.0, rows=150)}
    early = log.filter(pa.compute.less(log['day'], 20220427))
    root = write(tmp_path / 'a', early, 'log_1.parquet')
    first = opened(config(root, **changes), tmp_path / 'w', said)
    assert opened(config(root, **changes), tmp_path / 'w', said).num_slots == first.num_slots
    assert 'nothing is new' in said[-1]
    kept = pathlib.Path(first.blocks[0].path).read_bytes()
    for block in first.blocks:
        pathlib.Path(block.path).unlink()  # past blocks are not needed to go on
    write(root, log.filter(pa.compute.greater_equal(log['day'], 20220427)), 'log_2.parquet')
    grown = opened(config(root, **changes), tmp_path / 'w', said)
    whole = opened(config(write(tmp_path / 'b', log), **changes), tmp_path / 'v')
    assert [b[:5] for b in grown.blocks] == [b[:5] for b in whole.blocks]
    old = len(first.blocks)
    for t in range(old, len(whole.blocks)):
        assert pathlib.Path(grown.blocks[t].path).read_bytes() == pathlib.Path(whole.blocks[t].path).read_bytes()
    assert pathlib.Path(whole.blocks[0].path).read_bytes() == kept
    slots = whole.load(old).ids[:, 1]
    assert grown.values(slots).equals(whole.values(slots))
    with pytest.raises(UserError, match='is missing'):
        grown.load(0)
    (root / 'log_1.parquet').unlink()  # rotated away: fine
    opened(config(root, **changes), tmp_path / 'w', said)
    assert 'no block is new' in said[-1]


@pytest.mark.parametrize('by', ['column', 'period', 'rows'])
def test_a_log_that_changes_its_past_is_refused(tmp_path, by):
    log = make_log()
    data = config(write(tmp_path, log), block=dict(by=by, column='day', hours=24.0, rows=150))
    opened(data, tmp_path / 'w')
    labels = log['click'].to_numpy().copy()
    labels[log['ts'].to_numpy().argmin()] ^= 1
    write(tmp_path, log.set_column(3, 'click', pa.array(labels)))
    with pytest.raises(UserError, match='the log goes back in time'):
        opened(data, tmp_path / 'w')
    early = log.set_column(4, 'ts', pa.array(log['ts'].to_numpy() - 9 * DAY))
    early = early.set_column(5, 'day', pa.array(log['day'].to_numpy() - 9))
    write(tmp_path, early, 'log_0.parquet')
    write(tmp_path, log)
    with pytest.raises(UserError, match='the log goes back in time: it now has rows of'):
        opened(data, tmp_path / 'w')


def test_a_new_snapshot_of_a_side_table_changes_new_blocks_only(tmp_path):
    log = make_log()
    root = write(tmp_path, log.filter(pa.compute.less(log['day'], 20220427)), 'log_1.parquet')
    opened(config(root), tmp_path / 'w')
    moved = make_users().set_column(1, 'city', pa.array(['moon'] * 30))
    write(root, log.filter(pa.compute.greater_equal(log['day'], 20220427)), 'log_2.parquet', users=moved)
    stream = opened(config(root), tmp_path / 'w')
    assert 'moon' not in stream.values(stream.load(1).ids[:, 2]).to_pylist()
    assert set(stream.values(stream.load(2).ids[:, 2]).to_pylist()) == {'moon'}


def test_a_prepared_log_is_opened_without_reading_it(tmp_path, monkeypatch):
    data = config(write(tmp_path, make_log()))
    first = opened(data, tmp_path / 'w')
    monkeypatch.setattr(scan, 'scan', lambda *args: pytest.fail('the log was read again'))
    assert opened(data, tmp_path / 'w').blocks == first.blocks


def test_until_holds_blocks_back(tmp_path):
    root = write(tmp_path, make_log())
    assert len(opened(config(root, until='20220426'), tmp_path / 'w').blocks) == 2
    everything = opened(config(root), tmp_path / 'w')
    view = opened(config(root, until='20220426'), tmp_path / 'w')
    assert (len(everything.blocks), len(view.blocks)) == (4, 2)
    assert view.num_slots == view.blocks[-1].num_slots < everything.num_slots
    by_time = opened(config(root, until='2022-04-26'), tmp_path / 'w')
    assert [b.key for b in by_time.blocks] == [b.key for b in view.blocks]
    with pytest.raises(UserError, match="data.until 'Tuesday' is the key of no block .20220425 .. 20220428., and no "):
        opened(config(root, until='Tuesday'), tmp_path / 'w')


def test_blocks_of_rows_never_split_a_timestamp(tmp_path):
    log = make_log()
    log = log.set_column(4, 'ts', pa.array(START + np.arange(len(log)) // 7 * 1000))  # seven rows a second
    stream = opened(config(write(tmp_path, log), block=dict(by='rows', rows=100)), tmp_path / 'w', said := [])
    assert [block.rows for block in stream.blocks] == [105] * 7
    assert stream.blocks[1].key == '2022-04-25T00:00:15'
    assert 'data: 65 rows held back until a block of 100 is full' in said
    ends = [stream.load(t).time for t in range(7)]
    assert all(a.max() < b.min() for a, b in zip(ends[:-1], ends[1:], strict=True))
    users = stream.values(stream.load(0).ids[:, 0]).to_pylist()
    assert users == log['user'].to_pylist()[:105]  # ties stay in the order of the file


def test_periods_are_local_and_empty_ones_make_no_block(tmp_path):
    log = make_log(days=1)
    hour = np.array([1, 2, 15, 20])[np.arange(len(log)) % 4]
    log = log.set_column(4, 'ts', pa.array(START + hour * 3_600_000))
    data = config(write(tmp_path, log), block=dict(by='period', hours=6.0))
    assert [b.key for b in opened(data, tmp_path / 'w').blocks] == [
        '2022-04-25',
        '2022-04-25T12',
        '2022-04-25T18',
    ]
    data.time.utc_offset_hours = 5.0
    stream = opened(data, tmp_path / 'w')
    assert [b.key for b in stream.blocks] == ['2022-04-25T06', '2022-04-25T18', '2022-04-26']
    assert set(stream.values(stream.load(2).ids[:, 4]).to_pylist()) == {1}
    assert set(stream.values(stream.load(2).ids[:, 5]).to_pylist()) == {1}  # a Tuesday


def test_exact_duplicates_are_dropped_on_demand_and_the_first_stays(tmp_path):
    log = make_log()
    almost = log.slice(0, 20).set_column(6, 'other', pa.array(np.full(20, 99)))
    root = write(tmp_path, pa.concat_tables([log, log.slice(0, 50), almost]))
    assert sum(b.rows for b in opened(config(root), tmp_path / 'w').blocks) == 870
    stream = opened(config(root, duplicates='drop'), tmp_path / 'w')
    assert sum(b.rows for b in stream.blocks) == 820
    assert '50 rows dropped that repeat an earlier one in every column' in stream.notes


def test_null_labels_are_dropped_and_counted_and_a_threshold_makes_labels(tmp_path):
    log = make_log()
    stars = pa.array([None if i % 8 == 0 else float(i % 5 + 1) for i in range(len(log))])
    log = log.set_column(3, 'click', stars)
    data = config(write(tmp_path, log))
    data.label.threshold = 4.0
    stream = opened(data, tmp_path / 'w')
    assert "100 rows dropped whose 'click' is null" in stream.notes
    expected = sum(value is not None and value >= 4 for value in stars.to_pylist())
    assert sum(b.positives for b in stream.blocks) == expected


def test_integers_read_as_floats_are_integers_and_nulls_are_missing(tmp_path):
    users = make_users().append_column('flag', pa.array([None if i % 3 else float(i) for i in range(30)]))
    data = config(write(tmp_path, make_log(), users=users), fields=('user', 'flag'))
    stream = opened(data, tmp_path / 'w')
    flags = stream.values(stream.load(0).ids[:, 1])
    assert flags.type == pa.int64() and flags.null_count > 0
    np.testing.assert_array_equal(stream.load(0).ids[:, 1] == 2, flags.is_null().to_numpy(zero_copy_only=False))


def test_codes_that_look_like_numbers_in_one_file_stay_strings(tmp_path):
    log = make_log().drop_columns(['item'])
    a, b = (log.slice(i * 400, 400).append_column('item', pa.array([w] * 400)) for i, w in enumerate(['007', 'x7']))
    write(tmp_path, a, 'log_1.csv')
    for name, table in (('log_1.csv', a), ('log_2.csv', b)):
        pa.csv.write_csv(table, tmp_path / name, pa.csv.WriteOptions(quoting_style='none'))
    stream = opened(config(tmp_path), tmp_path / 'w')
    assert set(stream.values(stream.load(0).ids[:, 1]).to_pylist()) == {'007', 'x7'}


def test_an_interrupted_preparation_leaves_nothing_behind(tmp_path, monkeypatch):
    data = config(write(tmp_path, make_log()))
    whole = opened(data, tmp_path / 'v')
    written, real = [], pq.write_table

    def fails_at_the_third(table, where, **options):
        written.append(where)
        real(table, where, **options)
        if len(written) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pq, 'write_table', fails_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            opened(data, tmp_path / 'w')
    assert not list((tmp_path / 'w').rglob('*.part')) and not list((tmp_path / 'w').rglob('manifest.json'))
    assert same_bytes(opened(data, tmp_path / 'w'), whole)


@pytest.mark.parametrize('unit, scale', [('s', 1), ('ms', 1000), ('us', 10**6), ('ns', 10**9)])
def test_words_and_numbers_say_the_same_time(unit, scale):
    time = dict(column='t', unit=unit, utc_offset_hours=8.0)
    ticks = times.times(pa.array([1_650_844_800 * scale]), time, '')
    iso = dict(time, unit='iso')
    words = ['2022-04-25 00:00:00Z', '2022-04-25T08:00:00+08:00', '2022-04-25 08:00:00']
    for word in words:
        assert int(times.times(pa.array([word]), iso, '')[0]) * scale == int(ticks[0]) * 10**6
    stamp = pa.array([1_650_844_800 * 1000], pa.timestamp('ms', 'UTC'))
    assert times.times(stamp, time, '')[0] == ticks[0]
