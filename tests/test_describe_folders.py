"""Describe on odd folders: files that are no table, names that no field can have, dates in words, labels of ones."""

import datetime

import numpy as np
import pytest
from quirky import START, csv

from diet_jax.base.errors import UserError
from diet_jax.commands import doors
from diet_jax.data.stream import open_stream
from diet_jax.describe import survey


def test_all_good_files_are_taken_where_one_is_none_and_the_config_is_read(tmp_path):
    rng = np.random.default_rng(0)
    for d in range(30):
        ts = np.sort(START + 86400 * d + rng.choice(86000, 40, False))
        columns = {'user_id': rng.integers(0, 9, 40), 'item_id': rng.integers(0, 6, 40), 'ts': ts}
        csv(tmp_path / 'log', d, {**columns, 'click': rng.integers(0, 2, 40)}, 'log-{:02d}.csv')
    (tmp_path / 'log' / 'log-20.csv').write_text('user_id,item_id,ts,click\n')
    found = survey(str(tmp_path / 'log'))
    assert found.rows == 29 * 40 and found.log.patterns == ('log-*.csv',)
    space: dict = {}
    exec(doors.describe(str(tmp_path / 'log'))[0], space)
    stream = open_stream(space['get_config']().data, tmp_path / 'w', lambda line: None)
    assert sum(block.rows for block in stream.blocks) == 29 * 40


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
