"""Pictures of candidates: the log against the memory, cost against agreement, odds against truth. As `figures`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from diet_jax.report import figures
from diet_jax.report.figures import BLUE, GREY, HALF, INK, MUTED, ORANGE, PAGE


def reliability(bins: Sequence[Sequence[float]], margin: float = 0.0) -> bytes:
    """How often a stated probability was true.

    Args: bins: [mean stated, share that was true, pairs], each with pairs; margin: A beats B by more than it, in AUC.
    """

    def draw(fig: Figure) -> None:
        ax = fig.subplots()
        stated, true, pairs = np.array(bins).T
        ax.plot(*[[0 if margin else 0.5, 1]] * 2, color=GREY, linewidth=1, linestyle='--')
        ax.plot(stated, true, marker='o', color=BLUE)
        for x, y, n in zip(stated, true, pairs, strict=True):
            ax.annotate(f'{int(n)}', (x, y), (0, -11), textcoords='offset points', ha='center', fontsize=7, color=MUTED)
        ax.set_xlabel('stated probability that A beats B' + f' by more than {margin:g}' * bool(margin))
        ax.set_ylabel('share of pairs where A does')

    return figures.png(draw, HALF)


def scatter(names: Sequence[str], apart: Sequence[bool], full: np.ndarray, panels: Mapping[str, np.ndarray]) -> bytes:
    """AUC of every candidate on the full log against its AUC elsewhere, one panel per kind of training rows.

    Args:
        names, apart: C candidates; whether one is of the confirmation set, shown by another marker.
        full: f64[C, 2], mean and sd (nan: none) over seeds of full training.
        panels: title -> f64[C, 2], the same over distillations; candidates without a mean are left out.
    """

    def draw(fig: Figure) -> None:
        drawn = []
        for ax, (title, side) in zip(fig.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True):
            known = np.isfinite(full[:, 0]) & np.isfinite(side[:, 0])
            for of_set, (label, colour, marker) in enumerate(
                [('development', BLUE, 'o'), ('confirmation', ORANGE, 'D')]
            ):
                if (at := known & (np.asarray(apart) == of_set)).any():
                    (x, x_sd), (y, y_sd) = full[at].T, side[at].T
                    bars = {'fmt': marker, 'color': colour, 'ecolor': GREY, 'elinewidth': 0.8, 'markersize': 5}
                    ax.errorbar(x, y, np.nan_to_num(y_sd), np.nan_to_num(x_sd), label=label, **bars)
            limits = ax.get_xlim(), ax.get_ylim()
            if known.any():
                start = full[known, 0].min()
                ax.axline((start, start), slope=1, color=INK, linewidth=1, linestyle=(0, (4, 3)), label='same AUC')
            (left, right), (low, high) = limits  # a little more on every side: the names of the outer points
            ax.set_xlim(left - 0.05 * (right - left), right + 0.05 * (right - left))
            ax.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
            ax.set(xlabel='AUC, trained on the full log', ylabel=f'AUC, {title}')
            ax.set_title(title, loc='left', fontsize=10)
            ax.legend(loc='lower right')
            drawn.append((ax, [names[i] for i in np.flatnonzero(known)], full[known], side[known]))
        fig.draw_without_rendering()  # places the axes: names are set in pixels
        fig.set_layout_engine('none')
        for ax, shown, x, y in drawn:
            _label(ax, shown, np.stack([x, y], -1))

    return figures.png(draw, (PAGE, 5.6 * len(panels)))


def frontier(panels: Mapping[str, tuple[Mapping[str, np.ndarray], float, str]], looks: Mapping[str, tuple]) -> bytes:
    """A figure against cost ratio, one panel a figure, a line per kind of training rows.

    Args:
        panels: figure -> (kind -> f64[K, 3]: cost ratio, mean, sd over distillations (nan: none), the chosen
            epochs first, which is the large marker; height of the dashed line, nan: none; its name, or a note;
            whether the axis is stretched around the line).
        looks: kind -> (colour, marker, line style, line width).
    """

    def draw(fig: Figure) -> None:
        axes = fig.subplots(1, len(panels), squeeze=False, sharex=True)[0]
        for ax, (name, (series, dashed, words, stretched)) in zip(axes, panels.items(), strict=True):
            for kind, readings in series.items():
                colour, marker, style, width = looks[kind]
                z = 3 + width  # the memory, drawn thickest, on top
                (x, y, sd), (tried, height, _) = readings[:1].T, readings[1:].T
                order = np.argsort(tried, kind='stable')
                line = {'linestyle': style, 'linewidth': width, 'marker': marker, 'markersize': 3}
                ax.plot(tried[order], height[order], color=colour, zorder=z, **line)
                ax.errorbar(x, y, np.nan_to_num(sd), fmt=marker, color=colour, markersize=6.5, elinewidth=1, zorder=z)
            costs = np.concatenate([readings[:, 0] for readings in series.values()])
            if costs.min() == costs.max():  # one point: an axis of no width otherwise
                ax.set_xlim(costs[0] / 2, costs[0] * 2)
            if np.isfinite(dashed):
                ax.axhline(dashed, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
            known = np.concatenate([readings[:, 1] for readings in series.values()])
            known = known[np.isfinite(known)]
            if not known.size:
                ax.set_yticks([])
            elif stretched:  # even within 0.05 of the line, logarithmic beyond: what fails does not press the rest flat
                to, back = (lambda y, at=dashed: np.arcsinh(20 * (y - at))), (lambda z, at=dashed: at + np.sinh(z) / 20)
                steps = np.array([0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 1, 2])
                ticks = np.concatenate([dashed - steps, [dashed], dashed + steps]).round(6)
                ax.set_yscale('function', functions=(to, back))
                ax.set_yticks(ticks, [f'{y:g}' for y in ticks])
                ax.set_ylim(back(to(min(known.min(), dashed)) - 0.2), back(to(max(known.max(), dashed)) + 0.2))
            ax.set_title(words, loc='left', fontsize=8.5, color=MUTED)
            ax.set(xscale='log', xlabel='cost ratio (row visits)', ylabel=name)
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
            ax.xaxis.set_minor_locator(NullLocator())
        keys = [
            Line2D([], [], color=colour, marker=marker, linestyle=style, linewidth=width, label=kind)
            for kind, (colour, marker, style, width) in looks.items()
        ]
        fig.legend(handles=keys, loc='outside lower left', ncols=3)

    return figures.png(draw, (PAGE, 5.0 + 0.2 * -(-len(looks) // 3)))


def costs(ways: Sequence, counts: Sequence[int]) -> bytes:
    """How well each way of comparing ranks, against what it costs in all, a panel a figure, a line a way.

    Args:
        ways: of `stats.costs.Way`; its line runs from the cost of the first of `counts` to that of the last, with a dot
            at each, the band is ± sd. A way whose figure is not defined has no line there.
    """
    titles = {'tau_sig': 'tau_sig', 'tau_sig_hard': 'tau_sig, hard pairs', 'regret': 'regret, AUC'}

    def draw(fig: Figure) -> None:
        shown = [name for name in titles if any(np.isfinite(way.figures[name][0]) for way in ways)]
        for ax, name in zip(np.atleast_1d(fig.subplots(1, len(shown), sharex=True)), shown, strict=True):
            for i, way in enumerate(ways):
                (height, sd), x = way.figures[name], np.array([way.total(n) for n in counts])
                again = i // len(figures.CYCLE)  # colours come again: dashed then, with another marker, hollow
                colour = figures.CYCLE[i % len(figures.CYCLE)]
                marker = figures.MARKERS[(i + 3 * again) % len(figures.MARKERS)]
                again = {'linestyle': '--', 'markerfacecolor': 'white'} if again else {}
                thick = 2.4 if way.name.endswith(('memory', 'together')) else 1.4
                if np.isfinite(height):
                    y = np.full(len(x), height)
                    look = dict(color=colour, marker=marker, markersize=4, linewidth=thick, zorder=3, **again)
                    ax.plot(x, y, label=way.name, **look)
                    ax.fill_between(
                        x, y - np.nan_to_num(sd), y + np.nan_to_num(sd), color=colour, alpha=0.12, linewidth=0
                    )
            ax.set(xscale='log', xlabel='total cost, full passes', title=titles[name])
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        handles, labels = ax.get_legend_handles_labels()
        fig.legend(handles, labels, loc='outside lower left', ncols=3)

    return figures.png(draw, (PAGE, 3.8 + 0.2 * -(-len(ways) // 3)))


def _label(ax: Axes, names: Sequence[str], points: np.ndarray, size: float = 7.5) -> None:
    """Names beside their points, f64[C, (mean, sd), (x, y)], with a line to the point where a name stands off.

    Greedy, the most crowded point first: of places around the point the one of least cost. A name should cover no
    other name, point, bar or line, be nearer to its own point than to others, and near at all; its line should cross
    none.
    """
    frame, at = ax.get_window_extent(), ax.transData.transform(points[:, 0])
    texts = [ax.text(0, 0, name, fontsize=size, color=INK, ha='center', va='center') for name in names]
    angles, radii = np.linspace(0, 2 * np.pi, 24, endpoint=False), np.repeat(np.linspace(12, 300, 36), 24)
    around = np.tile(np.stack([np.cos(angles), np.sin(angles)], 1).round(6), (36, 1))
    boxes = np.concatenate([at - 7, at + 7], 1)  # left, low, right, high; pixels
    steps = np.linspace(-1, 1, 13)[:, None, None, None] * np.eye(2)  # along the bars
    lines = ax.transData.transform((points[:, :1] + steps * np.nan_to_num(points[:, 1:])).reshape(-1, 2))
    crowd = np.exp(-(((at[:, None] - at[None]) / (150, 40)) ** 2).sum(-1)).sum(1)
    for i in np.argsort(-crowd, kind='stable'):
        half = np.array(texts[i].get_window_extent().size) / 2 + (3, 0)
        middle = at[i] + radii[:, None] * around + np.sign(around) * half
        low, high = middle - half, middle + half
        share = np.minimum(high[:, None], boxes[:, 2:]) - np.maximum(low[:, None], boxes[:, :2])
        ends = np.clip(at[i], low, high)  # where the line meets the name
        steps = (at[i] + np.linspace(0, 1, 16)[:, None, None] * (ends - at[i]))[:, :, None]
        crossed = ((steps > boxes[:, :2]) & (steps < boxes[:, 2:])).all(-1).any(0).sum(1) - 1  # its own point
        struck = ((lines > low[:, None]) & (lines < high[:, None])).all(-1).sum(1)
        apart = np.hypot(*np.moveaxis(np.clip(at, low[:, None], high[:, None]) - at, -1, 0))
        nearer = (apart < np.hypot(*(ends - at[i]).T)[:, None] + 4).sum(1) - 1
        cost = share.clip(0).prod(-1).sum(1) + 60 * struck + 40 * crossed + 20 * nearer + 0.7 * radii
        best = int(np.argmin(cost + 1e6 * ((low < frame.min) | (high > frame.max)).any(1)))
        texts[i].set(transform=None, position=middle[best])
        boxes = np.concatenate([boxes, [[*low[best], *high[best]]]])
        if radii[best] > 20:
            line = np.stack([at[i], ends[best]])
            ax.add_artist(Line2D(*line.T, transform=None, color=GREY, linewidth=0.6, zorder=1.5))
            lines = np.concatenate([lines, line[0] + np.linspace(0, 1, 24)[:, None] * (line[1] - line[0])])
