"""Trains a model of one's own on the log itself: what it really comes to there, for `compare --anchors=`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from diet_jax.base.atomic import write_text
from diet_jax.base.errors import UserError
from diet_jax.elsewhere.export import LOG, Export, auc, open_export
from diet_jax.elsewhere.predictions import PREDICTED, path_of
from diet_jax.elsewhere.trainings import Fit, forget, source_of, train_all

ANCHORS = 'anchors.jsonl'


def full_run(
    fit: Fit,
    export: Export | str | Path,
    name: str,
    *,
    framework: str = 'elsewhere',
    emit: Callable[[str], None] = print,
) -> Path:
    """Trains on the whole log at every learning rate and seed, and adds a line to the export's `anchors.jsonl`:
    {"name": ..., "auc": mean over the seeds on 'test', of the learning rate that is best on 'valid', ...}.

    Stopped, it goes on where it was, as `grid` does; finished trainings lie in `full/<name>.part/`.

    Args:
      fit, name, framework, emit: as of `grid`. The rows that `fit` is given here are a `Log`: `view`, `len` and
        `batches(seed)`, one pass in time order, not shuffled.
      export: one that was written with --with_log.
    Returns: the file of anchors.
    Raises:
      UserError: the export has no log; a line of that name is there, of another `fit`; what `grid` refuses.

    >>> full_run(fit, 'exports/kuairand', 'my-deepfm', framework='pytorch')  # doctest: +SKIP
    """
    export = export if isinstance(export, Export) else open_export(export)
    if LOG not in export.views:
        raise UserError(f'{export.folder} has no log to train on: export again, with --with_log, to another folder')
    path, source = export.folder / ANCHORS, source_of(fit)
    part = export.folder / 'full' / path_of(export, name).with_suffix('.part').name
    if there := [line for line in _lines(path) if line.get('name') == name]:
        if there[-1].get('source') != source:
            raise UserError(f"{path} has a '{name}' of another program: delete its line, or choose another name")
        emit(f'{path} has {name} already, AUC {there[-1]["auc"]:.4f}: delete its line to train it again')
        return path
    found, seconds = train_all(fit, export, name, [LOG], part, emit)
    lr, aucs = _best(export, found)
    line = {'name': name, 'auc': float(np.mean(aucs)), 'aucs': aucs, 'lr': lr, 'framework': framework}
    lines = [*_lines(path), {**line, 'seconds': seconds, 'source': source}]
    write_text(path, ''.join(json.dumps(one) + '\n' for one in lines))
    emit(f'{name}: on the whole log AUC {line["auc"]:.4f}, lr {lr:g}, {len(aucs)} seeds of {seconds:.1f} s')
    forget(part)
    return path


def _best(export: Export, found: Mapping) -> tuple[float, list[float]]:
    """The learning rate whose mean AUC over the seeds is best on 'valid', and the AUC of its seeds on 'test'."""
    rows = {split: export.rows(LOG, split) for split in PREDICTED}
    rates, seeds = sorted({lr for _, _, lr, _ in found}), export.views[LOG].seeds

    def aucs(split: str, lr: float) -> list[float]:
        return [auc(found[LOG, split, lr, seed], rows[split].target, rows[split].weight) for seed in seeds]

    best = max(rates, key=lambda lr: np.mean(aucs('valid', lr)))
    return best, aucs('test', best)


def _lines(path: Path) -> list[dict]:
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
    except ValueError as error:
        raise UserError(f'{path} is not JSON, a line an object ({error}): mend it, or delete it') from error
