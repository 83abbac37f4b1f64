"""The everyday question: which of these ideas would win on the full log, and how sure is that?

Candidates are trained on a memory; twins, whose scores on the log are known, carry what the memory gets wrong
(`correction`). Nothing is scored on a block that the memory has seen: a memory of stage t is asked about block t + 1,
learning rates are chosen on block t (blocks count from 0). Where the log holds no two blocks after the memory's last,
the memory of two stages before the end of the log, out of the same run's history/, answers.

    compare.json               what was asked, every candidate's answer, all pairs' odds: beats[i][j], that i is better
                               than j; odds.better, by more than `margin`; odds.within, no further apart than that;
                               `rules`, the verdicts of --fail_if;
                               `slices`, every candidate in every slice
    candidates/<name>.json     one candidate, predictions/<name>.npy its predictions: a run that was stopped goes on
    report.html
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from diet_jax.base.atomic import write_json
from diet_jax.base.errors import UserError
from diet_jax.base.plain import plain
from diet_jax.base.progress import Progress
from diet_jax.device.forecast import Forecast
from diet_jax.device.programs import spent
from diet_jax.models import twins
from diet_jax.models.candidates import Candidate
from diet_jax.run.record import read_metrics
from diet_jax.stats import correction, ranking, scores
from diet_jax.stats.costs import read_overhead
from diet_jax.stats.frameworks import HERE
from diet_jax.study import foretold, outside, protocol, rules
from diet_jax.study.anchors import read as anchors_of
from diet_jax.study.asked import Asked, KnownTwin, opened, without_twins
from diet_jax.study.pool import CandidatePool
from diet_jax.study.readings import Reading, Shelf, digest
from diet_jax.study.slices import Predictions, Slicing, by_slice, check_words, cut
from diet_jax.trials.log import EvaluationLog


def compare(
    memories: Sequence,
    candidates,
    anchors=None,
    workdir=None,
    *,
    label: str = '',
    predictions=None,
    margin: float = 0.0,
    fail_if: Sequence[str] = (),
    slices: Sequence[str] = (),
    command: str = '',
    emit: Callable[[str], None] = print,
) -> dict:
    """Writes compare.json and what stands beside it, and returns it.

    Args:
      memories: folders of artifacts, each inside the folder of its run, each a distillation with its own seed; what
        they say is averaged. candidates: a pool file, or {name: options}; {} where predictions alone are asked about.
      anchors: None, or a JSON lines file of past full runs, {"name": ..., "auc": ...}: AUC on the block scored here.
      workdir: where to write; None: compare/<name of the candidates' file> in the folder of the (first) run, where
        several memories are asked with '-<how many>-memories' behind it, and of another outcome '-<its name>'.
      label: the outcome that is predicted, '' for the main one.
      predictions: None, or a folder of what candidates that live elsewhere predict (`outside`).
      margin: the least difference in AUC that matters, for the odds; fail_if: rules that the answer is held to, as in
        `rules`; slices: words that cut the scored block, as in `slices`.
    Raises:
      UserError: anything wrong with a file; too few blocks; no twins on disk and no anchors; no margin, rule or slice.
    """
    start = time.perf_counter()
    _check_margin(margin)
    if not candidates and not predictions:
        raise UserError('there is nothing to compare: name --candidates, --predictions, or both')
    held_to = [rules.parse(text) for text in fail_if]
    asked = opened([Path(memory) for memory in memories], emit, label)
    config, t, log = asked.config, asked.t, asked.log
    fields, outcomes = asked.stream.layout, log.outcomes
    pool = CandidatePool(candidates, plain(config.roles), config.evaluate.dim, fields, outcomes=outcomes)
    gone = twins.left_out(config)
    for line in filter(None, (pool.without(), scores.left_out(gone, 'twins'))):
        emit(line)
    name = Path(pool.path).stem if candidates else 'predictions'
    workdir = Path(workdir) if workdir else asked.run / 'compare' / f'{name}{asked.which}'
    slicings = _cut(asked, slices)
    elsewhere = outside.read(predictions, asked, [c.name for c in pool.candidates]) if predictions else []
    others, known, past = _known(asked, pool.candidates, [one.name for one in elsewhere], anchors, emit)
    candidates = [*pool.candidates, *others]
    rules.check_names(held_to, [candidate.name for candidate in (*candidates, *elsewhere)])
    overhead, rates = read_overhead(asked.run), list(config.evaluate.student_learning_rates)
    shelf = Shelf(workdir)
    compiled = _foretell(overhead, asked, candidates, shelf, emit)
    entries, students = _trained(asked, candidates, shelf, compiled, emit)
    own = len(pool.candidates)
    entries[own:own], students[own:own] = [one.entry for one in elsewhere], [one.students for one in elsewhere]
    own += len(elsewhere)
    order = [entry['name'] for entry in entries]
    answer = corrected(asked, entries, [mean_logits(each) for each in students], known)
    taken = [one.name for one in elsewhere]
    by_place = {order.index(_called(twin.candidate, pool.candidates, taken)): twin for twin in asked.twins}
    reference = _called(twins.twins_of(config, asked.stream.layout)[0].candidate, pool.candidates, taken)
    pace = _pace(overhead, asked, entries, reference)
    paid = scores.paid(overhead, entries[0]['cost_ratio'], len(rates), len(asked.folders)) if overhead else ''
    result = {
        'command': command,
        'memories': [str(folder) for folder in asked.folders],
        'candidates_file': pool.path,
        'predictions': None if predictions is None else str(predictions),
        'pool_digest': pool.digest,
        'left_out': pool.left_out,
        'twins_left_out': gone,
        'label': log.outcomes[0],
        'outcomes': list(log.outcomes),
        'stage': t,
        'tuned_on': log.keys[t],
        'scored_on': log.keys[t + 1],
        'memory_rows': [len(artifact.codes) for artifact in asked.artifacts],
        'full_pass_rows': log.rows_of_pass(t),
        'grid': {'lr': rates, 'epochs': list(config.evaluate.epochs), 'seeds': config.evaluate.seeds},
        'twins': [twin.candidate.name for twin in asked.twins],
        'twin_rates': {order[i]: twin.times for i, twin in by_place.items()},
        'reference_rate': config.reference.rate,
        'anchors': past,
        'correction': {'text': answer.text, 'held_out': answer.held_out, 'by_functions': answer.by_functions},
        'candidates': answered(entries, answer, known, own, pace),
        'distilling': paid,
        'beats': correction.beats(answer)[:own, :own].tolist(),
        **_odds(_of(answer, own), margin, order),
        'rules': [rules.verdict(rule, answer, order) for rule in held_to],
        'slices': _sliced(asked, slicings, entries, students, by_place, int(np.argmax(answer.mean[:own])), margin),
        'seconds': time.perf_counter() - start,
    }
    write_json(workdir / 'compare.json', result)
    return {**result, 'workdir': str(workdir)}


def _check_margin(margin: float) -> None:
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not 0 <= margin < 1:
        raise UserError(f'--margin={margin}: a difference in AUC, from 0 to below 1, e.g. 0.001')


def beside(
    asked: Asked, own: Sequence[Candidate], taken: Sequence[str] = ()
) -> tuple[list[Candidate], dict[str, float]]:
    """The twins beside candidates of one's own: (those that are none of these, {name: AUC on the log} of all).

    taken: names that others have.
    """
    named = {_called(twin.candidate, own, taken): twin for twin in asked.twins}
    names = [candidate.name for candidate in own]
    others = [twin.candidate._replace(name=name) for name, twin in named.items() if name not in names]
    return others, {name: twin.auc for name, twin in named.items()}


def corrected(
    asked: Asked, entries: Sequence[dict], logits: Sequence[np.ndarray], known: dict[str, float]
) -> correction.Answer:
    """The answer for candidates: entries as of `reading`, logits as of `mean_logits`; known: {name: AUC on the log}."""
    order = [entry['name'] for entry in entries]
    found = {order.index(name): auc for name, auc in known.items()}
    weight = asked.log.weight(asked.t + 1)
    return correction.correct(ranking.orderings(entries), np.stack(logits), found, weight, frameworks_of(entries))


def frameworks_of(entries: Sequence[dict]) -> list[str]:
    """Where candidates were trained, as `correction.correct` wants it."""
    return [entry.get('framework', HERE) for entry in entries]


def _cut(asked: Asked, words: Sequence[str]) -> list[Slicing]:
    """The scored block, cut by every word."""
    log, t = asked.log, asked.t
    found = check_words(words, asked.fields, plain(asked.config.roles))
    return cut(found, asked.stream, log.rows(t + 1), log.num_slots[t - 1], log.labels[t + 1], log.weight(t + 1))


def _known(
    asked: Asked, own: list[Candidate], elsewhere: list[str], anchors, emit
) -> tuple[list[Candidate], dict[str, float], dict]:
    """What is known of the log: (twins that are no candidate of the pool, {name: AUC}, anchors)."""
    others, known = beside(asked, own, elsewhere)
    names = [*(candidate.name for candidate in own), *elsewhere]
    past = anchors_of(anchors, names) if anchors else {}
    known |= past
    gone = without_twins(asked)
    if not known:
        raise UserError(
            f'{gone}, and no --anchors are given: without a score on the log there are '
            'no odds; distill again (config.twins.models, config.twins.keep), or name past full runs'
        )
    if gone:
        emit(f'{gone}, so the anchors alone correct')
    return others, known, past


def _called(twin: Candidate, pool: Sequence[Candidate], taken: Sequence[str] = ()) -> str:
    """The name of the candidate of the pool that is this twin, or a name for it that no candidate has."""
    for own in pool:
        if own.model == twin.model and own.recipe == twin.recipe:
            return own.name
    return f'{twin.name} (twin)' if twin.name in [*(own.name for own in pool), *taken] else twin.name


def _trained(
    asked: Asked, candidates: list[Candidate], shelf: Shelf, compiled: Forecast, emit
) -> tuple[list[dict], list[np.ndarray]]:
    """The readings of all candidates: their entries, and their students' predictions."""
    found = []
    with Progress('comparing', len(candidates), shelf.folder / 'log.txt', emit) as progress:
        for candidate in candidates:
            since = spent()
            found.append(reading(asked, candidate, shelf))
            compiled.note(foretold.key(asked, candidate), spent(since))
            progress.advance(1, f'{candidate.name}: AUC on the memory {np.mean(found[-1][0]["auc"]):.4f}')
    if took := compiled.after():
        emit(took)
    return [entry for entry, _ in found], [students for _, students in found]


def reading(asked: Asked, candidate: Candidate, shelf: Shelf) -> tuple[dict, np.ndarray]:
    """A candidate's entry, and its students' predictions f16[V, R, S, N], by codes and, V = 2, by own ids; the kept
    ones where they are still right."""
    digests, grid = {'memory': memory_digest(asked, candidate)}, protocol.grid_of(asked.config.evaluate)
    found = shelf.kept(candidate.name, digests).get('memory')
    said = {'name': candidate.name, 'config': candidate.config}
    if found is None:
        found = _read(candidate, asked.log, asked.rows, asked.t, grid)
        found = found._replace(logits=shelf.put(said, digests, {'memory': found})[1])
    flat = np.clip(found.logits, -1e4, 1e4)  # of a model gone astray float16 is infinite: no mean
    students = flat.reshape(-1, len(asked.rows), len(grid.seeds), flat.shape[-1])
    return {**said, 'chosen': found.chosen, **found.scores}, students


def mean_logits(students: np.ndarray) -> np.ndarray:
    """f32[N]: the mean prediction of the students on codes, of those that `reading` gives."""
    return students[0].astype(np.float32).mean((0, 1))


def memory_digest(asked: Asked, candidate: Candidate) -> str:
    """What the reading of a candidate is kept under."""
    checksums, grid = [a.manifest['checksums'] for a in asked.artifacts], protocol.grid_of(asked.config.evaluate)
    return digest([candidate.inputs(), [checksums, asked.log.digest, list(grid), asked.t]])


def _read(candidate: Candidate, log: EvaluationLog, rows, t: int, grid: protocol.Grid) -> Reading:
    """A candidate on all memories together: costs are added up. Predictions f32[V, R, S, N], as of `reading`."""
    start = time.perf_counter()
    found = protocol.row_reading(candidate, log, rows, t, grid)
    kept = {k: found.scores[k] for k in ('auc', 'logloss', 'gauc', 'by_ids') if k in found.scores}
    kept |= {k: found.scores[k] * n for k, n in (('row_visits', len(rows)), ('cost_ratio', 1 / len(rows)))}
    kept |= {'training_seconds': found.scores['seconds'], 'seconds': time.perf_counter() - start}
    by_ids = [] if found.id_logits is None else [found.id_logits]
    return Reading(chosen=found.chosen, scores=kept, logits=np.stack([found.logits, *by_ids]))


def _pace(overhead, asked: Asked, entries, reference: str) -> float:
    """Seconds of one full pass for each second of one training on the memory: the reference model's, nan if unknown."""
    by_name = {entry['name']: entry for entry in entries}
    if overhead is None or reference not in by_name:
        return math.nan
    return _full_pass_seconds(overhead, asked) / by_name[reference]['training_seconds']


def _foretell(overhead, asked: Asked, candidates: list[Candidate], shelf: Shelf, emit) -> Forecast:
    """Says before work begins what will be compiled, and where training on the log would be quicker than the answer."""
    unread = [c for c in candidates if not shelf.kept(c.name, {'memory': memory_digest(asked, c)})]
    compiled = foretold.forecast(asked, unread)
    said = [compiled.before()]
    if overhead:
        one = _full_pass_seconds(overhead, asked)
        said.append(foretold.sooner_on_the_log(asked, one, len(candidates), len(unread), compiled))
    for line in filter(None, said):
        emit(line)
    return compiled


def _full_pass_seconds(overhead, asked: Asked) -> float:
    """Of the reference model, over the blocks that the memory has seen."""
    seen = sum(line['rows'] for line in read_metrics(asked.run))
    return overhead['reference_seconds'] * asked.log.rows_of_pass(asked.t) / max(seen, 1)


def _sliced(
    asked: Asked, slicings: list[Slicing], entries, students, twins: dict[int, KnownTwin], leader: int, margin: float
) -> list[dict]:
    """The answer in every slice. twins: {position: one}; leader: the position of the likely best."""
    log, block = asked.log, asked.t + 1
    predictions = Predictions(
        label=log.labels[block],
        group=log.groups[block],
        students=students,
        weight=asked.config.evaluate.by_ids,
        twins={i: twin.logits for i, twin in twins.items()},
        row_weight=log.weight(block),
        frameworks=frameworks_of(entries),
    )
    return by_slice(slicings, predictions, leader, margin)


def _of(answer: correction.Answer, own: int) -> correction.Answer:
    """The answer for the candidates of the file alone: they come first."""
    return answer._replace(mean=answer.mean[:own], cov=answer.cov[:own, :own])


def _odds(answer: correction.Answer, margin: float, names: list[str]) -> dict:
    """What is said of pairs: `odds[better][i][j]`, i better than j by more than the margin, `within` it; transposed,
    `better` is i worse by more. And from whom the candidate of the highest expected AUC is not told."""
    first = int(answer.mean.argmax())
    rivals = correction.not_told_from(answer, first, margin)
    return {
        'margin': margin,
        'odds': {
            'better': correction.beats(answer, margin).tolist(),
            'within': correction.within(answer, margin).tolist(),
        },
        'leader': {'name': names[first], 'not_told_from': [names[i] for i in rivals], 'sure': correction.SURE},
    }


def answered(entries, answer: correction.Answer, known: dict, own: int, pace: float) -> list[dict]:
    """Every candidate's answer, in the order of the file; the twins of the library last."""
    sd = np.sqrt(np.diag(answer.cov))
    mine = _of(answer, own)
    names = [entry['name'] for entry in entries]
    best = correction.best(mine)
    worth = correction.worth_running(mine, [i for i in range(own) if names[i] in known])
    out = []
    for i, entry in enumerate(entries):
        one = {**entry, 'expected_auc': float(answer.mean[i]), 'sd': float(sd[i])}
        one['known_auc'] = known.get(entry['name'])
        one['interval'] = [float(answer.mean[i] - 1.645 * sd[i]), float(answer.mean[i] + 1.645 * sd[i])]
        one['estimated_full_seconds'] = (math.nan if 'framework' in entry else pace) * entry['training_seconds']
        if i < own:
            one |= {'best': float(best[i]), 'gain_of_a_run': float(worth[i])}
        out.append({**one, 'of_the_library': i >= own})
    return out
