"""What a column of a sample is, by the rules that preparation reads it by (`data/values.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError
from diet_jax.config.data import NULL_WORDS
from diet_jax.data import times, values

# Words that often mean missing and are none of `data.null_words` by default: looked for among numbers only.
MISSING = ('NA', 'N/A', 'n/a', 'na', '#N/A', 'NaT', '-', '--', '?')
CODE = r'^[-+]?(0[0-9]|[0-9]{19})'  # digits that no number keeps
DATED = r'^\d{4}-\d\d-\d\d([ T]\d\d:\d\d)?'


class Typed(NamedTuple):
    """A column of a table, as preparation will read it."""

    values: pa.Array  # [N]: int64, bool, string, float64, a time or lists; binary: what no config can read
    nulls: tuple[str, ...] = ()  # words that stand in the way of its numbers
    verbatim: bool = False  # 1 and 0 beside true and other words: it must be taken as written


def typed(parts: Sequence[pa.Array], missing: Sequence[str] = MISSING) -> Typed:
    """Pieces of a column in the types of their files: [N1], [N2], ... -> [N1 + N2 + ...].

    A column is categories where it can be (`values.category`), whole numbers, true and false or text; float64 where
    it only makes numbers (`values.numbers`).

    Args: missing: words that are looked for where they alone stand between text and numbers.

    >>> typed([pa.array(['3', '', '4.0'])]).values.to_pylist(), str(typed([pa.array(['0501', '501'])]).values.type)
    ([3, None, 4], 'string')
    >>> typed([pa.array(['3.5', 'n/a'])]).nulls, str(typed([pa.array(['1e5', '2e5'])]).values.type)
    (('n/a',), 'string')
    """
    parts = _of_one_type(parts)
    if not parts:
        return Typed(pa.array([], pa.int64()))
    kinds = [part.type for part in parts]
    if all(map(is_list, kinds)) and len(kinds) == 1:
        return Typed(parts[0])
    if all(map(pa.types.is_temporal, kinds)):
        return Typed(_times(parts))
    if not all(map(values.is_text, kinds)):
        found = _read(parts)
        return Typed(pa.nulls(sum(map(len, parts)), pa.binary()) if found is None else found)
    words = pa.concat_arrays([part.cast(pa.string()) for part in parts])
    dates = _dates(values.without_null_words(words))
    if dates is not None:
        return Typed(dates)
    found = _read([words])
    if found is None:
        return Typed(values.without_null_words(words), verbatim=True)
    if not pa.types.is_string(found.type):
        return Typed(found)
    there = set(pc.unique(found.filter(pc.is_in(found, value_set=pa.array(missing, pa.string())))).to_pylist())
    odd = tuple(word for word in missing if word in there)
    without = _read([words], (*NULL_WORDS, *odd)) if odd else None
    if without is not None and not pa.types.is_string(without.type) and without.null_count < len(without):
        return Typed(without, odd)
    return Typed(found)


def is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _of_one_type(parts: Sequence[pa.Array]) -> list[pa.Array]:
    """The same rows in one piece where all have one type; nulls take that of the others."""
    parts = [part.dictionary_decode() if pa.types.is_dictionary(part.type) else part for part in parts]
    kinds = list(dict.fromkeys(part.type for part in parts if not pa.types.is_null(part.type)))
    if not kinds:
        return [pa.concat_arrays(parts)] if parts else []
    parts = [part.cast(kinds[0]) if pa.types.is_null(part.type) else part for part in parts]
    if len(kinds) == 1:
        return [pa.concat_arrays(parts)]
    return parts


def _times(parts: Sequence[pa.Array]) -> pa.Array:
    """Times and dates in the finest of their units."""
    kinds = {part.type for part in parts}
    wanted = parts[0].type
    if len(kinds) > 1:
        units = [kind.unit if pa.types.is_timestamp(kind) else 's' for kind in kinds]
        zone = next((kind.tz for kind in kinds if pa.types.is_timestamp(kind) and kind.tz), None)
        wanted = pa.timestamp(max(units, key=('s', 'ms', 'us', 'ns').index), zone)
    return pa.concat_arrays([part.cast(wanted, safe=False) for part in parts])


def _dates(words: pa.Array) -> pa.Array | None:
    """Dates in words as time stamps, None where preparation would not read them as such (`times.times`)."""
    filled = words.drop_null()
    if not len(filled) or not pc.all(pc.match_substring_regex(filled, DATED)).as_py():
        return None
    try:
        times.times(filled, {'unit': 'iso', 'utc_offset_hours': 0.0}, '')
    except UserError:
        return None
    zoned = pc.any(pc.match_substring_regex(filled, r'(Z|[+-]\d\d:?\d\d)$')).as_py()
    return words.cast(pa.timestamp('us', 'UTC' if zoned else None))


def _read(parts: Sequence[pa.Array], nulls: Sequence[str] = NULL_WORDS) -> pa.Array | None:
    """A column as categories, or as numbers where it only makes those; None where it is neither."""
    try:
        found = [values.category(part, '', nulls) for part in parts]
        seen: values.Seen = {}
        for part in found:
            values.seen_in(part, '', seen)
        kind = values.kind_of(seen, None, '')
    except UserError:
        return _numbers(parts, nulls)
    whole = pa.concat_arrays([values.as_kind(part, kind) for part in found])
    if kind != 'string':
        return whole
    numbers = _numbers(parts, nulls)
    if numbers is None or _whole(numbers) or pc.any(pc.match_substring_regex(whole, CODE)).as_py():
        return whole
    return numbers


def _numbers(parts: Sequence[pa.Array], nulls: Sequence[str]) -> pa.Array | None:
    try:
        return pa.concat_arrays([values.numbers(part, '', nulls=nulls) for part in parts])
    except UserError:
        return None


def _whole(numbers: pa.Array) -> bool:
    filled = numbers.filter(pc.is_finite(numbers))
    return not len(filled) or pc.all(pc.equal(filled, pc.floor(filled))).as_py()
