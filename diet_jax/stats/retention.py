"""Retention: how much of full training's advantage over chance is kept."""

import numpy as np


def retention(full: np.ndarray, memory: np.ndarray, chance: float = 0.5) -> np.ndarray:
    """(memory - chance) / (full - chance): f64[..., C], nan where full training is no better than chance."""
    full, memory = np.broadcast_arrays(full, memory)
    return np.where(full > chance, (memory - chance) / np.where(full > chance, full - chance, 1), np.nan)
