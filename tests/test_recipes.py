"""The twelve recipes of docs/your-log.md: each reads a little log of its shape, to the right rows."""

import datetime
import gzip
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ml_collections import ConfigDict

from diet_jax.config import default_config
from diet_jax.data.stream import open_stream

PAGE = Path(__file__).resolve().parent.parent / 'docs' / 'your-log.md'
RECIPES = {
    int(number): code for number, code in re.findall(r'### (\d+)\. .*?```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
}
DAYS, ROWS, START = 5, 80, 1_709_251_200  # 2024-03-01 00:00 UTC
UTC = datetime.UTC


class Little:
    """A log of five days: seconds, users 1 .. 9, items 101 .. 112, labels."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.n = DAYS * ROWS
        self.ts = np.sort(np.concatenate([START + 86400 * d + rng.choice(86000, ROWS, False) for d in range(DAYS)]))
        self.user, self.item = rng.integers(1, 10, self.n), rng.integers(101, 113, self.n)
        self.y = (rng.random(self.n) < 0.4).astype(int)
        self.day = (self.ts - START) // 86400
        self.x = rng.integers(100, 300_000, self.n) / 100

    def when(self, hours=0, written='%Y-%m-%d %H:%M:%S'):
        zone = datetime.timezone(datetime.timedelta(hours=hours))
        return [datetime.datetime.fromtimestamp(t, UTC).astimezone(zone).strftime(written) for t in self.ts.tolist()]


def lines(path, rows, delimiter, header=''):
    text = '\n'.join([*([header] if header else []), *(delimiter.join(map(str, row)) for row in rows)]) + '\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == '.gz' else text.encode('latin1'))


def days(log, root, name, table):
    for d in range(DAYS):
        path = root / name.format(d, f'{d + 1:02d}')
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.filter(pa.array(log.day == d)), path)


def write_1(log, root):
    other = {'author': log.item % 5, 'tab': log.user % 3}
    table = pa.table({'user': log.user, 'item': log.item, **other, 'timestamp': log.ts, 'clicked': log.y})
    days(log, root, 'day-202403{1}.parquet', table)


def write_2(log, root):
    table = pa.table({'user': log.user, 'item': log.item, 'timestamp': log.ts, 'clicked': log.y})
    for d in range(DAYS):
        for country, odd in (('nl', 0), ('de', 1)):
            path = root / f'date=2024-03-{d + 1:02d}' / f'country={country}' / 'part-0.parquet'
            path.parent.mkdir(parents=True)
            pq.write_table(table.filter(pa.array((log.day == d) & (log.user % 2 == odd))), path)


def write_3(log, root):
    price = [f'{x:,.2f}'.translate(str.maketrans(',.', '.,')) for x in log.x]
    rows = zip([f'u{u}' for u in log.user], [f'i{i}' for i in log.item], price, log.when(0, '%d/%m/%Y %H:%M:%S'))
    tab = ['-' if i % 4 == 0 else 'home' for i in range(log.n)]
    lines(root / 'export1.csv.gz', ((*row, t, y) for row, t, y in zip(rows, tab, log.y)), ';')


def write_4(log, root):
    lines(root / 'ratings.dat', zip(log.user, log.item, np.where(log.y, 5, 2), log.ts), '::')
    genres = ['Comedy', 'Drama|Comedy', 'War']
    lines(root / 'movies.dat', ((i, f'Amélie {i}', genres[i % 3]) for i in range(101, 113)), '::')


def write_5(log, root):
    kind = np.where(log.y, np.array(['fav', 'cart', 'buy'])[log.user % 3], 'pv')
    ts = log.ts - START + 1_511_539_200  # 2017-11-25 00:00 in Shanghai
    rows = [*zip(log.user, log.item, log.item % 3, kind, ts), (1, 101, 2, 'pv', 1_400_000_000)]
    lines(root / 'UserBehavior1.csv', rows, ',')


def write_6(log, root):
    header = 'user,article,device,click_timestamp'
    lines(root / 'clicks_1.csv', zip(log.user, log.item, log.user % 2, log.ts * 1000), ',', header)


def lists(log, size=8):
    """Rows of a day, eight by eight: (time, user, items, labels)."""
    at = np.arange(0, log.n, size)
    return [(int(log.ts[a]), int(log.user[a]), log.item[a : a + size], log.y[a : a + size]) for a in at]


def write_7(log, root):
    when = [datetime.datetime.fromtimestamp(t, UTC) for t, *_ in lists(log)]
    shown = [' '.join(f'N{i}-{y}' for i, y in zip(items, y)) for _, _, items, y in lists(log)]
    rows = [
        (k, f'U{u}', f'{w:%m/%d/%Y %I:%M:%S %p}', 'N1 N2', shown[k])
        for k, (w, (_, u, *_)) in enumerate(zip(when, lists(log)))
    ]
    lines(root / 'behaviors.tsv', rows, '\t')


def write_8(log, root):
    found = lists(log)
    # An item that comes twice in a list is clicked in both places, so each comes once.
    table = {
        'impression_time': pa.array([t * 10**6 for t, *_ in found], pa.timestamp('us')),
        'user_id': [u for _, u, *_ in found],
        'device_type': [u % 3 for _, u, *_ in found],
        'article_ids_inview': pa.array([[int(i) * 100 + k for k, i in enumerate(items)] for *_, items, _ in found]),
        'article_ids_clicked': [[int(i) * 100 + k for k, i in enumerate(items) if y[k]] for *_, items, y in found],
        'prices': [[float(i) for i in items] for *_, items, _ in found],
    }
    pq.write_table(pa.table(table), root / 'behaviors.parquet')


def write_9(log, root):
    time = pa.array((log.ts - 9 * 3600) * 10**6, pa.timestamp('us', 'Asia/Tokyo'))
    table = pa.table({'user': log.user, 'item': log.item, 'event_time': time, 'is_click': log.y == 1})
    days(log, root, 'events-{0}.parquet', pa.concat_tables([table]))
    pq.write_table(table.slice(0, 7), root / 'events-again.parquet')


def write_10(log, root):
    lines(root / 'log1.csv', zip(log.user, log.item, log.ts, log.y), ',', 'user,sku,ts,y')
    lines(root / 'products.csv', ((i, i % 4) for i in range(101, 113)), ',', 'id,brand_id')
    lines(root / 'brands.csv', ((b, ['nl', 'de', 'fr', 'nl'][b]) for b in range(4)), ',', 'id,country')


def write_11(log, root):
    table = pa.table({'user': log.user, 'item': log.item, 'timestamp': log.ts, 'clicked': log.y, 'w': weights(log)})
    days(log, root, 'day-202403{1}.parquet', table)


def write_12(log, root):
    table = pa.table({'user': log.user, 'item': log.item, 'timestamp': log.ts, 'is_click': log.y})
    table = table.append_column('is_like', pa.array(log.item % 4 == 0)).append_column('seconds', pa.array(log.x / 100))
    days(log, root, 'day-{0}.parquet', table)


def weights(log):
    return np.where(log.y == 1, 1, 10)


def read(number, root, workdir):
    """The stream of a recipe, and what was said."""
    config = default_config()
    exec(RECIPES[number], {'data': config.data, 'ConfigDict': ConfigDict})
    config.data.root = str(root)
    return open_stream(config.data, workdir, (said := []).append), said


def columns(stream) -> dict[str, list]:
    blocks = [stream.load(t) for t in range(len(stream.blocks))]
    ids = np.concatenate([block.ids for block in blocks])
    found = {field.name: stream.values(ids[:, f]).to_pylist() for f, field in enumerate(stream.fields)}
    return {**found, 'label': np.concatenate([block.label for block in blocks]).astype(int).tolist()}


def test_there_are_twelve():
    assert sorted(RECIPES) == list(range(1, 13))


@pytest.mark.parametrize('number', range(1, 13))
def test_a_recipe_reads_its_log(tmp_path, number):
    log, root = Little(), tmp_path / 'log'
    root.mkdir()
    globals()[f'write_{number}'](log, root)
    stream, said = read(number, root, tmp_path / 'w')
    got = columns(stream)
    y = log.y.tolist()
    per_day = [ROWS] * DAYS
    rows = [block.rows for block in stream.blocks]
    if number == 1:
        assert (rows, got['label'], got['user']) == (per_day, y, log.user.tolist())
        assert got['hour'] == ((log.ts // 3600) % 24).tolist() and set(got['weekday']) == {4, 5, 6, 0, 1}
    elif number == 2:
        assert [block.key for block in stream.blocks] == [f'2024-03-0{d + 1}' for d in range(DAYS)]
        assert got['label'] == y and got['country'] == [('nl', 'de')[u % 2] for u in log.user]
    elif number == 3:
        assert (rows, got['label'], got['tab'][:5]) == (per_day, y, [None, 'home', 'home', 'home', None])
        assert len(set(got['price'])) == 16 and got['item'] == [f'i{i}' for i in log.item]
    elif number == 4:
        genres = ['Comedy', 'Drama|Comedy', 'War']
        assert rows == [300] and got['label'] == y[:300] and got['genres'] == [genres[i % 3] for i in log.item[:300]]
    elif number == 5:
        assert [block.key for block in stream.blocks][0] == '2017-11-25' and got['label'] == y
        assert any('1 rows before data.since 2017-11-25 left out' in line for line in said)
    elif number == 6:
        clicks = np.array(got['label']) == 1
        assert np.array(got['article'])[clicks].tolist() == log.item.tolist() and 0 < (~clicks).sum() <= log.n
    elif number in (7, 8):
        item = 'news' if number == 7 else 'article'
        assert rows == per_day and got['label'] == y
        place = np.arange(log.n) % 8
        want = [f'N{i}' for i in log.item] if number == 7 else (log.item * 100 + place).tolist()
        assert got[item] == want
        assert number == 8 or got['position'] == place.tolist()
        assert any('50 lists of items shown are 400 rows' in line for line in said)
    elif number == 9:
        assert stream.utc_offset_hours == 9 and rows == [ROWS] * 4 and got['label'] == y[: 4 * ROWS]
        assert got['hour'] == ((log.ts // 3600) % 24)[: 4 * ROWS].tolist()
        assert any('7 rows dropped that repeat an earlier one' in line for line in said)
    elif number == 11:
        assert got['label'] == y and rows == per_day
        assert np.concatenate([stream.load(t).weight for t in range(DAYS)]).tolist() == weights(log).tolist()
        total = weights(log).sum()
        assert f"data: {log.n} rows weigh {total} by column 'w'" in said
    elif number == 12:
        like, long_view = (np.concatenate(x) for x in zip(*(stream.load(t).others for t in range(DAYS)), strict=True))
        assert stream.outcome_names == ('click', 'like', 'long_view') and got['label'] == y
        assert like.tolist() == (log.item % 4 == 0).tolist() and long_view.tolist() == (log.x >= 1000).tolist()
        assert 0 < long_view.mean() < 1
    else:
        country = ['nl', 'de', 'fr', 'nl']
        assert got['label'] == y and got['country'] == [country[i % 4] for i in log.item]


def test_the_first_of_several_values(tmp_path):
    root = tmp_path / 'log'
    root.mkdir()
    write_4(Little(), root)
    config = default_config()
    said = re.search(r"`(data.first_value = ConfigDict\(\{'genres': '\|'\}\))`", PAGE.read_text())[1]
    exec(RECIPES[4] + said, {'data': config.data, 'ConfigDict': ConfigDict})
    config.data.root = str(root)
    assert set(columns(open_stream(config.data, tmp_path / 'w', lambda line: None))['genres']) == {
        'Comedy',
        'Drama',
        'War',
    }
