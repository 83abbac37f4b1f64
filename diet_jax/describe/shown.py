"""Rows that list what was shown: which column has the items, which the clicked ones; and such rows as one an item."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.data.values import is_text
from diet_jax.describe import lists, words
from diet_jax.describe.typed import typed

LABEL, POSITION = 'clicked', 'position'  # columns that are made
ROWS = 20_000  # of the log that are looked at
MOST = 5_000_000  # rows of items that are made of a sample
SEPARATORS, MARKS = (' ', ',', ';', '|'), ('-', ':', '_', '#')


class Shown(NamedTuple):
    """The keys of `data.impressions`."""

    items: str
    clicked: str
    separator: str
    mark: str
    parallel: tuple[str, ...]
    sure: bool
    why: str


def find(columns: Mapping[str, pa.Array]) -> Shown | None:
    """How a log lists the items shown; None where a row is one impression."""
    few = {name: column[:ROWS] for name, column in columns.items()}
    for name, column in few.items():
        if found := _marked(name, column):
            return found._replace(parallel=_parallel(few, found))
    between = {name: mark for name, column in few.items() if (mark := lists.separator(column)) is not None}
    rated = []
    for items, clicked in itertools.permutations(few, 2):
        if items in between and (found := _pair(items, clicked, few, between[items])):
            rated.append(((found.sure, words.has(items, words.DISPLAYED | words.ITEM)), found))
    if not rated:
        return None
    found = max(rated, key=lambda one: one[0])[1]
    return found._replace(parallel=_parallel(few, found))


def renamed(found: Shown, names: Mapping[str, str]) -> Shown:
    """The same by the names that the config gives the columns."""
    parallel = tuple(names[name] for name in found.parallel)
    return found._replace(items=names[found.items], clicked=names.get(found.clicked, ''), parallel=parallel)


def _marked(name: str, column: pa.Array) -> Shown | None:
    """`N1-0 N2-1`: 0 and 1 behind every item."""
    if not pa.types.is_string(column.type):
        return None
    cells = pc.unique(column).drop_null()
    for separator, mark in itertools.product(SEPARATORS, MARKS):
        one = rf'[^{separator}]+{mark}[01]'
        if len(cells) and pc.all(pc.match_substring_regex(cells, f'^{one}([{separator}]{one})*$')).as_py():
            several = pc.mean(pc.match_substring(cells, separator)).as_py()
            flat = pc.list_flatten(pc.split_pattern(cells, separator))
            if several >= 0.5 and len(pc.unique(pc.utf8_slice_codeunits(flat, -1))) == 2:
                return Shown(name, '', separator, mark, (), True, f'as {flat[0]}: 1 is clicked')
    return None


def _pair(items: str, clicked: str, columns: Mapping[str, pa.Array], separator: str) -> Shown | None:
    """Two lists of which one is always a part of the other, and is named so or the other is."""
    named = words.has(clicked, words.CHOSEN)
    if not (named or words.has(items, words.DISPLAYED)) or not _lists(columns[clicked], separator):
        return None
    shown, chosen = _codes(columns, (items, clicked), separator)
    rows = len(columns[items])
    if len(shown) <= rows or not len(chosen) or len(chosen) >= len(shown) or not np.isin(chosen, shown).all():
        return None
    return Shown(items, clicked, separator, '', (), named, f"'{clicked}' lists those that were clicked")


def _lists(column: pa.Array, separator: str) -> bool:
    """Whether a column can be read as lists; a text of one value is a list of it."""
    if separator == '':
        return lists.is_list(column.type)
    return is_text(column.type) or (pa.types.is_integer(column.type) and (pc.max(column).as_py() or 0) > 1)


def _codes(columns: Mapping[str, pa.Array], names: Sequence[str], separator: str) -> list[np.ndarray]:
    """int64 [M] of every column: a number for every pair of a row and a value."""
    found = [_parts(columns[name], separator) for name in names]
    coded = pa.concat_arrays([part.values.cast(pa.string()) for part in found]).dictionary_encode()
    code, size = coded.indices.fill_null(-1).to_numpy().astype(np.int64) + 1, len(coded.dictionary) + 1
    ends = np.cumsum([len(part.row) for part in found])[:-1]
    return [part.row.to_numpy() * size + one for part, one in zip(found, np.split(code, ends), strict=True)]


def _parts(column: pa.Array, separator: str) -> lists.Parts:
    return lists.parts(column.cast(pa.string()) if pa.types.is_integer(column.type) else column, separator)


def _parallel(columns: Mapping[str, pa.Array], found: Shown) -> tuple[str, ...]:
    """Other lists with as many values as there are items, in every row."""
    rows = len(columns[found.items])
    length = np.bincount(lists.parts(columns[found.items], found.separator).row.to_numpy(), minlength=rows)
    names = []
    for name, column in columns.items():
        if name in (found.items, found.clicked) or lists.separator(column) != found.separator:
            continue
        if np.array_equal(np.bincount(lists.parts(column, found.separator).row.to_numpy(), minlength=rows), length):
            names.append(name)
    return tuple(names)


def rows(columns: Mapping[str, pa.Array], found: Shown) -> tuple[dict[str, pa.Array], float]:
    """(columns with a row for every item shown, and `clicked` and `position`; rows that one row of the log becomes).

    At most `MOST` rows are made, of rows of the log that lie evenly.
    """
    count = len(columns[found.items])
    items = lists.parts(columns[found.items], found.separator)
    each = len(items.row) / max(count, 1)
    step = int(np.ceil(len(items.row) / MOST)) or 1
    if step > 1:
        columns = {name: column.take(pa.array(np.arange(0, count, step))) for name, column in columns.items()}
        items = lists.parts(columns[found.items], found.separator)
    row, names = items.row, {found.items, found.clicked, *found.parallel}
    made = {name: column if name in names else column.take(row) for name, column in columns.items()}
    made[found.items] = typed([items.values], missing=()).values
    for name in found.parallel:
        made[name] = typed([lists.parts(columns[name], found.separator).values], missing=()).values
    made.pop(found.clicked, None)
    if found.mark:
        hit = pc.ends_with(items.values, f'{found.mark}1').to_numpy(zero_copy_only=False)
        made[found.items] = typed([pc.utf8_slice_codeunits(items.values, 0, -2)], missing=()).values
    else:
        shown, chosen = _codes(columns, (found.items, found.clicked), found.separator)
        hit = np.isin(shown, chosen)
    starts = np.flatnonzero(np.diff(row.to_numpy(), prepend=-1))
    place = np.arange(len(row)) - np.repeat(starts, np.diff([*starts, len(row)]))
    return made | {LABEL: pa.array(hit.astype(np.int8)), POSITION: pa.array(place)}, each
