"""Histories: of every row, what its user did before it.

Block after block, in order. A row's history is the last `max_len` of its user's events with a time strictly before the
row's own, among the events of its own block and those that the tail still holds; rows of one time stamp do not see each
other. After a block the tail keeps of every user the last `max_len` events. Events of one time stand in the order of
their rows, those of earlier blocks first. A row whose user is missing has no history, and is no event. A value that an
event lacks is the missing slot of its field, so that the columns of a history stay aligned.

All of it is slots: whatever a value is, its number is known when the block is encoded, and never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_jax.base import arrow
from diet_jax.config import lists
from diet_jax.data import listed, times


class Events(NamedTuple):
    """Events of known users, those of one user in order of time."""

    user: np.ndarray  # int32 [E], slots
    time: np.ndarray  # int64 [E]
    slots: np.ndarray  # int32 [E, C]: of the C columns that are remembered


class Past(NamedTuple):
    """What the rows of a block see of a history: row i the events start[i] .. start[i] + length[i] - 1."""

    events: Events  # of the block and of the tail
    start: np.ndarray  # int64 [N]
    length: np.ndarray  # int64 [N]

    def index(self) -> np.ndarray:
        """int64 [sum of length]: the event of every place of every row's history, row after row."""
        begin = np.cumsum(self.length) - self.length
        return np.repeat(self.start - begin, self.length) + np.arange(int(self.length.sum()))


def none(columns: int) -> Events:
    """No events."""
    return Events(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros((0, columns), np.int32))


def look_back(
    tail: Events, new: Events, user: np.ndarray, time: np.ndarray, missing: int, max_len: int
) -> tuple[Past, Events]:
    """What the rows of a block see, and the tail after it.

    Args:
      tail: of the blocks before; new: events of this block, in the order of its rows.
      user: int32 [N], slots; time: int64 [N]: of the rows.
      missing: the slot of a missing user, who has no history and of whom no event is kept.
      max_len: events that a row sees at most.

    >>> new = Events(np.array([7, 7], np.int32), np.array([1, 2]), np.array([[50], [51]], np.int32))
    >>> past, tail = look_back(none(1), new, np.array([7, 7, 7], np.int32), np.array([1, 2, 3]), 0, 1)
    >>> past.length.tolist(), past.events.slots[past.index(), 0].tolist(), tail.slots.tolist()
    ([0, 1, 1], [50, 51], [[51]])
    """
    known = new.user != missing
    both = Events(*(np.concatenate([a, b[known]]) for a, b in zip(tail, new, strict=True)))
    # A user and the rank of a time in one number, which is searched for.
    rank = np.unique(np.concatenate([both.time, time]), return_inverse=True)[1].astype(np.int64)
    key = (both.user.astype(np.int64) << 32) + rank[: len(both.time)]
    order = np.argsort(key, kind='stable')
    key, events = key[order], Events(*(x[order] for x in both))
    first = user.astype(np.int64) << 32
    begin, end = np.searchsorted(key, first), np.searchsorted(key, first + rank[len(both.time) :])
    start = np.maximum(begin, end - max_len)
    length = np.where(user == missing, 0, end - start)
    left = np.searchsorted(events.user, events.user, side='right') - np.arange(len(key))  # of its user, with itself
    return Past(events, start, length), Events(*(x[left <= max_len] for x in events))


def gaps(past: Past, time: np.ndarray, ticks: int) -> np.ndarray:
    """int64 [sum of length]: floor(log2(1 + seconds)) from each event to its row. The definition is ours.

    Args: time: int64 [N], of the rows; ticks: of a second.
    """
    ago = np.repeat(time, past.length) - past.events.time[past.index()]
    return np.frexp(1 + ago / ticks)[1].astype(np.int64) - 1  # 1 + s = m 2**e with 1/2 <= m < 1


class Histories:
    """The histories of a stream, and their tails after the blocks so far.

    Args: data: checked `config.data`; tails: those of a cache, by name.
    """

    def __init__(self, data: Mapping, tails: Mapping[str, Events] | None = None):
        self.data = data
        self.tails = tails or {name: none(len(one['of'])) for name, one in data['histories'].items()}

    def encode(
        self,
        vocabulary,
        encoded: Mapping[str, np.ndarray],
        time: np.ndarray,
        label: np.ndarray,
        real: np.ndarray,
        where: str,
    ) -> dict[str, pa.Array]:
        """The columns of a block's histories: {field: list<int32> [N], slots}; the tails are then those after it.

        Args:
          vocabulary: a `Vocabulary` that has grown by the block; it grows by the gaps.
          encoded: {field: int32 [N], slots} of fields with one value a row.
          time: int64 [N]; label: float32 [N]; real: bool [N], False of drawn negatives, which are no events.
          where: names the block in messages.
        """
        names, found, after = [field.name for field in vocabulary.fields], {}, {}
        for name, one in self.data['histories'].items():
            rows = real & (np.ones(len(time), bool) if not one['where'] else (label > 0) == (one['where'] == 'label'))
            user, slots = encoded[one['by']], np.stack([encoded[of] for of in one['of']], axis=1)
            new = Events(user[rows], time[rows], slots[rows])
            missing = 2 * names.index(one['by'])
            past, after[name] = look_back(self.tails[name], new, user, time, missing, one['max_len'])
            index = past.index()
            for c, field in enumerate(lists.history_fields(name, one)):
                found[field] = listed.together(past.length, past.events.slots[index, c])
            if one['gap']:
                f = names.index(lists.gap_field(name))
                values = pa.array(gaps(past, time, times.time_ticks(self.data['time'])))
                vocabulary.extend(f, values, where)
                found[names[f]] = listed.together(past.length, vocabulary.encode(f, values, where))
        self.tails = after
        return found

    def write(self, file: BinaryIO) -> None:
        """Writes the tails: a row an event, `history` the place of its history among the sorted names."""
        wide = max(tail.slots.shape[1] for tail in self.tails.values())
        parts = []
        for number, name in enumerate(sorted(self.tails)):
            tail = self.tails[name]
            slots = {str(c): tail.slots[:, c] for c in range(tail.slots.shape[1])}
            slots |= {str(c): pa.nulls(len(tail.user), pa.int32()) for c in range(len(slots), wide)}
            of = np.full(len(tail.user), number, np.int32)
            parts.append(pa.table({'history': of, 'user': tail.user, 'time': tail.time, **slots}))
        pq.write_table(pa.concat_tables(parts), file, compression='zstd')

    @classmethod
    def read(cls, file: bytes, data: Mapping) -> Histories:
        """Reads what `write` wrote."""
        table, tails = pq.read_table(arrow.source(file)), {}
        of = table['history'].to_numpy()
        for number, name in enumerate(sorted(data['histories'])):
            rows = table.filter(pa.array(of == number))
            columns = [rows[str(c)].to_numpy() for c in range(len(data['histories'][name]['of']))]
            slots = np.stack(columns, axis=1).astype(np.int32)
            tails[name] = Events(rows['user'].to_numpy(), rows['time'].to_numpy(), slots)
        return cls(data, tails)
