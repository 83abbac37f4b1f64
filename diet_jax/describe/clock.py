"""When a row was: which column says it, in which unit, how far local time is from UTC."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError
from diet_jax.config.data import UNITS
from diet_jax.data import times as reading
from diet_jax.describe import words

FIRST, LAST = 631_152_000, 2_051_222_400  # 1990 and 2035, in seconds since 1970
DAY = 86_400
SHOWN = 5_000  # different dates in words that are looked at
DAYS = ('%d/%m/%Y', '%m/%d/%Y', '%Y/%m/%d', '%d.%m.%Y', '%d-%m-%Y', '%m-%d-%Y', '%d/%m/%y', '%m/%d/%y')
HOURS = (' %H:%M:%S', ' %I:%M:%S %p', ' %H:%M', '')


class Clock(NamedTuple):
    """The time of a log's rows."""

    column: str
    unit: str  # as `data.time.unit`
    sure: bool
    seconds: np.ndarray  # int64 [N], since 1970 UTC; where no zone is known of dates in words, local
    offset: float  # hours of local time from UTC
    why: str  # where the offset comes from
    of_days: bool  # it says the day, not the hour
    formats: tuple[str, ...] = ()  # by which dates in words can be read that are not ISO 8601, the likeliest first


def stamps(values: pa.Array) -> tuple[str, np.ndarray] | None:
    """(unit, int64 seconds since 1970) of a column that can be a time; None where it cannot.

    Whole numbers are a time where the least and the greatest of them lie between 1990 and 2035 in one unit.

    >>> stamps(pa.array([1_650_000_000_000, 1_650_000_060_000]))
    ('ms', array([1650000000, 1650000060]))
    >>> stamps(pa.array([20220425, 20220426]))
    """
    if not len(values) or values.null_count:
        return None
    kind = values.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        unit = kind.unit if pa.types.is_timestamp(kind) else 's'
        return unit, values.cast(pa.timestamp('s', getattr(kind, 'tz', None)), safe=False).cast(pa.int64()).to_numpy()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if not re.match(r'\d{4}-\d\d-\d\d', values[0].as_py()):
            fitting = formats(values)
            return ('iso', _by_format(values, fitting[0]) // UNITS['us']) if fitting else None
        zoned = re.search(r':\d\d.*(Z|[+-]\d\d:?\d\d)$', values[0].as_py())
        try:
            found = values.cast(pa.timestamp('us', 'UTC' if zoned else None))
        except pa.ArrowInvalid:
            return None
        return 'iso', found.cast(pa.int64()).to_numpy() // UNITS['us']
    if pa.types.is_floating(kind):
        if not pc.all(pc.equal(values, pc.floor(values))).as_py():
            return None
        values = values.cast(pa.int64(), safe=False)
    elif not pa.types.is_integer(kind) or pa.types.is_uint64(kind):
        return None
    numbers = values.cast(pa.int64()).to_numpy(zero_copy_only=False)
    for unit, ticks in UNITS.items():
        if FIRST * ticks <= numbers.min() and numbers.max() <= LAST * ticks:
            return unit, numbers // ticks
    return None


def formats(values: pa.Array) -> tuple[str, ...]:
    """Formats by which all of some dates in words can be read that are not ISO 8601; () where there is none.

    >>> formats(pa.array(['11/15/2019 8:55:22 AM'])), formats(pa.array(['ams']))
    (('%m/%d/%Y %I:%M:%S %p',), ())
    """
    if not re.match(r'\d{1,4}[/.-]\d{1,2}[/.-]\d{2,4}\b', values[0].as_py()):
        return ()
    shown, found = pc.unique(values)[:SHOWN], []
    for day in DAYS:
        for hour in HOURS:
            try:
                _by_format(shown, f'{day}{hour}')
            except UserError:
                continue
            found.append(f'{day}{hour}')
    return tuple(found)


def _by_format(values: pa.Array, written: str) -> np.ndarray:
    """int64 [N] microseconds of dates in words."""
    return reading.times(values, {'unit': 'iso', 'format': written, 'utc_offset_hours': 0.0}, '')


def times(columns: Mapping[str, pa.Array], header: bool) -> list[tuple[float, str]]:
    """(how likely, name) of the columns that can be the time, the likeliest first; without a header by values alone."""
    found = []
    for i, (name, values) in enumerate(columns.items()):
        stamped = stamps(values)
        if not stamped:
            continue
        unit, seconds = stamped
        calendar = unit == 'iso' or pa.types.is_temporal(values.type)
        named = words.has(name, words.TIME) or words.has(name, words.CALENDAR)
        if header and not calendar and not named:
            continue
        spread = len(np.unique(seconds[:: max(len(seconds) // 10_000, 1)])) / min(len(seconds), 10_000)
        score = 2 * calendar + 3 * words.has(name, words.TIME) + spread
        score -= 4 * words.has(name, words.NOT_THE_TIME) + 4 * words.has(name, words.SESSION | {'id'})
        score -= 2 * bool((seconds % DAY == seconds[0] % DAY).all())  # days, where another column may know the hour
        found.append((score - i / 1000, name))
    return sorted(found, reverse=True)


def clock(columns: Mapping[str, pa.Array], header: bool, text: bool) -> Clock | None:
    """The time of a log, None where no column can be it. text: the log is one of CSV files."""
    found = times(columns, header)
    if not found:
        return None
    name = found[0][1]
    values = columns[name]
    unit, seconds = stamps(values)
    calendar = unit == 'iso' or pa.types.is_temporal(values.type)
    if calendar and text:
        unit = 'iso'
    elif pa.types.is_date(values.type):
        unit = 's'
    close = len(found) > 1 and found[0][0] - found[1][0] < 1
    offset, why = _offset(columns, name, seconds, calendar, text)
    of_days = bool((seconds % DAY == seconds[0] % DAY).all())
    text_of_dates = pa.types.is_string(values.type) and not re.match(r'\d{4}-\d\d-\d\d', values[0].as_py())
    fitting = formats(values) if text_of_dates else ()
    return Clock(name, unit, header and not close, seconds, offset, why, of_days, fitting)


def _offset(columns, name: str, seconds: np.ndarray, calendar: bool, text: bool) -> tuple[float, str]:
    kind = columns[name].type
    zone = getattr(kind, 'tz', None)
    if calendar and not zone and not (pa.types.is_string(kind) and 'Z' in str(columns[name][0])):
        return 0.0, 'times without a zone are taken for local'
    if zone and not text and zone.upper() not in ('UTC', '+00:00'):
        if known := _of_zone(zone, int(seconds[0])):
            return known, f"the column's zone is {zone}"
    for other, values in columns.items():
        days = None if other == name else day_numbers(values)
        if days is None:
            continue
        shares = {h: float(np.mean((seconds + h * 3600) // DAY == days)) for h in range(-12, 15)}
        best = max(shares, key=shares.get)
        rest = max(share for h, share in shares.items() if h != best)
        if shares[best] > 0.95 and shares[best] > rest:
            return float(best), f"? by it {shares[best]:.1%} of the rows lie on the day of column '{other}'"
    by_hour = np.bincount((seconds // 3600) % 24, minlength=24)
    around = by_hour + np.roll(by_hour, 1) + np.roll(by_hour, -1)
    quiet = int(around.argmin())
    local = (4 - quiet + 11) % 24 - 11
    if around[quiet] * 4 < around.max() and np.count_nonzero(by_hour) > 12:
        return 0.0, f'? UTC; the log is quietest about {quiet}:00 UTC: where that is 4 in the night, {local:+.1f}'
    return 0.0, '? UTC'


def _of_zone(zone: str, second: int) -> float | None:
    if found := re.fullmatch(r'([+-])(\d\d):?(\d\d)', zone):
        return (1 if found[1] == '+' else -1) * (int(found[2]) + int(found[3]) / 60)
    try:
        return ZoneInfo(zone).utcoffset(datetime.fromtimestamp(second, ZoneInfo(zone))).total_seconds() / 3600
    except (ZoneInfoNotFoundError, ValueError):
        return None


def day_numbers(values: pa.Array) -> np.ndarray | None:
    """Days since 1970 of a column that holds dates, written 20220425 or 2022-04-25; None of any other.

    >>> day_numbers(pa.array([19700103, 20220425]))
    array([    2, 19107])
    >>> day_numbers(pa.array([3, 4]))
    """
    if values.null_count or not len(values) or pa.types.is_nested(values.type):
        return None
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        seconds = stamps(values)[1]
        return seconds // DAY if not (seconds % DAY).any() else None
    coded = values.dictionary_encode()
    if len(coded.dictionary) > 20_000 or not (pa.types.is_integer(values.type) or pa.types.is_string(values.type)):
        return None
    try:
        days = [_day(str(value)) for value in coded.dictionary.to_pylist()]
    except ValueError:
        return None
    return np.array(days)[coded.indices.to_numpy(zero_copy_only=False)]


def _day(text: str) -> int:
    if not re.fullmatch(r'(19[7-9]|20[0-4])\d(-?)\d\d\2\d\d', text):
        raise ValueError(text)
    plain = text.replace('-', '')
    return int(np.datetime64(f'{plain[:4]}-{plain[4:6]}-{plain[6:]}', 'D').astype(np.int64))
