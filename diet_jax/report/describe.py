"""What a folder of log files holds, as a table for a terminal. Takes the summary of a survey; reads no file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.markup import escape

from diet_jax.report.page import number, share

BARS = '▁▂▃▄▅▆▇█'
WIDTH = 60  # bars of a line


def tables(result: Mapping) -> list[tuple]:
    """(caption, header, rows, lines below): the columns, what the log is, its days."""
    rows = [
        [
            escape(c['name']) or "''",
            c['table'] or 'log',
            c['taken'] + ' ?' * (not c['sure']),
            f'{c["values"]:,}',
            share(c['missing']),
            number(c['auc'], '.3f'),
            escape(c['example']),
        ]
        for c in result['columns']
    ]
    count = f'{result["rows"]:,} rows' if result['sampled'] is None else f'about {result["rows"]:,} rows'
    seen = '' if result['sampled'] is None else f'; figures are of {result["sampled"]:,} of them'
    caption = (
        f'{result["log"]} in {result["root"]}: {count} in {result["files"]} file{"s" * (result["files"] > 1)}{seen}. '
        'Each column, what it is taken as (? is a guess), and the AUC of its values alone on held-out rows'
    )
    header = ['column', 'of', 'taken as', 'values', 'missing', 'AUC alone', 'most frequent']
    named = ', '.join(f'{role} {name or "none"}' for role, name in result['roles'].items())
    below = [*result['said'], f'roles: {named}']
    return [(caption, header, rows, _days(result), below, _why(result))]


def _why(result: Mapping) -> list[str]:
    return [
        f'{c["name"]}: {c["taken"]}{" ?" * (not c["sure"])}, {c["why"]}'
        for c in result['columns']
        if c['taken'] not in ('field', 'numeric', 'label') and c['why']
    ]


def _days(result: Mapping) -> list[str]:
    first, last = result['days']
    lines = [f'by day, {first} to {last}:']
    for name, values in result['by_day'].items():
        known = [value for value in values if math.isfinite(value)]
        if name.startswith('new'):  # on the first day everything is
            values = [math.nan, *values[1:]]
            known = [value for value in values if math.isfinite(value)]
        if known:
            form = ',.0f' if name == 'rows' else '.3f'
            lines.append(f'  {name:<11}{bars(values)}  {min(known):{form}} to {max(known):{form}}')
    return lines


def bars(values: Sequence[float]) -> str:
    """Values as bars, the mean of neighbours where there are too many; a space where there is none.

    >>> bars([0.0, 3.5, 7.0, float('nan')])
    '▁▄█ '
    """
    step = math.ceil(len(values) / WIDTH)
    means = [_mean(values[i : i + step]) for i in range(0, len(values), step)]
    known = [value for value in means if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return ''.join(BARS[int((value - low) * scale)] if math.isfinite(value) else ' ' for value in means)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan
