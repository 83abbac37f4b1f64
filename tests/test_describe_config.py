"""The config that is written from a folder runs, and a folder that is no log is refused in one line."""

import contextlib
import os
import pathlib
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from test_describe import DAY, START, by_day, rows, write_csv, write_parquet

from diet_jax.base.errors import UserError
from diet_jax.base.loading import load_module
from diet_jax.commands import doors
from diet_jax.data.stream import open_stream
from diet_jax.describe import config_text, summary, survey
from diet_jax.report import describe_table
from diet_jax.report.describe import bars

REPO = pathlib.Path(__file__).resolve().parent.parent


def described(folder, **options):
    """(text of the config, what it returns)."""
    text = config_text(survey(str(folder), **options), 'configs/mine.py')
    names = {}
    exec(compile(text, 'mine.py', 'exec'), names)
    return text, names['get_config']()


def stream_of(config, workdir):
    return open_stream(config.data, workdir, emit=lambda line: None)


def test_the_written_config_gives_the_rows_of_the_log(tmp_path):
    log = rows()
    by_day(tmp_path / 'log', log, write_parquet, 'parquet')
    write_csv(tmp_path / 'log' / 'items.csv', {'item_id': range(500, 590), 'author': [i % 40 for i in range(90)]})
    doors.describe(tmp_path / 'log', tmp_path / 'configs' / 'mine.py')
    config = load_module(tmp_path / 'configs' / 'mine.py').get_config()
    stream = stream_of(config, tmp_path / 'run')
    assert [block.rows for block in stream.blocks] == np.bincount((log['ts'] - START) // DAY).tolist()
    assert sum(block.positives for block in stream.blocks) == log['click'].sum()
    assert [field.name for field in stream.fields] == ['user_id', 'item_id', 'author', 'tab', 'hour', 'weekday']
    ids = stream.load(0).ids[:, 1]
    order = np.argsort(log['ts'], kind='stable')[: len(ids)]
    np.testing.assert_array_equal(stream.values(ids).to_numpy(), log['item_id'][order])
    assert config.roles.to_dict() == dict(user='user_id', item='item_id', creator='author', context='tab')
    assert config.twins.other_rates == (4.0,)  # no one has tuned them to this log


def test_the_written_config_of_files_without_a_header_runs(tmp_path):
    log, folder = rows(days=3), tmp_path / 'log'
    folder.mkdir()
    lines = zip(
        log['user_id'], log['item_id'], np.where(log['click'], 5, log['tab'] % 2 * 2 + 1), log['ts'], strict=True
    )
    (folder / 'ratings.dat').write_text(''.join('::'.join(map(str, line)) + '\n' for line in lines))
    (folder / 'users.dat').write_text(''.join(f'{u}::{"FM"[u % 2]}::{u % 20:03d}\n' for u in range(60)))
    text, config = described(folder)
    stream = stream_of(config, tmp_path / 'run')
    assert sum(block.rows for block in stream.blocks) == len(log['ts']) and len(stream.blocks) == 12
    assert [field.name for field in stream.fields][:4] == ['user', 'item', 'user_c1', 'user_c2']
    zips = stream.values(stream.load(0).ids[:, 3]).to_pylist()
    first = log['user_id'][np.argsort(log['ts'], kind='stable')[: len(zips)]]
    assert zips == [f'{u % 20:03d}' for u in first]
    assert "data.csv.column_names = ('user', 'item', 'rating', 'timestamp')" in text


def test_the_written_config_of_clicks_draws_negatives(tmp_path):
    log = rows()
    del log['click']
    log['category'] = log['item_id'] % 7
    write_parquet(tmp_path / 'log' / 'clicks.parquet', log)
    text, config = described(tmp_path / 'log')
    stream = stream_of(config, tmp_path / 'run')
    later = int((log['ts'] >= START + DAY).sum())
    assert sum(block.positives for block in stream.blocks) == later
    assert sum(block.rows for block in stream.blocks) == 2 * later
    assert tuple(config.data.negatives.item_columns) == ('category',)


def test_a_label_in_words_is_one_label_in_every_file(tmp_path):
    """A file of true and false alone looks like flags, one with an unknown like words."""
    log = rows()
    log['click'] = np.where(log['click'], 'true', 'false').astype(object)
    log['click'][::100] = 'unknown'
    by_day(tmp_path / 'log', log, write_csv, 'csv')
    log = rows()
    text, config = described(tmp_path / 'log')
    stream = stream_of(config, tmp_path / 'run')
    assert "data.label.positive = ('true',)" in text
    expected = log['click'].sum() - log['click'][::100].sum()
    assert sum(block.positives for block in stream.blocks) == expected


def test_guesses_are_marked_and_reasons_given(tmp_path):
    log = rows()
    log['play_time'] = log['click'] * 9
    write_csv(tmp_path / 'log.csv', log)
    text, config = described(tmp_path)
    assert "    # ? 'play_time': outcome; named like what comes after, and tells the label\n" in text
    assert 'data.time.utc_offset_hours = 0.0  # ? UTC' in text and 'play_time' not in config.data.fields
    table = describe_table(summary(survey(str(tmp_path))))
    line = next(line for line in table.splitlines() if line.startswith(' play_time'))
    assert line.split()[1:5] == ['log', 'outcome', '?', '2']
    assert 'by day, 2024-03-01 to 2024-03-14:' in table and 'Train on the log.' in table
    assert 'rows' in table and 'click rate' in table and 'new users' in table


@pytest.mark.parametrize(('count', 'small'), [(100_000, True), (400_000, False)])
def test_a_small_log_is_told_so(tmp_path, count, small):
    """12 candidates, 6 rates, 3 seeds: 216 passes at 400,000 rows a second, against 96 s of compiling."""
    write_csv(tmp_path / 'log.csv', rows())
    found = survey(str(tmp_path))._replace(rows=count)
    said = summary(found)['said'][-1]
    assert f'would take about {216 * count / 400_000:.0f} s' in said
    assert said.endswith('Train on the log.') == small


def test_many_days_are_the_means_of_neighbours():
    assert bars([0.0] * 60 + [1.0] * 60) == '▁' * 30 + '█' * 30
    assert bars([2.0, 2.0]) == '▁▁' and bars([float('nan')]) == ' '


def _two_logs(folder):
    write_csv(folder / 'views.csv', rows())
    other = rows(seed=1)
    write_csv(folder / 'orders.csv', {'user_id': other['user_id'], 'sku': other['item_id'], 'ts': other['ts']})


def _one_day(folder):
    write_csv(folder / 'log.csv', rows(days=1, each=2000))


def _no_time(folder):
    write_csv(folder / 'log.csv', {**rows(), 'ts': rows()['ts'].astype(str).astype('<U4')})


def _no_click(folder):
    write_csv(folder / 'log.csv', rows() | {'click': rows()['tab'] * 0, 'is_new': rows()['tab'] % 2})


def _no_item(folder):
    log = rows()
    write_csv(
        folder / 'log.csv', {'user_id': log['user_id'], 'tab': log['tab'], 'ts': log['ts'], 'click': log['tab'] * 0 + 1}
    )


def _row_each(folder):
    write_csv(folder / 'log.csv', {**rows(), 'item_id': np.arange(len(rows()['ts']))})


def _empty(folder):
    folder.mkdir()


def _no_table(folder):
    folder.mkdir()
    (folder / 'notes.txt').write_text('only words\n')


REFUSED = [
    (_empty, 'holds no file: name the folder of the log files in --root'),
    (_no_table, 'holds no table (1 files: notes.txt): name a folder of Parquet or CSV files in --root'),
    (_no_time, "log.csv has no column that tells when a row was: 'ts' goes from 1709 to 1710; a time is whole s, ms"),
    (
        _two_logs,
        'holds two logs, orders.csv and views.csv, each with a time and columns of its own: say which with --log',
    ),
    (
        _one_day,
        "column 'ts': all rows but strays are of one day, 2024-03-01, and a block is a day: fetch more days, or cut",
    ),
    (
        _no_click,
        "log.csv: column 'click' is 0 in every row, so there is no click to learn from: fetch a log with clicks, or",
    ),
    (
        _row_each,
        "log.csv has a row for each 'item_id', as a table of users or items has: it is not taken for the log; where it",
    ),
    (
        _no_item,
        "log.csv: column 'click' is 1 in every row: every row is taken for a click, and a negative drawn for it; ",
    ),
]


@pytest.mark.parametrize(('make', 'said'), REFUSED, ids=lambda part: getattr(part, '__name__', ''))
def test_what_is_no_log_is_one_line_and_writes_nothing(tmp_path, make, said):
    make(tmp_path / 'log')
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(UserError) as error:
        doors.describe(tmp_path / 'log', tmp_path / 'configs' / 'mine.py')
    assert said in str(error.value) and '\n' not in str(error.value)
    assert sorted(tmp_path.rglob('*')) == before


def test_the_ways_out_of_refusals_lead_out(tmp_path):
    _two_logs(tmp_path / 'two')
    _, config = described(tmp_path / 'two', patterns=['orders.csv'])
    assert tuple(config.data.log) == ('orders.csv',) and config.data.negatives.item == 'sku'
    _, config = described(tmp_path / 'two', patterns=['views.csv'])
    assert sum(block.rows for block in stream_of(config, tmp_path / 'run').blocks) == len(rows()['ts'])
    _one_day(tmp_path / 'one')
    _, config = described(tmp_path / 'one', hours=1.0)
    assert len(stream_of(config, tmp_path / 'hours').blocks) == 24
    with pytest.raises(UserError, match='no file matches --log order.csv .did you mean'):
        survey(str(tmp_path / 'two'), ['order.csv'])
    log = rows()
    click = log.pop('click')
    write_csv(tmp_path / 'zero' / 'log.csv', log | {'is_like': click})  # `click`, 0 in every row, taken out
    assert described(tmp_path / 'zero')[1].data.label.column == 'is_like'
    _row_each(tmp_path / 'each')
    text, config = described(tmp_path / 'each', patterns=['log.csv'])
    assert config.data.fields == ('user_id', 'tab') and "# 'item_id': id; " in text and config.roles.item == ''
    write_csv(tmp_path / 'item' / 'log.csv', log)  # the item is named item_id
    assert described(tmp_path / 'item')[1].data.negatives.item == 'item_id'


def test_clicks_alone_with_a_label_that_is_always_1(tmp_path):
    log = rows() | {'click': np.ones(len(rows()['ts']), int)}
    write_csv(tmp_path / 'log' / 'log.csv', log)
    text, config = described(tmp_path / 'log')
    why = "column 'click' is 1 in every row: every row is taken for a click, and a negative drawn for it"
    assert f'    # ? {why}\n' in text and f'label: {why}' in summary(survey(str(tmp_path / 'log')))['said']
    assert "    # 'click': constant; always 1\n" in text
    assert (config.data.label.column, config.data.negatives.item) == ('', 'item_id')
    stream = stream_of(config, tmp_path / 'run')
    assert sum(block.positives for block in stream.blocks) == sum(log['ts'] >= START + DAY)


def in_classes(values):
    log = rows()
    kind = np.where(log['click'], np.where(log['tab'] == 0, 2, 1), 0)
    return {**log, 'click': np.array(values)[kind]}, kind


@pytest.mark.parametrize(
    ('values', 'threshold', 'positive', 'ones'),
    [
        ((0, 1, 2), 1.0, (), (1, 2)),
        ((-1.0, 0.5, 1.0), 0.5, (), (1, 2)),
        (('none', 'click', 'buy'), None, ('buy', 'click'), (1, 2)),
        (('bad', 'good', 'clicked'), None, ('clicked',), (2,)),
        (('cold', 'warm', 'hot'), None, ('hot',), (2,)),  # nothing tells: the rarest
    ],
    ids=str,
)
def test_labels_in_three_classes(tmp_path, values, threshold, positive, ones):
    log, kind = in_classes(values)
    write_csv(tmp_path / 'log' / 'log.csv', log)
    text, config = described(tmp_path / 'log')
    assert (config.data.label.threshold, tuple(config.data.label.positive)) == (threshold, positive)
    stream = stream_of(config, tmp_path / 'run')
    assert sum(block.positives for block in stream.blocks) == np.isin(kind, ones).sum()
    line = next(line for line in text.splitlines() if ' is a 1' in line)
    assert line.startswith('    # ? ') and ('by being the rarest' in line) == (positive == ('hot',))


def test_what_types_of_parquet_are_called_is_what_preparation_reads(tmp_path):
    log, half = rows(), len(rows()['ts']) // 2
    odd = {
        'packed': pa.array(['a', 'b'] * half).dictionary_encode(),
        'money': pa.array([Decimal('1.50'), Decimal('2.00')] * half),
        'whole': pa.array([Decimal('1'), Decimal('2')] * half),
        'bytes': pa.array([b'x', b'y'] * half),
        'large': pa.array([2**63 + 1, 5] * half, pa.uint64()),
        'partly': pa.array([1.0, None] * half),
        'lost': pa.array([2.0**60, 2.0**61] * half),
        'record': pa.array([{'a': 1}] * 2 * half),
    }
    write_parquet(tmp_path / 'log' / 'log.parquet', log | odd)
    _, config = described(tmp_path / 'log')
    found = {c.name: (c.kind, guess.taken) for c, guess in survey(str(tmp_path / 'log')).columns if c.name in odd}
    assert found == {
        'packed': ('text', 'field'),
        'money': ('float', 'numeric'),
        'whole': ('int', 'field'),
        'bytes': ('text', 'field'),
        'large': ('text', 'field'),
        'partly': ('int', 'field'),
        'lost': ('inexact', 'inexact'),
        'record': ('nested', 'nested'),
    }
    stream = stream_of(config, tmp_path / 'run')
    read = {field.name: stream.values(stream.load(0).ids[:, i]).type for i, field in enumerate(stream.fields)}
    kinds = {'int': pa.int64(), 'text': pa.string()}
    assert {name: read[name] for name in found if found[name][1] == 'field'} == {
        name: kinds[kind] for name, (kind, of) in found.items() if of == 'field'
    }


@pytest.mark.parametrize('kind', ['number', 'text'])
def test_the_number_of_a_row_is_no_field_whatever_its_name(tmp_path, kind):
    log = rows()
    n = len(log['ts'])
    number = np.random.default_rng(5).permutation(n) + 10_000
    log['video_id'] = number if kind == 'number' else np.array([f'v{i}' for i in number])
    write_csv(tmp_path / 'log.csv', log)
    text, config = described(tmp_path)
    assert f"    # 'video_id': id; {n} values in {n} rows: a value of its own in every row\n" in text
    assert config.data.fields == ('user_id', 'item_id', 'tab') and config.roles.item == 'item_id'
    line = next(x for x in describe_table(summary(survey(str(tmp_path)))).splitlines() if x.startswith(' video_id'))
    assert line.split()[1:3] == ['log', 'id']


def test_a_config_that_is_there_is_kept(tmp_path):
    write_csv(tmp_path / 'log' / 'log.csv', rows())
    out = tmp_path / 'mine.py'
    out.write_text('mine')
    with pytest.raises(UserError, match='mine.py is there: name another file in --out, or add --overwrite'):
        doors.describe(tmp_path / 'log', out)
    assert out.read_text() == 'mine'
    doors.describe(tmp_path / 'log', out, overwrite=True)
    assert load_module(out).get_config().data.label.column == 'click'
    with pytest.raises(UserError, match='a config is a Python file: name it .*mine.txt.py'):
        doors.describe(tmp_path / 'log', tmp_path / 'mine.txt')


def test_the_command_as_a_user_runs_it(tmp_path):
    write_csv(tmp_path / 'log' / 'log.csv', rows())
    command = [sys.executable, str(REPO / 'scripts' / 'describe.py'), '--root=log', '--out=configs/mine.py']
    path = os.pathsep.join([str(REPO), *filter(None, [os.environ.get('PYTHONPATH')])])
    run = dict(cwd=tmp_path, env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True)
    done = subprocess.run(command, **run)
    assert (done.returncode, done.stderr) == (0, ''), done.stderr
    assert done.stdout.endswith('next: python scripts/distill.py --config=configs/mine.py --workdir=runs/mine\n')
    config = load_module(tmp_path / 'configs' / 'mine.py').get_config()
    assert config.data.root == str(tmp_path / 'log')
    again = subprocess.run(command, **run)
    assert (again.returncode, again.stdout) == (2, '')
    assert again.stderr == 'error: configs/mine.py is there: name another file in --out, or add --overwrite\n'


def _need(root, name):
    if not (root / name).is_dir():
        pytest.skip(f'no {name} in {root}')
    return root / name


def _ours(name):
    with contextlib.chdir(REPO):
        return load_module(REPO / 'configs' / f'{name}.py').get_config()


# What is taste in configs/, by key of `config.data`; all else must be the same.
def _compared(found, ours, keys):
    for config in (found, ours):
        config.data.time.utc_offset_hours = (
            config.data.time.utc_offset_hours or 0.0
        )  # numbers have no zone of their own
    for key in keys:
        assert _plain(found.data[key]) == _plain(ours.data[key]), key
    return set(found.data.fields) ^ set(ours.data.fields)


def _plain(value):
    return value.to_dict() if hasattr(value, 'to_dict') else list(value) if isinstance(value, (tuple, list)) else value


def test_kuairand_comes_to_the_config_of_the_library(data_root):
    _, found = described(_need(data_root, 'kuairand'))
    ours = _ours('kuairand')
    odd = _compared(found, ours, ('time', 'label', 'time_fields', 'group', 'negatives'))
    assert odd == {'is_lowactive_period', *(f'onehot_feat{i}' for i in range(10, 18))}
    assert found.roles == ours.roles
    assert set(found.data.numeric) == {'duration_ms', 'video_duration', 'server_width', 'server_height'}
    assert {t['path']: t['key'] for t in found.data.side_tables} == {t['path']: t['key'] for t in ours.data.side_tables}
    assert (found.data.block.by, found.data.block.hours, found.data.since) == ('period', 24.0, '2022-04-25')


def test_movielens_comes_to_the_config_of_the_library(data_root):
    _, found = described(_need(data_root, 'movielens-1m-half'))
    ours = _ours('movielens')
    _compared(found, ours, ('time', 'block', 'time_fields', 'group'))
    assert found.data.label.to_dict() == ours.data.label.to_dict() and found.data.csv.delimiter == '::'
    fields = ('user', 'item', 'movie_c2', 'user_c1', 'user_c2', 'user_c3', 'user_c4')  # genres, ..., zip
    assert found.data.fields == fields and found.data.first_value.to_dict() == {}
    assert {t['path']: t['key'] for t in found.data.side_tables} == {'users.dat': 'user', 'movies.dat': 'item'}
    assert found.roles.creator == 'movie_c2'


def test_globo_comes_to_the_config_of_the_library(data_root):
    _, found = described(_need(data_root, 'globo'))
    ours = _ours('globo')
    assert _compared(found, ours, ('label', 'block', 'time_fields', 'group', 'negatives')) == set()
    assert (found.data.time.column, found.data.time.unit) == ('click_timestamp', 'ms')
    assert (found.roles.user, found.roles.context) == (ours.roles.user, ours.roles.context)


def test_taobao_comes_to_the_config_of_the_library(data_root):
    _, found = described(_need(data_root, 'taobao'))
    ours = _ours('taobao')
    assert _compared(found, ours, ('time_fields', 'group', 'negatives', 'numeric')) == set()
    assert set(found.data.label.positive) == set(ours.data.label.positive) and found.roles == ours.roles
    assert (found.data.time.column, found.data.time.unit, found.data.block.hours) == ('timestamp', 's', 12.0)


def test_what_a_log_could_have_besides_runs_when_the_marks_are_taken_away(tmp_path):
    log, rng = rows(), np.random.default_rng(3)
    log |= {'is_like': rng.integers(0, 2, len(log['ts'])), 'is_hate': np.arange(len(log['ts'])) == 7}
    by_day(tmp_path / 'log', log, write_parquet, 'parquet')
    text, before = described(tmp_path / 'log')
    assert not before.data.histories and not before.data.label.others and 'is_hate=' not in text  # a rare one
    head, line, rest = text.partition('    # What a user did before')
    bare = '\n'.join(x.replace('    # ', '    ', 1) if '# ' in x and 'docs/' not in x else x for x in rest.split('\n'))
    names = {}
    exec(compile(head + line + bare, 'mine.py', 'exec'), names)
    stream = stream_of(names['get_config'](), tmp_path / 'run')
    assert stream.outcome_names == ('click', 'like')
    assert [name for name in stream.layout.names if name.startswith(('clicked', 'skipped'))]


def test_a_log_of_clicks_has_no_skips_and_one_without_users_no_histories(tmp_path):
    log = rows()
    del log['click']
    by_day(tmp_path / 'log', log, write_parquet, 'parquet')
    text, _ = described(tmp_path / 'log')
    assert '#     clicked=dict(' in text and 'skipped' not in text and 'data.label.others' not in text
