"""Made-up rows with the shapes of a log, and the parts of a stage on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax import models
from diet_jax.base.layout import PAD, Layout
from diet_jax.config import default_config
from diet_jax.distillation.memory import init_memory
from diet_jax.distillation.spec import Spec
from diet_jax.distillation.stage import init_state
from diet_jax.distillation.state import Memory, StageState
from diet_jax.training.batches import Batches

STUDENT = {'model': 'deepfm', 'hidden': (16,)}


class Inner(NamedTuple):
    """The problem of one outer step: rows with learnable labels, the picks of T batches, real rows for the loss."""

    ids: jax.Array  # i32[M, F]
    outer_ids: jax.Array  # i32[Q, F]
    outer_label: jax.Array  # f32[Q]
    learnable: dict  # {'soft_logit': f32[M]}
    picks: jax.Array  # i32[T, b]


def draw_ids(fields: Sequence[int], rows: int, seed: int, power: float = 1.5) -> np.ndarray:
    """i32[rows, F], fields side by side: the place in a field is size * u^power.

    At 1.5, 2,304 rows hold about as many different ids as KuaiRand's memory of 1 %; 0 stands for Zipf's law with
    exponent 1, place = size^u.
    """
    u = np.random.default_rng(seed).random((rows, len(fields)))
    size = np.asarray(fields, float)
    place = size * u**power if power else size**u - 1
    return (np.minimum(place, size - 1).astype(np.int64) + np.cumsum([0, *fields[:-1]])).astype(np.int32)


def with_history(ids: np.ndarray, fields: Sequence[int], width: int, of: int = 1) -> tuple[np.ndarray, Layout]:
    """The rows with a list of up to `width` ids of field `of` behind them, of every length alike, and their layout."""
    rows, rng = len(ids), np.random.default_rng(9)
    events = draw_ids(fields, rows * width, 8)[:, of].reshape(rows, width)
    events[np.arange(width) < rng.integers(0, width + 1, (rows, 1))] = PAD
    names = (*(str(f) for f in range(len(fields))), 'history')
    flat = (1,) * len(fields)
    layout = Layout(names, (*flat, width), (*range(len(fields)), of), (*('',) * len(fields), 'history'))
    return np.concatenate([ids, events], 1), layout


def draw_labels(rows: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(rows) < 0.3).astype(np.float32)


def batches(ids: np.ndarray, batch: int) -> Batches:
    """All rows as batches on one device, a fifth held out."""
    steps = ids.shape[0] // batch
    lay = lambda x: jnp.asarray(x[: steps * batch].reshape(steps, batch, *x.shape[1:]))  # noqa: E731
    label, held = draw_labels(ids.shape[0], 1), np.arange(ids.shape[0]) % 5 == 0
    weight = jnp.ones((steps, batch))
    return Batches(ids=lay(ids), label=lay(label), weight=weight, held=lay(held), steps=jnp.int32(steps))


def inner_problem(sizes, steps: int, codes: bool) -> Inner:
    """Of `steps` steps; over codes, as students train, or over the log's own ids."""
    fields = (sizes.codes,) * len(sizes.fields) if codes else sizes.fields
    rng = np.random.default_rng(2)
    soft = jnp.asarray(rng.normal(size=sizes.memory), jnp.float32)
    return Inner(
        ids=jnp.asarray(draw_ids(fields, sizes.memory, 3)),
        outer_ids=jnp.asarray(draw_ids(fields, sizes.outer_rows, 4)),
        outer_label=jnp.asarray(draw_labels(sizes.outer_rows, 5)),
        learnable={'soft_logit': soft},
        picks=jnp.asarray(rng.integers(0, sizes.memory, (steps, sizes.inner_batch)), jnp.int32),
    )


def config(sizes):
    """The default configuration at these sizes."""
    c = default_config()
    c.reference.update(dim=sizes.dim, batch=sizes.batch)
    c.codebook.codes = sizes.codes
    c.memory.update(capacity=sizes.memory, max_new=max(sizes.memory // 4, 1))
    c.refine.update(batch=sizes.inner_batch, outer_rows=sizes.outer_rows, inner_steps=sizes.unrolls[0])
    c.refine.window = sizes.unrolls[0]
    return c


def first_state(spec: Spec, fields: Sequence[int]) -> StageState:
    """Before the first block, with a codebook that knows the vocabulary. Args: fields: ids of each."""
    capacity = sum(fields)
    state = init_state(spec, capacity, jax.random.key_data(jax.random.key(0)))
    owner = np.repeat(np.arange(len(fields)), fields).astype(np.int32)
    start = np.cumsum([0, *fields[:-1]])
    position = (np.arange(capacity) - start[owner]).astype(np.int32)
    book = state.codebook._replace(field_of_slot=jnp.asarray(owner), position=jnp.asarray(position))
    return state._replace(codebook=book)


def full_memory(sizes, fields: Sequence[int]) -> Memory:
    """A memory whose every entry stands for one row."""
    rows = sizes.memory
    memory = init_memory(rows, len(fields))
    return memory._replace(ids=jnp.asarray(draw_ids(fields, rows, 6)), count=jnp.ones(rows), valid=jnp.ones(rows, bool))


def spread_over(vocabulary: int, fields: int) -> tuple[int, ...]:
    """Sizes of fields that share a vocabulary evenly."""
    return (vocabulary // fields,) * fields


def reference(sizes, name: str = 'deepfm', layout: Layout | None = None) -> models.Model:
    return models.build(name, dim=sizes.dim, layout=layout)
