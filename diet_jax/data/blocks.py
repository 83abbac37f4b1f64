"""The blocks of a log: its rows in time order, cut by a period, by a column, or by so many rows.

Blocks follow each other in time, however their keys are written: those of a column stand in order of the middle of
their rows' times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from diet_jax.base.errors import UserError
from diet_jax.data import times
from diet_jax.data.log import Log, Rows, period_ticks

ROWS = 1 << 18  # whose times are looked at together
OLD = 0.1  # share of a block's rows that may be older than half of the block before
LOCAL_TIME = r'\d{4}-\d\d-\d\d(T\d\d(:\d\d(:\d\d)?)?)?'


class Cut(NamedTuple):
    """One block of the log, not read yet."""

    key: str
    units: tuple[int, ...]  # that its rows lie in
    begin: int | None  # its first and last time, where it is not all of its units
    end: int | None
    rows: int
    raw_bytes: int  # its share of the log files
    middle: int  # the median of its rows' times

    def read(self, log: Log, columns: Sequence[str] = ()) -> Rows:
        return log.rows(self.units, columns, self.begin, self.end)


class Blocks(NamedTuple):
    """What a scanned log is cut into."""

    new: list[Cut]
    old: dict[int, Cut]  # what it still has of blocks that are prepared
    early: list[Cut]  # before `data.since`
    held_back: str  # a sentence about rows of the last part of a block of N rows, or ''
    notes: list[str]


def cut(log: Log, data: dict, cached: Sequence[dict]) -> Blocks:
    """Cuts a log into blocks: those before `data.since`, those that are prepared, and those that are new.

    Raises:
      UserError: no block is left, blocks of a column overlap in time, or rows lie before or between prepared blocks.
    """
    notes, held_back = [], ''
    if data['block']['by'] == 'rows':
        early, old, new, held_back = _by_rows(log, data, cached)
    else:
        found = _by_column(log, data) if data['block']['by'] == 'column' else _by_period(log, data)
        found = [block for block in found if block.rows]
        if not found and not cached:
            log.said()
        early, found = _since(found, data, cached)
        if data['block']['by'] == 'column':
            notes += _overlaps(log, data, found)
        index = {block['key']: t for t, block in enumerate(cached)}
        old = {index[block.key]: block for block in found if block.key in index}
        new = [block for block in found if block.key not in index]
        for block in new:
            if cached and block.middle < cached[-1]['middle_time']:
                raise _back_in_time(block.key, cached, data)
    if not log.kept and not cached:
        log.said()
    if early:
        notes.append(f'{sum(block.rows for block in early)} rows before data.since {data["since"]} left out')
    if early and not new and not old and not cached and not held_back:
        last = local_key(max(int(block.read(log).time[-1]) for block in early), data)
        raise UserError(f"data.since '{data['since']}' is after the last row ({last}): no block is left")
    return Blocks(new, old, early, held_back, notes)


def _since(found: list[Cut], data: dict, cached: Sequence[dict]) -> tuple[list[Cut], list[Cut]]:
    """Blocks before `data.since`, which are nobody's, and the others. cached: their files may have gone."""
    since = data['since']
    if not since:
        return [], found
    if data['block']['by'] == 'period':
        seconds = int(np.datetime64(since, 's').astype(np.int64))
        length, ticks = period_ticks(data), times.time_ticks(data['time'])
        early = [block for block in found if block.units[0] * length < seconds * ticks]
        return early, found[len(early) :]
    keys = [block['key'] for block in cached]
    if since in keys:
        first = cached[keys.index(since)]['middle_time']
        early = [block for block in found if block.key not in keys and block.middle < first]
        return early, [block for block in found if block not in early]
    place = _place([(block.key, local_key(block.middle, data)) for block in found], since, 'data.since')
    return found[:place], found[place:]


def until(places: Sequence[tuple[str, str]], last: str) -> int:
    """How many of some blocks, in order, are not after `data.until`; '' is all.

    Args: places: of every block its key and its time, as `local_key` writes it.

    >>> week = [('12/31', '2023-12-31'), ('01/01', '2024-01-01'), ('01/02', '2024-01-02')]
    >>> until(week, '01/01'), until(week, '2024-01-01'), until(week, '')
    (2, 2, 3)
    """
    return len(places) if not last else _place(places, last, 'data.until', behind=True)


def _place(places: Sequence[tuple[str, str]], wanted: str, name: str, behind: bool = False) -> int:
    """Where a block stands that is named by its key, or by a time; behind: how many come before its end."""
    keys = [key for key, _ in places]
    if wanted in keys:
        return keys.index(wanted) + behind
    if re.fullmatch(LOCAL_TIME, wanted):
        return sum(time < wanted if not behind else time[: len(wanted)] <= wanted for _, time in places)
    if wanted.isdigit() and all(key.isdigit() for key in keys):
        return sum(int(key) < int(wanted) for key in keys)
    raise UserError(
        f"{name} '{wanted}' is the key of no block ({keys[0]} .. {keys[-1]}), and no time: write it as one of them, or "
        'as 2022-04-25 or 2022-04-25T13:05'
    )


def local_key(time: int, data: Mapping) -> str:
    """A time stamp in local time, as 2022-04-25, 2022-04-25T13, ...: no longer than it needs to be exact."""
    local = int(time) + times.offset_ticks(data['time'])
    unit = {1: 's', 10**3: 'ms', 10**6: 'us', 10**9: 'ns'}[times.time_ticks(data['time'])]
    text = str(np.datetime64(local, unit))
    for tail in ('.000000000', '.000000', '.000', ':00', ':00', 'T00'):
        text = text.removesuffix(tail)
    return text


def start(key: str, middle: int, data: Mapping) -> str:
    """When a block is, for `data.until`: blocks of a column by the middle of their rows, others by their key."""
    return local_key(middle, data) if data['block']['by'] == 'column' else key


def _whole(log: Log, key: str, unit: int) -> Cut:
    """A unit that is a block."""
    rows = log.rows([unit])
    log.count(rows)
    middle = int(np.median(rows.time)) if len(rows.time) else 0
    return Cut(key, (unit,), None, None, len(rows.time), round(rows.raw_bytes), middle)


def _by_period(log: Log, data: dict) -> list[Cut]:
    length, offset = period_ticks(data), times.offset_ticks(data['time'])
    return [_whole(log, local_key(unit * length - offset, data), unit) for unit in sorted(log.units)]


def _by_column(log: Log, data: dict) -> list[Cut]:
    """A block a value, in order of the middle of their times; of equals, by their keys, numbers in them by size."""
    of = log.values[data['block']['column']]
    found = [_whole(log, str(of[unit].as_py()), unit) for unit in log.units]
    return sorted(found, key=lambda b: (b.middle, _natural(b.key)))


def _natural(key: str) -> list:
    """Numbers in a key by size: day-2 before day-10."""
    return [(0, int(part), '') if part.isdigit() else (1, 0, part) for part in re.split(r'(\d+)', key) if part]


def _overlaps(log: Log, data: dict, found: Sequence[Cut]) -> list[str]:
    """What is said of blocks of a column that overlap in time.

    Raises:
      UserError: more than a share OLD of a block's rows is older than half of the block before.
    """
    notes, column = [], data['block']['column']
    for before, block in zip(found, found[1:]):
        old = int(np.searchsorted(block.read(log).time, before.middle))
        if old > OLD * block.rows:
            raise UserError(
                f"column '{column}': {old} of {block.rows} rows of block {block.key} are older than half of block "
                f"{before.key}, so blocks do not follow each other in time: cut by time (data.block.by='period')"
            )
        if old:
            notes.append(f'{old} rows of block {block.key} are older than half of block {before.key}')
    return notes


def _by_rows(log: Log, data: dict, cached: Sequence[dict]) -> tuple[list[Cut], dict[int, Cut], list[Cut], str]:
    """(rows before `data.since`, prepared blocks, new ones, what is held back)."""
    size, since = data['block']['rows'], None
    if data['since']:
        seconds = int(np.datetime64(data['since'], 's').astype(np.int64))
        since = seconds * times.time_ticks(data['time']) - times.offset_ticks(data['time'])
    starts = [block['first_time'] for block in cached]
    starts += [cached[-1]['last_time'] + 1] if cached else []
    early, old, new, held = _Times(log, data), [_Times(log, data) for _ in cached], [], _Times(log, data)
    for units in _together(log):
        rows = log.rows(units)
        log.count(rows)
        weight, time = rows.raw_bytes / max(len(rows.time), 1), rows.time
        if since is not None:
            early.add(time[time < since], weight)
            time = time[time >= since]
        if cached and len(time):
            owner = np.searchsorted(starts, time, side='right') - 1
            if owner[0] < 0:
                raise _back_in_time(local_key(int(time[0]), data), cached, data)
            for t in np.unique(owner[owner < len(cached)]):
                old[t].add(time[owner == t], weight)
            time = time[owner == len(cached)]
        held.add(time, weight)  # a unit is an hour: no time lies in two of them
        new += held.split(size)
    rest = f'{len(held.time)} rows held back until a block of {size} is full' if len(held.time) else ''
    return early.whole(), {t: times.whole()[0] for t, times in enumerate(old) if len(times.time)}, new, rest


def _together(log: Log) -> Iterator[list[int]]:
    """Units in order, as many at once as have some rows."""
    held, rows = [], 0
    for unit in sorted(log.units):
        held.append(unit)
        rows += sum(piece.end - piece.begin for piece in log.units[unit])
        if rows >= ROWS:
            yield held
            held, rows = [], 0
    if held:
        yield held


class _Times:
    """Times of rows in order, with the bytes of each, until there are enough for a block."""

    def __init__(self, log: Log, data: dict):
        self.log, self.data = log, data
        self.time, self.bytes = np.zeros(0, np.int64), np.zeros(0)

    def add(self, time: np.ndarray, weight: float) -> None:
        self.time = np.append(self.time, time)
        self.bytes = np.append(self.bytes, np.full(len(time), weight))

    def split(self, size: int) -> list[Cut]:
        """Takes blocks of `size` rows from the beginning; one never splits a time."""
        found, start = [], 0
        while start + size <= len(self.time):
            end = int(np.searchsorted(self.time, self.time[start + size - 1], side='right'))
            found.append(self._cut(start, end))
            start = end
        self.time, self.bytes = self.time[start:], self.bytes[start:]
        return found

    def whole(self) -> list[Cut]:
        """All of it as one block, if it has rows."""
        return [self._cut(0, len(self.time))] if len(self.time) else []

    def _cut(self, start: int, end: int) -> Cut:
        time = self.time[start:end]
        first, last = (int(self.log.unit_of(time[i])) for i in (0, -1))
        units = tuple(unit for unit in range(first, last + 1) if unit in self.log.units)
        raw, middle = round(self.bytes[start:end].sum()), int(np.median(time))
        return Cut(local_key(int(time[0]), self.data), units, int(time[0]), int(time[-1]), end - start, raw, middle)


def _back_in_time(key: str, cached: Sequence[dict], data: dict) -> UserError:
    return UserError(
        f'the log goes back in time: it now has rows of {key}, but was prepared up to {cached[-1]["key"]} '
        f'without them: take them out of {data["log"][0]}, or start a new workdir'
    )
