"""The public logs of the data folder, in the form in which they were published, are read as what they are."""

import gzip
import importlib.util
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ml_collections import ConfigDict
from test_data import START, opened

from diet_jax.config.data import default_data

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / 'configs'


def test_delimiters_of_several_characters_headerless_gzip_and_latin1(tmp_path):
    rows = ''.join(f'{u}::{m}::{(u * m) % 5 + 1}::{START // 1000 + 60 * u}\n' for u in range(40) for m in range(1, 6))
    with gzip.open(tmp_path / 'ratings.dat.gz', 'wb') as file:
        file.write(rows.encode())
    movies = ''.join(f'{m}::Am\u00e9lie, "{m}"::a|b\n' for m in range(1, 5))
    (tmp_path / 'movies.dat').write_bytes(movies.encode('latin1'))
    stream = opened(_movielens(tmp_path, rows=50), tmp_path / 'w')
    assert [block.rows for block in stream.blocks] == [50] * 4
    titles = stream.values(stream.load(0).ids[:, 2]).to_pylist()
    assert titles[:5] == [
        'Am\u00e9lie, "1"',
        'Am\u00e9lie, "2"',
        'Am\u00e9lie, "3"',
        'Am\u00e9lie, "4"',
        None,
    ]


def _movielens(root, rows):
    data = default_data()
    data.root, data.log = str(root), ('ratings.dat.gz',)
    data.csv.update(delimiter='::', column_names=('user', 'movie', 'rating', 'second'), encoding='latin1')
    data.time.update(column='second', unit='s')
    data.block.update(by='rows', rows=rows)
    data.label.update(column='rating', threshold=4.0)
    data.fields = ('user', 'movie', 'title')
    table = dict(path='movies.dat', key='movie', csv=dict(column_names=('movie', 'title', 'genres')))
    data.side_tables = (table,)
    return data


def _need(root: pathlib.Path, name: str) -> pathlib.Path:
    if not (root / name).is_dir():
        pytest.skip(f'no {name} in {root}')
    return root / name


# Rows per `date`, 2022-04-25 to 05-08, as the data's README lists them.
KUAIRAND_ROWS = [
    14911,
    14530,
    14328,
    13972,
    15839,
    21204,
    20790,
    19554,
    18943,
    17600,
    13390,
    13834,
    13687,
    15747,
]


def test_kuairand_days_are_those_of_its_description(tmp_path, data_root):
    data = default_data()
    data.root, data.log = (
        str(_need(data_root, 'kuairand')),
        ('log_standard_*_pure.parquet', 'log_standard_*_pure.csv'),
    )
    data.time.update(column='time_ms', utc_offset_hours=8.0)
    data.block.update(by='column', column='date')
    data.label.column = 'is_click'
    data.fields = ('user_id', 'video_id', 'tab', 'author_id', 'onehot_feat1', 'onehot_feat12', 'tag')
    data.numeric.video_duration = 8
    data.side_tables = (
        dict(path='user_features_pure.csv', key='user_id'),
        dict(path='video_features_basic_pure.csv', key='video_id'),
    )
    stream = opened(data, tmp_path / 'w')
    assert [block.rows for block in stream.blocks] == KUAIRAND_ROWS
    assert sum(block.positives for block in stream.blocks) == 100_900
    videos = [stream.load(t).ids[:, 1] for t in range(2)]
    assert len(np.unique(videos[0])) == 3398
    assert np.mean(~np.isin(videos[1], videos[0])) == pytest.approx(0.096, abs=5e-4)
    assert stream.values(stream.load(0).ids[:, 5]).type == pa.int64()  # read as floats because of nulls
    data.duplicates = 'drop'
    assert sum(block.rows for block in opened(data, tmp_path / 'w').blocks) == 222_869


def _config(name: str, root: pathlib.Path, arg: str = ''):
    """`data` of a config file, reading from `root`."""
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = module.get_config(arg).data
    data.root = str(root)
    return data


def _column(stream, t: int, name: str) -> pa.Array:
    return stream.values(stream.load(t).ids[:, [field.name for field in stream.fields].index(name)])


def test_movielens_blocks_of_its_config(tmp_path, data_root):
    stream = opened(_config('movielens', _need(data_root, 'movielens-1m-half')), tmp_path / 'w')
    assert len(stream.blocks) == 16 and all(0 <= block.rows - 30_000 < 30 for block in stream.blocks)
    ends = [stream.load(t).time[[0, -1]] for t in range(16)]
    assert all(a[1] < b[0] for a, b in zip(ends[:-1], ends[1:], strict=True))
    rate = sum(block.positives for block in stream.blocks) / sum(block.rows for block in stream.blocks)
    assert rate == pytest.approx(0.5724, abs=2e-3)
    for name, values in (('gender', 2), ('age', 7), ('occupation', 21)):
        column = _column(stream, 8, name)
        assert column.null_count == 0 and len(column.unique()) == values
    assert _column(stream, 0, 'zip').type == pa.string() and 'title' not in [field.name for field in stream.fields]
    assert any('|' in genres for genres in _column(stream, 0, 'genres').to_pylist())
    smoke = opened(_config('movielens', data_root / 'movielens-1m-half', 'smoke'), tmp_path / 'w')
    assert [0 <= block.rows - 5000 < 30 for block in smoke.blocks] == [True] * 5


# Rows per day at UTC+8, 2017-11-25 to 12-03, as the data's README lists them.
TAOBAO_ROWS = [8697, 8786, 8281, 8855, 8772, 8614, 9413, 11479, 11355]


def test_taobao_days_are_those_of_its_description_and_stray_rows_are_left_out(tmp_path, data_root):
    stream = opened(_config('taobao', _need(data_root, 'taobao')), tmp_path / 'w')
    assert [block.rows for block in stream.blocks] == TAOBAO_ROWS
    assert (stream.blocks[0].key, stream.blocks[-1].key) == ('2017-11-25', '2017-12-03')
    assert '35 rows before data.since 2017-11-25 left out' in stream.notes
    assert stream.blocks[0].positives / TAOBAO_ROWS[0] == pytest.approx(0.0935, abs=5e-5)


def test_globo_clicks_are_all_there_and_their_negatives_were_clicked_before(tmp_path, data_root):
    data = _config('globo', _need(data_root, 'globo'))
    assert data.until == '2017-10-07T18' and _config('globo', data_root, '9').until == '2017-10-10T18'
    data.log, data.time.utc_offset_hours, data.block.hours = ('clicks_2017-10-1[45].parquet',), 0.0, 24.0
    data.since, data.until = '2017-10-15', ''
    stream = opened(data, tmp_path / 'w')
    known = [(block.key, block.rows, block.positives) for block in stream.blocks]
    assert known == [('2017-10-15', 2 * 92163, 92163)]  # the data's README
    block, item = stream.load(0), _column(stream, 0, 'click_article_id').to_numpy()
    tables = [pq.read_table(data_root / 'globo' / f'clicks_2017-10-{day}.parquet') for day in (14, 15)]
    log = np.concatenate(
        [t['click_article_id'].to_numpy().astype(np.int64) * 10**13 + t['click_timestamp'] for t in tables]
    )
    log.sort()
    keys = item * 10**13 + block.time
    before = np.searchsorted(log, keys) - np.searchsorted(log, keys - 24 * 3_600_000)
    assert before[block.label == 0].min() == 1
    np.testing.assert_array_equal(block.time[0::2], block.time[1::2])
    np.testing.assert_array_equal(block.ids[0::2, 2:], block.ids[1::2, 2:])  # the context is the click's


def test_globo_smoke_hours_are_small(tmp_path, data_root):
    stream = opened(_config('globo', _need(data_root, 'globo'), 'smoke'), tmp_path / 'w')
    assert [block.key[-3:] for block in stream.blocks] == ['T01', 'T02', 'T03', 'T04', 'T05']
    assert sum(block.positives for block in stream.blocks) * 2 == sum(block.rows for block in stream.blocks) < 20_000


def test_histories_of_taobao_are_those_of_the_file(tmp_path, data_root):
    root = _need(data_root, 'taobao')
    stream = opened(_config('taobao', root, 'smoke,histories'), tmp_path / 'w')
    log = pq.read_table(next(root.glob('user_behavior*.parquet'))).to_pydict()
    events = {}
    for user, item, time in zip(log['user_id'], log['item_id'], log['timestamp']):
        if time >= 1_511_539_200:  # data.since, at UTC+8
            events.setdefault(user, []).append((time, item))
    rng = np.random.default_rng(0)
    for t in (0, 2, 4):
        block = stream.load(t)
        history = block.ids[:, stream.layout.at(stream.layout.names.index('clicked_item_id'))]
        users = stream.values(block.ids[:, 0]).to_pylist()
        for i in rng.choice(len(users), 200, replace=False):
            slots = history[i][history[i] >= 0]
            before = sorted(event for event in events[users[i]] if event[0] < block.time[i])[-50:]
            times = [time for time, _ in before]  # of one time stamp any may be the first that is left out
            got = stream.values(slots).to_pylist() if len(slots) else []
            assert len(got) == len(before)
            for time in set(times) - set(times[:1]):
                assert sorted(x for x, s in zip(got, times) if s == time) == [x for s, x in before if s == time]


def test_genres_of_movielens_are_lists(tmp_path, data_root):
    root = _need(data_root, 'movielens-1m-half')
    data = _config('movielens', root, 'smoke')
    data.fields = tuple(field for field in data.fields if field != 'genres')
    data.lists = ConfigDict({'genres': dict(separator='|', max_len=6)})
    stream = opened(data, tmp_path / 'w')
    block, names = stream.load(0), stream.layout.names
    rows = [line.split('::') for line in (root / 'movies.dat').read_text('latin1').splitlines()]
    genres = {int(movie): words.split('|') for movie, _, words in rows}
    part = block.ids[:100, stream.layout.at(names.index('genres'))]
    movies = stream.values(block.ids[:100, names.index('movie')]).to_pylist()
    assert [stream.values(row[row >= 0]).to_pylist() for row in part] == [genres[movie] for movie in movies]


@pytest.mark.parametrize('name', ['globo', 'kuairand', 'movielens', 'taobao'])
def test_an_unknown_argument_of_a_config_is_named(name, tmp_path):
    with pytest.raises(ValueError, match=f"configs/{name}.py takes no argument 'smok'"):
        _config(name, tmp_path, 'smok')
