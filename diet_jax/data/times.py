"""What a time of a log's file means: ticks since 1970 UTC, from whole numbers, time stamps, or dates in words."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError
from diet_jax.config.data import NULL_WORDS, UNITS
from diet_jax.data.values import POINT_ZERO, is_text, whole_numbers, without_null_words

ZONE = r'(?:Z|[+-]\d\d(?::?\d\d)?)$'  # at the end of a date in words
ZONED = rf':\d\d(?:\.\d+)?\s*(?P<zone>{ZONE})'  # behind a time of day: 2024-03-01 has none
NO_ZONE = 'none'  # of a date without one
EARLIEST, LATEST = 315_532_800, 7_258_118_400  # 1980-01-01 and 2200-01-01, in seconds


def times(array: pa.Array, time: Mapping, where: str, nulls=NULL_WORDS) -> np.ndarray:
    """Time stamps as int64 [N] ticks since 1970 UTC, in `data.time.unit` (microseconds for 'iso').

    Raises:
      UserError: a null, a value that is no time, or one after the year 2200 (a wrong unit).
    """
    return zoned_times(array, time, where, nulls)[0]


def zoned_times(array: pa.Array, time: Mapping, where: str, nulls=NULL_WORDS) -> tuple[np.ndarray, str]:
    """`times`, and their zone: a name, an offset such as '+08:00', NO_ZONE of dates without one, '' of numbers."""
    if not len(array):
        return np.zeros(0, np.int64), ''
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if is_text(array.type):
        array = without_null_words(array.cast(pa.string()), nulls)
    if pa.types.is_floating(array.type):
        array = whole_numbers(array.cast(pa.float64()), where, 'write it as an integer of a smaller unit')
    if array.null_count:
        raise UserError(
            f'{where} is null in {array.null_count} of {len(array)} rows: every row needs a time; drop those rows'
        )
    if time['unit'] == 'iso' or pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _calendar_times(array, time, where)
    if is_text(array.type):
        array = _epoch(array, time, where)
    if not pa.types.is_integer(array.type):
        raise UserError(f'{where} is of type {array.type}, no time: name the column of the time in data.time.column')
    values = array.cast(pa.int64()).to_numpy(zero_copy_only=False)
    ticks = UNITS[time['unit']]
    if int(values.max()) // ticks > LATEST:
        raise UserError(
            f"{where} holds {values.max()}, after the year 2200 in unit '{time['unit']}': set data.time.unit"
        )
    return values, ''


def _epoch(words: pa.Array, time: Mapping, where: str) -> pa.Array:
    """Whole numbers written as text, as exports of JSON have them."""
    try:
        return words.cast(pa.int64())
    except pa.ArrowInvalid:
        plain = pc.replace_substring_regex(words, POINT_ZERO, r'\1')
    try:
        return plain.cast(pa.int64())
    except pa.ArrowInvalid:
        odd = plain.filter(pc.invert(pc.match_substring_regex(plain, r'^-?[0-9]{1,18}$')))
        shown = (odd if len(odd) else words)[0].as_py()
        if re.fullmatch(r'\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*', shown):
            raise UserError(
                f"{where} holds {shown!r}, no whole number of unit '{time['unit']}': write it as whole numbers of a "
                'smaller unit, and set data.time.unit'
            ) from None
        raise UserError(
            f"{where} holds {shown!r}, no whole number of unit '{time['unit']}': set data.time.unit='iso' for dates in "
            'words, with data.time.format where they are not written as 2022-04-25 13:05:00'
        ) from None


def _calendar_times(array: pa.Array, time: Mapping, where: str) -> tuple[np.ndarray, str]:
    unit, written = 'us' if time['unit'] == 'iso' else time['unit'], time.get('format', '')
    if not pa.types.is_temporal(array.type):
        if not is_text(array.type):
            raise UserError(f"{where} is of type {array.type}, but data.time.unit is 'iso': set it to s, ms, us or ns")
        if written:
            array = _in_format(array, written, where)
    zone = (array.type.tz if pa.types.is_timestamp(array.type) else None) or NO_ZONE
    if is_text(array.type):
        has = pc.match_substring_regex(array, ZONED)
        if pc.any(has).as_py():
            ending = pc.extract_regex(pc.filter(array, has), ZONED).field('zone')
            zone = ', '.join(sorted(pc.unique(ending).to_pylist())).replace('Z', 'UTC')
        if zone != NO_ZONE and not pc.all(has).as_py():
            bare, with_zone = (array.filter(m)[0].as_py() for m in (pc.invert(has), has))
            raise UserError(f'{where} holds {bare!r} without a zone and {with_zone!r} with one: write all in one way')
    try:
        ticks = array.cast(pa.timestamp(unit, None if zone == NO_ZONE else 'UTC'), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            f'{where} does not parse as a time ({error}): write it as 2022-04-25 13:05:00, or set data.time.format'
        ) from error
    values = ticks.cast(pa.int64()).to_numpy(zero_copy_only=False)
    if int(values.max()) // UNITS[unit] > LATEST:
        raise UserError(f'{where} holds {array[int(values.argmax())]}, after the year 2200: correct it')
    return (values - offset_ticks(time) if zone == NO_ZONE else values), zone


def _in_format(words: pa.Array, written: str, where: str) -> pa.Array:
    """Time stamps of dates in words; text of ISO 8601 where the format has a zone at its end."""
    if written.endswith('%z'):
        zone = pc.extract_regex(words, f'(?P<zone>{ZONE})').field('zone')
        if zone.null_count:
            odd = words.filter(pc.is_null(zone))[0].as_py()
            raise UserError(f"{where} holds {odd!r}, not written as data.time.format '{written}': correct one of them")
        bare = _in_format(pc.replace_substring_regex(words, f'\\s*{ZONE}', ''), written[:-2].rstrip(), where)
        return pc.binary_join_element_wise(pc.strftime(bare, format='%Y-%m-%dT%H:%M:%S'), zone, '')
    try:
        found = pc.strptime(words, format=written, unit='us', error_is_null=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"data.time.format '{written}' is no format ({error}): write it as '%d/%m/%Y %H:%M'") from error
    if found.null_count:
        bad = words.filter(pc.is_null(found))[0].as_py()
        raise UserError(f"{where} holds {bad!r}, not written as data.time.format '{written}': correct one of them")
    if '%d' in written:  # 31 February is read as 2 March
        again = _padless(pc.strftime(found, format=re.sub('%[pPfI]', '', written)))
        other = pc.not_equal(_day_of(again, written), _day_of(_padless(words), written))
        if pc.any(other).as_py():
            bad = words.filter(other)[0].as_py()
            raise UserError(f'{where} holds {bad!r}, which is no day: correct it')
    return found


def _padless(words: pa.Array) -> pa.Array:
    """Numbers without leading zeros."""
    return pc.replace_substring_regex(words, r'\b0+(\d)', r'\1')


def _day_of(words: pa.Array, written: str) -> pa.Array:
    """The number that stands where a format has its day."""
    before = re.sub('%.', '0', written[: written.index('%d')])
    place = len(re.findall(r'\d+', before))
    return pc.extract_regex(words, rf'^(?:\D*\d+){{{place}}}\D*(?P<day>\d+)').field('day')


def time_ticks(time: Mapping) -> int:
    """Ticks in a second of what `times` returns."""
    return UNITS['us' if time['unit'] == 'iso' else time['unit']]


def offset_hours(time: Mapping) -> float:
    """Local time less UTC: `data.time.utc_offset_hours`, 0 where nothing says it."""
    return time['utc_offset_hours'] or 0.0


def offset_ticks(time: Mapping) -> int:
    """The same in ticks of what `times` returns."""
    return round(offset_hours(time) * 3600 * time_ticks(time))
