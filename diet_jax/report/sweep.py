"""What came of a sweep: its rows as JSON, a table that reads on a terminal and in Markdown, a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.base.atomic import write_bytes, write_json, write_text
from diet_jax.base.plain import changes
from diet_jax.report import figures

SETS = ('development', 'all', 'confirmation')  # of candidates; shown: the first there is, a sweep chooses by it
FIGURES = ('tau_sig', 'tau_sig_hard', 'spearman', 'regret', 'retention_mean', 'retention_min')


def rows_of(study: Mapping) -> list[dict]:
    """A row a point: {name, overrides, config, folder, missing, row_budget, cost_ratio, sets}, plain JSON.

    Args: study: as `run.sweep.results` finds it. `sets` is {set: the side 'memory' of its summary for AUC}.
    """
    rows = []
    for point in study['points']:
        row = {key: point[key] for key in ('name', 'overrides', 'config', 'folder', 'missing')}
        row |= {key: _at(point['result'], 'protocol', key) for key in ('row_budget', 'cost_ratio')}
        sets = {name: _at(point['result'], 'summary', name, 'auc', 'memory') for name in SETS}
        rows.append(row | {'sets': {name: side for name, side in sets.items() if isinstance(side, dict)}})
    return rows


def write(folder: Path, study: Mapping) -> None:
    """Writes sweep.json, sweep.md and sweep.png into the folder of a study."""
    rows, name = rows_of(study), study['sweep']
    points = [{key: value for key, value in row.items() if key != 'config'} for row in rows]
    write_json(folder / 'sweep.json', {'sweep': name, 'script': study['script'], 'set': _shown(rows), 'points': points})
    write_bytes(folder / 'sweep.png', lambda file: file.write(picture(rows)))
    write_text(folder / 'sweep.md', f'# {name}\n\n{table(rows)}\n![retention and tau_sig of every point](sweep.png)\n')


def table(rows: list[dict]) -> str:
    """The rows of `rows_of` as Markdown, aligned so that it reads on a terminal too."""
    chosen, lines = _shown(rows), [['point', 'row_budget', 'cost_ratio', 'distillations', *FIGURES]]
    for row in rows:
        side = row['sets'].get(chosen, {})
        numbers = [row['row_budget'], row['cost_ratio'], side.get('distillations')]
        lines.append([row['name'].replace('|', '\\|'), *('-' if n is None else f'{n:.4g}' for n in numbers)])
        lines[-1] += [_figure(side.get(figure), '.4f' if figure == 'regret' else '.3f') for figure in FIGURES]
    wide = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ['-' * wide[0], *('-' * (n - 1) + ':' for n in wide[1:])])
    text = f'AUC, {chosen} candidates; mean ± sd over distillations.\n\n' if chosen else ''
    for first, *rest in lines:
        text += ' | '.join([f'| {first:{wide[0]}}', *(f'{cell:>{n}}' for cell, n in zip(rest, wide[1:]))]) + ' |\n'
    missing = [f'- {row["name"]}: {row["missing"]}\n' for row in rows if row['missing']]
    return text + ('\nWithout a result:\n\n' + ''.join(missing) if missing else '')


def picture(rows: list[dict]) -> bytes:
    """A PNG, 1200 px wide: over the one numeric key that varies, on a log scale; else a bar a point."""
    chosen, (key, x) = _shown(rows), _numeric_key(rows)

    def draw(fig):
        axes = fig.subplots(1, 2, sharey=not key)
        for ax, figure, colour in zip(axes, ('retention_mean', 'tau_sig'), (figures.BLUE, figures.ORANGE)):
            entries = [row['sets'].get(chosen, {}).get(figure) for row in rows]
            mean, sd = (np.array([_at(e, part) for e in entries], float) for part in ('mean', 'sd'))  # None: nan
            label = f'{figure} ({chosen} candidates)' if chosen else figure
            texts = ['no result' if e is None else _figure(e) for e in entries]
            if key:
                _draw_line(ax, np.array(x), mean, sd, texts, colour)
                ax.set(xlabel=key, ylabel=label)
            else:
                _draw_bars(ax, [row['name'] for row in rows], mean, sd, texts, colour)
                ax.set_xlabel(label)

    return figures.png(draw, (8.0, 3.6 if key else 1.5 + 0.34 * len(rows)))


def _draw_line(ax, x, mean, sd, texts, colour) -> None:
    """Points in the order of x with their sd; above them those that have no value, and why."""
    order = [i for i in np.argsort(x, kind='stable') if np.isfinite(mean[i])]
    ax.errorbar(x[order], mean[order], np.nan_to_num(sd[order]), color=colour, marker='o', capsize=3)
    ax.set_xscale('log')
    ax.set_xlim(x.min() / 1.3, x.max() * 1.3)
    ax.set_xticks(x, [f'{value:g}' for value in x])
    ax.set_xticks([], minor=True)
    without = [f'{x[i]:g}: {texts[i]}' for i in np.flatnonzero(np.isnan(mean))]
    ax.set_title('\n'.join(without), fontsize=8, loc='left')


def _draw_bars(ax, names, mean, sd, texts, colour) -> None:
    """Bars from 0 with their sd and their text beyond it; the first point on top, its mean the reference line."""
    y, ends, sd = np.arange(len(names)), np.nan_to_num(mean), np.nan_to_num(sd)
    ax.barh(y, ends, 0.66, xerr=sd, color=colour, error_kw={'elinewidth': 1})
    if np.isfinite(mean[0]):
        ax.axvline(mean[0], color='black', linewidth=1.2, linestyle=(0, (4, 3)))
        ax.set_title(f'dashed: {names[0]}', fontsize=8, loc='left')
    for i, text in enumerate(texts):
        at = (max(0.0, ends[i] + sd[i]), i)
        box = {'boxstyle': 'square,pad=0.1', 'facecolor': 'white', 'edgecolor': 'none'}  # the line passes behind it
        ax.annotate(text, at, xytext=(7, 0), textcoords='offset points', va='center', fontsize=8, bbox=box)
    low, high = min(0.0, *(ends - sd)), max(0.1, *(ends + sd))
    ax.set(xlim=(low, high + 0.45 * (high - low)), ylim=(len(names) - 0.4, -0.6))  # room for the texts
    ax.set_yticks(y, names)
    ax.grid(axis='y', visible=False)


def _numeric_key(rows: list[dict]) -> tuple[str, list[float]]:
    """The key that varies and its value at every point, if it is the only one and numbers above 0; else ('', [])."""
    varied = sorted({key for row in rows for key, *_ in changes(rows[0]['config'], row['config'])})
    values = [_at(row['config'], *varied[0].split('.')) for row in rows] if len(varied) == 1 else ['']
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v < np.inf for v in values)
    return (varied[0], values) if numbers else ('', [])


def _shown(rows: list[dict]) -> str:
    """The set of candidates that the table is about; '' while there is no result."""
    return next((name for name in SETS if any(name in row['sets'] for row in rows)), '')


def _figure(entry, digits: str = '.3f') -> str:
    """mean ± sd of a figure, 'undefined: why', or '-' where there is no such figure."""
    if not isinstance(entry, dict):
        return '-'
    if entry.get('mean') is None:
        return entry['text'] if str(entry.get('text')).startswith('undefined') else 'undefined'
    return ' ± '.join(format(entry[part], digits) for part in ('mean', 'sd') if entry.get(part) is not None)


def _at(tree, *keys) -> Any:
    """The value at a path of keys in nested dicts, or None."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
