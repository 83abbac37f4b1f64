"""Twins on disk: how they stood after a stage, and what they predict of the blocks that follow.

twins/<stage>.npz    the reference model and the twins: predictions of later blocks come from here, for no stage
                     keeps an older block; of another outcome than the main one twins/<outcome>/<stage>.npz
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from diet_jax.base.atomic import write_bytes
from diet_jax.base.checksums import Damaged, read_npz
from diet_jax.base.errors import UserError
from diet_jax.device.programs import PROGRAMS_KEPT, rounded
from diet_jax.models.twins import Twin
from diet_jax.training.passes import predict

AGAIN = 'restore it from a copy, or run scripts/distill.py again, which writes those of the last stage again'


def folder(workdir: Path, outcome: str = '') -> Path:
    """Where a run keeps its twins of an outcome; '' is the main one."""
    return workdir / 'twins' / outcome


def write(path: Path, twins: Sequence[Twin], params: Sequence, slots: int) -> None:
    """Writes models as they stand: twins and their params, in order; slots: rows of the tables that are in use."""
    arrays = {}
    for i, one in enumerate(params):
        arrays[f'{i}_table'] = np.asarray(one['table'])[:slots]
        arrays |= {f'{i}_head_{k}': np.asarray(x) for k, x in enumerate(jax.tree.leaves(one['head']))}
    described = _described(twins)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, lambda file: np.savez(file, twins=described, **arrays))


def whole(path: Path) -> bool:
    """Whether a file is there, and as it was written."""
    try:
        return bool(read_npz(path, AGAIN))
    except Damaged:
        return False


def logits(path: Path, twins: Sequence[Twin], ids: np.ndarray) -> np.ndarray | None:
    """Predictions of rows by the twins of a file: f32[K, N], or None where the file is gone.

    Args: ids: i32[N, F], slots that the twins' tables have.

    Raises:
      UserError: the file is damaged, or of other twins.
    """
    if not path.exists():
        return None
    arrays = read_npz(path, AGAIN)
    try:
        kept_twins = json.loads(str(arrays['twins']))
    except (ValueError, KeyError) as error:
        raise Damaged(path, f'no file of twins ({type(error).__name__})', AGAIN) from error
    if [one[:2] for one in kept_twins] != [one[:2] for one in json.loads(_described(twins))]:
        raise UserError(
            f'{path} holds {", ".join(name for name, *_ in kept_twins)}, the config asks for '
            f'{", ".join(t.name for t in twins)}, or for others of these names: distill again in another --workdir'
        )
    out = []
    for i, twin in enumerate(twins):
        model = twin.candidate.model
        like = jax.eval_shape(lambda m=model: m.init(jax.random.key(0), 2, ids.shape[1]))['head']
        leaves, shape = jax.tree.flatten(like)
        head = jax.tree.unflatten(shape, [arrays[f'{i}_head_{k}'] for k in range(len(leaves))])
        table = arrays[f'{i}_table']
        table = np.pad(table, ((0, rounded(len(table), 256) - len(table)), (0, 0)))
        out.append(np.asarray(_predict(model)({'table': table, 'head': head}, ids)))
    return np.stack(out)


def _described(twins: Sequence[Twin]) -> str:
    return json.dumps([[twin.name, twin.candidate.config, twin.lr] for twin in twins])


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def _predict(model):
    return jax.jit(lambda params, ids: predict(model, params, ids))
