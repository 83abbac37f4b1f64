"""Students: models trained from scratch on few rows, and a whole grid of them in one compiled call.

`inner_step` is a plain dense Adam step on a table of a few hundred codes; it is what the outer loop differentiates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diet_jax.device.tiling import mapped
from diet_jax.models.recipes import DEFAULT, Recipe
from diet_jax.training.losses import weighted_loss
from diet_jax.training.optimizers import EPS_ROOT, dense_init, dense_step
from diet_jax.training.passes import StreamState, init_stream, settled, stream_step


class StudentState(NamedTuple):
    """A student in training on a memory: a model over codes, with dense optimizer state."""

    params: Any
    opt: Any


class StudentData(NamedTuple):
    """What a student trains on: the memory (or a rival's rows) seen through one view, valid rows first."""

    ids: jax.Array  # i32[M, W]  codes (or slots, for rows without a codebook); PAD in lists
    target: jax.Array  # f32[M]     label in [0, 1]; f32[M, K] for a model of K outcomes
    weight: jax.Array  # f32[M]     >= 0
    rows: jax.Array  # i32[]      valid rows: the first `rows`


def init_student(model, key: jax.Array, num_codes: int, columns: int, recipe: Recipe = DEFAULT) -> StudentState:
    """An untrained model over `num_codes` rows of a table; columns: of the ids that it will be given."""
    params = model.init(key, num_codes, columns)
    return StudentState(params=params, opt=dense_init(recipe, params))


def inner_step(
    model, state: StudentState, ids, target, weight, lr, *, recipe: Recipe = DEFAULT, dropout_key=None
) -> StudentState:
    """One dense step of a student, the step that the outer loop differentiates through."""
    grads = jax.grad(lambda p: weighted_loss(model, p, ids, target, weight, dropout_key))(state.params)
    params, opt = dense_step(recipe, state.params, grads, state.opt, lr, EPS_ROOT)
    return StudentState(params=params, opt=opt)


def student_epochs(model, state, data: StudentData, key, lr, epochs, *, batch: int, recipe: Recipe = DEFAULT):
    """`epochs` (may be traced) shuffled passes over the valid rows, `batch` rows a step. Pure; vmap over key and lr.

    state: `StudentState`, dense steps, for tables of a few hundred codes; or `StreamState`, steps that visit the
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
                return stream_step(model, state, *rows, lr, recipe=recipe, dropout_key=dropout)[0]
            return inner_step(model, state, *rows, lr, recipe=recipe, dropout_key=dropout)

        return jax.lax.fori_loop(0, steps, body, state)

    return jax.lax.fori_loop(0, epochs, epoch, state)


def train_students(
    model, num_codes: int, *, batch: int, epochs: tuple[int, ...], recipe: Recipe = DEFAULT, lazy: bool = False
) -> Callable:
    """One compiled call that trains a whole grid of students of one architecture.

    Args:
      num_codes: rows of the students' tables; batch: rows a step; epochs: increasing numbers of passes at which
        the parameters are kept, e.g. (10, 30); recipe: of all; lazy: see `student_epochs`.
    Returns:
      f(data: StudentData, keys [K], lrs f32[L]) -> params with leading axes [len(epochs), L, K].
    """
    gaps = jnp.asarray([b - a for a, b in zip((0,) + tuple(epochs), epochs)], jnp.int32)

    def one(data, key, lr):
        init_key, order_key = jax.random.split(key)
        state = (init_stream if lazy else init_student)(model, init_key, num_codes, data.ids.shape[1], recipe)

        def segment(state, gap_and_index):
            gap, index = gap_and_index
            state = student_epochs(
                model, state, data, jax.random.fold_in(order_key, index), lr, gap, batch=batch, recipe=recipe
            )
            if lazy:
                state = settled(recipe, state, lr)  # what is kept is looked at whole
            return state, state.params

        return jax.lax.scan(segment, state, (gaps, jnp.arange(len(gaps))))[1]

    @jax.jit
    def grid(data, keys, lrs):
        of_rate = lambda lr: jax.vmap(lambda key: one(data, key, lr))(keys)  # noqa: E731
        out = jax.lax.map(of_rate, lrs) if lazy else mapped(of_rate, lrs)  # [L, K, E, ...]; tables may be large
        return jax.tree.map(lambda x: jnp.moveaxis(x, 2, 0), out)

    return grid
