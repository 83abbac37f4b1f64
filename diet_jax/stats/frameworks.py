"""Candidates of other frameworks in the correction: an error that is common to all of a framework.

Another framework starts otherwise, shuffles otherwise, and steps otherwise on rare ids, on the memory and on the log:
what its candidates get wrong has a part in common that twins of this library know nothing of,

    delta of a candidate of framework f  +=  bias_f ~ N(0, BIAS^2)

Known full runs of f show it. One tells the bias from the candidate's own error no better than by its size: where it
is larger than BIAS, so may the bias be. From `ENOUGH` on it may be anything, and the runs show how far apart they are.
Candidates of this library are not touched: a known run elsewhere never decides how they are corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

HERE = ''  # this library
BIAS = 0.003  # AUC: of a prototype; DeepCTR-Torch's mean error was 0.0011 and -0.0006 (docs/results/elsewhere.md)
ENOUGH = 2  # known runs of a framework from which on its bias is learned


def biased(kernel: np.ndarray, frameworks: Sequence[str], known: Mapping[int, float], conditional, surprise: Callable):
    """The prior covariance of delta, f64[C, C], with every framework's own part.

    Args:
      kernel: without it, widened as this library's twins ask for; frameworks: of every candidate, '' is this library.
      known: {candidate: delta}; conditional: (kernel, candidates, deltas) -> means f64[C]; surprise: of the same, by
        how much deltas are further apart than expected, as a ratio of variances.
    """
    here = [i for i in sorted(known) if frameworks[i] == HERE]
    foretold = conditional(kernel, here, _of(known, here)) if here else np.zeros(len(kernel))
    kernel = kernel.copy()
    for name in dict.fromkeys(frameworks):
        members = np.array([framework == name for framework in frameworks])
        runs = [i for i in sorted(known) if members[i]]
        if name == HERE:
            continue
        if len(runs) >= ENOUGH:
            wider = np.sqrt(np.where(members, max(surprise(kernel, runs, _of(known, runs)), 1.0), 1.0))
            kernel *= np.outer(wider, wider)
            variance = 1.0  # AUC^2: nothing is expected of it
        else:
            variance = max([BIAS**2, *((known[i] - foretold[i]) ** 2 for i in runs)])
        kernel += variance * np.outer(members, members)
    return kernel


def said(frameworks: Sequence[str], known: Mapping[int, float]) -> str:
    """What is known of other frameworks, to be added to a sentence; '' where there are none.

    >>> said(['', 'pytorch', 'pytorch'], {0: 0.01})
    '; of pytorch no full run is known (--anchors): its intervals allow for 0.003 AUC of its own, 2 would tell'
    """
    text = ''
    for name in dict.fromkeys(frameworks):
        runs = sum(frameworks[i] == name for i in known)
        if name == HERE:
            continue
        if runs >= ENOUGH:
            text += f'; of {name} {runs} full runs are known: what it does otherwise is told by them'
        elif runs:
            text += f'; of {name} 1 full run is known: its intervals allow for {BIAS:g} AUC of its own or what that '
            text += 'shows, and another would tell'
        else:
            text += f'; of {name} no full run is known (--anchors): its intervals allow for {BIAS:g} AUC of its own, '
            text += f'{ENOUGH} would tell'
    return text


def _of(known: Mapping[int, float], some: Sequence[int]) -> np.ndarray:
    return np.array([known[i] for i in some])
