"""Heads that are linear, factorised or a plain tower: LR, FM, FwFM, MLP, Wide & Deep, DeepFM.

Each is called with the embeddings e f32[B, F, dim] and the first-order weights w f32[B, F] of a batch's ids,
and returns logits f32[B]. Every head is a composition of sums, products, ReLU and softmax, hence finite and
twice differentiable (almost everywhere, ReLU's kink apart) at zero too: meta-gradients run through it twice.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from diet_jax.models.layers import MLP, Bias, Readout, flatten, pairwise_sum
from diet_jax.models.registry import register


@register('lr')
class LR(nn.Module):
    """Logistic regression: b + sum_i w_i.

    Richardson et al. 2007, "Predicting clicks", https://doi.org/10.1145/1242572.1242643.
    """

    reads_embeddings = False

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        return Bias()(first_order.sum(1))


@register('fm')
class FM(nn.Module):
    """Factorisation machine: b + sum_i w_i + sum_{i<j} <e_i, e_j>.

    Rendle 2010, "Factorization machines", https://doi.org/10.1109/ICDM.2010.127.
    """

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        return Bias()(first_order.sum(1) + pairwise_sum(embeddings))


@register('fwfm')
class FwFM(nn.Module):
    """Field-weighted FM: b + sum_i w_i + sum_{i<j} r_ij <e_i, e_j>.

    All r_ij start at 1, which is FM. Pan et al. 2018, https://arxiv.org/abs/1806.03514.
    """

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        num_fields = embeddings.shape[1]
        strength = self.param('strength', nn.initializers.ones, (num_fields, num_fields))
        mixed = jnp.einsum('bjd,ij->bid', embeddings, jnp.triu(strength, 1))
        return Bias()(first_order.sum(1) + (mixed * embeddings).sum((1, 2)))


@register('mlp')
class Tower(nn.Module):
    """A tower over the concatenated embeddings: MLP([e_1 .. e_F]).

    Zhang et al. 2016, https://arxiv.org/abs/1601.02376.
    """

    hidden: Sequence[int] = (64, 32)
    dropout: float = 0.0

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        return Readout()(MLP(self.hidden, self.dropout)(flatten(embeddings), deterministic=deterministic))


@register('wide_deep')
class WideDeep(nn.Module):
    """Wide & Deep: sum_i w_i + MLP([e_1 .. e_F]).

    Cheng et al. 2016, https://arxiv.org/abs/1606.07792.
    """

    hidden: Sequence[int] = (64, 32)
    dropout: float = 0.0

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        deep = MLP(self.hidden, self.dropout)(flatten(embeddings), deterministic=deterministic)
        return first_order.sum(1) + Readout()(deep)


@register('deepfm')
class DeepFM(nn.Module):
    """DeepFM: sum_i w_i + sum_{i<j} <e_i, e_j> + MLP([e_1 .. e_F]).

    Guo et al. 2017, https://arxiv.org/abs/1703.04247.
    """

    hidden: Sequence[int] = (64, 32)
    dropout: float = 0.0

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        deep = MLP(self.hidden, self.dropout)(flatten(embeddings), deterministic=deterministic)
        return first_order.sum(1) + pairwise_sum(embeddings) + Readout()(deep)
