"""The trend instrument: does the memory rank a pool of candidates as the full log does?

Every candidate is trained on the full log (6 seeds), on the memory (5 distillations x 3 student seeds) and on what
every rival offers, by the protocol of one stage (`protocol`); `agreement` turns the raw scores into figures. A finished
side of a candidate is kept, and done again only when what it was trained on or how has changed.

    trends.json                 raw scores, protocol, summary
    candidates/<name>.json      one candidate, as in trends.json
    predictions/<name>.npy      float16 [runs, N]: logits of the scored block, in the order of protocol.predictions
    predictions/block.npz       its labels and users
    distillations/<seed>/       the memories, where none were given
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from diet_jax import agreement, answers, full, metrics, models, predictions, protocol, rivals, stream
from diet_jax import candidates as cd
from diet_jax.artifact import VIEWS
from diet_jax.checks import check_config
from diet_jax.data.stream import open_stream
from diet_jax.disk import write_bytes, write_json
from diet_jax.errors import UserError, closest
from diet_jax.evaluate import cache_folder
from diet_jax.pool import Pool
from diet_jax.progress import Progress
from diet_jax.schema import plain

COSTED = ('early_stop', 'subsample')  # full training made as cheap: the memory's row visits, not its rows
# Rows of the log, with its own labels and ids and with our labels and codebook; a memory that is never updated; one
# distilled in a single stage from all days seen.
RIVALS = (
    *(f'{name}_rows{labels}' for name in rivals.ROWS for labels in ('', protocol.OURS)),
    'static',
    protocol.AFRESH,
    *COSTED,
)


def trends(config: ConfigDict, workdir, memories: Sequence[str] = (), command: str = '', log: Callable = print) -> dict:
    """Runs the instrument; writes `trends.json` and what stands beside it, and returns it.

    Args:
      config: the config of the memory, with sections `evaluate` (grids) and `trends`.
      workdir: folder of the study; memories: artifact folders, one a distillation; () = distil them here.
    Raises:
      UserError: anything wrong with the config, the log or a memory: one that has seen the tuning block is refused.
    """
    check_config(config, 1)
    e, section, workdir = config.evaluate, config.trends, Path(workdir)
    for rival in section.rivals:
        if rival not in RIVALS:
            raise UserError(f"trends.rivals holds '{rival}'{closest(rival, RIVALS)}; there are: {', '.join(RIVALS)}")
    if section.view not in VIEWS:
        raise UserError(f"trends.view is '{section.view}'{closest(section.view, VIEWS)}")
    if section.full_seeds < 2:
        raise UserError('trends.full_seeds is 1: what differs is judged by the spread over seeds, 2 at least')
    workdir.mkdir(parents=True, exist_ok=True)
    encoded = open_stream(config.data, workdir, log)
    t, last = section.stage or len(encoded.blocks) - 2, len(encoded.blocks) - 2
    if not 1 <= t <= last:
        raise UserError(
            f'trends.stage is {t}, the log has {len(encoded.blocks)} blocks: stage t is chosen on block t + 1 and '
            f'scored on block t + 2, so 1 to {last} is possible'
        )
    names = [field.name for field in encoded.fields]
    pool = Pool(section.pool, plain(config.roles), e.dim, names, section.only, section.confirmation)
    data = cd.read_log(encoded, e.batch, stream.table_capacity(encoded.num_slots))
    _check_blocks(encoded, data, t)
    sides, static, folders = _memories(config, workdir, memories, encoded, data, t, log)
    told = answers.twin_scores(config, encoded, data, t, folders)
    if not told:
        log(
            f'no twins of stage {t} stand beside the memories (twins.keep, or a memory moved out of its run): no answer'
        )
    grid = protocol.grid_of(e)
    kinds = ['memory', *section.rivals]
    index = predictions.index(kinds, section.full_seeds, [s.config.seed for s in sides], e.seeds)
    rows = functools.cache(lambda kind: _rows(kind, section, sides, static, t))  # chosen when first trained on
    said = _protocol(config, encoded, data, t, sides, index)
    digests = _digests(config, data, t, sides, static)
    (workdir / 'candidates').mkdir(exist_ok=True)
    (workdir / 'predictions').mkdir(exist_ok=True)
    block = {'label': data.labels[t + 1].astype(np.int8), 'group': data.groups[t + 1]}
    write_bytes(workdir / 'predictions' / 'block.npz', lambda file: np.savez(file, **block))

    def run(kind: str, candidate: cd.Candidate, entry: dict) -> protocol.Side:
        if kind == 'full':
            cache = cache_folder(config, workdir)
            passes = full.passes(candidate, data, e.learning_rates, section.full_seeds, [t], cache)
            return protocol.full_side(passes, list(e.learning_rates), data, t)
        if kind in COSTED:
            visits = [point['row_visits'] for point in entry['memory']['frontier']]
            return protocol.visit_side(kind, candidate, data, t, visits, section, e.seeds, len(sides))
        return protocol.row_side(candidate, data, rows(kind), t, grid, frontier=True)

    entries = []
    with Progress('trends', len(pool.candidates) * len(digests), workdir / 'log.txt', log) as progress:
        for candidate in pool.candidates:
            kept, logits = _kept(workdir, candidate, digests)
            entry = {'name': candidate.name, 'config': candidate.config, 'digests': digests, 'chosen': {}, 'rivals': {}}
            entry['confirmation'] = candidate.name in pool.confirmation
            for kind in digests:
                if kind in logits:
                    chosen, scores = _side(kept, kind)
                else:
                    side = run(kind, candidate, entry)
                    chosen, scores = side.chosen, side.scores
                    logits[kind] = side.logits.reshape(-1, side.logits.shape[-1]).astype(np.float16)
                if kind in kinds[1:]:
                    entry['rivals'][kind] = {**scores, 'chosen': chosen}
                else:
                    entry['chosen'][kind], entry[kind] = chosen, scores
            entry['runs'] = [[kind, len(logits[kind])] for kind in digests]
            flat = np.concatenate([logits[kind] for kind in digests])
            write_bytes(workdir / 'predictions' / f'{candidate.name}.npy', lambda file, x=flat: np.save(file, x))
            write_json(workdir / 'candidates' / f'{candidate.name}.json', entry)
            entries.append(json.loads((workdir / 'candidates' / f'{candidate.name}.json').read_text()))
            progress.advance(
                len(digests),
                f'{candidate.name}: AUC full {np.mean(entry["full"]["auc"]):.4f} memory '
                f'{np.mean(entry["memory"]["auc"]):.4f}',
            )
    ratio = [entry['memory']['cost_ratio'] for entry in entries]
    result = {
        'command': command,
        'config': plain(config),
        'pool': {'file': pool.path, 'digest': pool.digest, 'candidates': pool.all, 'sets': pool.sets()},
        'protocol': {**said, 'cost_ratio': float(np.mean(ratio))},
        'twins': told,
        'candidates': entries,
    }
    return summarised(result, workdir)


def summarised(result: dict, workdir) -> dict:
    """Writes trends.json with `summary` computed from its raw scores; the test users from the predictions beside it."""
    workdir = Path(workdir)
    section, candidates = result['config']['trends'], result['candidates']
    users, logits = predictions.user_draws(result, workdir), predictions.mean_logits(result, workdir)
    result['summary'] = {}
    for name, members in result['pool']['sets'].items():
        keep = [i for i, candidate in enumerate(candidates) if candidate['name'] in members]
        chosen = [candidates[i] for i in keep]
        drawn = users and {kind: tuple(side[:, keep] for side in pair) for kind, pair in users.items()}
        result['summary'][name] = {
            metric: agreement.summary(chosen, metric, section['resamples'], 0, drawn if metric == 'auc' else None)
            for metric in agreement.METRICS
        }
        told = {kind: x[keep] for kind, x in logits.items()}
        result['summary'][name]['answer'] = answers.judged(chosen, result.get('twins', {}), told)
    write_json(workdir / 'trends.json', result)
    return result


def read(path) -> dict:
    """A trends.json.

    Raises:
      UserError: it is not there, or not one.
    """
    try:
        result = json.loads(Path(path).read_text())
        result['candidates'], result['protocol'], result['pool']['sets'], result['config']['trends']  # noqa: B018
    except FileNotFoundError:
        raise UserError(f'{path}: there is no such file') from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} is not a trends.json ({type(error).__name__}: {error}): scripts/trends.py writes one'
        ) from error
    return result


def _check_blocks(encoded, data: cd.Log, t: int) -> None:
    """Raises UserError if a score of the blocks that stage t is chosen and scored on would be no number."""
    for block in (t, t + 1):
        if len(np.unique(data.labels[block])) < 2:
            raise UserError(
                f'block {data.keys[block]} has clicks only, or none: no AUC; choose trends.stage or data.until so that '
                'stage t has two blocks with both after it'
            )
    if np.isnan(metrics.gauc(np.zeros_like(data.labels[t + 1]), data.labels[t + 1], data.groups[t + 1])):
        name = encoded.fields[encoded.group_field].name
        raise UserError(
            f"block {data.keys[t + 1]}: no value of '{name}' has rows with a click and without: no GAUC; set "
            'data.group to a field whose values come more often'
        )


def _memories(config, workdir, memories, encoded, data, t, log):
    """The distillations of the study, and of the rival `static` its own; made here unless they are given."""
    reference = models.build(config.reference.model, dim=config.reference.dim)
    seeds = [config.seed + i for i in range(config.trends.distillations)]
    if memories:
        artifacts = [protocol.memory_of_stage(folder, t, encoded) for folder in memories]
        seeds = [artifact.manifest['seed'] for artifact in artifacts]
        if len(set(seeds)) < len(seeds):
            raise UserError(f'--memory: distilled with seeds {seeds}: a replicate is a distillation with its own seed')
        folders = [Path(folder) for folder in memories]
    else:
        folders = [_distilled(config, workdir, str(seed), seed, t, None, log) for seed in seeds]
        artifacts = [protocol.memory_of_stage(folder, t, encoded) for folder in folders]
    static = []
    if 'static' in config.trends.rivals:
        for seed, artifact in zip(seeds, artifacts):
            share = min(1.0, (len(artifact.codes) + 0.5) / len(data.labels[0]))
            folder = _distilled(config, workdir, f'static-{seed}', seed, 1, share, log)
            static.append(protocol.memory_of_stage(folder, 1, encoded))
    largest = max(len(artifact.codes) for artifact in [*artifacts, *static])
    capacity = -(-largest // 64) * 64

    def distillation(seed, artifact, stage):
        seeded = config.copy_and_resolve_references()
        with seeded.unlocked():
            seeded.seed = seed
        return protocol.Distillation(seeded, reference, {stage: artifact}, encoded, data, capacity)

    return (
        [distillation(seed, artifact, t) for seed, artifact in zip(seeds, artifacts)],
        [distillation(seed, artifact, 1) for seed, artifact in zip(seeds, static)],
        folders,
    )


def _distilled(config, workdir, name, seed, stages, row_budget, log) -> Path:
    """The memory of a distillation that stops after some stages: where it lies."""
    config = config.copy_and_resolve_references()
    folder = workdir / 'distillations' / name
    keys = [b.key for b in open_stream(config.data, workdir, lambda line: None).blocks]
    with config.unlocked():
        config.seed, config.data.until = seed, keys[stages - 1]
        if config.data.source == 'simulated':
            config.data.simulated.blocks = stages
        if row_budget:
            config.memory.row_budget = row_budget
    log(f'distillation {name}: {folder}')
    stream.distill(config, folder, log)
    jax.clear_caches()  # its programs: they take 3,000 of the process's memory maps (`training.PROGRAMS_KEPT`)
    return folder / 'history' / f'{stages:05d}'  # memory/ has seen more where an earlier run was of a later stage


def _rows(kind, section, sides, static, t) -> list[protocol.Rows]:
    if kind == 'memory':
        return [side.memory(t, section.view) for side in sides]
    if kind == 'static':
        return [side.memory(1, section.view) for side in static]
    chosen = [side.rival(kind, t) for side in sides]
    jax.clear_caches()  # as in `_distilled`: `afresh` distills too
    return chosen


def _protocol(config, encoded, data, t, sides, index) -> dict:
    e, section = config.evaluate, config.trends
    rows, whole = [side.size(t) for side in sides], data.rows_of_pass(t)
    epochs = max(e.epochs) + (e.id_epochs if e.by_ids else 0)
    visits = int(np.mean(rows)) * epochs * len(e.student_learning_rates) * e.seeds
    return {
        'stage': t,
        'tuned_on': data.keys[t],
        'scored_on': data.keys[t + 1],
        'scored_rows': len(data.labels[t + 1]),
        'data': {'label': encoded.label, 'fields': [f.name for f in encoded.fields], 'notes': encoded.notes},
        'log_digest': data.digest,
        'full_pass_rows': whole,
        'memory_rows': rows,
        'row_budget': float(np.mean(rows)) / whole,
        'full_seeds': section.full_seeds,
        'student_seeds': e.seeds,
        'distillation_seeds': [side.config.seed for side in sides],
        'grid': {
            'full': {'lr': list(e.learning_rates)},
            'memory': {
                'lr': list(e.student_learning_rates),
                'epochs': list(e.epochs),
                'id_epochs': e.id_epochs,
                'by_ids': e.by_ids,
            },
        },
        'tuning_row_visits': {
            'full': whole * len(e.learning_rates) * section.full_seeds,
            'memory': visits * len(sides),
        },
        'evaluation_row_visits': len(data.labels[t]) + len(data.labels[t + 1]),
        'versions': sides[0].artifacts[t].manifest['versions'],
        'predictions': index,
    }


def _digests(config, data: cd.Log, t: int, sides, static) -> dict[str, str]:
    """For the full side and every kind of rows: of all that its scores depend on, but the candidate."""
    here, e, section = Path(__file__).parent, config.evaluate, config.trends
    code = [(here / f'{name}.py').read_text() for name in ('candidates', 'protocol', 'metrics', 'rivals', 'memory')]
    shared = [data.digest, config.data.group, data.capacity, t, full.code_version(), code, e.batch]
    students = [list(protocol.grid_of(e)), sides[0].num_codes]
    sizes = [side.size(t) for side in sides]
    # Rivals depend on the reference model and on the codebook, not on what the memory holds.
    rows = [plain(config.reference), [side.config.seed for side in sides], sizes]
    books = [_checksums(side, 'codebook/') for side in sides]

    def said(kind):
        if kind == 'full':
            return list(e.learning_rates), section.full_seeds
        if kind in ('memory', 'static'):
            of = sides if kind == 'memory' else static
            return students, section.view, [_checksums(side) for side in of]
        if kind in COSTED:
            return students, sizes, section.visit_batch, list(section.visit_learning_rates)
        if kind == protocol.AFRESH:
            return students, rows, [plain(config[part]) for part in ('addressing', 'refine', 'memory')]
        return students, rows, books if kind.endswith(protocol.OURS) else None

    text = {kind: json.dumps([kind, shared, said(kind)]) for kind in ('full', 'memory', *section.rivals)}
    return {kind: hashlib.sha256(value.encode()).hexdigest()[:16] for kind, value in text.items()}


def _checksums(side: protocol.Distillation, of: str = '') -> list:
    return [{k: v for k, v in a.manifest['checksums'].items() if k.startswith(of)} for a in side.artifacts.values()]


def _kept(workdir, candidate: cd.Candidate, digests) -> tuple[dict, dict]:
    """What an earlier run left of a candidate: (its entry, {kind: logits} of the sides that are still right)."""
    path, predictions = (
        workdir / f for f in (f'candidates/{candidate.name}.json', f'predictions/{candidate.name}.npy')
    )
    entry = json.loads(path.read_text()) if path.exists() and predictions.exists() else {}
    if entry.get('config') != json.loads(json.dumps(candidate.config)):
        return {}, {}
    flat, at, logits = np.load(predictions, allow_pickle=False), 0, {}
    for kind, runs in entry['runs']:
        if digests.get(kind) == entry['digests'][kind]:
            logits[kind] = flat[at : at + runs]
        at += runs
    return entry, logits


def _side(entry: dict, kind: str) -> tuple[dict, dict]:
    """(chosen, scores) of one side of an entry."""
    if kind in ('full', 'memory'):
        return entry['chosen'][kind], entry[kind]
    scores = dict(entry['rivals'][kind])
    return scores.pop('chosen'), scores
