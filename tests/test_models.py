"""Every head against its formula written out in NumPy; what `keep`, dropout and the registry promise."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diet_jax import models
from diet_jax.base.errors import UserError

B, F, DIM, SLOTS = 16, 5, 4, 40
SMALL = {'hidden': (6, 5)}
OPTIONS = {'lr': {}, 'fm': {}, 'fwfm': {}, 'autoint': {'attention_dim': 4}}
REQUIRED = ['autoint', 'dcn', 'dcnv2', 'deepfm', 'dlrm', 'finalmlp', 'fm', 'fwfm', 'lr', 'masknet', 'mlp']
REQUIRED += ['wide_deep', 'xdeepfm']


def built(name, **options):
    return models.build(name, dim=DIM, **{**OPTIONS.get(name, SMALL), **options})


def noisy(model, num_fields=F, seed=0):
    """Head parameters none of which is 0, rows f32[B, F, 1 + dim], and both halves of the rows in float64."""
    head = jax.eval_shape(lambda key: model.init(key, 1, num_fields), jax.random.key(0))['head']
    rng = np.random.default_rng(seed)
    head = jax.tree.map(lambda p: np.float32(rng.normal(size=p.shape) * 0.5), head)
    rows = rng.normal(size=(B, num_fields, 1 + DIM)).astype(np.float32)
    return head, rows, rows[..., 1:].astype(float), rows[..., 0].astype(float)


def relu(x):
    return np.maximum(x, 0)


def dense(params, x):
    return x @ np.asarray(params['kernel'], float) + np.asarray(params.get('bias', 0.0), float)


def tower(params, x):
    for layer in range(len(params)):
        x = relu(dense(params[f'Dense_{layer}'], x))
    return x


def readout(params, x):
    return dense(params['Dense_0'], x)[:, 0]


def deep(head, e, index=0):
    return readout(head[f'Readout_{index}'], tower(head['MLP_0'], e.reshape(len(e), -1)))


def pair_sum(e, strength=None):
    total = np.zeros(len(e))
    for i in range(e.shape[1]):
        for j in range(i + 1, e.shape[1]):
            total += (1.0 if strength is None else strength[i, j]) * (e[:, i] * e[:, j]).sum(1)
    return total


def norm(params, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * np.asarray(params['scale'], float) + np.asarray(params['bias'], float)


def lr(head, e, w):
    return w.sum(1) + float(head['Bias_0']['bias'])


def fm(head, e, w):
    return lr(head, e, w) + pair_sum(e)


def fwfm(head, e, w):
    return lr(head, e, w) + pair_sum(e, np.asarray(head['strength'], float))


def mlp(head, e, w):
    return deep(head, e)


def wide_deep(head, e, w):
    return w.sum(1) + deep(head, e)


def deepfm(head, e, w):
    return w.sum(1) + pair_sum(e) + deep(head, e)


def dcn(head, e, w):
    x0 = x = e.reshape(B, -1)
    for layer in range(3):
        weight = np.asarray(head[f'cross_weight_{layer}'], float)[:, 0]
        bias = np.asarray(head[f'cross_bias_{layer}'], float)[0]
        x = np.stack([x0[b] * (x[b] @ weight) + bias + x[b] for b in range(B)])
    return readout(head['Readout_0'], np.concatenate([x, tower(head['MLP_0'], x0)], 1))


def dcnv2(head, e, w):
    x0 = x = e.reshape(B, -1)
    for layer in range(2):
        low_rank = f'cross_v_{layer}' in head
        matrix = np.asarray(head[f'cross_u_{layer}']['kernel'], float)
        if low_rank:
            matrix = np.asarray(head[f'cross_v_{layer}']['kernel'], float) @ matrix
        bias = np.asarray(head[f'cross_u_{layer}']['bias'], float)
        x = np.stack([x0[b] * (matrix.T @ x[b] + bias) + x[b] for b in range(B)])
    return readout(head['Readout_0'], np.concatenate([x, tower(head['MLP_0'], x0)], 1))


def dlrm(head, e, w):
    dots = [(e[:, i] * e[:, j]).sum(1) for i in range(F) for j in range(i + 1, F)]
    return readout(head['Readout_0'], tower(head['MLP_0'], np.concatenate([w, np.stack(dots, 1)], 1)))


def xdeepfm(head, e, w):
    x, pooled = e, []
    for layer in range(2):
        weight = np.asarray(head[f'cin_{layer}'], float)
        weight = weight.reshape(F, x.shape[1], weight.shape[1])  # field of e, row of x, row of the next x
        following = np.zeros((B, weight.shape[2], DIM))
        for j in range(F):
            for i in range(x.shape[1]):
                for h in range(weight.shape[2]):
                    following[:, h] += weight[j, i, h] * x[:, i] * e[:, j]
        x = following
        pooled.append(x.sum(2))
    flat = np.concatenate([*pooled, tower(head['MLP_0'], e.reshape(B, -1))], 1)
    return w.sum(1) + readout(head['Readout_0'], flat)


def autoint(head, e, w):
    x, width, heads = e, 4, 2
    for layer in range(2):
        kernel = np.asarray(head[f'attention_{layer}']['kernel'], float)
        parts = [kernel[:, p * width : (p + 1) * width] for p in range(4)]
        out = np.zeros((B, F, width))
        for b in range(B):
            query, key, value, residual = (x[b] @ part for part in parts)
            for h in range(heads):
                cut = slice(h * width // heads, (h + 1) * width // heads)
                attention = np.exp(query[:, cut] @ key[:, cut].T)
                attention /= attention.sum(1, keepdims=True)
                out[b, :, cut] = attention @ value[:, cut]
            out[b] = relu(out[b] + residual)
        x = out
    logits = readout(head['Readout_0'], x.reshape(B, -1))
    return logits + deep(head, e, 1) if 'MLP_0' in head else logits


def finalmlp(head, e, w):
    flat, streams = e.reshape(B, -1), []
    for s in range(2):
        gate = 2 / (1 + np.exp(-np.asarray(head[f'gate_{s}'], float)[0]))
        streams.append(tower(head[f'MLP_{s}'], gate * flat))
    matrix = np.asarray(head['bilinear']['kernel'], float)
    bilinear = np.array([streams[0][b] @ matrix @ streams[1][b] for b in range(B)])
    return bilinear + readout(head['Readout_0'], np.concatenate(streams, 1))


def masknet(head, e, w):
    flat, blocks = e.reshape(B, -1), []
    normed = norm(head['norm_embeddings'], e).reshape(B, -1)
    for k in range(2):
        mask = dense(head[f'mask_out_{k}'], tower(head[f'mask_{k}'], flat))
        blocks.append(relu(norm(head[f'norm_{k}'], dense(head[f'block_{k}'], normed * mask))))
    return readout(head['Readout_0'], tower(head['MLP_0'], np.concatenate(blocks, 1)))


FORMULAS = [lr, fm, fwfm, mlp, wide_deep, deepfm, dcn, dcnv2, dlrm, xdeepfm, autoint, finalmlp, masknet]
CASES = [(f, {}) for f in FORMULAS] + [(dcnv2, {'rank': None}), (autoint, {'hidden': (6, 5)})]


def test_registry_lists_every_model():
    assert set(REQUIRED) <= set(models.names()) and models.names() == sorted(models.names())
    assert sorted(f.__name__ for f in FORMULAS) == REQUIRED


@pytest.mark.parametrize(('formula', 'options'), CASES, ids=[f'{f.__name__}{o or ""}' for f, o in CASES])
def test_head_is_its_formula(formula, options):
    model = built(formula.__name__, **options)
    head, rows, e, w = noisy(model)
    with jax.numpy_rank_promotion('raise'), jax.numpy_dtype_promotion('strict'):
        logits = jax.jit(model.rows)(head, rows)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, formula(head, e, w), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize('name', REQUIRED)
def test_trains_and_has_finite_second_derivatives_at_zero(name):
    model = built(name)
    rng = np.random.default_rng(0)
    ids = jnp.asarray(rng.integers(0, SLOTS // F, (64, F)) + np.arange(F) * (SLOTS // F), jnp.int32)
    effects = rng.normal(size=SLOTS)
    y = jnp.asarray(rng.random(64) < 1 / (1 + np.exp(-effects[ids].sum(1))), jnp.float32)

    def loss(params, target):
        logits = model.apply(params, ids)
        return jnp.mean(jax.nn.softplus(logits) - target * logits)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def trained(params, target):
        """The loss after 40 steps; its derivative is a meta-gradient, through every one of them."""

        def step(carry, _):
            params, velocity = carry
            velocity = jax.tree.map(lambda v, g: 0.9 * v - 0.2 * g, velocity, jax.grad(loss)(params, target))
            return (jax.tree.map(jnp.add, params, velocity), velocity), None

        start = params, jax.tree.map(jnp.zeros_like, params)
        return loss(jax.lax.scan(step, start, length=40)[0][0], y), loss(params, y)

    params = model.init(jax.random.key(1), SLOTS, F)
    params['table'] = np.float32(rng.normal(size=params['table'].shape) * 0.5)
    zero = jax.tree.map(np.zeros_like, params)
    (after, before), meta_gradient = trained(params, y)
    assert after < 0.8 * before
    gradients = meta_gradient, trained(zero, y)[1], trained({**params, 'table': zero['table']}, y)[1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize('name', ['autoint', 'xdeepfm'])
def test_derivatives_agree_with_finite_differences(name):
    model = built(name)
    head, rows, _, _ = noisy(model)
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        point = jax.tree.map(np.float64, (head, rows))
        direction = jax.tree.map(lambda p: rng.normal(size=p.shape), point)
        weights = rng.normal(size=B)

        @jax.jit
        def along(step):
            """Value, gradient, slope and Hessian product at `point + step direction`."""

            def scalar(point):
                return model.rows(*point) @ weights

            at = jax.tree.map(lambda p, d: p + step * d, point, direction)
            return jax.jvp(jax.value_and_grad(scalar), (at,), (direction,))

        step = 1e-6
        (_, gradient), (slope, hessian_product) = along(0.0)
        (high, above), (low, below) = along(step)[0], along(-step)[0]
        inner = sum((g * d).sum() for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
        assert slope.dtype == jnp.float64
        np.testing.assert_allclose([slope, inner], (high - low) / (2 * step), rtol=1e-6)
        for product, up, down in zip(*map(jax.tree.leaves, (hessian_product, above, below)), strict=True):
            np.testing.assert_allclose(product, (up - down) / (2 * step), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['fm', 'fwfm', 'autoint'])
def test_keep_hides_the_other_fields(name):
    keep = (3, 0, 4)
    model, whole = built(name, keep=keep), built(name)
    params = model.init(jax.random.key(2), SLOTS, F)
    params['table'] = jax.random.normal(jax.random.key(3), params['table'].shape)
    ids = np.random.default_rng(0).integers(0, SLOTS, (B, F)).astype(np.int32)
    apply = jax.jit(model.apply)
    logits = apply(params, ids)
    hidden, seen = ids.copy(), ids.copy()
    hidden[:, [1, 2]] = (hidden[:, [1, 2]] + 7) % SLOTS
    seen[:, 4] = (seen[:, 4] + 7) % SLOTS
    np.testing.assert_array_equal(apply(params, hidden), logits)
    assert (np.asarray(apply(params, seen)) != logits).any()
    # The model is the one that was never given the hidden fields at all.
    np.testing.assert_allclose(whole.apply(params, ids[:, keep]), logits, rtol=1e-5, atol=1e-5)


def test_init_is_a_function_of_the_key_and_grows_with_the_vocabulary():
    model = built('deepfm')
    first, again = (model.init(jax.random.key(0), 30, F) for _ in range(2))
    other, grown = model.init(jax.random.key(1), 30, F), model.init(jax.random.key(0), 90, F)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (first['table'] != other['table']).any()
    # More slots: the same head, and the rows that were there before are the same rows.
    jax.tree.map(np.testing.assert_array_equal, first['head'], grown['head'])
    np.testing.assert_array_equal(first['table'], grown['table'][:30])
    assert first['table'].dtype == jnp.float32 and (first['table'][:, 0] == 0).all()
    table = models.build('lr', dim=64, init_std=0.05).init(jax.random.key(0), 2000, F)['table'][:, 1:]
    assert abs(float(table.std()) / 0.05 - 1) < 0.02 and abs(float(table.mean())) < 0.001


def test_dropout_only_with_a_key():
    model = built('mlp', dropout=0.5)
    head, rows, e, w = noisy(model)
    np.testing.assert_allclose(model.rows(head, rows), mlp(head, e, w), rtol=1e-4, atol=1e-4)
    one, same = (model.rows(head, rows, dropout_key=jax.random.key(0)) for _ in range(2))
    other = model.rows(head, rows, dropout_key=jax.random.key(1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any() and (one != model.rows(head, rows)).any()


def test_equal_builds_are_one_object_so_jit_compiles_once():
    model = models.build('deepfm', dim=4, hidden=[8, 4], keep=[0, 1])
    assert model is models.build('deepfm', dim=4, hidden=(8, 4), keep=(0, 1))
    assert model is not models.build('deepfm', dim=4, hidden=(8, 4))
    traces = []

    def forward(model, params, ids):
        traces.append(1)
        return model.apply(params, ids)

    forward = jax.jit(forward, static_argnums=0)
    for _ in range(2):
        model = models.build('lr', dim=4)
        forward(model, model.init(jax.random.key(0), SLOTS, F), jnp.zeros((B, F), jnp.int32))
    assert len(traces) == 1


def test_a_model_of_your_own_in_a_few_lines():
    @models.register('mean_pool_of_the_test')
    class MeanPool(nn.Module):
        scale: float = 1.0

        @nn.compact
        def __call__(self, embeddings, first_order, *, deterministic):
            return self.scale * nn.Dense(1)(embeddings.mean(1))[:, 0] + first_order.sum(1)

    model = models.build('mean_pool_of_the_test', dim=DIM, scale=2.0)
    assert 'mean_pool_of_the_test' in models.names()
    head, rows, e, w = noisy(model)
    expected = 2 * dense(head['Dense_0'], e.mean(1))[:, 0] + w.sum(1)
    np.testing.assert_allclose(model.rows(head, rows), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('depfm', {}), ["'depfm'", "did you mean 'deepfm'?", 'autoint, ', 'xdeepfm']),
        (('deepfm', {'hiden': (8,)}), ["'hiden'", "did you mean 'hidden'?", 'dropout, hidden']),
        (('lr', {'hidden': (8,)}), ["'lr'", "'hidden'", 'it takes none']),
        (('fm', {'keep': ()}), ["'fm'", 'keep=()']),
        (('fm', {'keep': (1, 1)}), ['keep=(1, 1)']),
        (('fm', {'dim': 0}), ['dim=0']),
    ],
)
def test_mistakes_are_one_clear_line(arguments, words):
    name, options = arguments
    with pytest.raises(UserError) as error:
        models.build(name, **options)
    assert '\n' not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_mistakes_that_show_when_the_model_runs():
    with pytest.raises(UserError, match='field 9, but there are 5'):
        models.build('fm', keep=(0, 9)).init(jax.random.key(0), SLOTS, F)
    with pytest.raises(UserError, match='attention_dim=15'):
        models.build('autoint', attention_dim=15).init(jax.random.key(0), SLOTS, F)
    with pytest.raises(UserError, match="'fm' is already"):
        models.register('fm')(models.heads.LR)
    with pytest.raises(UserError, match=r'no flax\.linen\.Module or flax\.nnx\.Module class'):
        models.register('a_function')(lambda x: x)

    @models.register('batch_norm_of_the_test')
    class Stateful(nn.Module):
        @nn.compact
        def __call__(self, embeddings, first_order, *, deterministic):
            return nn.BatchNorm(use_running_average=deterministic)(first_order).sum(1)

    with pytest.raises(UserError, match="state in \\['batch_stats'\\]"):
        models.build('batch_norm_of_the_test').init(jax.random.key(0), SLOTS, F)


class Towers(nnx.Module):
    """A tower in NNX: what the Linen tower of `mlp` computes."""

    def __init__(self, num_fields: int, dim: int, hidden: int = 8, dropout: float = 0.0, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(num_fields * dim, hidden, rngs=rngs)
        self.drop = nnx.Dropout(dropout, rngs=rngs)
        self.last = nnx.Linear(hidden, 1, rngs=rngs)

    def __call__(self, embeddings, first_order, *, deterministic):
        x = nnx.relu(self.first(embeddings.reshape(embeddings.shape[0], -1)))
        return self.last(self.drop(x, deterministic=deterministic))[:, 0]


def test_an_nnx_module_is_a_model_as_a_linen_one_is():
    models.register('nnx_towers')(Towers)
    ours, linen = models.build('nnx_towers', dim=4, hidden=16), models.build('mlp', dim=4, hidden=(16,))
    assert ours is models.build('nnx_towers', dim=4, hidden=16)
    params, ids = ours.init(jax.random.key(0), 30, 3), np.arange(12).reshape(4, 3)
    (dense, readout) = params['head']['first'], params['head']['last']
    same = {'MLP_0': {'Dense_0': dense}, 'Readout_0': {'Dense_0': readout}}
    chex.assert_trees_all_equal_shapes(same, linen.init(jax.random.key(0), 30, 3)['head'])
    np.testing.assert_allclose(
        ours.apply(params, ids), linen.apply({'table': params['table'], 'head': same}, ids), rtol=1e-6
    )
    grads = jax.jit(jax.grad(lambda p: ours.apply(p, ids).sum()))(params)
    assert float(jnp.abs(grads['head']['first']['kernel']).max()) > 0
    noisy = models.build('nnx_towers', dim=4, hidden=16, dropout=0.5)
    once, twice, other = (noisy.apply(params, ids, dropout_key=jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(once, twice)
    assert np.abs(once - other).max() > 0
    with pytest.raises(UserError, match="'nnx_towers' has no option 'wide'.*it takes: dropout, hidden"):
        models.build('nnx_towers', wide=3)
