"""Influence-aware memory addressing, and the fusion of a block into the memory (mechanisms 1, 2 and 3).

Every row of the stream is absorbed by exactly one entry, the one nearest to it in the reference model's space, so
the counts of the memory always sum to the rows seen, or to their weights. Influence decides, entry by entry:

* **replaced**: the entries of least influence give way; their rows go to the nearest entry that stays;
* new entries are rows of the block drawn with probability rising with influence and with the distance to the
  nearest entry (influence alone picks the label noise), a row of weight 10 as often as ten rows would be; at the first
  stage this is the boundary memory;
* **modified**: an entry that absorbed rows moves its count and mean label; its soft label follows the reference model;
* **kept**: an entry that absorbed nothing stays as it was, bit for bit.

The definitions are ours; the paper's formulas were not at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from diet_jax.device import tables
from diet_jax.device.collectives import psum
from diet_jax.device.tiling import chunked, tiling
from diet_jax.distillation.nearest import nearest, tiles
from diet_jax.distillation.spec import Spec
from diet_jax.distillation.state import Addressing, Memory, Work
from diet_jax.models.lists import by_field
from diet_jax.training.losses import divisor


class PlacedRows(NamedTuple):
    """One device's rows of a block, as the addressing sees them."""

    ids: jax.Array  # i32[n, W]
    label: jax.Array  # f32[n]
    soft_logit: jax.Array  # f32[n]     by the reference model after this block
    influence: jax.Array  # f32[n]
    place: jax.Array  # f32[n, Z]  where the row stands in the reference model's space
    weight: jax.Array  # f32[n]  0 in padding
    others: tuple[tuple[jax.Array, jax.Array], ...] = ()  # (label, soft_logit) of the other outcomes


class PlacedEntries(NamedTuple):
    """What this block says of the entries, beside the memory itself."""

    place: jax.Array  # f32[M, Z]  where they stand now
    influence: jax.Array  # f32[M]  on the loss of the stream so far
    shift: jax.Array  # f32[M]  how far the reference model's logit of each moved in this stage
    others: tuple[jax.Array, ...] = ()  # the same of the other outcomes


def places(embeddings: jax.Array, logits: jax.Array, basis: jax.Array, logit_weight: float) -> jax.Array:
    """Where rows f32[n, F, d] stand: their principal components, and the weighted logit. -> f32[n, k + 1]."""
    flat = embeddings.reshape(embeddings.shape[0], -1)
    return jnp.concatenate([flat @ basis, logit_weight * logits[:, None]], axis=1)


def principal_basis(embeddings: jax.Array, weight: jax.Array, components: int, axis=None) -> jax.Array:
    """First principal directions of f32[n, F, d] rows (weights 0 mask padding). -> f32[F * d, components]."""
    flat = embeddings.reshape(embeddings.shape[0], -1)
    total = divisor(psum(jnp.sum(weight), axis))
    mean = psum(weight @ flat, axis) / total
    centred = (flat - mean[None]) * jnp.sqrt(weight)[:, None]
    _, vectors = jnp.linalg.eigh(psum(centred.T @ centred, axis) / total)
    return vectors[:, ::-1][:, :components]


@jax.named_scope('addressing')
def address_and_fuse(spec: Spec, work: Work) -> Work:
    """The part of a stage: places rows and entries in the reference model's space after the block, and fuses."""
    a, state, rows, shards = spec.addressing, work.state, work.rows, spec.shards
    memory, table = state.memory, state.reference.params['table']
    counts = rows.weight > 0
    live = jnp.max(jnp.where(counts, jnp.arange(1, 1 + counts.shape[0]), 0))  # rows come first, padding last
    spread = (jnp.arange(a.basis_rows).astype(jnp.float32) * (live / a.basis_rows)).astype(jnp.int32)
    seen = lambda ids, gather: by_field(spec.layout, None, gather(table, ids, shards)[..., 1:], ids)  # noqa: E731
    sample = seen(rows.ids[spread], tables.gather)
    basis = principal_basis(sample, rows.weight[spread], a.components, spec.axis)
    place = lambda e, logits: places(e, logits, basis, a.logit_weight)  # noqa: E731
    place_rows = lambda part: place(seen(part[0], tables.gather), part[1])  # noqa: E731
    budget = jnp.floor(spec.memory.row_budget * state.rows_seen.astype(jnp.float32)).astype(jnp.int32)
    memories, addressed, addressing = address(
        spec,
        (memory, *(other.state.memory for other in work.others)),
        PlacedRows(
            ids=rows.ids,
            label=rows.label,
            soft_logit=work.of_rows.logits,
            influence=work.of_rows.influence,
            place=chunked(place_rows, (rows.ids, work.of_rows.logits)),
            weight=rows.weight,
            others=tuple((other.rows.label, other.of_rows.logits) for other in work.others),
        ),
        PlacedEntries(
            place=place(seen(memory.ids, tables.gather_common), work.of_entries.logits),
            influence=work.of_entries.influence,
            shift=work.of_entries.logits - work.before,
            others=tuple(other.of_entries.logits - other.before for other in work.others),
        ),
        target=jnp.minimum(budget, memory.count.shape[0]),
        stage=state.stage,
        key=work.keys.address,
    )
    put = lambda work, memory: work._replace(state=work.state._replace(memory=memory), unrefined=memory)  # noqa: E731
    others = tuple(put(*both) for both in zip(work.others, memories[1:], strict=True))
    return put(work, memories[0])._replace(addressed=addressed, addressing=addressing, others=others)


def address(
    spec: Spec,
    memories: Sequence[Memory],
    rows: PlacedRows,
    entries: PlacedEntries,
    *,
    target: jax.Array,
    stage: jax.Array,
    key: jax.Array,
) -> tuple[tuple[Memory, ...], jax.Array, Addressing]:
    """Fuses a block into the memory: replaces, admits, absorbs.

    The share of entries that may be replaced and the exponents of influence and of squared distance in a row's odds are
    those of `spec.addressing`; `spec.memory.max_new` is the static bound on new entries.

    Args:
      memories: the memory, and with the labels of each other outcome the same again.
      target: i32[] valid entries after this stage (the row budget); stage: i32[], of new entries; key: of the draw.
    Returns: (memories, addressed bool[M] (new or modified), Addressing).
    """
    replace, max_new, axis = spec.addressing.replace, spec.memory.max_new, spec.axis
    memory, place, influence, shifts = memories[0], entries.place, entries.influence, (entries.shift, *entries.others)
    chex.assert_equal_shape([memory.count, influence, *shifts, place[:, 0]])
    chex.assert_equal_shape([rows.label, rows.soft_logit, rows.influence, rows.weight, rows.place[:, 0]])
    chex.assert_equal_shape_suffix([rows.place, place], 1)
    capacity = memory.count.shape[0]
    before, valid = jnp.sum(memory.valid), rows.weight > 0
    running = 0.5 * (memory.influence + influence)

    # Who gives way: the entries of least influence.
    order = jnp.argsort(jnp.where(memory.valid, running, jnp.inf))
    bound = min(max_new, capacity)
    available = jnp.minimum(psum(jnp.sum(valid), axis), bound)  # no more may go than can come
    replaced = jnp.minimum(jnp.floor(replace * before.astype(jnp.float32)).astype(jnp.int32), available)
    gone = jnp.zeros(capacity, bool).at[order].set(jnp.arange(capacity) < replaced)
    stays = memory.valid & ~gone

    # Who comes in: a draw without replacement (Gumbel top-k), odds = weight * influence^a * distance^b.
    at_once = tiling()
    of_rows = tiles(rows.place, valid, at_once.points)
    of_staying = tiles(place, stays, at_once.entries)
    old_entry, old_distance = nearest(of_rows, of_staying, jnp.full(valid.shape, jnp.inf))
    distance = jnp.where(jnp.any(stays), old_distance, 1.0)
    draw = key if axis is None else jax.random.fold_in(key, jax.lax.axis_index(axis))
    by_influence = spec.addressing.influence_power * jnp.log(jnp.abs(rows.influence) + 1e-9)
    odds = by_influence + spec.addressing.coverage_power * jnp.log(distance + 1e-6) + jnp.log(rows.weight)
    odds = jnp.where(valid, odds + jax.random.gumbel(draw, odds.shape), -jnp.inf)
    score, new = _global_top(odds, rows, bound, axis)
    admitted = jnp.clip(target - before, 0, jnp.maximum(available - replaced, 0))
    rank = jnp.arange(score.shape[0])
    slot = jnp.where(rank < replaced, order[jnp.minimum(rank, capacity - 1)], before + rank - replaced)
    comes = rank < replaced + admitted
    slot = jnp.where(comes, slot, capacity)  # out of bounds: dropped

    # Every row of the block, and what the replaced entries stood for, goes to the nearest entry.
    new_tiles = tiles(new.place, comes, at_once.entries)

    def home(points, old, distance):
        nearer, _ = nearest(points, new_tiles, distance)
        return jnp.where(nearer >= 0, slot[nearer], old)

    entry = home(of_rows, old_entry, old_distance)
    leaver = order[:bound]
    left = jnp.where(jnp.arange(bound) < replaced, memory.count[leaver], 0.0)
    of_leavers = tiles(place[leaver], jnp.arange(bound) < replaced, at_once.points)
    heir = home(of_leavers, *nearest(of_leavers, of_staying, jnp.full(bound, jnp.inf)))
    mass = jnp.where(valid, rows.weight, 0.0)
    segments = capacity + 1
    absorbed = psum(jax.ops.segment_sum(mass, entry, segments)[:capacity], axis)
    absorbed = absorbed + jax.ops.segment_sum(left, heir, segments)[:capacity]

    put = lambda old, value: old.at[slot].set(value, mode='drop')  # noqa: E731
    fresh = jnp.zeros(capacity, bool).at[slot].set(True, mode='drop')
    modified = stays & (absorbed > 0)
    held = jnp.where(stays, memory.count, 0.0)
    count = held + absorbed
    changed = modified | fresh

    def labelled(memory, shift, label, new_label, new_logit):  # by one outcome
        clicks = psum(jax.ops.segment_sum(mass * label, entry, segments)[:capacity], axis)
        clicks = clicks + jax.ops.segment_sum(left * memory.mean_label[leaver], heir, segments)[:capacity]
        mean = (held * memory.mean_label + clicks) / divisor(count)
        return memory._replace(
            soft_logit=put(jnp.where(modified, memory.soft_logit + shift, memory.soft_logit), new_logit),
            mean_label=jnp.where(changed & (count > 0), mean, put(memory.mean_label, new_label)),
            hard_label=put(memory.hard_label, new_label),
        )

    by_outcome = [(rows.label, new.label, new.soft_logit)]
    by_outcome += [(label, *theirs) for (label, _), theirs in zip(rows.others, new.others, strict=True)]
    shared = dict(
        ids=put(memory.ids, new.ids),
        count=jnp.where(changed, count, memory.count),
        influence=put(jnp.where(modified, running, memory.influence), new.influence),
        stage=put(memory.stage, stage),
        valid=memory.valid | fresh,
    )
    memories = tuple(
        labelled(memory, shift, *labels)._replace(**shared)
        for memory, shift, labels in zip(memories, shifts, by_outcome, strict=True)
    )
    return memories, changed, Addressing(jnp.sum(stays & ~modified), jnp.sum(modified), replaced, admitted)


def _global_top(odds, rows: PlacedRows, count: int, axis):
    """The `count` best rows over all devices: local top-k, all-gather, top-k."""
    score, index = jax.lax.top_k(odds, min(count, odds.shape[0]))
    best = jax.tree.map(lambda x: x[index], rows)
    if axis:
        score, best = jax.tree.map(lambda x: jax.lax.all_gather(x, axis, tiled=True), (score, best))
        score, index = jax.lax.top_k(score, min(count, score.shape[0]))
        best = jax.tree.map(lambda x: x[index], best)
    return score, best
