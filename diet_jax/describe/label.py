"""Which column is the label: 0 and 1, a rating with a threshold, actions of which some count; or that there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError
from diet_jax.describe import words

LEVELS = 21  # of a rating, at most: half stars to ten


class Label(NamedTuple):
    """The label of a log; `column` is '' where every row is a click."""

    column: str
    sure: bool
    why: str
    values: np.ndarray | None  # float32 [N], 0 and 1, nan where it is null; None for clicks only
    threshold: float | None = None
    positive: tuple[str, ...] = ()


def label(columns: Mapping[str, pa.Array], header: bool, taken: Sequence[str]) -> Label:
    """The label of a log. taken: columns that are something else, as the time.

    Raises:
      UserError: the only label is 0 in every row.
    """
    left = {name: values for name, values in columns.items() if name not in taken}
    counted = {name: _counts(values) for name, values in left.items()}
    binary = {name: found for name, found in counted.items() if found and set(found) == {0, 1}}
    only = _only(left) if header else {}
    for tier, names in enumerate(words.LABELS if header else ()):
        if (
            tier == 2
            and 0 in only
            and not any(found and words.has(name, words.RATINGS) for name, found in counted.items())
        ):
            raise UserError(
                f"column '{only[0]}' is 0 in every row, so there is no click to learn from: fetch a log with clicks, "
                'or take the column out where it is no label'
            )
        for name in binary:
            if words.snake(name) in names if tier == 0 else words.has(name, names):
                rate = binary[name][1] / sum(binary[name].values())
                rivals = len(binary) - 1
                why = f'0 and 1, {rate:.3f} of them 1' + f'; {rivals} more such columns' * (rivals > 0)
                return Label(name, tier == 0 or (tier == 1 and not rivals), why, _numbers(left[name]))
    for name, found in counted.items():
        named = words.has(name, words.RATINGS) or words.snake(name) in words.LABELS[0]
        if not found or set(found) <= {0, 1} or not (named if header else _stars(found)):
            continue
        threshold = _middle(found)
        numbers = _numbers(left[name])
        low, high = min(found), max(found)
        share = float(np.nanmean(numbers >= threshold))
        why = f'values {low:g} to {high:g}: {threshold:g} or more, {share:.3f} of them, is a 1'
        chosen = np.where(np.isnan(numbers), np.nan, numbers >= threshold).astype(np.float32)
        return Label(name, False, why, chosen, threshold=float(threshold))
    for name, values in left.items():
        named = not header or words.snake(name) in words.ACTIONS | words.LABELS[0]
        if named and (found := _actions(name, values)):
            return found
    if binary and header and len(binary) == 1:
        (name,) = binary
        return Label(name, False, 'the only column of 0 and 1', _numbers(left[name]))
    if binary and not header:
        name = next(iter(binary))
        return Label(name, False, 'the first column of 0 and 1', _numbers(left[name]))
    if 1 in only and (missing := left[only[1]].null_count):
        raise UserError(
            f"column '{only[1]}' is 1 or missing (in {missing} of {len(left[only[1]])} rows looked at), and rows "
            'without a label are left out: write 0 where nothing was clicked, or remove those rows'
        )
    why = f"column '{only[1]}' is 1 in every row" if 1 in only else 'no column looks like a label'
    return Label('', False, f'{why}: every row is taken for a click, and a negative drawn for it', None)


def _only(columns: Mapping[str, pa.Array]) -> dict[int, str]:
    """{0 or 1: a column named as the label that holds nothing else}."""
    found = {}
    for name, values in columns.items():
        if words.snake(name) in words.LABELS[0] and _whole_or_flag(values):
            ends = pc.min_max(values.cast(pa.int64()))
            if ends['min'].as_py() == ends['max'].as_py():
                found[ends['min'].as_py()] = name
    return found


def _whole_or_flag(values: pa.Array) -> bool:
    return pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)


def _counts(values: pa.Array) -> dict[float, int] | None:
    """Number -> how often, of a column with few numbers; None of others."""
    kind = values.type
    if not (_whole_or_flag(values) or pa.types.is_floating(kind)):
        return None
    counts = pc.value_counts(values.drop_null())
    if not 2 <= len(counts) <= LEVELS:
        return None
    return {float(pair['values']): pair['counts'] for pair in counts.to_pylist()}


def _numbers(values: pa.Array) -> np.ndarray:
    values = values.cast(pa.int8()) if pa.types.is_boolean(values.type) else values
    return values.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)


def _stars(found: dict[float, int]) -> bool:
    """Whether values are 1 to 5, by halves at most, or 1 to 10."""
    return (
        3 <= len(found) and max(found) in (5, 10) and min(found) in (0, 0.5, 1) and all(x * 2 % 1 == 0 for x in found)
    )


def _middle(found: dict[float, int]) -> float:
    """The value from which on a share as near to a half as can be lies."""
    total, levels = sum(found.values()), sorted(found)[1:]
    shares = {level: sum(n for value, n in found.items() if value >= level) / total for level in levels}
    return min(levels, key=lambda level: abs(shares[level] - 0.5))


def _actions(name: str, values: pa.Array) -> Label | None:
    """Words of which some count: what is more than seeing, or says yes; of a column named as a label the rarest."""
    if not pa.types.is_string(values.type):
        return None
    counts = {pair['values']: pair['counts'] for pair in pc.value_counts(values.drop_null()).to_pylist()}
    seen = {value for value in counts if words.snake(value) in words.SEEN}
    if not 2 <= len(counts) <= LEVELS or len(seen) == len(counts):
        return None
    if not seen and words.snake(name) not in words.LABELS[0]:
        return None
    yes = {value for value in counts if words.snake(value) in words.YES | (set() if seen else words.CHOSEN)}
    chosen, guessed = yes or (set(counts) - seen if seen else set()), ''
    if not chosen:
        chosen, guessed = {min(counts, key=lambda value: (counts[value], value))}, '; by being the rarest'
    positive = tuple(sorted(chosen))
    hit = pc.is_in(values, value_set=pa.array(positive)).cast(pa.float32())
    hit = pc.if_else(pc.is_null(values), pa.scalar(None, pa.float32()), hit)
    why = f'{", ".join(positive)} is a 1, {", ".join(sorted(set(counts) - chosen))} a 0{guessed}'
    return Label(name, False, why, hit.to_numpy(zero_copy_only=False), positive=positive)
