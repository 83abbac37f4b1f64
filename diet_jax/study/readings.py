"""Readings: what a candidate came to on one side, its scores and its predictions, whoever trained it; and their shelf.

    candidates/<name>.json     one candidate: chosen points and scores, side by side
    predictions/<name>.npy     float16 [runs, N]: logits of the scored block, the sides one after the other

A side is kept under a digest of all that it was computed from (`base.keep`): it is read again while that stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple, NotRequired, TypedDict

import msgspec
import numpy as np

from diet_jax.base import checksums, keep
from diet_jax.base.atomic import read_json, write_bytes, write_json
from diet_jax.trials import full_pass

# The packages whose code decides what students on rows come to: all but those that show or start things.
CODE = (*full_pass.CODE, 'artifact', 'config', 'data', 'distillation', 'elsewhere', 'run', 'study')
AGAIN = 'its candidate is trained again'


class Reading(NamedTuple):
    """One side of one candidate: what was chosen on D_{t+1}, and what it came to on D_{t+2}."""

    chosen: dict  # lr, epochs (on rows), tuning_auc
    scores: dict  # auc, logloss, gauc: per seed, on rows per seed per distillation; row_visits, seconds, ...
    logits: np.ndarray  # f32[R, S, N] of the scored block; R = 1 on the full side. Kept ones: f16[runs, N]
    id_logits: np.ndarray | None = None  # the same of students on the rows' own ids, where there are such
    predict: Callable | None = None  # of rows: block -> f32[S, N] by the first distillation's students


Number = float | None  # None: not finite
Scores = list[Number | list[Number]]  # a seed each, on rows of each distillation


class ByIds(TypedDict):
    """What is read of the scores of students on ids."""

    weight: float
    auc: Scores
    logloss: Scores
    gauc: Scores


class Kept(TypedDict):
    """What is read of the scores of a side."""

    auc: Scores
    logloss: Scores
    gauc: Scores
    by_ids: NotRequired[ByIds]
    row_visits: NotRequired[float]
    cost_ratio: NotRequired[float]
    training_seconds: NotRequired[float]
    seconds: float


class Chosen(TypedDict):
    """What is read of the point that was chosen."""

    lr: float


class Entry(TypedDict):
    """What is read of a candidate's JSON file."""

    name: str
    config: dict
    digests: dict[str, str]
    chosen: dict[str, Chosen]
    rivals: dict[str, Kept]
    runs: list[tuple[str, Annotated[int, msgspec.Meta(ge=0)]]]
    full: NotRequired[Kept]
    memory: NotRequired[Kept]


class Shelf:
    """The readings of a study, kept in its folder candidate by candidate."""

    def __init__(self, folder: Path):
        self.folder = folder
        for part in ('candidates', 'predictions'):
            (folder / part).mkdir(parents=True, exist_ok=True)

    def kept(self, name: str, digests: Mapping[str, str], emit: Callable[[str], None] = print) -> dict[str, Reading]:
        """{side: Reading} of a candidate, those whose digest is the same; emit: told of a file that is damaged."""
        path, predictions = self._paths(name)
        if not (path.exists() and predictions.exists()):
            return {}
        try:
            entry = read_json(path, AGAIN, Entry)
            flat = read_predictions(predictions, entry)
        except checksums.Damaged as error:
            emit(str(error))
            return {}
        if sum(runs for _, runs in entry['runs']) != len(flat):
            emit(str(checksums.Damaged(path, f'damaged (runs are not the {len(flat)} of its predictions)', AGAIN)))
            return {}
        found, at = {}, 0
        for side, runs in entry['runs']:
            if digests.get(side) == entry['digests'][side]:
                found[side] = Reading(*_of(entry, side), flat[at : at + runs])
            at += runs
        return found

    def put(self, entry: dict, digests: Mapping[str, str], readings: Mapping[str, Reading]) -> tuple[dict, np.ndarray]:
        """Writes a candidate. entry: what else is said of it. Returns it as it was written, and f16[runs, N]."""
        path, predictions = self._paths(entry['name'])
        parts = {
            side: reading.logits.reshape(-1, reading.logits.shape[-1]).astype(np.float16)
            for side, reading in readings.items()
        }
        entry = {**entry, 'digests': dict(digests), 'chosen': {}, 'rivals': {}}
        for side, reading in readings.items():
            if side in ('full', 'memory'):
                entry['chosen'][side], entry[side] = reading.chosen, reading.scores
            else:
                entry['rivals'][side] = {**reading.scores, 'chosen': reading.chosen}
        entry['runs'] = [[side, len(rows)] for side, rows in parts.items()]
        flat = np.concatenate(list(parts.values()))
        data = checksums.npy(flat)
        write_bytes(predictions, lambda file: file.write(data))
        write_json(path, {**entry, checksums.PREDICTIONS: checksums.of(data)})
        return read_json(path), flat

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.folder / 'candidates' / f'{name}.json', self.folder / 'predictions' / f'{name}.npy'


def read_predictions(path: Path, entry: Mapping) -> np.ndarray:
    """f16[runs, N] of the candidate of an entry. Raises Damaged where they are not those that it was written with."""
    data = checksums.read(path, entry.get(checksums.PREDICTIONS), AGAIN)
    try:
        return checksums.array(data)
    except ValueError as error:  # of an earlier version, which noted no checksum
        raise checksums.Damaged(path, f'damaged ({error})', AGAIN) from error


def digest(inputs) -> str:
    """What a side of a candidate is kept under. inputs: all that decides it but the code."""
    return keep.key(inputs, CODE)


def _of(entry: dict, side: str) -> tuple[dict, dict]:
    """(chosen, scores) of one side of an entry."""
    if side in ('full', 'memory'):
        return entry['chosen'][side], entry[side]
    scores = dict(entry['rivals'][side])
    return scores.pop('chosen'), scores
