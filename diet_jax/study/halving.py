"""Successive halving along the stream (Jamieson and Talwalkar 2016, arXiv:1502.07943): all begin, the worse half ends.

Every candidate begins at every learning rate, on the same windows of the log; after an eighth, a quarter and a half of
the stages the worse half of what is left is dropped, and the rest goes on to the last. What counts is the block that
follows, not yet trained on, so all are compared on the same rows. A candidate is as good as its learning rate that came
furthest.

* `halving` drops by AUC on that block.
* `halving_by_slice` drops by stratified prediction, after Isik et al. (2025, arXiv:2512.01258): the LogLoss of every
  slice of the log, here a value of the context, weighed by how many rows of the *last* block fall into it, for what is
  asked is how a candidate will do then. Those that came to the end are ordered by AUC, as all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from diet_jax.stats import metrics
from diet_jax.study.protocol import DIVERGED
from diet_jax.trials.full_pass import Passes
from diet_jax.trials.log import EvaluationLog

BY_SLICE = 'halving_by_slice'
HALVINGS = ('halving', BY_SLICE)
SHARES = (8, 4, 2, 1)  # of the stages, after which half is dropped; after the last nothing is


class Race(NamedTuple):
    """A halving of one seed."""

    order: np.ndarray  # f64[C]  higher is better: the rung that a candidate came to, then its score there
    full_passes: float  # what all of it cost


def rungs(t: int) -> list[int]:
    """Stages of a race that ends at stage t.

    >>> rungs(12), rungs(3)
    ([2, 3, 6, 12], [1, 2, 3])
    """
    return sorted({-(-t // share) for share in SHARES})


def scores(kind: str, passes: Passes, log: EvaluationLog, t: int, context: int | None) -> np.ndarray:
    """What a candidate is ranked by at every rung: f64[rungs, L, S], higher better, within [-1, 1].

    Args: kind: of HALVINGS; passes: with boundaries at all `rungs(t)`; context: field of the slices.
    """
    found = []
    for s in rungs(t):
        label, logits = log.labels[s], passes.logits[s, s]
        if kind == 'halving' or s == t:
            score = lambda z, label=label: metrics.auc(z, label)  # noqa: E731
        else:
            share = _shares(log.rows(s)[:, context], log.rows(t)[:, context])
            score = lambda z, label=label, share=share: 1 / (1 + share @ _logloss(z, label))  # noqa: E731
        found.append([[score(z) if np.isfinite(z).all() else DIVERGED for z in by_seed] for by_seed in logits])
    return np.array(found)


def _logloss(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """f64[n], in nats."""
    z = logits.astype(np.float64)
    return np.logaddexp(0.0, z) - label * z


def _shares(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Weights f64[n] of rows by which their slices come to have the shares that they have elsewhere; slices are values.

    A slice that has no row here weighs nothing: of how it will be nothing is known.
    """
    values, place, counts = np.unique(here, return_inverse=True, return_counts=True)
    wanted = np.array([np.count_nonzero(there == value) for value in values], np.float64)
    if not wanted.any():
        return np.full(len(here), 1 / len(here))
    return (wanted / wanted.sum() / counts)[place]


def halve(ranked: np.ndarray, rows: Sequence[int]) -> Race:
    """A race of one seed.

    Args:
      ranked: f64[rungs, C, L], `scores` of every candidate at every learning rate; rows: of the log up to every rung.
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


def races(kinds: Sequence[str], passes: Iterable[Passes], log: EvaluationLog, t: int, context: int | None) -> dict:
    """Of every kind, a race a seed: {kind: {'order': [[per candidate] per seed], 'full_passes': mean}}, as plain JSON.

    Args: kinds: of HALVINGS; passes: of every candidate, as of `scores`; read once, one after the other.
    """
    if not kinds:
        return {}
    each = [[scores(kind, one, log, t, context) for kind in kinds] for one in passes]
    rows, out = [log.rows_of_pass(s) for s in rungs(t)], {}
    for kind, by_candidate in zip(kinds, zip(*each, strict=True), strict=True):
        ranked = np.stack(by_candidate, 1)  # [rungs, C, L, S]
        found = [halve(ranked[..., s], rows) for s in range(ranked.shape[-1])]
        cost = float(np.mean([race.full_passes for race in found]))
        out[kind] = {'order': [race.order.tolist() for race in found], 'full_passes': cost}
    return out
