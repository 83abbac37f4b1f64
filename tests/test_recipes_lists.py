"""The recipes of docs/histories.md: each reads a little log of its shape, to the right lists."""

import datetime
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from ml_collections import ConfigDict
from test_recipes import DAYS, UTC, Little, days, lines, lists, write_4

from diet_jax.base.layout import PAD, unpacked
from diet_jax.config import default_config
from diet_jax.data.stream import open_stream

PAGE = Path(__file__).resolve().parent.parent / 'docs' / 'histories.md'
RECIPES = {
    int(number): code for number, code in re.findall(r'### (\d+)\. .*?```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
}
HISTORY = ('N101', 'N7', 'N112')
TOPICS, SHARES = (['war', 'peace'], [], ['sport']), ([0.25, 0.75], [], [0.5])


def write(number, log, root):
    if number == 1:
        columns = {'user': log.user, 'item': log.item, 'author': log.item % 5, 'timestamp': log.ts, 'clicked': log.y}
        days(log, root, 'day-{0}.parquet', pa.table(columns))
    elif number == 2:
        lines(root / 'clicks_1.csv', zip(log.user, log.item, log.ts * 1000), ',', 'user,article,click_timestamp')
    elif number == 3:
        when = [datetime.datetime.fromtimestamp(t, UTC).strftime('%m/%d/%Y %I:%M:%S %p') for t, *_ in lists(log)]
        shown = [' '.join(f'N{i}-{y}' for i, y in zip(items, y)) for _, _, items, y in lists(log)]
        rows = [(k, f'U{u}', when[k], ' '.join(HISTORY[: k % 4]), shown[k]) for k, (_, u, *_) in enumerate(lists(log))]
        lines(root / 'behaviors.tsv', rows, '\t')
    elif number == 5:
        topics, shares = ([of[i % 3] for i in log.item] for of in (TOPICS, SHARES))
        columns = {'user': log.user, 'article': log.item, 'timestamp': log.ts, 'clicked': log.y}
        days(log, root, 'day-{0}.parquet', pa.table(columns | {'topics': topics, 'shares': shares}))
    else:
        write_4(log, root)


def columns(stream) -> dict[str, list]:
    """Of every field the values of all rows; of a list those of every row."""
    ids, found = np.concatenate([stream.load(t).ids for t in range(len(stream.blocks))]), {}
    for f, name in enumerate(stream.layout.names):
        part = ids[:, stream.layout.at(f)]
        if name not in [stream.layout.names[i] for i in stream.layout.lists]:
            found[name] = stream.values(part[:, 0]).to_pylist()
        else:
            slots = part[part != PAD]
            words = iter(stream.values(slots).to_pylist())
            found[name] = [[next(words) for _ in range(n)] for n in (part != PAD).sum(axis=1)]
    return found


def before(log, label, value, max_len) -> list[list]:
    """Of every row what its user did before; times differ."""
    events = [[value[j] for j in range(i) if log.user[j] == log.user[i] and log.y[j] in label] for i in range(log.n)]
    return [row[-max_len:] for row in events]


def test_there_are_five():
    assert sorted(RECIPES) == list(range(1, 6))


@pytest.mark.parametrize('number', range(1, 6))
def test_a_recipe_reads_its_log(tmp_path, number):
    log, root = Little(), tmp_path / 'log'
    root.mkdir()
    write(number, log, root)
    config = default_config()
    exec(RECIPES[number], {'data': config.data, 'ConfigDict': ConfigDict})
    config.data.root = str(root)
    stream = open_stream(config.data, tmp_path / 'w', lambda line: None)
    got, item = columns(stream), log.item.tolist()
    assert len(stream.blocks) == DAYS
    if number == 1:
        assert got['liked_item'] == before(log, (1,), item, 50)
        assert got['liked_author'] == before(log, (1,), (log.item % 5).tolist(), 50)
        assert got['skipped'] == before(log, (0,), item, 20)
        ago = [[int(np.log2(1 + t - then)) for then in row] for t, row in zip(log.ts, before(log, (1,), log.ts, 50))]
        assert got['liked_gap'] == ago
    elif number == 2:
        label = np.concatenate([stream.load(t).label for t in range(DAYS)])
        read = [row for row, y in zip(got['read'], label) if y]
        assert read == before(log, (0, 1), item, 30) and (label == 0).any()
        assert all(got['read'][i] == got['read'][i - 1] for i in np.flatnonzero(label == 0))
    elif number == 3:
        assert got['history'] == [list(HISTORY[: (row // 8) % 4]) for row in range(log.n)]
        assert set(stream.field_of_slot(stream.num_slots)[2 * len(stream.fields) :]) == {0, 1}  # none of its own
    elif number == 5:
        assert got['topics'] == [TOPICS[i % 3] for i in item]
        ids = np.concatenate([stream.load(t).ids[:, stream.layout.weights_at(2)] for t in range(DAYS)])
        assert [unpacked(row[row != PAD]).tolist() for row in ids] == [SHARES[i % 3] for i in item]
    else:
        genres = [['Comedy'], ['Drama', 'Comedy'], ['War']]
        assert got['genres'] == [genres[i % 3] for i in item] and got['liked'] == before(log, (1,), item, 50)
