"""The answer of `scripts/compare.py` by slice (`study.slices`), as tables and markup. Takes what compare.json holds."""

from __future__ import annotations

from collections.abc import Mapping

from diet_jax.report import page
from diet_jax.report.page import number

# Scores of students: key, name, format.
MEMORY = (
    ('auc', 'AUC', '.4f'),
    ('gauc', 'GAUC', '.4f'),
    ('logloss', 'LogLoss', '.4f'),
    ('calibration', 'calibration', '.2f'),
)


def tables(result: Mapping) -> list[tuple]:
    """(caption, header, rows, lines below) of each slicing: the first candidate by expected AUC, and who is nearest."""
    found = [(*_table(result, slicing), []) for slicing in result['slices']]
    return [*found[:-1], (*found[-1][:3], [_words(result)])] if found else []


def sections(result: Mapping) -> list[str]:
    """The markup: a table a slicing, and every candidate in every slice; nothing without slices."""
    if not result['slices']:
        return []
    parts = [page.heading('By slice'), page.note(_words(result))]
    for slicing in result['slices']:
        caption, header, rows = _table(result, slicing)
        parts += [page.paragraph(caption + '.'), page.table([*map(page.narrow, header)], rows)]
        parts += _differences(result, slicing)
        parts.append(page.details(f'{slicing["name"]}: every candidate on the memory', _on_memory(result, slicing)))
    return parts


def _words(result: Mapping) -> str:
    """What the columns are."""
    margin = f' by more than {result["margin"]:g} AUC' if result['margin'] else ''
    return (
        'AUC, GAUC, LogLoss and calibration (mean predicted / mean clicked: 1 is right) are those on the memory. '
        'Strongest other: the highest AUC foretold for the full log, its difference to the first, and the probability '
        f'that it is better{margin} in the slice; the strongest of many is often so by chance. –: all rows were '
        'clicked, or none; of fewer than 30 of either, or without twins, nothing is foretold.'
    )


def _table(result: Mapping, slicing: Mapping) -> tuple:
    leader = result['leader']['name']
    caption = f'By {slicing["name"]}, rows of block {result["scored_on"]}: {leader}, which has the highest expected AUC'
    if slicing['name'].startswith('new '):
        caption += '. New: first seen after the memory was made'
    header = [slicing['name'], 'rows', 'clicked', *(name for _, name, _ in MEMORY), 'expected AUC', 'strongest other']
    return caption, [*header, 'its difference', 'P(better)'], [_row(result, value) for value in slicing['values']]


def _row(result: Mapping, value: Mapping) -> list[str]:
    """A slice: the leader on the memory, and the strongest of the others."""
    own = [c['name'] for c in result['candidates'] if not c['of_the_library']]
    found = dict(zip(own, value['candidates']))  # those of the library come last
    first = found.pop(result['leader']['name'])
    cells = [
        value['value'],
        f'{value["rows"]:,}',
        page.share(value['clicks'] / value['rows'] if value['rows'] else None),
    ]
    cells += [number(first[key], form) for key, _, form in MEMORY] + [number(first.get('expected_auc'))]
    if 'expected_auc' not in first or not found:
        return [*cells, *[page.DASH] * 3]
    name = max(found, key=lambda other: found[other]['expected_auc'])
    return [*cells, name, f'{found[name]["difference"]:+.4f}', f'{found[name]["better"]:.2f}']


def _differences(result: Mapping, slicing: Mapping) -> list[str]:
    """Every candidate's foretold difference to the leader, in every slice where there is one."""
    values = [value for value in slicing['values'] if 'difference' in value['candidates'][0]]
    leader = result['leader']['name']
    order = [(i, c) for i, c in enumerate(result['candidates']) if not c['of_the_library'] and c['name'] != leader]
    if not values or not order:
        return []
    order.sort(key=lambda item: -item[1]['expected_auc'])
    rows = [[c['name'], *(_with_interval(value['candidates'][i]) for value in values)] for i, c in order]
    text = f'AUC foretold for the full log, minus that of {leader}, with 90 % interval.'
    return [page.paragraph(text), page.table([slicing['name'], *(value['value'] for value in values)], rows)]


def _with_interval(one: Mapping) -> str:
    low, high = one['interval']
    return f'{one["difference"]:+.4f} ± {(high - low) / 2:.4f}'


def _on_memory(result: Mapping, slicing: Mapping) -> str:
    rows, values = [], slicing['values']
    names = [name for _, name, _ in MEMORY]
    for i, c in enumerate(result['candidates']):
        cells = [number(v['candidates'][i][key], form) for v in values for key, _, form in MEMORY]
        rows.append([c['name'], *cells])
    groups = [('', 1), *((f'{v["value"]}, {v["rows"]:,} rows', len(names)) for v in values)]
    return page.table(['candidate', *names * len(values)], rows, groups)
