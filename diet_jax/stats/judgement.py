"""What twins give to every kind of rows: the instrument's judgement of `correction`.

The answer of each distillation is judged on candidates whose score on the log is not told to it: pairs hold at least
one candidate that is no twin. Rivals are granted the same twins: the correction is cheap, and the memory must earn its
place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from diet_jax.stats import correction, ranking

FIGURES = ('tau_sig', 'tau_sig_hard', 'error', 'covered', 'regret')
BINS = 20  # of stated probability, in [0, 1]
MARGIN = ranking.FLOOR  # AUC: no pair that is closer is significant


def judged(
    candidates: Sequence[Mapping], known_scores: Mapping, logits: Mapping, margin: float = MARGIN, weight=None
) -> dict:
    """`summary[set]['answer']` of trends.json: kind -> figures, plain JSON.

    Args:
      candidates: of trends.json, all of one set; known_scores: of twins, by the name of
        their candidate, {name: {'auc': [per distillation]}}, those
        not among the candidates are left out; logits: {kind: f32[C, R, N]}, mean predictions of each distillation's
        students; margin: in AUC, for odds that one is better than another by more; weight: f32[N], None: 1 each.
    Returns: {} without a twin among the candidates; else {kind: {'twins', 'replicates': [figures], and every figure as
      {'mean', 'sd'}; 'together': the figures of all distillations asked together; 'reliability': [[stated, true,
      pairs] per bin]; 'reliability_margin': {'margin', 'bins': the same of being better by more than the margin}}}.
    """
    names = [c['name'] for c in candidates]
    at = {names.index(name): name for name in known_scores if name in names}
    if not at or len(at) == len(names):
        return {}
    full = np.array([c['full']['auc'] for c in candidates])
    out = {}
    for kind, predicted in logits.items():
        found = [c['memory'] if kind == 'memory' else c['rivals'][kind] for c in candidates]
        raw = ranking.orderings(found)  # [C, R, S]
        if raw.shape[2] < 2:
            continue
        replicates, answers = [], []
        for r in range(raw.shape[1]):
            known = {i: known_scores[name]['auc'][r] for i, name in at.items()}
            answer = correction.correct(raw[:, r : r + 1], predicted[:, r], known, weight)
            replicates.append(
                {
                    **_figures(full, raw[:, r].mean(1), answer, at),
                    'by_functions': answer.by_functions,
                    'said': answer.text,
                }
            )
            answers.append(answer)
        out[kind] = {
            'twins': list(at.values()),
            'replicates': replicates,
            'reliability': reliability(full.mean(1), answers, at),
            'reliability_margin': {'margin': margin, 'bins': reliability(full.mean(1), answers, at, margin)},
        }
        known = {i: float(np.mean(known_scores[name]['auc'])) for i, name in at.items()}
        answer = correction.correct(raw, predicted.mean(1), known, weight)
        out[kind]['together'] = _figures(full, raw.mean((1, 2)), answer, at)
        for name in (*FIGURES, *(f'plain_{name}' for name in FIGURES[:3])):
            values = [f[name] for f in replicates if f[name] is not None]
            several = len(values) > 1
            out[kind][name] = {
                'mean': float(np.mean(values)) if values else None,
                'sd': float(np.std(values, ddof=1)) if several else None,
            }
    return out


def reliability(truth, answers: Sequence[correction.Answer], twins, margin: float = 0.0) -> list:
    """How often a stated probability is true: [mean stated, share that was true, pairs] of each bin with pairs.

    A pair states once, for the one that is likelier to be better: that it is so by more than the margin. Without a
    margin all of that is 0.5 or more.

    Args:
      truth: f64[C], scores on the log; answers: of distillations; twins: candidates whose scores were told: pairs of
        two of them are left out; margin: in units of the score.
    """
    stated = [pair for answer in answers for pair in _stated(truth, answer, twins, margin)]
    p, true = (np.array(x, np.float64) for x in zip(*stated))
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    return [
        [float(p[place == b].mean()), float(true[place == b].mean()), int((place == b).sum())]
        for b in range(BINS)
        if (place == b).any()
    ]


def _figures(full, memory, answer: correction.Answer, twins) -> dict:
    """Figures of one distillation, of the answer and of the memory alone ('plain')."""
    pairs = [p for p in ranking.significant_pairs(full) if not (p.i in twins and p.j in twins)]
    others = [i for i in range(len(memory)) if i not in twins]
    truth, sd = full.mean(1), np.sqrt(np.diag(answer.cov))
    error = np.abs(answer.mean - truth)[others]

    def tau(mean, hard):
        kept = [p for p in pairs if p.hard or not hard]
        if len(kept) < ranking.PAIRS_NEEDED:
            return None
        return float(np.mean([np.sign(p.gap) * np.sign(round(mean[p.i] - mean[p.j], 12)) for p in kept]))

    return {
        'tau_sig': tau(answer.mean, False),
        'tau_sig_hard': tau(answer.mean, True),
        'error': float(error.mean()),
        'covered': float(np.mean(error < 1.645 * sd[others])),
        'regret': float(truth.max() - truth[np.argmax(answer.mean)]),
        'plain_tau_sig': tau(memory, False),
        'plain_tau_sig_hard': tau(memory, True),
        'plain_error': float(np.abs(memory - truth)[others].mean()),
        'pairs': len(pairs),
        'hard': sum(p.hard for p in pairs),
    }


def _stated(truth, answer: correction.Answer, twins, margin: float) -> list[tuple[float, bool]]:
    """(stated probability, whether it was so) of every pair with a candidate that is no twin: that the one which is
    likelier to be better is so by more than a margin."""
    odds, found = correction.beats(answer, margin), []
    for i in range(len(truth)):
        for j in range(i):
            if not (i in twins and j in twins):
                a, b = (i, j) if odds[i, j] >= odds[j, i] else (j, i)
                found.append((float(odds[a, b]), bool(truth[a] - truth[b] > margin)))
    return found
