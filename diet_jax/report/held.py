"""Whether an answer held (`stats.held`), as a table."""

from __future__ import annotations

from collections.abc import Mapping

from diet_jax.report.page import number


def tables(found: Mapping, folder: str) -> list[tuple]:
    """(caption, header, rows, lines below). found: what `stats.held.held` gives; folder: of the comparison."""
    header = ['candidate', 'framework', 'full run', 'foretold', 'error', '90 % interval', 'inside']
    rows = [
        [
            c['name'],
            c['framework'] or 'diet-jax',
            number(c['full_auc']),
            number(c['expected_auc']),
            number(c['error'], '+.4f'),
            ' to '.join(map(number, c['interval'])),
            'yes' if c['inside'] else 'no',
        ]
        for c in found['candidates']
    ]
    count, pairs = len(rows), found['pairs']
    notes = [
        f'foretold to {found["error"]:.4f} AUC on average (mean {found["bias"]:+.4f}, at worst {found["worst"]:.4f}); '
        f'{round(found["covered"] * count)} of {count} inside their 90 % interval'
    ]
    if pairs:
        right = round(found['ordered'] * pairs)
        notes.append(f'{right} of {pairs} pairs more than {found["apart"]:g} AUC apart are in order')
    return [(f'What {folder} foretold, and what full runs came to', header, rows, notes)]
