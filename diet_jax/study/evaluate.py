"""Candidates trained on the memory of every stage beside the same candidates trained on the log (`protocol`).

The floors at the same number of rows: random rows with their own labels and ids, and random rows with our labels (the
reference model's) and our codebook.

    evaluate.json    command, config, data, full_pass_rows, distillation_seeds, stages: a list of
        stage, tuned_on, scored_on, memory_rows, bayes_auc (of a simulated stream), forgetting, calibration
        candidates     a list of {name, config, chosen: {full, memory}, full, memory, rivals: {name: scores}}
        scores         auc, logloss, gauc: per seed on the full side, [[per student seed] per distillation] on rows;
                       row_visits, seconds, cost_ratio; by_ids: those of students on the rows' own ids
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diet_jax.base.atomic import write_json
from diet_jax.base.errors import UserError
from diet_jax.base.plain import plain
from diet_jax.base.progress import Progress
from diet_jax.models.candidates import candidate as candidate_of
from diet_jax.stats import metrics
from diet_jax.study import protocol
from diet_jax.study.distillations import distillations
from diet_jax.study.readings import Reading
from diet_jax.trials import full_pass
from diet_jax.trials.log import EvaluationLog, outcomes_from, read_blocks

FLOORS = ('random_rows', 'random_rows_our_labels')


def evaluate(config: ConfigDict, run, replicates=(), command: str = '', emit: Callable[[str], None] = print) -> dict:
    """Writes `evaluate.json` into the run's workdir and returns it.

    Args:
      config: the run's config; section `evaluate` says candidates, grids, seeds.
      run: a `run.run.Run`; replicates: further `Run`s over the same log, distilled with other seeds.
    Raises:
      UserError: too few blocks for the protocol, or a memory that has seen a block it would be scored on.
    """
    e, stream = config.evaluate, run.stream
    last = len(stream.blocks) - 2
    kept = len(stream.blocks) - config.history.keep + 1 if config.history.keep else 1
    stages = [t for t in range(max(e.first_stage, kept), last + 1)] or ([last] if last >= 1 else [])
    if not stages:
        raise UserError(
            f'the log has {len(stream.blocks)} blocks: the protocol needs 3 at least, one to learn from, one to '
            'choose on, one to score on'
        )
    if kept > e.first_stage:
        emit(f'evaluated from stage {stages[0]} on: history.keep is {config.history.keep}')
    # A name that does not exist is found before the work.
    outcomes = outcomes_from(stream, e.label)
    pool = [candidate_of(spec, e.dim, stream.layout, outcomes=outcomes) for spec in e.candidates]
    data = read_blocks(stream, e.batch, run.slots, outcome=e.label)
    grid = protocol.grid_of(e)
    runs = [run, *replicates]
    sources = distillations(runs, stages, data)
    memories = {t: [source.memory(t) for source in sources] for t in stages}
    out = {
        t: {
            'stage': t,
            'tuned_on': data.keys[t],
            'scored_on': data.keys[t + 1],
            'memory_rows': sources[0].size(t),
            'candidates': [],
        }
        for t in stages
    }
    _bayes(stream, out)

    work = len(pool) * (len(e.learning_rates) * e.seeds + len(stages) * len(runs) * (1 + len(FLOORS)))
    with Progress('evaluating', work, Path(run.workdir) / 'log.txt', emit) as progress:
        for candidate in pool:
            cache = full_pass.cache_folder(config, run.workdir)
            pictured = candidate.name == _pictured([c.name for c in pool])
            lrs = candidate.recipe.rates(e.learning_rates)
            passes = full_pass.passes(candidate, data, lrs, seeds=e.seeds, boundaries=stages, cache=cache, old=pictured)
            progress.advance(len(e.learning_rates) * e.seeds, f'{candidate.name}: full log')
            for t in stages:
                whole = protocol.full_reading(passes, lrs, data, t)
                memory = protocol.row_reading(candidate, data, memories[t], t, grid)
                entry = {
                    'name': candidate.name,
                    'config': candidate.config,
                    'chosen': {'full': whole.chosen, 'memory': memory.chosen},
                    'full': whole.scores,
                    'memory': memory.scores,
                    'rivals': {},
                }
                for kind in FLOORS:
                    floor = protocol.row_reading(candidate, data, [s.rival(kind, t) for s in sources], t, grid)
                    entry['rivals'][kind] = {**floor.scores, 'chosen': floor.chosen}
                out[t]['candidates'].append(entry)
                if pictured and t == stages[-1]:
                    old = passes.old_auc[lrs.index(whole.chosen['lr'])]
                    out[t].update(_pictures(candidate.name, data, t, old, whole, memory))
                progress.advance(
                    len(runs) * (1 + len(FLOORS)),
                    f'{candidate.name}: stage {t}, scored on {data.keys[t + 1]}, AUC full '
                    f'{np.mean(entry["full"]["auc"]):.4f} memory {np.mean(entry["memory"]["auc"]):.4f}',
                )
    result = {
        'command': command,
        'config': plain(config),
        'data': {
            'label': data.outcomes[0],
            'fields': list(stream.layout.names),
            'blocks': [[b.key, b.rows] for b in stream.blocks],
        },
        'full_pass_rows': {t: data.rows_of_pass(t) for t in stages},
        'distillation_seeds': [r.config.seed for r in runs],
        'stages': [out[t] for t in stages],
    }
    write_json(Path(run.workdir) / 'evaluate.json', result)
    return result


def _pictures(name, data: EvaluationLog, t, old, whole: Reading, memory: Reading) -> dict:
    """Calibration on D_{t+2}, and what a student of the memory still knows of every old block."""
    auc = lambda x, block: metrics.auc(x, data.labels[block], weight=data.weight(block))  # noqa: E731
    forgetting = [
        {
            'block': data.keys[block],
            'candidate': name,
            'full': float(old[block]),
            'memory': float(np.mean([auc(x, block) for x in memory.predict(block)])),
        }
        for block in range(t)
    ]
    label, weight = data.labels[t + 1], data.weight(t + 1)
    bins = {
        side: [[float(v) for v in row] for row in zip(*metrics.calibration_bins(logits[0, 0], label, weight=weight))]
        for side, logits in (('full', whole.logits), ('memory', memory.logits))
    }
    return {'forgetting': forgetting, 'calibration': {'candidate': name, **bins}}


def _pictured(names) -> str:
    return 'deepfm' if 'deepfm' in names else names[-1]


def _bayes(stream, out) -> None:
    """On a simulated stream, the AUC of the true probabilities: nothing can be better."""
    for t, result in out.items():
        block = stream.load(t + 1)
        if block.bayes is not None:
            result['bayes_auc'] = metrics.auc(block.bayes, block.label)
