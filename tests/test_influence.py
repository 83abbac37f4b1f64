"""Influence is g_i . P v, and it foretells what a row does to the query loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from core import CAPACITY, DEEP, FIELDS, clicks

from diet_jax.distillation import influence as mechanism
from diet_jax.training.losses import row_losses

ROWS, QUERY = 23, 31


@functools.partial(jax.jit, static_argnames='chunk')
def query_gradient(params, ids, label, weight, chunk=2048):
    return mechanism.query_gradient(DEEP, params, ids, label, weight, chunk=chunk)


@functools.partial(jax.jit, static_argnames='chunk')
def row_influence(params, direction, ids, label, chunk=2048):
    return mechanism.row_influence(DEEP, params, direction, ids, label, chunk)


@pytest.fixture(scope='module')
def setting():
    """A model half trained (float64), rows, query rows with weights, and a preconditioner."""
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x.astype(jnp.float64), DEEP.init(jax.random.key(0), CAPACITY, FIELDS))
        ids, label, _ = clicks(200, seed=1)
        loss = lambda p: jnp.mean(row_losses(DEEP.apply(p, ids), label))  # noqa: E731
        descend = jax.jit(lambda p: jax.tree.map(lambda x, g: x - 1.0 * g, p, jax.grad(loss)(p)))
        for _ in range(60):
            params = descend(params)
        second = jax.tree.map(lambda g: 0.1 * g**2 + 1e-6, jax.grad(loss)(params))
        rows, query = clicks(ROWS, seed=2)[:2], clicks(QUERY, seed=3)[:2]
        weight = jnp.linspace(0.0, 2.0, QUERY)
        v = query_gradient(params, *query, weight)
        return params, rows, (*query, weight), second, mechanism.precondition(v, second)


def query_loss(params, ids, label, weight):
    return jnp.sum(weight * row_losses(DEEP.apply(params, ids), label)) / jnp.sum(weight)


@jax.jit
def row_gradients(params, ids, label):
    one = lambda p, i, y: row_losses(DEEP.apply(p, i[None]), y[None])[0]  # noqa: E731
    return jax.vmap(jax.grad(one), (None, 0, 0))(params, ids, label)


def inner_products(grads, direction):
    return sum(
        jnp.sum(g.reshape(g.shape[0], -1) * d.reshape(-1), 1)
        for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(direction))
    )


def moved(params, direction, distance):
    return jax.tree.map(lambda p, d: p + distance * d, params, direction)


def test_is_the_inner_product_with_every_rows_own_gradient(setting):
    params, rows, _, _, direction = setting
    with jax.enable_x64(True):
        logits, influence = row_influence(params, direction, *rows)
        np.testing.assert_allclose(influence, inner_products(row_gradients(params, *rows), direction), rtol=1e-10)
        np.testing.assert_allclose(logits, DEEP.apply(params, rows[0]), rtol=1e-12)
    single = jax.tree.map(lambda x: np.asarray(x, np.float32), (params, direction))
    _, half = row_influence(*single, *rows)
    np.testing.assert_allclose(half, influence, rtol=1e-3, atol=1e-4 * np.abs(influence).max())


def test_the_query_gradient_is_the_gradient_of_the_weighted_mean_loss(setting):
    params, _, query, _, _ = setting
    with jax.enable_x64(True):
        expected = jax.jit(jax.grad(query_loss))(params, *query)
        for chunk in (7, QUERY):
            grads = query_gradient(params, *query, chunk=chunk)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13), grads, expected)


@pytest.mark.parametrize('chunk', [1, 7])
def test_the_chunk_changes_neither_losses_nor_influence(setting, chunk):
    params, rows, _, _, direction = setting
    with jax.enable_x64(True):
        one, other = (row_influence(params, direction, *rows, chunk=c) for c in (chunk, 2048))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14), one, other)


def test_query_rows_of_no_weight_do_not_matter(setting):
    params, _, (ids, label, weight), _, _ = setting
    single = jax.tree.map(lambda x: np.asarray(x, np.float32), params)
    weight = np.float32(weight) * (np.arange(QUERY) < 20)
    one = query_gradient(single, ids, label, weight)
    other = query_gradient(single, np.where(weight[:, None] > 0, ids, 1), np.where(weight > 0, label, 0.5), weight)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_preconditioned_step_on_a_row_lowers_the_query_loss_at_this_rate(setting):
    params, (ids, label), query, second, direction = setting
    with jax.enable_x64(True):
        _, influence = row_influence(params, direction, ids, label)
        steps = jax.vmap(lambda g: mechanism.precondition(g, second))(row_gradients(params, ids, label))  # P g_i
        loss = jax.jit(query_loss)
        h = 1e-7
        for i in range(0, ROWS, 4):
            step = jax.tree.map(lambda x: x[i], steps)  # noqa: B023
            fall = (loss(moved(params, step, h), *query) - loss(moved(params, step, -h), *query)) / (2 * h)
            np.testing.assert_allclose(influence[i], fall, rtol=1e-4, atol=1e-6 * np.abs(influence).max())


def test_leaving_a_row_out_of_a_batch_costs_what_its_influence_says(setting):
    """The batch takes one step with and without the row, which adding it undoes: the query loss moves by I_i / n."""
    params, (ids, label), query, second, direction = setting
    with jax.enable_x64(True):
        _, influence = row_influence(params, direction, ids, label)
        grads, loss, rate = row_gradients(params, ids, label), jax.jit(query_loss), 1e-6

        def after(keep):
            total = jax.tree.map(lambda g: jnp.tensordot(keep, g, 1) / ROWS, grads)
            return loss(moved(params, mechanism.precondition(total, second), -rate), *query)

        everything = after(jnp.ones(ROWS))
        costs = [after(jnp.ones(ROWS).at[i].set(0.0)) - everything for i in range(ROWS)]
        scale = rate / ROWS
        np.testing.assert_allclose(np.array(costs) / scale, influence, rtol=0.02, atol=0.002 * np.abs(influence).max())


def test_the_query_row_helps_itself_and_its_mislabelled_copy_harms_it(setting):
    """g = (p - y) dlogit, so a flipped label scales the influence by (p - (1 - y)) / (p - y), which is negative."""
    params, (ids, label), _, second, _ = setting
    with jax.enable_x64(True):
        for i in (0, 5, 11):
            one = slice(i, i + 1)
            v = query_gradient(params, ids[one], label[one], jnp.ones(1))
            direction = mechanism.precondition(v, second)
            right = row_influence(params, direction, ids[one], label[one])[1][0]
            wrong = row_influence(params, direction, ids[one], 1 - label[one])[1][0]
            p = jax.nn.sigmoid(DEEP.apply(params, ids[one])[0])
            assert right > 0 > wrong
            np.testing.assert_allclose(wrong / right, (p - (1 - label[i])) / (p - label[i]), rtol=1e-9)


def test_the_preconditioner_is_the_inverse_root_of_the_second_moment():
    out = mechanism.precondition({'a': jnp.array([2.0, 3.0])}, {'a': jnp.array([0.25, 0.0])})
    np.testing.assert_allclose(out['a'], [2 / (0.5 + 1e-4), 3 / 1e-4], rtol=1e-6)
