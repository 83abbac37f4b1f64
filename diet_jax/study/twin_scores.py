"""What is known of twins: their predictions and scores on a block that no memory has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diet_jax.models.twins import tracks_of, twins_of
from diet_jax.run.twin_files import folder as folder_of
from diet_jax.run.twin_files import logits
from diet_jax.study import protocol
from diet_jax.trials.log import EvaluationLog


class Predicted(NamedTuple):
    """What the twins of one name predict of the scored block."""

    logits: np.ndarray  # f32[R, N], of every distillation
    times: list[float]  # [R]  at how many times the usual rate each was trained


def twin_predictions(config, encoded, data: EvaluationLog, t: int, folders: Sequence[Path]) -> dict[str, Predicted]:
    """Predictions of the scored block by every distillation's twins, by name.

    Of several rates each distillation takes the one of the best AUC on block t, as candidates do. {} where a memory
    stands without them: it was moved out of its run, or they were dropped (`twins.keep`).
    """
    usual, tracks = twins_of(config, encoded.layout), tracks_of(config, encoded.layout)
    files = twin_files(t, folders, data.outcome)

    def predicted(block: int) -> list[np.ndarray | None]:
        """f32[rates, twins, N] of every distillation; what follows the rows of a block is padding."""
        ids, rows = data.ids(block, data.num_slots[t - 1]), len(data.labels[block])
        found = [logits(path, tracks, ids) for path in files]
        return [None if x is None else x[:, :rows].reshape(-1, len(usual), rows) for x in found]

    found, rates = predicted(t + 1), [np.zeros(len(usual), int)] * len(files)
    if any(x is None for x in found):
        return {}
    if len(tracks) > len(usual):
        tuning = [[[protocol.tuning_auc(x[None], data, t) for x in rate] for rate in one] for one in predicted(t)]
        rates = np.argmax(tuning, 1)
    return {
        twin.name: Predicted(
            np.stack([one[of[i], i] for one, of in zip(found, rates, strict=True)]),
            [tracks[of[i] * len(usual)].times for of in rates],
        )
        for i, twin in enumerate(usual)
    }


def twin_scores(predicted: Mapping[str, Predicted], data: EvaluationLog, t: int) -> dict:
    """Scores of twins on the scored block: {name: {metric: [per distillation]}}."""
    if not predicted:
        return {}
    scored = protocol.scored(np.stack([one.logits for one in predicted.values()]), data, t + 1)
    return {name: {metric: values[i] for metric, values in scored.items()} for i, name in enumerate(predicted)}


def twin_files(t: int, folders: Sequence[Path], outcome: str = '') -> list[Path]:
    """Where the twins of the memories of stage t are kept, in the folders of their runs; some may be gone."""
    return [folder_of(folder.parent.parent, outcome) / f'{t:05d}.npz' for folder in folders]
