"""Several outcomes of a row share a memory: each has labels and models of its own, and none changes another's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from core import BATCH, CAPACITY, STEPS, assert_same, clicks, empty_book, tiny_spec

from diet_jax.device.collectives import AXIS
from diet_jax.distillation import parallel
from diet_jax.distillation.reference import entry_logits
from diet_jax.distillation.stage import init_state, make_stage_update
from diet_jax.training.batches import shard_block, unshard

DAYS = 2


def rows_of(day):
    """(ids, a click, and that the row's second field holds one of its first three values)."""
    ids, label, _ = clicks(150, seed=60 + day)
    return ids, label, (ids[:, 1] < 9).astype(np.float32)


@pytest.fixture(scope='module')
def days():
    """Runs the days on two devices: [(state, metrics)] after each. turned: the other outcome is its contrary."""
    spec = tiny_spec(axis=AXIS, others=1, twins=())
    run = parallel.shard_mapped(make_stage_update(spec), jax.devices()[:2])

    def ran(turned: bool):
        state, out = init_state(spec, CAPACITY, jax.random.key_data(jax.random.key(0))), []
        state = state._replace(codebook=empty_book(width=state.codebook.centroids.shape[-1]))
        for day in range(DAYS):
            ids, label, other = rows_of(day)
            labels = dict(others=(1 - other if turned else other,))
            block = shard_block(ids, label, np.arange(150) % 5 == 0, devices=2, batch=BATCH, steps=STEPS, **labels)
            state, metrics = run(state, block)
            out.append(jax.device_get((state, metrics)))
        return out

    return ran


@pytest.fixture(scope='module')
def two(days):
    return days(turned=False)


def test_the_main_outcome_knows_nothing_of_the_other(two, days):
    for (state, metrics), (turned, turned_metrics) in zip(two, days(turned=True), strict=True):
        assert_same(state._replace(others=()), turned._replace(others=()))
        assert_same(*(m._replace(other_logits=(), other_refinement=()) for m in (metrics, turned_metrics)))
        assert (state.others[0].mean_label != turned.others[0].mean_label).any()


def test_the_labels_of_the_other_outcome_stand_for_the_same_rows(two):
    seen = 0.0
    for day, (state, _) in enumerate(two):
        ids, _, other = rows_of(day)
        seen += other.sum()
        memory, (labels,) = state.memory, state.others
        valid = memory.valid
        np.testing.assert_allclose((memory.count * labels.mean_label)[valid].sum(), seen, rtol=1e-5)
        assert (labels.mean_label[valid] >= 0).all() and (labels.mean_label <= 1 + 1e-6).all()
        np.testing.assert_array_equal(labels.hard_label[valid], (memory.ids[valid, 1] < 9).astype(np.float32))
        assert (labels.mean_label != memory.mean_label).any() and (labels.soft_logit != memory.soft_logit).any()


def test_each_outcome_has_a_model_that_learns_it(two):
    _, metrics = two[-1]
    _, label, other = rows_of(DAYS - 1)
    by_own, by_main = (unshard(x[..., 0], 150) for x in (metrics.other_logits[0], metrics.logits))
    assert by_own[other > 0].mean() - by_own[other == 0].mean() > by_main[other > 0].mean() - by_main[other == 0].mean()
    assert set(metrics.other_refinement[0]) == set(metrics.refinement)


def test_a_new_entry_is_labelled_by_its_own_outcomes_model(two):
    (state, _), spec = two[0], tiny_spec()
    (labels,), valid = state.others, state.memory.valid
    said = entry_logits(spec, labels.reference, state.memory)
    refined = 1.01 * spec.refine.label_lr * spec.refine.outer_steps  # how far so many steps of Adam go
    np.testing.assert_allclose(labels.soft_logit[valid], np.asarray(said)[valid], atol=refined)


def test_split_tables_have_a_specification_for_every_array_of_every_outcome():
    spec = tiny_spec(others=2)
    state = jax.eval_shape(lambda: init_state(spec, CAPACITY, jnp.zeros(2, jnp.uint32)))
    specs = parallel.state_specs(len(spec.twins), others=2)
    jax.tree.map(lambda spec, part: None, specs, state, is_leaf=lambda x: x is None or not isinstance(x, tuple))
    assert len(specs.others) == 2 and specs.others[0].reference == specs.reference
