"""Addressing is bookkeeping: no row is lost or counted twice, and influence decides who stays.

The rows of these tests live in a plane; what each entry absorbs is found again by a brute-force search.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from core import CAPACITY, FIELDS, assert_near, assert_same, tiny_config, tiny_spec

from diet_jax.distillation.address import Addressing, PlacedEntries, PlacedRows, address, places, principal_basis
from diet_jax.distillation.memory import Memory, init_memory, student_data

M, ROWS, PLANE, BUDGET = 32, 120, 2, 0.05
DEFAULTS = dict(replace=0.25, influence_power=0.5, coverage_power=0.5, max_new=16)


@functools.cache
def addresser(**options):
    config, options = tiny_config(), {**DEFAULTS, **options}
    config.memory.max_new = options.pop('max_new')
    config.addressing.update(options)
    spec = tiny_spec(config)

    @jax.jit
    def addressed(memory, rows, place, influence, shift, target, stage, key):
        entries = PlacedEntries(place=place, influence=influence, shift=shift)
        (memory,), *rest = address(spec, (memory,), rows, entries, target=target, stage=stage, key=key)
        return memory, *rest

    return addressed


def block(seed, live=ROWS, fill=0):
    """Rows at random places; those past `live` are padding that holds whatever `fill` says."""
    rng, junk = np.random.default_rng(seed), np.random.default_rng(1000 + fill)
    valid = np.arange(ROWS) < live

    def draw(shape, make):
        return np.where(valid.reshape(-1, *[1] * (len(shape) - 1)), make(rng, shape), make(junk, shape))

    normal = lambda g, shape: g.normal(size=shape).astype(np.float32)  # noqa: E731
    ids = draw((ROWS, FIELDS), lambda g, s: g.integers(0, CAPACITY, s).astype(np.int32))
    label = draw((ROWS,), lambda g, s: (g.random(s) < 0.4).astype(np.float32))
    scored = (draw((ROWS,), normal) for _ in range(2))
    return PlacedRows(ids, label, *scored, draw((ROWS, PLANE), normal), valid.astype(np.float32))


class Stage(NamedTuple):
    before: Memory
    rows: PlacedRows
    place: np.ndarray
    influence: np.ndarray
    shift: np.ndarray
    target: int
    after: Memory
    changed: np.ndarray
    counts: Addressing
    seen: int
    clicks: float


def stages(count=5, seed=0, target=None, **options):
    """Several stages, with everything that went in and came out."""
    memory, seen, clicked, out = init_memory(M, FIELDS), 0, 0.0, []
    for stage in range(1, count + 1):
        live = ROWS - 7 * stage
        rows, rng = block(100 * seed + stage, live), np.random.default_rng(500 + 100 * seed + stage)
        seen, clicked = seen + live, clicked + float(rows.label[:live].sum())
        place = rng.normal(size=(M, PLANE)).astype(np.float32)
        influence, shift = (rng.normal(size=M).astype(np.float32) for _ in range(2))
        goal = target or min(int(BUDGET * seen), M)
        key = jax.random.fold_in(jax.random.key(seed), stage)
        result = addresser(**options)(memory, rows, place, influence, shift, jnp.int32(goal), jnp.int32(stage), key)
        after, changed, counts = jax.tree.map(np.asarray, result)
        out.append(Stage(memory, rows, place, influence, shift, goal, after, changed, counts, seen, clicked))
        memory = after
    return out


@pytest.fixture(scope='module', params=[0, 1, 2])
def history(request):
    return stages(seed=request.param)


def fresh(stage):
    """Entries that came in at this stage, by their stage stamp."""
    number = int(stage.after.stage.max())
    return stage.after.valid & (stage.after.stage == number)


def gone(stage):
    """Entries that gave way: valid before, and another row's now."""
    return np.asarray(stage.before.valid) & fresh(stage)


def test_counts_sum_to_the_rows_seen(history):
    for stage in history:
        assert stage.after.count.sum() == stage.seen


def test_mean_labels_hold_every_click_seen(history):
    for stage in history:
        np.testing.assert_allclose(np.dot(stage.after.count, stage.after.mean_label), stage.clicks, rtol=1e-5)


def test_every_entry_is_the_weighted_mean_of_what_it_absorbed(history):
    """Found again by brute force: rows, and what the replaced stood for, go to the nearest entry that is there."""
    for stage in history:
        new, before = fresh(stage), jax.tree.map(np.asarray, stage.before)
        stays = before.valid & ~new
        live = stage.rows.weight > 0
        rows = jax.tree.map(lambda x, live=live: np.asarray(x)[live], stage.rows)
        place = stage.place.astype(float)
        for entry in np.flatnonzero(new):
            (same,) = np.flatnonzero(rows.influence == stage.after.influence[entry])
            place[entry] = rows.place[same]
        count, total = np.where(stays, before.count, 0.0), np.where(stays, before.count * before.mean_label, 0.0)
        leavers = np.flatnonzero(gone(stage))
        points = np.concatenate([rows.place, stage.place[leavers]])
        mass = np.concatenate([np.ones(len(rows.label)), before.count[leavers]])
        label = np.concatenate([rows.label, before.mean_label[leavers]])
        square = ((points[:, None] - place[None]) ** 2).sum(-1)
        home = np.where(stays | new, square, np.inf).argmin(1)
        np.add.at(count, home, mass)
        np.add.at(total, home, mass * label)
        np.testing.assert_array_equal(stage.after.count, count)
        used = count > 0
        np.testing.assert_allclose(stage.after.mean_label[used], (total / np.maximum(count, 1))[used], atol=1e-5)


def test_kept_entries_stay_bit_for_bit(history):
    some = 0
    for stage in history:
        kept = np.asarray(stage.before.valid) & ~stage.changed
        some += kept.sum()
        assert kept.sum() == stage.counts.kept
        assert_same(*(jax.tree.map(lambda x: np.asarray(x)[kept], m) for m in (stage.before, stage.after)))  # noqa: B023
    assert some > 0


def test_modified_entries_follow_the_reference_model_and_keep_their_row(history):
    for stage in history:
        modified = stage.changed & ~fresh(stage)
        assert modified.sum() == stage.counts.modified
        before, after = (jax.tree.map(lambda x: np.asarray(x)[modified], m) for m in (stage.before, stage.after))  # noqa: B023
        same = ('ids', 'hard_label', 'stage', 'valid')
        assert_same([getattr(before, k) for k in same], [getattr(after, k) for k in same])
        assert_near(after.soft_logit, before.soft_logit + stage.shift[modified], 1e-6)
        assert_near(after.influence, (before.influence + stage.influence[modified]) / 2, 1e-6)
        assert (after.count > before.count).all()


def test_the_replaced_are_exactly_the_least_influential(history):
    for stage in history:
        valid = np.asarray(stage.before.valid)
        running = np.where(valid, (np.asarray(stage.before.influence) + stage.influence) / 2, np.inf)
        number = int(0.25 * valid.sum())
        assert stage.counts.replaced == number == gone(stage).sum()
        assert set(np.flatnonzero(gone(stage))) == set(np.argsort(running, kind='stable')[:number])


def test_the_three_fates_add_up_and_the_valid_are_a_prefix_within_the_budget(history):
    for stage in history:
        before, after, counts = np.asarray(stage.before.valid), stage.after.valid, stage.counts
        assert counts.kept + counts.modified + counts.replaced == before.sum()
        assert before.sum() + counts.admitted == after.sum() == stage.target <= BUDGET * stage.seen
        np.testing.assert_array_equal(after, np.arange(M) < after.sum())


def test_newcomers_are_rows_of_the_block_none_twice(history):
    for stage in history:
        new = np.flatnonzero(fresh(stage))
        assert len(new) == stage.counts.replaced + stage.counts.admitted
        rows = [
            np.flatnonzero((stage.rows.weight > 0) & (stage.rows.influence == x)) for x in stage.after.influence[new]
        ]
        rows = np.concatenate(rows)
        assert len(set(rows)) == len(new)
        after = jax.tree.map(lambda x: x[new], stage.after)  # noqa: B023
        assert_same(
            (after.ids, after.hard_label, after.soft_logit),
            tuple(np.asarray(x)[rows] for x in (stage.rows.ids, stage.rows.label, stage.rows.soft_logit)),
        )


def test_the_first_stage_needs_the_block_alone(history):
    first = history[0]
    assert not np.asarray(first.before.valid).any()
    assert first.counts.admitted == first.target > 0
    again = first.before._replace(
        influence=jnp.full(M, 9.0), soft_logit=jnp.full(M, 3.0), mean_label=jnp.full(M, 5.0), count=jnp.zeros(M)
    )
    junk = np.full((M, PLANE), 77.0, np.float32)
    key = jax.random.fold_in(jax.random.key(0), 1)
    args = (first.rows, junk, -first.influence, 2 * first.shift, jnp.int32(first.target), jnp.int32(1))
    memories = [addresser()(m, *args, key)[0] for m in (first.before, again)]
    assert_same(*(jax.tree.map(lambda x: np.asarray(x)[: first.target], m) for m in memories))


def test_the_budget_stops_at_the_capacity():
    for stage in stages(3, target=M):
        assert stage.counts.admitted + stage.counts.replaced <= 16  # max_new
    assert stage.after.valid.all() and stage.after.count.sum() == stage.seen


@pytest.mark.parametrize('max_new', [1, 3])
def test_no_row_is_lost_when_fewer_may_come_than_should(max_new):
    """The static bound on newcomers binds: fewer are replaced and admitted, and the metrics say how many."""
    for stage in stages(5, seed=4, max_new=max_new, replace=0.5):
        counts = stage.counts
        assert stage.after.count.sum() == stage.seen
        np.testing.assert_allclose(np.dot(stage.after.count, stage.after.mean_label), stage.clicks, rtol=1e-5)
        assert counts.replaced == gone(stage).sum() and counts.replaced + counts.admitted <= max_new
        assert np.asarray(stage.before.valid).sum() + counts.admitted == stage.after.valid.sum()


def test_everything_may_be_replaced():
    for stage in stages(4, seed=5, replace=1.0, max_new=M):
        assert stage.after.count.sum() == stage.seen
        assert fresh(stage)[: stage.after.valid.sum()].all()


def test_what_the_padding_holds_changes_nothing():
    args = (np.zeros((M, PLANE), np.float32), jnp.zeros(M), jnp.zeros(M), jnp.int32(9), jnp.int32(1), jax.random.key(3))
    one, other = (addresser()(init_memory(M, FIELDS), block(1, 50, fill), *args) for fill in (0, 1))
    assert_same(one, other)
    assert one[0].count.sum() == 50


def test_the_odds_rise_with_influence_and_with_distance():
    """In the limit of a large exponent the draw is the sort."""
    last = stages(1)[0]
    rows, memory = block(77), last.after
    args = (last.place, jnp.zeros(M), jnp.zeros(M), jnp.int32(11), jnp.int32(2), jax.random.key(8))
    for powers, score in (
        ((1e4, 0.0), np.abs(rows.influence)),
        ((0.0, 1e4), ((rows.place[:, None] - last.place[None, memory.valid]) ** 2).sum(-1).min(1)),
    ):
        options = dict(influence_power=powers[0], coverage_power=powers[1], replace=0.0)
        after, _, counts = addresser(**options)(memory, rows, *args)
        best = np.argsort(-score)[: int(counts.admitted)]
        new = np.asarray(after.valid & (after.stage == 2))
        np.testing.assert_array_equal(np.sort(after.influence[new]), np.sort(rows.influence[best]))


def test_the_basis_is_the_principal_components_of_the_weighted_rows():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(40, 3, 2)) @ np.diag([3.0, 0.5]) * np.array([1.0, 2.0, 0.3])[:, None]
    weight = (np.arange(40) < 30).astype(np.float32)
    basis = principal_basis(rows.astype(np.float32), weight, 3)
    flat = rows[:30].reshape(30, -1)
    _, _, components = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(components[:3] @ basis), np.eye(3), atol=1e-3)
    place = places(rows.astype(np.float32), jnp.arange(40.0), basis, 2.0)
    np.testing.assert_allclose(np.abs(place[:30, :3]), np.abs(flat @ components[:3].T), atol=1e-2)
    np.testing.assert_allclose(place[:, 3], 2.0 * np.arange(40))


def test_every_valid_entry_is_one_row_of_the_training_data():
    memory = stages(2)[-1].after
    code = np.random.default_rng(0).permutation(CAPACITY)
    data = student_data(memory, jnp.asarray(code))
    np.testing.assert_array_equal(data.weight, memory.valid)
    assert int(data.rows) == memory.valid.sum()
    np.testing.assert_allclose(data.target, 1 / (1 + np.exp(-memory.soft_logit)), rtol=1e-5)
    np.testing.assert_array_equal(data.ids, code[memory.ids])
