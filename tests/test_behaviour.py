"""Every head that reads a sequence against its formula written out in NumPy; derivatives; what it can learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from listed import (
    DIM,
    LAYOUT,
    NAMES,
    OWNERS,
    READERS,
    SEQUENCES,
    B,
    built,
    drawn,
    means,
    noisy_head,
    table,
)

from diet_jax import models
from diet_jax.base.layout import PAD, Layout


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(params, x):
    return x @ np.asarray(params['kernel'], float) + np.asarray(params.get('bias', 0.0), float)


def norm(params, x):
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
    return x * np.asarray(params['scale'], float) + np.asarray(params['bias'], float)


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def a_row(ids, rows, b, sequence='history'):
    """(the events of a row that are there f64[n, K dim], the target f64[K dim], [n, K] of same), by loops."""
    fields = [f for f in range(len(NAMES)) if SEQUENCES[f] == sequence]
    owns = [OWNERS[f] if OWNERS[f] != f else None for f in fields]
    columns = [ids[b, LAYOUT.at(f)] for f in fields]
    of = lambda c: rows[c, 1:].astype(float) if c != PAD else np.zeros(DIM)  # noqa: E731
    there = [t for t, c in enumerate(columns[0]) if c != PAD]
    events = [np.concatenate([of(column[t]) for column in columns]) for t in there]
    target = np.concatenate([of(PAD if own is None else ids[b, own]) for own in owns])
    same = [[own is not None and column[t] == ids[b, own] for column, own in zip(columns, owns)] for t in there]
    return np.reshape(events, (-1, len(fields) * DIM)), target, np.reshape(same, (-1, len(fields)))


def din(head, e, t, same, at=0):
    unit, pooled = head[f'LocalActivation_{at}'], np.zeros(len(t))
    for event in e:
        x = np.concatenate([event, t, event - t, event * t]) @ np.asarray(unit['kernel'], float) + unit['bias']
        for layer in range(2):
            x = dense(unit[f'Dense_{layer}'], relu(x))
        pooled += x * event
    return pooled


def bst(head, e, t, same):
    block = head['Block_0']
    x = np.array([t, *e[::-1]]) + np.asarray(block['places'], float)[: len(e) + 1]
    query, key, value = np.split(np.asarray(block['project']['kernel'], float), 3, axis=1)
    y = []
    for row in x:
        read = []
        for h in range(2):
            cut = slice(2 * h, 2 * h + 2)
            weight = softmax((x @ key)[:, cut] @ (row @ query)[cut] / np.sqrt(2))
            read.append(weight @ (x @ value)[:, cut])
        s = norm(block['norm_0'], row + dense(block['out'], np.concatenate(read)))
        inner = dense(block['inner'], s)
        y.append(norm(block['norm_1'], s + dense(block['outer'], np.where(inner > 0, inner, 0.01 * inner))))
    return np.concatenate([y[0], np.mean(y[1:], 0) if len(e) else np.zeros(len(t))])


def gru(params, xs, scales):
    n, states = xs.shape[1], [np.zeros(xs.shape[1])]
    given, inner, bias = (np.asarray(params[name], float) for name in ('given', 'inner', 'bias'))
    for x, scale in zip(xs, scales, strict=True):
        x, back = x @ given + bias, states[-1] @ inner
        update, reset = sigmoid(x[:n] + back[:n]), sigmoid(x[n : 2 * n] + back[n : 2 * n])
        new = np.tanh(x[2 * n :] + reset * back[2 * n :])
        states.append((1 - scale * update) * states[-1] + scale * update * new)
    return np.array(states)


def dien(head, e, t, same):
    if not len(e):
        return np.zeros(len(t))
    states = gru(head['GRU_0'], e, np.ones(len(e)))[1:]
    return gru(head['GRU_1'], states, softmax(states @ dense(head['Dense_0'], t)))[-1]


def sim(head, e, t, same):
    found, read = e[same[:, 1].astype(bool)], np.zeros(4)  # by kind: the last column that shares a field
    key, value = np.split(np.asarray(head['Dense_1']['kernel'], float), 2, axis=1)
    for h in range(2 * (len(found) > 0)):
        cut = slice(2 * h, 2 * h + 2)
        weight = softmax((found @ key)[:, cut] @ dense(head['Dense_0'], t)[cut] / np.sqrt(2))
        read[cut] = weight @ (found @ value)[:, cut]
    return read


FORMULAS = {'bst': bst, 'dien': dien, 'din': din, 'sim': sim}


def expected(head, ids, rows, read):
    """Logits of a reader: the tower over the entries of all fields and what `read` makes of a row."""
    entries = means(ids, rows)[..., 1:].reshape(B, -1)
    x = np.concatenate([entries, [read(b) for b in range(B)]], 1)
    for layer in range(2):
        x = relu(dense(head['MLP_0'][f'Dense_{layer}'], x))
    return dense(head['Readout_0']['Dense_0'], x)[:, 0]


@pytest.mark.parametrize('name', READERS)
@pytest.mark.parametrize('most', [None, 2])
def test_head_is_its_formula(name, most):
    model = built(name, max_len=most)
    ids, rows = drawn(), table()
    head = noisy_head(model, LAYOUT.columns)

    def read(b):
        e, t, same = a_row(ids, rows, b)
        return FORMULAS[name](head, *((e, t, same) if most is None else (e[-most:], t, same[-most:])))

    with jax.numpy_rank_promotion('raise'), jax.numpy_dtype_promotion('strict'):
        logits = jax.jit(model.rows)(head, rows[ids], ids)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, expected(head, ids, rows, read), rtol=2e-4, atol=2e-4)


def test_without_a_name_every_sequence_is_read_by_a_unit_of_its_own():
    model = built('din', sequence='')
    ids, rows = drawn(), table()
    head = noisy_head(model, LAYOUT.columns)
    read = lambda b: np.concatenate(  # noqa: E731
        [din(head, *a_row(ids, rows, b, name), at=i) for i, name in enumerate(('history', 'words'))]
    )
    np.testing.assert_allclose(model.rows(head, rows[ids], ids), expected(head, ids, rows, read), rtol=2e-4, atol=2e-4)


def test_a_sequence_with_nothing_to_search_by_is_passed_over():
    of_one, of_all = built('sim'), built('sim', sequence='')
    ids, rows = drawn(), table()
    head = noisy_head(of_one, LAYOUT.columns)
    np.testing.assert_array_equal(of_one.rows(head, rows[ids], ids), of_all.rows(head, rows[ids], ids))


@pytest.mark.parametrize('name', READERS)
def test_the_order_of_events_matters_where_the_paper_says_so(name):
    model = built(name)
    ids, rows = drawn(), table()
    head = noisy_head(model, LAYOUT.columns)
    turned = ids.copy()
    for f in (3, 4, 5):
        turned[1, LAYOUT.at(f)] = ids[1, LAYOUT.at(f)][::-1]
    once, twice = model.rows(head, rows[ids], ids), model.rows(head, rows[turned], turned)
    same = np.isclose(once, twice, rtol=1e-5, atol=1e-5)
    assert same[[0, 2, 3, 4, 5]].all() and same[1] == (name in ('din', 'sim'))


@pytest.mark.parametrize('name', READERS)
def test_finite_second_derivatives_at_zero_and_of_empty_lists(name):
    """What a meta-gradient through two steps meets: at zero, at zero embeddings, and anywhere."""
    model = built(name)
    some = drawn()
    empty = some.copy()
    for f in LAYOUT.lists:
        empty[:, LAYOUT.at(f)] = PAD
    start = {'table': jnp.asarray(table()), 'head': noisy_head(model, LAYOUT.columns)}
    nothing = jax.tree.map(jnp.zeros_like, start)
    y = jnp.arange(B) % 2.0

    @jax.jit
    def twice(params, ids, y):
        loss = lambda params, y: jnp.mean(jax.nn.softplus(z := model.apply(params, ids)) - y * z)  # noqa: E731
        slope = jax.grad(loss)
        product = jax.jvp(lambda p: slope(p, y), (params,), (jax.tree.map(jnp.ones_like, params),))
        meta = jax.grad(lambda y: loss(jax.tree.map(lambda p, g: p - 0.1 * g, params, slope(params, y)), 1 - y))(y)
        return product, meta

    for params in (start, nothing, {**start, 'table': nothing['table']}):
        for ids in (some, empty):
            found = twice(params, ids, y)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    (slope, _), meta = twice(start, some, y)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope['head'])) and np.abs(meta).min() > 0


@pytest.mark.parametrize('name', READERS)
def test_derivatives_agree_with_finite_differences(name):
    model, ids = built(name), drawn()
    head = noisy_head(model, LAYOUT.columns)
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        point = jax.tree.map(np.float64, (head, table()[ids]))
        direction = jax.tree.map(lambda p: rng.normal(size=p.shape), point)
        weights = rng.normal(size=B)

        @jax.jit
        def along(step):
            """Value, gradient, slope and Hessian product at `point + step direction`."""
            at = jax.tree.map(lambda p, d: p + step * d, point, direction)
            return jax.jvp(jax.value_and_grad(lambda at: model.rows(*at, ids) @ weights), (at,), (direction,))

        step = 1e-6
        (_, gradient), (slope, hessian_product) = along(0.0)
        (high, above), (low, below) = along(step)[0], along(-step)[0]
        inner = sum((g * d).sum() for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
        assert slope.dtype == jnp.float64
        np.testing.assert_allclose([slope, inner], (high - low) / (2 * step), rtol=1e-6)
        for product, up, down in zip(*map(jax.tree.leaves, (hessian_product, above, below)), strict=True):
            np.testing.assert_allclose(product, (up - down) / (2 * step), rtol=1e-4, atol=1e-4)


def test_readers_learn_what_only_the_history_tells():
    """A row is clicked if its kind is among the kinds of its list: the readers get at it, a head of means does not."""
    layout = Layout(('kind', 'kinds'), (1, 6), (0, 0), ('', 'kinds'))
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 9, (256, 7)).astype(np.int32)
    ids[:, 1:][np.arange(6) < rng.integers(0, 6, (256, 1))] = PAD
    y = (ids[:, 1:] == ids[:, :1]).any(1).astype(np.float32)

    def loss_of(name, **options):
        model, adam = models.build(name, dim=4, layout=layout, init_std=0.3, **options), optax.adam(0.02)
        params = model.init(jax.random.key(0), 9, 7)

        def loss(params):
            logits = model.apply(params, ids)
            return jnp.mean(jax.nn.softplus(logits) - y * logits)

        def step(_, carry):
            change, state = adam.update(jax.grad(loss)(carry[0]), carry[1])
            return optax.apply_updates(carry[0], change), state

        return float(loss(jax.jit(lambda p: jax.lax.fori_loop(0, 300, step, (p, adam.init(p))))(params)[0]))

    of_means = loss_of('mlp', hidden=(16,))
    found = {name: loss_of(name, hidden=(16,)) for name in READERS}
    assert all(loss < 0.7 * of_means for loss in found.values()), (of_means, found)
