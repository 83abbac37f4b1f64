"""The pictures of the report: plain numbers in, PNG bytes out.

Each function draws one picture with matplotlib's object interface (no pyplot, no global state, no display)
and returns the bytes of a PNG file. Sequences are indexed by stage unless said otherwise; nan leaves a gap.
"""

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

INK, MUTED, GRID = '#1f2328', '#59636e', '#e4e7eb'
BLUE, ORANGE, GREY, GREEN, RED = '#1f6fb4', '#d9730d', '#8b949e', '#2e8b57', '#c2412d'
# Okabe-Ito, told apart by colour-blind readers; its yellow is left out (too light on white).
CYCLE = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#59636e', '#1f2328')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')
SERIES = (BLUE, ORANGE, GREY, GREEN, RED)
WIDE, HALF = (10.0, 3.5), (5.2, 3.3)  # inches: a picture alone in its row, and one of two
PAGE = 8.0  # inches: 1200 pixels, a picture that also stands alone beside the page

_STYLE = {
    'font.family': 'sans-serif',
    'font.size': 9,
    'text.color': INK,
    'axes.labelcolor': MUTED,
    'axes.edgecolor': '#c4cad1',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.color': GRID,
    'grid.linewidth': 0.8,
    'xtick.color': MUTED,
    'ytick.color': MUTED,
    'legend.frameon': False,
    'legend.fontsize': 8.5,
    'lines.linewidth': 1.8,
    'lines.markersize': 4.5,
}


def retention(labels: Sequence[str], series: Mapping[str, Sequence[Sequence[float]]]) -> bytes:
    """Retention per stage, a line per kind of training rows; full training is the line at 1.

    The second panel looks closer at the first two series, which a weak floor would press together.

    Args:
        labels: one per stage.
        series: what was trained on -> per stage, the retention of every candidate. Lines are the means, light
            dots the candidates. The first series is the memory.
    """

    def draw(fig: Figure) -> None:
        axes = fig.subplots(1, 2)
        x = np.arange(len(labels))
        for ax in axes:
            ax.axhline(1.0, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label='full training')
            for i, (name, per_stage) in enumerate(series.items()):
                colour, marker = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]
                at = np.repeat(x + 0.06 * (i - 1), [len(values) for values in per_stage])
                ax.plot(at, np.concatenate(per_stage), '.', color=colour, alpha=0.4, markersize=4)
                means = [np.mean(values) if len(values) else np.nan for values in per_stage]
                ax.plot(
                    x,
                    means,
                    marker=_marker(marker, labels),
                    color=colour,
                    label=name,
                    zorder=4 if i == 0 else 3,
                )
            _stage_axis(ax, labels)
        axes[0].set_ylabel('retention')
        axes[1].set_title('closer', loc='left', fontsize=10)
        close = [v for per_stage in list(series.values())[:2] for values in per_stage for v in values]
        low, high = min([1.0, *(v for v in close if v == v)]), max([1.0, *(v for v in close if v == v)])
        axes[1].set_ylim(low - 0.08 * (high - low) - 0.002, high + 0.08 * (high - low) + 0.002)
        fig.legend(*axes[0].get_legend_handles_labels(), loc='outside upper left', ncols=1 + len(series))

    return png(draw, WIDE)


def auc_by_candidate(labels: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """AUC per stage and candidate, one panel per kind of training rows on one vertical scale.

    Args:
        labels: one per stage.
        panels: title -> candidate -> AUC per stage.
    """

    def draw(fig: Figure) -> None:
        axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (title, candidates) in zip(axes, panels.items(), strict=True):
            for i, (name, values) in enumerate(candidates.items()):
                wrap = i // len(CYCLE)
                ax.plot(
                    np.arange(len(labels)),
                    values,
                    color=CYCLE[i % len(CYCLE)],
                    marker=_marker(MARKERS[(i + wrap) % len(MARKERS)], labels),
                    linestyle=('-', '--', ':')[wrap % 3],
                    linewidth=1.4,
                    label=name,
                )
            ax.set_title(title, loc='left', fontsize=10)
            _stage_axis(ax, labels)
        axes[0].set_ylabel('AUC on the scored block')
        _legend_right(axes[-1])

    count = max(len(candidates) for candidates in panels.values())
    return png(draw, (WIDE[0], max(WIDE[1], 0.7 + 0.19 * count)))  # the legend has a line per candidate


def addressing(labels: Sequence[str], counts: Mapping[str, Sequence[float]]) -> bytes:
    """Entries of the memory by what a stage did to them, stacked.

    Args:
        labels: one per stage.
        counts: replaced, modified, admitted, kept -> entries per stage; the first stands lowest.
    """

    def draw(fig: Figure) -> None:
        ax = fig.subplots()
        x = np.arange(len(labels))
        colours = {'kept': '#c4cad1', 'modified': BLUE, 'replaced': ORANGE, 'admitted': GREEN}
        base = np.zeros(len(labels))
        for name, values in counts.items():
            heights = np.nan_to_num(np.asarray(values, float))
            ax.bar(x, heights, 0.72, bottom=base, color=colours[name], label=name)
            base = base + heights
        _stage_axis(ax, labels)
        ax.grid(axis='x', visible=False)
        ax.set_ylabel('entries')
        _legend_above(ax, columns=len(counts))

    return png(draw, HALF)


def refinement(labels: Sequence[str], change: Sequence[float], accepted: Sequence[bool]) -> bytes:
    """Change of the held-out loss by each refinement (below 0 is better); dropped ones are hollow."""

    def draw(fig: Figure) -> None:
        ax = fig.subplots()
        looks = {
            'accepted': {'facecolor': GREEN},
            'dropped': {'facecolor': 'white', 'edgecolor': RED, 'linewidth': 1.2},
        }
        x, change_, took = np.arange(len(labels)), np.asarray(change, float), np.asarray(accepted, bool)
        ax.bar(x[took], change_[took], 0.72, **looks['accepted'])
        ax.bar(x[~took], change_[~took], 0.72, **looks['dropped'])
        ax.axhline(0.0, color=INK, linewidth=0.8)
        _stage_axis(ax, labels)
        ax.grid(axis='x', visible=False)
        ax.set_ylabel('held-out loss, after − before')
        _legend_above(ax, columns=2, handles=[Patch(label=name, **look) for name, look in looks.items()])

    return png(draw, HALF)


def reference(labels: Sequence[str], auc: Sequence[float]) -> bytes:
    """Progressive validation: AUC of the reference model on each block before it trained on it."""

    def draw(fig: Figure) -> None:
        ax = fig.subplots()
        ax.plot(np.arange(len(labels)), auc, marker=_marker('o', labels), color=BLUE)
        _stage_axis(ax, labels)
        ax.set_ylabel('AUC, tested then trained')

    return png(draw, HALF)


def calibration(curves: Mapping[str, Sequence[Sequence[float]]]) -> bytes:
    """Observed against predicted click rate.

    Args:
        curves: name -> bins of (mean predicted, mean observed, rows); empty bins are left out. Dots grow with
            the rows.
    """

    def draw(fig: Figure) -> None:
        ax = fig.subplots()
        top = 0.0
        for i, (name, bins) in enumerate(curves.items()):
            filled = np.asarray([row for row in bins if row[2] > 0], float).reshape(-1, 3)
            size = 10 + 70 * filled[:, 2] / max(filled[:, 2].max(initial=1.0), 1.0)
            colour = (GREY, BLUE, ORANGE)[i % 3]
            ax.plot(filled[:, 0], filled[:, 1], color=colour, linewidth=1.4, zorder=2 + i)
            ax.scatter(filled[:, 0], filled[:, 1], size, color=colour, marker=MARKERS[i], label=name, zorder=2 + i)
            top = max(top, filled[:, :2].max(initial=0.0))
        top = min(1.0, 1.06 * top) or 1.0
        ax.plot([0, top], [0, top], color=INK, linewidth=1.0, linestyle=(0, (4, 3)), label='perfect')
        ax.set(xlim=(0, top), ylim=(0, top), xlabel='predicted click rate', ylabel='observed click rate')
        ax.legend(loc='upper left')

    return png(draw, HALF)


def forgetting(blocks: Sequence[str], curves: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """AUC on old blocks, one panel per candidate on one vertical scale.

    Args:
        blocks: the old blocks' keys, in order of time.
        curves: candidate -> what it was trained on -> AUC per block.
    """
    columns = min(len(curves), 3)
    lines = -(-len(curves) // columns)

    def draw(fig: Figure) -> None:
        axes = fig.subplots(lines, columns, sharey=True, squeeze=False).ravel()
        for ax in axes[len(curves) :]:
            ax.set_visible(False)
        for ax, (name, trained) in zip(axes[: len(curves)], curves.items(), strict=True):
            for i, (kind, values) in enumerate(trained.items()):
                ax.plot(np.arange(len(blocks)), values, marker=MARKERS[i], color=(GREY, BLUE)[i % 2], label=kind)
            ax.set_title(name, loc='left', fontsize=10)
            _stage_axis(ax, blocks, most=14 // columns)
        axes[0].set_ylabel('AUC on the old block')
        _legend_right(axes[min(columns, len(curves)) - 1])

    return png(draw, (WIDE[0], 3.2 * lines) if lines > 1 else WIDE)


def overhead(components: Mapping[str, float], reference_name: str = 'reference') -> bytes:
    """Seconds of each component of a stage; the reference model's own training is set apart by its colour."""

    def draw(fig: Figure) -> None:
        ax = fig.subplots()
        names = list(components)
        y = np.arange(len(names))
        bars = ax.barh(y, list(components.values()), 0.66, color=[GREY if n == reference_name else BLUE for n in names])
        ax.bar_label(bars, labels=[f'{s:.2g} s' for s in components.values()], padding=4, fontsize=8.5, color=MUTED)
        ax.set_yticks(y, names)
        ax.invert_yaxis()
        ax.margins(x=0.14)
        ax.grid(axis='y', visible=False)
        ax.set_xlabel('seconds')

    return png(draw, HALF)


def _stage_axis(ax: Axes, labels: Sequence[str], most: int = 14) -> None:
    """Name the stages under the axis, at most `most` of them, slanted when they are long."""
    every = max(1, -(-len(labels) // most))
    shown = np.arange(0, len(labels), every)
    slant = max((len(label) for label in labels), default=0) > 4
    ax.set_xticks(shown, [labels[i] for i in shown])
    ax.tick_params(axis='x', labelrotation=40 if slant else 0, labelsize=8)
    if slant:
        for tick in ax.get_xticklabels():
            tick.set_horizontalalignment('right')
            tick.set_rotation_mode('anchor')
    ax.set_xlim(-0.6, max(len(labels), 4) - 0.4)  # a young stream does not fill the picture with one bar
    ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def _marker(marker: str, labels: Sequence[str]) -> str:
    """The marker of a line; none where stages stand so close that markers would hide it."""
    return marker if len(labels) <= 40 else ''


def _legend_right(ax: Axes) -> None:
    ax.legend(loc='upper left', bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)


def _legend_above(ax: Axes, columns: int, handles: Sequence[Patch] | None = None) -> None:
    ax.legend(
        handles=handles,
        loc='lower left',
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        borderaxespad=0.2,
        handlelength=1.2,
        columnspacing=1.4,
    )


def png(draw, size: tuple[float, float]) -> bytes:
    """Run `draw` on a new figure of `size` inches, 150 pixels each; the bytes depend on nothing but what is drawn."""
    with matplotlib.rc_context(_STYLE):
        fig = Figure(figsize=size, layout='constrained', dpi=150)
        draw(fig)
        out = io.BytesIO()
        fig.savefig(out, format='png', metadata={'Software': None})
    return out.getvalue()
