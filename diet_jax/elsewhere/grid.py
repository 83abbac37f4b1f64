"""Trains a model of one's own as students are trained: every view, learning rate and seed of the export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from diet_jax.base.errors import UserError
from diet_jax.elsewhere.export import Export, open_export
from diet_jax.elsewhere.predictions import path_of, read_predictions, write_predictions
from diet_jax.elsewhere.trainings import Fit, forget, source_of, train_all


def grid(
    fit: Fit,
    export: Export | str | Path,
    name: str,
    *,
    framework: str = 'elsewhere',
    emit: Callable[[str], None] = print,
) -> Path:
    """Trains at every learning rate and seed on every view, and writes what the models predict.

    Stopped, it goes on where it was when it is called again: finished trainings lie in `predictions/<name>.part/`, and
    are those of the file that `fit` is written in, as it is now.

    Args:
      fit: (train, lr, seed) -> predict: trains a new model on `Rows`; predict: `Rows` -> f32[N], probabilities.
      export: folder of an export, or it opened; name: of the candidate; framework: as in `write_predictions`.
      emit: given a line a training, with the AUC on 'valid' and the time left.
    Returns: the file of predictions, for `compare --predictions=` its folder.
    Raises:
      UserError: predictions that are no probabilities, one a row; training diverges (nan) at every learning rate; the
        file is there, of another `fit`.

    >>> grid(fit, 'exports/kuairand', 'my-deepfm', framework='pytorch')  # doctest: +SKIP
    """
    export = export if isinstance(export, Export) else open_export(export)
    path, source = path_of(export, name), source_of(fit)
    if path.exists():
        there = read_predictions(path, export.asked, export.sizes, export.digest, seeds=len(export.about['seeds']))
        if there.source != source:
            raise UserError(f'{path} was written by another program: delete it, or give the candidate another name')
        emit(f'{path} is there already, and whole: delete it to train {name} again')
        return path
    part = path.with_suffix('.part')
    found, seconds = train_all(fit, export, name, export.asked, part, emit)
    write_predictions(export, name, found, framework=framework, seconds=seconds, source=source)
    forget(part)
    return path
