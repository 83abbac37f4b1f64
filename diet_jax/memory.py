"""The distilled memory: a pytree of fixed capacity, its addressing by influence, and the fusion of a block into it.

Every row of the stream is absorbed by exactly one entry, the one nearest to it in the reference model's space, so
the counts of the memory always sum to the rows seen. Influence decides, entry by entry:

* **replaced**: the entries of least influence give way; their rows go to the nearest entry that stays;
* new entries are rows of the block drawn with probability rising with influence and with the distance to the
  nearest entry (influence alone picks the label noise: DESIGN, section 5);
* **modified**: an entry that absorbed rows moves its count and mean label; its soft label follows the reference model;
* **kept**: an entry that absorbed nothing stays as it was, bit for bit.

The definitions are ours; the paper's formulas were not at hand.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from diet_jax.nearest import nearest, tiles
from diet_jax.tiling import tiling
from diet_jax.training import StudentData, psum


class Memory(NamedTuple):
    ids: jax.Array  # i32[M, F]  slots of a representative row
    soft_logit: jax.Array  # f32[M]     label from the reference model, then learned; before the sigmoid
    mean_label: jax.Array  # f32[M]     mean click of the log rows this entry stands for
    hard_label: jax.Array  # f32[M]     the representative row's own click
    count: jax.Array  # f32[M]     how many log rows it stands for
    influence: jax.Array  # f32[M]     running estimate
    stage: jax.Array  # i32[M]     when admitted
    valid: jax.Array  # bool[M]    a prefix: entries are only added at the end or replaced in place


class Rows(NamedTuple):
    """One device's rows of a block, as the addressing sees them."""

    ids: jax.Array  # i32[n, F]
    label: jax.Array  # f32[n]
    soft_logit: jax.Array  # f32[n]     by the reference model after this block
    influence: jax.Array  # f32[n]
    place: jax.Array  # f32[n, Z]  where the row stands in the reference model's space
    valid: jax.Array  # bool[n]


class Addressing(NamedTuple):
    """What happened to the entries, all i32[]: kept + modified + replaced = entries before; admitted = growth."""

    kept: jax.Array
    modified: jax.Array
    replaced: jax.Array
    admitted: jax.Array


def init_memory(capacity: int, num_fields: int) -> Memory:
    zero = jnp.zeros(capacity)
    return Memory(
        jnp.zeros((capacity, num_fields), jnp.int32),
        zero,
        zero,
        zero,
        zero,
        zero,
        jnp.zeros(capacity, jnp.int32),
        jnp.zeros(capacity, bool),
    )


def student_data(memory: Memory, code: jax.Array) -> StudentData:
    """The memory as training data on codes: soft labels, every entry one row."""
    target = jax.nn.sigmoid(memory.soft_logit)
    return StudentData(code[memory.ids], target, memory.valid.astype(jnp.float32), jnp.sum(memory.valid))


def places(embeddings: jax.Array, logits: jax.Array, basis: jax.Array, logit_weight: float) -> jax.Array:
    """Where rows stand: principal components of their embeddings, and the weighted logit. -> f32[n, k + 1]."""
    flat = embeddings.reshape(embeddings.shape[0], -1)
    return jnp.concatenate([flat @ basis, logit_weight * logits[:, None]], axis=1)


def principal_basis(embeddings: jax.Array, weight: jax.Array, components: int, axis=None) -> jax.Array:
    """First principal directions of f32[n, F, d] rows (weights 0 mask padding). -> f32[F * d, components]."""
    flat = embeddings.reshape(embeddings.shape[0], -1)
    total = jnp.maximum(psum(jnp.sum(weight), axis), 1.0)
    mean = psum(weight @ flat, axis) / total
    centred = (flat - mean) * jnp.sqrt(weight)[:, None]
    _, vectors = jnp.linalg.eigh(psum(centred.T @ centred, axis) / total)
    return vectors[:, ::-1][:, :components]


def address(
    memory: Memory,
    rows: Rows,
    place: jax.Array,
    influence: jax.Array,
    shift: jax.Array,
    target: jax.Array,
    stage: jax.Array,
    key: jax.Array,
    *,
    replace: float,
    influence_power: float,
    coverage_power: float,
    max_new: int,
    axis=None,
):
    """Fuses a block into the memory: replaces, admits, absorbs.

    Args:
      place: f32[M, Z] where the entries stand now; influence: f32[M] their influence on the loss of the stream so far;
      shift: f32[M] how far the reference model's logit of each entry moved in this stage;
      target: i32[] valid entries after this stage (the row budget); stage: i32[].
      replace: share of the entries that may be replaced in one stage; max_new: static bound on new entries.
      influence_power, coverage_power: exponents of influence and of squared distance in the odds of a row.
    Returns: (memory, addressed bool[M] (new or modified), Addressing).
    """
    capacity = memory.count.shape[0]
    before = jnp.sum(memory.valid)
    running = 0.5 * (memory.influence + influence)

    # Who gives way: the entries of least influence.
    order = jnp.argsort(jnp.where(memory.valid, running, jnp.inf))
    bound = min(max_new, capacity)
    available = jnp.minimum(psum(jnp.sum(rows.valid), axis), bound)  # no more may go than can come
    replaced = jnp.minimum(jnp.floor(replace * before).astype(jnp.int32), available)
    gone = jnp.zeros(capacity, bool).at[order].set(jnp.arange(capacity) < replaced)
    stays = memory.valid & ~gone

    # Who comes in: a draw without replacement (Gumbel top-k), odds = influence^a * distance^b.
    at_once = tiling()
    of_rows = tiles(rows.place, rows.valid, at_once.points)
    of_staying = tiles(place, stays, at_once.entries)
    old_entry, old_distance = nearest(of_rows, of_staying, jnp.full(rows.valid.shape, jnp.inf))
    distance = jnp.where(jnp.any(stays), old_distance, 1.0)
    draw = key if axis is None else jax.random.fold_in(key, jax.lax.axis_index(axis))
    odds = influence_power * jnp.log(jnp.abs(rows.influence) + 1e-9) + coverage_power * jnp.log(distance + 1e-6)
    odds = jnp.where(rows.valid, odds + jax.random.gumbel(draw, odds.shape), -jnp.inf)
    score, new = _global_top(odds, rows, bound, axis)
    admitted = jnp.clip(target - before, 0, jnp.maximum(available - replaced, 0))
    rank = jnp.arange(score.shape[0])
    slot = jnp.where(rank < replaced, order[jnp.minimum(rank, capacity - 1)], before + rank - replaced)
    comes = rank < replaced + admitted
    slot = jnp.where(comes, slot, capacity)  # out of bounds: dropped

    # Every row of the block, and what the replaced entries stood for, goes to the nearest entry.
    of_new = tiles(new.place, comes, at_once.entries)

    def home(points, old, distance):
        nearer, _ = nearest(points, of_new, distance)
        return jnp.where(nearer >= 0, slot[nearer], old)

    entry = home(of_rows, old_entry, old_distance)
    leaver = order[:bound]
    left = jnp.where(jnp.arange(bound) < replaced, memory.count[leaver], 0.0)
    of_leavers = tiles(place[leaver], jnp.arange(bound) < replaced, at_once.points)
    heir = home(of_leavers, *nearest(of_leavers, of_staying, jnp.full(bound, jnp.inf)))
    mass = rows.valid.astype(jnp.float32)
    segments = capacity + 1
    absorbed = psum(jax.ops.segment_sum(mass, entry, segments)[:capacity], axis)
    clicks = psum(jax.ops.segment_sum(mass * rows.label, entry, segments)[:capacity], axis)
    absorbed = absorbed + jax.ops.segment_sum(left, heir, segments)[:capacity]
    clicks = clicks + jax.ops.segment_sum(left * memory.mean_label[leaver], heir, segments)[:capacity]

    put = lambda old, value: old.at[slot].set(value, mode='drop')  # noqa: E731
    fresh = jnp.zeros(capacity, bool).at[slot].set(True, mode='drop')
    modified = stays & (absorbed > 0)
    held = jnp.where(stays, memory.count, 0.0)
    count = held + absorbed
    mean = (held * memory.mean_label + clicks) / jnp.maximum(count, 1.0)
    changed = modified | fresh
    memory = Memory(
        ids=put(memory.ids, new.ids),
        soft_logit=put(jnp.where(modified, memory.soft_logit + shift, memory.soft_logit), new.soft_logit),
        mean_label=jnp.where(changed & (count > 0), mean, put(memory.mean_label, new.label)),
        hard_label=put(memory.hard_label, new.label),
        count=jnp.where(changed, count, memory.count),
        influence=put(jnp.where(modified, running, memory.influence), new.influence),
        stage=put(memory.stage, stage),
        valid=memory.valid | fresh,
    )
    kept = jnp.sum(stays & ~modified)
    return memory, changed, Addressing(kept, jnp.sum(modified), replaced, admitted)


def _global_top(odds, rows: Rows, count: int, axis):
    """The `count` best rows over all devices: local top-k, all-gather, top-k."""
    score, index = jax.lax.top_k(odds, min(count, odds.shape[0]))
    best = jax.tree.map(lambda x: x[index], rows)
    if axis:
        score, best = jax.tree.map(lambda x: jax.lax.all_gather(x, axis, tiled=True), (score, best))
        score, index = jax.lax.top_k(score, min(count, score.shape[0]))
        best = jax.tree.map(lambda x: x[index], best)
    return score, best
