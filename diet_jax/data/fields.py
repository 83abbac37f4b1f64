"""What a row is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from diet_jax.base.layout import Layout

Bounds = tuple[float, ...]


class Field(NamedTuple):
    """One input of a model."""

    name: str  # the column, or 'hour' / 'weekday', or a history's column
    kind: str  # 'categorical' | 'numeric' | 'time' | 'list'
    bins: int = 0  # numeric: how many are asked for
    learned: tuple[tuple[int, Bounds], ...] = ()  # numeric: (block, `bounds` from that block on), in order
    open: bool = False  # numeric: whether a later block may still teach boundaries (`bins`)
    width: int = 1  # list: values that it holds at most
    shares: str = ''  # list: the field whose vocabulary its values are of; '' its own
    sequence: str = ''  # list: what it is a column of; lists of one sequence are aligned
    weights: str = ''  # list: the column that says what its values weigh; '' where each weighs 1

    @property
    def bounds(self) -> Bounds:
        """Inner boundaries as they are known now: bin b holds bounds[b-1] <= x < bounds[b]."""
        return self.learned[-1][1] if self.learned else ()

    @property
    def most_bins(self) -> int:
        """No field has more bins, ever; of the first block alone, so that it never changes."""
        settled = not self.open and len(self.learned) == 1 and self.learned[0][0] == 0
        return len(self.bounds) + 1 if settled else self.bins + 4  # four: one, then three (`bins.learn`)

    def after(self, blocks: int) -> Field:
        """The field as it was after the first `blocks` blocks."""
        known = tuple(step for step in self.learned if step[0] < blocks)
        return self._replace(learned=known, open=self.open or known != self.learned)

    def plain(self) -> dict[str, Any]:
        """For a manifest."""
        learned = [[block, list(bounds)] for block, bounds in self.learned]
        found = dict(
            name=self.name, kind=self.kind, bounds=list(self.bounds), bins=self.bins, learned=learned, open=self.open
        )
        if self.kind == 'list':
            found |= dict(width=self.width, shares=self.shares, sequence=self.sequence)
            found |= dict(weights=self.weights) if self.weights else {}
        return found

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Field:
        """What `plain` made; of an earlier version, whose bins were all of the first block and stayed."""
        name, kind, bounds = plain['name'], plain['kind'], tuple(plain['bounds'])
        if 'learned' not in plain:
            numeric = kind == 'numeric'
            return cls(name, kind, len(bounds) + 1 if numeric else 0, ((0, bounds),) if numeric else ())
        learned = tuple((block, tuple(bounds)) for block, bounds in plain['learned'])
        of_list = {key: plain[key] for key in ('width', 'shares', 'sequence', 'weights') if key in plain}
        return cls(name, kind, plain['bins'], learned, plain['open'], **of_list)


def layout_of(fields: Sequence[Field]) -> Layout:
    """Where some fields lie among the columns of ids."""
    names = tuple(field.name for field in fields)
    owners = tuple(names.index(field.shares) if field.shares else f for f, field in enumerate(fields))
    weighted = tuple(f for f, field in enumerate(fields) if field.weights)
    return Layout(names, tuple(f.width for f in fields), owners, tuple(f.sequence for f in fields), weighted)
