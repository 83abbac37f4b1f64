"""Heads with explicit feature crosses: DCN, DCNv2, DLRM, xDeepFM, AutoInt, FinalMLP, MaskNet.

Called as the ones in `heads.py`. Default sizes are small: on 30 fields of 8 dimensions they are what a
candidate of a tuning study, trained a few thousand steps, can use.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from diet_jax.base.errors import UserError
from diet_jax.models.layers import MLP, Readout, flatten, upper_pairs
from diet_jax.models.registry import register

_LECUN = nn.initializers.lecun_normal()


@register('dcn')
class DCN(nn.Module):
    """Deep & Cross: x_{l+1} = x_0 (x_l . w_l) + b_l + x_l beside a tower.

    Wang et al. 2017, https://arxiv.org/abs/1708.05123.
    """

    layers: int = 3
    hidden: Sequence[int] = (64, 32)
    dropout: float = 0.0

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        x0 = x = flatten(embeddings)
        for layer in range(self.layers):
            weight = self.param(f'cross_weight_{layer}', _LECUN, (x0.shape[1], 1))
            bias = self.param(f'cross_bias_{layer}', nn.initializers.zeros, (1, x0.shape[1]))
            x = x0 * (x @ weight) + bias + x
        deep = MLP(self.hidden, self.dropout)(x0, deterministic=deterministic)
        return Readout()(jnp.concatenate([x, deep], 1))


@register('dcnv2')
class DCNv2(nn.Module):
    """DCN-V2: x_{l+1} = x_0 * (U_l V_l x_l + b_l) + x_l beside a tower.

    `rank` is the width of V_l; None for a full matrix in place of U_l V_l. Wang et al. 2021,
    https://arxiv.org/abs/2008.13535.
    """

    layers: int = 2
    rank: int | None = 32
    hidden: Sequence[int] = (64, 32)
    dropout: float = 0.0

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        x0 = x = flatten(embeddings)
        for layer in range(self.layers):
            narrow = x
            if self.rank is not None:
                narrow = nn.Dense(self.rank, use_bias=False, name=f'cross_v_{layer}')(x)
            x = x0 * nn.Dense(x0.shape[1], name=f'cross_u_{layer}')(narrow) + x
        deep = MLP(self.hidden, self.dropout)(x0, deterministic=deterministic)
        return Readout()(jnp.concatenate([x, deep], 1))


@register('dlrm')
class DLRM(nn.Module):
    """DLRM: MLP([w, <e_i, e_j> for i < j]).

    A log has no dense features here, every field is an id or a bin: the first-order weights stand in for
    them. Naumov et al. 2019, https://arxiv.org/abs/1906.00091.
    """

    hidden: Sequence[int] = (64, 32)
    dropout: float = 0.0

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        dots = upper_pairs(jnp.einsum('bid,bjd->bij', embeddings, embeddings))
        x = jnp.concatenate([first_order, dots], 1)
        return Readout()(MLP(self.hidden, self.dropout)(x, deterministic=deterministic))


@register('xdeepfm')
class XDeepFM(nn.Module):
    """xDeepFM: sum_i w_i + CIN(e) + MLP(e).

    Compressed interaction network: X^{k+1}_{h,d} = sum_{i,j} W^k_{hij} X^0_{j,d} X^k_{i,d}, X^0 = e, and a
    linear read-out of sum_d X^k_{h,d} of every layer. `maps` are the number of rows h of each layer. Lian et
    al. 2018, https://arxiv.org/abs/1803.05170.
    """

    maps: Sequence[int] = (8, 8)
    hidden: Sequence[int] = (64, 32)
    dropout: float = 0.0

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        batch, num_fields, dim = embeddings.shape
        x0 = x = embeddings.swapaxes(1, 2).reshape(-1, num_fields)  # [B dim, F]: the sums run over fields
        pooled = []
        for layer, width in enumerate(self.maps):
            below = x.shape[1]
            weight = self.param(f'cin_{layer}', _LECUN, (num_fields * below, width))
            by_field = weight.reshape(num_fields, below * width)
            # First the fixed side, then the running one: never all F x F products at once (3 to
            # 5 times quicker, CPU).
            mixed = (x0 @ by_field).reshape(-1, below, width)
            x = jnp.einsum('nih,ni->nh', mixed, x)
            pooled.append(x.reshape(batch, dim, width).sum(1))
        deep = MLP(self.hidden, self.dropout)(flatten(embeddings), deterministic=deterministic)
        return first_order.sum(1) + Readout()(jnp.concatenate([*pooled, deep], 1))


@register('autoint')
class AutoInt(nn.Module):
    """AutoInt: layers of self-attention over fields, then a linear read-out.

    e'_i = ReLU(concat_h sum_j softmax_j(<Q_h e_i, K_h e_j>) V_h e_j + R e_i), unscaled as in the paper. With
    `hidden` a tower over the embeddings stands beside it (the paper's AutoInt+). Song et al. 2019,
    https://arxiv.org/abs/1810.11921.
    """

    layers: int = 2
    heads: int = 2
    attention_dim: int = 16  # of one layer's output, split between the heads
    hidden: Sequence[int] = ()
    dropout: float = 0.0

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        x, width = embeddings, self.attention_dim
        if width % self.heads:
            raise UserError(f'autoint: attention_dim={width} is not a multiple of heads={self.heads}')
        for layer in range(self.layers):
            projected = nn.Dense(4 * width, use_bias=False, name=f'attention_{layer}')(x)
            query, key, value, residual = jnp.split(projected, 4, axis=2)
            query, key, value = (self._by_head(part) for part in (query, key, value))
            scores = jnp.einsum('bihd,bjhd->bhij', query, key)
            # Softmax by hand, divided after the sum over fields: half the time of a Hessian product through
            # jax.nn.softmax (22 against 46 ms, B = 256, F = 30, CPU). The shift cancels, so it needs no
            # derivative.
            weight = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
            total = weight.sum(-1).swapaxes(1, 2)[..., None]
            mixed = jnp.einsum('bhij,bjhd->bihd', weight, value) / total
            x = nn.relu(mixed.reshape(residual.shape) + residual)
        out = Readout()(flatten(x))
        if self.hidden:
            out += Readout()(MLP(self.hidden, self.dropout)(flatten(embeddings), deterministic=deterministic))
        return out

    def _by_head(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], self.heads, self.attention_dim // self.heads)


@register('finalmlp')
class FinalMLP(nn.Module):
    """FinalMLP: two gated towers fused bilinearly.

    h_s = MLP_s(2 sigmoid(g_s) * e) for s = 1, 2; logit = b + w_1 . h_1 + w_2 . h_2 + h_1^T W h_2. The gates
    g_s are the paper's with a learned context, and start at 0: each tower then sees e itself. Mao et al.
    2023, https://arxiv.org/abs/2304.00902.
    """

    hidden: Sequence[int] = (64, 32)
    dropout: float = 0.0

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        x = flatten(embeddings)
        streams = []
        for stream in range(2):
            gate = self.param(f'gate_{stream}', nn.initializers.zeros, (1, x.shape[1]))
            gated = 2.0 * nn.sigmoid(gate) * x
            streams.append(MLP(self.hidden, self.dropout)(gated, deterministic=deterministic))
        left, right = streams
        bilinear = (nn.Dense(right.shape[1], use_bias=False, name='bilinear')(left) * right).sum(1)
        return bilinear + Readout()(jnp.concatenate(streams, 1))


@register('masknet')
class MaskNet(nn.Module):
    """MaskNet, its blocks in parallel: MLP([block_1 .. block_n]).

    block = ReLU(LN(W_k (LN(e) * (B_k ReLU(A_k e + a_k) + b_k)))): a mask made from the
    instance multiplies its embeddings. Wang et al. 2021, https://arxiv.org/abs/2102.07619.
    """

    blocks: int = 2
    mask_width: int = 32
    block_width: int = 32
    hidden: Sequence[int] = (32,)
    dropout: float = 0.0

    @nn.compact
    def __call__(self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool) -> jax.Array:
        x = flatten(embeddings)
        normed = flatten(nn.LayerNorm(name='norm_embeddings')(embeddings))
        outputs = []
        for block in range(self.blocks):
            mask = MLP((self.mask_width,), name=f'mask_{block}')(x, deterministic=deterministic)
            mask = nn.Dense(x.shape[1], name=f'mask_out_{block}')(mask)
            out = nn.Dense(self.block_width, use_bias=False, name=f'block_{block}')(normed * mask)
            outputs.append(nn.relu(nn.LayerNorm(name=f'norm_{block}')(out)))
        deep = MLP(self.hidden, self.dropout)(jnp.concatenate(outputs, 1), deterministic=deterministic)
        return Readout()(deep)
