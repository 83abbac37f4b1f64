"""Candidates that were trained elsewhere: files of predictions (`elsewhere.predictions`), read as the library's own
students are: the learning rate chosen on the block after the memory's last, scored once on the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diet_jax.base.errors import UserError
from diet_jax.elsewhere.predictions import Predictions, read_predictions
from diet_jax.study import protocol
from diet_jax.study.asked import Asked
from diet_jax.study.export import digest_of, passes_of

TINY = 1e-12  # of a probability, from 0 and from 1: its logit is finite


class Outside(NamedTuple):
    """A candidate, as `compare.reading` gives it."""

    entry: dict
    students: np.ndarray  # f32[V, 1, S, N], logits of the scored block

    @property
    def name(self) -> str:
        return self.entry['name']


def read(folder, asked: Asked, names: Sequence[str]) -> list[Outside]:
    """The candidates of a folder of predictions. names: of those that are compared beside them.

    Raises:
      UserError: no files, several memories are asked, a name that is there already; a file that is not whole, or of
        another export.
    """
    if len(asked.folders) > 1:
        raise UserError(
            f'--predictions={folder}: an export is of one memory, --memory names {len(asked.folders)}: name one'
        )
    paths, found = sorted(Path(folder).glob('*.parquet')), []
    if not paths:
        inner = Path(folder) / 'predictions'
        hint = f'did you mean {inner}?' if any(inner.glob('*.parquet')) else 'diet_jax.elsewhere.grid writes them'
        raise UserError(f'--predictions={folder}: there is no file of predictions in that folder; {hint}')
    views, digest, seeds = list(passes_of(asked)), digest_of(asked), asked.config.evaluate.seeds
    sizes = {'valid': asked.log.sizes[asked.t], 'test': asked.log.sizes[asked.t + 1]}
    for path in paths:
        one = read_predictions(path, views, sizes, digest, seeds)
        if one.name in [*names, *(other.name for other in found)]:
            raise UserError(f"{path}: '{one.name}' is another candidate's name too: train it under another name")
        found.append(_scored(asked, one))
    return found


def _scored(asked: Asked, one: Predictions) -> Outside:
    """Chosen and scored, view by view."""
    by_view = {view: _view(asked, one, view, passes) for view, passes in passes_of(asked).items()}
    codes, parts = by_view['codes'], list(by_view.values())
    scores, chosen = dict(codes.scores), dict(codes.chosen)
    scores['row_visits'] = sum(part.scores['row_visits'] for part in parts)
    scores['cost_ratio'] = asked.log.rows_of_pass(asked.t) / scores['row_visits']
    if 'ids' in by_view:
        ids, weight = by_view['ids'], asked.config.evaluate.by_ids
        scores['by_ids'] = {'weight': weight, **{m: ids.scores[m] for m in ('auc', 'logloss', 'gauc')}}
        chosen['by_ids'] = ids.chosen
    entry = {'name': one.name, 'framework': one.framework, 'config': {}, 'chosen': chosen, **scores}
    entry |= {'training_seconds': one.seconds, 'seconds': 0.0}  # spent elsewhere
    return Outside(entry, np.stack([part.logits for part in parts]))


def _view(asked: Asked, one: Predictions, view: str, passes: int):
    """A `Reading` of one view."""
    blocks = {asked.t: 'valid', asked.t + 1: 'test'}

    def predict(_, block, __, lr):
        p = np.clip(one.by_split[view, blocks[block]][lr].astype(np.float64), TINY, 1 - TINY)
        return np.log(p / (1 - p)).astype(np.float32)

    costs = [({'epochs': passes}, len(asked.artifacts[0].codes) * passes, one.seconds)]
    lrs = one.lrs[view]
    return protocol.choose_and_score(predict, costs, lrs, asked.log, asked.t, replicates=1, frontier=False)[0]
