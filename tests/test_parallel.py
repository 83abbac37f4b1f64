"""The same stage on 1, 2, 4 and 8 devices: what must not depend on their number does not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from core import (
    BATCH,
    CAPACITY,
    DEEP,
    DIM,
    FIELDS,
    STEPS,
    TWINS,
    assert_near,
    assert_same,
    clicks,
    empty_book,
    run_days,
    runner,
    tiny_config,
    tiny_spec,
)

from diet_jax.device.collectives import AXIS
from diet_jax.device.programs import Timed
from diet_jax.distillation import codebook, parallel
from diet_jax.distillation.address import PlacedEntries, PlacedRows, address, principal_basis
from diet_jax.distillation.influence import query_gradient, row_influence
from diet_jax.distillation.memory import init_memory
from diet_jax.distillation.state import StageMetrics, flat_rows
from diet_jax.training.batches import shard_block, unshard
from diet_jax.training.passes import init_stream, stream_pass

DEVICES = (1, 2, 4, 8)
DAYS = 3


@pytest.fixture(scope='module', autouse=True)
def eight_devices():
    if jax.device_count() < 8:
        pytest.skip(f'{jax.device_count()} devices: XLA_FLAGS=--xla_force_host_platform_device_count=8 gives eight')


@pytest.mark.parametrize('devices', DEVICES)
@pytest.mark.parametrize('rows', [1, 32, 100, 224])
def test_batch_k_of_the_block_is_batch_k_of_all_devices_side_by_side(devices, rows):
    ids, label, _ = clicks(rows, seed=0)
    held = np.arange(rows) % 3 == 0
    block = shard_block(ids, label, held, devices=devices, batch=BATCH, steps=STEPS)
    share, used = BATCH // devices, -(-rows // BATCH)
    assert block.ids.shape == (devices, STEPS, share, FIELDS)
    np.testing.assert_array_equal(block.steps, np.full(devices, used))
    for k in range(used):
        part = slice(k * BATCH, (k + 1) * BATCH)
        for laid, given in ((block.ids, ids), (block.label, label), (block.held, held)):
            np.testing.assert_array_equal(np.concatenate(laid[:, k])[: len(given[part])], given[part])
    assert block.weight.sum() == rows
    np.testing.assert_array_equal(unshard(block.label, rows), label)
    np.testing.assert_array_equal(unshard(block.weight, STEPS * BATCH), np.arange(STEPS * BATCH) < rows)


def test_a_batch_that_the_devices_cannot_share_is_refused():
    ids, label, _ = clicks(10, seed=0)
    with pytest.raises(ValueError, match='batch 30 is not a multiple of the 4 devices'):
        shard_block(ids, label, label > 0, devices=4, batch=30, steps=1)


# The kernels, each against itself without a device axis.


def kernels(stream, block, score, axis=None):
    """Reference pass, query gradient, influence, codebook, basis and addressing of a block; score f32[S, b]."""
    stream, logits = stream_pass(DEEP, stream, block, 0.02, axis=axis)
    rows, params, score = flat_rows(block), stream.params, score.reshape(-1)
    v = query_gradient(DEEP, params, rows.ids, rows.label, rows.weight, axis, chunk=20)
    logits_after, influence = row_influence(DEEP, params, v, rows.ids, rows.label, chunk=20)
    share = codebook.shares(tiny_spec().layout, rows)
    book, moved = codebook.extend(empty_book(), params['table'], rows.ids, share, axis)
    embeddings = params['table'][rows.ids]
    basis = principal_basis(embeddings[..., 1:], rows.weight, 3, axis)
    config = tiny_config()
    config.addressing.update(replace=0.25, influence_power=1e6, coverage_power=0.0)
    addressed = address(
        tiny_spec(config, axis),
        (init_memory(32, FIELDS),),
        PlacedRows(rows.ids, rows.label, 2 * score, score, embeddings[..., 1:].sum(1), rows.weight),
        PlacedEntries(jnp.zeros((32, DIM)), jnp.zeros(32), jnp.zeros(32)),
        target=jnp.int32(12),
        stage=jnp.int32(1),
        key=jax.random.key(0),
    )
    shape = block.label.shape
    replicated = dict(
        stream=stream, gradient=v, codebook=book, moved=moved, projector=basis @ basis.T, addressed=addressed
    )
    return replicated, dict(logits=logits, after=logits_after.reshape(shape), influence=influence.reshape(shape))


def kernel_block(devices):
    ids, label, _ = clicks(150, seed=21)
    held = label > 0
    # Well apart, so that the draw with a large exponent is a sort whatever the noise of each device.
    score = np.exp(np.random.default_rng(0).permutation(150) / 40).astype(np.float32)
    return tuple(shard_block(ids, x, held, devices=devices, batch=BATCH, steps=STEPS) for x in (label, score))


def fresh():
    return init_stream(DEEP, jax.random.key(0), CAPACITY, FIELDS)


@pytest.fixture(scope='module')
def alone():
    block, score = (jax.tree.map(lambda x: x[0], x) for x in kernel_block(1))
    return jax.device_get(jax.jit(kernels)(fresh(), block, score.label))


@pytest.mark.parametrize('devices', DEVICES)
def test_every_kernel_agrees_with_itself_on_one_device(devices, alone):
    block, score = kernel_block(devices)
    spread = jax.pmap(
        functools.partial(kernels, axis=AXIS),
        axis_name=AXIS,
        in_axes=(None, 0, 0),
        out_axes=(None, 0),
        devices=jax.devices()[:devices],
    )
    replicated, per_row = jax.device_get(spread(fresh(), block, score.label))
    expected, expected_rows = alone
    for name in expected:
        assert_near(replicated[name], expected[name], 1e-5)
    assert_same(replicated['codebook'].code, expected['codebook'].code)
    assert_same(replicated['addressed'][0][0].ids, expected['addressed'][0][0].ids)
    for name in expected_rows:
        assert_near(unshard(per_row[name], 150), unshard(expected_rows[name][None], 150), 1e-5)


# The whole stage.


@pytest.fixture(scope='module')
def days():
    return functools.cache(lambda devices, form: run_days(runner(devices, form), devices, DAYS))


def test_pmap_and_shard_map_are_the_same_at_eight_devices(days):
    for (_, one, a, _), (_, other, b, _) in zip(days(8, parallel.pmapped), days(8, parallel.shard_mapped)):
        assert_near(a, b, 1e-5)
        assert_near(one, other, 1e-5)
        assert_same((a.memory.ids, a.memory.stage, a.codebook.code), (b.memory.ids, b.memory.stage, b.codebook.code))


@pytest.mark.parametrize('devices', [2, 8])  # four: tests/test_hosts.py, through the driver
def test_a_stage_with_split_tables_is_the_stage_with_whole_ones(days, devices):
    split = run_days(runner(devices, parallel.shard_mapped, split=True), devices, DAYS)
    for (_, one, a, _), (_, other, b, _) in zip(days(devices, parallel.pmapped), split):
        assert_near(a, b, 1e-5)
        assert_near(one, other, 1e-5)
        assert_same((a.memory.ids, a.memory.stage, a.codebook.code), (b.memory.ids, b.memory.stage, b.codebook.code))


@pytest.mark.parametrize('devices', [1, 4])
@pytest.mark.parametrize('form', [parallel.pmapped, parallel.shard_mapped])
def test_a_donated_state_gives_its_buffers_to_the_next(form, devices):
    def update(state, block):
        return jax.tree.map(lambda x: x + 1, state), StageMetrics(block, *[0.0] * 7)

    where = lambda x: {shard.data.unsafe_buffer_pointer() for shard in x.addressable_shards}  # noqa: E731
    for donate in (False, True):
        run = form(update, jax.devices()[:devices], donate=donate)
        one, _ = run(jnp.zeros(1000), np.zeros((devices, 1)))
        before = where(one)
        two, _ = run(one, np.zeros((devices, 1)))
        assert one.is_deleted() == donate and (where(two) == before) == donate
        np.testing.assert_array_equal(two, np.full(1000, 2.0))


@pytest.mark.parametrize('form', [parallel.pmapped, parallel.shard_mapped])
def test_the_same_devices_give_the_same_bits(days, form):
    for (_, one, a, _), (_, other, b, _) in zip(days(8, form), run_days(runner(8, form), 8, DAYS)):
        assert_same((a, one), (b, other))


@pytest.mark.parametrize('devices', DEVICES)
def test_the_books_balance_on_any_number_of_devices(days, devices):
    seen = 0
    for before, metrics, after, rows in days(devices, parallel.pmapped):
        seen += rows
        fates, valid = metrics.addressing, after.memory.valid
        assert after.rows_seen == after.memory.count.sum() == metrics.mass == seen
        assert fates.kept + fates.modified + fates.replaced == before.memory.valid.sum()
        assert valid.sum() == int(np.float32(0.04) * seen)
        np.testing.assert_array_equal(valid, np.arange(32) < valid.sum())
        np.testing.assert_array_equal(after.codebook.counts.sum(1), np.full(FIELDS, seen))
    assert runner(devices).compiles == 1


@pytest.mark.parametrize('devices', DEVICES[1:])
def test_what_does_not_depend_on_a_draw_does_not_depend_on_the_devices(days, devices):
    """The reference model, its progressive logits and the codebook; the draws of rows are each device's own."""
    for (_, one, a, rows), (_, other, b, _) in zip(days(1, parallel.pmapped), days(devices, parallel.pmapped)):
        for k in range(1 + len(TWINS)):
            assert_near(unshard(one.logits[..., k], rows), unshard(other.logits[..., k], rows), 1e-4)
        assert_near(a.reference, b.reference, 1e-4)
        np.testing.assert_allclose(one.train_loss, other.train_loss, rtol=1e-5)
        np.testing.assert_allclose(a.codebook.frequency, b.codebook.frequency)
        assert (a.codebook.code != b.codebook.code).mean() < 0.05  # an argmin may flip
        assert one.rows == other.rows and one.mass == other.mass
    assert_near(days(1, parallel.pmapped)[0][2].codebook, days(devices, parallel.pmapped)[0][2].codebook, 1e-4)


def test_timed_compiles_once_for_each_shape():
    double = Timed(jax.jit(lambda x: 2 * x))
    for size in (3, 3, 4, 3, 4):
        np.testing.assert_array_equal(double(np.ones(size, np.float32)), np.full(size, 2.0))
    assert double.compiles == 2 and double.compile_seconds > 0
    double(np.ones(3, np.int32))
    assert double.compiles == 3  # another type is another program
