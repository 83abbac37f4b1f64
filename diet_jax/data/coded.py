"""A column as codes of its different values, which are numbered as the files show them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.data import values


class Words:
    """The different values of one column of a log, over all its files and side tables; what it is, is decided last.

    Args: name: of the column; nulls: words that mean missing; verbatim: text is taken as it is; listed: its cells are
      lists.
    """

    def __init__(self, name: str, nulls: Iterable[str], verbatim: bool, listed: bool = False):
        self.name, self.nulls, self.verbatim, self.listed = name, tuple(nulls), verbatim, listed
        self.count = 0
        self._known: dict[pa.DataType, tuple[pa.Array, np.ndarray]] = {}  # type -> values of it, and their codes
        self._seen: values.Seen = {}

    def add(self, array: pa.Array, where: str) -> pa.Array:
        """int32 [N]: the codes of a piece of a column; null where it is missing.

        Args: where: "file: column 'x'", for messages.
        Raises:
          UserError: a value that is no category.
        """
        if pa.types.is_nested(array.type) or pa.types.is_null(array.type):
            array = values.category(array, where, self.nulls, self.verbatim)
        coded = coded_array(array)
        words = values.category(coded.dictionary, where, self.nulls, self.verbatim)
        known, codes = self._known.get(words.type, (pa.array([], words.type), np.zeros(0, np.int32)))
        place = pc.index_in(words, value_set=known)
        fresh = pc.unique(words.filter(pc.and_(pc.is_null(place), pc.is_valid(words))))
        if len(fresh):
            values.seen_in(fresh, where, self._seen)
            known = pa.concat_arrays([known, fresh])
            codes = np.append(codes, np.arange(self.count, self.count + len(fresh), dtype=np.int32))
            self._known[words.type] = known, codes
            self.count += len(fresh)
            place = pc.index_in(words, value_set=known)
        table = np.append(codes, np.int32(-1))[place.fill_null(len(codes)).to_numpy(zero_copy_only=False)]
        return pa.array(table, mask=table < 0).take(coded.indices)

    def decide(self, known: str | None) -> str | None:
        """What the column is: `values.kind_of`; known: what it was when earlier blocks were prepared."""
        return values.kind_of(self._seen, known, self.name, self.verbatim, self.listed)

    def values(self, kind: str | None) -> pa.Array:
        """Every code's value, in the type of the kind: [count]; values may be there twice, as 5 and '5' were."""
        target = values.KINDS[kind or 'int64']
        parts = [values.as_kind(known, kind) for known, _ in self._known.values()]
        order = np.concatenate([np.zeros(0, np.int32), *(codes for _, codes in self._known.values())])
        place = np.empty(self.count, np.int64)
        place[order] = np.arange(self.count)
        return pa.concat_arrays([pa.array([], target), *parts]).take(pa.array(place))


def coded_array(array: pa.Array) -> pa.DictionaryArray:
    """A column as codes of its values; one that is coded stays as it is."""
    return array if pa.types.is_dictionary(array.type) else array.dictionary_encode()


def recoded(array: pa.Array) -> pa.DictionaryArray:
    """A column as codes of just those values that it holds, in order of first appearance."""
    coded = coded_array(array)
    codes = coded.indices.dictionary_encode()
    return pa.DictionaryArray.from_arrays(codes.indices, coded.dictionary.take(codes.dictionary))


def plain_array(array: pa.Array) -> pa.Array:
    """A column as its values."""
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
