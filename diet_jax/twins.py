"""Twins: other architectures trained along the stream beside the reference model.

The memory gets every candidate a little wrong, and candidates that compute nearly the same get nearly the same error. A
twin has seen the whole stream, so its score there is known; trained on the memory too, it shows the error
(`correction`). The reference model is a twin that costs nothing.

    twins/<stage>.npz    the reference model and the twins as they stood after that stage: predictions of the blocks
                         that follow come from here, for no stage keeps an older block
"""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from diet_jax import candidates as cd
from diet_jax import training as tr
from diet_jax.disk import write_bytes
from diet_jax.errors import UserError
from diet_jax.schema import plain


class Twin(NamedTuple):
    candidate: cd.Candidate
    lr: float  # of its pass along the stream

    @property
    def name(self) -> str:
        return self.candidate.name


def of(config, fields: Sequence[str]) -> tuple[Twin, ...]:
    """All of a run whose score on the log is known: the reference model, then its twins.

    Twins that drop a role the log does not have are left out.

    Args: config: a run's; `twins.models` are candidates (`candidates.candidate`) with a `learning_rate`.
    Raises:
      UserError: a twin without a learning rate, with weight decay or a name twice; an unknown model, option or field.
    """
    dim, roles = config.reference.dim, plain(config.roles)
    reference = cd.candidate({'model': config.reference.model, 'dim': dim}, dim, fields)
    found = [Twin(reference, float(config.reference.learning_rate))]
    for spec in map(plain, config.twins.models):
        lr = spec.pop('learning_rate', None) if isinstance(spec, dict) else None
        if not isinstance(lr, (int, float)) or not lr > 0:
            raise UserError(f'twins.models holds {spec!r}: a twin is dict(model=, learning_rate=, ...)')
        if any(roles.get(field) == '' for field in spec.get('drop', ())):
            continue
        twin = Twin(cd.candidate(spec, dim, fields, roles), float(lr))
        if twin.candidate.decay or twin.name in [other.name for other in found]:
            raise UserError(f"twins.models: '{twin.name}' has weight decay, or a name that another one has")
        found.append(twin)
    return tuple(found)


def write(path: Path, twins: Sequence[Twin], params: Sequence, slots: int) -> None:
    """Writes models as they stand: twins and their params, in order; slots: rows of the tables that are in use."""
    arrays = {}
    for i, one in enumerate(params):
        arrays[f'{i}_table'] = np.asarray(one['table'])[:slots]
        arrays |= {f'{i}_head_{k}': np.asarray(x) for k, x in enumerate(jax.tree.leaves(one['head']))}
    said = _said(twins)
    path.parent.mkdir(exist_ok=True)
    write_bytes(path, lambda file: np.savez(file, twins=said, **arrays))


def logits(path: Path, twins: Sequence[Twin], log: cd.Log, t: int, block: int) -> np.ndarray | None:
    """Predictions of a block by the twins as they stood after stage t: f32[K, N], or None where the file is gone.

    Raises:
      UserError: the file is damaged, or of other twins.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        said = json.loads(str(arrays['twins']))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f'{path} cannot be read ({type(error).__name__}): restore it from a copy, or distill again'
        ) from error
    if [one[:2] for one in said] != [one[:2] for one in json.loads(_said(twins))]:
        raise UserError(
            f'{path} holds {", ".join(name for name, *_ in said)}, the config asks for '
            f'{", ".join(t.name for t in twins)}, or for others of these names: distill again in another --workdir'
        )
    out, ids, rows = [], log.ids(block, log.num_slots[t - 1]), len(log.labels[block])
    for i, twin in enumerate(twins):
        model = twin.candidate.model
        like = jax.eval_shape(lambda m=model: m.init(jax.random.key(0), 2, log.fields))['head']
        leaves, shape = jax.tree.flatten(like)
        head = jax.tree.unflatten(shape, [arrays[f'{i}_head_{k}'] for k in range(len(leaves))])
        out.append(np.asarray(_predict(model)({'table': arrays[f'{i}_table'], 'head': head}, ids))[:rows])
    return np.stack(out)


def _said(twins: Sequence[Twin]) -> str:
    return json.dumps([[twin.name, twin.candidate.config, twin.lr] for twin in twins])


@functools.lru_cache(maxsize=tr.PROGRAMS_KEPT)
def _predict(model):
    return jax.jit(lambda params, ids: tr.predict(model, params, ids))
