"""Columns whose cells are lists, as fields: `data.lists`.

A list keeps `max_len` values, its last or its first ones. A missing list is an empty one, and a value that is missing,
or a null word, is dropped before the list is cut. Values mean what those of other categories do; those of a list that
shares a field are read together with that field's.

Where a second column says what the values of a list weigh (`data.lists.<name>.weights`), a list of both is a list of
structs {value, weight} on its way to the blocks. A value of weight 0 is dropped as a missing one is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError
from diet_jax.data import cells, values
from diet_jax.data.coded import Words, recoded
from diet_jax.data.hashing import mix
from diet_jax.data.vocabulary import Vocabulary

LEAST, MOST = 1e-30, 1e30  # weights of values: sums of float32 are right between them


class Text(NamedTuple):
    """What was seen of a list that is text."""

    where: str  # "file: column 'x'"
    example: str
    separated: bool  # whether a cell has the separator, or is a list as it is printed


class Beside(NamedTuple):
    """Rows of a column of weights."""

    array: pa.Array
    where: str  # "file: column 'x'", for messages
    csv: Mapping | None  # how the file writes numbers as text


class Flat(NamedTuple):
    """Lists [N], one after the other."""

    values: pa.Array  # [M]
    lengths: np.ndarray  # int64 [N], 0 of a null
    weights: pa.Array | None  # float32 [M], where they have weights


def flat(lists: pa.ListArray) -> Flat:
    lengths = pc.list_value_length(lists).fill_null(0).cast(pa.int64()).to_numpy(zero_copy_only=False)
    of = lists.flatten()
    return Flat(*((of.field(0), lengths, of.field(1)) if pa.types.is_struct(of.type) else (of, lengths, None)))


def type_of(values: pa.DataType, weighted: bool) -> pa.DataType:
    """That of lists of such values."""
    return pa.list_(pa.struct([('value', values), ('weight', pa.float32())]) if weighted else values)


def together(lengths: np.ndarray, of: pa.Array | np.ndarray, weights: pa.Array | None = None) -> pa.ListArray:
    """Lists [N] of values that lie one after the other.

    >>> together(np.array([2, 0, 1]), pa.array([1, 2, 3])).to_pylist()
    [[1, 2], [], [3]]
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if offsets[-1] >= 2**31:
        raise UserError(
            f'lists of {len(lengths)} rows hold {offsets[-1]} values, more than 2**31: make blocks shorter '
            '(data.block), or max_len smaller'
        )
    of = of if isinstance(of, pa.Array) else pa.array(of)
    if weights is not None:
        of = pa.StructArray.from_arrays([of, weights], ['value', 'weight'])
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), of)


def of_codes(codes: pa.ListArray, words: pa.Array) -> pa.ListArray:
    """Lists of codes as lists of values, which are coded still. words: the value of every code."""
    found = flat(codes)
    return together(found.lengths, pa.DictionaryArray.from_arrays(found.values, words), found.weights)


def nothing(rows: int, weighted: bool) -> pa.ListArray:
    """Empty lists of codes."""
    return pa.array([[]] * rows, type_of(pa.int32(), weighted))


def encoded(vocabulary: Vocabulary, f: int, lists: pa.ListArray, where: str) -> pa.ListArray:
    """Lists of coded values of field f as lists of slots: list<int32> [N]."""
    found = flat(lists)
    return together(found.lengths, vocabulary.encode(f, recoded(found.values), where), found.weights)


def hashes(lists: pa.ListArray) -> np.ndarray:
    """uint64 [N], of lists of slots: of the values, their order and what they weigh."""
    found, lengths, weights = flat(lists)
    ends = np.cumsum(lengths)
    place = np.arange(len(found)) - np.repeat(ends - lengths, lengths)
    bits = mix(found.to_numpy().astype(np.uint64) ^ (place.astype(np.uint64) << np.uint64(32)))
    if weights is not None:
        bits = mix(bits ^ weights.to_numpy().view(np.uint32).astype(np.uint64))
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(bits, dtype=np.uint64)])
    return mix(total[ends] - total[ends - lengths] + lengths.astype(np.uint64))


class Reader:
    """Reads one column of lists, of all files.

    Args: name: of the column; how: checked `data.lists[name]`; nulls: words that mean missing.
    """

    def __init__(self, name: str, how: Mapping, nulls):
        self.name, self.how, self.nulls = name, how, tuple(nulls)
        self.weights: str = how.get('weights', '')  # which column says what values weigh; none in a memory of before
        self.text: Text | None = None

    def codes(self, array: pa.Array, words: Words, where: str, weights: Beside | None = None) -> pa.ListArray:
        """list<int32> [N]: the codes of a piece of the column; with weights, of structs (`type_of`).

        Args: words: of the list's values; where: "file: column 'x'", for messages; weights: the same rows of the column
          of weights, where there is one.
        Raises:
          UserError: what is no list, or holds what is no category, or no weight.
        """
        array = cells.plain_type(array, where)
        self._check(array, where)
        found = cells.lists_of(array, self.how['separator'], self.nulls, where)
        if values.is_text(array.type):
            self._look(array, found.lengths, where)
        of = found.values
        if pa.types.is_floating(of.type):
            way_out = f"lists hold ids or words; take '{self.name}' out of data.lists"
            of = values.whole_numbers(of.cast(pa.float64()), where, way_out)
        heavy = None if weights is None else self._weights(weights, found, where)
        if heavy is not None:  # before they are words: a value that weighs nothing is none
            of = of.take(pa.array(np.arange(len(of)), mask=heavy.fill_null(1).to_numpy() == 0))
        codes = words.add(of, where)
        there = codes.is_valid().to_numpy(zero_copy_only=False)
        if heavy is not None and heavy.filter(pa.array(there)).null_count:
            raise UserError(
                f'{weights.where} does not say what a value of {where} weighs: fill it in, or take the value out '
                'of its list'
            )
        ends = np.concatenate([[0], np.cumsum(there)])[np.concatenate([[0], np.cumsum(found.lengths)])]
        kept, lengths = np.flatnonzero(there), np.diff(ends)
        if (lengths > self.how['max_len']).any():
            place = np.arange(len(kept)) - np.repeat(ends[:-1], lengths)
            most, first = self.how['max_len'], self.how['keep'] == 'first'
            kept = kept[place < most if first else place >= np.repeat(lengths - most, lengths)]
            lengths = np.minimum(lengths, most)
        kept = pa.array(kept)
        return together(lengths, codes.take(kept), None if heavy is None else heavy.take(kept))

    def _weights(self, column: Beside, lists: cells.Lists, where: str) -> pa.Array:
        """float32 [M], what the values of all lists weigh; null where it is not said."""
        key, beside = f'data.lists.{self.name}.weights', column.where
        array = cells.plain_type(column.array, beside)
        if not (cells.is_list(array.type) or values.is_text(array.type) or pa.types.is_null(array.type)):
            raise UserError(f"{beside} is of type {array.type}, and no list beside '{self.name}': correct {key}")
        if len(odd := self._unseparated(array)):
            raise UserError(
                f"{beside} holds {cells.short(odd[0])}, text and no list: write weights as '{self.name}' is written, "
                f'or correct {key}'
            )
        found = cells.lists_of(array, self.how['separator'], self.nulls, beside)
        unlike = np.flatnonzero(found.lengths != lists.lengths)
        if len(unlike):
            n, of = found.lengths[unlike[0]], lists.lengths[unlike[0]]
            raise UserError(
                f'{beside} has {n} weights for the {of} values of a list in {where} ({cells.short(array[unlike[0]])}): '
                f'write one for each, or take {key} out'
            )
        found = values.numbers(found.values, beside, key, column.csv, self.nulls)
        small = pc.and_(pc.less(found, LEAST), pc.not_equal(found, 0.0))
        odd = found.filter(pc.or_(small, pc.greater(found, MOST)))
        if len(odd):
            raise UserError(
                f'{beside} holds {odd[0].as_py():g}, which no value can weigh: write 0, or from {LEAST:g} to {MOST:g}'
            )
        return found.cast(pa.float32())

    def _unseparated(self, array: pa.Array) -> pa.Array:
        """Words of text that is no printed list, where nothing stands between values."""
        if self.how['separator'] or not values.is_text(array.type):
            return pa.array([], pa.string())
        words = array.dictionary if pa.types.is_dictionary(array.type) else array
        words = values.without_null_words(pc.utf8_trim_whitespace(words.cast(pa.string())), [*self.nulls, ''])
        return words.filter(pc.and_(pc.is_valid(words), pa.array(~cells.is_printed(words))))

    def _check(self, array: pa.Array, where: str) -> None:
        kind = array.type
        if cells.is_list(kind):
            if pa.types.is_nested(kind.value_type):
                raise UserError(f"{where} holds lists of {kind.value_type}: take '{self.name}' out of data.lists")
        elif not values.is_text(kind) and not pa.types.is_null(kind):
            shown = array.drop_null()
            value = f' and holds {cells.short(shown[0])}' if len(shown) else ''
            raise UserError(
                f'{where} is of type {kind}{value}, and no list: name it in data.fields or data.numeric instead'
            )
        elif len(odd := self._unseparated(array)):
            raise UserError(
                f'{where} holds {cells.short(odd[0])}, text and no list: data.lists.{self.name}.separator must be '
                "what stands between two values, as '|'"
            )

    def _look(self, array: pa.Array, lengths: np.ndarray, where: str) -> None:
        """Notes whether text is separated."""
        if self.text is not None and self.text.separated:
            return
        words = array.dictionary if pa.types.is_dictionary(array.type) else array
        words = values.without_null_words(
            pc.utf8_trim_whitespace(words.cast(pa.string())), [*self.nulls, '']
        ).drop_null()
        if not len(words):
            return
        separated = bool((lengths > 1).any() or cells.is_printed(words).any())
        if self.how['separator'].strip():
            separated = separated or bool(pc.any(pc.match_substring(words, self.how['separator'])).as_py())
        before = self.text or Text(where, cells.short(words[0]), False)
        self.text = before._replace(separated=separated)

    def check_separated(self) -> None:
        """Raises UserError where the column, of all files, is text that has the separator nowhere."""
        if self.text is not None and not self.text.separated:
            raise UserError(
                f'{self.text.where} has the separator {self.how["separator"]!r} in no row, as {self.text.example}: '
                f'correct data.lists.{self.name}.separator, or name it in data.fields where a cell is one value'
            )
