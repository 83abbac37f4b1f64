"""Tables with one row per id: the few rows that a computation touches, and rows spread over devices.

A table may be too large for one device. Its rows are then spread over the device axis in contiguous ranges: device k of
D holds the slots [k V / D, (k + 1) V / D). Ranges, and not every D-th slot, because the whole array is then in the
order of the slots for everyone who reads, grows or saves it; and although ids are append-only, so that the first range
holds the oldest and most frequent ones, every device does the same work: each looks at all ids of a batch and answers
those that it holds. What is unused, the last fifth of a capacity at most, is memory that no layout would save.

`shards` names the device axis in all functions here; None: every device holds the whole table, or there is one device.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


def size(table: jax.Array, shards: str | None = None) -> int:
    """V, the rows of the whole table."""
    return table.shape[0] * (jax.lax.axis_size(shards) if shards else 1)


def held(per_id: jax.Array, shards: str | None = None) -> jax.Array:
    """Of an array [V, ...] that is whole on every device, the range of ids whose rows this device holds."""
    if shards is None:
        return per_id
    rows = per_id.shape[0] // jax.lax.axis_size(shards)
    return jax.lax.dynamic_slice_in_dim(per_id, jax.lax.axis_index(shards) * rows, rows)


def take(table: jax.Array, ids: jax.Array, shards: str | None = None, fill=0) -> jax.Array:
    """The rows of `ids` that this device holds, `fill` in the place of the others. [V, ...], i32[...] -> [..., ...]."""
    if shards is None:
        return table[ids]
    return table.at[_local(table, ids, shards)].get(mode='fill', fill_value=fill)


def put(table: jax.Array, ids: jax.Array, rows: jax.Array, shards: str | None = None) -> jax.Array:
    """Writes the rows that this device holds; ids outside [0, V) are dropped. `ids` are the same on all devices."""
    at = ids if shards is None else _local(table, ids, shards)
    return table.at[at].set(rows, mode='drop')


def gather(table: jax.Array, ids: jax.Array, shards: str | None = None) -> jax.Array:
    """The rows of each device's own ids: all-gather of the ids, what each device holds of them, psum-scatter of rows.

    Traffic of a device for n ids: 4 n (D - 1) bytes of ids and n (D - 1) rows.
    """
    if shards is None:
        return table[ids]
    everyones = jax.lax.all_gather(ids, shards, tiled=True)
    return jax.lax.psum_scatter(take(table, everyones, shards), shards, tiled=True)


def gather_common(table: jax.Array, ids: jax.Array, shards: str | None = None) -> jax.Array:
    """The rows of ids that are the same on all devices (those of memory entries): what each holds of them, and psum."""
    return table[ids] if shards is None else jax.lax.psum(take(table, ids, shards), shards)


class Subtable(NamedTuple):
    """The ids that a computation touches, as a table of static size U."""

    ids: jax.Array  # i32[U]  each touched id once, in the order of first occurrence; V in what is left over
    place: jax.Array  # i32[V]  where an id stands in `ids`, at least U if it is not there; spread as the tables are


def subtable(ids: jax.Array, table: jax.Array, shards: str | None = None) -> Subtable:
    """The rows of `table` that `ids` touch.

    What is summed, differentiated or looked up over touched ids only then costs O(U), not O(V): rows are
    `gather_common(table, sub.ids)`, ids are `gather(sub.place, ids)` in it, and a value of untouched ids is
    `rows.at[place].get(mode='fill', fill_value=...)`. One i32[V] is filled on the way.

    Args: ids: i32[...], n in all, the same on all devices, below 0 where there is none; table: [V, ...], of which
      only V is used.
    Returns: Subtable with U = min(n, V).
    """
    capacity = size(table, shards)
    flat = jnp.where(ids < 0, capacity, ids).reshape(-1)
    order = jnp.arange(flat.shape[0], dtype=jnp.int32)
    place = jnp.full(table.shape[0], flat.shape[0], jnp.int32)
    # The least of the occurrences, so that nothing depends on the order of writing.
    place = place.at[flat if shards is None else _local(table, flat, shards)].min(order, mode='drop')
    first = gather_common(place, flat, shards) == order
    rank = jnp.cumsum(first, dtype=jnp.int32) - 1
    room = min(flat.shape[0], capacity)
    touched = jnp.full(room, capacity, jnp.int32).at[jnp.where(first, rank, room)].set(flat, mode='drop')
    return Subtable(touched, put(place, jnp.where(first, flat, capacity), rank, shards))


def _local(table: jax.Array, ids: jax.Array, shards: str) -> jax.Array:
    """Ids as rows of this device's range; past its end where another device, or none, holds them."""
    rows = table.shape[0]
    at = ids - jax.lax.axis_index(shards) * rows
    return jnp.where((at >= 0) & (at < rows), at, rows)
