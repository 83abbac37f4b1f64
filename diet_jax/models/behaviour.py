"""Heads that read a sequence of the user's own events: DIN, BST, DIEN, SIM.

Called as the ones in `heads.py`, and with the events of every sequence (`lists.Events`). Each reads a sequence into a
few numbers by a unit of its own, and a tower stands on these beside the entries of all fields, a list's mean among
them. They are compositions of sums, products, ReLU, sigmoid, tanh and softmax, and of an empty sequence they read 0 or
what no event depends on: finite and twice differentiable (almost everywhere) there and at zero embeddings.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from diet_jax.base.errors import UserError
from diet_jax.models.layers import MLP, Readout, flatten, masked_exp, masked_softmax
from diet_jax.models.lists import Events
from diet_jax.models.registry import register

_HE = nn.initializers.he_normal()


class Reader(nn.Module):
    """MLP([e_1 .. e_F, what `read` makes of each sequence])."""

    sequence: str = ''  # the one that is read, '' for each of them by a unit of its own
    max_len: int | None = None  # only the last so many events of it
    hidden: Sequence[int] = (64, 32)
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, embeddings: jax.Array, first_order: jax.Array, *, deterministic: bool, sequences: dict[str, Events]
    ) -> jax.Array:
        chosen = [sequences[self.sequence]] if self.sequence else list(filter(self.reads, sequences.values()))
        if not chosen:
            raise UserError(f'{type(self).__name__} reads sequences that share a field with the row, and sees none')
        read = [self.read(_last(seen, self.max_len), deterministic) for seen in chosen]
        x = jnp.concatenate([flatten(embeddings), *read], 1)
        return Readout()(MLP(self.hidden, self.dropout)(x, deterministic=deterministic))

    def reads(self, seen: Events) -> bool:
        """Whether a sequence is one of those that are read where none is named."""
        return True

    def read(self, seen: Events, deterministic: bool) -> jax.Array:
        """Of one sequence: f32[B, n]."""
        raise NotImplementedError


class LocalActivation(nn.Module):
    """DIN's unit: MLP([e, t, e - t, e * t]) of event e and target t, one number an event, not normalised. f32[B, L].

    With ReLU in place of Dice, which keeps batch statistics. The first layer is e W_e + t W_t + (e - t) W_d
    + (e * t) W_p, linear in e once t is given: one matrix a row, W_e + W_d + diag(t) W_p, in place of
    f32[B, L, 4 n] (half the time of the concatenation, B = 512, L = 50, n = 8, CPU).
    """

    hidden: Sequence[int]

    @nn.compact
    def __call__(self, values: jax.Array, target: jax.Array) -> jax.Array:
        kernel = self.param('kernel', _HE, (4 * values.shape[-1], self.hidden[0]))
        bias = self.param('bias', nn.initializers.zeros, (self.hidden[0],))
        event, own, difference, product = jnp.split(kernel, 4)
        by_row = (event + difference)[None] + target[:, :, None] * product[None]
        of_target = target @ (own - difference) + bias[None]
        x = jnp.einsum('bln,bnh->blh', values, by_row) + of_target[:, None]
        for width in self.hidden[1:]:
            x = nn.Dense(width, kernel_init=_HE)(nn.relu(x))
        return nn.Dense(1)(nn.relu(x))[..., 0]


@register('din')
class DIN(Reader):
    """Deep interest network: MLP([e_1 .. e_F, sum_l a(e_l, t) e_l]), a as in `LocalActivation`.

    e_l are the events of a sequence and t is the row's own value of what they share; `unit` are the widths of a's
    layers. Zhou et al. 2018, https://arxiv.org/abs/1706.06978.
    """

    unit: Sequence[int] = (16,)

    def read(self, seen: Events, deterministic: bool) -> jax.Array:
        weight = LocalActivation(self.unit)(seen.values, seen.target)
        return jnp.einsum('bl,bld->bd', weight, seen.values)  # values are 0 where no event is


@register('bst')
class BST(Reader):
    """Behaviour sequence transformer: one block over the target and the events, `Block`.

    The tower reads the target's output and the mean of the events'; the paper's reads all of them side by side, and
    would depend on how wide the padding is. It reads the last 20 events, as the paper does: a block costs the square of
    their number. Chen et al. 2019, https://arxiv.org/abs/1905.06874.
    """

    max_len: int | None = 20
    heads: int = 2
    attention_dim: int = 16  # of queries, keys and values, split between the heads
    inner: int = 32  # width of the feed-forward layer

    def read(self, seen: Events, deterministic: bool) -> jax.Array:
        _check_heads('bst', self.attention_dim, self.heads)
        places = 1 + (self.max_len or seen.values.shape[1])
        there = seen.mask[:, ::-1]
        x = jnp.concatenate([seen.target[:, None], seen.values[:, ::-1]], 1)
        mask = jnp.concatenate([jnp.ones_like(there[:, :1]), there], 1)
        block = Block(places, self.heads, self.attention_dim, self.inner, self.dropout)
        y = block(x, mask, deterministic=deterministic)
        count = jnp.maximum(there.sum(1, keepdims=True), 1).astype(y.dtype)
        return jnp.concatenate([y[:, 0], jnp.where(there[..., None], y[:, 1:], 0.0).sum(1) / count], 1)


class Block(nn.Module):
    """A transformer's block, normalised after each half, on x + p, p_i learned for place i: f32[B, L, n] -> the same.

    s = LN(x + p + MHA(x + p)), y = LN(s + LeakyReLU(s W_1 + b_1) W_2 + b_2), MHA with attention to what `mask`
    bool[B, L] holds, of every row something.
    """

    places: int
    heads: int
    attention_dim: int
    inner: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, *, deterministic: bool) -> jax.Array:
        batch, length, width = x.shape
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        x = x + self.param('places', nn.initializers.normal(0.02), (self.places, width))[None, :length]
        projected = nn.Dense(3 * self.attention_dim, use_bias=False, name='project')(x)
        by_head = (batch, length, 3, self.heads, self.attention_dim // self.heads)
        query, key, value = jnp.moveaxis(projected.reshape(by_head), 2, 0)
        scores = jnp.einsum('bihd,bjhd->bhij', query, key) / by_head[-1] ** 0.5
        weight, total = masked_exp(scores, mask[:, None, None])
        mixed = jnp.einsum('bhij,bjhd->bihd', weight, value) / total.swapaxes(1, 2)
        mixed = nn.Dense(width, use_bias=False, name='out')(mixed.reshape(batch, length, self.attention_dim))
        x = nn.LayerNorm(name='norm_0')(x + drop(mixed))
        inner = nn.leaky_relu(nn.Dense(self.inner, name='inner')(x))
        return nn.LayerNorm(name='norm_1')(x + drop(nn.Dense(width, name='outer')(inner)))


@register('dien')
class DIEN(Reader):
    """Deep interest evolution network: a GRU along the events, attention of its states to the target, a GRU by these.

    h_l = GRU(e_l, h_{l-1}), a_l = softmax_l(h_l W t), s_l = AUGRU(h_l, a_l, s_{l-1}), and the tower reads the last s. A
    GRU is u = sigmoid(W_u x + U_u h + b_u), r = sigmoid(W_r x + U_r h + b_r), n = tanh(W_n x + r * U_n h + b_n), then
    (1 - u) h + u n; AUGRU has a u in the place of u. Where no event is the state stays. Without the paper's auxiliary
    loss, which needs clicks that were not made. Zhou et al. 2019, https://arxiv.org/abs/1809.03672.
    """

    def read(self, seen: Events, deterministic: bool) -> jax.Array:
        values, mask = seen.values.transpose(1, 2, 0), seen.mask
        states = GRU()(values, mask.T.astype(values.dtype))
        towards = nn.Dense(values.shape[1], use_bias=False)(seen.target)
        attention = masked_softmax(jnp.einsum('lnb,bn->bl', states, towards), mask)
        return GRU()(states, attention.T)[-1].T


class GRU(nn.Module):
    """States of a GRU whose update gate is scaled step by step, 0 leaving the state.

    The batch comes last, what is read is projected inside of the loop, and of a step only the state is kept for the
    derivative: a third to a quarter of the time of a product over all steps before it and of keeping all (B = 512,
    L = 50, n = 8 and 16, CPU).

    Args: x: f32[L, n, B]; scale: f32[L, B] in [0, 1].
    Returns: f32[L, n, B].
    """

    @nn.compact
    def __call__(self, x: jax.Array, scale: jax.Array) -> jax.Array:
        n = x.shape[1]
        given = self.param('given', nn.initializers.lecun_normal(), (n, 3 * n))
        inner = self.param('inner', nn.initializers.orthogonal(), (n, 3 * n))
        bias = self.param('bias', nn.initializers.zeros, (3 * n,))

        def step(state, now):
            x, scale = now
            x, back = given.T @ x + bias[:, None], inner.T @ state
            update, reset = jnp.split(nn.sigmoid(x[: 2 * n] + back[: 2 * n]), 2)
            new = jnp.tanh(x[2 * n :] + reset * back[2 * n :])
            state = state + scale[None] * update * (new - state)
            return state, state

        step = jax.checkpoint(step, prevent_cse=False)
        return jax.lax.scan(step, jnp.zeros_like(x[0]), (x, scale))[1]


@register('sim')
class SIM(Reader):
    """Search-based interest model, by hard search: attention of the target to the events that share a value with it.

    softmax_l(<Q_h t, K_h e_l> / sqrt(d)) V_h e_l of every attention head h, over the events whose column `search` is
    the row's own value, and 0 where there are none; the mean of the whole list is among the fields' entries. `search`
    counts the columns that share a field: -1 for the last of them, a category behind its items. A sequence
    that shares none is passed over, and refused where it is named. Pi et al. 2020, https://arxiv.org/abs/2006.05639.
    """

    search: int = -1
    heads: int = 2
    attention_dim: int = 16  # of what is read, split between the heads

    def reads(self, seen: Events) -> bool:
        return bool(seen.shares)

    def read(self, seen: Events, deterministic: bool) -> jax.Array:
        _check_heads('sim', self.attention_dim, self.heads)
        if not -len(seen.shares) <= self.search < len(seen.shares):
            raise UserError(
                f'sim: search={self.search}, but of the sequence {len(seen.shares)} columns share a field that it '
                'sees: choose another with sequence=, or drop less'
            )
        found = seen.same[..., seen.shares[self.search]]
        by_head = (*seen.values.shape[:2], self.heads, self.attention_dim // self.heads)
        query = nn.Dense(self.attention_dim, use_bias=False)(seen.target).reshape(-1, *by_head[2:])
        both = nn.Dense(2 * self.attention_dim, use_bias=False)(seen.values)
        key, value = (part.reshape(by_head) for part in jnp.split(both, 2, axis=-1))
        scores = jnp.einsum('bhd,blhd->bhl', query, key) / by_head[-1] ** 0.5
        return flatten(jnp.einsum('bhl,blhd->bhd', masked_softmax(scores, found[:, None]), value))


def _last(seen: Events, most: int | None) -> Events:
    if most is None:
        return seen
    if most < 1:
        raise UserError(f'max_len={most} is below 1')
    by_event = ('values', 'mask', 'same', 'weight')
    return seen._replace(**{name: getattr(seen, name)[:, -most:] for name in by_event})


def _check_heads(name: str, width: int, heads: int) -> None:
    if width % heads:
        raise UserError(f'{name}: attention_dim={width} is not a multiple of heads={heads}')
