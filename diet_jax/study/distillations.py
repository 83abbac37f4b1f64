"""What a distillation offers to train on at a stage: its memory, and the rivals at the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax import models
from diet_jax.artifact.format import DEFAULT_VIEW
from diet_jax.artifact.read import Artifact, load_memory
from diet_jax.base.errors import UserError
from diet_jax.base.layout import renamed
from diet_jax.device.programs import rounded
from diet_jax.distillation.codebook import init_codebook
from diet_jax.distillation.memory import student_data
from diet_jax.distillation.one_shot import distill_at_once
from diet_jax.distillation.spec import spec_of
from diet_jax.distillation.stage import init_state
from diet_jax.run.sizes import codes_of, with_vocabulary
from diet_jax.study import rivals
from diet_jax.training.passes import settled, stream_pass
from diet_jax.training.students import StudentData
from diet_jax.trials.log import EvaluationLog
from diet_jax.trials.rows import compact, padded, renumber

OURS = '_our_labels'  # ends the name of a rival whose rows carry our labels and our codebook
ONE_SHOT = 'one_shot'  # a memory distilled in one stage from all days seen
OF_ONE = ('cgm_rows', f'cgm_rows{OURS}', ONE_SHOT)  # rivals whose labels are learned, of the outcome that is asked


class TrainingSet(NamedTuple):
    """Training rows of one kind at one stage, and how the log's rows are written in their numbering."""

    data: StudentData
    num_codes: int
    encode: Callable[[np.ndarray], np.ndarray]  # i32[N, W] slots -> i32[N, W]
    lazy: bool = False  # a large table, of which a step updates the rows that it touches, as on the full side
    by_ids: TrainingSet | None = None  # of coded rows: the same rows by their own ids, with soft labels
    others: Mapping[str, np.ndarray] = MappingProxyType({})  # f32[rows of data]: labels of the log's other outcomes

    def for_outcomes(self, outcomes: Sequence[str]) -> StudentData:
        """The rows for a candidate that predicts these outcomes at once, as of `Candidate`.

        Raises:
          UserError: rows that have no label of one of them.
        """
        if len(outcomes) < 2:
            return self.data
        if gone := [name for name in outcomes[1:] if name not in self.others]:
            raise UserError(f"these rows have no label of '{gone[0]}': leave candidates of several outcomes out")
        return self.data._replace(target=jnp.stack([self.data.target, *(self.others[n] for n in outcomes[1:])], -1))


def memory_of_stage(folder, t: int, stream, outcome: str = '') -> Artifact:
    """The artifact in a folder, by one outcome's labels, if it is one that the protocol of stage t allows.

    Raises:
      UserError: it has seen another block than the last of its stage, or it is of another log (other fields, or
        another number of rows up to that block).
    """
    artifact, allowed = load_memory(folder), stream.blocks[t - 1].key
    if artifact.manifest['last_block'] != allowed:
        raise UserError(
            f'{folder} has seen block {artifact.manifest["last_block"]}, the protocol of stage {t} allows {allowed}: '
            'name the memory of that stage (history/ of the run has them all), or distill this log again'
        )
    theirs, ours = [f.name for f in (*artifact.fields, *artifact.lists)], list(stream.layout.names)
    if theirs != ours:
        raise UserError(f'{folder} has the fields {", ".join(theirs)}, the log has {", ".join(ours)}: distill this log')
    rows = sum(block.rows for block in stream.blocks[:t])
    if artifact.manifest['rows_seen'] != rows:
        raise UserError(
            f'{folder} has seen {artifact.manifest["rows_seen"]} rows up to block {allowed}, the log has {rows}: '
            'distill this log'
        )
    return artifact.of(outcome) if outcome else artifact


def check_several(candidates: Sequence, kinds: Sequence[str]) -> None:
    """Raises UserError for a candidate of several outcomes beside a rival whose labels are of one."""
    several = [candidate.name for candidate in candidates if len(candidate.outcomes) > 1]
    alone = [kind for kind in kinds if kind in OF_ONE]
    if several and alone:
        raise UserError(
            f'trends.rivals holds {alone[0]}, whose labels are of one outcome, and {several[0]} predicts several: '
            'leave one of them out'
        )


class Distillation:
    """What one distillation offers to train on: its memory and the rivals at the same rows, stage by stage.

    Args:
      config: the run's config, with its seed; reference: the reference `Model`.
      artifacts: {stage t: its `Artifact`}; stream, log: the `EncodedStream` and the `EvaluationLog` made of it.
      capacity: rows that students' data is padded to, one shape for all.
    Raises:
      UserError: a memory has more codes than the config says (ids beyond a table are clamped, and nobody would see).
    """

    def __init__(self, config, reference, artifacts: dict[int, Artifact], stream, log: EvaluationLog, capacity: int):
        self.config, self.reference, self.artifacts = config, reference, artifacts
        self.stream, self.log, self.capacity = stream, log, capacity
        codes = codes_of(config.codebook.codes, stream.fields)
        self.num_codes = len(log.layout.names) * codes
        for t, a in artifacts.items():
            if (most := max(field.codes for field in (*a.fields, *a.lists))) > codes:
                raise UserError(
                    f'the memory of stage {t} (seed {a.manifest["seed"]}) has up to {most} codes a field and '
                    f'codebook.codes is {codes}: use the config that it was distilled with'
                )
        self.code = {t: a.code_of_slots(stream) for t, a in artifacts.items()}
        self._references, self._chosen = {}, {}

    def size(self, t: int) -> int:
        """Rows of the memory of stage t."""
        return len(self.artifacts[t].codes)

    def memory(self, t: int, view: str = DEFAULT_VIEW) -> TrainingSet:
        """The memory of stage t through one view."""
        artifact = self.artifacts[t]
        ids, weight = artifact.slots(self.stream), artifact.columns['weight']
        coded = self._coded(self.code[t], artifact.table_rows, artifact.label(view), weight)
        by_ids = self._raw(ids, artifact.label('soft'), weight)._replace(others=self._others(artifact, 'soft'))
        return coded._replace(by_ids=by_ids, others=self._others(artifact, view))

    def rival(self, kind: str, t: int) -> TrainingSet:
        """Rows of D_1..D_t that a rival chooses, as many as the memory has, with their weights.

        Args:
          kind: `<name>_rows` of `rivals.ROWS` with the log's own labels and ids, or with '_our_labels' behind it; or
            `ONE_SHOT`.
        """
        if kind == ONE_SHOT:
            return self._one_shot(t)
        ours, name = kind.endswith(OURS), kind.removesuffix(OURS).removesuffix('_rows')
        # Rows are the same with our labels as without; CGM learns labels, for one numbering of the ids.
        key = (kind if name == 'cgm' else name), t
        if key not in self._chosen:
            seen, code = self.seen(t), self.code[t] if ours else None
            chosen = rivals.choose(name, seen, self.size(t), self.config.seed, code)
            weight = np.ones(len(chosen.index)) if seen.weight is None else seen.weight[chosen.index]
            others = () if kind in OF_ONE else self.log.outcomes[1:]
            others = {name_: rivals.labelled(name, self.seen(t, name_), chosen.index) for name_ in others}
            self._chosen[key] = seen.ids[chosen.index], chosen, weight, others  # not `seen`: it is the whole log
        ids, chosen, weight, others = self._chosen[key]
        others = self._padded({name_: of.soft if ours else of.own for name_, of in others.items()})
        if ours:
            coded = self._coded(self.code[t], renamed(ids, self.code[t]), chosen.soft, weight)
            by_ids = self._raw(ids, chosen.soft, weight)._replace(others=others)
            return coded._replace(by_ids=by_ids, others=others)
        return self._raw(ids, chosen.own, weight)._replace(others=others)

    def seen(self, t: int, outcome: str = '') -> rivals.Seen:
        """D_1..D_t by one outcome, '' for the one that is asked, and its reference model after it, by its own pass."""
        rows, trained = self.log.until(t, (outcome,) if outcome else ()), self._reference(t, outcome)
        return rivals.Seen(*rows, self.reference, trained.params, self.log.weight_until(t))

    def reference_table(self, t: int) -> np.ndarray:
        """f32[V, 1 + d]: what the reference model knows of every id after D_1..D_t."""
        return np.asarray(self._reference(t).params['table'])

    def _one_shot(self, t: int) -> TrainingSet:
        """A memory distilled in one stage from all of D_1..D_t, with a codebook of its own."""
        trained, (ids, label) = self._reference(t), self.log.until(t)
        spec = self._spec(
            tuple(models.of(s, self.config.reference.dim, self.log.layout) for s in self.config.refine.models)
        )
        width = trained.params['table'].shape[1]
        book = init_codebook(self.log.capacity, spec.num_fields, spec.codes, width)
        book = with_vocabulary(book, self.stream, t - 1)
        sizes = dict(entries=self.size(t), stages=t, seed=self.config.seed)
        made = distill_at_once(spec, trained, book, ids, label, weight=self.log.weight_until(t), **sizes)
        data = student_data(made.memory, made.codebook.code)
        codes, soft, weight, mean = map(np.asarray, (*data[:3], made.memory.mean_label))
        coded = self._coded(np.asarray(made.codebook.code), codes, (soft + mean) / 2, weight)
        return coded._replace(by_ids=self._raw(np.asarray(made.memory.ids), soft, weight))

    def _spec(self, students=()):
        config = self.config.copy_and_resolve_references()
        with config.unlocked():
            config.codebook.codes = self.num_codes // len(self.log.layout.names)
        return spec_of(config, self.reference, students, layout=self.log.layout)

    def _reference(self, t: int, outcome: str = ''):
        if (outcome, t) not in self._references:
            config = self.config
            key = jax.random.key_data(jax.random.key(config.seed))
            state = init_state(self._spec(), self.log.capacity, key).reference
            spec, rate = self._spec(), config.reference.learning_rate * config.reference.rate

            @jax.jit
            def teach(state, block):
                state, _ = stream_pass(spec.reference, state, block, rate, recipe=spec.recipe)
                return settled(spec.recipe, state, rate)

            for block in range(max(self.artifacts)):
                state = teach(state, self.log.batches_of(block, (outcome,) if outcome else ()))
                if block + 1 in self.artifacts:
                    self._references[outcome, block + 1] = state
        return self._references[outcome, t]

    def _others(self, artifact: Artifact, view: str) -> dict[str, np.ndarray]:
        return self._padded({name: artifact.of(name).label(view) for name in self.log.outcomes[1:]})

    def _padded(self, labels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.pad(label, (0, self.capacity - len(label))) for name, label in labels.items()}

    def _coded(self, code, codes, target, weight) -> TrainingSet:
        data = padded(codes, target, weight, self.capacity)
        return TrainingSet(data, self.num_codes, lambda rows: renamed(rows, code))

    def _raw(self, ids, target, weight) -> TrainingSet:
        slots, renumbered = compact(ids)
        owner = self.log.layout.owner_of_column()
        # A power of two: few shapes to compile.
        table = 1 << (len(slots) + len(self.log.layout.names) - 1).bit_length()
        data = padded(renumbered, target, weight, self.capacity)
        return TrainingSet(data, table, lambda rows: renumber(slots, rows, owner), lazy=True)


def distillations(runs, stages, data: EvaluationLog) -> list[Distillation]:
    """Every run's memories of some stages.

    Raises:
      UserError: a memory that is gone, or that has seen a block it would be scored on.
    """
    artifacts = []
    for run in runs:
        folders = {t: Path(run.workdir) / 'history' / f'{t:05d}' for t in stages}
        for t, folder in folders.items():
            if not folder.exists():
                raise UserError(
                    f'{folder}, the memory of stage {t}, is gone: restore it from a copy, evaluate later stages only '
                    '(--config.evaluate.first_stage=), or distill in another --workdir'
                )
        artifacts.append({t: memory_of_stage(folder, t, run.stream, data.outcome) for t, folder in folders.items()})
    largest = max(len(artifact.codes) for by_stage in artifacts for artifact in by_stage.values())
    capacity = rounded(largest, 64)
    return [
        Distillation(run.config, run.reference, by_stage, run.stream, data, capacity)
        for run, by_stage in zip(runs, artifacts)
    ]
