"""A survey as plain values: what a table on the terminal is made from."""

from __future__ import annotations

import numpy as np

from diet_jax.config import default_config
from diet_jax.describe.survey import Survey
from diet_jax.stats import scores


def summary(found: Survey) -> dict:
    """Names, figures and sentences of a survey; by day from the first to the last that is no stray."""
    inside = slice(found.days.begin, found.days.last + 1)
    by_day = {'rows': found.days.rows.astype(np.float64), 'click rate': _rate(found)}
    by_day |= {f'new {what}': share for what, share in found.fresh.items()}
    return {
        'root': found.root.shown,
        'log': found.log.name,
        'files': len(found.log.files),
        'rows': found.rows,
        'sampled': None if found.whole else len(found.clock.seconds),
        'days': [found.days.name(found.days.begin), found.days.name(found.days.last)],
        'by_day': {name: values[inside].tolist() for name, values in by_day.items() if values is not None},
        'columns': [
            {
                'name': column.name,
                'table': column.table,
                'taken': guess.taken,
                'sure': guess.sure,
                'why': guess.why,
                'values': column.values,
                'missing': column.missing,
                'auc': column.auc,
                'example': column.example,
            }
            for column, guess in found.columns
        ],
        'roles': dict(zip(('user', 'item', 'creator', 'context'), found.roles[:4], strict=True)),
        'said': [*_said(found), *found.notes, advice(found)],
    }


def _rate(found: Survey) -> np.ndarray | None:
    label = found.label.values
    if label is None:
        return None
    known, size = ~np.isnan(label), len(found.days.rows)
    rows = np.bincount(found.days.of_row[known], minlength=size)
    hits = np.bincount(found.days.of_row[known], label[known], minlength=size)
    return np.divide(hits, rows, out=np.full(size, np.nan), where=rows > 0)


def _said(found: Survey) -> list[str]:
    """The log's time, blocks, label and side tables in sentences."""
    clock, cut, target = found.clock, found.blocks, found.label
    size = f'{cut.rows:,} rows' if cut.by == 'rows' else f'{cut.hours:g} hours'
    lines = [
        f"time: '{clock.column}' in {clock.unit}, local time {clock.offset:+g} hours from UTC ({clock.why})",
        f'blocks: {size}, about {cut.count} of them ({cut.why})',
        f"label: '{target.column}' ({target.why})" if target.column else f'label: {target.why}',
    ]
    if found.shown:
        lines.append(f"lists: every item of '{found.shown.items}' becomes a row; position and list_length are made")
    for side in found.sides:
        key = f"its '{side.own_key}', ? the log's '{side.key}'" if side.on else f"'{side.key}'"
        lines.append(f'side table: {side.group.name} by {key} ({side.why})')
    if found.first_value:
        lines.append(f'several values in a cell, of which the first is taken: ? {", ".join(found.first_value)}')
    for word, names in found.missing().items():
        lines.append(f'? {word!r} among the numbers of {", ".join(names)} means missing, in every column of text')
    return lines


def advice(found: Survey) -> str:
    """Whether comparing candidates on the log itself is cheaper than on a memory: `scores.advice` of an estimate."""
    grid, rows = default_config().evaluate, found.rows * (1 if found.label.column else 2)  # a negative a click
    said = scores.advice(scores.pass_seconds(rows), len(grid.learning_rates), grid.seeds)
    return f'estimated for two CPU cores: {said}'
