"""Grids of students of one candidate, trained from scratch on a few rows.

Predictions are kept apart from scores, so that a test block is scored only once the choice is made.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.device.programs import PROGRAMS_KEPT, Timed
from diet_jax.device.tiling import tiling
from diet_jax.models.candidates import Candidate
from diet_jax.training.passes import predict
from diet_jax.training.students import StudentData, train_students


class Students(NamedTuple):
    """A grid of students of one candidate on one set of rows; the axes of params are [epochs, lr, seed]."""

    params: dict
    seconds: float  # of one training at the largest number of epochs, compilation apart
    predict: Callable

    def logits(self, parts: list[jax.Array], e: int, lr: int) -> np.ndarray:
        """f32[seeds, N] of the students at one point of the grid; parts: of rows in their numbering, `laid_out`."""
        params = jax.tree.map(lambda x: x[e, lr], self.params)
        return np.concatenate([np.asarray(self.predict(params, part)) for part in parts], axis=1)


def call_size(rows: int) -> int:
    """Rows of one call that predicts so many: logs of any size share its program, small ones by powers of two.

    >>> call_size(300), call_size(13_824), call_size(800_000) <= 1 << 17
    (512, 16384, True)
    """
    return min(max(tiling().rows, 1 << 14), 1 << (rows - 1).bit_length())


def laid_out(ids: np.ndarray) -> list[jax.Array]:
    """Rows i32[N, F] as they are predicted: [i32[n, F], ...], n = `call_size(N)`; zeros follow the last."""
    size = call_size(len(ids))
    padded = np.pad(ids, ((0, -len(ids) % size), (0, 0)))
    return [jnp.asarray(part) for part in padded.reshape(-1, size, ids.shape[1])]


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def compiled_grid(model, num_codes, batch, epochs, recipe, lazy):
    """(train the whole grid; predict with all seeds of one point), both timed."""
    train = Timed(train_students(model, num_codes, batch=batch, epochs=epochs, recipe=recipe, lazy=lazy))
    one = lambda params, ids: predict(model, params, ids)  # noqa: E731
    return train, Timed(jax.jit(jax.vmap(one, in_axes=(0, None))))


def train_grid(
    candidate: Candidate, data: StudentData, num_codes: int, *, batch: int, epochs, lrs, seeds, lazy: bool = False
) -> Students:
    """Trains students for every (epochs, learning rate, seed) in one compiled call; lazy: of the touched rows only."""
    train, predict = compiled_grid(candidate.model, num_codes, batch, tuple(epochs), candidate.recipe, lazy)
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    compiled, start = train.compile_seconds, time.perf_counter()
    params = jax.block_until_ready(train(data, keys, jnp.asarray(lrs, jnp.float32)))
    seconds = time.perf_counter() - start - (train.compile_seconds - compiled)
    return Students(params, seconds / (len(seeds) * len(lrs)), predict)
