"""Heads that predict several outcomes of a row at once: click and like and long view.

What they share learns from all outcomes, and rare ones gain by the frequent. Each returns f32[B, K], a column an
outcome, in the order of the candidate's `outcomes`, the one that is asked first. First-order weights are not read.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from diet_jax.models.layers import MLP, Readout, flatten
from diet_jax.models.registry import register


@register('shared_bottom')
class SharedBottom(nn.Module):
    """One tower for all, then a small one an outcome: z_k = MLP_k(MLP([e_1 .. e_F])).

    Caruana 1997, "Multitask learning", https://doi.org/10.1023/A:1007379606734.
    """

    hidden: Sequence[int] = (64, 32)
    tower: Sequence[int] = (16,)
    dropout: float = 0.0
    outcomes: int = 1

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        shared = MLP(self.hidden, self.dropout)(flatten(embeddings), deterministic=deterministic)
        towers = (MLP(self.tower, self.dropout)(shared, deterministic=deterministic) for _ in range(self.outcomes))
        return jnp.stack([Readout()(tower) for tower in towers], -1)


@register('mmoe')
class MMoE(nn.Module):
    """Multi-gate mixture of experts over x = [e_1 .. e_F]: z_k = MLP_k(sum_i g_ki MLP_i(x)), g_k = softmax(W_k x).

    Ma et al. 2018, https://doi.org/10.1145/3219819.3220007.
    """

    experts: int = 4
    hidden: Sequence[int] = (32,)
    tower: Sequence[int] = (16,)
    dropout: float = 0.0
    outcomes: int = 1

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        x = flatten(embeddings)
        said = [MLP(self.hidden, self.dropout)(x, deterministic=deterministic) for _ in range(self.experts)]
        gates = nn.Dense(self.outcomes * self.experts, use_bias=False)(x).reshape(-1, self.outcomes, self.experts)
        mixed = jnp.einsum('bki,bih->bkh', nn.softmax(gates), jnp.stack(said, 1))
        towers = (MLP(self.tower, self.dropout)(mixed[:, k], deterministic=deterministic) for k in range(self.outcomes))
        return jnp.stack([Readout()(tower) for tower in towers], -1)
