"""A few rows as training data: padded to one shape, or renumbered to the sub-table that they touch."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from diet_jax.training.students import StudentData


def padded(ids, target, weight, capacity: int) -> StudentData:
    """Rows as student data of a fixed shape, so that every stage trains with one compiled function."""
    n = len(target)
    pad = lambda x: np.concatenate([x, np.zeros((capacity - n, *x.shape[1:]), x.dtype)])  # noqa: E731
    return StudentData(
        jnp.asarray(pad(np.asarray(ids, np.int32))),
        jnp.asarray(pad(np.asarray(target, np.float32))),
        jnp.asarray(pad(np.asarray(weight, np.float32))),
        jnp.int32(n),
    )


def compact(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sub-table that some rows touch: (slots i32[n] in order, ids renumbered, what is none as it is)."""
    slots = np.unique(ids[ids >= 0]).astype(np.int32)
    return slots, renumber(slots, ids, np.zeros(ids.shape[1], np.int32))


def renumber(slots: np.ndarray, ids: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """ids in the numbering of `compact`; what it has not seen becomes the untrained row n + field. owner: i32[W]."""
    at = np.minimum(np.searchsorted(slots, ids), len(slots) - 1)
    found = np.where(slots[at] == ids, at, len(slots) + owner)
    return np.where(ids < 0, ids, found).astype(np.int32)
