"""Lazy Adam is Adam, progressive validation looks before it learns, padding teaches nothing, epochs visit every row."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from core import CAPACITY, DEEP, FIELDS, SLOTS, assert_near, assert_same, clicks, tiny_model

from diet_jax.models.recipes import DEFAULT, Recipe
from diet_jax.training import students
from diet_jax.training.batches import Batches
from diet_jax.training.losses import row_losses
from diet_jax.training.passes import init_stream, predict, settled, stream_pass, stream_step
from diet_jax.training.students import StudentData, init_student, student_epochs, train_students

LR = 0.05
step = jax.jit(lambda state, ids, label, weight: stream_step(DEEP, state, ids, label, weight, LR))
one_pass = jax.jit(lambda state, batches: stream_pass(DEEP, state, batches, LR))


def started(seed=0, capacity=CAPACITY):
    return init_stream(DEEP, jax.random.key(seed), capacity, FIELDS)


def in_batches(rows, steps=6, size=16, fill=0):
    """`rows` rows of the log in batches of 16, padded to 6 batches; `fill` seeds what the padding holds."""
    ids, label, _ = clicks(steps * size, seed=3)
    junk, junk_label, _ = clicks(steps * size, seed=100 + fill)
    live = np.arange(steps * size) < rows
    ids, label = np.where(live[:, None], ids, junk), np.where(live, label, junk_label)
    lay = lambda x: jnp.asarray(x).reshape(steps, size, *x.shape[1:])  # noqa: E731
    held = lay(np.zeros(steps * size, bool))
    return Batches(lay(ids), lay(label), lay(live.astype(np.float32)), held, jnp.int32(-(-rows // size)))


def test_lazy_adam_is_optax_adam_where_every_row_is_touched():
    slots, rows, steps = 12, 16, 6
    rng = np.random.default_rng(0)
    owner = np.arange(FIELDS) * (slots // FIELDS)
    # Every batch touches all 12 slots: three full turns of each field, then repeats drawn at random.
    turn = np.concatenate([np.tile(np.arange(3), 4), rng.integers(0, 3, 4)])
    state = started(capacity=slots)
    dense, adam = state.params, optax.adam(LR, 0.9, 0.999, 1e-8)
    moments = adam.init(dense)

    @jax.jit
    def dense_step(params, moments, ids, label):
        loss = lambda p: jnp.mean(row_losses(DEEP.apply(p, ids), label))  # noqa: E731
        update, moments = adam.update(jax.grad(loss)(params), moments)
        return optax.apply_updates(params, update), moments

    for _ in range(steps):
        ids = jnp.asarray(np.stack([rng.permutation(turn) for _ in range(FIELDS)], 1) + owner)
        label = jnp.asarray(rng.integers(0, 2, rows).astype(np.float32))
        state, _ = step(state, ids, label, jnp.ones(rows))
        dense, moments = dense_step(dense, moments, ids, label)
    assert_near(state.params, dense, 1e-5)
    assert_near(state.mu, moments[0].mu['table'], 1e-6)
    assert_near(state.nu, moments[0].nu['table'], 1e-6)


def test_occurrences_of_an_id_in_a_batch_are_summed():
    state, rows = started(), 16
    ids, label, _ = clicks(rows, seed=1)
    ids[:, 0] = 2  # one slot, 16 times; a first-order weight's gradient is the sum of (p - y) / n
    after, logits = step(state, ids, label, jnp.ones(rows))
    error = (jax.nn.sigmoid(logits) - label) / rows
    expected = np.zeros(SLOTS)
    np.add.at(expected, ids.reshape(-1), np.repeat(error, FIELDS))
    np.testing.assert_allclose(after.mu[:SLOTS, 0], 0.1 * expected, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(after.nu[:SLOTS, 0], 0.001 * expected**2, rtol=1e-3, atol=1e-12)


def test_a_row_of_the_table_that_no_batch_holds_stays_bit_for_bit():
    before = started()
    batches = in_batches(40)
    touched = np.unique(np.asarray(batches.ids)[np.asarray(batches.weight) > 0])
    untouched = np.setdiff1d(np.arange(CAPACITY), touched)
    assert 5 < len(untouched) < CAPACITY
    after, _ = one_pass(before, batches)
    same = lambda state: (state.params['table'][untouched], state.mu[untouched], state.nu[untouched])  # noqa: E731
    assert_same(same(before), same(after))
    assert (np.asarray(after.params['table'][touched]) != np.asarray(before.params['table'][touched])).any(1).all()


def test_what_the_padding_holds_and_how_much_there_is_changes_nothing():
    for rows in (40, 48):  # a last batch that is part padding, and one that is full
        batches = in_batches(rows)
        state, logits = one_pass(started(), batches)
        assert_same((state, logits), one_pass(started(), in_batches(rows, fill=1)))
        more = {k: jnp.concatenate([x, x[-3:]]) for k, x in batches._asdict().items() if k not in ('steps', 'others')}
        longer, more_logits = one_pass(started(), batches._replace(**more))
        assert_same((state, logits), (longer, more_logits[:6]))
        assert not np.asarray(more_logits[6:]).any()


def test_progressive_logits_come_from_the_model_before_it_saw_the_row():
    state, batches = started(), in_batches(40)
    _, logits = one_pass(state, batches)
    apply = jax.jit(DEEP.apply)
    for i in range(3):
        live = np.asarray(batches.weight[i]) > 0
        np.testing.assert_allclose(logits[i][live], apply(state.params, batches.ids[i])[live], rtol=1e-5, atol=1e-6)
        state, _ = step(state, batches.ids[i], batches.label[i], batches.weight[i])
        state = settled(DEFAULT, state, LR)  # to be looked at whole
    assert not np.asarray(logits)[np.asarray(batches.weight) == 0].any()  # "0 in padding"


def test_training_along_the_stream_learns_the_planted_clicks():
    ids, label, _ = clicks(96 * 16, seed=5)
    state = started()
    for chunk in range(16):
        part = slice(chunk * 96, (chunk + 1) * 96)
        lay = lambda x: jnp.asarray(x[part]).reshape(6, 16, *x.shape[1:])  # noqa: E731, B023
        held = jnp.zeros((6, 16), bool)
        state, _ = one_pass(state, Batches(lay(ids), lay(label), jnp.ones((6, 16)), held, jnp.int32(6)))
    fresh_ids, fresh_label, truth = clicks(500, seed=6)
    loss = lambda logits: float(jnp.mean(row_losses(logits, fresh_label)))  # noqa: E731
    start, end, best = loss(jnp.zeros(500)), loss(DEEP.apply(state.params, fresh_ids)), loss(truth)
    assert best < end < best + 0.4 * (start - best)


@pytest.mark.parametrize('chunk', [1, 7, 20, 50])
def test_the_chunk_does_not_change_predictions(chunk):
    params = started().params
    ids, _, _ = clicks(20, seed=2)
    assert_near(predict(DEEP, params, ids, chunk), DEEP.apply(params, ids), 1e-6)


FM, ROWS = tiny_model('fm'), 21
KEYS, RATES = jax.random.split(jax.random.key(1), 3), jnp.array([0.01, 0.1])


def memory_rows(capacity=24, fill=0):
    """21 weighted rows with soft labels; `fill` seeds what the padding holds."""
    ids, _, logit = clicks(ROWS, seed=8)
    junk, _, noise = clicks(capacity, seed=50 + fill)
    target = jax.nn.sigmoid(jnp.concatenate([logit, noise[ROWS:]]))
    weight = jnp.concatenate([jnp.linspace(0.5, 1.5, ROWS), jnp.full(capacity - ROWS, 7.0)])
    return StudentData(jnp.concatenate([ids, junk[ROWS:]]), target, weight, jnp.int32(ROWS))


@pytest.fixture(scope='module')
def grid():
    return train_students(FM, SLOTS, batch=8, epochs=(2, 5))


@pytest.fixture(scope='module')
def trained(grid):
    return grid(memory_rows(), KEYS, RATES)


def test_an_epoch_visits_every_valid_row_once_with_its_weight(monkeypatch):
    data = memory_rows()._replace(ids=jnp.arange(24)[:, None])  # so that a row is told by its id

    def visit(model, state, ids, target, weight, lr, *, dropout_key, recipe):
        return state.at[ids[:, 0]].add(weight)

    monkeypatch.setattr(students, 'inner_step', visit)
    for epochs in (1, 3):
        visits = student_epochs(FM, jnp.zeros(24), data, jax.random.key(0), 0.1, epochs, batch=8)
        np.testing.assert_allclose(visits[:ROWS], epochs * data.weight[:ROWS], rtol=1e-6)
        assert not np.asarray(visits[ROWS:]).any()


def test_a_student_of_the_grid_is_the_student_trained_alone(trained):
    init, order = jax.random.split(KEYS[2])
    alone = init_student(FM, init, SLOTS, FIELDS)
    train = jax.jit(lambda state, key, epochs: student_epochs(FM, state, memory_rows(), key, RATES[1], epochs, batch=8))
    for index, epochs in enumerate((2, 3)):  # kept after 2 and after 5
        alone = train(alone, jax.random.fold_in(order, index), epochs)
        assert_near(jax.tree.map(lambda x, index=index: x[index, 1, 2], trained), alone.params, 1e-4)


def test_lazy_students_are_dense_ones_where_every_row_is_touched(trained):
    """One slot a field, so that every batch touches all: the two ways differ in what they leave alone only.

    First-order weights: gradients of the embeddings are so small here that `eps_root` of the dense way shows.
    """
    data = memory_rows()
    data = data._replace(ids=jnp.zeros_like(data.ids) + jnp.arange(FIELDS), weight=jnp.ones(24))
    key, starts = jax.random.key(4), (init_student, init_stream)
    dense, lazy = (
        student_epochs(FM, start(FM, jax.random.key(2), FIELDS, FIELDS), data, key, 1e-2, 1, batch=8).params
        for start in starts
    )
    assert_near(dense['table'][:, 0], lazy['table'][:, 0], 1e-3)


def test_a_lazy_student_leaves_untouched_rows_alone():
    start = init_stream(FM, jax.random.key(2), SLOTS + 3, FIELDS)
    end = student_epochs(
        FM, start, memory_rows(), jax.random.key(4), RATES[1], 2, batch=8, recipe=Recipe('lazy_adam', weight_decay=0.1)
    ).params
    touched = np.unique(np.asarray(memory_rows().ids)[:ROWS])
    moved = np.any(np.asarray(start.params['table']) != np.asarray(end['table']), axis=1)
    assert set(np.flatnonzero(moved)) <= set(touched) and moved.sum() >= len(touched) - 1


def test_seeds_learning_rates_and_epochs_give_different_students(trained):
    tables = np.asarray(trained['table']).reshape(12, -1)
    assert len(np.unique(tables.round(5), axis=0)) == 12


def test_students_do_not_see_the_padding(grid, trained):
    assert_same(trained, grid(memory_rows(fill=1), KEYS, RATES))
    assert_same(trained, grid(memory_rows(capacity=40), KEYS, RATES))
