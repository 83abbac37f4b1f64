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
