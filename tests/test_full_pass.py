"""The full side: what is kept is what was computed, and what decides it; weight decay; fields that are not seen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from core import assert_near, assert_same
from tiny import ROWS

from diet_jax.base.errors import UserError
from diet_jax.data.stream import open_stream
from diet_jax.models import candidates
from diet_jax.models.recipes import DEFAULT, Recipe
from diet_jax.training.batches import Batches
from diet_jax.training.losses import row_losses
from diet_jax.training.optimizers import EPS_ROOT
from diet_jax.training.passes import init_stream, stream_step
from diet_jax.training.students import init_student, inner_step
from diet_jax.trials import full_pass
from diet_jax.trials.log import EvaluationLog, read_blocks
from diet_jax.trials.rows import padded
from diet_jax.trials.students import laid_out, train_grid

FIELDS = ['user', 'item', 'tab', 'price', 'hour']
LRS, SEEDS = (2e-3, 1e-2), 2
LR, DECAY = 0.02, 0.3


def candidate(**options):
    roles = options.pop('roles', None)
    return candidates.candidate({'model': 'fm', **options}, 4, FIELDS, roles)


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return open_stream(tiny.get_config().data, tmp_path_factory.mktemp('log'), lambda line: None)


@pytest.fixture(scope='module')
def log(stream) -> EvaluationLog:
    return read_blocks(stream, 64, 512)


class Relabelled:
    """The same stream, with one click of a block turned round."""

    def __init__(self, stream, block):
        self.stream, self.block = stream, block

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def load(self, t):
        block = self.stream.load(t)
        if t == self.block:
            block.label[7] = 1 - block.label[7]
        return block


@pytest.fixture(scope='module')
def relabelled(stream):
    return lambda block: read_blocks(Relabelled(stream, block), 64, 512)


# Kept passes.


def test_kept_and_recomputed_passes_are_equal_bit_for_bit(log, tmp_path, monkeypatch):
    first = full_pass.passes(candidate(), log, LRS, seeds=SEEDS, boundaries=[1, 2], cache=tmp_path)
    again = full_pass.passes(candidate(), log, LRS, seeds=SEEDS, boundaries=[1, 2])
    assert_same((first.logits, first.old_auc), (again.logits, again.old_auc))
    assert {at: x.shape for at, x in first.logits.items()} == {
        (t, block): (2, SEEDS, ROWS) for t, block in ((1, 1), (1, 2), (2, 2), (2, 3))
    }
    monkeypatch.setattr(full_pass, 'one_pass', lambda *_, **__: pytest.fail('trained again'))
    kept = full_pass.passes(candidate(), log, LRS, seeds=SEEDS, boundaries=[1, 2], cache=tmp_path)
    assert_same(first._asdict(), kept._asdict())
    assert first.seconds.shape == (2, SEEDS, 2) and (first.seconds > 0).all()


def test_a_pass_does_not_know_where_it_will_be_scored_nor_what_comes_later(log, relabelled):
    """The predictions after D_1 are the same whether the pass goes on or stops there, whatever D_2.. say."""
    on, _, _ = full_pass.one_pass(candidate().model, log, lr=LR, seed=1, boundaries=[1, 2])
    stopped, _, _ = full_pass.one_pass(candidate().model, relabelled(1), lr=LR, seed=1, boundaries=[1])
    assert_same({at: on[at] for at in stopped}, stopped)
    assert not np.array_equal(
        on[2, 2], full_pass.one_pass(candidate().model, relabelled(1), lr=LR, seed=1, boundaries=[2])[0][2, 2]
    )


def test_a_pass_is_compiled_once_for_all_blocks_rates_and_seeds(log):
    model = candidate(dim=3).model
    for lr in LRS:
        full_pass.one_pass(model, log, lr=lr, seed=0, boundaries=[1, 2])
    step, _, predict = full_pass.compiled_pass(model, DEFAULT)
    assert step.compiles == 1 and predict._cache_size() == 1


@pytest.fixture
def trained(monkeypatch):
    """Instead of training: notes what is to be trained."""
    calls = []

    def fake(model, log, *, lr, seed, boundaries, recipe, outcomes, old):
        calls.append((lr, seed))
        return {(t, block): np.zeros(2) for t in boundaries for block in (t, t + 1)}, np.zeros(2), np.zeros(2)

    monkeypatch.setattr(full_pass, 'one_pass', fake)
    return calls


def test_what_decides_the_passes_is_in_the_key_of_the_cache(stream, log, relabelled, tmp_path, trained, monkeypatch):
    usual = dict(candidate=candidate(), log=log, lrs=LRS, seeds=SEEDS, boundaries=[2])
    full_pass.passes(**usual, cache=tmp_path)
    assert trained == [(lr, seed) for lr in LRS for seed in range(SEEDS)]
    changes = [
        dict(log=relabelled(0)),
        dict(log=relabelled(3)),
        dict(log=log._replace(capacity=1024)),
        dict(log=read_blocks(stream, 32, 512)),
        dict(lrs=LRS[:1]),
        dict(lrs=LRS[::-1]),
        dict(seeds=3),
        dict(boundaries=[1]),
        dict(boundaries=[1, 2]),
        dict(candidate=candidate(dim=5)),
        dict(candidate=candidate(init_std=0.02)),
        dict(candidate=candidate(model='deepfm', name='fm')),
        dict(candidate=candidate(model='deepfm', hidden=(8,), name='fm')),
        dict(candidate=candidate(weight_decay=0.1)),
        dict(candidate=candidate(weight_decay=0.2)),
        dict(candidate=candidate(drop=('user',))),
        # The pool says 'item' in both; the roles say which field that is.
        dict(candidate=candidate(drop=('item',))),
        dict(candidate=candidate(drop=('item',), roles={'item': 'tab'})),
    ]
    for change in changes:
        trained.clear()
        full_pass.passes(**{**usual, **change}, cache=tmp_path)
        assert trained, change
    monkeypatch.setattr(full_pass.keep, 'code_digest', lambda folder: 'another')
    trained.clear()
    full_pass.passes(**usual, cache=tmp_path)
    assert trained
    monkeypatch.undo()
    monkeypatch.setattr(full_pass, 'one_pass', lambda *_, **__: pytest.fail('trained again'))
    for change in [{}, *changes, dict(log=relabelled(None))]:
        full_pass.passes(**{**usual, **change}, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 + len(changes)


def test_an_interrupted_write_leaves_nothing_half_written(log, tmp_path, trained, monkeypatch):
    def torn(file, **arrays):
        file.write(b'PK')
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(full_pass.np, 'savez', torn)
        full_pass.passes(candidate(), log, LRS, seeds=SEEDS, boundaries=[2], cache=tmp_path)
    assert not list(tmp_path.iterdir())
    trained.clear()
    first = full_pass.passes(candidate(), log, LRS, seeds=SEEDS, boundaries=[2], cache=tmp_path)
    assert len(trained) == 4 and [path.suffix for path in tmp_path.iterdir()] == ['.npz']
    assert_same(
        first.logits, full_pass.passes(candidate(), log, LRS, seeds=SEEDS, boundaries=[2], cache=tmp_path).logits
    )
    assert len(trained) == 4


# Weight decay.


@pytest.fixture(scope='module')
def small():
    """(ids i32[10, 12, 3], labels) of ten batches of 12 rows, each with all 9 slots of 3 fields."""
    rng = np.random.default_rng(0)
    turn = rng.permuted(np.tile(np.arange(3), (10, 3, 4)), axis=2).swapaxes(1, 2)
    return (turn + 3 * np.arange(3)).astype(np.int32), rng.integers(0, 2, (10, 12)).astype(np.float32)


def lazy(decay):
    return Recipe('lazy_adam', weight_decay=decay)


MODEL = candidates.candidate({'model': 'deepfm', 'hidden': (6,)}, 4, ()).model


@pytest.mark.parametrize('decay', [0.0, DECAY])
def test_decay_along_the_stream_is_optax_adamw(small, decay):
    """Where every row of the table is touched: AdamW on all parameters, embeddings, first order and head."""
    state = init_stream(MODEL, jax.random.key(0), 9, 3)
    dense, adamw = state.params, optax.adamw(LR, weight_decay=decay)
    moments = adamw.init(dense)
    step = jax.jit(lambda s, ids, y: stream_step(MODEL, s, ids, y, jnp.ones(12), LR, recipe=lazy(decay))[0])

    @jax.jit
    def dense_step(params, moments, ids, y):
        grads = jax.grad(lambda p: jnp.mean(row_losses(MODEL.apply(p, ids), y)))(params)
        update, moments = adamw.update(grads, moments, params)
        return optax.apply_updates(params, update), moments

    for ids, y in zip(*small):
        state, (dense, moments) = step(state, ids, y), dense_step(dense, moments, ids, y)
    assert_near(state.params, dense, 2e-5)


@pytest.mark.parametrize('decay', [0.0, DECAY])
def test_decay_of_a_dense_student_is_optax_adamw(small, decay):
    state = init_student(MODEL, jax.random.key(0), 9, 3)
    dense, adamw = state.params, optax.adamw(LR, eps_root=EPS_ROOT, weight_decay=decay)
    moments = adamw.init(dense)
    weight = jnp.arange(12.0)
    step = jax.jit(lambda s, ids, y: inner_step(MODEL, s, ids, y, weight, LR, recipe=lazy(decay)))

    @jax.jit
    def dense_step(params, moments, ids, y):
        loss = lambda p: jnp.average(row_losses(MODEL.apply(p, ids), y), weights=weight)  # noqa: E731
        update, moments = adamw.update(jax.grad(loss)(params), moments, params)
        return optax.apply_updates(params, update), moments

    for ids, y in zip(*small):
        state, (dense, moments) = step(state, ids, y), dense_step(dense, moments, ids, y)
    assert_near(state.params, dense, 2e-5)


def test_a_row_without_gradient_shrinks_once_a_batch_that_holds_it_and_else_stays(small):
    """Fields that a model does not see have no gradient: what is left of their rows is (1 - lr decay) ^ batches."""
    unseen = candidates.candidate(
        {'model': 'fm', 'drop': ['b'], 'weight_decay': DECAY, 'optimizer': 'lazy_adam'}, 4, 'abc'
    )
    ids, label = (x.copy() for x in small)
    ids[:, :, 1] = 3
    ids[4:, 0, 1] = 4  # in six batches, once; slot 5 in none
    batches = Batches(ids, label, np.ones((10, 12), np.float32), np.zeros((10, 12), bool), np.int32(10))
    state = init_stream(unseen.model, jax.random.key(0), 9, 3)
    step, *_ = full_pass.compiled_pass(unseen.model, unseen.recipe)
    table = step(state, batches, np.float32(LR), jax.random.key(1)).params['table']
    left = np.array([(1 - LR * DECAY) ** 10, (1 - LR * DECAY) ** 6, 1.0])
    np.testing.assert_allclose(table[3:6], state.params['table'][3:6] * left[:, None], rtol=1e-5)
    # A dense student's rows all shrink at every step: 2 epochs of 3 batches.
    data = padded(ids[:3].reshape(-1, 3), label[:3].ravel(), np.ones(36), 64)
    grid = train_grid(unseen, data, 9, batch=12, epochs=(1, 2), lrs=(LR,), seeds=(0,))
    init = init_student(unseen.model, jax.random.split(jax.random.key(0))[0], 9, 3).params['table']
    for e, steps in enumerate((3, 6)):
        left = (1 - LR * DECAY) ** steps
        np.testing.assert_allclose(grid.params['table'][e, 0, 0, 3:6], init[3:6] * left, rtol=1e-5)


def test_no_decay_is_bit_equal_to_none_and_some_decay_reaches_both_sides(log):
    none, zero, some = candidate(), candidate(weight_decay=0.0), candidate(weight_decay=DECAY)
    assert [c.recipe.weight_decay for c in (none, zero, some)] == [0.0, 0.0, DECAY]
    one = lambda c: full_pass.passes(c, log, (LR,), seeds=1, boundaries=[1]).logits  # noqa: E731
    data = padded(log.rows(0)[:40], log.labels[0][:40], np.ones(40), 64)
    grid = lambda c: train_grid(c, data, log.num_slots[0], batch=16, epochs=(2,), lrs=(LR,), seeds=(0,)).params  # noqa: E731
    for side in (one, grid):
        assert_same(side(none), side(zero))
        assert not all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(side(none)), jax.tree.leaves(side(some))))


# Fields that a candidate does not see.


def shuffled(log, field):
    """The log with one field's values dealt out anew, in every block."""
    rng, batches = np.random.default_rng(0), []
    for t, batch in enumerate(log.batches):
        ids = log.rows(t).copy()
        ids[:, field] = rng.permutation(ids[:, field])
        batches.append(batch._replace(ids=ids.reshape(batch.ids.shape)))
    return log._replace(batches=batches)


@pytest.mark.parametrize('drop, roles', [(('user',), None), (('who',), {'who': 'user', 'what': 'item'})])
def test_what_is_dropped_says_nothing(log, drop, roles):
    """Other users, in training and in scoring: the same predictions bit for bit, on both sides."""
    other = shuffled(log, FIELDS.index('user'))
    blind, seeing = candidate(drop=drop, roles=roles), candidate()
    one = lambda c, log: full_pass.passes(c, log, (LR,), seeds=1, boundaries=[1]).logits  # noqa: E731
    assert_same(one(blind, log), one(blind, other))
    assert not np.array_equal(one(seeing, log)[1, 2], one(seeing, other)[1, 2])

    def student(c, log):
        data = padded(log.rows(0)[:40], log.labels[0][:40], np.ones(40), 64)
        grid = train_grid(c, data, log.num_slots[0], batch=16, epochs=(2,), lrs=(LR,), seeds=(0,))
        return grid.logits(laid_out(log.ids(1, log.num_slots[0])), 0, 0)

    assert_same(student(blind, log), student(blind, other))
    assert not np.array_equal(student(seeing, log), student(seeing, other))


def test_a_mistake_in_a_candidate_is_one_line():
    for options, said in (
        (dict(drop=('usr',)), "candidate fm drops 'usr', which is no field of the log (did you mean 'user'?)"),
        (dict(drop=('who',), roles={'who': 'usr'}), "drops 'usr', which is no field of the log"),
        (dict(drop=('who',), roles={'what': 'user'}), "drops 'who', which is no field of the log"),
        (dict(drop=FIELDS), 'must list at least one position'),
        (dict(weight_decay=-0.1), 'candidate fm: weight_decay=-0.1 is not 0 or more'),
        (dict(hiden=(3,)), "no option 'hiden'"),
    ):
        with pytest.raises(UserError) as error:
            candidate(**options)
        assert said in str(error.value) and '\n' not in str(error.value)
