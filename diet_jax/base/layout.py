"""Where the fields of a row lie among its columns of ids: one column each, and as many as it is wide of a list.

A list is written at the end of its columns in its own order, the last value last, with PAD before it: a list's last n
values are its last n columns. Lists of one *sequence* are columns of the same events, so they are aligned.

What the values of a list weigh stands behind all fields, place by place, as numbers below PAD (`packed`): so no number
below 0 is an id, and weights go wherever their row's ids go.
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
    weighted: tuple[int, ...] = ()  # the lists whose values have weights

    @property
    def columns(self) -> int:
        """W, with the columns of weights."""
        return sum(self.widths) + sum(self.widths[f] for f in self.weighted)

    @property
    def lists(self) -> tuple[int, ...]:
        """The fields that are lists."""
        return tuple(f for f, name in enumerate(self.sequences) if name)

    def at(self, field: int) -> slice:
        """The columns of a field."""
        start = sum(self.widths[:field])
        return slice(start, start + self.widths[field])

    def weights_at(self, field: int) -> slice | None:
        """The columns of what a list's values weigh; None where each weighs 1."""
        if field not in self.weighted:
            return None
        start = sum(self.widths) + sum(self.widths[f] for f in self.weighted[: self.weighted.index(field)])
        return slice(start, start + self.widths[field])

    def owner_of_column(self) -> np.ndarray:
        """i32[W]: the field whose vocabulary a column's values are of, or those values that it has the weights of."""
        of = [*range(len(self.names)), *self.weighted]
        return np.repeat(np.asarray(self.owners, np.int32)[of], np.asarray(self.widths)[of])

    def targets(self) -> dict[int, int]:
        """{list: the field whose value in the same row its values are compared with}, of lists that share one."""
        return {f: self.owners[f] for f in self.lists if self.owners[f] != f}


def packed(weights: np.ndarray) -> np.ndarray:
    """Weights, finite and 0 or more, as they stand among ids: i32, the bits of a float32 counted down from below PAD.

    >>> unpacked(packed(np.array([0.5, 2.0]))).tolist(), int(packed(np.zeros(1))[0]), PAD
    ([0.5, 2.0], -2, -1)
    """
    return PAD - 1 - np.abs(np.asarray(weights, np.float32)).view(np.int32)


def unpacked(numbers: np.ndarray) -> np.ndarray:
    """f32: the weights that `packed` wrote, 0 where there is PAD."""
    return np.maximum(PAD - 1 - np.asarray(numbers, np.int32), 0).view(np.float32)


def renamed(ids: np.ndarray, of: np.ndarray) -> np.ndarray:
    """ids by other numbers, of[id]; what is no id stays. ids: i32[...]; of: [V].

    >>> renamed(np.array([1, PAD, 0]), np.array([7, 8])).tolist()
    [8, -1, 7]
    """
    return np.where(ids < 0, ids, np.asarray(of)[np.maximum(ids, 0)]).astype(np.int32)


def flat(names: Sequence[str]) -> Layout:
    """Of fields none of which is a list.

    >>> flat(['user', 'item']).columns
    2
    """
    return Layout(tuple(names), (1,) * len(names), tuple(range(len(names))), ('',) * len(names))
