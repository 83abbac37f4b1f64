"""Influence of rows on training, by one forward-mode derivative.

The influence of row i is the first-order fall of the query loss Q when the model takes one preconditioned step on it:

    I_i = g_i . P v,   g_i = grad of row i's loss,  v = grad of Q,  P = 1 / (sqrt(second moment) + eps)

(TracIn, Pruthi et al. 2020, arXiv:2002.08484, in the optimizer's own metric as in Adam-aware variants). No gradient
of a single row is ever formed: all I_i are the directional derivative of the *vector of row losses* along P v, which
`jax.jvp` gives in one forward pass, and the rows' logits with it. The definition is ours: the paper's formula was not
at hand.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from diet_jax.training import chunked, psum, row_losses, split


class Scored(NamedTuple):
    logits: jax.Array  # f32[N]  by the model at which influence was taken
    influence: jax.Array  # f32[N]


EPS = 1e-4  # of the preconditioner: a slot that was hardly ever touched must not dominate the inner product


def query_gradient(model, params, ids, label, weight, axis=None, chunk: int | None = None):
    """Gradient of the weighted mean loss over the query rows, in constant memory; O(rows) beside the gradient itself.

    Args:
      params: with the table of the rows that the query touches (`tables.subtable`), [U, 1 + d], not of all ids.
      ids: i32[Q, F] places in that table; label, weight: f32[Q]; rows may be sharded over `axis`.
    Returns: a pytree like `params`.
    """
    total = jnp.maximum(psum(jnp.sum(weight), axis), 1e-6)

    def loss(rows, head, label, weight):
        return jnp.sum(weight * row_losses(model.rows(head, rows), label)) / total

    def add(grads, part):
        ids, *rest = part
        rows, head = jax.grad(loss, (0, 1))(params['table'][ids], params['head'], *rest)
        return {'table': grads['table'].at[ids].add(rows), 'head': jax.tree.map(jnp.add, grads['head'], head)}, None

    grads, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), split((ids, label, weight), chunk))
    return psum(grads, axis)


def precondition(grads, second_moments):
    """P v: the query gradient in the metric of the optimizer that would take the step."""
    return jax.tree.map(lambda g, nu: g / (jnp.sqrt(nu) + EPS), grads, second_moments)


def row_influence(model, params, direction, ids, label, chunk: int | None = None, look_up=None):
    """Logits and influences of any number of rows along `direction` = P v, in constant memory.

    The derivative is taken of the logits, whose values are wanted too; that of the LogLoss follows by the chain rule,
    g_i . P v = (sigmoid(z_i) - y_i) (dz_i . P v).

    Args:
      direction: a pytree like params; ids: i32[N, F]; label: f32[N] in [0, 1].
      look_up: i32[n, F] -> (rows of the params' table, rows of the direction's), both f32[n, F, 1 + d], where the two
        tables are of different size: a direction knows the ids that the query touched only. Default: their rows `ids`.
    Returns: Scored(logits f32[N], influence f32[N], positive = training on the row lowers the query loss).
    """

    def score(part):
        rows, along = look_up(part[0]) if look_up else (params['table'][part[0]], direction['table'][part[0]])
        logits, change = jax.jvp(model.rows, (params['head'], rows), (direction['head'], along))
        return Scored(logits, (jax.nn.sigmoid(logits) - part[1]) * change)

    return chunked(score, (ids, label), chunk)
