"""Several values in a cell: lists of Parquet, `[1, 2]` as printed, `Comedy|War`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.data.values import is_text
from diet_jax.describe.typed import is_list, typed

SHOWN = 20_000  # different values of a column that are looked at
PRINTED = r'^\s*\[.*\]\s*$'
MARKS = ('|', ',', ';', ' ')  # a blank lies between words, too: it counts between ids alone
LONG = 32  # characters of a part
WHOLE = 2000  # different cells that are values themselves, at most


class Parts(NamedTuple):
    """All values of the cells of a column."""

    values: pa.Array  # [M], as the file has them
    row: pa.Array  # int64 [M], ascending


def separator(column: pa.Array) -> str | None:
    """What stands between the values of a cell: '' in lists of Parquet; None where a cell is one value.

    >>> separator(pa.array([[1, 2], [3]])), separator(pa.array(['[1, 2]', '[]'])), separator(pa.array(['a', 'b']))
    ('', ',', None)
    """
    if is_list(column.type):
        kind = column.type.value_type
        return None if is_list(kind) or pa.types.is_struct(kind) or pa.types.is_map(kind) else ''
    if not is_text(column.type):
        return None
    shown = pc.unique(column).drop_null()[:SHOWN]
    if not len(shown):
        return None
    if pc.all(pc.match_substring_regex(shown, PRINTED)).as_py():
        return ',' if pc.any(pc.match_substring(shown, ',')).as_py() else ' '
    return next((mark for mark in MARKS if _separates(mark, shown)), None)


def _separates(mark: str, shown: pa.Array) -> bool:
    """Whether a mark stands between values: few different ones, of several numbers in a cell."""
    if pc.mean(pc.match_substring(shown, mark)).as_py() <= 0.2:
        return False
    cells = pc.split_pattern(shown, mark)
    pieces = pc.utf8_trim_whitespace(pc.list_flatten(cells))
    different = pc.unique(pieces)
    if len(different) > 0.5 * len(pieces) or len(different) >= len(shown):
        return False
    if mark == ' ' and pc.mean(pc.match_substring_regex(different, r'\d')).as_py() < 0.9:
        return False
    return len(pc.unique(pc.list_value_length(cells))) > 1 and pc.max(pc.utf8_length(different)).as_py() < LONG


def parts(column: pa.Array, between: str) -> Parts:
    """The values of all cells, one after the other; empty parts of a text are none.

    >>> [found.to_pylist() for found in parts(pa.array(['[3, 4]', None, '[]', '[5]']), ',')]
    [['3', '4', '5'], [0, 0, 3]]
    """
    cells = column
    if is_text(column.type):
        bare = pc.replace_substring_regex(column.cast(pa.string()), r'^\s*\[|\]\s*$', '')
        cells = pc.split_pattern(bare, between)
    flat, row = pc.list_flatten(cells), pc.list_parent_indices(cells).cast(pa.int64())
    if is_text(flat.type):
        flat = pc.utf8_trim(flat.cast(pa.string()), characters=' \t\'"')
        kept = pc.invert(pc.fill_null(pc.equal(flat, ''), False))
        flat, row = flat.filter(kept), row.filter(kept)
    return Parts(flat, row)


def first(column: pa.Array, between: str) -> pa.Array:
    """The first value of every cell, null where it has none: [N].

    >>> first(pa.array(['Comedy|War', None, 'War']), '|').to_pylist()
    ['Comedy', None, 'War']
    """
    found = parts(column, between)
    rows, starts = np.unique(found.row.to_numpy(), return_index=True)
    place = np.full(len(column), -1)
    place[rows] = starts
    return typed([found.values.take(pa.array(place, mask=place < 0))], missing=()).values


class Cells(NamedTuple):
    """Columns, those of several values in a cell as they are to be taken."""

    columns: dict[str, pa.Array]
    first: dict[str, str]  # columns of which the first value is taken: what separates the values
    whole: dict[str, str]  # columns of text whose cells are few enough to be values themselves


def of_cells(columns: Mapping[str, pa.Array]) -> Cells:
    """A cell of few different ones is one value, for it tells more than its first; of others the first is taken.

    Lists of numbers with a fraction, as embeddings are, stay lists.
    """
    found, first_of, whole = dict(columns), {}, {}
    for name, column in columns.items():
        mark = separator(column)
        if mark is None:
            continue
        if is_text(column.type) and pc.count_distinct(column).as_py() <= WHOLE:
            whole[name] = mark
            continue
        values = first(column, mark)
        if not pa.types.is_floating(values.type):
            found[name], first_of[name] = values, mark
    return Cells(found, first_of, whole)


def said(whole: Mapping[str, str], table: str) -> list[str]:
    """What is said of columns whose cells are taken as one value."""
    return [
        f"{table}: '{name}' holds several values in a cell, taken as one; data.first_value = "
        f'ConfigDict({{{name!r}: {mark!r}}}) takes the first'
        for name, mark in whole.items()
    ]
