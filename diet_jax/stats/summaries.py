"""The summary of a study: every figure of one metric for the memory and all rivals, as plain JSON."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from diet_jax.stats import ranking
from diet_jax.stats.resampling import bootstrap, interval, paired_differences
from diet_jax.stats.retention import retention

CORRELATIONS = ('tau_sig', 'tau_sig_hard', 'spearman')  # within [-1, 1]


def summary(
    candidates: Sequence[Mapping], metric='auc', resamples=1000, seed=0, users=None, floor=ranking.FLOOR
) -> dict:
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
            raw, order = [scores[metric] for scores in found], [ranking.ordering(scores, metric) for scores in found]
            draws[kind] = bootstrap(full, raw, metric, resamples, seed, users and users[kind], floor=floor, order=order)
            sides[kind] = _side(names, full, raw, metric, draws[kind], floor, order)
    paired = {}
    for name in ranking.FIGURES if 'memory' in draws else ():
        replicates = {kind: sides[kind][name]['replicates'] for kind in draws}
        apart = {kind: draws['memory'][name] - draws[kind][name] for kind in draws}
        paired[name] = paired_differences(replicates.pop('memory'), replicates, apart)
    hard, sign = [pair.hard for pair in ranking.significant_pairs(full, floor)], ranking.METRICS[metric][0]
    words = f'95 %, full seeds, distillations{", test users" if users else ""} redrawn, pool fixed'
    result = {'metric': metric, 'better': 'higher' if sign > 0 else 'lower', 'candidates': names}
    result |= {
        'full_seeds': len(full[0]),
        'pooled_sd': ranking.pooled_sd(full),
        'threshold': ranking.threshold(full, floor),
    }
    result['pairs'] = {'all': math.comb(len(names), 2), 'significant': len(hard), 'hard': sum(hard)}
    result['ceiling'] = {
        name: ranking.ceiling(full, name != 'tau_sig', floor)._asdict() for name in ranking.FIGURES[:2]
    }
    result['intervals'] = f'{words}; with R distillations too narrow by sqrt((R - 1) / R)'
    return result | {'memory': sides.pop('memory'), 'rivals': sides, 'paired': paired}


def _side(names, full, raw, metric, draws, floor, order) -> dict:
    """The figures of one kind of training rows: name -> mean, sd, replicates, of_mean, interval, text."""
    chance, runs = ranking.METRICS[metric][1], ranking.mean_of_runs(ranking.per_distillation(raw, len(names)))
    together = ranking.mean_of_runs(ranking.per_distillation(order, len(names)))
    each, whole = ranking.figures(full, raw, metric, floor, order), ranking.figures(full, runs, metric, floor, together)
    kept = retention(
        ranking.mean_of_runs(ranking.full_scores(full)), runs, chance or np.inf
    )  # nan without a chance level
    lost = ', '.join(name for name, value in zip(names, kept) if np.isnan(value))
    text = {
        n: ranking.tau_sig(full, order, n != 'tau_sig', floor).text.split(' over ')[-1] for n in ranking.FIGURES[:2]
    }
    if np.isnan(each['spearman']).any():
        text['spearman'] = 'undefined: all scores of one side are equal'
    words = (
        f'without {lost}: no better than chance on the log' if chance else f'undefined: {metric} has no chance level'
    )
    text |= dict.fromkeys(('retention_mean', 'retention_min'), words if lost else '')
    result = {'distillations': each['regret'].size, 'retention': {n: ranking.number(k) for n, k in zip(names, kept)}}
    for name, x in each.items():
        sd = ranking.number(x.std(ddof=1)) if x.size > 1 else None
        result[name] = {'mean': ranking.number(x.mean()), 'sd': sd, 'replicates': [ranking.number(v) for v in x]}
        result[name] |= {'of_mean': ranking.number(whole[name][0]), 'text': text.get(name, '')}
        ends = interval(draws[name], x.mean())
        result[name]['interval'] = ends and (np.clip(ends, -1.0, 1.0).tolist() if name in CORRELATIONS else ends)
    return result
