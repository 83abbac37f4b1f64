"""Do two sides rank the candidates alike? The figures of the trend instrument, from raw scores only.

The words are the design's: significant pair, tau_sig, hard pairs, ceiling, regret, retention. *Raw scores* of C
candidates are `full`, [C, n], a metric per seed of training on the log (n >= 2, the same for all); and `memory`, for
each candidate [[per student seed] per distillation] (in a flat list every run is a replicate). A replicate is one
distillation. Means are rounded to 12 decimals: ties and thresholds mean what they say, the order of seeds nothing.
LogLoss is negated on entry: then higher is better everywhere; it keeps AUC's floors of 0.001 and 0.005.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from diet_jax.stats.retention import retention

FLOOR, HARD = 0.001, 0.005  # differences of means: never significant; significant, but where decisions are made
PAIRS_NEEDED, SEEDS_NEEDED = 30, 6  # for tau_sig, for a ceiling
METRICS = {'auc': (1, 0.5), 'gauc': (1, 0.5), 'logloss': (-1, None)}  # sign that makes higher better, chance level
FIGURES = ('tau_sig', 'tau_sig_hard', 'spearman', 'regret', 'top3_hit', 'retention_mean', 'retention_min')


class Pair(NamedTuple):
    """A significant pair of candidates i < j."""

    i: int
    j: int
    gap: float  # mean of i minus mean of j on the full log
    hard: bool  # |gap| below 0.005


class Tau(NamedTuple):
    """tau_sig, or why there is none."""

    value: float | None
    pairs: int  # that it was, or would have been, judged on; their mean over splits for a ceiling
    text: str


def pooled_sd(full) -> float:
    """s: the root of the mean over candidates of the variance over seeds (n - 1 in the denominator)."""
    return float(np.sqrt(np.mean(np.sort(full_scores(full), axis=1).var(axis=1, ddof=1))))


def threshold(full, floor: float = FLOOR) -> float:
    """max(2 s sqrt(2 / n), floor): what the means of a significant pair differ by more than."""
    return max(2 * pooled_sd(full) * math.sqrt(2 / full_scores(full).shape[1]), floor)


def significant_pairs(full, floor: float = FLOOR) -> list[Pair]:
    """Pairs whose mean full-log scores differ by more than `threshold(full, floor)`, in order of (i, j)."""
    i, j, gap = _gaps(mean_of_runs(full_scores(full)))
    keep = np.abs(gap) > threshold(full, floor)
    return [Pair(int(a), int(b), float(g), bool(abs(g) < HARD)) for a, b, g in zip(i[keep], j[keep], gap[keep])]


def tau_sig(full, memory, hard: bool = False, floor: float = FLOOR) -> Tau:
    """(agreeing - disagreeing) / all significant pairs, for the mean over distillations of the memory's score.

    A tie on the memory side counts 0 and stays in the denominator. Fewer than 30 pairs: "undefined", in words. Both
    sides must be the same metric. `memory`: raw scores, or one number per candidate; `hard`: hard pairs only.
    """
    means = mean_of_runs(full_scores(full)), mean_of_runs(per_distillation(memory, len(full)))
    value, pairs = _tau(*means, threshold(full, floor), HARD if hard else np.inf)
    words = f'{int(pairs)} {"hard" if hard else "significant"} pairs'
    if pairs < PAIRS_NEEDED:
        return Tau(None, int(pairs), f'undefined: {words}, {PAIRS_NEEDED} needed')
    return Tau(float(value), int(pairs), f'{value:.3f} over {words}')


def ceiling(full, hard: bool = False, floor: float = FLOOR) -> Tau:
    """tau_sig of one half of the full-log seeds against the other half, averaged over all splits, both ways round.

    s, n and the pairs come from the half that plays the full log: fewer pairs than with all seeds, more noise. With n
    odd the halves differ by a seed. Splits with too few pairs are left out; where most have too few, it is undefined.
    """
    full = full_scores(full)
    n = full.shape[1]
    if n < SEEDS_NEEDED:
        return Tau(None, 0, f'undefined: {n} full-log seeds, {SEEDS_NEEDED} needed')
    halves = [list(half) for size in {n // 2, n - n // 2} for half in combinations(range(n), size)]
    each = [tau_sig(full[:, half], np.delete(full, half, axis=1), hard, floor) for half in halves]
    values = [tau.value for tau in each if tau.value is not None]
    pairs = round(math.fsum(tau.pairs for tau in each) / len(each))
    if 2 * len(values) < len(each):
        words = f'{pairs} {"hard" if hard else "significant"} pairs in the mean split'
        return Tau(None, pairs, f'undefined: {words}, {PAIRS_NEEDED} needed')
    value = math.fsum(values) / len(values)
    return Tau(value, pairs, f'{value:.3f} over {len(values)} of {len(each)} splits, {pairs} pairs in the mean split')


def spearman(full: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Pearson's r of the ranks, ties at their mean rank; means f64[..., C] -> f64[...], nan if a side is all ties."""
    a, b = (np.sign(x[..., :, None] - x[..., None, :]).sum(-1) for x in (np.asarray(full), np.asarray(memory)))
    scale = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.where(scale > 0, (a * b).sum(-1) / np.where(scale > 0, scale, 1), np.nan)


def regret(full: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Full-log score of the best candidate minus that of the memory's pick (of tied picks: their mean): f64[...]."""
    full, picks = np.asarray(full), np.asarray(memory) == np.max(memory, axis=-1, keepdims=True)
    return np.where(picks, full.max(-1, keepdims=True) - full, 0).sum(-1) / picks.sum(-1)


def top3_hit(full: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """1 if the full log's best is in the memory's first three, else 0; ties broken at random, the chance: f64[...]."""
    full, memory = np.asarray(full), np.asarray(memory)
    best = full == full.max(-1, keepdims=True)
    ahead = (memory[..., None, :] > memory[..., :, None]).sum(-1)
    tied = (memory[..., None, :] == memory[..., :, None]).sum(-1)
    return (np.clip((3 - ahead) / tied, 0, 1) * best).sum(-1) / best.sum(-1)


def ordering(scores: Mapping, metric: str = 'auc') -> list:
    """What orders the candidates, of one side's scores: [[per student seed] per distillation].

    Students on codes are scored under the name of the metric. Codes lift weak models towards the teacher that learned
    them; on the rows' own ids every model is worse, but weak ones are not lifted. Where there are such students
    (`by_ids`), their score is added with its weight w: (1 - w) codes + w ids. Its level is no model's: see `readings`.
    """
    beside = scores.get('by_ids')
    if beside is None:
        return scores[metric]
    codes, ids = np.asarray(scores[metric], np.float64), np.asarray(beside[metric], np.float64)
    return ((1 - beside['weight']) * codes + beside['weight'] * ids).tolist()


def orderings(sides: Sequence[Mapping], metric: str = 'auc') -> np.ndarray:
    """`reading` of C candidates, f64[C, R, S], in every distillation brought to the mean of their scores on codes."""
    order = np.array([ordering(scores, metric) for scores in sides], np.float64)
    level = np.array([scores[metric] for scores in sides], np.float64)
    return order + (level - order).mean((0, 2), keepdims=True)


def figures(full, memory, metric: str = 'auc', floor: float = FLOOR, order=None) -> dict[str, np.ndarray]:
    """All of `FIGURES`, distillation by distillation: f64[R]; nan where undefined. LogLoss has no retention.

    Args: order: what orders the candidates (`reading`) where it is not what says their level, of the same shape.
    """
    sign, chance = METRICS[metric]
    full = sign * full_scores(full)
    memory, order = (x if x is None else sign * per_distillation(x, len(full)).T for x in (memory, order))
    return figures_of_means(mean_of_runs(full), memory, threshold(full, floor), chance, order)


def figures_of_means(full, memory, limit: float, chance: float | None, order=None) -> dict[str, np.ndarray]:
    """The kernel of it all: means, higher better, f64[..., C] each -> name -> f64[...]; nan where undefined."""
    kept = retention(full, memory, chance or np.inf)  # nan without a chance level
    memory = memory if order is None else order
    known = np.isfinite(kept)
    least = np.where(known.any(-1), np.where(known, kept, np.inf).min(-1), np.nan)
    mean = np.where(known, kept, 0).sum(-1) / np.where(known.any(-1), known.sum(-1), np.nan)
    taus = [_tau(full, memory, limit, below) for below in (np.inf, HARD)]
    values = [np.where(pairs >= PAIRS_NEEDED, tau, np.nan) for tau, pairs in taus]
    values += [spearman(full, memory), regret(full, memory), top3_hit(full, memory), mean, least]
    return dict(zip(FIGURES, values, strict=True))


def _tau(full, memory, limit: float, below: float):
    """(agreeing - disagreeing) / pairs, and the pairs with limit < gap < below. f64[..., C] twice -> two [...]."""
    gap = _gaps(full)[2]
    counts = (np.abs(gap) > limit) & (np.abs(gap) < below)
    pairs = counts.sum(-1)
    return (np.sign(gap) * np.sign(_gaps(memory)[2]) * counts).sum(-1) / np.maximum(pairs, 1), pairs


def _gaps(means) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(i, j, mean of i minus mean of j to 12 decimals [..., pairs]) of all pairs i < j."""
    i, j = np.triu_indices(np.shape(means)[-1], 1)
    return i, j, np.round(means[..., i] - means[..., j], 12)


def mean_of_runs(x: np.ndarray) -> np.ndarray:
    """Mean over the last axis, whatever the order along it, to 12 decimals."""
    return np.sort(x, axis=-1).mean(-1).round(12)


def full_scores(full) -> np.ndarray:
    """f64[C, n], checked."""
    sizes = {len(seeds) for seeds in full}
    if len(sizes) != 1 or min(sizes) < 2 or not np.isfinite(np.asarray(full, np.float64)).all():
        raise ValueError(f'full-log scores with {sorted(sizes)} seeds: the same number, 2 at least, all finite, needed')
    return np.asarray(full, np.float64)


def per_distillation(memory, candidates: int) -> np.ndarray:
    """f64[C, R], the mean over student seeds of every distillation, checked."""
    rows = [[mean_of_runs(np.atleast_1d(np.asarray(s, float))) for s in ([m] if np.isscalar(m) else m)] for m in memory]
    sizes = {len(row) for row in rows}
    if len(rows) != candidates or len(sizes) != 1 or 0 in sizes or not np.isfinite(np.concatenate(rows)).all():
        raise ValueError(
            f'memory scores [{len(rows)}, {sorted(sizes)}]: [{candidates}, one number], all finite, needed'
        )
    return np.asarray(rows)


def number(x) -> float | None:
    return float(x) if np.isfinite(x) else None
