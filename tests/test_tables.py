"""A sub-table is the rows touched and nothing else; a table spread over devices reads and writes as a whole one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from core import CAPACITY, DEEP, FIELDS, LAZY, SLOTS, assert_near, assert_same, clicks, tiny_config, tiny_spec, work
from jax.sharding import Mesh, PartitionSpec

from diet_jax.device import tables
from diet_jax.distillation import influence
from diet_jax.distillation.memory import init_memory
from diet_jax.distillation.state import Rows, flat_rows, sample_rows
from diet_jax.models.recipes import Recipe
from diet_jax.training.batches import Batches
from diet_jax.training.losses import row_losses
from diet_jax.training.passes import init_stream, stream_pass

ROWS, COMMON = PartitionSpec('rows'), PartitionSpec()


@pytest.mark.parametrize('rows', [3, 40])  # fewer ids than slots, and more
def test_a_subtable_holds_every_touched_id_once_and_knows_where(rows):
    ids, _, _ = clicks(rows, seed=1)
    table = jnp.zeros((SLOTS, 2))
    sub = jax.jit(tables.subtable)(ids, table)
    touched, first = np.unique(ids, return_index=True)
    touched = touched[np.argsort(first)]  # in the order of first occurrence
    assert len(sub.ids) == min(ids.size, SLOTS)
    np.testing.assert_array_equal(sub.ids[: len(touched)], touched)
    assert (np.asarray(sub.ids[len(touched) :]) == SLOTS).all()
    np.testing.assert_array_equal(sub.ids[sub.place[ids]], ids)
    others = np.setdiff1d(np.arange(SLOTS), touched)
    assert (np.asarray(sub.place[others]) >= len(sub.ids)).all()


def scored(spec, state, memory, rows, key):
    """Influence of the rows and of the entries, by the part of a stage."""
    done = work(rows, reference=state, memory=memory)
    done = influence.score_influence(spec, done._replace(keys=done.keys._replace(address=key)))
    return done.of_rows, done.of_entries


def whole_table_influence(config, state, memory, rows, key):
    """Influence by the definition: gradients and directions over the whole table, zero where nothing was touched."""
    params, sample = state.params, sample_rows(rows, config.addressing.query_rows, key, None)
    query = [jnp.concatenate(x) for x in ((sample.ids, memory.ids), (sample.label, memory.mean_label))]
    scale = jnp.sum(rows.weight) / jnp.sum(sample.weight)
    weight = jnp.concatenate([sample.weight * scale, jnp.where(memory.valid, memory.count, 0.0)])
    losses = lambda p, ids, label: row_losses(DEEP.apply(p, ids), label)  # noqa: E731
    v = jax.grad(lambda p: jnp.sum(weight * losses(p, *query)) / jnp.sum(weight))(params)
    correction = 1 / (1 - 0.999 ** state.step.astype(jnp.float32))
    second = jax.tree.map(lambda x: x * correction, {'table': state.nu, 'head': state.head_opt.nu})
    along = influence.precondition(v, second)
    score = lambda ids, label: jax.jvp(lambda p: losses(p, ids, label), (params,), (along,))[1]  # noqa: E731
    return score(rows.ids, rows.label), score(memory.ids, memory.mean_label)


def test_influence_through_the_subtable_is_influence_over_the_whole_table():
    config, key = tiny_config(), jax.random.key(1)
    config.addressing.query_rows = 10  # so that ids of the block stay untouched
    ids, label, _ = clicks(64, seed=2)
    lay = lambda x: jnp.asarray(x).reshape(2, 32, *x.shape[1:])  # noqa: E731
    batches = Batches(lay(ids), lay(label), jnp.ones((2, 32)), jnp.zeros((2, 32), bool), jnp.int32(2))
    start = init_stream(DEEP, jax.random.key(0), CAPACITY, FIELDS)
    state, _ = jax.jit(lambda s, b: stream_pass(DEEP, s, b, 0.02))(start, batches)
    memory = init_memory(4, FIELDS)._replace(ids=jnp.asarray(ids[:4]), valid=jnp.ones(4, bool), count=jnp.ones(4))
    rows = flat_rows(batches)
    ours = jax.jit(functools.partial(scored, tiny_spec(config, reference=DEEP)))(state, memory, rows, key)
    truth = jax.jit(functools.partial(whole_table_influence, config))(state, memory, rows, key)
    for one, other in zip(ours, truth, strict=True):
        np.testing.assert_allclose(one.influence, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())
    assert np.abs(ours[0].influence).min() > 0


def test_the_influence_pass_makes_no_array_of_the_size_of_the_table():
    """Its memory grows with the vocabulary by one i32 an id, the places, and by nothing 1 + d wide."""
    config, rows, temp = tiny_config(), 64, {}
    block = Rows(*(np.zeros(s, t) for s, t in (((rows, FIELDS), 'i4'), (rows, 'f4'), (rows, 'f4'), (rows, '?'))))
    for capacity in (1_000, 1_000_000):
        state = jax.eval_shape(lambda c=capacity: init_stream(DEEP, jax.random.key(0), c, FIELDS))
        function = jax.jit(functools.partial(scored, tiny_spec(config, reference=DEEP)))
        compiled = function.lower(state, init_memory(32, FIELDS), block, jax.random.key(0)).compile()
        temp[capacity] = compiled.memory_analysis().temp_size_in_bytes
    assert temp[1_000_000] - temp[1_000] < 1.1 * 4 * 1_000_000


def spread_pass(devices, shards, recipe):
    """A pass over 6 batches of 16 rows on so many devices -> (state, logits [6, 16])."""
    ids, label, _ = clicks(96, seed=4)
    live = np.arange(96) < 90
    lay = lambda x: x.reshape(6, 16, *x.shape[1:])  # noqa: E731
    batches = Batches(lay(ids), lay(label), lay(live.astype(np.float32)), lay(~live), np.int32(6))
    state = init_stream(DEEP, jax.random.key(0), CAPACITY, FIELDS)
    specs = jax.tree.map(lambda _: COMMON, state)
    if shards:
        specs = specs._replace(params={**specs.params, 'table': ROWS}, mu=ROWS, nu=ROWS, place=ROWS, last=ROWS)
    across = PartitionSpec(None, 'rows')
    function = jax.shard_map(
        lambda s, b: stream_pass(DEEP, s, b, 0.02, recipe=recipe, axis='rows', shards=shards),
        mesh=Mesh(np.array(jax.devices()[:devices]), ('rows',)),
        in_specs=(specs, Batches(across, across, across, across, COMMON)),
        out_specs=(specs, across),
        check_vma=False,
    )
    return jax.device_get(jax.jit(function)(state, batches))


@pytest.mark.parametrize('recipe', [LAZY, Recipe('adamw', weight_decay=0.1)], ids=['lazy', 'adamw'])
@pytest.mark.parametrize('devices', [1, 2, 4, 8])
def test_a_pass_over_a_table_spread_over_devices_is_the_pass_over_a_whole_one(devices, recipe):
    if jax.device_count() < devices:
        pytest.skip(f'{jax.device_count()} devices')
    whole, spread = (spread_pass(devices, shards, recipe) for shards in (None, 'rows'))
    place = dict(place=0)  # of ids that the last batch does not hold it says nothing
    assert_near((whole[0]._replace(**place), whole[1]), (spread[0]._replace(**place), spread[1]), 1e-5)
    assert_same(spread, spread_pass(devices, 'rows', recipe))


@pytest.mark.parametrize('devices', [2, 8])
def test_rows_and_subtables_of_a_spread_table_are_those_of_the_whole(devices):
    if jax.device_count() < devices:
        pytest.skip(f'{jax.device_count()} devices')
    table = np.random.default_rng(0).normal(size=(CAPACITY, 3)).astype(np.float32)
    ids = clicks(16, seed=5)[0]

    def read(table, own, common):
        sub = tables.subtable(common, table, 'rows')
        return tables.gather(table, own, 'rows'), tables.gather_common(table, common, 'rows'), sub

    out = jax.shard_map(
        read,
        mesh=Mesh(np.array(jax.devices()[:devices]), ('rows',)),
        in_specs=(ROWS, ROWS, COMMON),
        out_specs=(ROWS, COMMON, tables.Subtable(COMMON, ROWS)),
        check_vma=False,
    )
    own, common, sub = jax.jit(out)(table, ids, ids)
    np.testing.assert_array_equal(own, table[ids])
    np.testing.assert_array_equal(common, table[ids])
    assert_same(sub, tables.subtable(jnp.asarray(ids), jnp.asarray(table)))
