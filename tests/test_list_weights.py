"""What the values of a list weigh, from the log's column to the mean that a model sees and back out of the memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from ml_collections import ConfigDict
from quirky import DAYS, ROWS, bytes_of, csv, data_of, days, parquet, refused
from test_lists import flat, lists_of_days, read

from diet_jax import elsewhere, models
from diet_jax.artifact.read import load_memory
from diet_jax.base.errors import UserError
from diet_jax.base.layout import PAD, Layout, packed, unpacked
from diet_jax.config.data import check_data, data_digest
from diet_jax.data.stream import open_stream
from diet_jax.distillation.codebook import shares
from diet_jax.distillation.memory import coded
from diet_jax.distillation.state import Rows
from diet_jax.models import behaviour
from diet_jax.models.lists import by_field, events
from diet_jax.run.run import Run
from diet_jax.study.export import export
from diet_jax.trials.rows import compact

LAYOUT = Layout(('item', 'genres', 'seen'), (1, 3, 2), (0, 1, 0), ('', 'genres', 'seen'), (1,))
IDS = np.concatenate(
    [
        np.array([[4, PAD, 7, 9, 2, 4], [5, PAD, PAD, PAD, PAD, 1], [6, 7, 7, 8, PAD, PAD]]),
        np.stack([np.array([PAD, *packed([0.5, 1.5])]), np.full(3, PAD), packed([1.0, 0.0, 3.0])]),
    ],
    1,
).astype(np.int32)
WEIGHT = np.array([[0, 0.5, 1.5], [0, 0, 0], [1, 0, 3]])


def weighted(lists, seed=5) -> list[dict]:
    """The same days, with `scores` beside `genres`: one in five is 0."""
    rng = np.random.default_rng(seed)
    drawn = lambda row: np.where(rng.random(len(row)) < 0.2, 0, rng.integers(1, 9, len(row)) / 4).tolist()  # noqa: E731
    return [day | {'scores': [drawn(row) for row in day['genres']]} for day in lists]


def logged(root, lists, how='parquet', of=range(DAYS), **options):
    """A log of lists with weights, and the config that reads it."""
    for d in of:
        if how == 'parquet':
            parquet(root, d, days()[d] | {'genres': lists[d]['genres'], 'scores': lists[d]['scores']})
        else:
            cells = {name: ['|'.join(map(str, x)) for x in lists[d][name]] for name in ('genres', 'scores')}
            csv(root, d, days()[d] | cells)
    data = data_of(root)
    data.lists = {'genres': dict(separator='' if how == 'parquet' else '|', weights='scores', **options)}
    return data


def weights_of(stream) -> list[list]:
    at = stream.layout.weights_at(stream.layout.names.index('genres'))
    rows = [row for t in range(len(stream.blocks)) for row in stream.load(t).ids[:, at]]
    return [unpacked(row[row != PAD]).tolist() for row in rows]


def meant(lists, most=20, last=True):
    """Values and weights of every row: what weighs nothing is not there, then the list is cut."""
    both = zip(flat(lists, 'genres'), flat(lists, 'scores'), strict=True)
    pairs = [[p for p in zip(values, scores, strict=True) if p[1] > 0] for values, scores in both]
    cut = [row[-most:] if last else row[:most] for row in pairs]
    return [[v for v, _ in row] for row in cut], [[w for _, w in row] for row in cut]


@pytest.mark.parametrize('how', ['parquet', 'separated'])
@pytest.mark.parametrize('options', [{}, dict(max_len=2), dict(max_len=2, keep='first')])
def test_rows_have_the_values_and_what_they_weigh(tmp_path, how, options):
    lists = weighted(lists_of_days())
    stream = open_stream(logged(tmp_path / 'log', lists, how, **options), tmp_path / 'w', lambda line: None)
    values, scores = meant(lists, options.get('max_len', 20), 'keep' not in options)
    assert (read(stream, 'genres'), weights_of(stream)) == (values, scores)
    assert stream.layout.columns == 4 + 2 * options.get('max_len', 20)


def test_a_second_day_gives_what_all_at_once_gives(tmp_path):
    lists = weighted(lists_of_days())
    logged(tmp_path / 'log', lists, of=range(2))
    open_stream(logged(tmp_path / 'log', lists, of=range(2)), tmp_path / 'w', lambda line: None)
    data = logged(tmp_path / 'log', lists)
    open_stream(data, tmp_path / 'w', lambda line: None)
    open_stream(data, tmp_path / 'once', lambda line: None)
    assert bytes_of(tmp_path / 'w') == bytes_of(tmp_path / 'once')
    row = next(i for i, x in enumerate(lists[0]['scores']) if any(x))
    lists[0]['scores'][row] = [x + 1 for x in lists[0]['scores'][row]]
    with pytest.raises(UserError, match='50 rows when prepared, now 50, or other values'):
        open_stream(logged(tmp_path / 'log', lists), tmp_path / 'w', lambda line: None)


def test_a_second_day_without_either_has_empty_lists(tmp_path):
    lists = weighted(lists_of_days())
    data = logged(tmp_path / 'log', lists, of=range(3))
    open_stream(data, tmp_path / 'w', lambda line: None)
    parquet(tmp_path / 'log', 3, days()[3])
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    open_stream(data, tmp_path / 'once', lambda line: None)
    assert bytes_of(tmp_path / 'w') == bytes_of(tmp_path / 'once')
    assert weights_of(stream)[-ROWS:] == [[]] * ROWS and any(weights_of(stream)[:ROWS])


def test_weights_in_text_are_numbers_as_the_file_writes_them(tmp_path):
    for d in range(DAYS):
        csv(
            tmp_path / 'log',
            d,
            days()[d] | {'genres': ['War|Drama'] * ROWS, 'scores': ['900|1.000,5'] * ROWS},
            delimiter=';',
        )
    data = data_of(tmp_path / 'log')
    data.csv.delimiter, data.csv.decimal_point, data.csv.thousands = ';', ',', '.'
    data.fields, data.numeric = ('user', 'item'), {}
    data.lists = {'genres': dict(separator='|', weights='scores')}
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert weights_of(stream)[0] == [900.0, 1000.5]


def test_a_side_table_may_bring_both(tmp_path):
    for d in range(DAYS):
        parquet(tmp_path / 'log', d, days()[d])
    items = sorted({item for day in days() for item in day['item']})
    genres = [['War', 'Drama'][: i % 3] for i in range(len(items))]
    scores = [[0.25, 0.75][: i % 3] for i in range(len(items))]
    pq.write_table(pa.table({'item': items, 'genres': genres, 'scores': scores}), tmp_path / 'log' / 'items.parquet')
    data = data_of(tmp_path / 'log')
    data.lists, data.side_tables = {'genres': dict(weights='scores')}, (dict(path='items.parquet', key='item'),)
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    order = [items.index(item) for day in days() for item in day['item']]
    assert read(stream, 'genres') == [genres[i] for i in order] and weights_of(stream) == [scores[i] for i in order]


def test_a_log_without_weights_has_the_cache_of_before(tmp_path):
    data = logged(tmp_path / 'log', weighted(lists_of_days()))
    with_, without = check_data(data), check_data(data.copy_and_resolve_references())
    without['lists']['genres']['weights'] = ''
    before = check_data(data)
    before['lists']['genres']['weights'] = ''
    assert data_digest(without) == data_digest(before) != data_digest(with_)
    assert 'weights' in before['lists']['genres'], 'what is given stays as it is'


def of(row=None, **options):
    """A change to the first day's first list of two, and to its config."""
    return row, options


@pytest.mark.parametrize(
    'change, message',
    [
        (of([0.5]), "day0.parquet: column 'scores' has 1 weights for the 2 values of a list in day0.parquet: column"),
        (of([0.5, -1.0]), "column 'scores' holds -1, which no value can weigh: write 0, or from 1e-30 to 1e+30"),
        (of([0.5, 1e-40]), "column 'scores' holds 1e-40, which no value can weigh"),
        (of([0.5, 2e38]), "column 'scores' holds 2e+38, which no value can weigh"),
        (of(weights='plain'), "column 'plain' holds '0.5|1.0', text and no list: write weights as 'genres' is written"),
        (
            of(weights='single'),
            "'single' is of type double, and no list beside 'genres': correct data.lists.genres.wei",
        ),
        (of([0.5, float('inf')]), "column 'scores' holds inf, which no value can weigh"),
        (of([0.5, None]), "column 'scores' does not say what a value of day0.parquet: column 'genres' weighs: fill it"),
        (of(weights='score'), "has no column 'score' (did you mean 'scores'?): correct config.data"),
        (of(weights='item'), "data.lists.genres.weights is 'item', which is a field: take it out of there"),
        (of(weights='y'), "'y' is in data.lists and is data.label.column"),
        (of(weights='x__code'), "'x__code' of data.lists.genres.weights is the name of a column that a memory has"),
        (of(weights=3), 'data.lists.genres.weights is 3: it must be the column that says what'),
        (of(weights='city'), "data.lists.genres.weights is 'city', which is a field"),
        (of(weights='words'), "day0.parquet: column 'words'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(tmp_path, change, message):
    lists, (row, options) = weighted(lists_of_days()), change
    lists[0]['genres'][0] = ['War', 'Drama']
    lists[0]['scores'][0] = row or [1.0, 1.0]
    data = logged(tmp_path / 'log', lists)
    for d in range(DAYS):
        path = tmp_path / 'log' / f'day{d}.parquet'
        table = pq.read_table(path).append_column('words', pa.array([['a']] * ROWS))
        table = table.append_column('plain', pa.array(['0.5|1.0'] * ROWS))
        pq.write_table(table.append_column('single', pa.array([0.5] * ROWS)), path)
    data.lists = {'genres': dict(weights='scores') | options}
    refused(data.to_dict(), tmp_path / 'w', message)
    assert not list((tmp_path / 'w').rglob('*.parquet'))


def test_two_lists_do_not_share_weights(tmp_path):
    data = logged(tmp_path / 'log', weighted(lists_of_days()))
    data.lists = {'genres': dict(weights='scores'), 'others': dict(weights='scores')}
    refused(data.to_dict(), tmp_path / 'w', "data.lists names 'scores' as the weights of two lists")


def test_the_mean_is_by_weight_and_has_the_derivative_of_one():
    table = jnp.asarray(np.random.default_rng(0).normal(size=(12, 3)), jnp.float32)

    def means(table, ids):
        return by_field(LAYOUT, None, table[ids], ids)

    by_hand = [(WEIGHT[b] @ np.asarray(table)[IDS[b, 1:4]]) / max(WEIGHT[b].sum(), 1e-9) for b in range(3)]
    np.testing.assert_allclose(means(table, IDS)[:, 1], by_hand, rtol=1e-6)
    got = jax.jacobian(lambda table: means(table, IDS)[:, 1].sum(-1))(table)[0, :, 0]
    np.testing.assert_allclose(got, np.bincount(IDS[0, 2:4], WEIGHT[0, 1:] / 2, 12), rtol=1e-6)
    ones = np.where(WEIGHT > 0, packed(np.ones((3, 3))), PAD)
    same = means(table, np.concatenate([IDS[:, :6], ones], 1))
    plain = Layout(*LAYOUT[:4])
    ids = np.where(np.pad(WEIGHT == 0, ((0, 0), (1, 2))), PAD, IDS[:, :6])
    np.testing.assert_array_equal(same[:, 1], by_field(plain, None, table[ids], ids)[:, 1])


def test_events_say_what_they_weigh():
    rows = jnp.zeros((3, LAYOUT.columns, 3))
    found = events(LAYOUT, None, rows, jnp.asarray(IDS))
    assert found['genres'].weight.tolist() == WEIGHT.tolist()
    assert found['seen'].weight.tolist() == found['seen'].mask.astype(float).tolist()
    last = behaviour._last(found['genres'], 2)
    assert last.weight.tolist() == WEIGHT[:, 1:].tolist() and last.values.shape == (3, 2, 2)


def test_weights_are_no_ids_wherever_ids_go():
    rows = Rows(jnp.asarray(IDS), np.zeros(3), np.array([1.0, 2.0, 1.0]), np.zeros(3, bool))
    share = np.asarray(shares(LAYOUT, rows))
    assert share[0].tolist() == [1, 0, 0.25, 0.75, 0.5, 0.5, 0, 0, 0] and share[1, 1:4].sum() == 0
    assert share[2, 1:4].tolist() == [0.25, 0, 0.75]
    slots, ids = compact(IDS)
    assert slots.tolist() == [1, 2, 4, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(ids[:, 6:], IDS[:, 6:])
    np.testing.assert_array_equal(coded(jnp.arange(12) // 2, jnp.asarray(IDS))[:, 6:], IDS[:, 6:])


@pytest.mark.parametrize('value', [0.0, 1e-30, 0.1, 1.0, 3.4e38])
def test_a_weight_among_ids_is_the_weight(value):
    number = packed(value)
    assert number < PAD and unpacked(number) == np.float32(value)
    assert packed(-0.0) == packed(0.0)


def config(root) -> ConfigDict:
    c = tiny.get_config()
    c.data = logged(root, weighted(lists_of_days()))
    c.data.fields, c.data.numeric, c.data.group = ('user', 'item'), {}, 'user'
    c.roles = ConfigDict(dict(user='user', item='item', creator='', context=''))
    c.reference.model, c.twins.models = 'fm', (dict(name='lr', model='lr', dim=1, learning_rate=1e-2),)
    c.memory.row_budget = 0.2
    c.evaluate.candidates = ('fm',)
    return c


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp('weights')
    c = config(root / 'log')
    tiny.distill(root / 'run', c)
    return Run(c, root / 'run', lambda line: None)


def test_entries_keep_what_the_values_of_their_lists_weigh(run):
    memory = load_memory(run.workdir / 'memory')
    assert memory.rows.schema.field('scores').type == pa.list_(pa.float32())
    assert memory.lists[0].weights == 'scores' and memory.list_weights['genres'].shape == (len(memory.codes), 20)
    slots = memory.slots(run.stream)
    np.testing.assert_array_equal(slots, np.asarray(run.state.memory.ids)[: len(slots)])
    code = memory.code_of_slots(run.stream)
    np.testing.assert_array_equal(memory.table_rows, np.where(slots < 0, slots, code[np.maximum(slots, 0)]))
    rows = set(zip(map(tuple, read(run.stream, 'genres')), map(tuple, weights_of(run.stream)), strict=True))
    ours = zip(memory.values['genres'].to_pylist(), memory.rows['scores'].to_pylist(), strict=True)
    assert {(tuple(v), tuple(w)) for v, w in ours} <= rows and (memory.list_weights['genres'] > 0).any()


def test_rows_of_the_log_are_encoded_with_them(run):
    memory, table = load_memory(run.workdir / 'memory'), pq.read_table(run.config.data.root + '/day3.parquet')
    found, block = memory.encode(table), run.stream.load(3)
    np.testing.assert_array_equal(found.list_weights['genres'], unpacked(block.ids[:, run.layout.weights_at(2)]))
    np.testing.assert_array_equal(found.list_codes['genres'] == PAD, block.ids[:, run.layout.at(2)] == PAD)
    with pytest.raises(UserError, match="the table has no column 'scores' .* add it, a list of weights a row"):
        memory.encode(table.drop_columns('scores'))


def test_an_export_has_them(run, tmp_path):
    opened = elsewhere.open_export(export(run.workdir / 'history' / '00002', tmp_path / 'to', emit=lambda line: None))
    rows, memory = opened.rows('codes', 'train'), load_memory(run.workdir / 'history' / '00002')
    np.testing.assert_array_equal(rows.list_weights['genres'], memory.list_weights['genres'])
    np.testing.assert_array_equal(rows.list_weights['genres'] > 0, rows.masks['genres'])
    assert opened.views['codes'].lists[0].weights == 'scores'
    np.testing.assert_array_equal(rows.take([2, 0]).list_weights['genres'], rows.list_weights['genres'][[2, 0]])


def test_a_student_learns_by_weight():
    """A label that only the weights tell: the value that weighs most says it."""
    rng = np.random.default_rng(0)
    high = rng.random(400) < 0.5
    weight = np.where(high[:, None], [[3.0, 1.0]], [[1.0, 3.0]])
    ids = np.concatenate([np.zeros((400, 1)), np.full((400, 2), [1, 2]), packed(weight)], 1).astype(np.int32)
    layout = Layout(('item', 'genres'), (1, 2), (0, 1), ('', 'genres'), (1,))
    model = models.build('lr', dim=1, layout=layout)
    params = model.init(jax.random.key(0), 3, layout.columns)
    loss = lambda p: jnp.mean(jnp.logaddexp(0, jnp.where(high, -1, 1) * model.apply(p, ids)))  # noqa: E731
    for _ in range(200):
        params = jax.tree.map(lambda x, g: x - 2.0 * g, params, jax.grad(loss)(params))
    assert (np.asarray(model.apply(params, ids) > 0) == high).all()
