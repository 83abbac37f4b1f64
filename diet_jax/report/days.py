"""Several comparisons side by side: an idea's odds over a week. Takes what files compare.json hold."""

from __future__ import annotations

import os
from collections.abc import Mapping

from diet_jax.base.errors import UserError, closest
from diet_jax.report import page, vector
from diet_jax.report.compare import differs_from


def in_order(named: Mapping[str, Mapping]) -> dict[str, Mapping]:
    """Comparisons by the block that they are scored on, then by their folders. named: {folder: compare.json}."""
    return dict(sorted(named.items(), key=lambda one: (str(one[1]['scored_on']), one[0])))


def steps(named: Mapping[str, Mapping]) -> list[str]:
    """What each comparison is called: its scored block, and where that is not enough its folder."""
    blocks = [str(result['scored_on']) for result in named.values()]
    if len(set(blocks)) == len(blocks):
        return blocks
    above = os.path.commonpath([os.path.abspath(folder) for folder in named])
    return [f'{block} {os.path.relpath(folder, above)}' for block, folder in zip(blocks, named, strict=True)]


def baseline_of(named: Mapping[str, Mapping], wanted: str = '') -> str:
    """The candidate that others are held against: the one that is asked for, or the first that all comparisons have.

    Raises:
      UserError: no comparison has it, or they have none in common.
    """
    own = [_own(result) for result in named.values()]
    if wanted:
        every = dict.fromkeys(name for names in own for name in names)
        if wanted not in every:
            raise UserError(f'--baseline={wanted}: no comparison has it{closest(wanted, every)}')
        return wanted
    common = [name for name in own[0] if all(name in names for names in own)]
    if not common:
        raise UserError('the comparisons have no candidate in common: name a --baseline that most have')
    return common[0]


def table(named: Mapping[str, Mapping], baseline: str) -> tuple[list[str], list[list[str]]]:
    """(header, rows): of every candidate its expected AUC, and its odds against the baseline, each time."""
    header = ['candidate']
    for step in steps(named):
        header += ['\n'.join((*step.split(' '), what)) for what in ('expected AUC', f'beats {baseline}')]
    rows = []
    for name in _names(named):
        row = [name]
        for result in named.values():
            found = {c['name']: c for c in result['candidates']}.get(name)
            row.append(page.number(found and found['expected_auc']))
            row.append(page.number(odds(result, name, baseline), '.2f') if name != baseline else page.DASH)
        rows.append(row)
    return header, rows


def odds(result: Mapping, first: str, second: str) -> float | None:
    """That the first beats the second on the full log, None where a comparison has not both."""
    own = _own(result)
    return result['beats'][own[first]][own[second]] if first in own and second in own else None


def sections(named: Mapping[str, Mapping], baseline: str, command: str) -> list[str]:
    """The markup of the page."""
    header, rows = table(named, baseline)
    last = list(named.values())[-1]
    of = {c['name']: c for result in named.values() for c in result['candidates']}
    against = [name for name in _names(named) if name != baseline]
    series = {name: [odds(result, name, baseline) for result in named.values()] for name in against}
    series = {name: values for name, values in series.items() if any(v is not None for v in values)}
    rows = [[*row, differs_from(of[row[0]], of[baseline])] for row in rows]
    likely = ', '.join(f'{step}: {_likely(result)}' for step, result in zip(steps(named), named.values(), strict=True))
    return [
        page.title('Which idea wins, time after time?', f'{len(named)} comparisons, the last on {last["scored_on"]}'),
        page.paragraph(f'The likely best of each: {likely}.'),
        page.sortable([*header, f'differs from {baseline}'], rows, words=[len(header)]),
        page.heading(f'Odds against {baseline}'),
        vector.lines(
            steps(named), series, f'Probability of beating {baseline} on the full log, comparison by comparison'
        ),
        page.note(f'Probability that a candidate beats {baseline} on the full log.'),
        page.heading('How this was made'),
        page.pre(command),
        *(page.pre(f'{folder}: {result["command"]}') for folder, result in named.items()),
    ]


def _own(result: Mapping) -> dict[str, int]:
    return {c['name']: i for i, c in enumerate(c for c in result['candidates'] if not c['of_the_library'])}


def _names(named: Mapping[str, Mapping]) -> list[str]:
    """Every candidate, those of the files alone, in order of the last comparison that has them."""
    return list(dict.fromkeys(name for result in reversed(list(named.values())) for name in _own(result)))


def _likely(result: Mapping) -> str:
    best = max((c for c in result['candidates'] if not c['of_the_library']), key=lambda c: c['best'])
    return f'{best["name"]} ({best["best"]:.2f})'
