"""Training along the stream: one pass in time order, test then train.

Along the log a model owns one row per id, and a batch touches a tiny part of them: a step visits the touched rows only,
so it costs O(batch), whatever the vocabulary; what the optimiser would have done to a row meanwhile is done when it is
next touched (`recipes.skipped`). Students on a memory own one row per *code*, a few hundred rows, and train densely
(`students`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from diet_jax.device import tables
from diet_jax.device.collectives import psum
from diet_jax.device.tiling import chunked, tiling
from diet_jax.models.recipes import DEFAULT, Recipe
from diet_jax.training.batches import Batches
from diet_jax.training.losses import asked, divisor, row_losses
from diet_jax.training.optimizers import dense_init, dense_step, direction, skipped, stepped


class StreamState(NamedTuple):
    """A model in training along the stream, with the optimizer's moments."""

    params: Any  # {'table': f32[V, 1+d], 'head': ...}
    mu: jax.Array  # f32[V, 1+d]  first moment of the table
    nu: jax.Array  # f32[V, 1+d]  second moment of the table, or sum of squares
    head_opt: Any  # moments of the head, as Optax's Adam has them
    place: jax.Array  # i32[V]  where an id last stood in its batch; says nothing of ids that the batch does not hold
    last: jax.Array  # i32[V]  the step after which the row is as it stands here
    step: jax.Array  # i32[]


def init_stream(model, key: jax.Array, capacity: int, columns: int, recipe: Recipe = DEFAULT) -> StreamState:
    """A fresh model over `capacity` slots; columns: of the ids that it will be given."""
    params = model.init(key, capacity, columns)
    zeros = jnp.zeros_like(params['table'])
    return StreamState(
        params=params,
        mu=zeros,
        nu=jnp.full_like(zeros, recipe.initial_accumulator),
        head_opt=dense_init(recipe, params['head']),
        place=jnp.zeros(capacity, jnp.int32),
        last=jnp.zeros(capacity, jnp.int32),
        step=jnp.int32(0),
    )


def stream_step(
    model,
    state: StreamState,
    ids,
    label,
    weight,
    lr,
    *,
    recipe: Recipe = DEFAULT,
    axis: str | None = None,
    dropout_key=None,
    shards: str | None = None,
) -> tuple[StreamState, jax.Array]:
    """One step on the rows of one batch; returns the new state and the logits *before* the step.

    The optimizer's work is that of the different ids of the batch, a fifth of their occurrences on KuaiRand: they are
    first brought up to the step before, then stepped.

    Args:
      ids: i32[b, W] global slots, below 0 what is none (`base.layout`); label: f32[b], or f32[b, K] of a model of K
        outcomes; weight: f32[b], the loss is the mean by weight over the batch, and a row of weight 0 is padding;
        lr: scalar learning rate (may be traced).
      axis: device axis over which the batch is sharded; gradients of all shares are gathered, O(batch) traffic.
      shards: `axis` where the rows of table, moments and places are spread over it (`tables`), else None.
    """
    params, now = state.params, state.step
    chex.assert_equal_shape([weight, ids[:, 0]])
    chex.assert_equal_shape_prefix([label, weight], 1)
    total = psum(jnp.sum(weight), axis)
    # Padded rows and what is no id point past the end of the table: reads fill, writes drop, and no moment moves.
    capacity = tables.size(params['table'], shards)
    flat = jnp.where((weight[:, None] > 0) & (ids >= 0), ids, capacity).reshape(-1)
    share = flat.shape[0]
    if axis:
        flat = jax.lax.all_gather(flat, axis, tiled=True)
    touched, into, place, count = _distinct(flat, state.place, capacity, shards)
    size = min(tiling().ids, flat.shape[0])

    def each_tile(update, carry):
        if size < flat.shape[0]:
            return jax.lax.fori_loop(0, (count + size - 1) // size, update, carry)
        return update(0, carry)  # no loop, which would copy the tables of students under vmap

    def part(i, *arrays):
        return (jax.lax.dynamic_slice_in_dim(x, i * size, size) for x in arrays)

    def take(at, *arrays):
        return (tables.take(x, at, shards) for x in arrays)

    def catch_up(i, compact):
        (at,) = part(i, touched)
        row, mu, nu, since = take(at, params['table'], state.mu, state.nu, state.last)
        now_there = skipped(recipe, row, mu, nu, since, now, lr)
        put = jax.lax.dynamic_update_slice_in_dim
        return tuple(put(all_, new, i * size, 0) for all_, new in zip(compact, now_there, strict=True))

    empty = jnp.zeros((touched.shape[0], params['table'].shape[1]))
    rows, mus, nus = each_tile(catch_up, (empty, empty, empty))  # of each touched id, as of `now`
    mine = into
    if axis and not shards:
        mine = jax.lax.dynamic_slice_in_dim(into, jax.lax.axis_index(axis) * share, share)
    old = rows.at[mine].get(mode='fill', fill_value=0)
    if shards:
        old = jax.lax.psum_scatter(old, axis, tiled=True)

    def loss(rows, head):
        logits = model.rows(head, rows.reshape(*ids.shape, -1), ids, dropout_key=dropout_key)
        return jnp.sum(weight * row_losses(logits, label)) / divisor(total), asked(logits)

    (_, logits), (g_rows, g_head) = jax.value_and_grad(loss, (0, 1), has_aux=True)(old, params['head'])
    if axis:
        g_rows = jax.lax.all_gather(g_rows, axis, tiled=True)
        g_head = psum(g_head, axis)
    grad = jnp.zeros((touched.shape[0], g_rows.shape[1])).at[into].add(g_rows, mode='drop')
    step = now + 1

    def update(i, carry):
        at, row, mu, nu, g = part(i, touched, rows, mus, nus, grad)
        towards, mu, nu = direction(recipe, g, mu, nu, step)
        new = stepped(recipe, row, towards, lr), mu, nu, jnp.broadcast_to(step, at.shape)
        return tuple(tables.put(x, at, rows, shards) for x, rows in zip(carry, new, strict=True))

    table, mu, nu, last = each_tile(update, (params['table'], state.mu, state.nu, state.last))
    head, head_opt = dense_step(recipe, params['head'], g_head, state.head_opt, lr)
    state = StreamState(
        params={'table': table, 'head': head}, mu=mu, nu=nu, head_opt=head_opt, place=place, last=last, step=step
    )
    return state, logits


def _distinct(flat, place, capacity: int, shards: str | None):
    """Each id of a batch once: most of a batch are ids that it holds many times.

    Args: flat: i32[n] ids, `capacity` in padding; place: of the state.
    Returns: (touched i32[N], the ids held here, then `capacity`; into i32[n], where among them an occurrence is, N
      where it is not; place; how many i32[]), N = n to the next multiple of `tiling().ids`.
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
    return touched, at.at[chosen].get(mode='fill', fill_value=room), place, rank[-1]


def settled(recipe: Recipe, state: StreamState, lr) -> StreamState:
    """The same model with every row of its table brought up to the last step, to be looked at whole. O(V)."""
    if not recipe.drifts:
        return state
    table, mu, nu = skipped(recipe, state.params['table'], state.mu, state.nu, state.last, state.step, lr)
    return state._replace(
        params={**state.params, 'table': table}, mu=mu, nu=nu, last=jnp.broadcast_to(state.step, state.last.shape)
    )


def stream_pass(
    model,
    state: StreamState,
    batches: Batches,
    lr,
    *,
    recipe: Recipe = DEFAULT,
    axis: str | None = None,
    key=None,
    shards: str | None = None,
):
    """Test, then train, on every batch of a block in time order: progressive validation for free.

    Returns the trained state and the logits f32[S, b] given to each row *before* it was trained on (0 in padding
    and in rows of weight 0).
    Rows of the table that the last batches did not hold stand as when last touched: `settled` brings them up.
    Args: as of `stream_step`.
    """

    (state,), (logits,) = _pass(((model, recipe, lr, 'pass'),), (state,), batches, axis=axis, key=key, shards=shards)
    return state, logits


def stream_passes(models, states, batches: Batches, axis=None, shards: str | None = None):
    """`stream_pass` of several models over one block.

    On an accelerator all of them take a step in one turn of one loop, for a turn costs it as much as a small step; on
    a CPU they pass one after another, each with its table in the cache.

    Args: models: of (`Model`, `Recipe`, learning rate, name in a profile); states: their `StreamState`s, in order.
    Returns: (tuple of StreamState, tuple of logits f32[S, b]).
    """
    if tiling().abreast:
        return _pass(models, states, batches, axis=axis, shards=shards)
    done = [_pass((m,), (s,), batches, axis=axis, shards=shards) for m, s in zip(models, states, strict=True)]
    return tuple(state for (state,), _ in done), tuple(logits for _, (logits,) in done)


def _pass(models, states, batches: Batches, *, axis, key=None, shards: str | None = None):
    def body(i, carry):
        dropout = None if key is None else jax.random.fold_in(key, i)
        rows = batches.ids[i], batches.label[i], batches.weight[i]
        out = []
        for (model, recipe, lr, name), state, logits in zip(models, *carry, strict=True):
            with jax.named_scope(name):
                state, now = stream_step(
                    model, state, *rows, lr, recipe=recipe, axis=axis, dropout_key=dropout, shards=shards
                )
                out.append((state, logits.at[i].set(jnp.where(batches.weight[i] > 0, now, 0.0))))
        return tuple(zip(*out))

    logits = tuple(jnp.zeros_like(batches.weight) for _ in models)
    return jax.lax.fori_loop(0, batches.steps, body, (tuple(states), logits))


def predict(model, params, ids: jax.Array, chunk: int | None = None) -> jax.Array:
    """Logits of any number of rows, of the outcome that is asked: i32[N, W] -> f32[N]."""
    return chunked(lambda part: asked(model.apply(params, part[0])), (ids,), chunk)
