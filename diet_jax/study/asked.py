"""Memories that are asked, opened: of one stage of one log, with what is known of the log there. Nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from diet_jax import models
from diet_jax.artifact.format import read_manifest
from diet_jax.artifact.read import Artifact
from diet_jax.base.atomic import read_json
from diet_jax.base.errors import UserError
from diet_jax.config.checks import completed
from diet_jax.data.prepared import EncodedStream
from diet_jax.data.stream import open_stream
from diet_jax.device.programs import rounded
from diet_jax.models.candidates import Candidate
from diet_jax.models.twins import reference_of, twins_of
from diet_jax.run.sizes import table_capacity
from diet_jax.study.distillations import Distillation, TrainingSet, memory_of_stage
from diet_jax.study.twin_scores import twin_files, twin_predictions, twin_scores
from diet_jax.trials.log import EvaluationLog, read_blocks


class KnownTwin(NamedTuple):
    """A twin whose score on the log is known."""

    candidate: Candidate
    auc: float  # on the scored block, mean over distillations
    logits: np.ndarray  # f32[R, N], its predictions of that block
    times: list[float]  # [R]  at how many times the usual rate it was trained


class Asked(NamedTuple):
    """What is asked, opened: memories of one stage of one log, and what is known of the log."""

    run: Path  # folder of the (first) run
    t: int  # the stage
    config: ConfigDict
    stream: EncodedStream
    log: EvaluationLog
    folders: list[Path]  # of the memories of stage t
    artifacts: list[Artifact]
    rows: list[TrainingSet]  # of the memories
    twins: list[KnownTwin]  # none where their files are gone

    @property
    def fields(self) -> list[str]:
        """Those that are no lists: a column of ids each."""
        return [field.name for field in self.stream.fields if field.kind != 'list']

    @property
    def which(self) -> str:
        """Behind the name of a folder: of another outcome than the main one, of what several memories say."""
        outcome = f'-{self.log.outcome}' if self.log.outcome else ''
        return outcome + (f'-{len(self.folders)}-memories' if len(self.folders) > 1 else '')


def opened(memories: list[Path], emit, label: str = '') -> Asked:
    """Opens memories and their log, and trains nothing. label: the outcome that is asked, '' for the main one.

    Raises:
      UserError: a file is missing or of another log; too few blocks; memories that are no replicates of each other; no
        such outcome.
    """
    run, t, config, stream = _stage(memories[0], emit)
    e, folders = config.evaluate, [_run_of(memory) / 'history' / f'{t:05d}' for memory in memories]
    if e.seeds < 2:
        raise UserError(f'the run of {memories[0]} has evaluate.seeds={e.seeds}: odds need the spread over two or more')
    log = read_blocks(stream, e.batch, table_capacity(stream.num_slots), first=t, outcome=label)
    artifacts = [memory_of_stage(folder, t, stream, log.outcome) for folder in folders]
    _check_replicates(memories, [artifact.manifest['seed'] for artifact in artifacts])
    reference = models.build(reference_of(config, stream.layout), dim=config.reference.dim, layout=stream.layout)
    capacity = rounded(max(len(artifact.codes) for artifact in artifacts), 64)
    predicted = twin_predictions(config, stream, log, t, folders)
    scored = twin_scores(predicted, log, t)
    twins = twins_of(config, stream.layout) if scored else ()
    return Asked(
        run=run,
        t=t,
        config=config,
        stream=stream,
        log=log,
        folders=folders,
        artifacts=artifacts,
        rows=[Distillation(config, reference, {t: a}, stream, log, capacity).memory(t) for a in artifacts],
        twins=[
            KnownTwin(twin.candidate, float(np.mean(scored[twin.name]['auc'])), *predicted[twin.name]) for twin in twins
        ],
    )


def without_twins(asked: Asked) -> str:
    """The files of twins that are not there, '' if all are: the beginning of a line."""
    gone = [str(path) for path in twin_files(asked.t, asked.folders, asked.log.outcome) if not path.exists()]
    return f'{" and ".join(gone)}: not there' if gone else ''


def _stage(memory: Path, emit):
    """(folder of the run, stage t, its config, its stream) of a memory."""
    manifest = read_manifest(memory)
    run, config = _run_of(memory), ConfigDict(completed(_config(memory)))
    stream = open_stream(config.data, run, emit)
    count, stage = len(stream.blocks), manifest['stage']
    t = min(stage, count - 2)
    if t < 1:
        raise UserError(f'the log has {count} blocks: one to learn from, one to choose on, one to score on are needed')
    if t < stage:
        emit(
            f'the log ends with block {stream.blocks[-1].key}, and a memory is asked about two blocks that it has not '
            f'seen: the memory of stage {t}, up to {stream.blocks[t - 1].key}, answers'
        )
    return run, t, config, stream


def _run_of(memory: Path) -> Path:
    """The folder of the run that a memory lies in, relative to the present one if it can be: shorter to read."""
    run = memory.absolute().parent if memory.name == 'memory' else memory.absolute().parent.parent
    return run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run


def _config(memory: Path) -> dict:
    """The config.json of a memory's run."""
    path = _run_of(memory) / 'config.json'
    if (config := read_json(path, 'restore it from a copy, or run scripts/distill.py again, which writes it')) is None:
        raise UserError(
            f'{path} is missing: {memory} must lie in the folder of its run, where scripts/distill.py put it'
        )
    if not isinstance(config, dict):
        raise UserError(f'{path} holds no config: restore it from a copy')
    return config


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
