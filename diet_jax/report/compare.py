"""The answer of `scripts/compare.py` as tables and a page. Takes what compare.json holds; reads and writes no file."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from diet_jax.report import page, pictures
from diet_jax.report.page import number


def tables(result: Mapping) -> list[tuple]:
    """(caption, header, rows, lines below): the candidates, by expected AUC on the full log."""
    rows = []
    for c in _ordered(result):
        low, high = c['interval']
        full = c['estimated_full_seconds']
        rows.append(
            [
                c['name'] + ' *' * (c['known_auc'] is not None),
                f'{c["expected_auc"]:.4f}',
                f'{low:.4f} to {high:.4f}',
                number(c.get('best'), '.2f') if 'best' in c else page.DASH,
                f'{np.mean(c["auc"]):.4f}',
                number(c['chosen']['lr'], 'g'),
                f'{c["training_seconds"]:.3f}',
                page.DASH if full is None or math.isnan(full) else f'{full:.2f}',
            ]
        )
    counts = [f'{n:,}' for n in result['memory_rows']]
    each = len(counts) > 1 and len(set(counts)) == 1
    entries = f'{counts[0]} rows of each of' if each else f'{" and ".join(counts)} rows of'
    caption = (
        f'Expected AUC on block {result["scored_on"]} of training on the full log up to stage {result["stage"]} '
        f'({result["full_pass_rows"]:,} rows), told by the '
        f'{entries} {", ".join(result["memories"])}; '
        f'learning rates chosen on {result["tuned_on"]}'
    )
    header = ['candidate', 'expected AUC', '90 % interval', 'P(best)', 'AUC on the memory', 'lr', 's, memory']
    lines = ['* its score on the log is known: a twin of the run, or an anchor', result['correction']['text']]
    return [(caption, [*header, 's, full pass (est.)'], rows, [*lines, *notes(result)])]


def notes(result: Mapping) -> list[str]:
    """The answer in sentences."""
    own = [c for c in _ordered(result) if not c['of_the_library']]
    index = {c['name']: i for i, c in enumerate(result['candidates'])}
    lines = []
    if len(own) > 1:
        first, second = own[:2]
        odds = result['beats'][index[first['name']]][index[second['name']]]
        lines.append(f'{first["name"]} beats {second["name"]} on the full log with probability {odds:.2f}.')
    likely = max(own, key=lambda c: c['best'])
    lines.append(f'{likely["name"]} is the likely best, with probability {likely["best"]:.2f}.')
    worth = max(own, key=lambda c: c['gain_of_a_run'])
    if worth['gain_of_a_run'] > 0:
        lines.append(
            f'The full run most worth doing next is {worth["name"]}: it is expected to raise the best known by '
            f'{worth["gain_of_a_run"]:.4f} AUC.'
        )
    full = [c['estimated_full_seconds'] for c in result['candidates']]
    seeds, lrs = result['grid']['seeds'], len(result['grid']['lr'])
    spent = max(result['seconds'], sum(c['seconds'] for c in result['candidates']))  # kept ones by an earlier call
    spent = f'{spent:.0f} s were spent, compilation included'
    if all(x is not None and math.isfinite(x) for x in full):
        lines.append(
            f'{spent}; training the same grid on the full log would take about {sum(full) * seeds * lrs:.0f} s.'
        )
    else:
        lines.append(f'{spent}.')
    return lines + [result['distilling']] * bool(result['distilling'])


def sections(result: Mapping, command: str) -> list[str]:
    """The markup of the page."""
    [(caption, header, rows, lines)] = tables(result)
    own = [c['name'] for c in result['candidates'] if not c['of_the_library']]
    at = {name: i for i, name in enumerate(own)}
    order = [c['name'] for c in _ordered(result) if c['name'] in at]
    odds = [[a, *('' if a == b else f'{result["beats"][at[a]][at[b]]:.2f}' for b in order)] for a in order]
    known = {c['name']: c['known_auc'] for c in result['candidates']}
    shown = [(c['name'], c['expected_auc'], *c['interval'], known[c['name']]) for c in _ordered(result)]
    return [
        page.title('Which idea wins on the full log?', f'{len(own)} candidates of {result["candidates_file"]}'),
        *(page.paragraph(line) for line in notes(result)),
        page.paragraph(caption),
        page.table([name.replace(' ', '\n') for name in header], rows),
        *(page.note(line) for line in lines[:2]),
        page.picture(
            pictures.intervals(shown),
            'Expected AUC of every candidate with its 90 % interval',
            'Expected AUC on the full log and 90 % interval. Crosses: known scores.',
        ),
        page.heading('Odds'),
        page.paragraph('Probability that the candidate of the row beats that of the column on the full log.'),
        page.table(['', *order], odds),
        page.heading('How this was made'),
        *(page.pre(line) for line in dict.fromkeys(filter(None, [result['command'], command]))),
        page.note('What the answer means and when not to believe it: docs/answer.md.'),
    ]


def _ordered(result: Mapping) -> list[Mapping]:
    return sorted(result['candidates'], key=lambda c: -c['expected_auc'])
