"""Hashes of rows, column by column: to find repeated rows, and cached rows that the log has changed."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from diet_jax.base.errors import UserError
from diet_jax.data import values


def mix(values: np.ndarray) -> np.ndarray:
    """A good 64-bit hash of each uint64 (splitmix64's finalizer)."""
    x = values.astype(np.uint64, copy=True)
    x += np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_rows(columns: Mapping[str, pa.Array], nulls: Iterable[str]) -> np.ndarray:
    """uint64 [N]: equal for rows that are equal in every column, different otherwise (but for collisions).

    Columns count by their name, whatever their order; values by what they mean, whatever the format: 1012.0 is 1012,
    and a column that a file does not have is one whose value is missing.
    """
    total = np.zeros(len(next(iter(columns.values()))), np.uint64)
    for name, column in columns.items():
        salt = mix(_hashed([name]))
        bits = mix(hash_values(column, nulls) ^ salt)
        missing = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else False
        total += np.where(missing | (bits == mix(_NOTHING ^ salt)), np.uint64(0), bits)
    return mix(total)


_NOTHING = np.zeros(1, np.uint64)  # of a null word


def hash_values(column: pa.Array, nulls: Iterable[str] = ()) -> np.ndarray:
    """uint64 [N], by the text of what a value means: the same whether a column was read as numbers or as text."""
    if pa.types.is_nested(column.type):
        words = [json.dumps(value, sort_keys=True, default=str) for value in column.to_pylist()]
        return _hashed(words)
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    words = coded.dictionary
    if pa.types.is_floating(words.type):  # whole numbers as such, others by their shortest text
        words = pa.array([_number(x) for x in words.to_pylist()], pa.string())
    elif pa.types.is_boolean(words.type):
        words = words.cast(pa.string())
    else:
        try:
            words = values.category(words, '', nulls).cast(pa.string())
        except UserError:  # no category, and no field: any column is compared
            words = pa.array([None if x is None else repr(x) for x in words.to_pylist()], pa.string())
        words = pa.array([_plain(word) for word in words.to_pylist()], pa.string())
    table = np.append(_hashed(words.to_pylist()), np.uint64(0))
    return table[coded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)]


def _number(x: float | None) -> str | None:
    if x is None or x != x:
        return None
    return str(int(x)) if abs(x) < 2**53 and x == int(x) else repr(x)


def _plain(word: str | None) -> str | None:
    """A number with a fraction as Parquet would hold it: 0.50 is 0.5."""
    if word is None or not re.fullmatch(r'-?[0-9]+\.[0-9]+', word):
        return word
    return _number(float(word))


def _hashed(words: Iterable[str | None]) -> np.ndarray:
    """uint64 [n]; 0 of None."""
    digests = [b'\0' * 8 if w is None else hashlib.blake2b(w.encode(), digest_size=8).digest() for w in words]
    return np.frombuffer(b''.join(digests), np.uint64)
