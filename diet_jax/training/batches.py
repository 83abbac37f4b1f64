"""A block laid out for devices: batches side by side, padded to one shape."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np


class Batches(NamedTuple):
    """One device's share of a block: batch k of the block is batch k of every device, side by side."""

    ids: jax.Array  # i32[S, b, W]
    label: jax.Array  # f32[S, b], or f32[S, b, K] for a model of K outcomes
    weight: jax.Array  # f32[S, b]  what a row weighs, 1 where the log does not say; 0 for padding
    held: jax.Array  # bool[S, b] held out of influence queries and refinement, for the do-no-harm check
    steps: jax.Array  # i32[]      batches that hold rows; the rest is padding and is not visited
    others: tuple[jax.Array, ...] = ()  # f32[S, b] each: the other outcomes of the rows


def shard_block(ids, label, held, *, devices: int, batch: int, steps: int, weight=None, others=()) -> Batches:
    """Lays a block out for `devices`: batch k of the block is batch k of every device, side by side.

    Args:
      ids: i32[N, W]; label: f32[N], or f32[N, K] of several outcomes; held: bool[N]; batch: rows of one step over all
      devices, a multiple of `devices`;
      steps: padded number of batches S, at least ceil(N / batch); weight: f32[N], None: every row weighs 1;
      others: labels f32[N] of other outcomes.
    Returns: Batches of numpy arrays with a leading device axis.
    """
    n, share = label.shape[0], batch // devices
    if share * devices != batch:
        raise ValueError(f'batch {batch} is not a multiple of the {devices} devices')

    def lay(x, dtype):
        padded = np.zeros((steps * batch,) + x.shape[1:], dtype)
        padded[:n] = x
        return padded.reshape(steps, devices, share, *x.shape[1:]).swapaxes(0, 1)

    used = np.full(devices, -(-n // batch), np.int32)
    return Batches(
        ids=lay(ids, np.int32),
        label=lay(label, np.float32),
        weight=lay(np.ones(n) if weight is None else weight, np.float32),
        held=lay(held, bool),
        steps=used,
        others=tuple(lay(x, np.float32) for x in others),
    )


def unshard(per_row, rows: int):
    """Undoes the layout of a [devices, S, b] result: -> numpy [rows] in block order."""
    return np.asarray(per_row).swapaxes(0, 1).reshape(-1)[:rows]
