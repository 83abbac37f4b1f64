"""All that a stage reads and writes, as pytrees of arrays. V slots of ids, F fields, C codes a field, M entries."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diet_jax.device.collectives import psum
from diet_jax.training.batches import Batches
from diet_jax.training.passes import StreamState
from diet_jax.training.students import StudentState


class Memory(NamedTuple):
    """The distilled memory: entries of a fixed capacity, each standing for rows of the log."""

    ids: jax.Array  # i32[M, W]  slots of a representative row, its lists too (`base.layout`)
    soft_logit: jax.Array  # f32[M]     label from the reference model, then learned; before the sigmoid
    mean_label: jax.Array  # f32[M]     mean click of the log rows this entry stands for, by weight
    hard_label: jax.Array  # f32[M]     the representative row's own click
    count: jax.Array  # f32[M]     how many log rows it stands for: their sum of weights
    influence: jax.Array  # f32[M]     running estimate
    stage: jax.Array  # i32[M]     when admitted
    valid: jax.Array  # bool[M]    a prefix: entries are only added at the end or replaced in place


class Codebook(NamedTuple):
    """Per field, a learned map id -> code."""

    code: jax.Array  # i32[V]      code of a slot, in [field * C, (field + 1) * C)
    centroids: jax.Array  # f32[F, C, D]  in the space of `codebook.code_space`
    counts: jax.Array  # f32[F, C]   how many id occurrences a code stands for; 0 = the code is free
    frequency: jax.Array  # f32[V]      occurrences of a slot so far, by the weights of their rows
    field_of_slot: jax.Array  # i32[V]      set by the host as the vocabulary grows
    position: jax.Array  # i32[V]      0, 1, ... within the slot's field; -1 marks padding


class StudentPool(NamedTuple):
    """Students of one architecture, of staggered age, that the outer loop draws from (FRePo, arXiv:2206.00719)."""

    students: StudentState  # every leaf has a leading axis [P]
    age: jax.Array  # i32[P]  inner steps taken


class Outcome(NamedTuple):
    """What is learned of one outcome beside the main one: all that depends on a label, of the same rows and codes."""

    soft_logit: jax.Array  # f32[M]     as of `Memory`
    mean_label: jax.Array  # f32[M]
    hard_label: jax.Array  # f32[M]
    reference: StreamState
    twins: tuple[StreamState, ...]
    pools: tuple[StudentPool, ...]
    outer: Any


class StageState(NamedTuple):
    """Everything that must survive a crash."""

    memory: Memory
    codebook: Codebook
    reference: StreamState
    twins: tuple[StreamState, ...]  # other architectures along the same stream
    pools: tuple[StudentPool, ...]  # one for each student architecture
    outer: Any  # optimizer state of the learned labels
    key: jax.Array  # uint32[2] raw key
    stage: jax.Array  # i32[]  stages done
    rows_seen: jax.Array  # i32[]  rows of some weight: what the row budget is of
    others: tuple[Outcome, ...] = ()  # where a row has several outcomes (`data.label.others`)


class Rows(NamedTuple):
    """A device's rows of the block, flat."""

    ids: jax.Array  # i32[n, W]
    label: jax.Array  # f32[n]
    weight: jax.Array  # f32[n]  what a row counts for, 1 where the log does not say; 0 padding
    held: jax.Array  # bool[n]  held out of influence queries and refinement, for the do-no-harm check
    others: tuple[jax.Array, ...] = ()  # f32[n] each: the other outcomes


class Scored(NamedTuple):
    """Rows or entries as the reference model sees them after the block."""

    logits: jax.Array  # f32[N]
    influence: jax.Array  # f32[N]


class Addressing(NamedTuple):
    """What happened to the entries, all i32[]: kept + modified + replaced = entries before; admitted = growth."""

    kept: jax.Array
    modified: jax.Array
    replaced: jax.Array
    admitted: jax.Array


class Keys(NamedTuple):
    """A stage's randomness: a key for every part that draws."""

    address: jax.Array  # of the influence query too
    refine: jax.Array
    check: jax.Array


class Work(NamedTuple):
    """What the parts of a stage hand on to each other; None until the part that makes it has run."""

    state: StageState  # as the parts so far have left it
    block: Batches  # this device's share
    rows: Rows
    keys: Keys
    before: jax.Array | None = None  # f32[M]  logits of the entries before the reference model learned from the block
    logits: tuple[jax.Array, ...] | None = None  # f32[S, b] each: progressive validation, the reference model's first
    moved: jax.Array | None = None  # f32[]  share of the block's id occurrences whose code changed
    of_rows: Scored | None = None
    of_entries: Scored | None = None
    addressing: Addressing | None = None
    addressed: jax.Array | None = None  # bool[M]  entries that are new or modified: what refinement may change
    unrefined: Memory | None = None  # as addressing left it
    refinement: dict | None = None  # scalars
    others: tuple[Work, ...] = ()  # the same of every other outcome (`outcomes`)


class StageMetrics(NamedTuple):
    """Scalars, except the progressive validation's logits (before each row was trained on)."""

    logits: jax.Array  # f32[S, b, 1 + twins]  this device's share, the reference model's first; gathered by the driver
    train_loss: jax.Array
    moved: jax.Array  # share of the block's id occurrences whose code changed
    influence: dict
    addressing: Addressing
    refinement: dict
    rows: jax.Array  # i32[]  valid entries
    mass: jax.Array  # f32[]  sum of counts
    other_logits: tuple = ()  # f32[S, b, 1 + twins] of every other outcome, as `logits`
    other_refinement: tuple = ()  # as `refinement`


def flat_rows(block: Batches) -> Rows:
    """A block's batches as one list of rows."""
    flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    return jax.tree.map(flat, Rows(block.ids, block.label, block.weight, block.held, block.others))


def count_rows(rows: Rows, axis: str | None = None) -> jax.Array:
    """Rows over all devices, without padding and rows of weight 0. -> i32[]."""
    return psum(jnp.sum(rows.weight > 0), axis)


def mass(rows: Rows, axis: str | None = None) -> jax.Array:
    """Sum of weights over all devices. -> f32[]."""
    return psum(jnp.sum(rows.weight), axis)


def sample_rows(rows: Rows, count: int, key: jax.Array, axis: str | None = None) -> Rows:
    """`count` rows over all devices, drawn with replacement from those neither padding nor held out.

    All are as likely, and keep their weight: of a log whose negatives were thinned out both classes are drawn.
    """
    if axis:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        count = -(-count // jax.lax.axis_size(axis))
    open_rows = (rows.weight > 0) & ~rows.held
    cumulative = jnp.cumsum(open_rows)
    pick = jnp.searchsorted(cumulative, jax.random.randint(key, (count,), 0, jnp.maximum(cumulative[-1], 1)), 'right')
    pick = jnp.minimum(pick, rows.weight.shape[0] - 1)
    return jax.tree.map(lambda x: x[pick], rows)._replace(weight=jnp.where(open_rows[pick], rows.weight[pick], 0.0))
