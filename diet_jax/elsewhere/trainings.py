"""A model of one's own, trained at every learning rate and seed of some views: a file a training, so that what was
stopped goes on."""

from __future__ import annotations

import functools
import hashlib
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diet_jax.base.atomic import remove, write_bytes
from diet_jax.base.checksums import Damaged, read_npz
from diet_jax.base.errors import UserError
from diet_jax.base.keep import source_digest
from diet_jax.elsewhere.export import LOG, SPLITS, Export, Log, Rows, auc
from diet_jax.elsewhere.predictions import PREDICTED

Predict = Callable[[Rows], np.ndarray]
Fit = Callable[[Rows | Log, float, int], Predict]
Point = tuple[str, float, int]  # view, learning rate, seed


class Trained(NamedTuple):
    """All trainings of a model, without the learning rates at which one diverged."""

    found: dict[tuple[str, str, float, int], np.ndarray]  # (view, split, lr, seed) -> f32[N]
    seconds: float  # of one training, on all views


def source_of(fit) -> str:
    """The digest of the file that `fit` is written in, and of the arguments that a functools.partial has bound."""
    if isinstance(fit, functools.partial):
        text = repr([source_of(fit.func), fit.args, sorted(fit.keywords.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:16]
    of = fit if inspect.isroutine(fit) else type(fit)
    return source_digest(of, filter(None, [getattr(fit, '__code__', None)]))


def train_all(fit: Fit, export: Export, name: str, views: Sequence[str], folder: Path, emit) -> Trained:
    """Trains what is not in `folder` yet, of this export and of the file that `fit` is written in as it is now.

    Args: name: of the candidate; emit: given a line a training.
    Raises:
      UserError: `fit` gives no function; predictions that are no probabilities, one a row; training diverges (nan) at
        every learning rate.
    """
    points = [p for view in views for p in _points(export, view)]
    done = _Done(folder, f'{export.digest[:8]}-{source_of(fit)[:8]}')
    left = [point for point in points if not done.has(point, emit)]
    if len(left) < len(points):
        emit(f'{name}: {len(points) - len(left)} of {len(points)} trainings are there already')
    start, rows = time.perf_counter(), {}
    for i, point in enumerate(left, 1):
        if not i - 1 or point[0] != left[i - 2][0]:
            rows = _rows(export, point[0])
        line = _train(fit, rows, point, done)
        rest = (time.perf_counter() - start) / i * (len(left) - i)
        emit(f'{name}: {len(points) - len(left) + i}/{len(points)} {line}  {rest:.0f} s left')
    return _whole(name, {point: done.read(point) for point in points})


def forget(folder: Path) -> None:
    """Deletes the trainings of a folder: what they were made for is written."""
    remove(folder)


def _rows(export: Export, view: str) -> dict:
    rows = {split: export.rows(view, split) for split in PREDICTED}
    return {SPLITS[0]: Log(export) if view == LOG else export.rows(view, SPLITS[0]), **rows}


def _points(export: Export, view: str) -> list[Point]:
    how = export.views[view]
    return [(view, lr, seed) for lr in how.learning_rates for seed in how.seeds]


def _train(fit: Fit, rows: Mapping[str, Rows | Log], point: Point, done: _Done) -> str:
    """One training, put on the shelf: what is said of it."""
    start = time.perf_counter()
    predict = fit(rows['train'], *point[1:])
    if not callable(predict):
        raise UserError(f'{_said(point)}: fit gave {type(predict).__name__}: give a function, rows -> probabilities')
    seconds = time.perf_counter() - start
    found = {split: _checked(predict(rows[split]), len(rows[split]), point) for split in PREDICTED}
    done.put(point, found, seconds)
    if _diverged(found):
        return f'{_said(point)}: diverged'
    return f'{_said(point)}: AUC on valid {auc(found["valid"], rows["valid"].target, rows["valid"].weight):.4f}'


def _said(point: Point) -> str:
    return '{}, lr {:g}, seed {}'.format(*point)


def _diverged(found: Mapping[str, np.ndarray]) -> bool:
    return any(np.isnan(values).any() for values in found.values())


def _checked(found, rows: int, point: Point) -> np.ndarray:
    """f32[N] of what a model predicts; nan stays, it is of a model that diverged."""
    values, where = np.asarray(found, np.float32), _said(point)
    if values.shape not in ((rows,), (rows, 1)):
        raise UserError(f'{where}: predict gave an array of shape {values.shape}, {rows:,} probabilities are needed')
    values = values.reshape(-1)
    if len(bad := np.flatnonzero((values < 0) | (values > 1))):
        raise UserError(
            f'{where}: predict gave {values[bad[0]]:g} for row {bad[0]}: no probability from 0 to 1; apply the sigmoid'
        )
    return values


def _whole(name: str, trained: dict) -> Trained:
    gone = {(view, lr) for (view, lr, _), (found, _) in trained.items() if _diverged(found)}
    kept = {point: one for point, one in trained.items() if point[:2] not in gone}
    for view in sorted({view for view, *_ in trained} - {view for view, *_ in kept}):
        raise UserError(f'{name}: training on {view} diverged at every learning rate: try another initialisation')
    found = {(v, split, lr, seed): x for (v, lr, seed), (by, _) in kept.items() for split, x in by.items()}
    views = sorted({view for view, *_ in kept})
    return Trained(found, sum(float(np.mean([s for (v, *_), (_, s) in kept.items() if v == view])) for view in views))


class _Done:
    """Finished trainings, a file each. of: the export and the program."""

    def __init__(self, folder: Path, of: str):
        self.folder, self.of = folder, of

    def has(self, point: Point, emit: Callable[[str], None]) -> bool:
        """Whether it is there, and as it was written."""
        try:
            return self._path(point).exists() and bool(self.read(point))
        except Damaged as error:
            emit(str(error))
            return False

    def put(self, point: Point, found: Mapping[str, np.ndarray], seconds: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self._path(point), lambda file: np.savez(file, seconds=seconds, **found))

    def read(self, point: Point) -> tuple[dict[str, np.ndarray], float]:
        one = read_npz(self._path(point), 'it is trained again')
        return {split: one[split] for split in PREDICTED}, float(one['seconds'])

    def _path(self, point: Point) -> Path:
        view, lr, seed = point
        return self.folder / f'{self.of}-{view}-{lr:g}-{seed}.npz'
