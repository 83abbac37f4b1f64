"""The protocol of stage t, shared by all that compares: what each side trains on, and choose, then score once.

The memory of stage t has seen D_1..D_t. Learning rate and epochs are chosen on D_{t+1}, by the mean AUC over seeds; the
choice is scored once, on D_{t+2}; the full side the same, with a grid of the same size. Blocks count from 0 in code:
stage t is chosen on block t and scored on block t + 1.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diet_jax.base.errors import UserError
from diet_jax.models.candidates import Candidate
from diet_jax.stats import metrics
from diet_jax.study.distillations import TrainingSet
from diet_jax.study.readings import Reading
from diet_jax.trials.log import EvaluationLog
from diet_jax.trials.students import laid_out, train_grid

DIVERGED = -1.0  # in the place of a tuning AUC


class Grid(NamedTuple):
    """The memory side's grid: epochs x learning rates; and the student seeds."""

    epochs: tuple[int, ...]
    lrs: tuple[float, ...]
    batch: int
    seeds: tuple[int, ...]
    id_epochs: int  # of the students on ids
    by_ids: float  # their weight in what orders (`ranking.ordering`); 0: there are none


def grid_of(e) -> Grid:
    """From a config's section `evaluate`."""
    lrs, seeds = tuple(e.student_learning_rates), tuple(range(e.seeds))
    return Grid(
        epochs=tuple(e.epochs), lrs=lrs, batch=e.student_batch, seeds=seeds, id_epochs=e.id_epochs, by_ids=e.by_ids
    )


def full_reading(passes, lrs: Sequence[float], log: EvaluationLog, t: int) -> Reading:
    """The learning rate of full training chosen on D_{t+1}, scored once on D_{t+2}.

    Args: passes: `full_pass.Passes` of these learning rates.
    """
    tuning = [tuning_auc(by_seed, log, t) for by_seed in passes.logits[t, t]]
    best = _best(tuning, lrs)
    logits = passes.logits[t, t + 1][best]
    scores = {metric: values[0] for metric, values in scored(logits[None], log, t + 1).items()}
    scores.update(row_visits=log.rows_of_pass(t), seconds=float(passes.seconds[best, :, :t].sum(1).mean()))
    return Reading({'lr': lrs[best], 'tuning_auc': tuning[best]}, scores, logits[None])


def row_reading(
    candidate: Candidate, log: EvaluationLog, rows: Sequence[TrainingSet], t: int, grid: Grid, frontier=False
) -> Reading:
    """Students on one kind of rows, one entry of `rows` a distillation; chosen on D_{t+1}, scored once on D_{t+2}.

    Where the rows have their own ids beside the codes, students are trained on those too, chosen and scored the same
    way: `scores['by_ids']`, and their visits and seconds are among those of all. Rows without codes get the visits of
    both.

    Args:
      frontier: `scores['frontier']` also gets the best learning rate of every number of epochs, chosen and scored so.
    """
    if not grid.by_ids:
        return _students(candidate, log, rows, t, grid, grid.epochs, frontier)
    if rows[0].by_ids is None:
        return _students(candidate, log, rows, t, grid, [n + grid.id_epochs for n in grid.epochs], frontier)
    on_codes = _students(candidate, log, rows, t, grid, grid.epochs, frontier)
    on_ids = _students(candidate, log, [r.by_ids for r in rows], t, grid, (grid.id_epochs,), False)
    by_ids = {'weight': grid.by_ids, **{metric: on_ids.scores[metric] for metric in ('auc', 'logloss', 'gauc')}}
    for scores in (on_codes.scores, *on_codes.scores.get('frontier', ())):
        scores['by_ids'] = by_ids
        for total in ('row_visits', 'seconds'):
            scores[total] += on_ids.scores[total]
        scores['cost_ratio'] = log.rows_of_pass(t) / scores['row_visits']
    return on_codes._replace(chosen={**on_codes.chosen, 'by_ids': on_ids.chosen}, id_logits=on_ids.logits)


def _students(
    candidate, log: EvaluationLog, rows: Sequence[TrainingSet], t: int, grid: Grid, epochs, frontier: bool
) -> Reading:
    known, lrs, seeds = log.num_slots[t - 1], candidate.recipe.rates(grid.lrs), grid.seeds
    how = dict(batch=grid.batch, epochs=epochs, lrs=lrs, seeds=seeds)
    trained = [train_grid(candidate, r.for_outcomes(candidate.outcomes), r.num_codes, lazy=r.lazy, **how) for r in rows]

    encoded = functools.cache(lambda i, block: laid_out(rows[i].encode(log.ids(block, known))))

    def predict(i, block, e, j):
        return trained[i].logits(encoded(i, block), e, j)[:, : len(log.labels[block])]

    visits = [int(rows[0].data.rows) * n for n in epochs]
    seconds = float(np.mean([g.seconds for g in trained])) / epochs[-1]
    costs = [({'epochs': n}, visits[e], seconds * n) for e, n in enumerate(epochs)]
    reading, (e, j) = choose_and_score(predict, costs, lrs, log, t, replicates=len(rows), frontier=frontier)
    return reading._replace(predict=lambda block: predict(0, block, e, j))


def choose_and_score(predict, costs, lrs, log: EvaluationLog, t: int, *, replicates: int, frontier: bool):
    """The point of a grid, costs x learning rates, that is best on D_{t+1}; scored once on D_{t+2}.

    Args:
      predict: (replicate, block, cost, lr) -> f32[S, N], both by position; costs: [(what it is, row visits, seconds)].
    Returns: (Reading, (cost, lr) by position).
    """

    def tuned(e, j):
        return float(np.mean([tuning_auc(predict(i, t, e, j), log, t) for i in range(replicates)]))

    points = []  # of every cost: (tuning AUC, lr by position), the first of equals
    for e in range(len(costs)):
        auc = [tuned(e, j) for j in range(len(lrs))]
        points.append((max(auc), int(np.argmax(auc))))
    best = _best([auc for auc, _ in points], lrs)

    def read(e):
        auc, j = points[e]
        what, visits, seconds = costs[e]
        logits = np.stack([predict(i, t + 1, e, j) for i in range(replicates)])
        costs_of = {'row_visits': visits, 'cost_ratio': log.rows_of_pass(t) / visits, 'seconds': seconds}
        return {'lr': lrs[j], **what, 'tuning_auc': auc}, {**scored(logits, log, t + 1), **costs_of}, logits

    readings = {e: read(e) for e in (range(len(costs)) if frontier else (best,))}
    chosen, scores, logits = readings[best]
    if frontier:
        scores = {**scores, 'frontier': [{'chosen': c, **s} for c, s, _ in readings.values()]}
    return Reading(chosen, scores, logits), (best, points[best][1])


def scored(logits, log: EvaluationLog, block: int) -> dict:
    """AUC, LogLoss and GAUC of every run on a block, by the weights of its rows.

    Args: logits: f32[R, S, N]. Returns: {metric: [[per seed] per distillation]}.
    """
    label, group, weight = log.labels[block], log.groups[block], log.weight(block)
    return {
        'auc': [[metrics.auc(x, label, weight=weight) for x in run] for run in logits],
        'logloss': [[metrics.logloss(x, label, weight=weight) for x in run] for run in logits],
        'gauc': [[metrics.gauc(x, label, group, weight=weight) for x in run] for run in logits],
    }


def tuning_auc(logits, log: EvaluationLog, t: int) -> float:
    """Mean AUC over seeds on the block that stage t is chosen on, below all if one diverged. logits: f32[S, N]."""
    if not np.isfinite(logits).all():
        return DIVERGED
    return float(np.mean([metrics.auc(x, log.labels[t], weight=log.weight(t)) for x in logits]))


def _best(tuning: Sequence[float], lrs) -> int:
    best = int(np.argmax(tuning))
    if tuning[best] == DIVERGED:
        raise UserError(
            f'training diverged at every learning rate ({", ".join(f"{lr:g}" for lr in lrs)}): try lower ones'
        )
    return best


def check_blocks(stream, log: EvaluationLog, t: int) -> None:
    """Raises UserError if a score of the blocks that stage t is chosen and scored on would be no number."""
    for block in (t, t + 1):
        weight, label = log.weight(block), log.labels[block]
        if len(np.unique(label if weight is None else label[weight > 0])) < 2:
            raise UserError(
                f'block {log.keys[block]} has clicks only, or none: no AUC; choose trends.stage or data.until so that '
                'stage t has two blocks with both after it'
            )
    if np.isnan(metrics.gauc(np.zeros_like(label), label, log.groups[t + 1], weight=weight)):
        name = stream.fields[stream.group_field].name
        raise UserError(
            f"block {log.keys[t + 1]}: no value of '{name}' has rows with a click and without: no GAUC; set "
            'data.group to a field whose values come more often'
        )
