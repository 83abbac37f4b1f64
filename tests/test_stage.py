"""One stage as a whole: its books balance, what it keeps it keeps, it looks before it learns, it does no harm."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from core import (
    CAPACITY,
    CODES,
    DEEP,
    EFFECT,
    FIELDS,
    LAZY,
    REFERENCE,
    STEPS,
    STUDENTS,
    assert_near,
    assert_same,
    clicks,
    daily,
    empty_book,
    initial_state,
    run_days,
    runner,
    tiny_config,
    tiny_model,
    tiny_spec,
    work,
)
from sklearn.metrics import roc_auc_score

from diet_jax import models
from diet_jax.device import tiling as device_tiling
from diet_jax.device.collectives import AXIS
from diet_jax.device.tiling import Tiling
from diet_jax.distillation import address, codebook, parallel
from diet_jax.distillation.check import do_no_harm
from diet_jax.distillation.influence import score_influence
from diet_jax.distillation.memory import Memory, init_memory, student_data
from diet_jax.distillation.refine import refine
from diet_jax.distillation.stage import init_state, make_stage_update
from diet_jax.distillation.state import Rows
from diet_jax.training import passes
from diet_jax.training.batches import Batches, unshard
from diet_jax.training.losses import row_losses
from diet_jax.training.passes import init_stream, settled, stream_pass
from diet_jax.training.students import init_student, student_epochs


@pytest.fixture(scope='module')
def history():
    return run_days(runner(1), 1, days=6)


def changed_entries(before, after):
    """Entries of which anything is different."""
    return functools.reduce(
        np.logical_or, [(a != b).reshape(len(a), -1).any(1) for a, b in zip(before.memory, after.memory)]
    )


def test_counts_sum_to_the_rows_seen_and_the_rows_stay_within_the_budget(history):
    seen = 0
    for before, metrics, after, rows in history:
        seen += rows
        memory, old = after.memory, int(before.memory.valid.sum())
        assert after.rows_seen == metrics.mass == memory.count.sum() == seen
        assert metrics.rows == memory.valid.sum() == min(int(np.float32(0.04) * seen), 32)
        np.testing.assert_array_equal(memory.valid, np.arange(32) < metrics.rows)
        fates = metrics.addressing
        assert fates.kept + fates.modified + fates.replaced == old and old + fates.admitted == metrics.rows
        np.testing.assert_array_equal(after.codebook.counts.sum(1), np.full(FIELDS, seen))
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))


def test_the_first_memory_is_rows_of_the_first_block(history):
    _, _, after, rows = history[0]
    ids, label, _ = clicks(rows, seed=40)
    log = {(*row, y) for row, y in zip(ids.tolist(), label.tolist())}
    valid = after.memory.valid
    assert {(*r, y) for r, y in zip(after.memory.ids[valid].tolist(), after.memory.hard_label[valid].tolist())} <= log
    assert (after.memory.stage[valid] == 1).all()


def test_kept_entries_stay_bit_for_bit_through_refinement(history):
    for before, metrics, after, _ in history[1:]:
        unchanged = before.memory.valid & ~changed_entries(before, after)
        assert unchanged.sum() == metrics.addressing.kept


def test_the_stage_is_traced_once_and_its_state_keeps_its_shapes(history):
    assert runner(1).compiles == 1
    for before, _, after, _ in history:
        chex.assert_trees_all_equal_shapes_and_dtypes(before, after)


def test_the_same_state_and_block_give_the_same_bits(history):
    before, metrics, after, _ = history[2]
    assert_same((after, metrics), jax.device_get(runner(1)(before, daily(2)[0])))


def test_logits_are_those_before_training_and_the_loss_is_theirs(history):
    recipe = tiny_spec().recipe
    replay = jax.jit(lambda state, block: stream_pass(REFERENCE, state, block, 0.02, recipe=recipe))
    for day in (0, 3):
        before, metrics, after, rows = history[day]
        block = jax.tree.map(lambda x: x[0], daily(day)[0])
        state, logits = replay(before.reference, block)
        assert_near(settled(recipe, state, 0.02), after.reference, 1e-5)
        assert_near(logits, metrics.logits[0, ..., 0], 1e-5)
        assert_near(REFERENCE.apply(before.reference.params, block.ids[0]), metrics.logits[0, 0, :, 0], 1e-5)
        flat, label = unshard(metrics.logits[..., 0], rows), unshard(daily(day)[0].label, rows)
        loss = np.mean(np.logaddexp(0, flat) - label * flat)
        np.testing.assert_allclose(metrics.train_loss, loss, rtol=1e-5)
    assert after.reference.step == sum(-(-rows // 32) for *_, rows in history[:4])


def test_a_refinement_is_taken_exactly_when_the_held_out_loss_fell(history):
    verdicts = set()
    for before, metrics, after, _ in history:
        check = metrics.refinement
        assert check['accepted'] == (check['loss_after'] < check['loss_before'])
        fresh = after.memory.stage == after.stage
        modified = before.memory.valid & ~fresh & (after.memory.count != before.memory.count)
        if modified.any():
            now, then = (REFERENCE.apply(s.reference.params, before.memory.ids) for s in (after, before))
            refined = after.memory.soft_logit - before.memory.soft_logit - (now - then)
            assert (np.abs(refined[modified]).max() > 1e-4) == check['accepted']
        verdicts.add(int(check['accepted']))
    assert verdicts == {0, 1}  # both were seen


def test_what_the_padding_holds_changes_nothing(history):
    before, metrics, after, _ = history[1]
    block = daily(1)[0]
    live = block.weight > 0
    ids, label, _ = clicks(live.size, seed=1234)
    junk = block._replace(
        ids=np.where(live[..., None], block.ids, ids.reshape(block.ids.shape)),
        label=np.where(live, block.label, label.reshape(live.shape)),
        held=np.where(live, block.held, label.reshape(live.shape) > 0),
    )
    assert_same((after, metrics), jax.device_get(runner(1)(before, junk)))


def test_how_much_padding_there_is_changes_nothing(history):
    """Bit for bit, but for the last bit of what XLA computes row by row in vectors of another length (soft labels and
    influence), and of what refinement makes of soft labels (JAX 0.12)."""
    before, metrics, after, _ = history[1]
    longer, more = jax.device_get(runner(1, steps=STEPS + 3)(before, daily(1, steps=STEPS + 3)[0]))
    learned = dict(soft_logit=0, influence=0)
    by_row = lambda s: ([getattr(s.memory, name) for name in learned], s.pools, s.outer)  # noqa: E731
    rest = lambda s: s._replace(memory=s.memory._replace(**learned), pools=(), outer=())  # noqa: E731
    assert_same((rest(after), metrics.logits), (rest(longer), more.logits[:, :STEPS]))
    assert_near(by_row(after), by_row(longer), 1e-6)
    assert not more.logits[:, STEPS:].any()


# The parts, each alone.


def as_rows(ids, label, held=None):
    held = np.zeros(len(label), bool) if held is None else held
    return Rows(*map(jnp.asarray, (ids, label, np.ones(len(label), np.float32), held)))


def after_batches(model, steps):
    """A reference model after so many batches of 32 rows with the planted clicks."""
    ids, label, _ = clicks(32 * steps, seed=9)
    lay = lambda x: jnp.asarray(x).reshape(steps, 32, *x.shape[1:])  # noqa: E731
    batches = Batches(lay(ids), lay(label), jnp.ones((steps, 32)), jnp.zeros((steps, 32), bool), jnp.int32(steps))
    state = init_stream(model, jax.random.key(0), CAPACITY, FIELDS)
    return jax.jit(lambda s, b: stream_pass(model, s, b, 0.02))(state, batches)[0], ids


@pytest.fixture(scope='module')
def trained():
    """A reference model that has learned the planted clicks, and the codebook of its embeddings."""
    state, ids = after_batches(REFERENCE, 100)
    book, _ = jax.jit(codebook.extend)(empty_book(), state.params['table'], ids, np.ones(ids.shape, np.float32))
    return state, book


@pytest.fixture(scope='module')
def score():
    """Influence on a reference model that is still learning: at its optimum the query gradient is all noise."""
    config, (state, _) = tiny_config(), after_batches(DEEP, 10)
    config.addressing.query_rows = 1024
    spec = tiny_spec(config, reference=DEEP)

    @jax.jit
    def scored(memory, rows):
        done = score_influence(spec, work(rows, 1, memory=memory, reference=state))
        return done.of_rows, done.of_entries

    return lambda memory, rows: jax.device_get(scored(memory, rows))


@pytest.mark.parametrize('seed', [10, 20, 30])
def test_mislabelled_rows_harm_and_are_found_by_their_influence(score, seed):
    ids, label, truth = clicks(1000, seed)
    wrong = (np.arange(1000) % 8 == 0) & (np.abs(truth) > 2)
    label = np.where(wrong, truth < 0, label).astype(np.float32)
    rows = as_rows(ids, label, wrong)  # held: scored, and no query
    influence = score(init_memory(32, FIELDS), rows)[0].influence
    assert influence[wrong].mean() < 0 < influence[~wrong].mean()
    assert roc_auc_score(wrong, -influence) > 0.9


def test_a_mislabelled_entry_has_less_influence_than_the_same_entry_labelled_right(score):
    ids, _, truth = clicks(200, seed=11)
    ids, truth = ids[np.abs(truth) > 2][:32], truth[np.abs(truth) > 2][:32]
    label, wrong = (truth > 0).astype(np.float32), np.arange(32) % 8 == 0
    rows = as_rows(*clicks(1000, seed=12)[:2])
    spoiled = score(toy_memory(ids, 0.0, np.where(wrong, 1 - label, label)), rows)[1].influence
    right = score(toy_memory(ids, 0.0, label), rows)[1].influence
    assert (spoiled[wrong] < 0).all() and (right[wrong] > 0).all()
    assert spoiled[wrong].max() < np.median(spoiled[~wrong])


def toy_memory(ids, soft_logit, mean_label=0.5) -> Memory:
    size = len(ids)
    full = lambda x: jnp.broadcast_to(jnp.float32(x), (size,))  # noqa: E731
    return Memory(
        jnp.asarray(ids), full(soft_logit), full(mean_label), full(0), full(5), full(0),
        jnp.ones(size, jnp.int32), jnp.ones(size, bool),
    )  # fmt: skip


@pytest.fixture(scope='module')
def check(trained):
    """The do-no-harm check on rows of a day, a third of them held out; students trained long enough to tell."""
    config, (_, book) = tiny_config(), trained
    config.refine.update(check_lr=0.03, check_epochs=10, check_rows=150)
    ids, label, _ = clicks(300, seed=13)
    rows = as_rows(ids, label, np.arange(300) % 3 == 0)
    return lambda a, b: jax.device_get(checked(tiny_spec(config), book, a, b, rows, 2))


@functools.partial(jax.jit, static_argnums=(0, 5))
def checked(spec, book, unrefined, refined, rows, key=0):
    """(accepted, losses) of the do-no-harm check; the memory that it leaves is one of the two, whole."""
    done = do_no_harm(spec, work(rows, key, memory=refined, codebook=book, unrefined=unrefined, refinement={}))
    same = [jnp.array_equal(x, y) for x, y in zip(done.state.memory, refined, strict=True)]
    accepted = done.refinement['accepted']
    return jnp.where(accepted, jnp.all(jnp.stack(same)), False), done.refinement


def test_do_no_harm_drops_spoiled_labels_and_takes_good_ones(check):
    ids, _, truth = clicks(32, seed=14)
    good, spoiled, blank = (toy_memory(ids, sign * truth) for sign in (1, -1, 0))
    for better, worse in ((good, spoiled), (good, blank), (blank, spoiled)):
        accept, losses = check(worse, better)
        assert accept and losses['loss_after'] < losses['loss_before']
        refuse, swapped = check(better, worse)
        assert not refuse
        np.testing.assert_allclose(swapped['loss_before'], losses['loss_after'], rtol=1e-6)  # one and the same student
    assert not check(good, good)[0]  # no better is not better


def test_do_no_harm_looks_at_held_out_rows_only(trained):
    config, (_, book) = tiny_config(), trained
    ids, label, truth = clicks(64, seed=15)
    held = np.arange(64) % 2 == 0
    function = lambda rows: checked(tiny_spec(config), book, memory, memory, rows)[1]['loss_before']  # noqa: E731
    memory = toy_memory(ids[:32], truth[:32])
    loss = function(as_rows(ids, label, held))
    assert loss == function(as_rows(ids, np.where(held, label, 1 - label), held))
    assert loss != function(as_rows(ids, np.where(held, 1 - label, label), held))


@pytest.fixture(scope='module')
def refiner(trained):
    """Many outer steps on 32 entries that know nothing yet, towards a teacher that knows the truth."""
    config, (_, book) = tiny_config(), trained
    config.refine.update(outer_steps=150, inner_steps=8, window=8, batch=16, inner_lr=0.05, outer_rows=64)
    config.refine.update(label_lr=0.1, past_weight=0.0, max_age=24)
    rows = as_rows(*clicks(300, seed=16)[:2], np.arange(300) % 3 == 0)
    memory, addressed = toy_memory(clicks(32, seed=17)[0], 0.0), np.arange(32) % 4 != 0
    teacher = tiny_model('lr')  # that knows the truth: the effect of a slot is its first-order weight
    params = teacher.init(jax.random.key(0), CAPACITY, FIELDS)
    params['table'] = params['table'].at[: len(EFFECT), 0].set(EFFECT)
    reference = init_stream(teacher, jax.random.key(0), CAPACITY, FIELDS)._replace(params=params)
    spec = tiny_spec(config, reference=teacher)

    @jax.jit
    def refined(rows, pools, moved):
        done = refine(
            spec,
            work(
                rows, 5, memory=memory, codebook=book, reference=reference, pools=pools, outer=initial_state().outer
            )._replace(moved=moved, addressed=addressed, unrefined=memory),
        )
        return done.state.memory, done.state.pools, done.state.outer, done.refinement

    return memory, addressed, lambda pools, moved, rows=rows: jax.device_get(refined(rows, pools, moved)), rows


@pytest.fixture(scope='module')
def pools():
    return initial_state().pools


def test_refinement_lowers_the_loss_of_students_it_never_met(refiner, trained, pools):
    memory, _, refine, _ = refiner
    refined, _, _, _ = refine(pools, jnp.float32(0))
    ids, _, truth = clicks(400, seed=18)
    target, code, model = jax.nn.sigmoid(truth), trained[1].code, STUDENTS[0]

    @jax.jit
    def loss(memory, key):
        data = student_data(memory, code)
        student = init_student(model, key, FIELDS * CODES, FIELDS)
        student = student_epochs(model, student, data, key, 0.05, 8, batch=16)
        return jnp.mean(row_losses(model.apply(student.params, code[ids]), target))

    floor = float(jnp.mean(row_losses(truth, target)))
    seeds = [jax.random.key(100 + seed) for seed in range(3)]
    before, after = (np.array([loss(m, key) for key in seeds]) - floor for m in (memory, refined))
    assert (after < 0.75 * before).all() and after.mean() < 0.7 * before.mean()


def test_refinement_touches_soft_labels_of_addressed_entries_only(refiner, pools):
    memory, addressed, refine, _ = refiner
    refined = refine(pools, jnp.float32(0))[0]
    for name in Memory._fields:
        old, new = np.asarray(getattr(memory, name)), getattr(refined, name)
        if name == 'soft_logit':
            np.testing.assert_array_equal(new != old, addressed)
        else:
            assert_same(old, new)


def test_refinement_never_sees_the_held_out_rows(refiner, pools):
    _, _, refine, rows = refiner
    other = rows._replace(ids=jnp.where(rows.held[:, None], rows.ids[:1], rows.ids))
    assert_same(refine(pools, jnp.float32(0)), refine(pools, jnp.float32(0), rows=other))


def test_pooled_students_restart_when_codes_moved_and_only_then(refiner, pools):
    _, _, refine, _ = refiner
    broken = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan) if x.dtype == jnp.float32 else x, pools)
    healthy, restarted = (refine(p, jnp.float32(1)) for p in (pools, broken))
    assert_same(healthy, restarted)
    assert np.isfinite(healthy[3]['outer_loss'])
    assert np.isnan(refine(broken, jnp.float32(0))[3]['outer_loss'])


def test_no_pooled_student_outlives_its_age(refiner, pools):
    _, _, refine, _ = refiner
    (pool,) = refine(pools, jnp.float32(0))[1]
    assert (pool.age < 24).all()


def test_how_much_a_device_is_given_at_once_changes_nothing_but_rounding(history, monkeypatch):
    before, metrics, after, _ = history[3]
    little = Tiling(rows=20, ids=8, points=16, entries=4, slots=5, abreast=True)
    for module in (passes, codebook, address, device_tiling):
        monkeypatch.setattr(module, 'tiling', lambda: little)
    update = make_stage_update(tiny_spec(axis=AXIS))
    other, measured = jax.device_get(parallel.pmapped(update, jax.devices()[:1])(before, daily(3)[0]))
    assert_same((other.memory.ids, other.memory.count), (after.memory.ids, after.memory.count))
    assert_near(other.memory.soft_logit, after.memory.soft_logit)
    assert_near(other.reference.params, after.reference.params)
    assert_near(measured.refinement['loss_after'], metrics.refinement['loss_after'])


def test_codes_are_clusters_of_the_reference_and_of_twins_as_wide_that_do_without_a_field():
    narrow, without = models.build('lr', dim=1, keep=(0, 1)), models.build('mlp', dim=REFERENCE.dim, keep=(0, 2))
    beside = REFERENCE, DEEP, narrow, without
    streams = [init_stream(m, jax.random.key(i), CAPACITY, FIELDS) for i, m in enumerate(beside)]
    points = codebook.code_space(beside, streams)
    assert_same(points, np.concatenate([streams[0].params['table'], 0.5 * streams[3].params['table']], 1))
    spec = tiny_spec(twins=tuple((model, LAZY, 0.01) for model in beside[1:]))
    state = init_state(spec, CAPACITY, jax.random.key_data(jax.random.key(0)))
    assert state.codebook.centroids.shape == (FIELDS, CODES, points.shape[1])
