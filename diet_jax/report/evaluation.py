"""The sections of the report about students: the memory beside full training and the floors."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diet_jax.report import figures, page
from diet_jax.report.page import number, spread
from diet_jax.stats import scores


def protocol(stage: Mapping) -> str:
    """How a stage was evaluated, in words."""
    return f'Stage {stage["stage"]}, tuned on {stage["tuned_on"]}, scored once on {stage["scored_on"]}'


def orders(stages: Sequence[Mapping]) -> list[tuple[str, list[str], list[list[str]]]]:
    """[(caption, header, rows)]: tau_sig at every stage; [] where it is defined at none, with ten candidates or so."""
    names, rows = scores.kinds(stages), []
    for stage in stages:
        found = [scores.stage_order(stage, kind) for kind in names]
        if any(found):
            cells = (page.spread(tau.mean, tau.sd) if tau else 'undefined' for tau in found)
            rows.append([str(stage['stage']), str(stage['scored_on']), *cells])
    header = ['stage', 'scored on', *(f'tau_sig: {name}' for name in names.values())]
    return [('Does it rank the candidates as the full log does?', header, rows)] if rows else []


def evaluation(evaluate: Any, command: str) -> list[str]:
    """Students on the memory beside full training and the floors."""
    html = [page.heading('Trained on the memory, beside trained on the log')]
    if evaluate is None:
        return [
            *html,
            page.missing('evaluate.json', 'retention, candidates, calibration and forgetting', command),
        ]
    stages = evaluate['stages']
    if not stages:
        return [
            *html,
            page.note('No stage could be scored: stage t is tuned on block t + 1 and scored on block t + 2.'),
        ]
    labels, last, names = [str(stage['scored_on']) for stage in stages], stages[-1], scores.kinds(stages)
    series = {}
    for kind, name in names.items():
        found = [scores.stage_retention(stage, kind) for stage in stages]
        series[name] = [list(r.by_candidate.values()) if r else [] for r in found]
    known = list(dict.fromkeys(c['name'] for stage in stages for c in stage['candidates']))
    panels = {
        title: {name: _auc_curve(stages, name, side) for name in known}
        for title, side in (('trained on the full log', 'full'), ('trained on the memory', 'memory'))
    }
    return [
        *html,
        page.picture(
            figures.retention(labels, series),
            'Retention per stage, with the floors',
            'Retention, (AUC − 0.5) / (AUC of full training − 0.5), by the block scored. Lines: mean over '
            'the candidates. Dots: the candidates.',
        ),
        page.picture(
            figures.auc_by_candidate(labels, panels),
            'AUC per stage and candidate, full training and memory',
            'AUC by the block scored. Left: one time-ordered pass over the log. Right: trained on the '
            'memory. The order of the lines is what a team decides by.',
        ),
        page.heading('Candidates'),
        page.note(
            f'{protocol(last)}, {last["memory_rows"]:,} memory rows. ±: standard deviation over the full '
            'seeds; on the memory over distillations, or over student seeds where there is one '
            'distillation.'
        ),
        _candidates(last),
        page.note('What was chosen for each on the tuning block, and what its training took.'),
        _settings(last),
        page.heading('Does the gap between LR and DeepFM survive?'),
        page.paragraph(
            'AUC of DeepFM minus AUC of LR. Where the memory lifts LR up to DeepFM, retention looks '
            'perfect and the order of the candidates is lost.'
        ),
        _gaps(stages),
        *(part for caption, *rows in orders(stages) for part in (page.heading(caption), page.table(*rows))),
        *_calibration(last),
        *_forgetting(last),
    ]


def _candidates(stage: Mapping) -> str:
    """How every candidate of a stage scored."""
    names = scores.kinds([stage])
    groups = [('', 1), ('AUC', 2), ('retention', len(names)), ('LogLoss', 2), ('GAUC', 2), ('', 1)]
    header = [
        'candidate',
        'full',
        'memory',
        *map(_narrow, names.values()),
        *['full', 'memory'] * 2,
        'cost ratio',
    ]
    rows = []
    for candidate in stage['candidates']:
        sides = (candidate['full'], candidate['memory'])
        row = [candidate['name'], *(spread(*scores.score(side['auc'])[:2]) for side in sides)]
        row += [number(value, '.3f') for value in scores.retentions(candidate, list(names))]
        row += [number(scores.score(side.get(what, [])).mean) for what in ('logloss', 'gauc') for side in sides]
        rows.append([*row, number(sides[1].get('cost_ratio'), '.1f')])
    return page.table(header, rows, groups)


def _settings(stage: Mapping) -> str:
    """What was chosen for every candidate of a stage, and what its training visited."""
    groups = [('', 1), ('full log', 4), ('memory', 5)]
    columns = (
        ('lr', 'g'),
        ('epochs', 'g'),
        ('tuning_auc', '.4f'),
        ('row_visits', ',.0f'),
        ('seconds', '.2f'),
    )
    shown = {'full': [c for c in columns if c[0] != 'epochs'], 'memory': columns}
    header = ['candidate', *(name.replace('_', ' ') for side in shown for name, _ in shown[side])]
    rows = []
    for candidate in stage['candidates']:
        row = [candidate['name']]
        for side, wanted in shown.items():
            known = {**candidate[side], **candidate.get('chosen', {}).get(side, {})}
            row += [number(known.get(name), form) for name, form in wanted]
        rows.append(row)
    return page.table([name.replace('tuning auc', 'tuning AUC') for name in header], rows, groups)


def _gaps(stages: Sequence[Mapping]) -> str:
    found = [(stage, gap) for stage in stages if (gap := scores.gaps(stage)) is not None]
    if not found:
        return page.note('The gap needs both lr and deepfm among the candidates.')
    names = {kind: name for kind, name in scores.kinds(stages).items() if any(kind in gap for _, gap in found)}
    rows = []
    for stage, gap in found:
        kept = gap['memory'] / gap['full'] if gap['full'] > 0 else math.nan
        cells = [number(gap.get(kind), '+.4f') for kind in ('full', *names)]
        rows.append([str(stage['stage']), str(stage['scored_on']), *cells, number(kept, '.2f')])
    return page.table(['stage', 'scored on', 'full log', *map(_narrow, names.values()), 'memory / full'], rows)


def _calibration(stage: Mapping) -> list[str]:
    html, found = [page.heading('Calibration of a student')], stage.get('calibration')
    if not found:
        return [*html, page.note('evaluate.json has no calibration for its last stage.')]
    curves = {'full training': found['full'], 'memory': found['memory']}
    rows = []
    for name, bins in curves.items():
        p, y, n = np.asarray(bins, float).reshape(-1, 3).T
        error = np.nansum(np.where(n > 0, n * np.abs(p - y), 0.0)) / n.sum()
        mean_p, mean_y = (np.nansum(np.where(n > 0, n * x, 0.0)) / n.sum() for x in (p, y))
        rows.append([name, number(mean_p), number(mean_y), number(error)])
    picture = page.picture(
        figures.calibration(curves),
        'Calibration, memory beside full training',
        f'{found["candidate"]}, scored on {stage["scored_on"]}; a dot is a bin, its size the number of rows.',
    )
    header = [found['candidate'], 'mean predicted', 'mean observed', 'calibration error']
    note = page.note('Calibration error: |predicted − observed| of a bin, averaged over its rows.')
    return [*html, page.pair([picture, page.table(header, rows) + note])]


def _forgetting(stage: Mapping) -> list[str]:
    html, found = [page.heading('Forgetting')], stage.get('forgetting')
    if not found:
        return [*html, page.note('evaluate.json has no scores on old blocks for its last stage.')]
    blocks = list(dict.fromkeys(str(row['block']) for row in found))
    curves: dict[str, dict[str, list[float]]] = {}
    for row in found:
        empty = {'full training': [math.nan] * len(blocks), 'memory': [math.nan] * len(blocks)}
        curve = curves.setdefault(row['candidate'], empty)
        for name, side in (('full training', 'full'), ('memory', 'memory')):
            curve[name][blocks.index(str(row['block']))] = math.nan if row[side] is None else row[side]
    caption = (
        f'AUC on the blocks the memory of stage {stage["stage"]} was distilled from. Full training has '
        'trained on these very rows, so it may be ahead here by what it remembers of them.'
    )
    return [*html, page.picture(figures.forgetting(blocks, curves), 'AUC on old blocks', caption)]


def _auc_curve(stages: Sequence[Mapping], name: str, side: str) -> list[float]:
    """Mean AUC of one candidate per stage, nan at the stages that do not have it."""
    found = ({c['name']: c for c in stage['candidates']} for stage in stages)
    return [scores.score(by_name[name][side]['auc']).mean if name in by_name else math.nan for by_name in found]


def _narrow(text: str) -> str:
    """A long heading on short lines."""
    return textwrap.fill(text, 14)
