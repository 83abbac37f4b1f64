"""Values as numbers: their places in a codebook; in lists at the end of a row of fixed width (`base.layout`)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.artifact.format import CodedField
from diet_jax.base.layout import PAD

Known = tuple[pa.Array, np.ndarray]  # a field's n values, and i32[n] their codes


def number(column: pa.Array, known: pa.Array) -> np.ndarray:
    """i32[N]: the place of each value among n known ones; n where it is null, n + 1 where it is not known.

    >>> number(pa.array([6, None, 7]), pa.array([5, 6])).tolist()
    [1, 2, 3]
    """
    if column.type != known.type:  # one of them holds nothing
        column, known = (column, known.cast(column.type)) if not len(known) else (column.cast(known.type), known)
    place = pc.index_in(column, value_set=known).fill_null(len(known) + 1).to_numpy(zero_copy_only=False)
    return np.where(missing(column), len(known), place).astype(np.int32)


def missing(column: pa.Array) -> np.ndarray:
    """bool[N]: where a column is null."""
    return column.is_null().to_numpy(zero_copy_only=False)


def owner_of(field: CodedField) -> str:
    """The field whose codebook a list's values are in."""
    return field.shares or field.name


def lengths(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """i64[N]: of the lists of a column; a null one is empty."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    sizes = column.value_lengths().fill_null(0)
    return sizes.to_numpy().astype(np.int64)


def right(flat: np.ndarray, sizes: np.ndarray, width: int, before: float = PAD, dtype=np.int32) -> np.ndarray:
    """Values of lists, one list after the other, as [N, width]: the last `width` of each at the end, PAD before.

    Args: before: what stands before them; dtype: of the result.

    >>> right(np.array([1, 2, 3]), np.array([2, 0, 1]), 2).tolist()
    [[1, 2], [-1, -1], [-1, 3]]
    """
    out = np.full((len(sizes), width), before, dtype)
    row = np.repeat(np.arange(len(sizes)), sizes)
    place = width - np.repeat(np.cumsum(sizes), sizes) + np.arange(len(flat))  # from the end of its own list
    out[row[place >= 0], place[place >= 0]] = flat[place >= 0]
    return out


def padded(column: pa.Array | pa.ChunkedArray, width: int) -> np.ndarray:
    """i32[N, width] of a column of lists of integers."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return right(column.flatten().to_numpy(zero_copy_only=False), lengths(column), width)


def list_weights(column: pa.Array | pa.ChunkedArray, width: int) -> np.ndarray:
    """f32[N, width] of a column of lists of weights, 0 before the first."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return right(column.flatten().to_numpy(zero_copy_only=False), lengths(column), width, 0, np.float32)


def list_numbers(column: pa.Array | pa.ChunkedArray, width: int, known: pa.Array) -> np.ndarray:
    """i32[N, width]: places among known values, as `number`."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return right(number(column.flatten(), known), lengths(column), width)
