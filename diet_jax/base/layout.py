"""Where the fields of a row lie among its columns of ids: one column each, and as many as it is wide of a list.

A list is written at the end of its columns in its own order, the last value last, with PAD before it: a list's last n
values are its last n columns. Lists of one *sequence* are columns of the same events, so they are aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

PAD = -1  # in the place of an id: nothing is there


class Layout(NamedTuple):
    """F fields on W columns of ids, i32[N, W]. Hashable: what is compiled, is compiled for one.

    >>> layout = Layout(('item', 'tab', 'clicked'), (1, 1, 3), (0, 1, 0), ('', '', 'clicked'))
    >>> layout.columns, layout.at(2), layout.owner_of_column().tolist(), layout.targets()
    (5, slice(2, 5, None), [0, 1, 0, 0, 0], {2: 0})
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]  # columns of every field; 1 of one that is no list
    owners: tuple[int, ...]  # the field whose vocabulary its values are of: itself, or of a list the one it shares
    sequences: tuple[str, ...]  # of a list, the sequence that it is a column of; '' of other fields

    @property
    def columns(self) -> int:
        """W."""
        return sum(self.widths)

    @property
    def lists(self) -> tuple[int, ...]:
        """The fields that are lists."""
        return tuple(f for f, name in enumerate(self.sequences) if name)

    def at(self, field: int) -> slice:
        """The columns of a field."""
        start = sum(self.widths[:field])
        return slice(start, start + self.widths[field])

    def owner_of_column(self) -> np.ndarray:
        """i32[W]: the field whose vocabulary a column's values are of."""
        return np.repeat(np.asarray(self.owners, np.int32), self.widths)

    def targets(self) -> dict[int, int]:
        """{list: the field whose value in the same row its values are compared with}, of lists that share one."""
        return {f: self.owners[f] for f in self.lists if self.owners[f] != f}


def flat(names: Sequence[str]) -> Layout:
    """Of fields none of which is a list.

    >>> flat(['user', 'item']).columns
    2
    """
    return Layout(tuple(names), (1,) * len(names), tuple(range(len(names))), ('',) * len(names))
