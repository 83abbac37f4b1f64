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
    return float(np.sqrt(np.mean(np.sort(_full(full), axis=1).var(axis=1, ddof=1))))


def threshold(full, floor: float = FLOOR) -> float:
    """max(2 s sqrt(2 / n), floor): what the means of a significant pair differ by more than."""
    return max(2 * pooled_sd(full) * math.sqrt(2 / _full(full).shape[1]), floor)


def significant_pairs(full, floor: float = FLOOR) -> list[Pair]:
    """Pairs whose mean full-log scores differ by more than `threshold(full, floor)`, in order of (i, j)."""
    i, j, gap = _gaps(_mean(_full(full)))
    keep = np.abs(gap) > threshold(full, floor)
    return [Pair(int(a), int(b), float(g), bool(abs(g) < HARD)) for a, b, g in zip(i[keep], j[keep], gap[keep])]


def tau_sig(full, memory, hard: bool = False, floor: float = FLOOR) -> Tau:
    """(agreeing - disagreeing) / all significant pairs, for the mean over distillations of the memory's score.

    A tie on the memory side counts 0 and stays in the denominator. Fewer than 30 pairs: "undefined", in words. Both
    sides must be the same metric. `memory`: raw scores, or one number per candidate; `hard`: hard pairs only.
    """
    means = _mean(_full(full)), _mean(_per_distillation(memory, len(full)))
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
    full = _full(full)
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


def retention(full: np.ndarray, memory: np.ndarray, chance: float = 0.5) -> np.ndarray:
    """(memory - chance) / (full - chance): f64[..., C], nan where full training is no better than chance."""
    full, memory = np.broadcast_arrays(full, memory)
    return np.where(full > chance, (memory - chance) / np.where(full > chance, full - chance, 1), np.nan)


def reading(scores: Mapping, metric: str = 'auc') -> list:
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


def readings(sides: Sequence[Mapping], metric: str = 'auc') -> np.ndarray:
    """`reading` of C candidates, f64[C, R, S], in every distillation brought to the mean of their scores on codes."""
    order = np.array([reading(scores, metric) for scores in sides], np.float64)
    level = np.array([scores[metric] for scores in sides], np.float64)
    return order + (level - order).mean((0, 2), keepdims=True)


def figures(full, memory, metric: str = 'auc', floor: float = FLOOR, order=None) -> dict[str, np.ndarray]:
    """All of `FIGURES`, distillation by distillation: f64[R]; nan where undefined. LogLoss has no retention.

    Args: order: what orders the candidates (`reading`) where it is not what says their level, of the same shape.
    """
    sign, chance = METRICS[metric]
    full = sign * _full(full)
    memory, order = (x if x is None else sign * _per_distillation(x, len(full)).T for x in (memory, order))
    return _figures(_mean(full), memory, threshold(full, floor), chance, order)


def bootstrap(
    full, memory, metric='auc', resamples=1000, seed=0, users=None, floor=FLOOR, order=None
) -> dict[str, np.ndarray]:
    """Draws f64[B] of every figure (its mean over distillations): full seeds and distillations redrawn, pool fixed.

    Full seeds are redrawn candidate by candidate, they are separate trainings; distillations for all together, they
    share the memory. Significance is judged anew on every draw, with the s of the data: redrawn seeds make s too small.
    The same `seed` and shapes redraw the same: draws of two memories can be subtracted. R distillations make the draws
    too narrow, by sqrt((R - 1) / R). Redrawn means are noisier than the means, which costs order: its draws lie low.

    Args:
        users: None, or raw scores (full f64[B, C, n], memory f64[B, C, R, S]) under B redraws of the test users, the
            same for both (`auc_user_bootstrap`): then the draws cover test users as well, and `resamples` is B.
        order: as of `figures`; what it differs by from `memory` is taken to be the same for all users.
    """
    sign, chance = METRICS[metric]
    full = sign * _full(full)
    limit, memory = threshold(full, floor), sign * _per_distillation(memory, len(full))
    apart = 0.0 if order is None else sign * _per_distillation(order, len(full)) - memory
    (c, n), r, b = full.shape, memory.shape[1], resamples if users is None else len(users[0])
    if users is not None:
        full, memory = sign * np.asarray(users[0]), sign * _mean(np.asarray(users[1]))
        if full.shape != (b, c, n) or memory.shape != (b, c, r):
            raise ValueError(f'users: {full.shape} and {memory.shape} x seeds, not {(b, c, n)} and {(b, c, r)} x seeds')
    rng = np.random.default_rng(seed)
    seeds, runs = rng.integers(n, size=(b, c, n)), rng.integers(r, size=(b, 1, r))
    full = _mean(np.take_along_axis(np.broadcast_to(full, (b, c, n)), seeds, 2))[:, None]
    memory, order = (
        np.take_along_axis(np.broadcast_to(x, (b, c, r)), runs, 2).swapaxes(1, 2) for x in (memory, memory + apart)
    )
    parts = [slice(k, k + 200) for k in range(0, b, 200)]  # a few MB
    parts = [_figures(full[at], memory[at], limit, chance, order[at]) for at in parts]
    return {name: np.concatenate([part[name].mean(1) for part in parts]) for name in FIGURES}


def interval(draws: np.ndarray) -> list[float] | None:
    """[2.5 %, 97.5 %] of the draws at which the figure is defined; None if at fewer than half."""
    known = draws[np.isfinite(draws)]
    return np.percentile(known, [2.5, 97.5]).tolist() if known.size and 2 * known.size >= draws.size else None


def auc_user_bootstrap(logits, labels, groups, counts=None, resamples: int = 200, seed: int = 0) -> np.ndarray:
    """AUC of R models on B redraws of the test users: all rows of a user come as often as the user does.

    Each model is sorted once; a redraw is one running sum over the negatives, read at the positives (0.12 ms for
    20,000 rows on one core of the 2-core CPU). The same `seed` and `groups` redraw the same in every call.

    Args:
        logits: float[R, N]. labels: 0/1[N]. groups: [N], the user of each row.
        counts: int[B, U], how often each of `np.unique(groups)` comes; None draws `resamples` times U users of U.
    Returns: f64[B, R], nan where a redraw has one class only.
    """
    logits, positive = np.atleast_2d(logits), np.asarray(labels) > 0
    names, user = np.unique(groups, return_inverse=True)
    if counts is None:
        rng, u = np.random.default_rng(seed), names.size
        counts = np.stack([np.bincount(rng.integers(u, size=u), minlength=u) for _ in range(resamples)])
    counts = np.asarray(counts, np.float64)
    if np.isnan(logits).any() or not logits.shape[1] == positive.size == user.size or counts.shape[1] != names.size:
        raise ValueError('auc_user_bootstrap: NaN logits, lengths that differ, or counts not [B, number of users]')
    area, total = np.full((len(counts), len(logits)), np.nan), np.zeros(np.sum(~positive) + 1)
    for r, z in enumerate(logits):
        order = np.flatnonzero(~positive)[np.argsort(z[~positive])]
        below, upto = (np.searchsorted(z[order], z[positive], side) for side in ('left', 'right'))
        negative_user, positive_user = user[order], user[positive]
        for b, count in enumerate(counts):
            np.cumsum(count[negative_user], out=total[1:])
            weight = count[positive_user]
            if pairs := weight.sum() * total[-1]:
                area[b, r] = weight @ (total[below] + total[upto]) / (2 * pairs)
    return area


def paired_differences(ours: Sequence[float], rivals: Mapping[str, Sequence[float]]) -> list[dict]:
    """Ours minus each rival, one figure, over replicates paired by position; two-sided p, Holm-corrected over rivals.

    A paired t test: the exact sign-flip test cannot go below 2 / 2**R (0.25 with 3 replicates), whatever the data. Its
    price: with 3 replicates, 2 degrees of freedom, it leans on normal differences, and only large and even ones show;
    "not significant" is no evidence that two are equal. The sign-flip p stands beside it, and in its place where the
    differences do not vary. Distillations are what varies: nothing here speaks of other candidates or other days.
    """
    ours, rows = np.asarray(ours, np.float64), []
    for rival, values in rivals.items():
        values = np.asarray(values, np.float64)
        d = ours - values if values.shape == ours.shape else np.empty(0)
        rows.append({'rival': rival, 'replicates': d.size})
        if d.size < 2 or not np.isfinite(d).all():
            rows[-1] |= dict.fromkeys(('difference', 'sd', 't', 'p', 'p_holm', 'sign_flip_p'))
            rows[-1]['text'] = 'undefined: needs 2 replicates at least, as many on both sides, all with the figure'
            continue
        sums = np.zeros(1)
        for x in d:
            sums = np.concatenate([sums + x, sums - x])  # in the end under all 2**R signs
        sd, t = float(d.std(ddof=1)), None
        p = flip = float(np.mean(np.abs(sums) >= abs(d.sum()) - 1e-12))
        text = f'the same difference in all {d.size} replicates: sign-flip p'
        if sd > 1e-12:
            t = float(d.mean()) / sd * math.sqrt(d.size)
            p = t_test_p(t, d.size - 1)
            text = f'paired t test of {d.size} replicates; the sign-flip p is {2 / 2**d.size:.2g} at best'
        rows[-1] |= {'difference': float(d.mean()), 'sd': sd, 't': t, 'p': p, 'sign_flip_p': flip, 'text': text}
    tested = [row for row in rows if row['p'] is not None]
    for row, adjusted in zip(tested, holm([row['p'] for row in tested])):
        row['p_holm'] = adjusted
    return rows


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p, in the order given: the k-th smallest of m times m - k + 1, made monotone, <= 1."""
    order = np.argsort(p, kind='stable')
    steps = np.minimum(1, np.arange(len(p), 0, -1) * np.asarray(p, np.float64)[order])
    return np.maximum.accumulate(steps)[np.argsort(order)].tolist()


def t_test_p(t: float, freedom: int) -> float:
    """Two-sided p of Student's t with a whole number of degrees of freedom (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    odd, cos2 = freedom % 2, freedom / (freedom + t * t)
    term, total = math.sqrt(cos2) if odd else 1.0, 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= (k - 1) / k * cos2
    inside = math.sqrt(1 - cos2) * total
    return max(0.0, 1 - (2 / math.pi * (math.acos(math.sqrt(cos2)) + inside) if odd else inside))


def summary(candidates: Sequence[Mapping], metric='auc', resamples=1000, seed=0, users=None, floor=FLOOR) -> dict:
    """`summary` of trends.json for one metric: every figure from the raw scores, plain JSON, the same at every call.

    Args:
        candidates: dicts with `name`, `full`, `memory` and `rivals`, raw scores under the name of the metric in each.
        users: None, or for "memory" and each rival what `bootstrap` takes as `users`, all under the same redraws.
    """
    names, full = [c['name'] for c in candidates], [c['full'][metric] for c in candidates]
    sides, draws = {}, {}
    for kind in ['memory', *sorted({rival for c in candidates for rival in c.get('rivals', {})})]:
        found = [c.get('memory') if kind == 'memory' else c.get('rivals', {}).get(kind) for c in candidates]
        found = [scores for scores in found if scores and metric in scores]
        sides[kind] = {'text': f'undefined: scores of {len(found)} of {len(names)} candidates'}
        if len(found) == len(names):
            raw, order = [scores[metric] for scores in found], [reading(scores, metric) for scores in found]
            draws[kind] = bootstrap(full, raw, metric, resamples, seed, users and users[kind], floor, order)
            sides[kind] = _side(names, full, raw, metric, draws[kind], floor, order)
    paired = {}
    for name in FIGURES if 'memory' in draws else ():
        replicates = {kind: sides[kind][name]['replicates'] for kind in draws}
        paired[name] = paired_differences(replicates.pop('memory'), replicates)
        for row in paired[name]:
            row['interval'] = interval(draws['memory'][name] - draws[row['rival']][name])
    hard, sign = [pair.hard for pair in significant_pairs(full, floor)], METRICS[metric][0]
    words = f'95 %, full seeds, distillations{", test users" if users else ""} redrawn, pool fixed'
    result = {'metric': metric, 'better': 'higher' if sign > 0 else 'lower', 'candidates': names}
    result |= {'full_seeds': len(full[0]), 'pooled_sd': pooled_sd(full), 'threshold': threshold(full, floor)}
    result['pairs'] = {'all': math.comb(len(names), 2), 'significant': len(hard), 'hard': sum(hard)}
    result['ceiling'] = {name: ceiling(full, name != 'tau_sig', floor)._asdict() for name in FIGURES[:2]}
    result['intervals'] = (
        f'{words}; with R distillations too narrow by sqrt((R - 1) / R); redrawing adds noise, so the interval of an '
        'order lies low and may not hold its figure'
    )
    return result | {'memory': sides.pop('memory'), 'rivals': sides, 'paired': paired}


def _side(names, full, raw, metric, draws, floor, order) -> dict:
    """The figures of one kind of training rows: name -> mean, sd, replicates, of_mean, interval, text."""
    chance, runs = METRICS[metric][1], _mean(_per_distillation(raw, len(names)))
    together = _mean(_per_distillation(order, len(names)))
    each, whole = figures(full, raw, metric, floor, order), figures(full, runs, metric, floor, together)
    kept = retention(_mean(_full(full)), runs, chance or np.inf)  # nan without a chance level
    lost = ', '.join(name for name, value in zip(names, kept) if np.isnan(value))
    text = {n: tau_sig(full, order, n != 'tau_sig', floor).text.split(' over ')[-1] for n in FIGURES[:2]}
    if np.isnan(each['spearman']).any():
        text['spearman'] = 'undefined: all scores of one side are equal'
    words = (
        f'without {lost}: no better than chance on the log' if chance else f'undefined: {metric} has no chance level'
    )
    text |= dict.fromkeys(('retention_mean', 'retention_min'), words if lost else '')
    result = {'distillations': each['regret'].size, 'retention': {n: _number(k) for n, k in zip(names, kept)}}
    for name, x in each.items():
        sd = _number(x.std(ddof=1)) if x.size > 1 else None
        result[name] = {'mean': _number(x.mean()), 'sd': sd, 'replicates': [_number(v) for v in x]}
        result[name] |= {'of_mean': _number(whole[name][0]), 'text': text.get(name, '')}
        result[name]['interval'] = interval(draws[name])
    return result


def _figures(full, memory, limit: float, chance: float | None, order=None) -> dict[str, np.ndarray]:
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


def _mean(x: np.ndarray) -> np.ndarray:
    """Mean over the last axis, whatever the order along it, to 12 decimals."""
    return np.sort(x, axis=-1).mean(-1).round(12)


def _full(full) -> np.ndarray:
    """f64[C, n], checked."""
    sizes = {len(seeds) for seeds in full}
    if len(sizes) != 1 or min(sizes) < 2 or not np.isfinite(np.asarray(full, np.float64)).all():
        raise ValueError(f'full-log scores with {sorted(sizes)} seeds: the same number, 2 at least, all finite, needed')
    return np.asarray(full, np.float64)


def _per_distillation(memory, candidates: int) -> np.ndarray:
    """f64[C, R], the mean over student seeds of every distillation, checked."""
    rows = [[_mean(np.atleast_1d(np.asarray(s, float))) for s in ([m] if np.isscalar(m) else m)] for m in memory]
    sizes = {len(row) for row in rows}
    if len(rows) != candidates or len(sizes) != 1 or 0 in sizes or not np.isfinite(np.concatenate(rows)).all():
        raise ValueError(
            f'memory scores [{len(rows)}, {sorted(sizes)}]: [{candidates}, one number], all finite, needed'
        )
    return np.asarray(rows)


def _number(x) -> float | None:
    return float(x) if np.isfinite(x) else None
