"""What a comparison costs in all, in full passes over the log, and what it is worth: one line a way of comparing.

Everything a team would pay counts: all learning rates, all seeds; for rows and memories the reference model and its
twins along the stream, which label, start or correct them; for memories all of distilling. Training on the log counts
all learning rates and one seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, NotRequired, TypedDict

import msgspec
import numpy as np

from diet_jax.base.atomic import read_json
from diet_jax.stats import ranking
from diet_jax.stats.races import halve

FIGURES = ('tau_sig', 'tau_sig_hard', 'regret')
FULL = 'the full log, one seed'
DISTILLED = ('memory', 'static', 'one_shot')


Seconds = Annotated[float, msgspec.Meta(ge=0, lt=1e12)]
Some = Annotated[float, msgspec.Meta(gt=0, lt=1e12)]


class Overhead(TypedDict):
    """What is read of overhead.json (`run.overhead`)."""

    block: NotRequired[str]
    distill_seconds: Seconds
    reference_seconds: Some
    components: NotRequired[dict[str, Seconds]]
    save_seconds: NotRequired[Seconds]
    compile_seconds: NotRequired[Seconds]
    peak_memory_bytes: NotRequired[Annotated[int, msgspec.Meta(ge=0)]]


def read_overhead(workdir) -> Overhead | None:
    """overhead.json of a run, None where there is none. Raises Damaged."""
    return read_json(Path(workdir) / 'overhead.json', 'run scripts/distill.py again, which measures it again', Overhead)


class Way(NamedTuple):
    """A way of comparing candidates."""

    name: str
    fixed: float  # full passes, however many candidates
    each: float  # and for each of them
    figures: dict[str, tuple[float, float]]  # mean, sd over distillations or seeds; nan: undefined, or a single reading

    def total(self, candidates: int) -> float:
        return self.fixed + candidates * self.each


def ways(result: Mapping, of: str) -> list[Way]:
    """Of a trends.json: the full log, the memory, all memories together, every rival; with the answer of twins.

    [] where the study has no twins, or is older than the clock of its distillations.
    """
    protocol, answers = result['protocol'], result['summary'][of].get('answer')
    distilling = protocol.get('distilling_passes')
    if not answers or not distilling:
        return []
    candidates = [c for c in result['candidates'] if c['name'] in result['pool']['sets'][of]]
    grid, memories = protocol['grid'], len(protocol['distillation_seeds'])
    full = [c['full']['auc'] for c in candidates]
    found = [Way(FULL, 0.0, float(len(grid['full']['lr'])), _of_seeds(full, full))]
    found += halvings(result, candidates)
    rates = 1 + len(result['config'].get('twins', {}).get('other_rates', ()))
    for kind, answer in answers.items():
        sides = [c['memory'] if kind == 'memory' else c['rivals'][kind] for c in candidates]
        visits = np.mean([side['row_visits'] for side in sides]) / protocol['full_pass_rows']
        each = float(visits) * len(grid['memory']['lr']) * protocol['student_seeds']
        fixed = distilling if kind in DISTILLED else float(len(result['twins']) * rates)  # the reference model's too
        found.append(Way(kind, fixed, each, {name: _spread(answer[name]) for name in FIGURES}))
        if kind == 'memory' and memories > 1:
            together = {name: _spread({'mean': answer['together'][name]}) for name in FIGURES}
            found.append(Way(f'{memories} memories together', memories * fixed, memories * each, together))
    return found


def halvings(result: Mapping, candidates: Sequence[Mapping]) -> list[Way]:
    """Races of some candidates of a trends.json, one a seed of full training, by what each scored at every rung."""
    rows, found = result['protocol'].get('rows_of_rungs', ()), []
    for kind in candidates[0]['full'].get('raced', ()):
        ranked = np.stack([c['full']['raced'][kind] for c in candidates], 1)  # [rungs, C, L, S]
        raced = [halve(ranked[..., s], rows) for s in range(ranked.shape[-1])]
        each = float(np.mean([race.full_passes for race in raced])) / len(candidates)
        figures = _of_seeds([c['full']['auc'] for c in candidates], np.stack([race.order for race in raced], 1))
        found.append(Way(kind, 0.0, each, figures))
    return found


def _spread(figure: Mapping) -> tuple[float, float]:
    return tuple(np.nan if figure.get(key) is None else float(figure[key]) for key in ('mean', 'sd'))


def _of_seeds(full: Sequence[Sequence[float]], orders) -> dict[str, tuple[float, float]]:
    """How orders rank, one a seed of full training, against the other seeds: mean and sd over the seeds.

    Args: full, orders: f64[C, S], higher better.
    """
    full, orders = np.asarray(full, np.float64), np.asarray(orders, np.float64)
    if full.shape[1] < 3:
        return dict.fromkeys(FIGURES, (np.nan, np.nan))
    each = [ranking.figures(np.delete(full, s, 1), orders[:, s, None, None]) for s in range(full.shape[1])]
    values = {name: np.array([figures[name][0] for figures in each]) for name in FIGURES}
    return {name: (float(x.mean()), float(x.std(ddof=1))) for name, x in values.items()}
