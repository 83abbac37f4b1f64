"""Bins of a numeric field: boundaries are learned from the first block that has something to teach, and never move.

A block's boundaries are quantiles of its values, but a value that alone fills more than one quantile bin has a bin of
its own, and the other values share those that are left. Three blocks may teach:

  - where all values so far were one, they lie in one bin;
  - the first block whose values differ teaches boundaries. Where fewer than 2 x bins of its rows differ from the most
    frequent value there is too little to learn from: three bins at most;
  - the first block with that many rows then teaches all of them, if that makes more bins.

What a later block teaches makes new bins, whose numbers follow those that there are: a bin that has rows never changes
its meaning. `bounds` then begins with LOWEST once for each earlier bin: bin b still holds bounds[b-1] <= x < bounds[b],
and no value falls into an earlier bin any more. The definition is ours.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from diet_jax.data.fields import Bounds, Field

LOWEST = float(np.finfo(np.float64).min)  # no number is below it
TINY = float(np.finfo(np.float64).tiny)  # where denormal numbers are taken for 0, it is still more than 0
FEW = 3  # bins, where there is little to learn from


def bin_of(column: pa.Array, bounds: Bounds) -> np.ndarray:
    """int64[N]: bin b holds bounds[b-1] <= x < bounds[b]; infinite values lie in the outermost bins, null anywhere.

    >>> bin_of(pa.array([-float('inf'), 0.0, 2.0]), (0.0, 1.0)).tolist()
    [0, 1, 2]
    """
    values = np.maximum(column.to_numpy(zero_copy_only=False), LOWEST)
    return np.searchsorted(np.asarray(bounds, np.float64), values, side='right')


def learn(field: Field, block: int, column: pa.Array, have: int) -> tuple[Field, int]:
    """What a block teaches a field.

    Args: column: float64[N], its values in block `block`; have: bins that the field has.
    Returns: (the field, how many bins are new).
    """
    if field.open:
        values = column.drop_null().to_numpy(zero_copy_only=False)
        values = np.sort(values[np.isfinite(values)])
        own, enough = block_bounds(values, field.bins)
        if (enough or not field.learned) and len(own) > sum(bound > LOWEST for bound in field.bounds):
            learned = (*field.learned, (block, (LOWEST,) * have + own))
            return field._replace(learned=learned, open=not enough), len(own) + 1
    return field, int(not have and column.null_count < len(column))


def block_bounds(values: np.ndarray, bins: int) -> tuple[Bounds, bool]:
    """Inner boundaries of at most `bins` bins, and whether the values are enough to learn them from.

    Args: values: float64[N], sorted and finite.

    >>> block_bounds(np.arange(100.0), 4)
    ((24.75, 49.5, 74.25), True)
    >>> block_bounds(np.repeat([0.0, 5.0, 9.0], [90, 5, 5]), 3)  # 0 and less, and the others by their median
    ((2.2250738585072014e-308, 7.0), True)
    >>> block_bounds(np.repeat([0.0, 5.0], [90, 1]), 8)[1]
    False
    """
    most = np.unique(values, return_counts=True)[1].max(initial=0)
    enough = bool(len(values) - most >= 2 * bins)
    return tuple(sorted(set(_cuts(values, bins if enough else min(bins, FEW))))), enough


def _cuts(values: np.ndarray, bins: int) -> list[float]:
    """As `block_bounds`: the most frequent value apart where it is too heavy, then each side of it alike."""
    known, counts = np.unique(values, return_counts=True)
    if bins < 2 or len(known) < 2:
        return []
    heaviest = int(counts.argmax())
    value = float(known[heaviest])
    below, above = values[values < value], values[values > value]
    sides = (len(below) > 0) + (len(above) > 0)
    if counts[heaviest] * bins <= len(values) or bins - 1 < sides:
        with np.errstate(over='ignore', invalid='ignore'):  # between numbers that are 1e308 apart: left out
            cuts = np.quantile(values, np.arange(1, bins) / bins)
        return [float(cut) for cut in cuts if values[0] < cut <= values[-1]]
    left, least = bins - 1, int(len(below) > 0)
    if sides == 2:
        least = min(max(round(left * len(below) / (len(below) + len(above))), 1), left - 1)
    elif len(below):
        least = left
    around = [value] * (len(below) > 0) + [just_above(value)] * (len(above) > 0)
    return [*_cuts(below, least), *around, *_cuts(above, left - least)]


def just_above(value: float) -> float:
    """The boundary between a value and all that is more."""
    following = float(np.nextafter(value, np.inf))
    return max(following, TINY) if value >= 0 else following


def names(field: Field) -> list[str]:
    """Every bin of a field in words, the earlier ones among them.

    >>> names(Field('x', 'numeric', 4, ((0, (TINY, 2.5, 3.0, just_above(3.0))),)))
    ['up to 0', 'above 0 to 2.5', '2.5 to 3', '3', 'above 3']
    """
    found: list[str] = []
    for _, bounds in field.learned:
        own = [bound for bound in bounds if bound > LOWEST]
        found += ['any'] * (len(bounds) - len(own) - len(found)) + _ranges(own)
    return found or ['any']


def _ranges(bounds: list[float]) -> list[str]:
    """A boundary just above a value is said by that value."""
    if not bounds:
        return ['any']
    values = [_below(bound) for bound in bounds]
    closed = [value is None for value in values]  # the bin above it holds the boundary itself
    said = [f'{bound if value is None else value:g}' for bound, value in zip(bounds, values)]
    ranges = [f'below {said[0]}' if closed[0] else f'up to {said[0]}']
    for i in range(1, len(bounds)):
        low, to = said[i - 1] if closed[i - 1] else f'above {said[i - 1]}', 'to' if closed[i] else 'up to'
        ranges.append(said[i] if values[i] == bounds[i - 1] else f'{low} {to} {said[i]}')
    return [*ranges, f'from {said[-1]}' if closed[-1] else f'above {said[-1]}']


def _below(bound: float) -> float | None:
    """The value, of few digits, that a boundary is just above; None where it is no such boundary."""
    value = 0.0 if bound == TINY else float(np.nextafter(bound, -np.inf))
    return value if len(repr(value)) + 3 < len(repr(bound)) and just_above(value) == bound else None


def notes(fields: tuple[Field, ...], blocks: list[dict]) -> list[str]:
    """What is to be said of numeric fields whose boundaries are not those of the first block."""
    said = []
    for field in fields:
        if field.kind != 'numeric':
            continue
        bins = sum(bound > LOWEST for bound in field.bounds) + 1
        late = [blocks[block]['key'] for block, _ in field.learned if block]
        if late:
            said.append(f"'{field.name}' has boundaries from block {late[-1]} on, the first that had enough to teach")
        if not field.open and bins == 1:
            said.append(f"'{field.name}' has one bin, from an earlier version: a new --workdir learns boundaries")
        elif field.open and bins == 1:
            said.append(
                f"'{field.name}' has one bin so far, for its values do not differ: boundaries come with the first "
                'block in which they do'
            )
        elif field.open:
            said.append(
                f"'{field.name}' has {bins} bins so far: more come with the first block in which {2 * field.bins} "
                'rows differ from the most frequent value'
            )
    return said
