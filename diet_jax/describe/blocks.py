"""How a log is cut into blocks: days, hours, or rows, so that there are at least a dozen."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from diet_jax.base.errors import UserError
from diet_jax.describe.clock import DAY, Clock

LEAST = 12  # blocks
HOURS = (24, 12, 6, 4, 3, 2, 1)
THIN = 0.1  # of the day that a typical row lies in: a day of fewer rows is thin
STRAY = 0.02  # share of the rows that may be left out at the ends
SHORT, MANY = 1_000, 60  # rows of a day from which on it is a block, days that may be shorter
FRESH, FULL = 0.2, 5_000  # share of clicks on new items, rows of six hours, from which days are too long


class Days(NamedTuple):
    """The days of the sampled rows, in local time."""

    first: int  # days since 1970
    rows: np.ndarray  # int64 [D]: of every calendar day
    of_row: np.ndarray  # int64 [N]: position of a row's day
    begin: int  # the first and the last day that are no strays
    last: int

    def name(self, i: int) -> str:
        return str(np.datetime64(self.first + int(i), 'D'))


class Blocks(NamedTuple):
    """The keys of `data.block`, `since` and `until`."""

    by: str
    hours: float
    rows: int
    since: str
    until: str
    count: int  # about
    why: str


def days(clock: Clock) -> Days:
    """The days of a log, with the thin ones at its ends marked as strays where they are few rows."""
    day = (clock.seconds + round(clock.offset * 3600)) // DAY
    first = int(day.min())
    rows = np.bincount(day - first)
    typical = float((rows.astype(np.float64) ** 2).sum() / rows.sum())  # of the day that a row lies in
    good = np.flatnonzero(rows >= THIN * typical)
    begin, last = int(good[0]), int(good[-1])
    if rows[begin : last + 1].sum() < (1 - STRAY) * rows.sum():
        begin, last = 0, len(rows) - 1
    return Days(first, rows, day - first, begin, last)


def blocks(
    clock: Clock,
    found: Days,
    rows: int,
    *,
    label: np.ndarray | None,
    fresh: float,
    hours: float = 0.0,
    whole: bool = True,
) -> Blocks:
    """Blocks for a log.

    Args:
      rows: of the whole log.
      label: float32 [N] of the sampled rows, nan where it is null; None for clicks only.
      fresh: share of a day's rows whose item was in no earlier day, nan where unknown.
      hours: a period that was asked for, 0 for none.
      whole: all rows are there; a sample may have none of a day that has some.
    Raises:
      UserError: all rows are of one day, and no period was asked for.
    """
    inside = found.rows[found.begin : found.last + 1]
    typical = float((inside.astype(np.float64) ** 2).sum() / inside.sum())
    span = int(np.count_nonzero(inside)) if whole else len(inside)
    inside = inside if whole else inside[inside > 0]
    if hours:
        return _periods(hours, clock, label, whole, 'as asked')[0]
    if span == 1:
        raise UserError(
            f"column '{clock.column}': all rows but strays are of one day, {found.name(found.begin)}, and a block is a "
            'day: fetch more days, or cut it by hours with --hours=1'
        )
    if np.median(inside) < THIN * typical or (clock.of_days and span < LEAST):
        return _equal(rows, 'days are uneven: blocks of equal rows')
    if span > MANY and rows < SHORT * span:
        return _equal(rows, f'{span} days of {rows / span:.0f} rows are short: blocks of equal rows')
    lengths = HOURS
    if fresh > FRESH and typical * rows / found.rows.sum() / 4 >= FULL and not clock.of_days:
        lengths = HOURS[HOURS.index(6) :]
    for length in lengths:
        why = 'a day' if length == 24 else f'{span} days are few'
        why = f'{fresh:.0%} of a day is on items never met' if span >= LEAST and length < 24 else why
        cut, good = _periods(length, clock, label, whole, why)
        if cut.count >= LEAST and good:
            return cut
    return _equal(rows, 'hours are too short or uneven: blocks of equal rows')


def _periods(hours: float, clock: Clock, label: np.ndarray | None, whole: bool, why: str) -> tuple[Blocks, bool]:
    """Blocks of a period without the thin ones at both ends, and whether each has clicks and rows without one."""
    length = round(hours * 3600)
    period = (clock.seconds + round(clock.offset * 3600)) // length
    first = int(period.min())
    rows = np.bincount(period - first)
    both = rows > 0
    if label is not None:
        known = ~np.isnan(label)
        hits = np.bincount((period - first)[known], label[known], minlength=len(rows))
        both &= (hits > 0) & (hits < np.bincount((period - first)[known], minlength=len(rows)))
    typical = float((rows.astype(np.float64) ** 2).sum() / rows.sum())
    full = np.flatnonzero((rows >= THIN * typical) & both)
    if not len(full):
        return Blocks('period', hours, 0, '', '', 0, why), False
    begin, last = int(full[0]), int(full[-1])
    if rows[begin : last + 1].sum() < (1 - STRAY) * rows.sum():
        begin, last = 0, len(rows) - 1
    start = begin
    if label is None:  # the first pools of negatives are filled by the rows before
        start = begin + (min(math.ceil(DAY / length), last - begin) if (last - begin) * length >= 3 * DAY else 1)
        start = min(start, last)
    since = _local((first + start) * length) if start else ''
    until = _local((first + last) * length) if last < len(rows) - 1 else ''
    kept = rows[start : last + 1] > 0
    good = bool(both[start : last + 1][kept].all())
    count = int(kept.sum()) if whole else len(kept)
    return Blocks('period', float(hours), 0, since, until, count, why), good


def _local(seconds: int) -> str:
    """A local time as the key of its block: 2022-04-25, 2022-04-25T13.

    >>> _local(1650844800), _local(1650844800 + 13 * 3600)
    ('2022-04-25', '2022-04-25T13')
    """
    text = str(np.datetime64(seconds, 's'))
    for tail in (':00', ':00', 'T00'):
        text = text.removesuffix(tail)
    return text


def _equal(rows: int, why: str) -> Blocks:
    size = _round(rows / 16)
    return Blocks('rows', 24.0, size, '', '', rows // size, why)


def _round(value: float) -> int:
    """To one digit, two below 2: 30478 is 30000, 15240 is 15000.

    >>> _round(30478.1), _round(15240), _round(4)
    (30000, 15000, 4)
    """
    unit = 10 ** max(len(str(int(value))) - (1 if str(int(value))[0] > '1' else 2), 0)
    return max(int(value) // unit * unit, 1)
