"""Figures of one column: how many values, how many missing, what it tells of the label alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.stats import metrics

ROWS = 200_000  # that an AUC is taken from
BINS = 64  # of numbers, for the AUC
PRIOR = 5.0  # rows of the mean that a value's own mean is shrunk by


class Measured(NamedTuple):
    """A column of a sample."""

    name: str
    table: str  # '' of the log, else the side table's file
    kind: str  # 'int', 'float', 'inexact', 'bool', 'text', 'time', 'nested'
    rows: int  # sampled
    values: int  # distinct ones
    missing: float  # share of the rows
    most: float  # share of the most frequent value
    example: str
    length: float  # mean characters of a text
    parts: str | None  # of first values: what separates the values of a cell; None where a cell is one
    low: float
    high: float
    auc: float  # of the column alone on held-out rows, nan where there is no label


def measured(name: str, table: str, values: pa.Array, auc: float = float('nan'), parts: str | None = None) -> Measured:
    """The figures of a column of a sample."""
    rows, kind = len(values), kind_of(values)
    found = dict(name=name, table=table, kind=kind, rows=rows, missing=values.null_count / max(rows, 1), auc=auc)
    found['parts'] = parts
    nothing = dict(values=0, most=0.0, example='', length=0.0, low=np.nan, high=np.nan)
    if kind == 'nested' or values.null_count == rows:
        example = str(values[0].as_py())[:20] if rows else ''
        return Measured(**{**found, **nothing, 'example': example})
    counts = pc.value_counts(values.drop_null())
    most = int(pc.max(counts.field('counts')).as_py())
    distinct, low, high, length = counts.field('values'), np.nan, np.nan, 0.0
    if kind in ('int', 'float'):
        ends = pc.min_max(distinct)
        low, high = float(ends['min'].as_py()), float(ends['max'].as_py())
    if kind == 'text':
        length = float(pc.mean(pc.utf8_length(distinct)).as_py())
    example = str(distinct[int(pc.index(counts.field('counts'), most).as_py())].as_py())
    return Measured(
        **found,
        values=len(distinct),
        most=most / rows,
        example=example if len(example) <= 20 else example[:19] + '…',
        length=length,
        low=low,
        high=high,
    )


def kind_of(values: pa.Array) -> str:
    """What a column is, as `typed` found it; floats that are whole were too large to be exact."""
    kind = values.type
    if pa.types.is_boolean(kind):
        return 'bool'
    if pa.types.is_integer(kind):
        return 'int'
    if pa.types.is_floating(kind):
        numbers = values.filter(pc.is_finite(values))
        whole = len(numbers) and pc.all(pc.equal(numbers, pc.floor(numbers))).as_py()
        return 'inexact' if whole else 'float'
    if pa.types.is_temporal(kind):
        return 'time'
    return 'text' if pa.types.is_string(kind) else 'nested'


def codes(values: pa.Array) -> np.ndarray:
    """int32 [N]: a number for every value, 0 for a missing one."""
    coded = values.dictionary_encode() if not pa.types.is_dictionary(values.type) else values
    return coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32) + 1


def bins(values: pa.Array) -> np.ndarray:
    """int32 [N]: the quantile of every number, 0 for a missing one."""
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    filled = numbers[~np.isnan(numbers)]
    bounds = np.unique(np.quantile(filled, np.linspace(0, 1, BINS + 1)[1:-1])) if len(filled) else np.zeros(0)
    return np.where(np.isnan(numbers), 0, np.searchsorted(bounds, numbers, side='right') + 1).astype(np.int32)


def auc_alone(values: pa.Array, label: np.ndarray, held_out: np.ndarray) -> float:
    """AUC of the label's mean by value, over the rows that are not held out, on those that are.

    The mean of a value of n rows is shrunk towards that of all as if by 5 rows more of it. Numbers with many values are
    taken by quantile too, and the better of the two counts. The definition is ours.

    Args: values: [N]; label: float32 [N] of 0 and 1; held_out: bool [N].
    """
    found = [_auc(codes(values), label, held_out)]
    if kind_of(values) in ('int', 'float') and len(pc.unique(values)) > 2 * BINS:
        found.append(_auc(bins(values), label, held_out))
    return max(found)


def _auc(code: np.ndarray, label: np.ndarray, held_out: np.ndarray) -> float:
    known = ~held_out
    mean = float(label[known].mean())
    size = int(code.max()) + 1
    rows = np.bincount(code[known], minlength=size)
    hits = np.bincount(code[known], label[known], minlength=size)
    means = (hits + PRIOR * mean) / (rows + PRIOR)
    return metrics.auc(means[code[held_out]].astype(np.float32), label[held_out])
