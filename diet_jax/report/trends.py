"""The report of the trend instrument: figures of `stats.summaries` as tables, pictures, and what they rest on.

Takes what trends.json holds (`result`; `diet_jax.trends` writes it). A *kind* is what candidates were trained on: the
memory, or a rival. A *set* is development, confirmation, or all. Nothing here reads or writes a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from diet_jax.report import figures, judgement, page, pictures
from diet_jax.report.page import number
from diet_jax.stats import costs, ranking, scores

FIGURES = {  # of `stats.ranking`: name, format
    'retention_mean': ('retention mean', '.3f'),
    'retention_min': ('retention min', '.3f'),
    'tau_sig': ('tau_sig', '.3f'),
    'tau_sig_hard': ('tau_sig hard', '.3f'),
    'spearman': ('Spearman', '.3f'),
    'regret': ('regret', '.4f'),
    'top3_hit': ('top-3 hit', '.2f'),
}
METRICS = {'auc': 'AUC', 'gauc': 'GAUC', 'logloss': 'LogLoss'}
PAIRED = ('tau_sig', 'retention_mean')  # tested against every rival


class Table(NamedTuple):
    """A table for a terminal, for Markdown and for the page."""

    caption: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]  # lines below it


def tables(result: Mapping) -> list[Table]:
    """AUC, set by set: every kind's figures; then the paired differences, where there are rivals."""
    found = []
    for of in result['summary']:
        found += [figure_table(result, of), *answer_table(result, of), *cost_table(result, of)]
        found += frontier_table(result, of)
        found += paired_table(result, of)
    return found


def named(kind: str) -> str:
    """A kind in words.

    >>> named('random_rows_our_labels'), named('early_stop')
    ('random rows, our labels', 'early stop')
    """
    return kind.replace('_our_labels', ', our labels').replace('_', ' ')


def figure_table(result: Mapping, of: str, metric: str = 'auc') -> Table:
    """A row a kind, mean ± sd over distillations, and the ceiling."""
    summary, protocol = result['summary'][of][metric], result['protocol']
    sides, pairs, reasons = sides_of(summary), summary['pairs'], _Reasons()
    rows = []
    for kind, side in sides.items():
        if 'distillations' not in side:
            reasons.add(named(kind), '', side['text'])
        cells = [_figure(side, figure, reasons, named(kind)) for figure in FIGURES]
        rows.append([named(kind), *cells, number(cost_ratio(members(result, of), kind), '.1f')])
    ceiling = {}
    for figure, tau in summary['ceiling'].items():
        ceiling[figure] = number(tau['value'], '.3f') if tau['value'] is not None else 'undefined'
        if tau['value'] is None:
            reasons.add('ceiling', FIGURES[figure][0], tau['text'])
    rows.append(['ceiling', *(ceiling.get(figure, page.DASH) for figure in FIGURES), page.DASH])
    count = max((side.get('distillations', 0) for side in sides.values()), default=0)
    caption = (
        f'{METRICS[metric]}, {set_name(of)}. Stage {protocol["stage"]}, tuned on {protocol["tuned_on"]}, scored once '
        f'on {protocol["scored_on"]}; {len(summary["candidates"])} candidates, {summary["full_seeds"]} full seeds; '
        f'{pairs["significant"]} of {pairs["all"]} pairs are significant, {pairs["hard"]} hard; pooled sd '
        f'{summary["pooled_sd"]:.5f}, threshold {summary["threshold"]:.5f}. '
        + (f'Mean ± sd over {count} distillations' if count > 1 else 'One distillation: no sd')
    )
    header = ['trained on', *(name for name, _ in FIGURES.values()), 'cost ratio']
    return Table(caption, header, rows, reasons.lines(len(sides)))


def answer_table(result: Mapping, of: str) -> list[Table]:
    """The answer with twins, a row a kind; no table without twins among the candidates."""
    found = result['summary'][of].get('answer')
    if not found:
        return []
    names = {kind: named(kind) for kind in sides_of(result['summary'][of]['auc']) if kind in found}
    return [Table(*each) for each in judgement.tables(found, names, set_name(of))]


def frontier_table(result: Mapping, of: str) -> list[Table]:
    """The memory at every number of epochs that was tried, the same for all candidates; no table without several."""
    candidates = members(result, of)
    points = {c['name']: c['memory'].get('frontier', ()) for c in candidates}
    if min(map(len, points.values())) < 2:
        return []
    readings, full, rows = _readings(candidates, 'memory'), {c['name']: _auc(c['full']) for c in candidates}, []
    for k, point in enumerate(points[candidates[0]['name']]):
        kept = math.nan
        if {'lr', 'deepfm'} <= full.keys():
            kept = (_auc(points['deepfm'][k]) - _auc(points['lr'][k])) / (full['deepfm'] - full['lr'])
        cells = []
        for figure in ('retention_mean', 'retention_min', 'tau_sig'):
            cost, value, sd = readings[figure][k + 1]
            cells.append('undefined' if math.isnan(value) else f'{value:.3f}' + f' ± {sd:.3f}' * math.isfinite(sd))
        rows.append([str(point['chosen']['epochs']), *cells, number(kept, '.2f'), number(cost, '.1f')])
    header = ['epochs', 'retention mean', 'retention min', 'tau_sig', 'gap LR-DeepFM kept', 'cost ratio']
    return [Table(f'AUC, {set_name(of)}: the memory, all candidates at one number of epochs', header, rows, [])]


def _auc(side: Mapping) -> float:
    return scores.score(ranking.ordering(side)).mean


def paired_table(result: Mapping, of: str, metric: str = 'auc') -> list[Table]:
    """Ours minus every rival, replicates paired; no table without rivals."""
    summary = result['summary'][of][metric]
    found = {name: {row['rival']: row for row in summary['paired'].get(name, ())} for name in PAIRED}
    kinds = [kind for kind in sides_of(summary) if kind in found[PAIRED[0]]]
    if not kinds:
        return []
    rows, notes = [], {}
    for kind in kinds:
        cells = [named(kind)]
        for name in PAIRED:
            row = found[name][kind]
            ends = row['interval'] and ' to '.join(format(end, '+.3f') for end in row['interval'])
            notes.setdefault(row['text'], []).append(f'{FIGURES[name][0]}, {named(kind)}')
            if row['p'] is None:
                cells += ['undefined', page.DASH, 'undefined']
            else:
                cells += [f'{row["difference"]:+.3f} ± {row["sd"]:.3f}', ends, _p(row['p_holm'])]
        rows.append(cells)
    every = len(kinds) * len(PAIRED)
    lines = [text + ('' if len(where) == every else f' ({"; ".join(where)})') for text, where in notes.items()]
    header = ['ours minus']
    for name in PAIRED:
        header += [FIGURES[name][0], '95 % interval', 'p (Holm)']
    caption = (
        f'{METRICS[metric]}, {set_name(of)}: ours minus each rival, paired by distillation; p of the same redraws as '
        'the interval, Holm-corrected over rivals'
    )
    return [Table(caption, header, rows, [*lines, f'interval: {summary["intervals"]}'])]


def scatter(result: Mapping) -> bytes:
    """Full AUC against AUC on the memory, and on the best rival, of every candidate."""
    candidates, kinds = result['candidates'], list(sides_of(result['summary'][widest(result)]['auc']))
    panels = {}
    for kind in ['memory', *[kind for kind in kinds if kind != 'memory'][:1]]:
        found = [scores.score((_trained(c, kind) or {}).get('auc', ()))[:2] for c in candidates]
        panels[f'trained on {named(kind)}' if kind == 'memory' else f'best rival: {named(kind)}'] = np.array(found)
    full = np.array([scores.score(c['full']['auc'])[:2] for c in candidates])
    return pictures.scatter([c['name'] for c in candidates], [c['confirmation'] for c in candidates], full, panels)


def frontier(result: Mapping) -> bytes:
    """Retention and tau_sig over cost ratio: a large point at what was chosen, a line through all row visits tried."""
    of = widest(result)
    summary, candidates = result['summary'][of]['auc'], members(result, of)
    kinds = [kind for kind in sides_of(summary) if all(_trained(c, kind) for c in candidates)]
    readings = {kind: _readings(candidates, kind) for kind in kinds}
    tau = summary['ceiling']['tau_sig']
    ceiling = f'dashed: ceiling, {tau["value"]:.3f}' if tau['value'] is not None else f'ceiling {tau["text"]}'
    if summary['pairs']['significant'] < ranking.PAIRS_NEEDED:
        ceiling = f'undefined: {summary["pairs"]["significant"]} significant pairs, {ranking.PAIRS_NEEDED} needed'
    lines = {
        'retention_mean': (1.0, 'dashed: full training', True),
        'tau_sig': (math.nan if tau['value'] is None else tau['value'], ceiling, False),
    }
    panels = {
        FIGURES[figure][0]: ({named(k): found[figure] for k, found in readings.items()}, *line)
        for figure, line in lines.items()
    }
    return pictures.frontier(panels, _looks(kinds))


COUNTS = (1, 10, 30, 100)  # candidates


def cost_table(result: Mapping, of: str) -> list[Table]:
    """What a comparison of so many candidates costs in all, and how well it ranks; no table without twins or clock."""
    rows = []
    for way in costs.ways(result, of):
        figures = [
            page.DASH if np.isnan(mean) else format(mean, form) + (f' ± {sd:{form}}' if np.isfinite(sd) else '')
            for (mean, sd), form in zip(way.figures.values(), ('.3f', '.3f', '.4f'), strict=True)
        ]
        rows.append([named(way.name), *(f'{way.total(n):,.1f}' for n in COUNTS), *figures])
    if not rows:
        return []
    caption = (
        f'AUC, {set_name(of)}: what comparing costs in all, in full passes over the log: all learning rates and seeds, '
        'distilling, the reference model and twins; the answer with twins'
    )
    header = ['trained on', *(f'{n} candidate{"s" * (n > 1)}' for n in COUNTS), 'tau_sig', 'hard', 'regret']
    return [Table(caption, header, rows, [])]


def cost_picture(result: Mapping) -> bytes | None:
    """tau_sig, hard pairs and regret against total cost, a line a way of comparing; None without twins or clock."""
    ways = [way._replace(name=named(way.name)) for way in costs.ways(result, widest(result))]
    return pictures.costs(ways, COUNTS) if ways else None


def reliability(result: Mapping) -> dict[str, bytes]:
    """Stated probability against truth, of the memory, without a margin and with one; {} without twins."""
    found = result['summary'][widest(result)].get('answer')
    if not found:
        return {}
    return {
        'reliability': pictures.reliability(found['memory']['reliability']),
        'reliability_margin': pictures.reliability(found['memory']['reliability_margin']['bins'], margin(result)),
    }


def margin(result: Mapping) -> float:
    """What the odds of `reliability_margin` are about, in AUC; 0 without twins."""
    found = result['summary'][widest(result)].get('answer')
    return found['memory']['reliability_margin']['margin'] if found else 0.0


class _Reasons:
    """Why figures are undefined, each reason said once."""

    def __init__(self):
        self._found: dict[str, tuple[dict, dict]] = {}  # text -> (rows, figures), both in order

    def add(self, row: str, figure: str, text: str) -> None:
        rows, names = self._found.setdefault(text, ({}, {}))
        rows[row] = names[figure] = None

    def lines(self, count: int) -> list[str]:
        """Lines; rows are not named where all `count` of them are meant."""
        lines = []
        for text, (rows, names) in self._found.items():
            whose = '' if len(set(rows) - {'ceiling'}) == count else f'{", ".join(rows)}:'
            lines.append(' '.join(filter(None, [whose, ', '.join(filter(None, names)), text])))
        return lines


def _figure(side: Mapping, figure: str, reasons: _Reasons, row: str) -> str:
    """mean ± sd of a figure, or 'undefined'."""
    if figure not in side:
        return 'undefined'
    entry, (name, form) = side[figure], FIGURES[figure]
    if entry['text'].startswith(('undefined', 'without')):  # without: candidates no better than chance on the log
        reasons.add(row, name, entry['text'])
    if entry['mean'] is None:
        return 'undefined'
    return ' ± '.join(format(entry[part], form) for part in ('mean', 'sd') if entry[part] is not None)


def _p(p: float) -> str:
    return '< 0.001' if p < 0.001 else f'{p:.3f}'


def sides_of(summary: Mapping) -> dict[str, Mapping]:
    """Kind -> its figures: the memory, then the rivals, the best first, by tau_sig, retention, Spearman."""

    def rank(item):
        means = [item[1].get(figure, {}).get('mean') for figure in ('tau_sig', 'retention_mean', 'spearman')]
        return *(math.inf if mean is None else -mean for mean in means), item[0]

    return {'memory': summary['memory'], **dict(sorted(summary['rivals'].items(), key=rank))}


def widest(result: Mapping) -> str:
    """The set with all candidates."""
    return 'all' if 'all' in result['summary'] else next(iter(result['summary']))


def set_name(of: str) -> str:
    return 'both sets' if of == 'all' else f'{of} set'


def members(result: Mapping, of: str) -> list[Mapping]:
    return [c for c in result['candidates'] if c['name'] in result['pool']['sets'][of]]


def _trained(candidate: Mapping, kind: str) -> Mapping | None:
    """Scores of one candidate on one kind; None where it has none."""
    return candidate['memory'] if kind == 'memory' else candidate['rivals'].get(kind)


def cost_ratio(candidates: Sequence[Mapping], kind: str) -> float:
    ratios = [found['cost_ratio'] for c in candidates if (found := _trained(c, kind))]
    return float(np.mean(ratios)) if ratios else math.nan


def _readings(candidates: Sequence[Mapping], kind: str) -> dict[str, np.ndarray]:
    """Figure -> f64[K, 3], (cost ratio, mean, sd over distillations): the choice, then every point of the frontier."""
    full, found = [c['full']['auc'] for c in candidates], [_trained(c, kind) for c in candidates]
    depth = min(len(side.get('frontier', ())) for side in found)
    rows = {figure: [] for figure in ranking.FIGURES}
    for point in [found, *([side['frontier'][k] for side in found] for k in range(depth))]:
        cost = np.mean([reading['cost_ratio'] for reading in point])
        auc, order = [side['auc'] for side in point], [ranking.ordering(side) for side in point]
        for figure, x in ranking.figures(full, auc, order=order).items():
            rows[figure].append([cost, x.mean(), x.std(ddof=1) if x.size > 1 else math.nan])
    return {figure: np.array(values) for figure, values in rows.items()}


def _looks(kinds: Sequence[str]) -> dict[str, tuple]:
    """Name -> (colour, marker, line style, width): a rule has its colour; broken lines are the log's own labels."""
    rules = list(dict.fromkeys(kind.removesuffix('_our_labels') for kind in kinds if kind != 'memory'))
    (first, *colours), (mark, *marks) = figures.CYCLE, figures.MARKERS
    colours += ['#8c564b', '#7b3294', '#8a8a00']  # ten rules in all
    looks = {'memory': (first, mark, '-', 2.6)}
    for kind in kinds:
        if kind != 'memory':
            i, style = rules.index(kind.removesuffix('_our_labels')), '--' if kind.endswith('_rows') else '-'
            looks[named(kind)] = (colours[i % len(colours)], marks[i % len(marks)], style, 1.3)
    return looks
