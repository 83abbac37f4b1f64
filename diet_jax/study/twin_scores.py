"""What is known of twins: their predictions and scores on a block that no memory has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diet_jax.models.twins import twins_of
from diet_jax.run.twin_files import folder as folder_of
from diet_jax.run.twin_files import logits
from diet_jax.study import protocol
from diet_jax.trials.log import EvaluationLog


def twin_logits(config, encoded, data: EvaluationLog, t: int, folders: Sequence[Path]) -> dict[str, np.ndarray]:
    """Predictions of the scored block by every distillation's twins: {name: f32[R, N]}.

    {} where a memory stands without them: it was moved out of its run, or they were dropped (`twins.keep`).
    """
    beside, ids = twins_of(config, encoded.layout), data.ids(t + 1, data.num_slots[t - 1])
    found = [logits(path, beside, ids) for path in twin_files(t, folders, data.outcome)]
    if any(one is None for one in found):
        return {}
    rows = len(data.labels[t + 1])  # what follows is padding
    return {twin.name: np.stack([one[i, :rows] for one in found]) for i, twin in enumerate(beside)}


def twin_scores(predicted: Mapping[str, np.ndarray], data: EvaluationLog, t: int) -> dict:
    """Scores of twins on the scored block: {name: {metric: [per distillation]}}. predicted: of `twin_logits`."""
    if not predicted:
        return {}
    scored = protocol.scored(np.stack(list(predicted.values())), data, t + 1)  # metric -> [twin][distillation]
    return {name: {metric: values[i] for metric, values in scored.items()} for i, name in enumerate(predicted)}


def twin_files(t: int, folders: Sequence[Path], outcome: str = '') -> list[Path]:
    """Where the twins of the memories of stage t are kept, in the folders of their runs; some may be gone."""
    return [folder_of(folder.parent.parent, outcome) / f'{t:05d}.npz' for folder in folders]
