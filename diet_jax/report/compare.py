"""The answer of `scripts/compare.py` as tables and a page. Takes what compare.json holds; reads and writes no file."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from diet_jax.report import page, slices, vector
from diet_jax.report.page import number
from diet_jax.stats import scores


def tables(result: Mapping) -> list[tuple]:
    """(caption, header, rows, lines below) of each: the candidates, with a margin the odds of the first, the slices."""
    caption, header, rows, below = _candidates(result)
    by_slice = slices.tables(result)
    if not result['margin'] or len(_own(result)) < 2:
        return [(caption, header, rows, [*below, *notes(result)]), *by_slice]
    return [(caption, header, rows, below), (*_against_leader(result), notes(result)), *by_slice]


def _candidates(result: Mapping) -> tuple:
    """The candidates, by expected AUC on the full log."""
    rows, own, first = [], _own(result), _first(result)['name']
    for c in _ordered(result):
        low, high = c['interval']
        full = c['estimated_full_seconds']
        rows.append(
            [
                _named(c) + ' *' * (c['known_auc'] is not None),
                f'{c["expected_auc"]:.4f}',
                f'{low:.4f} to {high:.4f}',
                number(c.get('best'), '.2f') if 'best' in c else page.DASH,
                *[_against(result, c['name'], first)] * (len(own) > 1),
                f'{np.mean(c["auc"]):.4f}',
                number(c['chosen']['lr'], 'g'),
                number(c['training_seconds'], '.3f'),
                page.DASH if full is None or math.isnan(full) else f'{full:.2f}',
            ]
        )
    counts = [f'{n:,}' for n in result['memory_rows']]
    each = len(counts) > 1 and len(set(counts)) == 1
    entries = f'{counts[0]} rows of each of' if each else f'{" and ".join(counts)} rows of'
    caption = (
        f'Expected AUC{_of_label(result)} on block {result["scored_on"]} of training on the full log up to '
        f'stage {result["stage"]} ({result["full_pass_rows"]:,} rows), told by the '
        f'{entries} {", ".join(result["memories"])}; '
        f'learning rates chosen on {result["tuned_on"]}'
    )
    header = ['candidate', 'expected AUC', '90 % interval', 'P(best)', *[f'beats {first}'] * (len(own) > 1)]
    known = [
        f'{c["name"]} {c["known_auc"]:.4f}{_rate(result, c["name"])}'
        for c in _ordered(result)
        if c['known_auc'] is not None
    ]
    lines = [
        f'* its score on the log is known, of a twin of the run or an anchor: {", ".join(known)}',
        result['correction']['text'],
    ]
    return caption, [*header, 'AUC on the memory', 'lr', 's, memory', 's, full pass (est.)'], rows, lines


def _first(result: Mapping) -> Mapping:
    """The first candidate of the file: what others are held against."""
    return next(c for c in result['candidates'] if not c['of_the_library'])


def _against(result: Mapping, name: str, first: str) -> str:
    """The probability that a candidate beats the first of the file; a dash for that itself and for the twins."""
    own = _own(result)
    return page.DASH if name == first or name not in own else f'{result["beats"][own[name]][own[first]]:.2f}'


def _named(candidate: Mapping) -> str:
    """A candidate's name, and where it was trained if not here."""
    framework = candidate.get('framework')
    return f'{candidate["name"]} ({framework})' if framework else candidate['name']


def _source(result: Mapping) -> str:
    """What the candidates were read from."""
    here = any('framework' not in c for c in result['candidates'] if not c['of_the_library'])
    return ' and '.join(filter(None, [result['candidates_file'] if here else '', result.get('predictions')]))


def _of_label(result: Mapping) -> str:
    """Which outcome is meant, where the log has several."""
    return f" of '{result['label']}'" if len(result.get('outcomes', ())) > 1 else ''


def _against_leader(result: Mapping) -> tuple:
    """(caption, header, rows): the odds of every candidate against that of the highest expected AUC."""
    leader, margin, own = result['leader']['name'], result['margin'], _own(result)
    caption = (
        f'Against {leader}, which has the highest expected AUC: the odds that a candidate is worse than it on the full '
        f'log by more than {margin:g} AUC, within {margin:g} of it, or better by more'
    )
    others = [c['name'] for c in _ordered(result) if c['name'] in own and c['name'] != leader]
    rows = [[name, *(f'{p:.2f}' for p in _odds(result, leader, name))] for name in others]
    return caption, ['candidate', f'worse by > {margin:g}', f'within {margin:g}', f'better by > {margin:g}'], rows


def _own(result: Mapping) -> dict[str, int]:
    """Name -> place in the matrices of odds."""
    return {c['name']: i for i, c in enumerate(result['candidates']) if not c['of_the_library']}


def _odds(result: Mapping, first: str, second: str) -> tuple[float, float, float]:
    """That the first is better than the second by more than the margin, within it, worse by more."""
    own, odds = _own(result), result['odds']
    i, j = own[first], own[second]
    return odds['better'][i][j], odds['within'][i][j], odds['better'][j][i]


def notes(result: Mapping) -> list[str]:
    """The answer in sentences."""
    own = [c for c in _ordered(result) if not c['of_the_library']]
    lines = [_first_two(result, *(c['name'] for c in own[:2]))] if len(own) > 1 else []
    if result['margin'] and len(own) > 1:
        lines.append(_not_told(result))
    likely = max(own, key=lambda c: c['best'])
    lines.append(f'{likely["name"]} is the likely best, with probability {likely["best"]:.2f}.')
    worth = max(own, key=lambda c: c['gain_of_a_run'])
    if round(worth['gain_of_a_run'], 4) > 0:
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
    gone = scores.left_out(result.get('left_out', {})), scores.left_out(result.get('twins_left_out', {}), 'twins')
    said = [*gone, _too_slow(result), *_behind_all(result), result['distilling']]
    return lines + [text for text in said if text]


def _rate(result: Mapping, name: str) -> str:
    """At which rates a twin's known score was reached, where not at its usual one."""
    times = sorted(set(result.get('twin_rates', {}).get(name, [1.0])))
    return '' if times == [1.0] else f' (at {" and ".join(f"{x:g}" for x in times)} times its rate)'


def _too_slow(result: Mapping) -> str:
    """That the labels of the memory are likely too weak: most twins predict better at more than the usual rate."""
    rates = [float(np.mean(times)) for times in result.get('twin_rates', {}).values()]
    if 2 * sum(rate > 1 for rate in rates) <= len(rates):
        return ''
    more = float(np.median([rate for rate in rates if rate > 1])) * result['reference_rate']
    return (
        'Most twins predict better at more than their usual rates, and so would the model that gives the memory its '
        f'labels: distill with --config.reference.rate={more:g} in another --workdir.'
    )


def _behind_all(result: Mapping) -> list[str]:
    """Models from elsewhere that are worse on the memory than every twin: that is seldom the idea's fault."""
    on_memory = {c['name']: float(np.mean(c['auc'])) for c in result['candidates']}
    twins = [on_memory[c['name']] for c in result['candidates'] if c['of_the_library']]
    return [
        f'{c["name"]} comes to {on_memory[c["name"]]:.4f} on the memory, the worst twin to {min(twins):.4f}: do its '
        'embeddings start at N(0, view.init_std), and does it predict probabilities?'
        for c in result['candidates']
        if c.get('framework') and twins and on_memory[c['name']] < min(twins)
    ]


def _first_two(result: Mapping, first: str, second: str) -> str:
    margin, own = result['margin'], _own(result)
    if not margin:
        odds = result['beats'][own[first]][own[second]]
        return f'{first} beats {second} on the full log with probability {odds:.2f}.'
    better, within, worse = _odds(result, first, second)
    return (
        f'On the full log {first} is better than {second} by more than {margin:g} AUC with probability {better:.2f}, '
        f'within {margin:g} of it with {within:.2f}, worse by more with {worse:.2f}.'
    )


def _not_told(result: Mapping) -> str:
    """Which candidates may be as good as that of the highest expected AUC."""
    leader = result['leader']
    beyond = f'worse than {leader["name"]} by more than {result["margin"]:g} AUC'
    beyond += f' with probability {leader["sure"]:g} or more'
    names = [c['name'] for c in _ordered(result) if c['name'] in leader['not_told_from']]
    if not names:
        return f'Every other candidate is {beyond}.'
    if len(names) == len(_own(result)) - 1:
        return f'All others may be as good: none is {beyond}.'
    return f'{", ".join(names)} may be as good; the others are {beyond}.'


def checks(result: Mapping) -> list[str]:
    """A line for every rule: whether the check fails, and why."""
    return [f'check {"FAILED" if rule["fails"] else "passed"}: {_said(rule)}' for rule in result['rules']]


def _said(rule: Mapping) -> str:
    word, by = 'worse' if rule['worse'] else 'better', f' by more than {rule["margin"]:g} AUC' if rule['margin'] else ''
    above = 'above' if rule['fails'] else 'not above'
    return (
        f'{rule["first"]} is {word} than {rule["second"]}{by} on the full log with probability '
        f'{rule["probability"]:.3f}, {above} {rule["limit"]:g}'
    )


def _rules(result: Mapping) -> list[str]:
    """The markup of the checks; nothing without one."""
    if not result['rules']:
        return []
    rows = [[r['text'], f'{r["probability"]:.3f}', 'failed' if r['fails'] else 'passed'] for r in result['rules']]
    return [page.heading('Checks'), page.table(['fail if', 'probability', 'verdict'], rows)]


def sections(result: Mapping, command: str) -> list[str]:
    """The markup of the page."""
    caption, header, rows, below = _candidates(result)
    own = _own(result)
    known = {c['name']: c['known_auc'] for c in result['candidates']}
    shown = [(c['name'], c['expected_auc'], *c['interval'], known[c['name']]) for c in _ordered(result)]
    return [
        page.title('Which idea wins on the full log?', f'{len(own)} candidates of {_source(result)}'),
        *(page.paragraph(line) for line in notes(result)),
        *_rules(result),
        page.paragraph(caption),
        _sortable(result, header, rows),
        *(page.note(line) for line in below),
        vector.intervals(shown),
        page.note('Expected AUC on the full log and 90 % interval. Crosses: known scores.'),
        *_pairs(result),
        *slices.sections(result),
        page.heading('How this was made'),
        *(page.pre(line) for line in dict.fromkeys(filter(None, [result['command'], command]))),
        page.note('What the answer means and when not to believe it: docs/answer.md.'),
    ]


def _sortable(result: Mapping, header: list[str], rows: list) -> str:
    """The candidates, and in what each differs from the first of the file."""
    first = _first(result)
    differs = [differs_from(c, first) for c in _ordered(result)]
    named = [*map(page.narrow, header), f'differs from {first["name"]}']
    return page.sortable(named, [[*row, text] for row, text in zip(rows, differs, strict=True)], words=[len(header)])


def differs_from(candidate: Mapping, first: Mapping) -> str:
    """In what a candidate differs from another one; of a model that lives elsewhere no config is known."""
    apart = {c.get('framework') for c in (candidate, first)} - {None}
    if candidate['name'] == first['name']:
        return ''
    return f'of {" and ".join(sorted(apart))}' if apart else differing(candidate['config'], first['config'])


def differing(config: Mapping, from_: Mapping) -> str:
    """In what a candidate's config differs from another one.

    >>> differing({'model': 'deepfm', 'dim': 8, 'drop': ['user']}, {'model': 'deepfm', 'dim': 4, 'hidden': [64, 32]})
    'dim=8 hidden=default drop=user'
    """
    said = lambda value: ','.join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)  # noqa: E731
    keys = [key for key in {**from_, **config} if (config.get(key) or None) != (from_.get(key) or None)]
    values = [(said(config[key]) or 'none') if key in config else 'default' for key in keys]
    return ' '.join(f'{key}={value}' for key, value in zip(keys, values, strict=True))


def _pairs(result: Mapping) -> list[str]:
    """The markup of the odds of all pairs, and with a margin of those against the first."""
    margin, own = result['margin'], _own(result)
    order = [c['name'] for c in _ordered(result) if c['name'] in own]
    better = result['odds']['better']
    odds = [[a, *('' if a == b else f'{better[own[a]][own[b]]:.2f}' for b in order)] for a in order]
    beyond = f' by more than {margin:g} AUC' if margin else ''
    verb = 'is better than' if margin else 'beats'
    parts = [page.heading('Odds')]
    if margin and len(own) > 1:
        caption, header, rows = _against_leader(result)
        parts += [page.paragraph(caption + '.'), page.table(header, rows)]
    text = f'Probability that the candidate of the row {verb} that of the column{beyond} on the full log.'
    return [*parts, page.paragraph(text), page.table(['', *map(page.narrow, order)], odds)]


def _ordered(result: Mapping) -> list[Mapping]:
    return sorted(result['candidates'], key=lambda c: -c['expected_auc'])
