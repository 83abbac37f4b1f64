"""LogLoss of rows and of batches, in nats."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def row_losses(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """LogLoss of every row against a (possibly soft) label. f32[N], f32[N] in [0, 1] -> f32[N], in nats."""
    return optax.sigmoid_binary_cross_entropy(logits, targets)


def weighted_loss(model, params, ids, target, weight, dropout_key=None) -> jax.Array:
    """Weighted mean LogLoss of a batch, nats."""
    losses = row_losses(model.apply(params, ids, dropout_key=dropout_key), target)
    return jnp.sum(weight * losses) / jnp.maximum(jnp.sum(weight), 1e-6)
