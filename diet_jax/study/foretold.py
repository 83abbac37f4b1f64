"""What an answer of `compare` will cost, before it is begun: what is compiled, and how long the rest takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diet_jax.device.forecast import Forecast, Kind, key_of
from diet_jax.models.candidates import Candidate
from diet_jax.stats import scores
from diet_jax.study import protocol
from diet_jax.study.asked import Asked
from diet_jax.study.distillations import TrainingSet
from diet_jax.trials.students import call_size

# Students on codes and on ids are trained and predicted with: the seconds of the four (docs/performance.md).
CANDIDATE = Kind('candidate', programs=4, seconds=6.5, loading=1.2)
# Times the seconds that the reference model's pass over the log takes for a row: a row of the memory in small batches,
# a row that is scored, its AUC included.
TRAINED, SCORED = 2.0, 0.5


def forecast(asked: Asked, candidates: Sequence[Candidate]) -> Forecast:
    """Of what is compiled for candidates that are to be read."""
    return Forecast({key(asked, candidate): CANDIDATE for candidate in candidates})


def key(asked: Asked, candidate: Candidate) -> str:
    """What the programs of a candidate are known by."""
    grid, rows = protocol.grid_of(asked.config.evaluate), asked.rows[0]
    sizes = [len(grid.lrs), len(grid.seeds), grid.batch, grid.epochs, grid.id_epochs, bool(grid.by_ids)]
    scored = call_size(asked.log.batches[asked.t].weight.size)
    shapes = [*map(_shape, (rows, rows.by_ids)), scored, asked.log.columns]
    return key_of(CANDIDATE, [candidate.program(), sizes, shapes])


def seconds(asked: Asked, one: float, candidates: int) -> float:
    """Training and scoring so many candidates on the memory, without compiling. one: of a pass over the log."""
    grid, log, t = protocol.grid_of(asked.config.evaluate), asked.log, asked.t
    views = len(grid.epochs) + bool(grid.by_ids)
    visits = int(asked.rows[0].data.rows) * (grid.epochs[-1] + (grid.id_epochs if grid.by_ids else 0))
    rows = TRAINED * visits + SCORED * views * log.sizes[t]
    return candidates * len(asked.rows) * len(grid.lrs) * len(grid.seeds) * rows * one / log.rows_of_pass(t)


def sooner_on_the_log(asked: Asked, one: float, candidates: int, to_read: int, compiled: Forecast) -> str:
    """Says so where the answer takes longer than training the same grid on the log; '' where it does not.

    Args: one: seconds of a pass of the reference model over the log; to_read: candidates that are not yet known.
    """
    grid = asked.config.evaluate
    log = candidates * len(grid.student_learning_rates) * grid.seeds * one
    mine = compiled.seconds + seconds(asked, one, to_read)
    return scores.quicker_on_the_log('This answer', mine, compiled.compiling, log, candidates) if to_read else ''


def _shape(rows: TrainingSet | None) -> list:
    return [list(np.shape(rows.data.ids)), rows.num_codes, rows.lazy] if rows else []
