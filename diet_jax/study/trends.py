"""The trend instrument: does the memory rank a pool of candidates as the full log does?

Every candidate is trained on the full log (6 seeds), on the memory (5 distillations x 3 student seeds) and on what
every rival offers, by the protocol of one stage (`protocol`); `stats.summaries` turns the raw scores into figures. A
finished side of a candidate is kept, and done again only when what it was trained on or how has changed.

    trends.json                 raw scores, protocol, summary
    candidates/<name>.json      one candidate, as in trends.json
    predictions/<name>.npy      float16 [runs, N]: logits of the scored block, in the order of protocol.predictions
    predictions/block.npz       its labels and users
    distillations/<seed>/       the memories, where none were given
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from diet_jax import models
from diet_jax.base.atomic import read_json, write_bytes, write_json
from diet_jax.base.checksums import Damaged
from diet_jax.base.errors import UserError, closest
from diet_jax.base.plain import plain
from diet_jax.base.progress import Progress
from diet_jax.config.checks import check_config
from diet_jax.data.prepared import EncodedStream
from diet_jax.data.stream import open_stream
from diet_jax.device.programs import rounded
from diet_jax.models.candidates import Candidate
from diet_jax.models.twins import reference_of
from diet_jax.run import overhead
from diet_jax.run.driver import distill
from diet_jax.run.sizes import table_capacity
from diet_jax.stats import ranking
from diet_jax.stats.costs import read_overhead
from diet_jax.stats.judgement import judged
from diet_jax.stats.races import rungs
from diet_jax.stats.summaries import summary
from diet_jax.study import halving, protocol, rivals
from diet_jax.study.cheap_passes import FRESH, WARM, cheap_reading
from diet_jax.study.distillations import ONE_SHOT, OURS, Distillation, TrainingSet, check_several, memory_of_stage
from diet_jax.study.pool import CandidatePool
from diet_jax.study.predictions import index, mean_logits, row_weight, user_draws
from diet_jax.study.readings import Reading, Shelf, digest
from diet_jax.study.twin_scores import twin_predictions, twin_scores
from diet_jax.trials import full_pass
from diet_jax.trials.log import EvaluationLog, read_blocks

COSTED = (*FRESH, *WARM)  # full training made as cheap: the memory's row visits, not its rows
# Rows of the log, with its own labels and ids and with our labels and codebook; a memory that is never updated; one
# distilled in a single stage from all days seen. The last give no scores but an order.
RIVALS = (
    *(f'{name}_rows{labels}' for name in rivals.ROWS for labels in ('', OURS)),
    'static',
    ONE_SHOT,
    *COSTED,
    *halving.HALVINGS,
)


def trends(
    config: ConfigDict, workdir, memories: Sequence[str] = (), command: str = '', emit: Callable[[str], None] = print
) -> dict:
    """Runs the instrument; writes `trends.json` and what stands beside it, and returns it.

    Args:
      config: the config of the memory, with sections `evaluate` (grids) and `trends`.
      workdir: folder of the study; memories: artifact folders, one a distillation; () = distil them here.
    Raises:
      UserError: anything wrong with the config, the log or a memory: one that has seen the tuning block is refused.
    """
    _check(config)
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    study = _opened(config, workdir, memories, emit)
    pool, e, section = study.pool, config.evaluate, config.trends
    predicted = twin_predictions(config, study.stream, study.log, study.t, study.folders)
    known = twin_scores(predicted, study.log, study.t)
    if not known:
        emit(
            f'no twins of stage {study.t} stand beside the memories (twins.keep, or a memory moved out of its run): '
            'no answer'
        )
    kinds = _sides(section)
    runs = index(kinds, section.full_seeds, [d.config.seed for d in study.distillations], e.seeds)
    digests, shelf = _digests(config, study), Shelf(workdir)
    block = {'label': study.log.labels[study.t + 1].astype(np.int8), 'group': study.log.groups[study.t + 1]}
    if study.log.weights:
        block['weight'] = study.log.weight(study.t + 1)
    write_bytes(workdir / 'predictions' / 'block.npz', lambda file: np.savez(file, **block))
    rows = functools.cache(lambda kind: _rows(kind, section, study))  # chosen when first trained on
    entries = []
    with Progress('trends', len(pool.candidates) * (1 + len(kinds)), workdir / 'log.txt', emit) as progress:
        for candidate in pool.candidates:
            readings = shelf.kept(candidate.name, digests[candidate.name])
            if 'full' in readings and not set(_halvings(section)) <= set(readings['full'].scores.get('raced', ())):
                del readings['full']  # kept by a study without halving
            for kind in ('full', *kinds):
                if kind not in readings:
                    readings[kind] = _read(kind, candidate, study, rows, readings, workdir)
            entry = {'name': candidate.name, 'config': candidate.config}
            entry['confirmation'] = candidate.name in pool.confirmation
            ordered = {kind: readings[kind] for kind in ('full', *kinds)}
            entry, _ = shelf.put(entry, digests[candidate.name], ordered)
            entries.append(entry)
            progress.advance(
                len(ordered),
                f'{candidate.name}: AUC full {np.mean(entry["full"]["auc"]):.4f} memory '
                f'{np.mean(entry["memory"]["auc"]):.4f}',
            )
    ratio = [entry['memory']['cost_ratio'] for entry in entries]
    result = {
        'command': command,
        'config': plain(config),
        'pool': {
            'file': pool.path,
            'digest': pool.digest,
            'candidates': pool.all,
            'sets': pool.sets(),
            'left_out': pool.left_out,
        },
        'protocol': {**_protocol(config, study, runs), 'cost_ratio': float(np.mean(ratio))},
        'twins': known,
        'candidates': entries,
    }
    return summarised(result, workdir)


class _Study(NamedTuple):
    """What a study is made on."""

    config: ConfigDict
    stream: EncodedStream
    log: EvaluationLog
    t: int  # the stage
    pool: CandidatePool
    distillations: list[Distillation]
    static: list[Distillation]  # of the rival `static`: one memory each, of stage 1
    folders: list[Path]  # of the memories


def _check(config: ConfigDict) -> None:
    """Raises UserError for what is wrong with the config before a log is opened."""
    check_config(config, 1)
    for rival in config.trends.rivals:
        if rival not in RIVALS:
            raise UserError(f"trends.rivals holds '{rival}'{closest(rival, RIVALS)}; there are: {', '.join(RIVALS)}")
    if halving.BY_SLICE in config.trends.rivals and not config.roles.context:
        raise UserError(
            f'trends.rivals holds {halving.BY_SLICE}: its slices are of roles.context, which names no field'
        )
    if config.trends.full_seeds < 2:
        raise UserError('trends.full_seeds is 1: what differs is judged by the spread over seeds, 2 at least')


def _opened(config: ConfigDict, workdir: Path, memories, emit) -> _Study:
    e, section = config.evaluate, config.trends
    stream = open_stream(config.data, workdir, emit)
    t, last = section.stage or len(stream.blocks) - 2, len(stream.blocks) - 2
    if not 1 <= t <= last:
        raise UserError(
            f'trends.stage is {t}, the log has {len(stream.blocks)} blocks: stage t is chosen on block t + 1 and '
            f'scored on block t + 2, so 1 to {last} is possible'
        )
    log = read_blocks(stream, e.batch, table_capacity(stream.num_slots), outcome=e.label)
    wanted = dict(only=section.only, confirmation=section.confirmation, outcomes=log.outcomes)
    pool = CandidatePool(section.pool, plain(config.roles), e.dim, stream.layout, **wanted)
    check_several(pool.candidates, section.rivals)
    protocol.check_blocks(stream, log, t)
    study = _Study(config=config, stream=stream, log=log, t=t, pool=pool, distillations=[], static=[], folders=[])
    if pool.left_out:
        emit(pool.without())
    return _with_memories(study, workdir, memories, emit)


def _sides(section) -> tuple[str, ...]:
    """The kinds of rows that every candidate is trained on, beside the log."""
    return ('memory', *(kind for kind in section.rivals if kind not in halving.HALVINGS))


def _halvings(section) -> list[str]:
    return [kind for kind in section.rivals if kind in halving.HALVINGS]


def _read(kind: str, candidate: Candidate, study: _Study, rows, readings, workdir: Path) -> Reading:
    """One side of a candidate. rows: kind -> training sets; readings: its other sides that are there already."""
    config, t, log = study.config, study.t, study.log
    e, section = config.evaluate, config.trends
    if kind == 'full':
        return _full(candidate, study, workdir)
    if kind in COSTED:
        visits = [point['row_visits'] for point in readings['memory'].scores['frontier']]
        tables = [functools.partial(one.reference_table, t) for one in study.distillations]
        return cheap_reading(kind, candidate, log, t, visits=visits, section=section, seeds=e.seeds, tables=tables)
    return protocol.row_reading(candidate, log, rows(kind), t, protocol.grid_of(e), frontier=True)


def _full(candidate: Candidate, study: _Study, workdir: Path) -> Reading:
    """Full training of a candidate; raced too, where a halving is asked for."""
    e, section, t = study.config.evaluate, study.config.trends, study.t
    kinds, lrs = _halvings(section), candidate.recipe.rates(e.learning_rates)
    passes = full_pass.passes(
        candidate,
        study.log,
        lrs,
        seeds=section.full_seeds,
        boundaries=sorted({t, *(rungs(t) if kinds else ())}),
        cache=full_pass.cache_folder(study.config, workdir),
    )
    reading, context = protocol.full_reading(passes, lrs, study.log, t), study.config.roles.context
    if kinds:
        names = study.stream.layout.names
        place = names.index(context) if context else None
        raced = {kind: halving.scores(kind, passes, study.log, t, place).tolist() for kind in kinds}
        reading.scores['raced'] = raced
    return reading


def summarised(result: dict, workdir) -> dict:
    """Writes trends.json with `summary` computed from its raw scores; the test users from the predictions beside it."""
    workdir = Path(workdir)
    section, candidates = result['config']['trends'], result['candidates']
    users, logits = user_draws(result, workdir), mean_logits(result, workdir)
    protocol, weight = result['protocol'], row_weight(workdir)
    if not protocol.get('distilling_passes'):
        runs = [workdir / 'distillations' / str(seed) for seed in protocol['distillation_seeds']]
        protocol['distilling_passes'] = _distilling_passes(runs)
    result['summary'] = {}
    for name, members in result['pool']['sets'].items():
        keep = [i for i, candidate in enumerate(candidates) if candidate['name'] in members]
        chosen = [candidates[i] for i in keep]
        drawn = users and {kind: tuple(side[:, keep] for side in pair) for kind, pair in users.items()}
        result['summary'][name] = {
            metric: summary(chosen, metric, section['resamples'], 0, drawn if metric == 'auc' else None)
            for metric in ranking.METRICS
        }
        of_set = {kind: x[keep] for kind, x in logits.items()}
        result['summary'][name]['answer'] = judged(chosen, result.get('twins', {}), of_set, weight=weight)
    write_json(workdir / 'trends.json', result)
    return result


def read_trends(path) -> dict:
    """A trends.json.

    Raises:
      UserError: it is not there, or not one.
    """
    try:
        if (result := read_json(Path(path))) is None:
            raise UserError(f'{path}: there is no such file')
        result['candidates'], result['protocol'], result['pool']['sets'], result['config']['trends']  # noqa: B018
    except (Damaged, KeyError, TypeError) as error:
        raise UserError(
            f'{path} is not a trends.json ({type(error).__name__}: {error}): scripts/trends.py writes one'
        ) from error
    return result


def _with_memories(study: _Study, workdir: Path, memories, emit) -> _Study:
    """With the distillations of the study, and of the rival `static` its own; made here unless they are given."""
    config, stream, t = study.config, study.stream, study.t
    reference = models.build(reference_of(config, stream.layout), dim=config.reference.dim, layout=stream.layout)
    seeds = [config.seed + i for i in range(config.trends.distillations)]
    if memories:
        artifacts = [memory_of_stage(folder, t, stream, study.log.outcome) for folder in memories]
        seeds = [artifact.manifest['seed'] for artifact in artifacts]
        if len(set(seeds)) < len(seeds):
            raise UserError(f'--memory: distilled with seeds {seeds}: a replicate is a distillation with its own seed')
        folders = [Path(folder) for folder in memories]
    else:
        folders = [
            _distilled(config, workdir, str(seed), seed=seed, stages=t, emit=emit, clocked=seed == seeds[0])
            for seed in seeds
        ]
        artifacts = [memory_of_stage(folder, t, stream, study.log.outcome) for folder in folders]
    static = []
    if 'static' in config.trends.rivals:
        for seed, artifact in zip(seeds, artifacts):
            share = min(1.0, (len(artifact.codes) + 0.5) / len(study.log.labels[0]))
            folder = _distilled(config, workdir, f'static-{seed}', seed=seed, stages=1, row_budget=share, emit=emit)
            static.append(memory_of_stage(folder, 1, stream, study.log.outcome))
    largest = max(len(artifact.codes) for artifact in [*artifacts, *static])
    capacity = rounded(largest, 64)

    def distillation(seed, artifact, stage):
        seeded = config.copy_and_resolve_references()
        with seeded.unlocked():
            seeded.seed = seed
        return Distillation(seeded, reference, {stage: artifact}, stream, study.log, capacity)

    return study._replace(
        distillations=[distillation(seed, artifact, t) for seed, artifact in zip(seeds, artifacts)],
        static=[distillation(seed, artifact, 1) for seed, artifact in zip(seeds, static)],
        folders=folders,
    )


def _distilled(
    config, workdir, name, *, seed: int, stages: int, emit, row_budget: float = 0.0, clocked: bool = False
) -> Path:
    """The memory of a distillation that stops after some stages: where it lies; clocked: with its overhead."""
    config = config.copy_and_resolve_references()
    folder = workdir / 'distillations' / name
    keys = [b.key for b in open_stream(config.data, workdir, lambda line: None).blocks]
    with config.unlocked():
        config.seed, config.data.until = seed, keys[stages - 1]
        if config.data.source == 'simulated':
            config.data.simulated.blocks = stages
        if row_budget:
            config.memory.row_budget = row_budget
    emit(f'distillation {name}: {folder}')
    run = distill(config, folder, emit)
    if clocked and overhead.outdated(run):
        overhead.measure(run)
    jax.clear_caches()  # its programs: they take 3,000 of the process's memory maps (`programs.PROGRAMS_KEPT`)
    return folder / 'history' / f'{stages:05d}'  # memory/ has seen more where an earlier run was of a later stage


def _rows(kind: str, section, study: _Study) -> list[TrainingSet]:
    if kind == 'memory':
        return [one.memory(study.t, section.view) for one in study.distillations]
    if kind == 'static':
        return [one.memory(1, section.view) for one in study.static]
    chosen = [one.rival(kind, study.t) for one in study.distillations]
    jax.clear_caches()  # as in `_distilled`: the one-shot rival distills too
    return chosen


def _protocol(config, study: _Study, runs: list[dict]) -> dict:
    e, section, data, t = config.evaluate, config.trends, study.log, study.t
    rows, whole = [one.size(t) for one in study.distillations], data.rows_of_pass(t)
    epochs = max(e.epochs) + (e.id_epochs if e.by_ids else 0)
    visits = int(np.mean(rows)) * epochs * len(e.student_learning_rates) * e.seeds
    return {
        'stage': t,
        'tuned_on': data.keys[t],
        'scored_on': data.keys[t + 1],
        'scored_rows': len(data.labels[t + 1]),
        'data': {
            'label': data.outcomes[0],
            'fields': list(study.stream.layout.names),
            'notes': study.stream.notes,
        },
        'log_digest': data.digest,
        'full_pass_rows': whole,
        'memory_rows': rows,
        'row_budget': float(np.mean(rows)) / whole,
        'rows_of_rungs': [data.rows_of_pass(s) for s in rungs(t)],
        'full_seeds': section.full_seeds,
        'student_seeds': e.seeds,
        'distillation_seeds': [one.config.seed for one in study.distillations],
        'grid': {
            'full': {'lr': list(e.learning_rates)},
            'memory': {
                'lr': list(e.student_learning_rates),
                'epochs': list(e.epochs),
                'id_epochs': e.id_epochs,
                'by_ids': e.by_ids,
            },
        },
        'distilling_passes': _distilling_passes([folder.parent.parent for folder in study.folders]),
        'tuning_row_visits': {
            'full': whole * len(e.learning_rates) * section.full_seeds,
            'memory': visits * len(rows),
        },
        'evaluation_row_visits': len(data.labels[t]) + len(data.labels[t + 1]),
        'versions': study.distillations[0].artifacts[t].manifest['versions'],
        'predictions': runs,
    }


def _distilling_passes(runs: Sequence[Path]) -> float | None:
    """What a distillation took, in passes of the reference model, by the clocks of the runs that have one."""
    clocks = [clock for run in runs if (clock := read_overhead(run))]
    return float(np.mean([c['distill_seconds'] / c['reference_seconds'] for c in clocks])) if clocks else None


def _digests(config, study: _Study) -> dict[str, dict[str, str]]:
    """{candidate: {side: digest}}: of all that the scores of a side depend on."""
    e, section, data = config.evaluate, config.trends, study.log
    shared = [data.digest, config.data.group, data.capacity, study.t, e.batch]
    students = [list(protocol.grid_of(e)), study.distillations[0].num_codes]
    sizes = [one.size(study.t) for one in study.distillations]
    # Rivals depend on the reference model and on the codebook, not on what the memory holds.
    rows = [plain(config.reference), [one.config.seed for one in study.distillations], sizes]
    books = [_checksums(one, 'codebook/') for one in study.distillations]

    def inputs(kind):
        if kind == 'full':
            return list(e.learning_rates), section.full_seeds
        if kind in ('memory', 'static'):
            of = study.distillations if kind == 'memory' else study.static
            return students, section.view, [_checksums(one) for one in of]
        if kind in COSTED:
            taught = rows if kind in WARM else None
            return students, sizes, section.visit_batch, list(section.visit_learning_rates), taught
        if kind == ONE_SHOT:
            return students, rows, [plain(config[part]) for part in ('addressing', 'refine', 'memory')]
        return students, rows, books if kind.endswith(OURS) else None

    kinds = {kind: [kind, shared, inputs(kind)] for kind in ('full', *_sides(section))}
    return {
        candidate.name: {kind: digest([candidate.inputs(), value]) for kind, value in kinds.items()}
        for candidate in study.pool.candidates
    }


def _checksums(one: Distillation, of: str = '') -> list:
    return [{k: v for k, v in a.manifest['checksums'].items() if k.startswith(of)} for a in one.artifacts.values()]
