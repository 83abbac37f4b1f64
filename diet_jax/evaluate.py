"""The protocol of stage t: candidates trained on the memory beside the same candidates trained on the log.

The memory of stage t has seen D_1..D_t. Hyper-parameters and epochs are chosen on D_{t+1}, by the mean AUC over
seeds; the choice is scored once, on D_{t+2}; the full side the same. The floors at the same number of rows: random
rows with their own labels and ids, and random rows with our labels (the reference model's) and our codebook.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from diet_jax import candidates as cd
from diet_jax import metrics, stage
from diet_jax import training as tr
from diet_jax.artifact import load_artifact
from diet_jax.disk import write_json
from diet_jax.errors import UserError
from diet_jax.progress import Progress
from diet_jax.schema import plain

KINDS = ('memory', 'random_rows', 'random_rows_our_labels')


def evaluate(config: ConfigDict, run, replicates=(), command: str = '', log: Callable[[str], None] = print) -> dict:
    """Writes `evaluate.json` into the run's workdir and returns it.

    Args:
      config: the run's config; section `evaluate` says candidates, grids, seeds.
      run: a `stream.Run`; replicates: further `Run`s over the same log, distilled with other seeds.
    Raises:
      UserError: too few blocks for the protocol, or a memory that has seen a block it would be scored on.
    """
    e, stream = config.evaluate, run.stream
    last = len(stream.blocks) - 2
    stages = [t for t in range(e.first_stage, last + 1)] or ([last] if last >= 1 else [])
    if not stages:
        raise UserError(
            f'the log has {len(stream.blocks)} blocks: the protocol needs 3 at least, one to learn from, one to '
            'choose on, one to score on'
        )
    pool = [cd.candidate(spec, e.dim) for spec in e.candidates]
    built = [candidate.build() for candidate in pool]  # a name that does not exist is found before the work
    data = cd.read_log(stream, e.batch, run.slots)
    grid = _Grid(tuple(e.epochs), tuple(e.student_learning_rates), e.student_batch, tuple(range(e.seeds)))
    runs = [run, *replicates]
    sources = [_Sources(r, data, stages, log) for r in runs]
    rows_of_pass = {t: int(sum(b.rows for b in stream.blocks[:t])) for t in stages}
    out = {
        t: {
            'stage': t,
            'tuned_on': data.keys[t],
            'scored_on': data.keys[t + 1],
            'memory_rows': sources[0].rows[t],
            'candidates': [],
        }
        for t in stages
    }
    _bayes(stream, out)

    work = len(pool) * (len(e.learning_rates) * e.seeds + len(stages) * len(runs) * len(KINDS))
    with Progress('evaluating', work, Path(run.workdir) / 'log.txt', log) as progress:
        for candidate, model in zip(pool, built):
            entries, full_keep = _full_side(e, model, data, stages, rows_of_pass)
            progress.advance(len(e.learning_rates) * e.seeds, f'{candidate.name}: full log')
            pictured = candidate.name == _pictured([c.name for c in pool])
            for t in stages:
                entry = {
                    'name': candidate.name,
                    'config': dict(candidate.config),
                    'chosen': {'full': entries[t]['chosen']},
                    'full': entries[t]['scores'],
                    'rivals': {},
                }
                for kind in KINDS:
                    chosen, scores, picked = _row_side(model, data, [s.get(kind, t) for s in sources], t, grid)
                    scores['cost_ratio'] = rows_of_pass[t] / scores['row_visits']
                    if kind == 'memory':
                        entry['chosen']['memory'], entry['memory'] = chosen, scores
                        if pictured and t == stages[-1]:
                            out[t].update(_pictures(candidate.name, model, data, t, full_keep[t], entries[t], picked))
                    else:
                        entry['rivals'][kind] = {**scores, 'chosen': chosen}
                out[t]['candidates'].append(entry)
                progress.advance(
                    len(runs) * len(KINDS),
                    f'{candidate.name}: stage {t}, scored on {data.keys[t + 1]}, AUC full '
                    f'{np.mean(entry["full"]["auc"]):.4f} memory {np.mean(entry["memory"]["auc"]):.4f}',
                )
    result = {
        'command': command,
        'config': plain(config),
        'data': {
            'label': stream.label,
            'fields': [f.name for f in stream.fields],
            'blocks': [[b.key, b.rows] for b in stream.blocks],
        },
        'full_pass_rows': rows_of_pass,
        'distillation_seeds': [r.config.seed for r in runs],
        'stages': [out[t] for t in stages],
    }
    write_json(Path(run.workdir) / 'evaluate.json', result)
    return result


class _Grid:
    """The memory side's grid: epochs x learning rates, and the student seeds."""

    def __init__(self, epochs, lrs, batch, seeds):
        self.epochs, self.lrs, self.batch, self.seeds = epochs, lrs, batch, seeds

    def __iter__(self):
        return iter([(i, j) for i in range(len(self.epochs)) for j in range(len(self.lrs))])


class _Rows:
    """Training rows of one kind at one stage, and how the log's rows are written in their numbering."""

    def __init__(self, data: tr.StudentData, num_codes: int, encode: Callable[[np.ndarray], np.ndarray]):
        self.data, self.num_codes, self.encode = data, num_codes, encode


class _Sources:
    """What one distillation offers to train on: its memory and the floors at the same rows, stage by stage."""

    def __init__(self, run, data: cd.Log, stages, log):
        self.run, self.data = run, data
        self.artifacts = {}
        for t in stages:
            folder = Path(run.workdir) / 'history' / f'{t:05d}'
            if not folder.exists():
                raise UserError(
                    f'{folder}, the memory of stage {t}, is gone: restore it from a copy, evaluate later stages only '
                    '(--config.evaluate.first_stage=), or distill in another --workdir'
                )
            artifact = load_artifact(folder)
            if artifact.manifest['last_block'] != data.keys[t - 1] or artifact.manifest['stage'] != t:
                raise UserError(
                    f'{run.workdir}/history/{t:05d} has seen block {artifact.manifest["last_block"]}, the protocol of '
                    f'stage {t} allows {data.keys[t - 1]}: it is of another log, distill this one again'
                )
            self.artifacts[t] = artifact
        self.rows = {t: len(a.codes) for t, a in self.artifacts.items()}
        self.capacity = -(-max(self.rows.values()) // 64) * 64
        self.num_codes = run.fields * run.config.codebook.codes
        self.code = {t: a.code_of_slots(run.stream) for t, a in self.artifacts.items()}
        self._draw(stages)

    def _draw(self, stages) -> None:
        """Uniform rows of D_1..D_t with the reference model's labels, by the reference model's own pass again."""
        run, data = self.run, self.data
        start = stage.init_state(
            run.config,
            run.reference,
            run.students,
            data.capacity,
            data.fields,
            jax.random.key_data(jax.random.key(run.config.seed)),
        ).reference
        teach = jax.jit(lambda s, b: tr.stream_pass(run.reference, s, b, run.config.reference.learning_rate)[0])
        predict = jax.jit(lambda p, ids: tr.predict(run.reference, p, ids))
        rng = np.random.default_rng(run.config.seed)
        self.random = {}
        ids = np.concatenate([b.ids.reshape(-1, data.fields)[: len(y)] for b, y in zip(data.batches, data.labels)])
        label = np.concatenate(data.labels)
        ends = np.cumsum([len(y) for y in data.labels])
        for t in range(1, max(stages) + 1):
            start = teach(start, data.batches[t - 1])
            if t in stages:
                pick = rng.choice(ends[t - 1], self.rows[t], replace=False)
                padded = np.zeros((self.capacity, data.fields), np.int32)
                padded[: len(pick)] = ids[pick]
                logits = np.asarray(predict(start.params, padded))[: len(pick)].astype(np.float64)
                self.random[t] = ids[pick], label[pick], 1.0 / (1.0 + np.exp(-logits))
        compacted = [len(np.unique(x[0])) for x in self.random.values()]
        self.sub_table = 1 << (max(compacted) + data.fields - 1).bit_length()

    def get(self, kind: str, t: int) -> _Rows:
        ids, label, soft = self.random[t]
        ones = np.ones(self.rows[t])
        if kind == 'random_rows':
            slots, renumbered = cd.compact(ids)
            return _Rows(
                cd.padded(renumbered, label, ones, self.capacity), self.sub_table, lambda rows: cd.renumber(slots, rows)
            )
        code = self.code[t]
        if kind == 'random_rows_our_labels':
            return _Rows(cd.padded(code[ids], soft, ones, self.capacity), self.num_codes, lambda rows: code[rows])
        artifact = self.artifacts[t]
        columns = artifact.columns
        codes = artifact.codes + artifact.offsets()
        return _Rows(
            cd.padded(codes, columns['soft_label'], columns['weight'], self.capacity),
            self.num_codes,
            lambda rows: code[rows],
        )


def _full_side(e, model, data: cd.Log, stages, rows_of_pass):
    """One pass for every learning rate and seed; per stage, the learning rate chosen on D_{t+1}, scored on D_{t+2}."""
    passes = [
        [cd.full_pass(model, data, lr, seed, stages, keep=stages[-1:] if seed == 0 else ()) for seed in range(e.seeds)]
        for lr in e.learning_rates
    ]
    out, kept = {}, {}
    for t in stages:
        tuning = [np.mean([metrics.auc(p.logits[t, t], data.labels[t]) for p in by_seed]) for by_seed in passes]
        best = int(np.argmax(tuning))
        scores = _scores([p.logits[t, t + 1] for p in passes[best]], data, t + 1)
        scores.update(row_visits=rows_of_pass[t], seconds=float(np.mean([p.seconds[:t].sum() for p in passes[best]])))
        out[t] = {
            'chosen': {'lr': e.learning_rates[best], 'tuning_auc': float(tuning[best])},
            'scores': scores,
            'logits': passes[best][0].logits[t, t + 1],
        }
        kept[t] = passes[best][0].params.get(t)
    return out, kept


def _row_side(model, data: cd.Log, rows: list[_Rows], t: int, grid: _Grid):
    """Students on one kind of rows, one entry of `rows` a distillation; chosen on D_{t+1}, scored once on D_{t+2}."""
    known = data.num_slots[t - 1]
    trained = [cd.train_grid(model, r.data, r.num_codes, grid.batch, grid.epochs, grid.lrs, grid.seeds) for r in rows]

    def predict(i, block, e, j):
        ids = rows[i].encode(data.ids(block, known))
        return cd.predict_grid(model, trained[i], rows[i].num_codes, grid.batch, grid.epochs, ids, e, j)[
            :, : len(data.labels[block])
        ]

    tuning = {
        point: np.mean([[metrics.auc(x, data.labels[t]) for x in predict(i, t, *point)] for i in range(len(rows))])
        for point in grid
    }
    e, j = best = max(tuning, key=tuning.get)
    scored = [_scores(predict(i, t + 1, e, j), data, t + 1) for i in range(len(rows))]
    scores = {k: [s[k] for s in scored] for k in ('auc', 'logloss', 'gauc')}
    scores.update(
        row_visits=int(rows[0].data.rows) * grid.epochs[e],
        seconds=float(np.mean([g.seconds for g in trained])) * grid.epochs[e] / grid.epochs[-1],
    )
    chosen = {'lr': grid.lrs[j], 'epochs': grid.epochs[e], 'tuning_auc': float(tuning[best])}
    return chosen, scores, lambda block: predict(0, block, e, j)


def _scores(logits, data: cd.Log, block: int) -> dict:
    label, group = data.labels[block], data.groups[block]
    return {
        'auc': [metrics.auc(x, label) for x in logits],
        'logloss': [metrics.logloss(x, label) for x in logits],
        'gauc': [metrics.gauc(x, label, group) for x in logits],
    }


def _pictures(name, model, data: cd.Log, t, params, full, picked) -> dict:
    """Calibration on D_{t+2}, and what a student of the memory still knows of every old block."""
    forgetting = []
    for block in range(t):
        ids = data.ids(block, data.num_slots[t - 1])
        logits = np.asarray(cd._pass_functions(model)[1](params, ids))[: len(data.labels[block])]
        memory = np.mean([metrics.auc(x, data.labels[block]) for x in picked(block)])
        forgetting.append(
            {
                'block': data.keys[block],
                'candidate': name,
                'full': metrics.auc(logits, data.labels[block]),
                'memory': float(memory),
            }
        )
    bins = lambda x: [[float(v) for v in row] for row in zip(*metrics.calibration_bins(x, data.labels[t + 1]))]  # noqa: E731
    return {
        'forgetting': forgetting,
        'calibration': {'candidate': name, 'full': bins(full['logits']), 'memory': bins(picked(t + 1)[0])},
    }


def _pictured(names) -> str:
    return 'deepfm' if 'deepfm' in names else names[-1]


def _bayes(stream, out) -> None:
    """On a simulated stream, the AUC of the true probabilities: nothing can be better."""
    for t, result in out.items():
        block = stream.load(t + 1)
        if block.bayes is not None:
            result['bayes_auc'] = metrics.auc(block.bayes, block.label)
