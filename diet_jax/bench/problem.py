"""Made-up rows with the shapes of a log, and the parts of a stage on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax import codebook, models, stage
from diet_jax import memory as mem
from diet_jax import training as tr
from diet_jax.config import default_config

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


def draw_labels(rows: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(rows) < 0.3).astype(np.float32)


def batches(ids: np.ndarray, batch: int) -> tr.Batches:
    """All rows as batches on one device, a fifth held out."""
    steps = ids.shape[0] // batch
    lay = lambda x: jnp.asarray(x[: steps * batch].reshape(steps, batch, *x.shape[1:]))  # noqa: E731
    label, held = draw_labels(ids.shape[0], 1), np.arange(ids.shape[0]) % 5 == 0
    return tr.Batches(lay(ids), lay(label), jnp.ones((steps, batch)), lay(held), jnp.int32(steps))


def inner_problem(sizes, steps: int, codes: bool) -> Inner:
    """Of `steps` steps; over codes, as students train, or over the log's own ids."""
    fields = (sizes.codes,) * len(sizes.fields) if codes else sizes.fields
    rng = np.random.default_rng(2)
    soft = jnp.asarray(rng.normal(size=sizes.memory), jnp.float32)
    return Inner(
        jnp.asarray(draw_ids(fields, sizes.memory, 3)),
        jnp.asarray(draw_ids(fields, sizes.outer_rows, 4)),
        jnp.asarray(draw_labels(sizes.outer_rows, 5)),
        {'soft_logit': soft},
        jnp.asarray(rng.integers(0, sizes.memory, (steps, sizes.inner_batch)), jnp.int32),
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


def first_state(c, fields: Sequence[int], reference, students, twins=()) -> stage.StageState:
    """Before the first block, with a codebook that knows the vocabulary."""
    capacity = sum(fields)
    key = jax.random.key_data(jax.random.key(0))
    state = stage.init_state(c, reference, students, capacity, len(fields), key, twins)
    owner = np.repeat(np.arange(len(fields)), fields).astype(np.int32)
    start = np.cumsum([0, *fields[:-1]])
    position = (np.arange(capacity) - start[owner]).astype(np.int32)
    book: codebook.Codebook = state.codebook
    return state._replace(codebook=book._replace(field_of_slot=jnp.asarray(owner), position=jnp.asarray(position)))


def full_memory(sizes, fields: Sequence[int]) -> mem.Memory:
    """A memory whose every entry stands for one row."""
    rows = sizes.memory
    memory = mem.init_memory(rows, len(fields))
    return memory._replace(ids=jnp.asarray(draw_ids(fields, rows, 6)), count=jnp.ones(rows), valid=jnp.ones(rows, bool))


def spread_over(vocabulary: int, fields: int) -> tuple[int, ...]:
    """Sizes of fields that share a vocabulary evenly."""
    return (vocabulary // fields,) * fields


def reference(sizes, name: str = 'deepfm') -> Any:
    return models.build(name, dim=sizes.dim)
