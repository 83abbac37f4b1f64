"""Optimisers: a step of parameters, and the steps that a row of a table has skipped, in closed form.

`adam` is what `torch.optim.Adam` and `optax.adam` do: every row of a table is stepped at every step, those that a batch
does not hold too, by moments that decay. Written so, a step costs O(V). Here the steps that an untouched row would have
made are made when it is next touched (`skipped`), so a step costs O(batch). `lazy_adam` leaves untouched rows alone:
their moments do not decay and they do not drift (PyTorch's SparseAdam). Under `adagrad` and `sgd` they stand still by
themselves, but for weight decay.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diet_jax.models.recipes import Recipe

# sqrt at zero has an infinite derivative: without it the meta-gradient of an embedding row that saw no gradient is NaN.
EPS_ROOT = 1e-12
TABLE = 1 << 14  # steps after which a bias correction is 1 to 4e-8


def direction(recipe: Recipe, grad: jax.Array, mu: jax.Array, nu: jax.Array, step: jax.Array, eps_root: float = 0.0):
    """(what to subtract times the learning rate, mu, nu) of one parameter at a step that counts from 1."""
    if recipe.optimizer == 'sgd':
        return grad, mu, nu
    if recipe.optimizer == 'adagrad':
        nu = nu + grad * grad
        return grad / (jnp.sqrt(nu + eps_root) + recipe.eps), mu, nu
    t = step.astype(jnp.float32)
    mu = recipe.b1 * mu + (1 - recipe.b1) * grad
    nu = recipe.b2 * nu + (1 - recipe.b2) * grad * grad
    unbiased = jnp.sqrt(nu / (1 - recipe.b2**t) + eps_root)
    return (mu / (1 - recipe.b1**t)) / (unbiased + recipe.eps), mu, nu


def stepped(recipe: Recipe, param: jax.Array, towards: jax.Array, lr) -> jax.Array:
    """A parameter after one step along a `direction`."""
    return (1 - lr * recipe.weight_decay) * param - lr * towards if recipe.weight_decay else param - lr * towards


def dense_init(recipe: Recipe, params) -> optax.ScaleByAdamState:
    """Moments of parameters that are stepped whole: a head, a student."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    start = jax.tree.map(lambda x: jnp.full_like(x, recipe.initial_accumulator), params)
    return optax.ScaleByAdamState(count=jnp.zeros((), jnp.int32), mu=zeros, nu=start)


def dense_step(recipe: Recipe, params, grads, state: optax.ScaleByAdamState, lr, eps_root: float = 0.0):
    """One step of all parameters. Returns (params, state)."""
    if recipe.adaptive:
        adam = optax.scale_by_adam(recipe.b1, recipe.b2, recipe.eps, eps_root)
        towards, state = adam.update(grads, state)
        return jax.tree.map(lambda p, u: stepped(recipe, p, u, lr), params, towards), state
    count = state.count + 1
    leaves, shape = jax.tree.flatten(params)
    parts = [shape.flatten_up_to(x) for x in (grads, state.mu, state.nu)]
    found = [direction(recipe, g, m, v, count, eps_root) for g, m, v in zip(*parts, strict=True)]
    moved = [stepped(recipe, p, d, lr) for p, (d, _, _) in zip(leaves, found, strict=True)]
    mu, nu = (shape.unflatten([x[i] for x in found]) for i in (1, 2))
    return shape.unflatten(moved), optax.ScaleByAdamState(count=count, mu=mu, nu=nu)


def skipped(recipe: Recipe, rows: jax.Array, mu: jax.Array, nu: jax.Array, last: jax.Array, now: jax.Array, lr):
    """Rows of a table after the steps `last` + 1 .. `now`, in which no batch held them: (rows, mu, nu).

    Without a gradient m decays by b1 and v by b2 a step. With d = 1 - lr * weight_decay, k = now - last and
    t = last + j, the row has drifted by

        lr sum_{j=1..k} d^{k-j} m b1^j / (1 - b1^t) / (sqrt(v b2^j / (1 - b2^t)) + eps).

    Without epsilon that is lr d^k m A / sqrt(v), with epsilon alone lr d^k m B / eps,

        A = sum_{j=1..k} (b1 / sqrt(b2) / d)^j sqrt(1 - b2^t) / (1 - b1^t),   B = sum_{j=1..k} (b1 / d)^j / (1 - b1^t);

    between the two it is lr d^k m / (sqrt(v) / A + eps / B): exact at both ends, and epsilon is 1e-8. Both sums are
    differences K(last) - rate^k K(last + k) of a table, K(t) = sum_{j>=1} rate^j c_{t+j}.

    Args: rows, mu, nu: f32[n, D]; last: i32[n]; now: i32[]; lr: scalar, may be traced.
    """
    if not recipe.drifts:
        return rows, mu, nu
    k = jnp.maximum(now - last, 0)[:, None]
    kept = 1 - lr * recipe.weight_decay if recipe.weight_decay else 1.0
    decay = _power(kept, k) if recipe.weight_decay else 1.0
    if not recipe.adaptive:
        return decay * rows, mu, nu
    both = _tables(recipe.b1, recipe.b2) if not recipe.weight_decay else _traced_tables(recipe, kept)
    (a, b) = (_between(table, rate, last[:, None], k) for table, rate in both)
    drift = lr * mu * a * b / jnp.maximum(jnp.sqrt(nu) * b + recipe.eps * a, 1e-30)
    return decay * (rows - drift), _power(recipe.b1, k) * mu, _power(recipe.b2, k) * nu


def _between(table, rate, last: jax.Array, k: jax.Array) -> jax.Array:
    """K(last) - rate^k K(last + k)."""
    sums = lambda t: jnp.asarray(table).at[jnp.minimum(t, TABLE - 1)].get(mode='clip')  # noqa: E731
    return sums(last) - _power(rate, k) * sums(last + k)


def _power(rate, k: jax.Array) -> jax.Array:
    """rate^k: an exponential is a third of a power's price."""
    return jnp.exp(k.astype(jnp.float32) * jnp.log(jnp.asarray(rate, jnp.float32)))


def _corrections(b1: float, b2: float) -> tuple[np.ndarray, np.ndarray]:
    """c_t for t = 1 .. TABLE, of A and of B."""
    t = np.arange(1, TABLE + 1, dtype=np.float64)
    return np.sqrt(1 - b2**t) / (1 - b1**t), 1 / (1 - b1**t)


@functools.cache
def _tables(b1: float, b2: float) -> tuple[tuple[np.ndarray, float], ...]:
    """((K of A, its rate), (K of B, its rate)), K(t) for t = 0 .. TABLE - 1: f32[TABLE]; far out, where c is 1, it is
    rate / (1 - rate)."""
    found = []
    for rate, corrections in zip((b1 / b2**0.5, b1), _corrections(b1, b2), strict=True):
        sums, after = np.empty(TABLE), rate / (1 - rate)
        for i in range(TABLE - 1, -1, -1):
            after = rate * (corrections[i] + after)
            sums[i] = after
        found.append((sums.astype(np.float32), rate))
    return tuple(found)


def _traced_tables(recipe: Recipe, kept):
    """The same where the learning rate, and with it the decay of a step, is traced."""
    found = []
    rates = (recipe.b1 / recipe.b2**0.5 / kept, recipe.b1 / kept)
    for rate, corrections in zip(rates, _corrections(recipe.b1, recipe.b2), strict=True):
        add = lambda after, c, rate=rate: ((x := rate * (c + after)), x)  # noqa: E731
        start = jnp.asarray(rate / (1 - rate), jnp.float32)
        found.append((jax.lax.scan(add, start, jnp.asarray(corrections, jnp.float32), reverse=True)[1], rate))
    return tuple(found)
