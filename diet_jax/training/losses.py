"""LogLoss of rows and of batches, in nats."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def row_losses(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """LogLoss of every row against a (possibly soft) label, in nats; of K outcomes their sum.

    f32[N] or f32[N, K], and the same in [0, 1] -> f32[N]
    """
    losses = optax.sigmoid_binary_cross_entropy(logits, targets)
    return losses if losses.ndim == 1 else losses.sum(-1)


def asked(logits: jax.Array) -> jax.Array:
    """Logits of the outcome that is asked, the first: f32[N] or f32[N, K] -> f32[N]."""
    return logits if logits.ndim == 1 else logits[:, 0]


def weighted_loss(model, params, ids, target, weight, dropout_key=None) -> jax.Array:
    """Weighted mean LogLoss of a batch, nats: the batch's sum of weights divides; 0 where nothing weighs."""
    losses = row_losses(model.apply(params, ids, dropout_key=dropout_key), target)
    return jnp.sum(weight * losses) / divisor(jnp.sum(weight))


def divisor(total: jax.Array) -> jax.Array:
    """A sum of weights to divide by: 1 in the place of 0, where nothing weighs and what is divided is 0 too.

    >>> divisor(jnp.array([0.0, 0.25, 8.0])).tolist()
    [1.0, 0.25, 8.0]
    """
    return jnp.where(total > 0, total, 1.0)
