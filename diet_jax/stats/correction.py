"""What twins say about the others: from scores on the memory to scores on the log, with honest odds.

What the memory gets wrong about a candidate, delta = score on the log - score on the memory, is much the same for
candidates that compute nearly the same function *and* come to nearly the same score. Twins, whose scores on the log are
known, show it, and a Gaussian process over functions carries it to the others (Kennedy and O'Hagan 2000 is the textbook
form of such a correction, with a cheap and a dear simulator):

    delta ~ shift for all, N(0, SHIFT^2)  +  GP with kernel SCALE^2 exp(-d / 2 WIDTH^2 - m^2 / 2 NEAR^2)  +  own error

d(A, B) is 1 - the correlation of the logits of A's and B's students of the memory, m the difference of their scores on
it: without the second a model that computes on codes what a weak twin does, and on ids much more, would get the twin's
error. A candidate's own error is N(0, (OWN s)^2), s the standard deviation of a student over seeds. A handful of twins
cannot find the constants: they are where, of whole pools on development blocks of KuaiRand and MovieLens, the others'
scores are likeliest given the twins' (scripts/fit_correction.py, docs/results/choices.md).

SCALE is a floor: where twins are apart by more than expected, the kernel is widened to their size (`_surprise`), so
that intervals are as wide as what twins show. Not every memory errs so. With four known scores or more each is foretold
by the others, by functions and by their mean: where functions do not win clearly, by the density of what they foretold,
what is corrected is the shift common to all; the order of the others is then the memory's own, and the intervals are as
wide as the twins' deltas are apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from diet_jax.stats import frameworks as others


class Constants(NamedTuple):
    shift: float  # AUC, as scale and near
    scale: float
    width: float  # alike models differ by 0.005 in d, a model without a strong field by 0.1
    near: float
    own: float  # in standard deviations of a student's score over seeds: a log that is noisy is so to models too


CONSTANTS = Constants(shift=0.01, scale=0.003, width=0.2, near=0.001, own=1.0)
ENOUGH = 4  # known scores from which on a check of held-out ones decides: below, a spread says nothing
CLEAR = 1.0  # nats by which functions must foretell held-out scores better than their mean does: odds of 2.7 to 1
SURE = 0.9  # probability from which on one candidate is told from another
ANYWHERE = 1.0  # AUC^2: variance of a shift of which nothing is expected


class Answer(NamedTuple):
    """What training on the log would come to: jointly normal."""

    mean: np.ndarray  # f64[C]
    cov: np.ndarray  # f64[C, C]  of what many runs on the log would come to, on average
    noise: float  # variance of a single run about that
    held_out: dict  # `_held_out`: how well a twin is foretold by the others
    by_functions: bool  # or by the shift alone, as held-out twins decided
    text: str


def correct(scores, logits, known: Mapping[int, float], weight=None, frameworks: Sequence[str] | None = None) -> Answer:
    """The answer for C candidates.

    Args:
      scores: f64[C, R, S], scores of S students each of R distillations, S >= 2, higher better; logits: f32[C, N],
        their mean predictions of the rows scored on; known: {candidate: its score on the log by a single
        run}, one at least; weight: f32[N], of the rows in how alike two functions are, None: 1 each.
      frameworks: [C], where each was trained, '' is this library (`stats.frameworks`); None: all are of it.
    """
    scores = np.asarray(scores, np.float64)
    memory, noise = scores.mean((1, 2)), max(float(scores.var(axis=2, ddof=1).mean()), 1e-10)
    measured = noise / scores[0].size  # variance of the mean over students
    if scores.shape[1] > 1:  # and over distillations, but for what they add to all candidates alike
        apart = scores.mean(2) - scores.mean((0, 2))
        measured = max(measured, float(apart.var(axis=1, ddof=1).mean()) / scores.shape[1])
    frameworks = frameworks or [others.HERE] * len(memory)
    kernel, errors = prior(memory, logits, noise, weight=weight), {i: known[i] - memory[i] for i in sorted(known)}
    twins = [i for i in errors if frameworks[i] == others.HERE]
    delta, seen = np.array([errors[i] for i in twins]), noise + measured
    checked = _held_out(kernel, twins, delta, seen)
    ahead = len(twins) * (checked['functions_density'] - checked['shift_density'])
    by_functions = len(twins) < ENOUGH or ahead > CLEAR
    wider = max(_surprise(kernel, twins, delta, seen), 1.0)
    kernel = kernel * wider if by_functions else _shifted(kernel, delta, seen)
    ways = {'conditional': lambda *a: _posterior(*a, seen)[0], 'surprise': lambda *a: _surprise(*a, seen)}
    kernel = others.biased(kernel, frameworks, errors, **ways)
    mean, cov = _posterior(kernel, list(errors), np.array(list(errors.values())), seen)
    cov, text = cov + measured * np.eye(len(memory)), _said(delta, checked, by_functions, math.sqrt(wider))
    text += others.said(frameworks, errors)
    return Answer(memory + mean, cov, noise, checked, by_functions, text)


def function_distance(logits, weight=None) -> np.ndarray:
    """1 - correlation of every two rows: f32[C, N] -> f64[C, C], 0 on the diagonal; weight: f32[N] of the columns."""
    z = np.clip(np.asarray(logits, np.float64), -1e4, 1e4)  # float16 predictions of a model gone astray are infinite
    if weight is None:
        z = z - z.mean(1, keepdims=True)
    else:
        w = np.asarray(weight, np.float64) / np.sum(weight, dtype=np.float64)
        z = (z - (z @ w)[:, None]) * np.sqrt(w)
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    d = np.maximum(0.0, 1.0 - z @ z.T)
    np.fill_diagonal(d, 0.0)
    return d


def beats(answer: Answer, margin: float = 0.0) -> np.ndarray:
    """f64[C, C]: the probability that candidate i is better than j on the log by more than a margin.

    Transposed, the same is of i worse by more. Without a margin it is 0.5 on the diagonal.

    Args: margin: 0 or more, in units of the score.

    >>> answer = Answer(np.array([0.7, 0.7]), np.eye(2) / 2, 0.0, {}, True, '')
    >>> beats(answer)[0, 1], beats(answer, margin=1.0)[0, 1].round(4)
    (np.float64(0.5), np.float64(0.1587))
    """
    mean, sd = differences(answer)
    return np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))((mean - margin) / sd)


def within(answer: Answer, margin: float) -> np.ndarray:
    """f64[C, C]: the probability that two candidates are no further apart on the log than a margin."""
    ahead = beats(answer, margin)
    return np.maximum(0.0, 1.0 - ahead - ahead.T)


def not_told_from(answer: Answer, i: int, margin: float) -> list[int]:
    """Candidates that may be as good as candidate i, as far as a margin goes: i is better by more than that with a
    probability below `SURE`; i itself is left out."""
    return [int(j) for j in np.flatnonzero(beats(answer, margin)[i] < SURE) if j != i]


def differences(answer: Answer) -> tuple[np.ndarray, np.ndarray]:
    """(mean, standard deviation) of candidate i's score on the log minus that of j: f64[C, C] each."""
    var = np.diag(answer.cov)
    sd = np.sqrt(np.maximum(var[:, None] + var[None] - 2 * answer.cov, 1e-18))
    return answer.mean[:, None] - answer.mean[None], sd


def best(answer: Answer, draws: int = 20_000) -> np.ndarray:
    """f64[C]: the probability that each is the best on the log, by draws from the joint (always the same ones)."""
    rng = np.random.default_rng(0)
    drawn = rng.multivariate_normal(answer.mean, answer.cov, draws, method='eigh')
    return np.bincount(drawn.argmax(1), minlength=len(answer.mean)) / draws


def worth_running(answer: Answer, known=()) -> np.ndarray:
    """f64[C]: the knowledge gradient (Frazier, Powell, Dayanik 2009): by how much one run of a candidate on the log is
    expected to raise the best mean that is then known, in units of the score; 0 for those known."""
    z = np.linspace(-4, 4, 161)
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    gain = np.zeros(len(answer.mean))
    for i in set(range(len(answer.mean))) - set(known):
        slope = answer.cov[:, i] / math.sqrt(answer.cov[i, i] + answer.noise)
        gain[i] = weight @ (answer.mean[:, None] + slope[:, None] * z).max(0) - answer.mean.max()
    return np.maximum(gain, 0.0)


def prior(memory, logits, noise: float, constants: Constants = CONSTANTS, weight=None) -> np.ndarray:
    """Covariance f64[C, C] of delta before anything is known of the log.

    Args: memory: f64[C], mean scores; logits, weight: as in `correct`; noise: variance of a student's score over seeds.
    """
    apart = np.subtract.outer(memory, memory)
    alike = np.exp(-function_distance(logits, weight) / (2 * constants.width**2) - apart**2 / (2 * constants.near**2))
    return constants.shift**2 + constants.scale**2 * alike + constants.own**2 * noise * np.eye(len(alike))


def log_likelihood(scores, logits, known: Mapping[int, float], full, constants: Constants) -> float:
    """Of the others' scores on the log, given the twins': what chose the constants.

    Args: scores: f64[C, S]; logits, known: as in `correct`; full: f64[C, n], scores of n runs on the log each.
    """
    scores, full = np.asarray(scores, np.float64), np.asarray(full, np.float64)
    memory, run = scores.mean(1), max(float(scores.var(axis=1, ddof=1).mean()), 1e-10)
    twins, measured = sorted(known), run / scores.shape[1]
    delta = np.array([known[i] - memory[i] for i in twins])
    kernel = prior(memory, logits, run, constants)
    kernel *= max(_surprise(kernel, twins, delta, run + measured), 1.0)
    mean, cov = _posterior(kernel, twins, delta, run + measured)
    others = [i for i in range(len(memory)) if i not in known]
    cov = cov[np.ix_(others, others)] + (measured + run / full.shape[1]) * np.eye(len(others))
    half = np.linalg.cholesky(cov)
    white = np.linalg.solve(half, (full.mean(1) - memory - mean)[others])
    return float(-white @ white / 2 - np.log(np.diag(half)).sum())


def _posterior(kernel, twins, delta, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """(mean f64[C], covariance f64[C, C]) of delta, given that of the twins: the textbook conditional of a normal."""
    across = kernel[twins]  # [K, C]
    weights = np.linalg.solve(across[:, twins] + noise * np.eye(len(twins)), across)  # [K, C]
    return weights.T @ delta, kernel - across.T @ weights


def _shifted(kernel, delta, noise: float) -> np.ndarray:
    """The prior covariance where candidates err apart from each other: about the twins' mean, by a variance that is
    that of Student's t with K - 1 degrees of freedom (Gelman et al., Bayesian Data Analysis, 3.2)."""
    spread = max(float(np.sum((delta - delta.mean()) ** 2)) / (len(delta) - 3), noise)
    return ANYWHERE + spread * np.eye(len(kernel))


def _surprise(kernel, twins, delta, noise: float) -> float:
    """Mean square of the twins' deltas, whitened by what was expected of them: 1 and below is no surprise."""
    if not len(twins):
        return 0.0
    expected = kernel[np.ix_(twins, twins)] + noise * np.eye(len(twins)) + ANYWHERE  # what is common to all is expected
    return float(delta @ np.linalg.solve(expected, delta)) / max(len(twins) - 1, 1)


def _held_out(kernel, twins, delta, noise: float) -> dict[str, float]:
    """How well each twin's delta is foretold by the others', by functions and by their mean; nan of one.

    Returns: 'functions', 'shift': root mean square errors; 'functions_density', 'shift_density': mean log densities, in
      nats, of what was foretold: a normal's, and of the mean Student's t with K - 2 degrees of freedom.
    """
    names = ('functions', 'shift', 'functions_density', 'shift_density')
    if len(twins) < 3:
        return dict.fromkeys(names, math.nan)
    found = []
    for i, twin in enumerate(twins):
        rest = [j for j in range(len(twins)) if j != i]
        others, seen = [twins[j] for j in rest], delta[rest]
        wide = kernel * max(_surprise(kernel, others, seen, noise), 1.0)
        mean, cov = _posterior(wide, others, seen, noise)
        error, apart = mean[twin] - delta[i], seen.mean() - delta[i]
        variance = cov[twin, twin] + noise
        spread = max(float(seen.var(ddof=1)), noise) * (1 + 1 / len(rest))
        density = -0.5 * (math.log(2 * math.pi * variance) + error**2 / variance)
        found.append((error**2, apart**2, density, _t_density(apart**2 / spread, len(rest) - 1) - math.log(spread) / 2))
    functions, shift, *densities = np.mean(found, 0)
    return dict(zip(names, map(float, (math.sqrt(functions), math.sqrt(shift), *densities)), strict=True))


def _t_density(square: float, freedom: int) -> float:
    """Log density of Student's t at a point whose square is given."""
    of = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    return of - (freedom + 1) / 2 * math.log1p(square / freedom)


def _said(delta, checked: Mapping, by_functions: bool, wider: float) -> str:
    """What is known, how it was checked, and what the check decided: a sentence for the user."""
    if not len(delta):
        return 'no full run of this library is known'
    if len(delta) == 1:
        text = f'1 known score: on the log it is {delta[0]:+.4f} AUC above the memory'
    else:
        text = f'{len(delta)} known scores: on the log they are {delta.min():+.4f} to {delta.max():+.4f} AUC above the '
        text += 'memory'
    if len(delta) > 2:
        text += f'; one left out is foretold to within {checked["functions"]:.4f}, by the mean of the others '
        text += f'{checked["shift"]:.4f}'
    if by_functions and wider > 1:
        text += f'; that is further apart than expected, and intervals are wider for it by {wider:.1f}'
    if len(delta) < ENOUGH:
        return text + f'; {ENOUGH} are needed to check by which to correct'
    odds = math.exp(len(delta) * (checked['functions_density'] - checked['shift_density']))
    if by_functions:
        return (
            f'{text}: functions foretell better, at odds of {odds:.1f} to 1, so a candidate is corrected by the twins '
            'that it is like'
        )
    return (
        f'{text}: functions do not foretell clearly better (odds of {odds:.1f} to 1), so what is common to all is '
        'corrected alone, and the order of the others is that of the memory'
    )
