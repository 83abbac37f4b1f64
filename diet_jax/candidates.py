"""Candidates, the log they are compared on, and grids of students trained from scratch on a few rows.

Predictions are kept apart from scores, so that a test block is scored only once the choice is made.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax import models, parallel
from diet_jax import training as tr
from diet_jax.errors import UserError, closest


class Candidate(NamedTuple):
    name: str
    config: dict  # as it was written, roles by their fields: a model, its options, what is said of its training
    model: models.Model
    decay: float  # weight decay, decoupled


def candidate(spec, dim: int, fields, roles=None) -> Candidate:
    """From a config: a registry name, or a dict.

    Args:
      spec: keys `model`, options of `models.build`, and optionally `name`; `drop`, names of fields that the model does
        not see; `weight_decay`.
      fields: names of the log's fields, in order; roles: {name that may stand in `drop`: field of this log}.
    Raises:
      UserError: an unknown model, option or field.
    """
    config = {'model': spec} if isinstance(spec, str) else dict(spec)
    name = config.pop('name', config.get('model'))
    config = {'dim': dim, **config}
    options, fields, roles = dict(config), list(fields), roles or {}
    dropped = [roles.get(field, field) for field in options.pop('drop', ())]
    for field in dropped:
        if field not in fields:
            raise UserError(f"candidate {name} drops '{field}', which is no field of the log{closest(field, fields)}")
    if dropped:
        config['drop'] = dropped  # the same role is another field under other roles: another candidate
        options['keep'] = tuple(i for i, field in enumerate(fields) if field not in dropped)
    decay = float(options.pop('weight_decay', 0.0))
    if decay < 0:
        raise UserError(f'candidate {name}: weight_decay={decay:g} is below 0')
    return Candidate(name, config, models.of(options, dim), decay)


class Log(NamedTuple):
    """The blocks of a stream in the layout of a pass, for training and scoring."""

    keys: tuple[str, ...]
    sizes: tuple[int, ...]  # rows of each block
    batches: list  # Batches of numpy arrays, one device, no leading device axis; None of a block that was not read
    labels: list  # f32[n] of each block, or None
    groups: list  # i32[n], or None
    num_slots: list  # vocabulary after each block
    fields: int
    capacity: int
    digest: str  # of all of it

    def ids(self, t: int, known: int) -> np.ndarray:
        """i32[S * b, F] of block t (padded), values first seen after slot `known` - 1 as their field's UNSEEN slot."""
        ids = self.batches[t].ids.reshape(-1, self.fields)
        return np.where(ids < known, ids, 2 * np.arange(self.fields, dtype=np.int32) + 1)

    def rows(self, t: int) -> np.ndarray:
        """i32[n, F] of block t, without padding."""
        return self.batches[t].ids.reshape(-1, self.fields)[: len(self.labels[t])]

    def until(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """(i32[N, F], f32[N]) of D_1..D_t, in time order."""
        return np.concatenate([self.rows(block) for block in range(t)]), np.concatenate(self.labels[:t])

    def rows_of_pass(self, t: int) -> int:
        """Row visits of one pass over D_1..D_t."""
        return sum(self.sizes[:t])


def read_log(stream, batch: int, capacity: int, first: int = 0) -> Log:
    """Reads the blocks of a stream, which evaluation may and a stage may not.

    Args: capacity: rows of the id tables; first: blocks before it are only counted.
    """
    steps = max(-(-b.rows // batch) for b in stream.blocks[first:])
    batches, labels, groups = [None] * first, [None] * first, [None] * first
    digest = hashlib.sha256(str([f._asdict() for f in stream.fields]).encode())
    for t in range(first, len(stream.blocks)):
        block = stream.load(t)
        laid = parallel.shard_block(block.ids, block.label, np.zeros(len(block.label), bool), 1, batch, steps)
        batches.append(jax.tree.map(lambda x: x[0], laid))
        labels.append(block.label)
        groups.append(block.group)
        for part in (block.ids, block.label):
            digest.update(part.tobytes())
    slots = [b.num_slots for b in stream.blocks]
    return Log(
        tuple(b.key for b in stream.blocks),
        tuple(b.rows for b in stream.blocks),
        batches,
        labels,
        groups,
        slots,
        len(stream.fields),
        capacity,
        digest.hexdigest()[:16],
    )


class Students(NamedTuple):
    """A grid of students of one candidate on one set of rows; the axes of params are [epochs, lr, seed]."""

    params: dict
    seconds: float  # of one training at the largest number of epochs, compilation apart
    predict: Callable

    def logits(self, ids, e: int, lr: int) -> np.ndarray:
        """f32[seeds, N] of the students at one point of the grid; ids i32[N, F] in the numbering of their rows."""
        return np.asarray(self.predict(jax.tree.map(lambda x: x[e, lr], self.params), ids))


@functools.lru_cache(maxsize=tr.PROGRAMS_KEPT)
def _functions(model, num_codes, batch, epochs, decay, lazy):
    train = parallel.Timed(tr.train_students(model, num_codes, batch, epochs, decay, lazy))
    one = lambda params, ids: tr.predict(model, params, ids)  # noqa: E731
    return train, jax.jit(jax.vmap(one, in_axes=(0, None)))


def train_grid(
    candidate: Candidate, data: tr.StudentData, num_codes: int, batch: int, epochs, lrs, seeds, lazy: bool = False
) -> Students:
    """Trains students for every (epochs, learning rate, seed) in one compiled call; lazy: of the touched rows only."""
    train, predict = _functions(candidate.model, num_codes, batch, tuple(epochs), candidate.decay, lazy)
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    compiled, start = train.compile_seconds, time.perf_counter()
    params = jax.block_until_ready(train(data, keys, jnp.asarray(lrs, jnp.float32)))
    seconds = time.perf_counter() - start - (train.compile_seconds - compiled)
    return Students(params, seconds / (len(seeds) * len(lrs)), predict)


def padded(ids, target, weight, capacity: int) -> tr.StudentData:
    """Rows as student data of a fixed shape, so that every stage trains with one compiled function."""
    n = len(target)
    pad = lambda x: np.concatenate([x, np.zeros((capacity - n, *x.shape[1:]), x.dtype)])  # noqa: E731
    return tr.StudentData(
        jnp.asarray(pad(np.asarray(ids, np.int32))),
        jnp.asarray(pad(np.asarray(target, np.float32))),
        jnp.asarray(pad(np.asarray(weight, np.float32))),
        jnp.int32(n),
    )


def compact(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sub-table that some rows touch: (slots i32[n] in order, ids renumbered); other slots become n + field."""
    slots, renumbered = np.unique(ids, return_inverse=True)
    return slots.astype(np.int32), renumbered.reshape(ids.shape).astype(np.int32)


def renumber(slots: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """ids in the numbering of `compact`; what it has not seen becomes the untrained row n + field."""
    at = np.minimum(np.searchsorted(slots, ids), len(slots) - 1)
    return np.where(slots[at] == ids, at, len(slots) + np.arange(ids.shape[1])).astype(np.int32)
