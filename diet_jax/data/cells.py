"""Cells that hold a list.

A list is a list of Parquet, or text. Rules for text, the definition is ours:

1. A null, a null word and blank text are the empty list.
2. Text in brackets is a list as pandas, numpy and JSON print it, whatever the separator: `[1, 2, 3]`, `['a', 'b']`,
   `[1 2 3]`. Brackets and quotes go; None, nan and null in it are missing values.
3. Other text is split at the separator; where that is one space, any run of white space is one separator. One separator
   at the very end counts for nothing. White space around an item goes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError
from diet_jax.data import values

CUT = '\x1f'  # between two items of a printed list, for a moment
PRINTED = r'(?s)^(\[.*\]|\(.*\)|\{.*\})$'
QUOTED = r"""^("[^"]*"|'[^']*')((\s*,\s*|\s+)("[^"]*"|'[^']*'))*$"""
BLANK = ' \r\n'


class Lists(NamedTuple):
    """Lists of one column, flat."""

    values: pa.Array  # [M], of all lists, one after the other
    lengths: np.ndarray  # int64 [N], 0 where there is none
    missing: np.ndarray  # bool [N]: null or a null word, which is not the same as empty


def short(value) -> str:
    text = repr(value.as_py() if isinstance(value, pa.Scalar) else value)
    return text if len(text) <= 80 else text[:76] + '...' + text[-1]


def is_list(kind: pa.DataType) -> bool:
    views = str(kind).startswith(('list_view', 'large_list_view'))
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or views


def plain_type(array: pa.Array, where: str) -> pa.Array:
    """A column with bytes as text, and dictionaries only of text and no larger than the column."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        if values.is_text(kind) and len(array.dictionary) <= len(array):
            return array
        decoded = plain_type(array.dictionary_decode(), where)
        return decoded.dictionary_encode() if values.is_text(kind) else decoded
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            return array.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise UserError(f'{where} holds bytes that are no UTF-8 ({error}): write it as text') from error
    return array


def lists_of(array: pa.Array, separator: str, nulls, where: str, single: bool = False) -> Lists:
    """Lists of a column of any type; single: a value that is no list is a list of one."""
    array = plain_type(array, where)
    kind = array.type
    if pa.types.is_null(kind):
        array = array.cast(pa.list_(pa.null()))
    elif pa.types.is_dictionary(kind):
        array = split(array.dictionary.cast(pa.string()), separator, nulls, where).take(array.indices)
    elif values.is_text(kind):
        array = split(array.cast(pa.string()), separator, nulls, where)
    elif not is_list(kind):
        if single and not pa.types.is_nested(kind):
            there = array.is_valid().to_numpy(zero_copy_only=False)
            return Lists(array.drop_null(), there.astype(np.int64), ~there)
        shown = array.drop_null()
        value = f' and holds {short(shown[0])}' if len(shown) else ''
        raise UserError(f'{where} is of type {kind}{value}: it must hold lists, or text; correct data.impressions')
    lengths = pc.list_value_length(array).cast(pa.int64())
    missing = lengths.is_null().to_numpy(zero_copy_only=False)
    return Lists(pc.list_flatten(array), lengths.fill_null(0).to_numpy(zero_copy_only=False), missing)


def is_printed(words: pa.Array) -> np.ndarray:
    return pc.match_substring_regex(words, PRINTED).fill_null(False).to_numpy(zero_copy_only=False)


def split(words: pa.Array, separator: str, nulls, where: str) -> pa.Array:
    """Text [N] as lists of text, list<string> [N]; null where there is none."""
    spaces = separator == ' '
    words = pc.utf8_trim_whitespace(words) if spaces else pc.utf8_trim(words, characters=BLANK)
    words = values.without_null_words(words, [*nulls, ''])
    printed = is_printed(words)
    if printed.all() and len(printed):
        return _printed(words, where)
    plain = words.filter(pa.array(~printed)) if printed.any() else words
    if spaces:
        found = pc.utf8_split_whitespace(plain)
    else:
        shorter = pc.utf8_slice_codeunits(plain, 0, -len(separator))
        found = _trimmed(pc.split_pattern(pc.if_else(pc.ends_with(plain, separator), shorter, plain), separator))
    if not printed.any():
        return found
    place = np.where(printed, len(found) + np.cumsum(printed) - 1, np.cumsum(~printed) - 1)
    return pa.concat_arrays([found, _printed(words.filter(pa.array(printed)), where)]).take(pa.array(place))


def _trimmed(lists: pa.Array) -> pa.Array:
    """Lists of text without white space around an item: list<string> [N]."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    mask = np.append(lists.is_null().to_numpy(zero_copy_only=False), False)
    flat = pc.utf8_trim_whitespace(pc.list_flatten(lists))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32(), mask=mask), flat)


def _printed(words: pa.Array, where: str) -> pa.Array:
    """Printed lists, not null, as list<string> [N]."""
    inside = pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(words, 1, -1))
    odd = words.filter(pc.match_substring_regex(inside, r'^\[|(^|[\s,])\.\.\.([\s,]|$)'))
    if len(odd):
        raise UserError(
            f'{where} holds {short(odd[0])}, a list that was shortened when it was printed, or a list of lists: write '
            'it as a column of lists (Parquet)'
        )
    inside = pc.replace_substring_regex(inside, r',$', '')
    inside = pc.replace_substring_regex(inside, r'(^|,\s*)(None|nan|null)\b', r"\1''")
    quoted = pc.match_substring_regex(inside, QUOTED)
    of_words = pc.replace_substring_regex(
        pc.utf8_slice_codeunits(inside, 1, -1), r"""["'](\s*,\s*|\s+)["']""", CUT
    )  # commas and spaces in quotes stay
    bare = pc.utf8_trim(inside, characters='\'"')
    by_comma = pc.replace_substring_regex(bare, r"""["']?\s*,\s*["']?""", CUT)
    by_space = pc.replace_substring_regex(bare, r"""["']?\s+["']?""", CUT)
    joined = pc.if_else(quoted, of_words, pc.if_else(pc.match_substring(inside, ','), by_comma, by_space))
    lists = pc.split_pattern(joined, CUT)
    none = pa.array([[]], lists.type)[0]
    return pc.if_else(pc.equal(inside, ''), none, lists)
