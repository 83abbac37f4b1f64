"""The page of the trend instrument: its tables and pictures, candidate by candidate, costs, and how it was made."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diet_jax.report import judgement, page, trends
from diet_jax.report.page import number
from diet_jax.stats import scores

WORDS = (
    'tau_sig: (agreeing − disagreeing) / significant pairs; hard: those less than 0.005 apart on the log. Ceiling: one '
    'half of the full-log seeds against the other. Regret: what the log loses by taking the first of this ranking. '
    'Cost ratio: row visits of one pass over the log / of one training here, mean over the candidates. Rivals: best '
    'first. Where students were trained on the rows’ own ids beside codes, candidates are ordered by both AUCs, '
    'weighted (evaluate.by_ids); retention is that on codes.'
)


def sections(result: Mapping, command: str, images: Mapping[str, bytes]) -> list[str]:
    """The markup of the page; images: 'scatter', 'frontier', with twins 'costs' and those of `trends.reliability`."""
    of = trends.widest(result)
    rivals = len(trends.sides_of(result['summary'][of]['auc'])) - 1
    parts = [page.heading('Does the memory rank as the full log does?'), page.note(WORDS)]
    for table in trends.tables(result):
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
        *judgement.section(images, trends.margin(result), trends.set_name(of)),
        *_cost_section(images.get('costs')),
        page.heading('Agreement against cost'),
        page.picture(
            images['frontier'],
            'Retention and tau_sig against cost ratio',
            f'{trends.set_name(of).capitalize()}. Large: the row visits chosen for each candidate on the tuning block, '
            '± sd over distillations. Line: all candidates at one number of epochs or visits, the best learning rate '
            'for it. The retention axis is logarithmic away from 1.',
        ),
        *_costs(result),
        page.heading('Does the gap between LR and DeepFM survive?'),
        *_gap(result),
        page.heading('GAUC and LogLoss'),
    ]
    for of in result['summary']:
        for metric in ('gauc', 'logloss'):
            parts += _markup(trends.figure_table(result, of, metric))
    pool = result['pool']
    several = 'rival' if rivals == 1 else 'rivals'
    sub = f'{len(result["candidates"])} candidates, memory and {rivals} {several}, pool {pool["digest"]}'
    return [page.title('Trend instrument', sub), _tiles(result), *parts, *_origin(result, command)]


def _cost_section(image: bytes | None) -> list[str]:
    if image is None:
        return []
    return [
        page.heading('What is a comparison worth its cost?'),
        page.picture(
            image,
            'tau_sig, hard pairs and regret against total cost in full passes',
            'Dots: 1, 10, 30, 100 candidates. Everything counts: all learning rates and seeds, distilling, reference '
            'model and twins. With the answer of twins; bands: sd over distillations, over seeds for the full log. '
            'Regret: what the log loses by taking the first.',
        ),
    ]


def _markup(table: trends.Table) -> list[str]:
    return [
        page.paragraph(table.caption),
        page.table([name.replace(' ', '\n') for name in table.header], table.rows),  # narrow enough for the page
        *(page.note(line) for line in table.notes),
    ]


def _tiles(result: Mapping) -> str:
    of = trends.widest(result)
    summary = result['summary'][of]['auc']
    ceiling, memory, items = summary['ceiling'], summary['memory'], []
    for figure in ('tau_sig', 'tau_sig_hard', 'retention_mean', 'retention_min', 'regret'):
        (name, form), entry = trends.FIGURES[figure], memory.get(figure, {'mean': None, 'interval': None})
        words = ' to '.join(format(end, form) for end in entry['interval'] or ())
        if figure in ceiling:
            words += f'{", " * bool(words)}ceiling {number(ceiling[figure]["value"], ".3f")}'
        items.append((name, 'undefined' if entry['mean'] is None else format(entry['mean'], form), words))
    cost = number(trends.cost_ratio(trends.members(result, of), 'memory'), '.1f')
    html = page.tiles([*items, ('cost ratio', cost, 'row visits, one pass / one student')])
    return html + page.note(f'The memory, {trends.set_name(of)}, AUC; small: {summary["intervals"]}.')


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
    order = ['full', *trends.sides_of(result['summary'][trends.widest(result)]['auc'])]
    rows = [
        ['full log' if kind == 'full' else trends.named(kind), number(gaps[kind], '+.4f')]
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
        *([['left out', scores.left_out(pool['left_out'])]] if pool.get('left_out') else []),
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
