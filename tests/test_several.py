"""Models of several outcomes: their formulas by hand, and how they are trained, chosen and scored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diet_jax import models
from diet_jax.base.errors import UserError
from diet_jax.base.layout import flat
from diet_jax.models.candidates import candidate
from diet_jax.training.batches import shard_block
from diet_jax.training.losses import row_losses
from diet_jax.training.passes import init_stream, predict, stream_pass

B, F, DIM, K = 5, 3, 4, 3
NAMES = ('click', 'like', 'buy')


def dense(p, x):
    return x @ p['kernel'] + p.get('bias', 0.0)


def mlp(p, x):
    for name in sorted(p):
        x = np.maximum(dense(p[name], x), 0)
    return x


def made(name, outcomes=K, **options):
    model = models.build(name, dim=DIM, outcomes=outcomes, **options)
    rows = np.random.default_rng(0).normal(size=(B, F, 1 + DIM)).astype(np.float32)
    return model, model.init(jax.random.key(1), 7, F)['head'], rows


def test_shared_bottom_is_a_tower_and_a_small_one_an_outcome():
    model, head, rows = made('shared_bottom', hidden=(6, 5), tower=(4,))
    p = jax.tree.map(np.asarray, head)
    shared = mlp(p['MLP_0'], rows[..., 1:].reshape(B, -1))
    expected = [dense(p[f'Readout_{k}']['Dense_0'], mlp(p[f'MLP_{k + 1}'], shared))[:, 0] for k in range(K)]
    np.testing.assert_allclose(model.rows(head, rows), np.stack(expected, -1), rtol=1e-5, atol=1e-6)


def test_mmoe_mixes_experts_by_a_gate_an_outcome():
    model, head, rows = made('mmoe', experts=2, hidden=(6,), tower=(4,))
    p, x = jax.tree.map(np.asarray, head), rows[..., 1:].reshape(B, -1)
    said = [mlp(p[f'MLP_{i}'], x) for i in range(2)]
    gate = np.exp(dense(p['Dense_0'], x).reshape(B, K, 2))
    gate /= gate.sum(-1, keepdims=True)
    expected = []
    for k in range(K):
        mixed = sum(gate[:, k, i : i + 1] * said[i] for i in range(2))
        expected.append(dense(p[f'Readout_{k}']['Dense_0'], mlp(p[f'MLP_{2 + k}'], mixed))[:, 0])
    np.testing.assert_allclose(model.rows(head, rows), np.stack(expected, -1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', ['shared_bottom', 'mmoe'])
def test_second_derivatives_are_finite_and_one_outcome_is_an_ordinary_model(name):
    model, head, rows = made(name)
    target = jnp.zeros((B, K))
    loss = lambda rows: row_losses(model.rows(head, rows), target).sum()  # noqa: E731
    hessian = jax.hessian(loss)(jnp.asarray(rows) * 0)
    assert np.isfinite(hessian).all()
    one, head, rows = made(name, outcomes=1)
    assert one.rows(head, rows).shape == (B,) and one.outcomes == 1


def test_the_loss_is_the_sum_over_outcomes_and_the_first_is_what_is_predicted():
    rng = np.random.default_rng(2)
    ids, labels = rng.integers(0, 9, (40, F)).astype(np.int32), rng.integers(0, 2, (K, 40)).astype(np.float32)
    model = models.build('shared_bottom', dim=DIM, outcomes=K, hidden=(6,), tower=(4,))
    block = shard_block(ids, labels[0], labels[0] > 2, devices=1, batch=8, steps=5, others=labels[1:])
    block = jax.tree.map(lambda x: x[0], block)
    block = jax.tree.map(jnp.asarray, block)
    both = block._replace(label=jnp.stack([block.label, *block.others], -1), others=())
    state, logits = stream_pass(model, init_stream(model, jax.random.key(0), 9, F), both, 0.01)
    assert logits.shape == (5, 8) and predict(model, state.params, ids).shape == (40,)
    start = init_stream(model, jax.random.key(0), 9, F).params
    np.testing.assert_allclose(logits[0], model.apply(start, ids[:8])[:, 0], rtol=1e-5)
    bce = lambda z, y: np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0) - z * y  # noqa: E731
    z = np.asarray(model.apply(start, ids))
    np.testing.assert_allclose(row_losses(z, labels.T), bce(z, labels.T).sum(1), rtol=1e-5)
    other = block._replace(label=jnp.stack([block.label, 1 - block.others[0], block.others[1]], -1), others=())
    changed, _ = stream_pass(model, init_stream(model, jax.random.key(0), 9, F), other, 0.01)
    assert np.abs(changed.params['table'] - state.params['table']).max() > 1e-4, 'the table learns from all'


def test_an_nnx_module_is_told_how_many_outcomes_it_predicts():
    @models.register('uses_nnx')
    class Linear(nnx.Module):
        def __init__(self, num_fields, dim, outcomes: int, *, rngs):
            self.last = nnx.Linear(num_fields * dim, outcomes, rngs=rngs)

        def __call__(self, embeddings, first_order, *, deterministic):
            return self.last(embeddings.reshape(len(embeddings), -1))

    model, head, rows = made('uses_nnx')
    p = jax.tree.map(np.asarray, head['last'])
    np.testing.assert_allclose(model.rows(head, rows), dense(p, rows[..., 1:].reshape(B, -1)), rtol=1e-5, atol=1e-6)
    one, head, rows = made('uses_nnx', outcomes=1)
    assert one.rows(head, rows).shape == (B,)


def test_a_candidate_names_what_it_predicts_the_asked_one_first():
    many = candidate(dict(model='mmoe', outcomes=('buy', 'like')), DIM, flat('abc'), None, ('like', 'click', 'buy'))
    assert many.outcomes == ('like', 'buy') and many.model.outcomes == 2
    alone = candidate('deepfm', DIM, flat('abc'), None, NAMES)
    assert alone.outcomes == () and 'outcomes' not in alone.config
    assert many.inputs() != candidate('mmoe', DIM, flat('abc'), None, NAMES).inputs()


@pytest.mark.parametrize(
    ('spec', 'words'),
    [
        (dict(model='mmoe', outcomes=('click', 'lke')), "'lke', which is no outcome of the log (did you mean 'like'"),
        (dict(model='mmoe', outcomes=('like', 'buy')), 'predicts like, buy, and click is asked: --label=like'),
        (
            dict(model='deepfm', outcomes=('click', 'buy')),
            'predicts one outcome, not 2; of several: mmoe, shared',
        ),
        (dict(model='mmoe', outcomes=('click',), experts=2, gates=3), "has no option 'gates'"),
        (dict(model='mmoe', outcomes=3), "outcomes=3 are no names: write outcomes=('click', 'like')"),
    ],
)
def test_a_candidate_that_cannot_is_one_clear_line(spec, words):
    with pytest.raises(UserError) as error:
        candidate({'name': 'x', **spec}, DIM, flat('abc'), None, NAMES)
    assert words in str(error.value) and '\n' not in str(error.value)


def test_a_model_of_the_run_itself_names_no_outcomes():
    with pytest.raises(UserError, match='names outcomes: candidates do'):
        models.of(dict(model='mmoe', outcomes=('click', 'like')), DIM)
