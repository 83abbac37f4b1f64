"""The protocol of stage t, shared by all that compares: what each side trains on, and choose, then score once.

The memory of stage t has seen D_1..D_t. Learning rate and epochs are chosen on D_{t+1}, by the mean AUC over seeds; the
choice is scored once, on D_{t+2}; the full side the same, with a grid of the same size. Blocks count from 0 in code:
stage t is chosen on block t and scored on block t + 1.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax import afresh, codebook, full, metrics, models, parallel, rivals, stage, stream
from diet_jax import candidates as cd
from diet_jax import memory as mem
from diet_jax import training as tr
from diet_jax.artifact import DEFAULT_VIEW, Artifact, load_artifact
from diet_jax.errors import UserError

OURS = '_our_labels'  # ends the name of a rival whose rows carry our labels and our codebook
AFRESH = 'afresh'  # a memory distilled in one stage from all days seen


class Grid(NamedTuple):
    """The memory side's grid: epochs x learning rates; and the student seeds."""

    epochs: tuple[int, ...]
    lrs: tuple[float, ...]
    batch: int
    seeds: tuple[int, ...]
    id_epochs: int  # of the students on ids
    by_ids: float  # their weight in what orders (`agreement.reading`); 0: there are none


def grid_of(e) -> Grid:
    """From a config's section `evaluate`."""
    lrs, seeds = tuple(e.student_learning_rates), tuple(range(e.seeds))
    return Grid(tuple(e.epochs), lrs, e.student_batch, seeds, e.id_epochs, e.by_ids)


class Rows(NamedTuple):
    """Training rows of one kind at one stage, and how the log's rows are written in their numbering."""

    data: tr.StudentData
    num_codes: int
    encode: Callable[[np.ndarray], np.ndarray]  # i32[N, F] slots -> i32[N, F]
    lazy: bool = False  # a large table, of which a step updates the rows that it touches, as on the full side
    by_ids: Rows | None = None  # of coded rows: the same rows by their own ids, with soft labels


def memory_of_stage(folder, t: int, stream) -> Artifact:
    """The artifact in a folder, if it is one that the protocol of stage t allows.

    Raises:
      UserError: it has seen another block than the last of its stage, or it is of another log (other fields, or
        another number of rows up to that block).
    """
    artifact, allowed = load_artifact(folder), stream.blocks[t - 1].key
    if artifact.manifest['last_block'] != allowed:
        raise UserError(
            f'{folder} has seen block {artifact.manifest["last_block"]}, the protocol of stage {t} allows {allowed}: '
            'name the memory of that stage (history/ of the run has them all), or distill this log again'
        )
    theirs, ours = ([field.name for field in fields] for fields in (artifact.fields, stream.fields))
    if theirs != ours:
        raise UserError(f'{folder} has the fields {", ".join(theirs)}, the log has {", ".join(ours)}: distill this log')
    rows = sum(block.rows for block in stream.blocks[:t])
    if artifact.manifest['rows_seen'] != rows:
        raise UserError(
            f'{folder} has seen {artifact.manifest["rows_seen"]} rows up to block {allowed}, the log has {rows}: '
            'distill this log'
        )
    return artifact


class Distillation:
    """What one distillation offers to train on: its memory and the rivals at the same rows, stage by stage.

    Args:
      config: the run's config, with its seed; reference: the reference `Model`.
      artifacts: {stage t: its `Artifact`}; stream, log: the `EncodedStream` and the `candidates.Log` made of it.
      capacity: rows that students' data is padded to, one shape for all.
    Raises:
      UserError: a memory has more codes than the config says (ids beyond a table are clamped, and nobody would see).
    """

    def __init__(self, config, reference, artifacts: dict[int, Artifact], stream, log: cd.Log, capacity: int):
        self.config, self.reference, self.artifacts = config, reference, artifacts
        self.stream, self.log, self.capacity = stream, log, capacity
        codes = codebook.codes_per_field(config.codebook.codes, stream.fields)
        self.num_codes = log.fields * codes
        for t, a in artifacts.items():
            if (most := max(field.codes for field in a.fields)) > codes:
                raise UserError(
                    f'the memory of stage {t} (seed {a.manifest["seed"]}) has up to {most} codes a field and '
                    f'codebook.codes is {codes}: use the config that it was distilled with'
                )
        self.code = {t: a.code_of_slots(stream) for t, a in artifacts.items()}
        self._references, self._chosen = {}, {}

    def size(self, t: int) -> int:
        """Rows of the memory of stage t."""
        return len(self.artifacts[t].codes)

    def memory(self, t: int, view: str = DEFAULT_VIEW) -> Rows:
        """The memory of stage t through one view."""
        artifact = self.artifacts[t]
        ids, weight = artifact.slots(self.stream), artifact.columns['weight']
        coded = self._coded(self.code[t], artifact.codes + artifact.offsets(), artifact.label(view), weight)
        return coded._replace(by_ids=self._raw(ids, artifact.label('soft'), weight))

    def rival(self, kind: str, t: int) -> Rows:
        """Rows of D_1..D_t that a rival chooses, as many as the memory has.

        Args:
          kind: `<name>_rows` of `rivals.ROWS` with the log's own labels and ids, or that + '_our_labels'; or `AFRESH`.
        """
        if kind == AFRESH:
            return self._afresh(t)
        ours, name = kind.endswith(OURS), kind.removesuffix(OURS).removesuffix('_rows')
        # Rows are the same with our labels as without; CGM learns labels, for one numbering of the ids.
        key = (kind if name == 'cgm' else name), t
        if key not in self._chosen:
            seen, code = self.seen(t), self.code[t] if ours else None
            chosen = rivals.choose(name, seen, self.size(t), self.config.seed, code)
            self._chosen[key] = seen.ids[chosen.index], chosen  # not `seen`: it is the whole log
        ids, chosen = self._chosen[key]
        ones = np.ones(len(ids))
        if ours:
            coded = self._coded(self.code[t], self.code[t][ids], chosen.soft, ones)
            return coded._replace(by_ids=self._raw(ids, chosen.soft, ones))
        return self._raw(ids, chosen.own, ones)

    def seen(self, t: int) -> rivals.Seen:
        """D_1..D_t, and the reference model after it, by its own pass again."""
        return rivals.Seen(*self.log.until(t), self.reference, self._reference(t).params)

    def _afresh(self, t: int) -> Rows:
        """A memory distilled in one stage from all of D_1..D_t, with a codebook of its own."""
        config = self.config.copy_and_resolve_references()
        with config.unlocked():
            config.codebook.codes = self.num_codes // self.log.fields
        trained, students = self._reference(t), tuple(models.of(s, config.reference.dim) for s in config.refine.models)
        width = trained.params['table'].shape[1]
        book = codebook.init_codebook(self.log.capacity, self.log.fields, config.codebook.codes, width)
        book = stream.with_vocabulary(book, self.stream, t - 1)
        made = afresh.distilled(config, self.reference, students, trained, book, *self.log.until(t), self.size(t), t)
        data = mem.student_data(made.memory, made.book.code)
        codes, soft, weight, mean = map(np.asarray, (*data[:3], made.memory.mean_label))
        coded = self._coded(np.asarray(made.book.code), codes, (soft + mean) / 2, weight)
        return coded._replace(by_ids=self._raw(np.asarray(made.memory.ids), soft, weight))

    def _reference(self, t: int):
        if not self._references:
            config = self.config
            key = jax.random.key_data(jax.random.key(config.seed))
            state = stage.init_state(config, self.reference, (), self.log.capacity, self.log.fields, key).reference
            teach = jax.jit(lambda s, b: tr.stream_pass(self.reference, s, b, config.reference.learning_rate)[0])
            for block in range(max(self.artifacts)):
                state = teach(state, self.log.batches[block])
                if block + 1 in self.artifacts:
                    self._references[block + 1] = state
        return self._references[t]

    def _coded(self, code, codes, target, weight) -> Rows:
        return Rows(cd.padded(codes, target, weight, self.capacity), self.num_codes, lambda rows: code[rows])

    def _raw(self, ids, target, weight) -> Rows:
        slots, renumbered = cd.compact(ids)
        table = 1 << (len(slots) + self.log.fields - 1).bit_length()  # a power of two: few shapes to compile
        data = cd.padded(renumbered, target, weight, self.capacity)
        return Rows(data, table, lambda rows: cd.renumber(slots, rows), lazy=True)


class Side(NamedTuple):
    """One side of one candidate: what was chosen on D_{t+1}, and what it came to on D_{t+2}."""

    chosen: dict  # lr, epochs (on rows), tuning_auc
    scores: dict  # auc, logloss, gauc: per seed, on rows per seed per distillation; row_visits, seconds, ...
    logits: np.ndarray  # f32[R, S, N] of the scored block; R = 1 on the full side
    predict: Callable | None = None  # of rows: block -> f32[S, N] by the first distillation's students


def full_side(passes, lrs: Sequence[float], log: cd.Log, t: int) -> Side:
    """The learning rate of full training chosen on D_{t+1}, scored once on D_{t+2}.

    Args: passes: `full.Passes` of these learning rates.
    """
    tuning = [_tuning_auc(by_seed, log, t) for by_seed in passes.logits[t, t]]
    best = int(np.argmax(tuning))
    logits = passes.logits[t, t + 1][best]
    scores = {metric: values[0] for metric, values in scored(logits[None], log, t + 1).items()}
    scores.update(row_visits=log.rows_of_pass(t), seconds=float(passes.seconds[best, :, :t].sum(1).mean()))
    return Side({'lr': lrs[best], 'tuning_auc': tuning[best]}, scores, logits[None])


def row_side(candidate: cd.Candidate, log: cd.Log, rows: Sequence[Rows], t: int, grid: Grid, frontier=False) -> Side:
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
    side = _students(candidate, log, rows, t, grid, grid.epochs, frontier)
    beside = _students(candidate, log, [r.by_ids for r in rows], t, grid, (grid.id_epochs,), False)
    by_ids = {'weight': grid.by_ids, **{metric: beside.scores[metric] for metric in ('auc', 'logloss', 'gauc')}}
    for scores in (side.scores, *side.scores.get('frontier', ())):
        scores['by_ids'] = by_ids
        for total in ('row_visits', 'seconds'):
            scores[total] += beside.scores[total]
        scores['cost_ratio'] = log.rows_of_pass(t) / scores['row_visits']
    return side._replace(chosen={**side.chosen, 'by_ids': beside.chosen})


def _students(candidate, log: cd.Log, rows: Sequence[Rows], t: int, grid: Grid, epochs, frontier: bool) -> Side:
    known, lrs, seeds = log.num_slots[t - 1], grid.lrs, grid.seeds
    trained = [cd.train_grid(candidate, r.data, r.num_codes, grid.batch, epochs, lrs, seeds, r.lazy) for r in rows]

    encoded = functools.cache(lambda i, block: jnp.asarray(rows[i].encode(log.ids(block, known))))

    def predict(i, block, e, j):
        return trained[i].logits(encoded(i, block), e, j)[:, : len(log.labels[block])]

    visits = [int(rows[0].data.rows) * n for n in epochs]
    seconds = float(np.mean([g.seconds for g in trained])) / epochs[-1]
    costs = [({'epochs': n}, visits[e], seconds * n) for e, n in enumerate(epochs)]
    side, (e, j) = _chosen(predict, costs, lrs, len(rows), log, t, frontier)
    return side._replace(predict=lambda block: predict(0, block, e, j))


def visit_side(kind: str, candidate, log: cd.Log, t: int, visits: Sequence[int], section, seeds: int, replicates: int):
    """Full training made as cheap as training on a memory: one time-ordered pass over fewer rows, own labels and ids.

    Args:
      kind: 'early_stop', the first rows of the log; 'subsample', a uniform draw of all of D_1..D_t, a replicate a draw.
      visits: rows of the pass, at each of which it is tuned and scored as a memory is at each number of epochs.
      section: `config.trends`, for the batch and the learning rates (a grid of the memory side's size).
    Returns: Side, always with `frontier`.
    """
    ids, label = log.until(t)
    lrs, known, batch = list(section.visit_learning_rates), log.num_slots[t - 1], section.visit_batch
    total, steps = len(label), -(-min(max(visits), len(label)) // batch)
    step, predict_logits = full.functions(candidate.model, candidate.decay)
    params, seconds = {}, np.zeros(len(visits))
    for r in range(replicates):
        rng = np.random.default_rng(r)
        for e, n in enumerate(min(v, total) for v in visits):
            pick = np.arange(n) if kind == 'early_stop' else np.sort(rng.choice(total, n, replace=False))
            laid = parallel.shard_block(ids[pick], label[pick], np.zeros(n, bool), 1, batch, steps)
            laid = jax.tree.map(lambda x: x[0], laid)
            for j, lr in enumerate(lrs):
                for s in range(seeds):
                    key = jax.random.fold_in(jax.random.key(s), r)
                    state = tr.init_stream(candidate.model, key, log.capacity, log.fields)
                    compiled, start = step.compile_seconds, time.perf_counter()
                    state = jax.block_until_ready(step(state, laid, np.float32(lr), key))
                    seconds[e] += time.perf_counter() - start - (step.compile_seconds - compiled)
                    for block in (t, t + 1):
                        logits = predict_logits(state.params, log.ids(block, known))
                        params[r, block, e, j, s] = np.asarray(logits)[: len(log.labels[block])]
    seconds /= replicates * len(lrs) * seeds

    def predict(i, block, e, j):
        return np.stack([params[i, block, e, j, s] for s in range(seeds)])

    costs = [({'visits': int(v)}, int(min(v, total)), float(seconds[e])) for e, v in enumerate(visits)]
    return _chosen(predict, costs, lrs, replicates, log, t, True)[0]


def _chosen(predict, costs, lrs, replicates, log: cd.Log, t: int, frontier: bool):
    """The point of a grid, costs x learning rates, that is best on D_{t+1}; scored once on D_{t+2}.

    Args:
      predict: (replicate, block, cost, lr) -> f32[S, N], both by position; costs: [(what it is, row visits, seconds)].
    Returns: (Side, (cost, lr) by position).
    """

    def tuned(e, j):
        return float(np.mean([_tuning_auc(predict(i, t, e, j), log, t) for i in range(replicates)]))

    points = []  # of every cost: (tuning AUC, lr by position), the first of equals
    for e in range(len(costs)):
        auc = [tuned(e, j) for j in range(len(lrs))]
        points.append((max(auc), int(np.argmax(auc))))
    best = int(np.argmax([auc for auc, _ in points]))

    def read(e):
        auc, j = points[e]
        what, visits, seconds = costs[e]
        logits = np.stack([predict(i, t + 1, e, j) for i in range(replicates)])
        said = {'row_visits': visits, 'cost_ratio': log.rows_of_pass(t) / visits, 'seconds': seconds}
        return {'lr': lrs[j], **what, 'tuning_auc': auc}, {**scored(logits, log, t + 1), **said}, logits

    readings = {e: read(e) for e in (range(len(costs)) if frontier else (best,))}
    chosen, scores, logits = readings[best]
    if frontier:
        scores = {**scores, 'frontier': [{'chosen': c, **s} for c, s, _ in readings.values()]}
    return Side(chosen, scores, logits), (best, points[best][1])


def scored(logits, log: cd.Log, block: int) -> dict:
    """AUC, LogLoss and GAUC of every run on a block: f32[R, S, N] -> {metric: [[per seed] per distillation]}."""
    label, group = log.labels[block], log.groups[block]
    return {
        'auc': [[metrics.auc(x, label) for x in run] for run in logits],
        'logloss': [[metrics.logloss(x, label) for x in run] for run in logits],
        'gauc': [[metrics.gauc(x, label, group) for x in run] for run in logits],
    }


def _tuning_auc(logits, log: cd.Log, t: int) -> float:
    return float(np.mean([metrics.auc(x, log.labels[t]) for x in logits]))
