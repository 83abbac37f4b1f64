"""A row of weight w is w rows: in training, in the codebook, in the memory, on one device and on several."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from core import (
    BATCH,
    CAPACITY,
    DEEP,
    FIELDS,
    LAZY,
    REFERENCE,
    STEPS,
    assert_near,
    assert_same,
    clicks,
    empty_book,
    initial_state,
    runner,
    tiny_config,
    tiny_spec,
)

from diet_jax.distillation import codebook
from diet_jax.distillation.address import PlacedEntries, PlacedRows, address, principal_basis
from diet_jax.distillation.influence import query_gradient
from diet_jax.distillation.memory import init_memory
from diet_jax.distillation.state import Rows, count_rows, flat_rows, mass, sample_rows
from diet_jax.study import rivals
from diet_jax.training.batches import shard_block
from diet_jax.training.losses import weighted_loss
from diet_jax.training.passes import init_stream, stream_step

N = 40


@pytest.fixture
def some():
    """Rows that weigh 0 to 3: ids, label, weight; and the same written out, padded to as many as any."""
    ids, label, _ = clicks(N, seed=3)
    weight = np.random.default_rng(0).integers(0, 4, N).astype(np.float32)
    pick = np.repeat(np.arange(N), weight.astype(int))
    return (ids, label, weight), (ids[pick], label[pick], np.ones(len(pick), np.float32))


# Training.


@pytest.mark.parametrize('recipe', [None, LAZY])
def test_a_step_on_weighted_rows_is_the_step_on_rows_written_out(some, recipe):
    options = {} if recipe is None else {'recipe': recipe}
    step = functools.partial(stream_step, DEEP, init_stream(DEEP, jax.random.key(0), CAPACITY, FIELDS))
    (one, logits), (other, _) = (step(*rows, 0.02, **options) for rows in some)
    assert_near((one.params, one.nu, one.head_opt), (other.params, other.nu, other.head_opt), 1e-6)
    ids, label, weight = some[0]
    scaled, _ = step(ids, label, 1e-4 * weight, 0.02, **options)
    assert_near(one.params, scaled.params, 1e-6)  # the weights of a batch are divided by their sum


def test_a_row_of_weight_nothing_is_padding(some):
    ids, label, weight = some[0]
    state = init_stream(DEEP, jax.random.key(0), CAPACITY, FIELDS)
    junk = np.where((weight > 0)[:, None], ids, 7), np.where(weight > 0, label, 1 - label)
    assert_same(stream_step(DEEP, state, ids, label, weight, 0.02)[0], stream_step(DEEP, state, *junk, weight, 0.02)[0])


def test_the_loss_and_the_query_are_those_of_rows_written_out(some):
    params = DEEP.init(jax.random.key(0), CAPACITY, FIELDS)
    (ids, label, weight), (ids_, label_, ones) = some
    assert_near(weighted_loss(DEEP, params, *some[0]), weighted_loss(DEEP, params, *some[1]), 1e-6)
    assert_near(weighted_loss(DEEP, params, ids, label, 1e-5 * weight), weighted_loss(DEEP, params, *some[1]), 1e-6)
    assert weighted_loss(DEEP, params, ids, label, 0 * weight) == 0
    assert_near(*(query_gradient(DEEP, params, *rows) for rows in some), 1e-6)
    near = [np.random.default_rng(1).normal(size=(CAPACITY, FIELDS, 2)).astype(np.float32)[:N]] * 2
    near[1] = np.repeat(near[0], weight.astype(int), 0)
    basis, written_out = (principal_basis(e, w, 3) for e, w in zip(near, (weight, ones)))
    assert_near(basis @ basis.T, written_out @ written_out.T, 1e-4)


# The parts of a stage.


def test_codes_count_occurrences_by_weight(some):
    table = jax.random.normal(jax.random.key(1), (CAPACITY, 5))
    share = lambda rows: np.repeat(rows[2][:, None], FIELDS, 1)  # noqa: E731
    one, other = (codebook.extend(empty_book(), table, rows[0], share(rows))[0] for rows in some)
    assert_same((one.code, one.frequency), (other.code, other.frequency))
    assert_near(one.centroids, other.centroids, 1e-6)


def rows_of(ids, label, weight, held=None) -> Rows:
    held = np.zeros(len(label), bool) if held is None else held
    return Rows(*map(jnp.asarray, (ids, label, weight, held)))


def test_samples_keep_the_weights_and_hold_no_row_that_weighs_nothing(some):
    ids, label, weight = some[0]
    rows = rows_of(ids, label, weight, np.arange(N) % 4 == 0)._replace(ids=jnp.arange(N)[:, None])
    drawn = sample_rows(rows, 500, jax.random.key(0))
    at = np.asarray(drawn.ids)[:, 0]
    np.testing.assert_array_equal(drawn.weight, weight[at])
    assert set(at) == set(np.flatnonzero((weight > 0) & (np.arange(N) % 4 > 0)))
    assert count_rows(rows) == (weight > 0).sum() and mass(rows) == weight.sum()


def fused(rows: PlacedRows, target: int, key, most: int = 16):
    """(memory, counts) of rows that come into an empty memory, all as likely but for their weight."""
    config = tiny_config()
    config.memory.max_new = most
    config.addressing.update(influence_power=0.0, coverage_power=0.0)
    nothing = jnp.zeros(32)
    entries = PlacedEntries(jnp.zeros((32, rows.place.shape[1])), nothing, nothing)
    stage = dict(target=jnp.int32(target), stage=jnp.int32(1), key=key)
    (memory,), _, counts = address(tiny_spec(config), (init_memory(32, FIELDS),), rows, entries, **stage)
    return memory, counts


def placed(ids, label, weight, seed=0) -> PlacedRows:
    rng = np.random.default_rng(seed)
    place = rng.normal(size=(len(label), 3)).astype(np.float32)
    return PlacedRows(*map(jnp.asarray, (ids, label, 0 * label, 0 * label + 1, place, weight)))


def test_entries_count_and_average_what_they_absorb_by_weight(some):
    ids, label, weight = some[0]
    weight = weight / 8  # of many an entry less than one in all
    rows = placed(ids, label, weight)
    memory, counts = fused(rows, 9, jax.random.key(0))
    memory, place = jax.tree.map(np.asarray, memory), np.asarray(rows.place)
    assert counts.admitted == 9 and memory.valid.sum() == 9
    taken = [int(np.flatnonzero((ids == i).all(1) & (label == y) & (weight > 0))[0]) for i, y in
             zip(memory.ids[:9], memory.hard_label[:9])]  # fmt: skip
    home = ((place[:, None] - place[taken][None]) ** 2).sum(-1).argmin(1)
    for k in range(9):
        at = home == k
        np.testing.assert_allclose(memory.count[k], weight[at].sum(), rtol=1e-6)
        np.testing.assert_allclose(memory.mean_label[k], np.average(label[at], weights=weight[at]), rtol=1e-6)
    np.testing.assert_allclose(memory.count.sum(), weight.sum(), rtol=1e-6)


def test_a_row_that_weighs_nothing_is_never_admitted(some):
    ids, label, weight = some[0]
    ids = np.tile(np.arange(N, dtype=np.int32)[:, None], (1, FIELDS))
    memory, counts = fused(placed(ids, label, weight), 32, jax.random.key(0))
    there = int((weight > 0).sum())
    assert counts.admitted == min(there, 16) and (weight[np.asarray(memory.ids)[:, 0][memory.valid]] > 0).all()


def test_a_row_of_weight_ten_is_drawn_as_often_as_ten_rows():
    weight = np.array([10, 1, 1, 3, 0.5, 4.5, 0], np.float32)
    ids = np.tile(np.arange(7, dtype=np.int32)[:, None], (1, FIELDS))
    rows = placed(ids, np.zeros(7, np.float32), weight)
    first = jax.jit(jax.vmap(lambda key: fused(rows, 1, key, most=1)[0].ids[0, 0]))
    share = np.bincount(first(jax.random.split(jax.random.key(0), 8000)), minlength=7) / 8000
    np.testing.assert_allclose(share, weight / weight.sum(), atol=4 * np.sqrt(0.25 / 8000))
    assert share[6] == 0


# The whole stage.


def heavy(day: int, devices: int, weight):
    """As `core.daily`, weighted."""
    rows = 130 + 20 * (day % 4)
    ids, label, _ = clicks(rows, seed=40 + day)
    held = np.arange(rows) % 5 == 0
    return shard_block(ids, label, held, devices=devices, batch=BATCH, steps=STEPS, weight=weight(rows))


def through(devices: int, weight, days: int = 3):
    """[(metrics, state)] of some stages."""
    state, out = initial_state(), []
    for day in range(days):
        state, metrics = runner(devices)(state, heavy(day, devices, weight))
        out.append(jax.device_get((metrics, state)))
    return out


def test_what_all_rows_weigh_alike_changes_no_label_but_counts():
    """By a power of two, so that nothing is rounded otherwise."""
    for (one, a), (four, b) in zip(through(1, np.ones), through(1, lambda n: np.full(n, 4.0))):
        same = [name for name in a.memory._fields if name not in ('count', 'influence')]
        assert_same([getattr(a.memory, name) for name in same], [getattr(b.memory, name) for name in same])
        assert_same((4 * a.memory.count, 4 * a.codebook.frequency), (b.memory.count, b.codebook.frequency))
        assert_same((a.reference, a.twins, a.codebook.code), (b.reference, b.twins, b.codebook.code))
        assert_same((one.logits, one.train_loss, one.addressing), (four.logits, four.train_loss, four.addressing))
        assert a.rows_seen == b.rows_seen and 4 * one.mass == four.mass


def uneven(n: int) -> np.ndarray:
    return np.random.default_rng(n).choice([0.0, 0.5, 1.0, 10.0], n).astype(np.float32)


def test_the_books_balance_by_weight_on_one_device_and_on_four():
    alone, spread = through(1, uneven), through(4, uneven)
    total, seen = 0.0, 0
    for day, ((one, a), (four, b)) in enumerate(zip(alone, spread)):
        weight = uneven(130 + 20 * (day % 4))
        total, seen = total + weight.sum(), seen + (weight > 0).sum()
        for metrics, state in ((one, a), (four, b)):
            np.testing.assert_allclose(state.memory.count.sum(), total, rtol=1e-5)
            assert state.rows_seen == seen and metrics.rows == int(np.float32(0.04) * seen)
            entries = state.memory.valid
            ids = state.memory.ids[entries]
            assert (state.codebook.frequency[ids] > 0).all()
        assert_near((a.reference, a.codebook.frequency), (b.reference, b.codebook.frequency), 1e-4)
        assert_near((one.train_loss, one.mass), (four.train_loss, four.mass), 1e-4)
        logits = one.logits[0, ..., 0].reshape(-1)[: len(weight)]
        assert not logits[weight == 0].any() and logits[weight > 0].all()


def test_train_loss_is_the_weighted_mean_of_the_progressive_losses():
    (metrics, _), *_ = through(1, uneven, 1)
    _, label, _ = clicks(130, seed=40)
    z, w = metrics.logits[0, ..., 0].reshape(-1)[:130].astype(np.float64), uneven(130)
    np.testing.assert_allclose(metrics.train_loss, np.average(np.logaddexp(0, z) - label * z, weights=w), rtol=1e-5)


# Layout and rivals.


def test_a_block_is_laid_out_with_its_weights_and_padding_weighs_nothing():
    ids, label, _ = clicks(100, seed=0)
    weight = np.arange(100) % 5
    block = shard_block(ids, label, label > 0, devices=2, batch=BATCH, steps=STEPS, weight=weight)
    flat = np.asarray(block.weight).swapaxes(0, 1).reshape(-1)
    np.testing.assert_array_equal(flat, np.r_[weight, np.zeros(STEPS * BATCH - 100)])
    assert flat_rows(jax.tree.map(lambda x: x[0], block)).weight.dtype == np.float32


def test_gradients_are_matched_by_weight(some):
    params = REFERENCE.init(jax.random.key(0), CAPACITY, FIELDS)
    (ids, label, weight), (ids_, label_, _) = some
    named = weight > 0  # a row that weighs nothing names ids all the same
    mine = ids[named], label[named]
    real, _, _ = clicks(60, seed=8)
    click, w = np.arange(60) % 2, np.arange(60) % 4
    weighted = rivals.gradient_distance(
        REFERENCE, params, *mine, real, click.astype(np.float32), weight=weight[named], real_weight=w.astype(np.float32)
    )
    written_out = rivals.gradient_distance(
        REFERENCE, params, ids_, label_, np.repeat(real, w, 0), np.repeat(click, w).astype(np.float32)
    )
    assert_near(weighted, written_out, 1e-5)
