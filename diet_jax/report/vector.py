"""Pictures as SVG in the page: a point says on hover, and to a screen reader, what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import MaxNLocator

from diet_jax.report.page import escape

WIDTH, LEFT, RIGHT, ROW = 1060, 210, 24, 24
COLOURS = ('#1f6fb4', '#d9730d', '#2c8a4b', '#a33ea1', '#b3382c', '#7a6a00', '#0b8793', '#6b5bd2')


def intervals(rows: Sequence[tuple]) -> str:
    """Candidates below one another.

    Args: rows: (name, expected, low, high, known or None), the best first.
    """
    low, high = min(row[2] for row in rows), max(row[3] for row in rows)
    left = min(LEFT, 28 + 8 * max(len(row[0]) for row in rows))
    at, ticks = _scale(low, high, left, WIDTH - RIGHT)
    height = ROW * len(rows) + 44
    parts = [_grid(at, ticks, height - 34, (left + WIDTH - RIGHT) / 2, 'AUC on the full log')]
    for i, (name, mean, start, end, known) in enumerate(rows):
        y = ROW * i + ROW // 2 + 2
        said = f'{name}: expected {mean:.4f}, 90 % interval {start:.4f} to {end:.4f}'
        said += f', known {known:.4f}' if known is not None else ''
        cross = ''
        if known is not None:
            x = at(known)
            cross = f'<path d="M{x - 4:.1f} {y - 4}l8 8m0 -8l-8 8" stroke="{COLOURS[1]}" stroke-width="2"/>'
        parts.append(
            f'<g class="point" tabindex="0" role="img" aria-label="{escape(said)}"><title>{escape(said)}</title>'
            f'<rect x="0" y="{y - ROW // 2}" width="{WIDTH}" height="{ROW}" class="row"/>'
            f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
            f'<path d="M{at(start):.1f} {y}H{at(end):.1f}" stroke="{COLOURS[0]}" stroke-width="1.6"/>'
            f'<circle cx="{at(mean):.1f}" cy="{y}" r="4" fill="{COLOURS[0]}"/>{cross}</g>'
        )
    return _svg(height, parts, 'Expected AUC of every candidate with its 90 % interval')


def lines(steps: Sequence[str], series: Mapping[str, Sequence[float | None]], axis: str) -> str:
    """One line a name over the same steps. series: name -> a number in 0 .. 1 a step, None where there is none."""
    bottom, right = 300, WIDTH - 190
    x = lambda i: LEFT / 3 + (right - LEFT / 3) * (i + 0.5) / len(steps)  # noqa: E731
    y = lambda value: bottom - 24 - (bottom - 44) * value  # noqa: E731
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        dash = ' stroke-dasharray="4 4"' if tick == 0.5 else ''
        parts.append(f'<path d="M{LEFT / 3:.0f} {y(tick):.1f}H{right}" class="grid"{dash}/>')
        parts.append(
            f'<text x="{LEFT / 3 - 8:.0f}" y="{y(tick) + 4:.1f}" text-anchor="end" class="tick">{tick:g}</text>'
        )
    parts += [
        f'<text x="{x(i):.1f}" y="{bottom - 4}" text-anchor="middle" class="tick">{escape(step)}</text>'
        for i, step in enumerate(steps)
    ]
    for k, (name, values) in enumerate(series.items()):
        colour, again = COLOURS[k % len(COLOURS)], k // len(COLOURS)  # no two look alike
        dash = f' stroke-dasharray="{6 / again:g} 4"' if again else ''
        dot = f'fill="var(--page)" stroke="{colour}" stroke-width="2"' if again else f'fill="{colour}"'
        points = [(x(i), y(v), steps[i], v) for i, v in enumerate(values) if v is not None]
        path = ' '.join(f'{"L" if j else "M"}{px:.1f} {py:.1f}' for j, (px, py, *_) in enumerate(points))
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        for px, py, step, value in points:
            said = f'{name}, {step}: {value:.2f}'
            parts.append(
                f'<g class="point" tabindex="0" role="img" aria-label="{escape(said)}"><title>{escape(said)}</title>'
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="5" {dot}/></g>'
            )
        parts.append(f'<circle cx="{right + 18}" cy="{20 + 20 * k}" r="5" {dot}/>')
        parts.append(f'<text x="{right + 30}" y="{24 + 20 * k}">{escape(name)}</text>')
    return _svg(max(bottom, 30 + 20 * len(series)), parts, axis)


def _scale(low: float, high: float, left: float, right: float):
    """(number -> place, ticks) of an axis that holds low .. high."""
    pad = 0.04 * ((high - low) or 1e-3)
    low, high = low - pad, high + pad
    ticks = [tick for tick in MaxNLocator(7).tick_values(low, high) if low <= tick <= high]
    return (lambda value: left + (right - left) * (value - low) / (high - low)), ticks


def _digits(ticks: Sequence[float]) -> int:
    """Digits behind the point that say ticks as they are: 0.645 is not 0.65.

    >>> _digits([0.63, 0.645, 0.66]), _digits([0.5, 0.75]), _digits([0.7, 0.8])
    (3, 2, 2)
    """
    return next((n for n in range(2, 8) if all(abs(round(t, n) - t) < 1e-9 for t in ticks)), 8)


def _grid(at, ticks: Sequence[float], bottom: float, middle: float, name: str) -> str:
    digits = _digits(ticks)
    marks = (
        f'<path d="M{at(t):.1f} 0V{bottom}" class="grid"/><text x="{at(t):.1f}" y="{bottom + 15}" '
        f'text-anchor="middle" class="tick">{t:.{digits}f}</text>'
        for t in ticks
    )
    return ''.join(marks) + f'<text x="{middle:.0f}" y="{bottom + 31}" text-anchor="middle" class="tick">{name}</text>'


def _svg(height: float, parts: Sequence[str], what: str) -> str:
    body = '\n'.join(parts)
    return f'<figure><svg viewBox="0 0 {WIDTH} {height}" role="group" aria-label="{escape(what)}">{body}</svg></figure>'
