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

import numpy as np

from diet_jax.stats import metrics
from diet_jax.stats.races import rungs
from diet_jax.study.protocol import DIVERGED
from diet_jax.trials.full_pass import Passes
from diet_jax.trials.log import EvaluationLog

BY_SLICE = 'halving_by_slice'
HALVINGS = ('halving', BY_SLICE)


def scores(kind: str, passes: Passes, log: EvaluationLog, t: int, context: int | None) -> np.ndarray:
    """What a candidate is ranked by at every rung: f64[rungs, L, S], higher better, within [-1, 1].

    Args: kind: of HALVINGS; passes: with boundaries at all `rungs(t)`; context: field of the slices.
    """
    found = []
    for s in rungs(t):
        label, weight, logits = log.labels[s], log.weight(s), passes.logits[s, s]
        if kind == 'halving' or s == t:
            score = lambda z, label=label, weight=weight: metrics.auc(z, label, weight=weight)  # noqa: E731
        else:
            here, there = log.rows(s)[:, context], log.rows(t)[:, context]
            share = _shares(here, there, weight, log.weight(t))
            score = lambda z, label=label, share=share: 1 / (1 + share @ _logloss(z, label))  # noqa: E731
        found.append([[score(z) if np.isfinite(z).all() else DIVERGED for z in by_seed] for by_seed in logits])
    return np.array(found)


def _logloss(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """f64[n], in nats."""
    z = logits.astype(np.float64)
    return np.logaddexp(0.0, z) - label * z


def _shares(here: np.ndarray, there: np.ndarray, weight=None, weight_there=None) -> np.ndarray:
    """Weights f64[n] of rows by which their slices come to have the shares that they have elsewhere; slices are values.

    A slice that has no row here weighs nothing: of how it will be nothing is known.

    Args: weight, weight_there: f32, of the rows here and there; None: 1 each.
    """
    of_here, of_there = (
        np.ones(len(rows)) if w is None else w.astype(np.float64) for rows, w in ((here, weight), (there, weight_there))
    )
    values, place = np.unique(here, return_inverse=True)
    counts = np.bincount(place, of_here)
    wanted = np.array([of_there[there == value].sum() for value in values]) * (counts > 0)
    if not wanted.any():
        return of_here / of_here.sum()
    return (wanted / wanted.sum() / np.maximum(counts, 1e-30))[place] * of_here
