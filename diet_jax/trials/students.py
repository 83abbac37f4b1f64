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
from diet_jax.models.candidates import Candidate
from diet_jax.training.passes import predict
from diet_jax.training.students import StudentData, train_students


class Students(NamedTuple):
    """A grid of students of one candidate on one set of rows; the axes of params are [epochs, lr, seed]."""

    params: dict
    seconds: float  # of one training at the largest number of epochs, compilation apart
    predict: Callable

    def logits(self, ids, e: int, lr: int) -> np.ndarray:
        """f32[seeds, N] of the students at one point of the grid; ids i32[N, F] in the numbering of their rows."""
        return np.asarray(self.predict(jax.tree.map(lambda x: x[e, lr], self.params), ids))


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def compiled_grid(model, num_codes, batch, epochs, recipe, lazy):
    """(train the whole grid, timed; predict with all seeds of one point)."""
    train = Timed(train_students(model, num_codes, batch=batch, epochs=epochs, recipe=recipe, lazy=lazy))
    one = lambda params, ids: predict(model, params, ids)  # noqa: E731
    return train, jax.jit(jax.vmap(one, in_axes=(0, None)))


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
