"""The blocks of a log: its rows in time order, cut by a period, by a column, or by so many rows.

Blocks follow each other in time, however their keys are written: those of a column stand in order of the middle of
their rows' times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diet_jax.base.errors import UserError
from diet_jax.data import values
from diet_jax.data.raw_log import RawLog, take

OLD = 0.1  # share of a block's rows that may be older than half of the block before
LOCAL_TIME = r'\d{4}-\d\d-\d\d(T\d\d(:\d\d(:\d\d)?)?)?'


class Cut(NamedTuple):
    """One block of the log, not yet joined."""

    key: str
    rows: np.ndarray  # int64 [N]: positions in the log, in time order
    raw_bytes: int  # its share of the log files
    middle: int  # the median of its rows' times


def since(log: RawLog, data: dict, cached: Sequence[dict] = ()) -> tuple[RawLog, RawLog]:
    """The log from block `data.since` on, and its rows before, which are in no block.

    Args: cached: blocks that are prepared; their files may have gone.
    """
    gone = data['since'] in [block['key'] for block in cached]
    if gone and data['block']['by'] == 'column':
        early = log.time < cached[[block['key'] for block in cached].index(data['since'])]['first_time']
    elif not data['since']:
        early = np.zeros(len(log.time), bool)
    elif data['block']['by'] == 'column':
        found = _cut_by_column(log, data)
        places = [(block.key, local_key(block.middle, data)) for block in found]
        early = np.zeros(len(log.time), bool)
        for block in found[: _place(places, data['since'], 'data.since')]:
            early[block.rows] = True
    else:
        ticks = values.time_ticks(data['time'])
        offset = round(data['time']['utc_offset_hours'] * 3600 * ticks)
        local = log.time + offset
        if data['block']['by'] == 'period':
            local -= local % period_ticks(data)
        seconds = np.datetime64(data['since'], 's').astype(np.int64)
        early = local < seconds * ticks
    if early.all():
        last = local_key(int(log.time.max()), data)
        raise UserError(f"data.since '{data['since']}' is after the last row ({last}): no block is left")
    if not early.any():
        return log, take(log, np.flatnonzero(early))
    kept = take(log, np.flatnonzero(~early))
    note = f'{int(early.sum())} rows before data.since {data["since"]} left out'
    return kept._replace(notes=(*log.notes, note)), take(log, np.flatnonzero(early))


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


def local_key(time: int, data: dict) -> str:
    """A time stamp in local time, as 2022-04-25, 2022-04-25T13, ...: no longer than it needs to be exact."""
    ticks = values.time_ticks(data['time'])
    local = int(time) + round(data['time']['utc_offset_hours'] * 3600 * ticks)
    unit = {1: 's', 10**3: 'ms', 10**6: 'us', 10**9: 'ns'}[ticks]
    text = str(np.datetime64(local, unit))
    for tail in ('.000000000', '.000000', '.000', ':00', ':00', 'T00'):
        text = text.removesuffix(tail)
    return text


def cut(log: RawLog, data: dict, first_new_time: int | None = None) -> tuple[list[Cut], str | None]:
    """Sorts the log stably by time and cuts it into blocks.

    Args:
      first_new_time: for blocks of N rows, when earlier blocks are cached: cut only rows from here on.
    Returns:
      The blocks in order, and a sentence about rows held back (the last part of a block of N rows) or None.
    """
    by = data['block']['by']
    if by == 'column':
        return _cut_by_column(log, data), None
    order = np.argsort(log.time, kind='stable')
    if by == 'rows':
        if first_new_time is not None:
            order = order[np.searchsorted(log.time[order], first_new_time) :]
        return _cut_by_rows(log, data, order)
    ticks = values.time_ticks(data['time'])
    offset = round(data['time']['utc_offset_hours'] * 3600 * ticks)
    length = period_ticks(data)
    period = (log.time[order] + offset) // length
    edges = np.flatnonzero(np.diff(period, prepend=period[0] - 1, append=period[-1] + 1))
    pieces = [order[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    keys = [local_key(int(period[a]) * length - offset, data) for a in edges[:-1]]
    return [_cut(log, key, rows) for key, rows in zip(keys, pieces, strict=True)], None


def period_ticks(data: dict) -> int:
    """Length of a block by period, in ticks of the log's time; UserError where it is shorter than one."""
    ticks = round(data['block']['hours'] * 3600 * values.time_ticks(data['time']))
    if ticks < 1:
        raise UserError(f'data.block.hours {data["block"]["hours"]} is shorter than data.time.unit: make it longer')
    return ticks


def _cut(log: RawLog, key: str, rows: np.ndarray) -> Cut:
    return Cut(key, rows, round(log.bytes_per_row[rows].sum()), int(np.median(log.time[rows])))


def _cut_by_column(log: RawLog, data: dict) -> list[Cut]:
    """A block a value, in order of the middle of their times; of equals, by their keys, numbers in them by size."""
    coded = log.columns[data['block']['column']].dictionary_encode()
    keys = [str(value) for value in coded.dictionary.to_pylist()]
    code = coded.indices.to_numpy(zero_copy_only=False)
    order = np.lexsort((log.time, code))
    edges = np.searchsorted(code[order], np.arange(len(keys) + 1))
    found = [_cut(log, key, order[edges[k] : edges[k + 1]]) for k, key in enumerate(keys)]
    return sorted(found, key=lambda b: (b.middle, _natural(b.key)))


def _natural(key: str) -> list:
    """Numbers in a key by size: day-2 before day-10."""
    return [(0, int(part), '') if part.isdigit() else (1, 0, part) for part in re.split(r'(\d+)', key) if part]


def overlaps(log: RawLog, data: dict, found: Sequence[Cut]) -> list[str]:
    """What is said of blocks of a column that overlap in time.

    Raises:
      UserError: more than a share OLD of a block's rows is older than half of the block before.
    """
    notes, column = [], data['block']['column']
    for before, block in zip(found, found[1:]):
        old = int((log.time[block.rows] < before.middle).sum())
        if old > OLD * len(block.rows):
            raise UserError(
                f"column '{column}': {old} of {len(block.rows)} rows of block {block.key} are older than half of block "
                f"{before.key}, so blocks do not follow each other in time: cut by time (data.block.by='period')"
            )
        if old:
            notes.append(f'{old} rows of block {block.key} are older than half of block {before.key}')
    return notes


def _cut_by_rows(log: RawLog, data: dict, order: np.ndarray) -> tuple[list[Cut], str | None]:
    size, time, start, blocks = data['block']['rows'], log.time[order], 0, []
    while start + size <= len(order):
        end = int(np.searchsorted(time, time[start + size - 1], side='right'))  # never split a timestamp
        blocks.append(_cut(log, local_key(int(time[start]), data), order[start:end]))
        start = end
    rest = len(order) - start
    return blocks, f'{rest} rows held back until a block of {size} is full' if rest else None


def cut_as_cached(log: RawLog, data: dict, cached: list[dict]) -> dict[int, np.ndarray]:
    """Rows of the log that belong to blocks which are in the cache: {block index: positions of its rows}.

    Raises:
      UserError: rows that lie before or between the cached blocks.
    """
    if data['block']['by'] == 'rows':
        starts = np.array([block['first_time'] for block in cached])
        old = np.flatnonzero(log.time <= cached[-1]['last_time'])
        owner = np.searchsorted(starts, log.time[old], side='right') - 1
        if (owner < 0).any():
            raise _back_in_time(local_key(int(log.time[old].min()), data), cached, data)
        return {int(t): old[owner == t] for t in np.unique(owner)}
    index = {block['key']: t for t, block in enumerate(cached)}
    found = {}
    for block in cut(log, data)[0]:
        if block.key in index:
            found[index[block.key]] = block.rows
        elif block.middle < cached[-1]['middle_time']:
            raise _back_in_time(block.key, cached, data)
    return found


def _back_in_time(key: str, cached: list[dict], data: dict) -> UserError:
    return UserError(
        f'the log goes back in time: it now has rows of {key}, but was prepared up to {cached[-1]["key"]} '
        f'without them: take them out of {data["log"][0]}, or start a new workdir'
    )
