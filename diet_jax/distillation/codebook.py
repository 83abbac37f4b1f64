"""Per field, a learned map id -> code. Students train on codes, so a memory of 1 % of the rows trains every row of
their tables, and a student step does not depend on the vocabulary.

Codes are k-means clusters of what the reference model and its twins know of an id (embeddings and first-order weights,
`code_space`), one clustering a field, weighted by how often an id was seen. They live as long as the stream:
centroids follow the models' embeddings, ids first seen in a block join the code they are nearest to, and a code without
ids is given to the id that its field's codes describe worst. A field with no more slots than codes is not clustered:
each of its ids keeps a code of its own, the same for as long as that lasts. The definition is ours.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from diet_jax.base.layout import Layout
from diet_jax.device import tables
from diet_jax.device.collectives import psum
from diet_jax.device.tiling import tiling
from diet_jax.distillation.spec import Spec
from diet_jax.distillation.state import Codebook, Rows, Work
from diet_jax.models.lists import amounts
from diet_jax.training.losses import divisor

TABLE = 1024  # codes of all fields together, where a config does not say: few fields get more each


def codes_per_field(codes: int, num_fields: int, most_bins: int = 0) -> int:
    """`codebook.codes`, or where it is 0 an even share of TABLE, and enough for every bin of the numeric fields.

    Args: codes: as in a config; most_bins: that a numeric field may ever have, 0 without one.

    >>> codes_per_field(0, 30), codes_per_field(0, 9), codes_per_field(12, 9)
    (32, 112, 12)
    """
    return codes or 8 * max(1, TABLE // num_fields // 8, -(-(most_bins + 2) // 8))


def init_codebook(capacity: int, num_fields: int, codes: int, width: int) -> Codebook:
    """A codebook of `capacity` slots that has seen nothing, and whose host has not said which field a slot is of."""
    return Codebook(
        code=jnp.zeros(capacity, jnp.int32),
        centroids=jnp.zeros((num_fields, codes, width)),
        counts=jnp.zeros((num_fields, codes)),
        frequency=jnp.zeros(capacity),
        field_of_slot=jnp.zeros(capacity, jnp.int32),
        position=jnp.full(capacity, -1, jnp.int32),
    )


@jax.named_scope('codebook')
def extend_codebook(spec: Spec, work: Work) -> Work:
    """The part of a stage: codes for ids first seen in the block, centroids that follow the models after it."""
    state, rows = work.state, work.rows
    points = code_space(spec.with_codes, (state.reference, *state.twins))
    book, moved = extend(state.codebook, points, rows.ids, shares(spec.layout, rows), spec.axis, spec.shards)
    return work._replace(state=state._replace(codebook=book), moved=moved)


def shares(layout: Layout, rows: Rows) -> jax.Array:
    """How much each id of a row counts: the row's weight, in a list its share of that. -> f32[n, W], 0 of no id."""
    if not layout.lists:
        return jnp.broadcast_to(rows.weight[:, None], rows.ids.shape)
    weight = rows.weight[:, None]
    parts = {f: amounts(layout, f, rows.ids) for f in layout.lists}
    of = [weight * parts[f][0] / parts[f][1] if f in parts else weight for f in range(len(layout.names))]
    found = jnp.concatenate(of, 1)
    return jnp.pad(found, ((0, 0), (0, layout.columns - found.shape[1])))


def extend(book: Codebook, table: jax.Array, ids: jax.Array, weight: jax.Array, axis=None, shards=None):
    """Takes in a block: counts its ids, lets centroids follow `table`, and assigns every slot to a code.

    A slot never seen (the fields' UNSEEN slots, padding) gets the code nearest to the zero vector: that is what the
    reference model knows about an id that it has not met.

    Args:
      table: f32[V, D] what is known of every id; ids: i32[n, W] of this device's rows of the block, weight: f32[n, W]
        how much each counts, 0 where there is none (`shares`).
      shards: the device axis where the rows of `table` are spread over it (`tables`): each device then assigns the
        slots that it holds, and sums their part of the means; the codebook itself is on every device.
    Returns: (codebook, moved): moved is the share of the block's id occurrences whose code changed.
    """
    num_fields, codes, width = book.centroids.shape
    chex.assert_shape(table, (None, width))
    chex.assert_equal_shape([ids, weight])
    occurrences = psum(jnp.zeros_like(book.frequency).at[ids.reshape(-1)].add(weight.reshape(-1)), axis)
    frequency = book.frequency + occurrences
    fields = book.field_of_slot
    slots = jax.ops.segment_sum((book.position >= 0).astype(jnp.int32), fields, num_fields)
    own = fields * codes + book.position
    pinned = (slots <= codes)[fields] & (frequency > 0)
    here = lambda x: tables.held(x, shards)  # noqa: E731
    whole = lambda x: jax.lax.all_gather(x, shards, tiled=True) if shards else x  # noqa: E731

    def means(code, mass, centroids):
        sums = jax.ops.segment_sum(table * here(mass)[:, None], here(code), num_fields * codes)
        sums = psum(sums, shards).reshape(centroids.shape)
        counts = jax.ops.segment_sum(mass, code, num_fields * codes).reshape(centroids.shape[:2])
        return jnp.where(counts[..., None] > 0, sums / divisor(counts)[..., None], centroids), counts

    centroids, counts = means(book.code, book.frequency, book.centroids)

    def seeded(centroids, counts):
        far = jnp.where(pinned, 0.0, whole(assign(table, here(fields), here(book.position), centroids, counts > 0)[1]))
        slot = _slots_for_free_codes(fields, jnp.where(pinned, 0.0, frequency), far, counts)
        given = slot < fields.shape[0]
        rows = tables.gather_common(table, slot, shards)
        return jnp.where(given[..., None], rows, centroids), given | (counts > 0)

    free = jnp.any((counts <= 0) & (slots > codes)[:, None])  # seldom after the first block: do not look then
    as_they_are = lambda centroids, counts: (centroids, counts > 0)  # noqa: E731
    centroids, live = jax.lax.cond(free, seeded, as_they_are, centroids, counts)

    points = jnp.where((here(frequency) > 0)[:, None], table, 0.0)
    code = jnp.where(pinned, own, whole(assign(points, here(fields), here(book.position), centroids, live)[0]))
    centroids, counts = means(code, frequency, centroids)
    changed = jnp.sum(jnp.where(code != book.code, occurrences, 0.0)) / divisor(jnp.sum(occurrences))
    return (
        book._replace(code=code, centroids=centroids, counts=counts, frequency=frequency),
        changed,
    )


def assign(points: jax.Array, fields: jax.Array, position: jax.Array, centroids: jax.Array, live: jax.Array):
    """Nearest live code of each slot's own field.

    The slots of a field are gathered into tiles, so that a tile meets the centroids of one field only: a small
    matrix product whose result stays in the cache.

    Args: points: f32[V, D]; fields, position: i32[V] as in a `Codebook`; of a field, the slots here stand in a row,
      and padding (position -1) is given the code nearest to the zero vector.
    Returns: (code i32[V], squared distance f32[V]); centroids: f32[F, C, D], live: bool[F, C].
    """
    size, (num_fields, codes, _) = points.shape[0], centroids.shape
    penalty = jnp.sum(centroids**2, -1) + jnp.where(live, 0.0, 1e9)
    tile = min(tiling().slots, size)
    known = position >= 0
    first = jax.ops.segment_min(jnp.where(known, position, size), fields, num_fields)
    count = jax.ops.segment_sum(known.astype(jnp.int32), fields, num_fields)
    tiles = -(-count // tile)
    end = jnp.cumsum(tiles)
    room = size // tile + num_fields
    at = jnp.where(known, (end - tiles)[fields] * tile + position - first[fields], room * tile)
    slot = jnp.full(room * tile, size, jnp.int32).at[at].set(jnp.arange(size, dtype=jnp.int32), mode='drop')
    owner = jnp.minimum(jnp.searchsorted(end, jnp.arange(room), side='right'), num_fields - 1)

    def nearest(k, found):
        slots = jax.lax.dynamic_slice_in_dim(slot, k * tile, tile)
        point = points.at[slots].get(mode='fill', fill_value=0.0)
        distance = penalty[owner[k]][None] - 2.0 * point @ centroids[owner[k]].T
        # Two plain minima instead of an argmin: XLA vectorises them on a CPU.
        least = jnp.min(distance, axis=1, keepdims=True)
        best = jnp.min(jnp.where(distance <= least, jnp.arange(codes), codes), axis=1)
        code, far = owner[k] * codes + best, least[:, 0] + jnp.sum(point**2, -1)
        return tuple(x.at[slots].set(value, mode='drop') for x, value in zip(found, (code, far)))

    of_zero = jnp.argmin(penalty, axis=1).astype(jnp.int32)
    nothing = (fields * codes + of_zero[fields], jnp.min(penalty, axis=1)[fields])
    code, distance = jax.lax.fori_loop(0, end[-1], nearest, nothing)
    return code, jnp.maximum(distance, 0.0)


def _slots_for_free_codes(fields, frequency, distance, counts):
    """The slots that free codes are given: of their field's, the largest frequency x squared distance to their code.

    Args: fields: i32[V], frequency, distance: f32[V]; counts: f32[F, C]. Returns: i32[F, C], V where a code gets none.
    """
    num_fields = counts.shape[0]
    unmet = ~jnp.any(counts > 0, axis=1)  # a field's first block: nothing to be distant from
    score = frequency * jnp.where(unmet[fields], 1.0, distance)
    score = jnp.where(score > 1e-12, score, 0.0)
    size, index = fields.shape[0], jnp.arange(fields.shape[0], dtype=jnp.int32)
    free = counts <= 0
    nth = jnp.where(free, jnp.cumsum(free, axis=1), 0)  # from 1
    best = lambda score: jax.ops.segment_max(score, fields, num_fields)  # noqa: E731
    wants = lambda n, best: (best > 0) & (n <= jnp.sum(free, axis=1))  # noqa: E731

    def give(state):  # the n-th free code of every field that has one; few, after the first block
        n, score, best_score, chosen = state
        slot = jax.ops.segment_min(jnp.where(score >= best_score[fields], index, size), fields, num_fields)
        slot = jnp.where(wants(n, best_score), slot, size)
        chosen = jnp.where(nth == n, slot[:, None], chosen)
        score = score.at[slot].set(0.0, mode='drop')
        return n + 1, score, best(score), chosen

    first = jnp.int32(1), score, best(score), jnp.full(counts.shape, size, jnp.int32)
    return jax.lax.while_loop(lambda state: jnp.any(wants(state[0], state[2])), give, first)[3]


TWIN_SIZE = 0.5  # of a twin's embeddings beside the reference model's, where distances decide on codes


def in_code_space(models) -> list[int]:
    """Positions of the models whose rows codes are clusters of: the reference model, and twins without a field.

    A twin without a strong field has to learn from the others what that field tells the reference model, so the codes
    keep it for candidates that do without the field too. Twins that see all fields would count that twice. Of those
    without a field the ones as wide as the reference model count.
    """
    return [0, *(i for i, m in enumerate(models) if i and m.keep is not None and m.dim == models[0].dim)]


def code_space(models, streams) -> jax.Array:
    """What codes are clusters of: rows of the reference model and of some twins, side by side. f32[V, D].

    At half its size a twin costs the order of the strong ones nothing (docs/results/choices.md).

    Args: models: the reference model first, then the twins; streams: their `StreamState`s.
    """
    first, *beside = (streams[i].params['table'] for i in in_code_space(models))
    return jnp.concatenate([first, *(TWIN_SIZE * table for table in beside)], -1)
