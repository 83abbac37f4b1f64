"""How sure a figure is: draws over seeds, distillations and test users; paired differences."""

from collections.abc import Mapping, Sequence

import numpy as np

from diet_jax.stats import ranking


def bootstrap(
    full, memory, metric='auc', resamples=1000, seed=0, users=None, *, floor=ranking.FLOOR, order=None
) -> dict[str, np.ndarray]:
    """Draws f64[B] of every figure (its mean over distillations): full seeds and distillations redrawn, pool fixed.

    Full seeds are redrawn candidate by candidate, they are separate trainings; distillations for all together, they
    share the memory. Significance is judged anew on every draw, with the s of the data: redrawn seeds make s too small.
    The same `seed` and shapes redraw the same: draws of two memories can be subtracted. R distillations make the draws
    too narrow, by sqrt((R - 1) / R). Redrawn means are noisier than the means, which costs order: its draws lie low,
    and `interval` moves them to the figure.

    Args:
        users: None, or raw scores (full f64[B, C, n], memory f64[B, C, R, S]) under B redraws of the test users, the
            same for both (`auc_user_bootstrap`): then the draws cover test users as well, and `resamples` is B.
        order: as of `figures`; what it differs by from `memory` is taken to be the same for all users.
    """
    sign, chance = ranking.METRICS[metric]
    full = sign * ranking.full_scores(full)
    limit, memory = ranking.threshold(full, floor), sign * ranking.per_distillation(memory, len(full))
    apart = 0.0 if order is None else sign * ranking.per_distillation(order, len(full)) - memory
    (c, n), r, b = full.shape, memory.shape[1], resamples if users is None else len(users[0])
    if users is not None:
        full, memory = sign * np.asarray(users[0]), sign * ranking.mean_of_runs(np.asarray(users[1]))
        if full.shape != (b, c, n) or memory.shape != (b, c, r):
            raise ValueError(f'users: {full.shape} and {memory.shape} x seeds, not {(b, c, n)} and {(b, c, r)} x seeds')
    rng = np.random.default_rng(seed)
    seeds, runs = rng.integers(n, size=(b, c, n)), rng.integers(r, size=(b, 1, r))
    full = ranking.mean_of_runs(np.take_along_axis(np.broadcast_to(full, (b, c, n)), seeds, 2))[:, None]
    memory, order = (
        np.take_along_axis(np.broadcast_to(x, (b, c, r)), runs, 2).swapaxes(1, 2) for x in (memory, memory + apart)
    )
    parts = [slice(k, k + 200) for k in range(0, b, 200)]  # a few MB
    parts = [ranking.figures_of_means(full[at], memory[at], limit, chance, order[at]) for at in parts]
    return {name: np.concatenate([part[name].mean(1) for part in parts]) for name in ranking.FIGURES}


def interval(draws: np.ndarray, figure: float) -> list[float] | None:
    """[2.5 %, 97.5 %] of the draws at which the figure is defined, about the figure; None if at fewer than half."""
    moved = about(draws, figure)
    return np.percentile(moved, [2.5, 97.5]).tolist() if 2 * moved.size >= draws.size else None


def about(draws: np.ndarray, figure: float) -> np.ndarray:
    """The draws that are numbers, moved so that their mean is the figure: redrawing adds noise, which costs order."""
    known = draws[np.isfinite(draws)]
    return known - known.mean() + figure if known.size and np.isfinite(figure) else np.empty(0)


def auc_user_bootstrap(
    logits, labels, groups, counts=None, resamples: int = 200, seed: int = 0, *, weight=None
) -> np.ndarray:
    """AUC of R models on B redraws of the test users: all rows of a user come as often as the user does.

    Each model is sorted once; a redraw is one running sum over the negatives, read at the positives (0.12 ms for
    20,000 rows on one core of the 2-core CPU). The same `seed` and `groups` redraw the same in every call.

    Args:
        logits: float[R, N]. labels: 0/1[N]. groups: int[N], the user of each row; below 0: nobody, so that each such
          row is a user of its own.
        counts: int[B, U], how often each of `np.unique(groups)` comes; None draws `resamples` times U users of U.
        weight: float[N], >= 0, of rows, times how often their user comes; None: 1 each.
    Returns: f64[B, R], nan where a redraw has one class only.
    """
    logits, positive = np.atleast_2d(logits), np.asarray(labels) > 0
    groups = np.asarray(groups)
    alone = groups < 0
    groups = np.where(alone, groups.max(initial=0) + np.cumsum(alone), groups)
    names, user = np.unique(groups, return_inverse=True)
    if counts is None:
        rng, u = np.random.default_rng(seed), names.size
        counts = np.stack([np.bincount(rng.integers(u, size=u), minlength=u) for _ in range(resamples)])
    counts = np.asarray(counts, np.float64)
    if np.isnan(logits).any() or not logits.shape[1] == positive.size == user.size or counts.shape[1] != names.size:
        raise ValueError('auc_user_bootstrap: NaN logits, lengths that differ, or counts not [B, number of users]')
    weight = np.ones(positive.size) if weight is None else np.asarray(weight, np.float64)
    area, total = np.full((len(counts), len(logits)), np.nan), np.zeros(np.sum(~positive) + 1)
    for r, z in enumerate(logits):
        order = np.flatnonzero(~positive)[np.argsort(z[~positive])]
        below, upto = (np.searchsorted(z[order], z[positive], side) for side in ('left', 'right'))
        negative_user, positive_user = user[order], user[positive]
        of_negative, of_positive = weight[order], weight[positive]
        for b, count in enumerate(counts):
            np.cumsum(count[negative_user] * of_negative, out=total[1:])
            times = count[positive_user] * of_positive
            if pairs := times.sum() * total[-1]:
                area[b, r] = times @ (total[below] + total[upto]) / (2 * pairs)
    return area


def paired_differences(ours: Sequence[float], rivals: Mapping[str, Sequence[float]], draws: Mapping) -> list[dict]:
    """Ours minus each rival, one figure, over replicates paired by position; interval and p of the same redraws.

    The p is two-sided, twice the share of draws about the difference that lie on the other side of 0, at least two
    draws' worth; p_holm is Holm-corrected over rivals. So a p below 0.05 and an interval that holds 0 never meet.

    Args: ours, rivals: the figure of each replicate; draws: {rival: f64[B]}, ours minus the rival under redraws.
    """
    ours, rows = np.asarray(ours, np.float64), []
    for rival, values in rivals.items():
        values = np.asarray(values, np.float64)
        d = ours - values if values.shape == ours.shape else np.empty(0)
        rows.append({'rival': rival, 'replicates': d.size})
        moved = about(np.asarray(draws[rival], np.float64), float(d.mean())) if d.size else d
        if d.size < 2 or not np.isfinite(d).all() or 2 * moved.size < len(draws[rival]):
            rows[-1] |= dict.fromkeys(('difference', 'sd', 'interval', 'p', 'p_holm'))
            rows[-1]['text'] = 'undefined: needs 2 replicates at least, as many on both sides, all with the figure'
            continue
        below, above = np.mean(moved <= 0), np.mean(moved >= 0)
        p = float(min(1.0, 2 * max(min(below, above), 1 / moved.size)))
        rows[-1] |= {'difference': float(d.mean()), 'sd': float(d.std(ddof=1)), 'p': p}
        rows[-1] |= {'interval': np.percentile(moved, [2.5, 97.5]).tolist(), 'text': f'p: of {moved.size} redraws'}
    tested = [row for row in rows if row['p'] is not None]
    for row, adjusted in zip(tested, holm([row['p'] for row in tested])):
        row['p_holm'] = adjusted
    return rows


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p, in the order given: the k-th smallest of m times m - k + 1, made monotone, <= 1."""
    order = np.argsort(p, kind='stable')
    steps = np.minimum(1, np.arange(len(p), 0, -1) * np.asarray(p, np.float64)[order])
    return np.maximum.accumulate(steps)[np.argsort(order)].tolist()
