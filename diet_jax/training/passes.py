"""Training along the stream: one pass in time order, test then train.

Along the log a model owns one row per id, and a batch touches a tiny part of them: a step updates only the touched rows
(lazy Adam), so it costs O(batch), whatever the vocabulary. Students on a memory own one row per *code*, a few hundred
rows, and train densely (`students`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from diet_jax.device import tables
from diet_jax.device.collectives import psum
from diet_jax.device.tiling import chunked, tiling
from diet_jax.training.adam import B1, B2, EPS, head_optimizer, stepped
from diet_jax.training.batches import Batches
from diet_jax.training.losses import row_losses


class StreamState(NamedTuple):
    """A model in training along the stream, with the optimizer's moments."""

    params: Any  # {'table': f32[V, 1+d], 'head': ...}
    mu: jax.Array  # f32[V, 1+d]  first moment of the table
    nu: jax.Array  # f32[V, 1+d]  second moment of the table
    head_opt: Any  # optax state of the head
    place: jax.Array  # i32[V]  where an id last stood in its batch; says nothing of ids that the batch does not hold
    step: jax.Array  # i32[]


def init_stream(model, key: jax.Array, capacity: int, num_fields: int) -> StreamState:
    """A fresh model over `capacity` slots of `num_fields` fields."""
    params = model.init(key, capacity, num_fields)
    zeros = jnp.zeros_like(params['table'])
    place = jnp.zeros(capacity, jnp.int32)
    head_opt = head_optimizer().init(params['head'])
    return StreamState(params=params, mu=zeros, nu=zeros, head_opt=head_opt, place=place, step=jnp.int32(0))


def stream_step(
    model,
    state: StreamState,
    ids,
    label,
    weight,
    lr,
    *,
    axis: str | None = None,
    dropout_key=None,
    decay: float = 0.0,
    shards: str | None = None,
) -> tuple[StreamState, jax.Array]:
    """One lazy Adam step on the rows of one batch; returns the new state and the logits *before* the step.

    Equal to dense Adam on the touched rows, except that an untouched row's moments do not decay and it does not
    drift (the usual LazyAdam). The optimizer's work is that of the different ids of the batch, a fifth of their
    occurrences on KuaiRand.

    Args:
      ids: i32[b, F] global slots; label, weight: f32[b]; lr: scalar learning rate (may be traced).
      axis: device axis over which the batch is sharded; gradients of all shares are gathered, O(batch) traffic.
      decay: decoupled weight decay (AdamW), on the touched rows and the head.
      shards: `axis` where the rows of table, moments and places are spread over it (`tables`), else None.
    """
    params = state.params
    chex.assert_equal_shape([label, weight, ids[:, 0]])
    total = psum(jnp.sum(weight), axis)
    # A padded row points past the end of the table: reads clip, writes drop, so padding touches no moment.
    capacity = tables.size(params['table'], shards)
    flat = jnp.where(weight[:, None] > 0, ids, capacity).reshape(-1)
    share = flat.shape[0]
    if axis:
        flat = jax.lax.all_gather(flat, axis, tiled=True)
    old = tables.take(params['table'], flat, shards)
    rows = old
    if shards:
        rows = jax.lax.psum_scatter(old, axis, tiled=True)
    elif axis:
        rows = jax.lax.dynamic_slice_in_dim(old, jax.lax.axis_index(axis) * share, share)

    def loss(rows, head):
        logits = model.rows(head, rows.reshape(*ids.shape, -1), dropout_key=dropout_key)
        return jnp.sum(weight * row_losses(logits, label)) / jnp.maximum(total, 1.0), logits

    (_, logits), (g_rows, g_head) = jax.value_and_grad(loss, (0, 1), has_aux=True)(rows, params['head'])
    if axis:
        g_rows = jax.lax.all_gather(g_rows, axis, tiled=True)
        g_head = psum(g_head, axis)
    step = state.step + 1
    touched, grad, place, count = _summed(flat, g_rows, state.place, capacity, shards)
    t = step.astype(jnp.float32)
    size = min(tiling().ids, flat.shape[0])

    def update(i, carry):
        table, all_mu, all_nu = carry
        at, g = (jax.lax.dynamic_slice_in_dim(x, i * size, size) for x in (touched, grad))
        mu = B1 * tables.take(all_mu, at, shards) + (1 - B1) * g
        nu = B2 * tables.take(all_nu, at, shards) + (1 - B2) * g * g
        direction = (mu / (1 - B1**t)) / (jnp.sqrt(nu / (1 - B2**t)) + EPS)
        new = stepped(tables.take(table, at, shards), direction, lr, decay)
        return tuple(tables.put(x, at, rows, shards) for x, rows in ((table, new), (all_mu, mu), (all_nu, nu)))

    carry = params['table'], state.mu, state.nu
    if size < flat.shape[0]:
        table, mu, nu = jax.lax.fori_loop(0, (count + size - 1) // size, update, carry)
    else:  # no loop, which would copy the tables of students under vmap
        table, mu, nu = update(0, carry)
    direction, head_opt = head_optimizer().update(g_head, state.head_opt)
    head = jax.tree.map(lambda p, u: stepped(p, u, lr, decay), params['head'], direction)
    return StreamState({'table': table, 'head': head}, mu, nu, head_opt, place, step), logits


def _summed(flat, grads, place, capacity: int, shards: str | None):
    """Gradients of all occurrences of an id summed, and each id once: most of a batch are ids that it holds many times.

    Args: flat: i32[n] ids, `capacity` in padding; grads: f32[n, D]; place: of the state.
    Returns: (touched i32[N], the ids held here, then `capacity`; their gradients f32[N, D]; place; how many i32[]),
      N = n to the next multiple of `tiling().ids`.
    """
    n = flat.shape[0]
    size = min(tiling().ids, n)
    room = -(-n // size) * size
    order = jnp.arange(n, dtype=jnp.int32)
    place = tables.put(place, flat, order, shards)
    chosen = tables.take(place, flat, shards, fill=n)  # one occurrence of each id, the same for all of them
    rank = jnp.cumsum(chosen == order, dtype=jnp.int32)  # from 1
    at = jnp.where(chosen == order, rank - 1, room)
    touched = jnp.full(room, capacity, jnp.int32).at[at].set(flat, mode='drop')
    into = at.at[chosen].get(mode='fill', fill_value=room)
    return touched, jnp.zeros((room, grads.shape[1])).at[into].add(grads, mode='drop'), place, rank[-1]


def stream_pass(
    model,
    state: StreamState,
    batches: Batches,
    lr,
    *,
    axis: str | None = None,
    key=None,
    decay: float = 0.0,
    shards: str | None = None,
):
    """Test, then train, on every batch of a block in time order: progressive validation for free.

    Returns the trained state and the logits f32[S, b] given to each row *before* it was trained on (0 in padding).
    Args: as of `stream_step`.
    """

    (state,), (logits,) = _pass(
        ((model, lr, 'pass'),), (state,), batches, axis=axis, key=key, decay=decay, shards=shards
    )
    return state, logits


def stream_passes(models, states, batches: Batches, axis=None, shards: str | None = None):
    """`stream_pass` of several models over one block.

    On an accelerator all of them take a step in one turn of one loop, for a turn costs it as much as a small step; on
    a CPU they pass one after another, each with its table in the cache.

    Args: models: of (`Model`, learning rate, name in a profile); states: their `StreamState`s, in order.
    Returns: (tuple of StreamState, tuple of logits f32[S, b]).
    """
    if tiling().abreast:
        return _pass(models, states, batches, axis=axis, shards=shards)
    done = [_pass((m,), (s,), batches, axis=axis, shards=shards) for m, s in zip(models, states, strict=True)]
    return tuple(state for (state,), _ in done), tuple(logits for _, (logits,) in done)


def _pass(models, states, batches: Batches, *, axis, key=None, decay: float = 0.0, shards: str | None = None):
    def body(i, carry):
        dropout = None if key is None else jax.random.fold_in(key, i)
        rows = batches.ids[i], batches.label[i], batches.weight[i]
        out = []
        for (model, lr, name), state, logits in zip(models, *carry, strict=True):
            with jax.named_scope(name):
                state, now = stream_step(
                    model, state, *rows, lr, axis=axis, dropout_key=dropout, decay=decay, shards=shards
                )
                out.append((state, logits.at[i].set(jnp.where(batches.weight[i] > 0, now, 0.0))))
        return tuple(zip(*out))

    logits = tuple(jnp.zeros_like(batches.label) for _ in models)
    return jax.lax.fori_loop(0, batches.steps, body, (tuple(states), logits))


def predict(model, params, ids: jax.Array, chunk: int | None = None) -> jax.Array:
    """Logits of any number of rows: i32[N, F] -> f32[N]."""
    return chunked(lambda part: model.apply(params, part[0]), (ids,), chunk)
