"""Races along a log: all begin, and after some of it the worse half is dropped. Who comes how far, at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SHARES = (8, 4, 2, 1)  # of the stages, after which half is dropped; after the last nothing is


class Race(NamedTuple):
    """One of them, of one seed."""

    order: np.ndarray  # f64[C]  higher is better: the rung that a candidate came to, then its score there
    full_passes: float  # what all of it cost


def rungs(t: int) -> list[int]:
    """Stages of a race that ends at stage t.

    >>> rungs(12), rungs(3)
    ([2, 3, 6, 12], [1, 2, 3])
    """
    return sorted({-(-t // share) for share in SHARES})


def halve(ranked: np.ndarray, rows: Sequence[int]) -> Race:
    """A race of one seed.

    Args:
      ranked: f64[rungs, C, L], scores of every candidate at every learning rate, in [-1, 1], higher better.
      rows: of the log up to every rung.
    """
    n, candidates, rates = ranked.shape
    flat = ranked.reshape(n, -1)
    alive, reached, visits = np.arange(candidates * rates), np.full(candidates * rates, -np.inf), 0
    for rung in range(n):
        visits += len(alive) * (rows[rung] - (rows[rung - 1] if rung else 0))
        reached[alive] = 2 * rung + flat[rung, alive]
        if rung < n - 1:
            best = np.argsort(-flat[rung, alive], kind='stable')[: -(-len(alive) // 2)]
            alive = alive[np.sort(best)]
    return Race(reached.reshape(candidates, rates).max(1), visits / rows[-1])
