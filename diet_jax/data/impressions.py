"""Cells that hold more than one value: lists of items shown become rows, and of several values the first is taken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError, closest
from diet_jax.config.data import NULL_WORDS
from diet_jax.config.impressions import MADE
from diet_jax.data import cells, values

OTHERS = r'[ ,;|\t]'  # usual separators
MANY = 12  # lists of one item that tell a wrong separator
MOST_BYTES = 1 << 30  # of a column of text that is repeated; 2^31 is the end of its offsets


def check_names(names: Collection[str], impressions: Mapping, label: str, wanted: Collection[str], where) -> None:
    """Raises UserError for a column that is not there, or that is there and would be made once more.

    Args:
      names: of all columns of a file; the others: as of `explode`.
    """
    for name in (impressions['items'], impressions['clicked'], *impressions['parallel']):
        if name and name not in names:
            raise UserError(f'{where(name)} is not there{closest(name, names)}: correct data.impressions')
    for name in MADE:
        if name in wanted and name in names:
            raise UserError(
                f'{where(name)} is there, and is also made of the lists: data.rename = '
                f"(({name!r}, 'my_{name}'),) gives the file's another name"
            )
    if label in names and label != impressions['clicked']:
        raise UserError(
            f"{where(label)} is there, and is also the label that is made: data.rename = (({label!r}, 'my_{label}'),) "
            "gives the file's another name, or data.label.column the label"
        )


def explode(
    columns: Mapping[str, pa.Array],
    impressions: Mapping,
    label: str,
    where: Callable[[str], str],
    nulls: Iterable[str],
    wanted: Collection[str],
    *,
    whole: bool = True,
    first_row: int = 0,
) -> tuple[dict[str, pa.Array], np.ndarray, dict[str, int]]:
    """Rows of lists of items as rows of items; an item shown twice is two rows, and a click of it is one of both.

    Args:
      columns: name -> array [N], of a file or of some rows of one.
      impressions: checked `data.impressions`.
      label: name of the label that is made: 1 where the item was clicked, else 0.
      where: name -> "file: column 'name'", for messages.
      nulls: words that mean missing.
      wanted: of 'position' and 'list_length' those that are made, other names are passed over.
      whole: these are all rows of a file; where not, `check_shown` is for the caller to call, once it has all.
      first_row: rows of the file before these, for messages.
    Returns:
      name -> array [M]: every column repeated, the items of text as string, the label, position (0 is the first) and
      list_length as int64; the column of clicks is gone, unless it has the label's name.
      int64 [M], the row that each came from.
      Counts: impressions N, rows M, empty (lists that are null or empty, which give no row), clicked (rows with label
      1), not_shown (different clicked items of a row that its list lacks).
    Raises:
      UserError: a column that is no list, an item without its mark, lists of different lengths, names that collide,
      clicked items none of which was shown.

    >>> how = {'items': 'seen', 'clicked': '', 'separator': ' ', 'mark': '-', 'parallel': []}
    >>> log = {'user': pa.array([7, 8]), 'seen': pa.array(['N1-0 N2-1', ''])}
    >>> found, parent, facts = explode(log, how, 'clicked', str, ('',), ())
    >>> {name: column.to_pylist() for name, column in found.items()}
    {'user': [7, 7], 'seen': ['N1', 'N2'], 'clicked': [0, 1]}
    >>> facts
    {'impressions': 2, 'rows': 2, 'empty': 1, 'clicked': 1, 'not_shown': 0}
    """
    check_names(columns, impressions, label, wanted, where)
    items, clicked, separator = impressions['items'], impressions['clicked'], impressions['separator']
    shown = cells.lists_of(columns[items], separator, nulls, where(items))
    _check_separator(columns[items], shown, separator, where(items))
    parent = np.repeat(np.arange(len(shown.lengths)), shown.lengths)
    not_shown, example = 0, ''
    if impressions['mark']:
        item, hit = _marked(shown.values, impressions['mark'], where(items))
    else:
        told = cells.lists_of(columns[clicked], separator, nulls, where(clicked), single=True)
        item = shown.values
        hit, not_shown, example = _clicked(shown, told, (where(items), where(clicked)), nulls)
    made = {items: item}
    for name in impressions['parallel']:
        beside = cells.lists_of(columns[name], separator, nulls, where(name))
        made[name] = _beside(beside, shown, where(name), items, first_row)
    made[label] = pa.array(hit.astype(np.int64))
    if 'position' in wanted:
        starts = np.cumsum(shown.lengths) - shown.lengths
        made['position'] = pa.array(np.arange(len(parent)) - starts[parent])
    if 'list_length' in wanted:
        made['list_length'] = pa.array(shown.lengths[parent])
    index = pa.array(parent)
    kept = [name for name in columns if name != clicked or name == label]
    found = {name: made[name] if name in made else _repeated(columns[name], index, shown.lengths) for name in kept}
    facts = {
        'impressions': len(shown.lengths),
        'rows': len(parent),
        'empty': int((shown.lengths == 0).sum()),
        'clicked': int(hit.sum()),
        'not_shown': not_shown,
    }
    if whole:
        check_shown(facts, impressions, where, example)
    return {**found, **made}, parent, facts


def check_shown(facts: Mapping[str, int], impressions: Mapping, where: Callable[[str], str], example: str = '') -> None:
    """Raises UserError where no clicked item of a file was shown: they are written in another way.

    Args: facts: of `explode`, added up over the rows of a file; example: of an item, for the message.
    """
    if facts['not_shown'] and not facts['clicked']:
        raise UserError(
            f"{where(impressions['clicked'])}: none of its {facts['not_shown']} clicked items is in the row's "
            f"'{impressions['items']}'{example}: name the right columns in data.impressions, or write items in one way"
        )


def first_value(array: pa.Array, separator: str, where: str, nulls: Iterable[str] = NULL_WORDS) -> pa.Array:
    """The first of several values in a cell [N]: text before the first separator, or a list's first element.

    Text comes out as string, of dictionaries as dictionaries; printed lists are known as in lists of items, and an
    empty list has no value. A column of one value a cell, as numbers, is left as it is.

    Args: separator: '' for columns of lists; where: "file: column 'x'", for messages; nulls: words that mean missing.
    Raises:
      UserError: text that is no printed list, where separator is ''.

    >>> first_value(pa.array(['Comedy|War', ' Drama ', None]), '|', '').to_pylist()
    ['Comedy', 'Drama', None]
    """
    array = cells.plain_type(array, where)
    if cells.is_list(array.type):
        lists = cells.lists_of(array, separator, nulls, where)
        starts = np.cumsum(lists.lengths) - lists.lengths
        return lists.values.take(pa.array(starts, mask=lists.lengths == 0))
    if not values.is_text(array.type):
        return array
    if not pa.types.is_dictionary(array.type):
        return _first_words(array.cast(pa.string()), separator, where, nulls)
    words = _first_words(array.dictionary.cast(pa.string()), separator, where, nulls).dictionary_encode()
    return pa.DictionaryArray.from_arrays(words.indices.take(array.indices), words.dictionary)


def _first_words(words: pa.Array, separator: str, where: str, nulls) -> pa.Array:
    words = pc.utf8_trim_whitespace(words)
    printed = cells.is_printed(words)
    if not separator:
        usual = values.without_null_words(words, [*nulls, ''])
        odd = usual.filter(pc.and_(pc.is_valid(usual), pa.array(~printed)))
        if len(odd):
            raise UserError(
                f'{where} holds {cells.short(odd[0])}, text and no list: data.first_value must hold what stands '
                "between two values, as ';', instead of ''"
            )
        first = words
    else:
        parts = pc.split_pattern(words, separator, max_splits=1)
        first = pc.utf8_trim_whitespace(pc.list_element(parts, 0))
    if not printed.any():
        return first
    lists = cells.split(words.filter(pa.array(printed)), separator, nulls, where)
    found = pc.list_element(_at_least_one(lists), 0)
    return pc.replace_with_mask(first, pa.array(printed), found)


def _at_least_one(lists: pa.Array) -> pa.Array:
    """Lists with null where one is empty."""
    return pc.if_else(pc.greater(pc.list_value_length(lists), 0), lists, pa.scalar(None, lists.type))


def _check_separator(column: pa.Array, shown: cells.Lists, separator: str, where: str) -> None:
    """Raises UserError where no list of text has two items, and some hold another usual separator."""
    if not values.is_text(column.type) or (shown.lengths > 1).any() or len(shown.values) < MANY:
        return
    odd = shown.values.filter(pc.match_substring_regex(shown.values, OTHERS))
    if len(odd):
        raise UserError(
            f'{where} holds {cells.short(odd[0])}, and no list has the separator {separator!r}: set '
            'data.impressions.separator to what stands between two items'
        )


def _marked(shown: pa.Array, mark: str, where: str) -> tuple[pa.Array, np.ndarray]:
    """Items and their clicks, of text with a mark: string [M], bool [M]."""
    shown = cells.plain_type(shown, where)
    if not values.is_text(shown.type) and len(shown):
        raise UserError(
            f'{where} holds lists of {shown.type}, in which no mark {mark!r} can be: name the column of clicked items '
            'in data.impressions.clicked instead'
        )
    words = shown.cast(pa.string())
    parts = pc.split_pattern(words, mark, max_splits=1, reverse=True)
    whole = pc.equal(pc.list_value_length(parts), 2).fill_null(False)
    click = pc.list_flatten(parts.filter(whole))
    click = pc.utf8_lower(pc.utf8_trim_whitespace(click.take(pa.array(np.arange(1, len(click), 2)))))
    yes, no = (pc.is_in(click, value_set=pa.array(list(ones))) for ones in (('1', 'true'), ('0', 'false')))
    odd = words.filter(pc.invert(whole))
    odd = odd if len(odd) else words.filter(pc.invert(pc.or_(yes, no)))
    if len(odd):
        raise UserError(
            f"{where} holds the item {cells.short(odd[0])}, which does not end in '{mark}0' or '{mark}1': correct it, "
            'or data.impressions.mark and separator'
        )
    flat = pc.list_flatten(parts)
    item = pc.utf8_trim_whitespace(flat.take(pa.array(np.arange(0, len(flat), 2))))
    return item, yes.to_numpy(zero_copy_only=False)


def _clicked(shown: cells.Lists, told: cells.Lists, where: tuple[str, str], nulls) -> tuple[np.ndarray, int, str]:
    """Which items shown were clicked, bool [M]; how many that were clicked were not shown; one of them in words.

    Items are compared by the text of what they mean, so a 7 is one thing as int32, int64 or text.
    """
    (words, a), (clicks, b) = (_meant(lists.values, name, nulls) for lists, name in zip((shown, told), where))
    both = pa.concat_arrays([words, clicks]).dictionary_encode().indices
    code = np.append(both.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), -1)
    a, b = code[np.where(a < 0, -1, a)], code[np.where(b < 0, -1, b + len(words))]
    rows, many = np.arange(len(shown.lengths)), len(both) + 1
    of_a, of_b = np.repeat(rows, shown.lengths) * many + a, np.repeat(rows, told.lengths) * many + b
    wanted, first = np.unique(of_b[b >= 0], return_index=True)  # a pair of row and item
    if not len(wanted):
        return np.zeros(len(a), bool), 0, ''
    place = np.minimum(np.searchsorted(wanted, of_a), len(wanted) - 1)
    hit = (a >= 0) & (wanted[place] == of_a)
    lost = np.ones(len(wanted), bool)
    lost[place[hit]] = False
    if not lost.any():
        return hit, 0, ''
    at = int(np.flatnonzero(b >= 0)[first[np.flatnonzero(lost)[0]]])
    there = cells.short(shown.values[0]) if len(shown.values) else 'nothing'
    return hit, int(lost.sum()), f' ({cells.short(told.values[at])} was clicked, {there} was shown)'


def _meant(column: pa.Array, where: str, nulls) -> tuple[pa.Array, np.ndarray]:
    """Different values as the text that categories compare, string [K], and which each is, int64 [M], -1 for none."""
    if not pa.types.is_dictionary(column.type):
        if pa.types.is_nested(column.type):
            raise UserError(f'{where} holds lists of {column.type}, which are no items: correct data.impressions')
        column = column.dictionary_encode()
    words = values.category(column.dictionary, where, nulls).cast(pa.string())
    return words, column.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)


def _beside(beside: cells.Lists, shown: cells.Lists, where: str, items: str, first_row: int) -> pa.Array:
    """The values of lists that go with the items shown [M]; a list that is missing has missing values."""
    odd = np.flatnonzero((beside.lengths != shown.lengths) & ~beside.missing)
    if len(odd):
        row = int(odd[0])
        here, there = (_row(lists, row) for lists in (beside, shown))
        raise UserError(
            f"{where} holds {int(beside.lengths[row])} values in row {first_row + row + 1}, {here}, where '{items}' "
            f'holds {int(shown.lengths[row])}, {there}: write one for each item, or take it out of '
            'data.impressions.parallel'
        )
    if (beside.lengths == shown.lengths).all():
        return beside.values
    gone = np.repeat(beside.missing, shown.lengths)
    return beside.values.take(pa.array(np.cumsum(~gone) - 1, mask=gone))


def _row(lists: cells.Lists, row: int) -> str:
    start = int(lists.lengths[:row].sum())
    return cells.short(lists.values.slice(start, int(lists.lengths[row])).to_pylist())


def _repeated(column: pa.Array, index: pa.Array, lengths: np.ndarray) -> pa.Array:
    """A column at some rows; text becomes a dictionary where it would outgrow what one array holds."""
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        size = pc.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        if int(size @ lengths) > MOST_BYTES:
            column = column.dictionary_encode()
    return column.take(index)
