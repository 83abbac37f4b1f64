"""The inner step, the one-pass training along the stream, and the training of many students at once.

Two ways of training exist because two kinds of tables exist:

* Along the log a model owns one row per id, and a batch touches a tiny part of them: `stream_pass` updates only
  the touched rows (lazy Adam), so a step costs O(batch), whatever the vocabulary.
* On a memory a student owns one row per *code*, a few hundred rows: `inner_step` is a plain dense Adam step, and
  it is what the outer loop differentiates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from diet_jax import tables
from diet_jax.tiling import tiling

B1, B2, EPS = 0.9, 0.999, 1e-8
# sqrt at zero has an infinite derivative: without eps_root the meta-gradient of an embedding row that saw no
# gradient is NaN (DESIGN, section 6).
EPS_ROOT = 1e-12
# Compiled functions of a candidate that are kept. Each takes hundreds of the 65,530 memory maps that Linux grants a
# process: a study of thirty candidates on a dozen kinds of rows would run out of them.
PROGRAMS_KEPT = 8


def psum(x, axis: str | None):
    """Sum over the device axis; the identity when there is none."""
    return jax.lax.psum(x, axis) if axis else x


def row_losses(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """LogLoss of every row against a (possibly soft) label. f32[N], f32[N] in [0, 1] -> f32[N], in nats."""
    return optax.sigmoid_binary_cross_entropy(logits, targets)


class Batches(NamedTuple):
    """One device's share of a block: batch k of the block is batch k of every device, side by side."""

    ids: jax.Array  # i32[S, b, F]
    label: jax.Array  # f32[S, b]
    weight: jax.Array  # f32[S, b]  1 for a row, 0 for padding
    held: jax.Array  # bool[S, b] held out of influence queries and refinement, for the do-no-harm check
    steps: jax.Array  # i32[]      batches that hold rows; the rest is padding and is not visited


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
    return StreamState(params, zeros, zeros, _head_optimizer().init(params['head']), place, jnp.int32(0))


def _head_optimizer():
    return optax.scale_by_adam(B1, B2, EPS)


def stream_step(
    model,
    state: StreamState,
    ids,
    label,
    weight,
    lr,
    axis=None,
    dropout_key=None,
    decay: float = 0.0,
    shards: str | None = None,
):
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
        new = _stepped(tables.take(table, at, shards), direction, lr, decay)
        return tuple(tables.put(x, at, rows, shards) for x, rows in ((table, new), (all_mu, mu), (all_nu, nu)))

    carry = params['table'], state.mu, state.nu
    if size < flat.shape[0]:
        table, mu, nu = jax.lax.fori_loop(0, (count + size - 1) // size, update, carry)
    else:  # no loop, which would copy the tables of students under vmap
        table, mu, nu = update(0, carry)
    direction, head_opt = _head_optimizer().update(g_head, state.head_opt)
    head = jax.tree.map(lambda p, u: _stepped(p, u, lr, decay), params['head'], direction)
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


def _stepped(param, direction, lr, decay: float):
    return (1 - lr * decay) * param - lr * direction if decay else param - lr * direction


def stream_pass(
    model,
    state: StreamState,
    batches: Batches,
    lr,
    axis=None,
    key=None,
    decay: float = 0.0,
    shards: str | None = None,
):
    """Test, then train, on every batch of a block in time order: progressive validation for free.

    Returns the trained state and the logits f32[S, b] given to each row *before* it was trained on (0 in padding).
    Args: as of `stream_step`.
    """

    (state,), (logits,) = _pass(((model, lr, 'pass'),), (state,), batches, axis, key, decay, shards)
    return state, logits


def stream_passes(models, states, batches: Batches, axis=None, shards: str | None = None):
    """`stream_pass` of several models over one block.

    On an accelerator all of them take a step in one turn of one loop, for a turn costs it as much as a small step; on
    a CPU they pass one after another, each with its table in the cache.

    Args: models: of (`Model`, learning rate, name in a profile); states: their `StreamState`s, in order.
    Returns: (tuple of StreamState, tuple of logits f32[S, b]).
    """
    if tiling().abreast:
        return _pass(models, states, batches, axis, shards=shards)
    done = [_pass((m,), (s,), batches, axis, shards=shards) for m, s in zip(models, states, strict=True)]
    return tuple(state for (state,), _ in done), tuple(logits for _, (logits,) in done)


def _pass(models, states, batches: Batches, axis, key=None, decay: float = 0.0, shards: str | None = None):
    def body(i, carry):
        dropout = None if key is None else jax.random.fold_in(key, i)
        rows = batches.ids[i], batches.label[i], batches.weight[i]
        out = []
        for (model, lr, name), state, logits in zip(models, *carry, strict=True):
            with jax.named_scope(name):
                state, now = stream_step(model, state, *rows, lr, axis, dropout, decay, shards)
                out.append((state, logits.at[i].set(jnp.where(batches.weight[i] > 0, now, 0.0))))
        return tuple(zip(*out))

    logits = tuple(jnp.zeros_like(batches.label) for _ in models)
    return jax.lax.fori_loop(0, batches.steps, body, (tuple(states), logits))


def chunked(function: Callable, arrays, chunk: int | None = None):
    """Maps `function` over chunks of the leading axis: any number of rows in constant memory, one compiled shape.

    Args: function: a tuple of arrays [chunk, ...] -> pytree of arrays [chunk, ...]; arrays: tuple of [N, ...].
    Returns: the pytree with leading axis N.
    """
    n = arrays[0].shape[0]
    out = jax.lax.map(function, split(arrays, chunk))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:n], out)


def mapped(function: Callable, xs):
    """Maps trainings of students over the leading axis: side by side where the device is wide enough, else in turn,
    for on a CPU a wider vmap only spills the caches."""
    return jax.vmap(function)(xs) if tiling().abreast else jax.lax.map(function, xs)


def split(arrays, chunk: int | None = None):
    """Pads the leading axis with zeros to a multiple of `chunk`: [N, ...] -> [ceil(N / chunk), chunk, ...].

    chunk: as many rows as suit the device (`tiling`), where it is not given.
    """
    n = arrays[0].shape[0]
    size = min(chunk or tiling().rows, n)
    return jax.tree.map(
        lambda x: jnp.pad(x, ((0, -n % size),) + ((0, 0),) * (x.ndim - 1)).reshape(-1, size, *x.shape[1:]),
        tuple(arrays),
    )


def predict(model, params, ids: jax.Array, chunk: int | None = None) -> jax.Array:
    """Logits of any number of rows: i32[N, F] -> f32[N]."""
    return chunked(lambda part: model.apply(params, part[0]), (ids,), chunk)


class StudentState(NamedTuple):
    """A student in training on a memory: a model over codes, with dense optimizer state."""

    params: Any
    opt: Any


class StudentData(NamedTuple):
    """What a student trains on: the memory (or a rival's rows) seen through one view, valid rows first."""

    ids: jax.Array  # i32[M, F]  codes (or slots, for rows without a codebook)
    target: jax.Array  # f32[M]     label in [0, 1]
    weight: jax.Array  # f32[M]     >= 0
    rows: jax.Array  # i32[]      valid rows: the first `rows`


def student_optimizer():
    """Adam without its learning rate, safe to differentiate through."""
    return optax.scale_by_adam(B1, B2, EPS, eps_root=EPS_ROOT)


def init_student(model, key: jax.Array, num_codes: int, num_fields: int) -> StudentState:
    params = model.init(key, num_codes, num_fields)
    return StudentState(params, student_optimizer().init(params))


def weighted_loss(model, params, ids, target, weight, dropout_key=None) -> jax.Array:
    """Weighted mean LogLoss of a batch, nats."""
    losses = row_losses(model.apply(params, ids, dropout_key=dropout_key), target)
    return jnp.sum(weight * losses) / jnp.maximum(jnp.sum(weight), 1e-6)


def inner_step(model, state: StudentState, ids, target, weight, lr, dropout_key=None, decay: float = 0.0):
    """One dense AdamW step of a student (`decay` 0: Adam), the step that the outer loop differentiates through."""
    grads = jax.grad(lambda p: weighted_loss(model, p, ids, target, weight, dropout_key))(state.params)
    direction, opt = student_optimizer().update(grads, state.opt)
    return StudentState(jax.tree.map(lambda p, u: _stepped(p, u, lr, decay), state.params, direction), opt)


def student_epochs(model, state, data: StudentData, key, lr, epochs, batch: int, decay: float = 0.0):
    """`epochs` (may be traced) shuffled passes over the valid rows, `batch` rows a step. Pure; vmap over key and lr.

    state: `StudentState`, dense steps, for tables of a few hundred codes; or `StreamState`, lazy steps that touch the
    batch's rows only, for the large tables of rows that keep their ids.
    """
    lazy = isinstance(state, StreamState)
    capacity = data.target.shape[0]
    size = min(batch, capacity)
    steps = (data.rows + size - 1) // size
    padded = -(-capacity // size) * size

    def epoch(e, state):
        shuffle, drop = jax.random.split(jax.random.fold_in(key, e))
        noise = jax.random.uniform(shuffle, (capacity,))
        order = jnp.argsort(jnp.where(jnp.arange(capacity) < data.rows, noise, 2.0))
        order = jnp.pad(order, (0, padded - capacity))
        live = (jnp.arange(padded) < data.rows).astype(jnp.float32)

        def body(i, state):
            pick = jax.lax.dynamic_slice(order, (i * size,), (size,))
            weight = jax.lax.dynamic_slice(live, (i * size,), (size,)) * data.weight[pick]
            dropout, rows = jax.random.fold_in(drop, i), (data.ids[pick], data.target[pick], weight)
            if lazy:
                return stream_step(model, state, *rows, lr, None, dropout, decay)[0]
            return inner_step(model, state, *rows, lr, dropout, decay)

        return jax.lax.fori_loop(0, steps, body, state)

    return jax.lax.fori_loop(0, epochs, epoch, state)


def train_students(model, num_codes: int, batch: int, epochs: tuple[int, ...], decay=0.0, lazy=False) -> Callable:
    """One compiled call that trains a whole grid of students of one architecture.

    Args:
      num_codes: rows of the students' tables; batch: rows a step; epochs: increasing numbers of passes at which
        the parameters are kept, e.g. (10, 30); decay: weight decay; lazy: see `student_epochs`.
    Returns:
      f(data: StudentData, keys [K], lrs f32[L]) -> params with leading axes [len(epochs), L, K].
    """
    gaps = jnp.asarray([b - a for a, b in zip((0,) + tuple(epochs), epochs)], jnp.int32)

    def one(data, key, lr):
        init_key, order_key = jax.random.split(key)
        state = (init_stream if lazy else init_student)(model, init_key, num_codes, data.ids.shape[1])

        def segment(state, gap_and_index):
            gap, index = gap_and_index
            state = student_epochs(model, state, data, jax.random.fold_in(order_key, index), lr, gap, batch, decay)
            return state, state.params

        return jax.lax.scan(segment, state, (gaps, jnp.arange(len(gaps))))[1]

    @jax.jit
    def grid(data, keys, lrs):
        of_rate = lambda lr: jax.vmap(lambda key: one(data, key, lr))(keys)  # noqa: E731
        out = jax.lax.map(of_rate, lrs) if lazy else mapped(of_rate, lrs)  # [L, K, E, ...]; tables may be large
        return jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), out)

    return grid
