"""The report of the trend instrument: figures of `agreement.summary` as tables, pictures, and what they rest on.

Takes what trends.json holds (`result`; `diet_jax.trends` writes it). A *kind* is what candidates were trained on: the
memory, or a rival. A *set* is development, confirmation, or all. Nothing here reads or writes a file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from diet_jax import agreement, scores
from diet_jax.report import figures, page
from diet_jax.report.page import number

FIGURES = {  # of `agreement`: name, format
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
WORDS = (
    'tau_sig: (agreeing − disagreeing) / significant pairs; hard: those less than 0.005 apart on the log. Ceiling: one '
    'half of the full-log seeds against the other. Regret: what the log loses by taking the first of this ranking. '
    'Cost ratio: row visits of one pass over the log / of one training here, mean over the candidates. Rivals: best '
    'first.'
)


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
        found += [figure_table(result, of), *answer_table(result, of), *frontier_table(result, of)]
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
    sides, pairs, reasons = _sides(summary), summary['pairs'], _Reasons()
    rows = []
    for kind, side in sides.items():
        if 'distillations' not in side:
            reasons.add(named(kind), '', side['text'])
        cells = [_figure(side, figure, reasons, named(kind)) for figure in FIGURES]
        rows.append([named(kind), *cells, number(_cost_ratio(_members(result, of), kind), '.1f')])
    ceiling = {}
    for figure, tau in summary['ceiling'].items():
        ceiling[figure] = number(tau['value'], '.3f') if tau['value'] is not None else 'undefined'
        if tau['value'] is None:
            reasons.add('ceiling', FIGURES[figure][0], tau['text'])
    rows.append(['ceiling', *(ceiling.get(figure, page.DASH) for figure in FIGURES), page.DASH])
    count = max((side.get('distillations', 0) for side in sides.values()), default=0)
    caption = (
        f'{METRICS[metric]}, {_set(of)}. Stage {protocol["stage"]}, tuned on {protocol["tuned_on"]}, scored once on '
        f'{protocol["scored_on"]}; {len(summary["candidates"])} candidates, {summary["full_seeds"]} full seeds; '
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
    rows = []
    for kind in [kind for kind in _sides(result['summary'][of]['auc']) if kind in found]:
        cells = []
        for name, form in (('tau_sig', '.3f'), ('tau_sig_hard', '.3f'), ('error', '.4f')):
            for figure in (f'plain_{name}', name):
                entry = found[kind][figure]
                spread = [format(entry[part], form) for part in ('mean', 'sd') if entry[part] is not None]
                cells.append(' ± '.join(spread) or 'undefined')
        rows.append([named(kind), *cells, number(found[kind]['covered']['mean'], '.2f')])
    memory = found['memory']
    first = memory['replicates'][0]
    caption = (
        f'AUC, {_set(of)}: the answer with the twins {", ".join(memory["twins"])}, for all kinds alike. Pairs with a '
        f'candidate that is no twin: {first["pairs"]} significant, {first["hard"]} hard'
    )
    header = ['trained on', 'tau_sig without', 'with twins', 'hard, without', 'hard, with twins', 'error without']
    notes = [
        'error: mean absolute error of the AUC foretold for the full log; covered: share of candidates in their 90 % '
        'interval',
        *dict.fromkeys(replicate['said'] for replicate in memory['replicates']),
    ]
    return [Table(caption, [*header, 'error with twins', 'covered'], rows, notes)]


def frontier_table(result: Mapping, of: str) -> list[Table]:
    """The memory at every number of epochs that was tried, the same for all candidates; no table without several."""
    candidates = _members(result, of)
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
    return [Table(f'AUC, {_set(of)}: the memory, all candidates at one number of epochs', header, rows, [])]


def _auc(side: Mapping) -> float:
    return scores.score(side['auc']).mean


def paired_table(result: Mapping, of: str, metric: str = 'auc') -> list[Table]:
    """Ours minus every rival, replicates paired; no table without rivals."""
    summary = result['summary'][of][metric]
    found = {name: {row['rival']: row for row in summary['paired'].get(name, ())} for name in PAIRED}
    kinds = [kind for kind in _sides(summary) if kind in found[PAIRED[0]]]
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
                cells += ['undefined', ends or page.DASH, 'undefined']
            else:
                cells += [f'{row["difference"]:+.3f} ± {row["sd"]:.3f}', ends or page.DASH, _p(row['p_holm'])]
        rows.append(cells)
    every = len(kinds) * len(PAIRED)
    lines = [text + ('' if len(where) == every else f' ({"; ".join(where)})') for text, where in notes.items()]
    header = ['ours minus']
    for name in PAIRED:
        header += [FIGURES[name][0], '95 % interval', 'p (Holm)']
    caption = (
        f'{METRICS[metric]}, {_set(of)}: ours minus each rival, paired by distillation; p Holm-corrected over rivals'
    )
    return [Table(caption, header, rows, [*lines, f'interval: {summary["intervals"]}'])]


def scatter(result: Mapping) -> bytes:
    """Full AUC against AUC on the memory, and on the best rival, of every candidate."""
    candidates, kinds = result['candidates'], list(_sides(result['summary'][_widest(result)]['auc']))
    panels = {}
    for kind in ['memory', *[kind for kind in kinds if kind != 'memory'][:1]]:
        found = [scores.score((_trained(c, kind) or {}).get('auc', ()))[:2] for c in candidates]
        panels[f'trained on {named(kind)}' if kind == 'memory' else f'best rival: {named(kind)}'] = np.array(found)
    full = np.array([scores.score(c['full']['auc'])[:2] for c in candidates])
    return figures.scatter([c['name'] for c in candidates], [c['confirmation'] for c in candidates], full, panels)


def frontier(result: Mapping) -> bytes:
    """Retention and tau_sig over cost ratio: a large point at what was chosen, a line through all row visits tried."""
    of = _widest(result)
    summary, candidates = result['summary'][of]['auc'], _members(result, of)
    kinds = [kind for kind in _sides(summary) if all(_trained(c, kind) for c in candidates)]
    readings = {kind: _readings(candidates, kind) for kind in kinds}
    tau = summary['ceiling']['tau_sig']
    ceiling = f'dashed: ceiling, {tau["value"]:.3f}' if tau['value'] is not None else f'ceiling {tau["text"]}'
    if summary['pairs']['significant'] < agreement.PAIRS_NEEDED:
        ceiling = f'undefined: {summary["pairs"]["significant"]} significant pairs, {agreement.PAIRS_NEEDED} needed'
    lines = {
        'retention_mean': (1.0, 'dashed: full training', True),
        'tau_sig': (math.nan if tau['value'] is None else tau['value'], ceiling, False),
    }
    panels = {
        FIGURES[figure][0]: ({named(k): found[figure] for k, found in readings.items()}, *line)
        for figure, line in lines.items()
    }
    return figures.frontier(panels, _looks(kinds))


def sections(result: Mapping, command: str, images: Mapping[str, bytes]) -> list[str]:
    """The markup of the page; `images` are the pictures, 'scatter', 'frontier' and, with twins, 'reliability'."""
    of = _widest(result)
    rivals = len(_sides(result['summary'][of]['auc'])) - 1
    parts = [page.heading('Does the memory rank as the full log does?'), page.note(WORDS)]
    for table in tables(result):
        parts += _markup(table)
    parts += [
        page.heading('Candidate by candidate'),
        page.picture(
            images['scatter'],
            'AUC on the full log against AUC on the memory and on the best rival',
            'Bars: sd over full seeds, and over distillations (over student seeds where there is one). Dashed: the '
            'same AUC on both sides; out of the picture where one side is far below.',
        ),
        _candidates(result['candidates']),
        *_reliability(result, images),
        page.heading('Agreement against cost'),
        page.picture(
            images['frontier'],
            'Retention and tau_sig against cost ratio',
            f'{_set(of).capitalize()}. Large: the row visits chosen for each candidate on the tuning block, ± sd over '
            'distillations. Line: all candidates at one number of epochs or visits, the best learning rate for it. The '
            'retention axis is logarithmic away from 1.',
        ),
        *_costs(result),
        page.heading('Does the gap between LR and DeepFM survive?'),
        *_gap(result),
        page.heading('GAUC and LogLoss'),
    ]
    for of in result['summary']:
        for metric in ('gauc', 'logloss'):
            parts += _markup(figure_table(result, of, metric))
    pool = result['pool']
    sub = f'{len(result["candidates"])} candidates, memory and {rivals} rivals, pool {pool["digest"]}'
    return [page.title('Trend instrument', sub), _tiles(result), *parts, *_origin(result, command)]


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


def _sides(summary: Mapping) -> dict[str, Mapping]:
    """Kind -> its figures: the memory, then the rivals, the best first, by tau_sig, retention, Spearman."""

    def rank(item):
        means = [item[1].get(figure, {}).get('mean') for figure in ('tau_sig', 'retention_mean', 'spearman')]
        return *(math.inf if mean is None else -mean for mean in means), item[0]

    return {'memory': summary['memory'], **dict(sorted(summary['rivals'].items(), key=rank))}


def _widest(result: Mapping) -> str:
    """The set with all candidates."""
    return 'all' if 'all' in result['summary'] else next(iter(result['summary']))


def _set(of: str) -> str:
    return 'both sets' if of == 'all' else f'{of} set'


def _members(result: Mapping, of: str) -> list[Mapping]:
    return [c for c in result['candidates'] if c['name'] in result['pool']['sets'][of]]


def _trained(candidate: Mapping, kind: str) -> Mapping | None:
    """Scores of one candidate on one kind; None where it has none."""
    return candidate['memory'] if kind == 'memory' else candidate['rivals'].get(kind)


def _cost_ratio(candidates: Sequence[Mapping], kind: str) -> float:
    ratios = [found['cost_ratio'] for c in candidates if (found := _trained(c, kind))]
    return float(np.mean(ratios)) if ratios else math.nan


def _readings(candidates: Sequence[Mapping], kind: str) -> dict[str, np.ndarray]:
    """Figure -> f64[K, 3], (cost ratio, mean, sd over distillations): the choice, then every point of the frontier."""
    full, found = [c['full']['auc'] for c in candidates], [_trained(c, kind) for c in candidates]
    depth = min(len(side.get('frontier', ())) for side in found)
    rows = {figure: [] for figure in agreement.FIGURES}
    for point in [found, *([side['frontier'][k] for side in found] for k in range(depth))]:
        cost = np.mean([reading['cost_ratio'] for reading in point])
        for figure, x in agreement.figures(full, [reading['auc'] for reading in point]).items():
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


def _markup(table: Table) -> list[str]:
    return [
        page.paragraph(table.caption),
        page.table([name.replace(' ', '\n') for name in table.header], table.rows),  # narrow enough for the page
        *(page.note(line) for line in table.notes),
    ]


def _reliability(result: Mapping, images: Mapping[str, bytes]) -> list[str]:
    if 'reliability' not in images:
        return []
    return [
        page.heading('Is a stated probability true?'),
        page.picture(
            images['reliability'],
            'Stated probability that a candidate beats another against how often it does',
            f'{_set(_widest(result)).capitalize()}, all pairs with a candidate that is no twin, all distillations. '
            'Above the diagonal: truer than stated.',
        ),
    ]


def reliability(result: Mapping) -> bytes | None:
    """Stated probability against truth, of the memory; None without twins."""
    found = result['summary'][_widest(result)].get('answer')
    return figures.reliability(found['memory']['reliability']) if found else None


def _tiles(result: Mapping) -> str:
    of = _widest(result)
    summary = result['summary'][of]['auc']
    ceiling, memory, items = summary['ceiling'], summary['memory'], []
    for figure in ('tau_sig', 'tau_sig_hard', 'retention_mean', 'retention_min', 'regret'):
        (name, form), entry = FIGURES[figure], memory.get(figure, {'mean': None, 'interval': None})
        words = ' to '.join(format(end, form) for end in entry['interval'] or ())
        if figure in ceiling:
            words += f'{", " * bool(words)}ceiling {number(ceiling[figure]["value"], ".3f")}'
        items.append((name, 'undefined' if entry['mean'] is None else format(entry['mean'], form), words))
    cost = number(_cost_ratio(_members(result, of), 'memory'), '.1f')
    html = page.tiles([*items, ('cost ratio', cost, 'row visits, one pass / one student')])
    return html + page.note(f'The memory, {_set(of)}, AUC; small: {summary["intervals"]}.')


def _candidates(candidates: Sequence[Mapping]) -> str:
    groups = [('', 2), ('AUC', 2), ('', 1), ('full', 1), ('memory', 2), ('seconds', 3), ('', 1)]
    header = ['candidate', 'set', 'full', 'memory', 'retention', 'lr', 'lr', 'epochs', 'full', 'memory', 'ratio']
    rows = []
    for c in candidates:
        full, memory, chosen = c['full'], c['memory'], c['chosen']
        row = [c['name'], 'conf.' if c['confirmation'] else 'dev.']
        row += [page.spread(*scores.score(side['auc'])[:2]) for side in (full, memory)]
        row += [number(scores.retentions(c, ['memory'])[0], '.3f'), number(chosen['full']['lr'], 'g')]
        row += [number(chosen['memory'][key], 'g') for key in ('lr', 'epochs')]
        row += [number(side['seconds'], '.3g') for side in (full, memory)]
        rows.append(
            [*row, number(_ratio(full['seconds'], memory['seconds']), '.1f'), number(memory['cost_ratio'], '.1f')]
        )
    return page.table([*header, 'cost\nratio'], rows, groups)


def _costs(result: Mapping) -> list[str]:
    """Training, tuning and evaluation of one candidate, both sides."""
    protocol, candidates = result['protocol'], result['candidates']
    mean = {
        what: [float(np.mean([c[side][what] for c in candidates])) for side in ('full', 'memory')]
        for what in ('row_visits', 'seconds')
    }
    tuning = [protocol['tuning_row_visits'][side] for side in ('full', 'memory')]
    rows = [
        ['row visits: one training, as chosen', *mean['row_visits']],
        ['row visits: tuning, the whole grid, all seeds and distillations', *tuning],
        [
            'row visits: evaluation of one model, tuning block and scored block',
            *[protocol['evaluation_row_visits']] * 2,
        ],
        ['seconds: one training, as chosen, compilation apart', *mean['seconds']],
    ]
    shown = [
        [
            what,
            *(number(x, ',.4g' if what.startswith('seconds') else ',.0f') for x in both),
            number(_ratio(*both), '.1f'),
        ]
        for what, *both in rows
    ]
    return [
        page.table(['one candidate, mean over all', 'full log', 'memory', 'full / memory'], shown),
        page.note(
            'Ratios are those of the means. '
            f'A full pass is {protocol["full_pass_rows"]:,} rows; the memory of each distillation has '
            f'{", ".join(format(n, ",") for n in protocol["memory_rows"])} ({page.share(protocol["row_budget"])}).'
        ),
    ]


def _gap(result: Mapping) -> list[str]:
    gaps = scores.gaps({'candidates': result['candidates']})
    if gaps is None:
        return [page.note('The gap needs both lr and deepfm among the candidates.')]
    order = ['full', *_sides(result['summary'][_widest(result)]['auc'])]
    rows = [
        ['full log' if kind == 'full' else named(kind), number(gaps[kind], '+.4f')]
        + [number(gaps[kind] / gaps['full'] if gaps['full'] > 0 else None, '.2f')]
        for kind in order
        if kind in gaps
    ]
    return [
        page.paragraph('AUC of DeepFM minus AUC of LR. Rows that lift LR up to DeepFM retain AUC and lose the order.'),
        page.table(['trained on', 'DeepFM − LR', '/ full log'], rows),
    ]


def _origin(result: Mapping, command: str) -> list[str]:
    """The commands, the pool, the versions, the protocol, the config."""
    pool, protocol = result['pool'], result['protocol']
    commands = dict.fromkeys(filter(None, [result['command'], command]))
    rows = [
        ['pool', f'{pool["file"]}, {len(pool["candidates"])} candidates, {len(result["candidates"])} of them here'],
        ['pool digest', pool['digest']],
        ['log digest', protocol['log_digest']],
        *([f'{package}, of the memory', version] for package, version in protocol['versions'].items()),
    ]
    return [
        page.heading('How this was made'),
        *(page.pre(line) for line in commands),
        page.table(['', ''], rows),
        page.details('sets', page.pre(_json(pool['sets']))),
        page.details('protocol', page.pre(_json({k: v for k, v in protocol.items() if k != 'predictions'}))),
        page.details('config', page.pre(_json(result['config']))),
    ]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan
