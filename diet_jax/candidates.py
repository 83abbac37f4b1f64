"""Candidates: models trained from scratch, on the whole log in one pass, or on a few rows; and their predictions.

The two sides of every comparison. Each side gets a grid of equal size: learning rates on the full side, learning
rates x epochs on a memory. Predictions are kept apart from scores, so that a test block is scored only once chosen.
"""

from __future__ import annotations

import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax import models, parallel
from diet_jax import training as tr


class Candidate(NamedTuple):
    name: str
    config: dict  # arguments of models.build, 'model' the registry name

    def build(self) -> models.Model:
        return models.of(self.config, self.config['dim'])


def candidate(spec, dim: int) -> Candidate:
    """From a config: a registry name, or a dict of `model`, options of `models.build`, and optionally `name`."""
    config = {'model': spec} if isinstance(spec, str) else dict(spec)
    name = config.pop('name', config.get('model'))
    return Candidate(name, {'dim': dim, **config})


class Log(NamedTuple):
    """The blocks of a stream in the layout of a pass, for training and scoring."""

    keys: tuple[str, ...]
    batches: list  # Batches of numpy arrays, one device, no leading device axis
    labels: list  # f32[n] of each block
    groups: list  # i32[n]
    num_slots: list  # vocabulary after each block
    fields: int
    capacity: int

    def ids(self, t: int, known: int) -> np.ndarray:
        """i32[S * b, F] of block t (padded), values first seen after slot `known` - 1 as their field's UNSEEN slot."""
        ids = self.batches[t].ids.reshape(-1, self.fields)
        return np.where(ids < known, ids, 2 * np.arange(self.fields, dtype=np.int32) + 1)


def read_log(stream, batch: int, capacity: int) -> Log:
    """Reads all blocks of a stream, which evaluation may and a stage may not. capacity: rows of the id tables."""
    steps = max(-(-b.rows // batch) for b in stream.blocks)
    batches, labels, groups = [], [], []
    for t in range(len(stream.blocks)):
        block = stream.load(t)
        laid = parallel.shard_block(block.ids, block.label, np.zeros(len(block.label), bool), 1, batch, steps)
        batches.append(jax.tree.map(lambda x: x[0], laid))
        labels.append(block.label)
        groups.append(block.group)
    slots = [b.num_slots for b in stream.blocks]
    return Log(
        tuple(b.key for b in stream.blocks),
        batches,
        labels,
        groups,
        slots,
        len(stream.fields),
        capacity,
    )


class Pass(NamedTuple):
    """One pass of one candidate: predictions at each boundary."""

    logits: dict  # (stage t, block) -> f32[n]
    seconds: np.ndarray  # f64[blocks], training time of each block, compilation apart
    params: dict  # stage -> params, for the stages asked for


@functools.cache
def _pass_functions(model):
    step = parallel.Timed(
        jax.jit(lambda state, batches, lr, key: tr.stream_pass(model, state, batches, lr, key=key)[0])
    )
    return step, jax.jit(lambda params, ids: tr.predict(model, params, ids))


def full_pass(model, log: Log, lr: float, seed: int, boundaries, ahead=(1, 2), keep=()) -> Pass:
    """Trains a model on D_1, D_2, ... in time order, and predicts the blocks after every boundary.

    Args:
      boundaries: stages t (1-based) after which blocks t + a, a in `ahead`, are predicted; keep: stages whose
      parameters are returned.
    """
    step, predict = _pass_functions(model)
    state = tr.init_stream(model, jax.random.key(seed), log.capacity, log.fields)
    logits, seconds, params = {}, [], {}
    for t in range(1, max(boundaries) + 1):
        args = (state, log.batches[t - 1], jnp.float32(lr), jax.random.key(seed + t))
        compiled, start = step.compile_seconds, time.perf_counter()
        state = jax.block_until_ready(step(*args))
        seconds.append(time.perf_counter() - start - (step.compile_seconds - compiled))
        if t in boundaries:
            for block in (t - 1 + a for a in ahead):
                known = log.num_slots[t - 1]
                logits[t, block] = np.asarray(predict(state.params, log.ids(block, known)))[: len(log.labels[block])]
        if t in keep:
            params[t] = state.params
    return Pass(logits, np.array(seconds), params)


class Grid(NamedTuple):
    """A grid of students of one candidate on one set of rows; the axes of params are [epochs, lr, seed]."""

    params: dict
    seconds: float  # of one training at the largest number of epochs, compilation apart


@functools.cache
def _grid_functions(model, num_codes, batch, epochs):
    train = parallel.Timed(tr.train_students(model, num_codes, batch, epochs))
    one = lambda params, ids: tr.predict(model, params, ids)  # noqa: E731
    return train, jax.jit(jax.vmap(one, in_axes=(0, None)))


def train_grid(model, data: tr.StudentData, num_codes: int, batch: int, epochs, lrs, seeds) -> Grid:
    """Trains students for every (epochs, learning rate, seed) in one compiled call."""
    train, _ = _grid_functions(model, num_codes, batch, tuple(epochs))
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    compiled, start = train.compile_seconds, time.perf_counter()
    params = jax.block_until_ready(train(data, keys, jnp.asarray(lrs, jnp.float32)))
    seconds = time.perf_counter() - start - (train.compile_seconds - compiled)
    return Grid(params, seconds / (len(seeds) * len(lrs)))


def predict_grid(model, grid: Grid, num_codes: int, batch: int, epochs, ids, e: int, lr: int) -> np.ndarray:
    """Logits f32[seeds, N] of the students at one point of the grid; ids i32[N, F] codes."""
    _, predict = _grid_functions(model, num_codes, batch, tuple(epochs))
    return np.asarray(predict(jax.tree.map(lambda x: x[e, lr], grid.params), ids))


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
