"""The pieces that the heads share: a tower of dense layers, a linear read-out, a bias, pairwise sums."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


class MLP(nn.Module):
    """Dense layers with ReLU and, after each, dropout: f32[B, n] -> f32[B, hidden[-1]].

    Biases start at 0, kernels at He's normal (He et al. 2015, https://arxiv.org/abs/1502.01852). Dropout
    draws from the 'dropout' stream, and only where `deterministic` is false.
    """

    hidden: Sequence[int]
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, kernel_init=nn.initializers.he_normal())(x))
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=deterministic)(x)
        return x


class Readout(nn.Module):
    """An affine map to one number a row: f32[B, n] -> f32[B]. Kernel at LeCun's normal, bias at 0."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(1)(x)[:, 0]


class Bias(nn.Module):
    """One learned number, 0 at the start, added to f32[B]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.param('bias', nn.initializers.zeros, ())


def flatten(embeddings: jax.Array) -> jax.Array:
    """f32[B, F, dim] -> f32[B, F * dim]."""
    return embeddings.reshape(embeddings.shape[0], -1)


def pairwise_sum(embeddings: jax.Array) -> jax.Array:
    """Sum over field pairs i < j of <e_i, e_j>: f32[B, F, dim] -> f32[B].

    In O(F dim) as half the square of the sum less the sum of the squares (Rendle 2010, lemma 3.1).
    """
    total = embeddings.sum(1)
    return 0.5 * ((total * total).sum(1) - (embeddings * embeddings).sum((1, 2)))


def upper_pairs(square: jax.Array) -> jax.Array:
    """The entries i < j of f32[B, F, F] side by side: f32[B, F (F - 1) / 2]."""
    i, j = jnp.triu_indices(square.shape[1], 1)
    return square[:, i, j]


def masked_exp(scores: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A softmax over the last axis of what `mask` holds, not yet divided: exp of the scores, and their sum.

    Dividing after a sum that is weighted by them costs less than before.

    Args: scores: f32[..., L]; mask: bool, of a shape that broadcasts.
    Returns: (f32[..., L], 0 outside the mask; f32[..., 1], 1 where the mask holds nothing).
    """
    some = mask.any(-1, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(mask, scores, -jnp.inf).max(-1, keepdims=True))  # cancels: no derivative
    weight = jnp.where(mask, jnp.exp(jnp.where(mask, scores - jnp.where(some, top, 0.0), 0.0)), 0.0)
    return weight, jnp.where(some, weight.sum(-1, keepdims=True), 1.0)


def masked_softmax(scores: jax.Array, mask: jax.Array) -> jax.Array:
    """Softmax over the last axis of what `mask` holds, 0 elsewhere, and 0 where it holds nothing.

    >>> masked_softmax(jnp.zeros((2, 3)), jnp.array([[True, False, True], [False] * 3])).tolist()
    [[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]]
    """
    weight, total = masked_exp(scores, mask)
    return weight / total
