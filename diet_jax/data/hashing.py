"""Hashes of rows, column by column: to find repeated rows, and cached rows that the log has changed."""

import hashlib

import numpy as np
import pyarrow as pa

from diet_jax.base.errors import UserError
from diet_jax.data import files


def mix(values: np.ndarray) -> np.ndarray:
    """A good 64-bit hash of each uint64 (splitmix64's finalizer)."""
    x = values.astype(np.uint64, copy=True)
    x += np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_rows(columns: list[pa.Array]) -> np.ndarray:
    """uint64 [N]: equal for rows that are equal in every column, different otherwise (but for collisions)."""
    total = None
    for column in columns:
        try:
            numeric = files.categories(column, '')
        except UserError:
            numeric = column
        if pa.types.is_integer(numeric.type):
            bits = numeric.fill_null(-(2**63) + 1).to_numpy(zero_copy_only=False).view(np.uint64)
        elif pa.types.is_floating(numeric.type):
            bits = numeric.cast(pa.float64()).fill_null(float('nan')).to_numpy(zero_copy_only=False).view(np.uint64)
        else:
            bits = _hash_strings(numeric)
        total = mix(bits) if total is None else mix(total * np.uint64(3) ^ mix(bits))
    return total


def _hash_strings(column: pa.Array) -> np.ndarray:
    coded = column.cast(pa.string()).dictionary_encode()
    words = [hashlib.blake2b(word.encode(), digest_size=8).digest() for word in coded.dictionary.to_pylist()]
    table = np.frombuffer(b''.join(words) + b'\0' * 8, np.uint64)
    return table[coded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)]
