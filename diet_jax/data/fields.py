"""What a row is made of."""

from typing import NamedTuple


class Field(NamedTuple):
    """One input of a model."""

    name: str  # the column, or 'hour' / 'weekday'
    kind: str  # 'categorical' | 'numeric' | 'time'
    bounds: tuple[float, ...] = ()  # numeric: inner bin boundaries; bin b holds bounds[b-1] <= x < bounds[b]
