"""Figures as TensorBoard scalars, on request: `--tensorboard` of distill, evaluate, compare and trends."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diet_jax.base.errors import UserError


def check(wanted: bool) -> None:
    """Raises UserError where scalars are wanted and the library that writes them is not there."""
    try:
        if wanted:
            import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UserError("--tensorboard needs tensorboardX: pip install 'diet-jax[tensorboard]'") from error


@contextlib.contextmanager
def board(folder: str | Path, wanted: bool) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Gives a function that adds scalars, {tag: value} of a stage, to <folder>/tensorboard; where none are wanted it
    does nothing.
    """
    if not wanted:
        yield lambda stage, values: None
        return
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(Path(folder) / 'tensorboard')) as writer:

        def add(stage: int, values: Mapping[str, float]) -> None:
            for tag, value in values.items():
                writer.add_scalar(tag, value, stage)
            writer.flush()

        yield add


def write(folder: str | Path, wanted: bool, stages: Iterable[tuple[int, Mapping[str, float]]]) -> None:
    """Adds scalars of some stages, if they are wanted."""
    with board(folder, wanted) as add:
        for stage, values in stages:
            add(stage, values)


def flat(tree: Any, prefix: str = '') -> dict[str, float]:
    """The numbers of nested dicts by their path; nothing else.

    >>> flat({'reference': {'auc': 0.7, 'of': 'x'}, 'rows': 3})
    {'reference/auc': 0.7, 'rows': 3.0}
    """
    if isinstance(tree, Mapping):
        return {tag: x for key, value in tree.items() for tag, x in flat(value, f'{prefix}/{key}'.strip('/')).items()}
    number = isinstance(tree, (int, float)) and not isinstance(tree, bool) and math.isfinite(tree)
    return {prefix: float(tree)} if number else {}


def of_stage(line: Mapping) -> tuple[int, dict[str, float]]:
    """A line of metrics.jsonl."""
    return line['stage'], flat({key: value for key, value in line.items() if key != 'stage'})


def of_evaluate(result: Mapping) -> list[tuple[int, dict[str, float]]]:
    """What evaluate.json holds: mean AUC of every candidate on the log and on the memory, stage by stage."""
    found = []
    for stage in result['stages']:
        means = {
            f'evaluate/{c["name"]}/{side}': float(np.mean(c[side]['auc']))
            for c in stage['candidates']
            for side in ('full', 'memory')
        }
        found.append((stage['stage'], means))
    return found


def of_compare(result: Mapping) -> list[tuple[int, dict[str, float]]]:
    """What compare.json holds: of every candidate the expected AUC, and the probability that it is the best."""
    keys = ('expected_auc', 'best')
    values = {f'compare/{c["name"]}/{key}': c[key] for c in result['candidates'] for key in keys if key in c}
    return [(result['stage'], values)]


def of_trends(result: Mapping) -> list[tuple[int, dict[str, float]]]:
    """What trends.json holds: the figures of its summary."""
    return [(result['protocol']['stage'], flat(result['summary'], 'trends'))]
