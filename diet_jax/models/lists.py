"""What a head is given of rows that hold lists: an entry a field, and the events of every sequence.

Values of a list may have weights: its mean is theirs by weight, and of an event `Events.weight` says it.

Padding is taken out before anything is computed from it, so whatever stands in its place, nothing comes of it and its
derivative is 0.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from diet_jax.base.layout import PAD, Layout


class Events(NamedTuple):
    """A sequence as a head sees it: L events of K columns, the last event last; 0 and False where there is none."""

    values: jax.Array  # f32[B, L, K dim], embeddings of the event's columns side by side
    mask: jax.Array  # bool[B, L], whether there is an event
    target: jax.Array  # f32[B, K dim], embedding of the row's own value of what a column shares; 0 where it shares none
    same: jax.Array  # bool[B, L, K], whether an event's id is the row's own
    weight: jax.Array  # f32[B, L], 0 where there is no event; 1 of others where the list has no weights
    shares: tuple[int, ...]  # columns that have a target; static


def kept_fields(layout: Layout, keep: tuple[int, ...] | None) -> tuple[int, ...]:
    """The fields that a model sees, in its order."""
    return tuple(range(len(layout.names))) if keep is None else keep


def sequences_kept(layout: Layout, keep: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
    """{sequence: its lists that a model sees}, both in the layout's order.

    >>> layout = Layout(('item', 'clicked', 'gap'), (1, 3, 3), (0, 0, 2), ('', 'history', 'history'))
    >>> sequences_kept(layout, None), sequences_kept(layout, (0, 2)), sequences_kept(layout, (0,))
    ({'history': (1, 2)}, {'history': (2,)}, {})
    """
    found: dict[str, tuple[int, ...]] = {}
    for f in sorted(kept_fields(layout, keep)):
        if name := layout.sequences[f]:
            found[name] = (*found.get(name, ()), f)
    return found


def by_field(layout: Layout, keep: tuple[int, ...] | None, rows: jax.Array, ids: jax.Array) -> jax.Array:
    """An entry a field: its row, and of a list the mean of those that are there, by weight; 0 of an empty one.

    Args:
      rows: f32[B, W, 1 + dim]; ids: i32[B, W], PAD where a list is padded.
    Returns:
      f32[B, F, 1 + dim], F fields in the order of `keep`.

    >>> layout = Layout(('item', 'clicked'), (1, 3), (0, 0), ('', 'clicked'))
    >>> rows, ids = jnp.array([[[5.0], [jnp.nan], [1.0], [2.0]]]), jnp.array([[3, PAD, 0, 1]])
    >>> by_field(layout, None, rows, ids).tolist()
    [[[5.0], [1.5]]]
    """
    parts, run = [], None  # neighbours that are no lists are one slice: its derivative is a copy, not a scatter
    for f in kept_fields(layout, keep):
        at = layout.at(f)
        if layout.sequences[f]:
            amount, total = (x.astype(rows.dtype) for x in amounts(layout, f, ids))
            values = _where(ids[:, at] != PAD, rows[:, at])
            values = values * amount[..., None] if f in layout.weighted else values
            parts.append((values.sum(1) / total)[:, None])
            run = None
        elif run is not None and run.stop == at.start:
            run = slice(run.start, at.stop)
            parts[-1] = rows[:, run]
        else:
            run = at
            parts.append(rows[:, run])
    return jnp.concatenate(parts, 1)


def amounts(layout: Layout, field: int, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What the values of a field weigh in a row: f32[B, width], 0 of padding, and their sum, f32[B, 1], 1 of none.

    >>> from diet_jax.base.layout import packed
    >>> layout = Layout(('item', 'genres'), (1, 2), (0, 1), ('', 'genres'), (1,))
    >>> ids = jnp.array([[3, PAD, 4, PAD, int(packed(0.5))]])
    >>> [x.tolist() for x in amounts(layout, 1, ids)]
    [[[0.0, 0.5]], [[0.5]]]
    """
    at = layout.weights_at(field)
    if at is None:
        amount = (ids[:, layout.at(field)] != PAD).astype(jnp.float32)
        return amount, jnp.maximum(amount.sum(1, keepdims=True), 1.0)
    amount = jax.lax.bitcast_convert_type(jnp.maximum(PAD - 1 - ids[:, at], 0), jnp.float32)
    total = amount.sum(1, keepdims=True)
    return amount, jnp.where(total > 0, total, 1.0)


def events(layout: Layout, keep: tuple[int, ...] | None, rows: jax.Array, ids: jax.Array) -> dict[str, Events]:
    """{sequence: its events}, of the sequences that have a list in `keep`; arguments as of `by_field`.

    An event is there where the first of the lists that are seen has a value.

    >>> layout = Layout(('item', 'clicked'), (1, 3), (0, 0), ('', 'clicked'))
    >>> found = events(layout, None, jnp.arange(8.0).reshape(1, 4, 2), jnp.array([[3, PAD, 3, 1]]))['clicked']
    >>> found.values[0, :, 0].tolist(), found.target.tolist(), found.same[0, :, 0].tolist()
    ([0.0, 5.0, 7.0], [[1.0]], [False, True, False])
    """
    seen = kept_fields(layout, keep)
    return {name: _events(layout, seen, lists, rows, ids) for name, lists in sequences_kept(layout, keep).items()}


def _events(layout: Layout, seen, lists, rows: jax.Array, ids: jax.Array) -> Events:
    mask = ids[:, layout.at(lists[0])] != PAD
    values, target, same, shares = [], [], [], []
    targets = layout.targets()
    for k, f in enumerate(lists):
        at, own = layout.at(f), targets.get(f)
        there = mask & (ids[:, at] != PAD)
        values.append(_where(there, rows[:, at, 1:]))
        if own in seen and not layout.sequences[own]:
            column = layout.at(own).start
            target.append(rows[:, column, 1:])
            same.append(there & (ids[:, at] == ids[:, column, None]))
            shares.append(k)
        else:
            target.append(jnp.zeros_like(rows[:, 0, 1:]))
            same.append(jnp.zeros_like(there))
    return Events(
        values=jnp.concatenate(values, -1),
        mask=mask,
        target=jnp.concatenate(target, -1),
        same=jnp.stack(same, -1),
        weight=jnp.where(mask, amounts(layout, lists[0], ids)[0], 0.0),
        shares=tuple(shares),
    )


def _where(there: jax.Array, rows: jax.Array) -> jax.Array:
    return jnp.where(there[..., None], rows, jnp.zeros((), rows.dtype))
