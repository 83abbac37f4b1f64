"""The everyday question: which of these ideas would win on the full log, and how sure is that?

Candidates are trained on a memory; twins, whose scores on the log are known, carry what the memory gets wrong
(`correction`). Nothing is scored on a block that the memory has seen: a memory of stage t is asked about block t + 1,
learning rates are chosen on block t (blocks count from 0). Where the log holds no two blocks after the memory's last,
the memory of two stages before the end of the log, out of the same run's history/, answers.

    compare.json               what was asked, every candidate's answer, all pairs' odds
    candidates/<name>.json     one candidate, predictions/<name>.npy its predictions: a run that was stopped goes on
    report.html
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from diet_jax import agreement, answers, correction, full, models, protocol, scores, stream, twins
from diet_jax import candidates as cd
from diet_jax.artifact import read_manifest
from diet_jax.config import default_config
from diet_jax.data.stream import open_stream
from diet_jax.disk import read_json, write_bytes, write_json
from diet_jax.errors import UserError, closest
from diet_jax.pool import Pool
from diet_jax.progress import Progress
from diet_jax.schema import plain


def compare(
    memories: Sequence, candidates, anchors=None, workdir=None, command: str = '', log: Callable = print
) -> dict:
    """Writes compare.json and what stands beside it, and returns it.

    Args:
      memories: folders of artifacts, each inside the folder of its run, each a distillation with its own seed; what
        they say is averaged. candidates: a pool file.
      anchors: None, or a JSON lines file of past full runs, {"name": ..., "auc": ...}: AUC on the block scored here.
      workdir: where to write; None: compare/<name of the candidates' file> in the folder of the (first) run, where
        several memories are asked with '-<how many>-memories' behind it.
    Raises:
      UserError: anything wrong with a file; too few blocks; no twins on disk and no anchors.
    """
    start = time.perf_counter()
    memories = [Path(memory) for memory in memories]
    run, t, config, encoded = _opened(memories[0], log)
    e, folders = config.evaluate, [_run_of(memory) / 'history' / f'{t:05d}' for memory in memories]
    if e.seeds < 2:
        raise UserError(f'the run of {memories[0]} has evaluate.seeds={e.seeds}: odds need the spread over two or more')
    overhead = read_json(run / 'overhead.json')
    artifacts = [protocol.memory_of_stage(folder, t, encoded) for folder in folders]
    _check_replicates(memories, [artifact.manifest['seed'] for artifact in artifacts])
    names = [field.name for field in encoded.fields]
    pool = Pool(candidates, plain(config.roles), e.dim, names)
    several = f'-{len(memories)}-memories' if len(memories) > 1 else ''
    workdir = Path(workdir) if workdir else run / 'compare' / f'{Path(candidates).stem}{several}'
    for part in ('candidates', 'predictions'):
        (workdir / part).mkdir(parents=True, exist_ok=True)
    data = cd.read_log(encoded, e.batch, stream.table_capacity(encoded.num_slots), first=t)
    beside, told = twins.of(config, names), answers.twin_scores(config, encoded, data, t, folders)
    named = [(_called(twin.candidate, pool), twin) for twin in beside if told]
    known = {name: float(np.mean(told[twin.name]['auc'])) for name, twin in named}
    own = list(map(_name, pool.candidates))
    asked = pool.candidates + [twin.candidate._replace(name=name) for name, twin in named if name not in own]
    past = _anchors(anchors, own) if anchors else {}
    known |= past
    gone = [str(path) for path in answers.twin_files(t, folders) if not path.exists()]
    if not known:
        raise UserError(
            f'{" and ".join(gone)}: not there, and no --anchors are given: without a score on the log there are '
            'no odds; distill again (config.twins.models, config.twins.keep), or name past full runs'
        )
    if gone:
        log(f'{" and ".join(gone)}: not there, so the anchors alone correct')
    reference = models.build(config.reference.model, dim=config.reference.dim)
    capacity = -(-max(len(artifact.codes) for artifact in artifacts) // 64) * 64
    rows = [protocol.Distillation(config, reference, {t: a}, encoded, data, capacity).memory(t) for a in artifacts]
    shared = [
        full.code_version(),
        [a.manifest['checksums'] for a in artifacts],
        data.digest,
        list(protocol.grid_of(e)),
        t,
    ]
    trained, logits = [], []
    with Progress('comparing', len(asked), workdir / 'log.txt', log) as progress:
        for candidate in asked:
            entry, predicted = _trained(candidate, rows, data, t, protocol.grid_of(e), workdir, shared)
            trained.append(entry)
            logits.append(predicted)
            progress.advance(1, f'{candidate.name}: AUC on the memory {np.mean(entry["auc"]):.4f}')
    order = [entry['name'] for entry in trained]
    answer = correction.correct(
        agreement.readings(trained), np.stack(logits), {order.index(n): auc for n, auc in known.items()}
    )
    whole, ratio, reference = data.rows_of_pass(t), trained[0]['cost_ratio'], _called(beside[0].candidate, pool)
    result = {
        'command': command,
        'memories': [str(folder) for folder in folders],
        'candidates_file': pool.path,
        'pool_digest': pool.digest,
        'stage': t,
        'tuned_on': data.keys[t],
        'scored_on': data.keys[t + 1],
        'memory_rows': [len(artifact.codes) for artifact in artifacts],
        'full_pass_rows': whole,
        'grid': {'lr': list(e.student_learning_rates), 'epochs': list(e.epochs), 'seeds': e.seeds},
        'twins': list(told),
        'anchors': past,
        'correction': {'text': answer.text, 'held_out': answer.held_out, 'by_functions': answer.by_functions},
        'candidates': _told(
            trained, answer, known, len(pool.candidates), _pace(overhead, run, trained, reference, whole)
        ),
        'distilling': scores.paid(overhead, ratio, len(e.student_learning_rates), len(folders)) if overhead else '',
        'beats': correction.beats(answer)[: len(pool.candidates), : len(pool.candidates)].tolist(),
        'seconds': time.perf_counter() - start,
    }
    write_json(workdir / 'compare.json', result)
    return {**result, 'workdir': str(workdir)}


def _opened(memory: Path, log):
    """(folder of the run, stage t, its config, its stream) of a memory."""
    manifest = read_manifest(memory)
    run, defaults, theirs = _run_of(memory), default_config().to_dict(), _config(memory)
    theirs['evaluate'] = defaults['evaluate'] | dict(theirs.get('evaluate', {}))  # a run that is older than a key of it
    config = ConfigDict(defaults | theirs)
    encoded = open_stream(config.data, run, log)
    count, stage = len(encoded.blocks), manifest['stage']
    t = min(stage, count - 2)
    if t < 1:
        raise UserError(f'the log has {count} blocks: one to learn from, one to choose on, one to score on are needed')
    if t < stage:
        log(
            f'the log ends with block {encoded.blocks[-1].key}, and a memory is asked about two blocks that it has not '
            f'seen: the memory of stage {t}, up to {encoded.blocks[t - 1].key}, answers'
        )
    return run, t, config, encoded


def _run_of(memory: Path) -> Path:
    """The folder of the run that a memory lies in, relative to the present one if it can be: shorter to read."""
    run = memory.absolute().parent if memory.name == 'memory' else memory.absolute().parent.parent
    return run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run


def _config(memory: Path) -> dict:
    """The config.json of a memory's run."""
    path = _run_of(memory) / 'config.json'
    if not path.exists():
        raise UserError(
            f'{path} is missing: {memory} must lie in the folder of its run, where scripts/distill.py put it'
        )
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f'{path} does not parse ({error}): restore it from a copy') from error


def _check_replicates(memories: list[Path], seeds: list[int]) -> None:
    """Raises UserError unless the memories are of runs that differ in their seeds, all of them, and in nothing else."""
    if len(set(seeds)) < len(seeds):
        raise UserError(f'--memory: distilled with seeds {seeds}: memories are averaged that each have their own seed')
    first, *others = ({**_config(memory), 'seed': 0} for memory in memories)
    for memory, config in zip(memories[1:], others):
        if config != first:
            key = min(k for k in first.keys() | config.keys() if first.get(k) != config.get(k))
            raise UserError(
                f"--memory: the runs of {memories[0]} and {memory} differ in '{key}': only seeds may differ"
            )


def _called(twin: cd.Candidate, pool: Pool) -> str:
    """The name of the candidate of the pool that is this twin, or a name for it that no candidate has."""
    for own in pool.candidates:
        if own.model == twin.model and own.decay == twin.decay:
            return own.name
    return f'{twin.name} (twin)' if twin.name in map(_name, pool.candidates) else twin.name


def _name(candidate: cd.Candidate) -> str:
    return candidate.name


def _anchors(path, names) -> dict[str, float]:
    found = {}
    try:
        lines = [line for line in Path(path).read_text().splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f'--anchors={path}: {error.strerror}') from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            name, auc = row['name'], float(row['auc'])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f'{path} line {number}: {line!r} is not {{"name": ..., "auc": ...}}') from error
        if name not in names:
            raise UserError(f"{path} line {number}: '{name}' is none of the candidates{closest(name, names)}")
        if not 0 <= auc <= 1:
            raise UserError(f"{path} line {number}: auc {auc} of '{name}' is not between 0 and 1")
        found[name] = auc
    return found


def _trained(candidate, rows, data, t, grid, workdir, shared) -> tuple[dict, np.ndarray]:
    """A candidate's entry and its students' mean predictions f32[N], kept from an earlier run where they are right."""
    path = workdir / 'candidates' / f'{candidate.name}.json'
    predictions = workdir / 'predictions' / f'{candidate.name}.npy'
    said = json.dumps([candidate.config, shared], sort_keys=True)
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    if path.exists() and predictions.exists():
        entry = json.loads(path.read_text())
        if entry['digest'] == digest:
            return entry, np.load(predictions, allow_pickle=False).astype(np.float32)
    start = time.perf_counter()
    found = protocol.row_side(candidate, data, rows, t, grid)
    entry = {'name': candidate.name, 'config': candidate.config, 'digest': digest, 'chosen': found.chosen}
    entry |= {k: found.scores[k] for k in ('auc', 'logloss', 'gauc', 'by_ids') if k in found.scores}
    entry |= {k: found.scores[k] * n for k, n in (('row_visits', len(rows)), ('cost_ratio', 1 / len(rows)))}
    entry |= {'training_seconds': found.scores['seconds'], 'seconds': time.perf_counter() - start}
    logits = found.logits.mean((0, 1))
    write_bytes(predictions, lambda file: np.save(file, logits.astype(np.float16)))
    write_json(path, entry)
    return entry, logits.astype(np.float16).astype(np.float32)


def _pace(overhead, run: Path, trained, reference: str, rows: int) -> float:
    """Seconds of one full pass for each second of one training on the memory: the reference model's, nan if unknown."""
    by_name = {entry['name']: entry for entry in trained}
    if overhead is None or reference not in by_name:
        return math.nan
    seen = sum(line['rows'] for line in stream.read_metrics(run))
    return overhead['reference_seconds'] * rows / max(seen, 1) / by_name[reference]['training_seconds']


def _told(trained, answer: correction.Answer, known: dict, own: int, pace: float) -> list[dict]:
    """Every candidate's answer, in the order of the file; the twins of the library last."""
    sd = np.sqrt(np.diag(answer.cov))
    mine = answer._replace(mean=answer.mean[:own], cov=answer.cov[:own, :own])
    names = [entry['name'] for entry in trained]
    best = correction.best(mine)
    worth = correction.worth_running(mine, [i for i in range(own) if names[i] in known])
    out = []
    for i, entry in enumerate(trained):
        told = {k: v for k, v in entry.items() if k != 'digest'}
        told |= {'expected_auc': float(answer.mean[i]), 'sd': float(sd[i]), 'known_auc': known.get(entry['name'])}
        told['interval'] = [float(answer.mean[i] - 1.645 * sd[i]), float(answer.mean[i] + 1.645 * sd[i])]
        told['estimated_full_seconds'] = pace * entry['training_seconds']
        if i < own:
            told |= {'best': float(best[i]), 'gain_of_a_run': float(worth[i])}
        out.append({**told, 'of_the_library': i >= own})
    return out
