"""The log that candidates are compared on: its blocks in the layout of a pass, for training and scoring."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import jax
import numpy as np

from diet_jax.base.layout import Layout
from diet_jax.device.programs import rounded
from diet_jax.training.batches import shard_block


class EvaluationLog(NamedTuple):
    """The blocks of a stream in the layout of a pass, for training and scoring."""

    keys: tuple[str, ...]
    sizes: tuple[int, ...]  # rows of each block
    batches: list  # Batches of numpy arrays, one device, no leading device axis; None of a block that was not read
    labels: list  # f32[n] of each block, or None
    groups: list  # i32[n], or None
    num_slots: list  # vocabulary after each block
    layout: Layout  # of a row's ids
    capacity: int
    digest: str  # of all of it
    weights: list | None = None  # f32[n] of each block, or None; None where every row weighs 1

    @property
    def columns(self) -> int:
        """W, of the ids of a row."""
        return self.layout.columns

    def ids(self, t: int, known: int) -> np.ndarray:
        """i32[S * b, W] of block t (padded), values first seen after slot `known` - 1 as their field's UNSEEN slot."""
        ids = self.batches[t].ids.reshape(-1, self.columns)
        return np.where(ids < known, ids, 2 * self.layout.owner_of_column() + 1)

    def rows(self, t: int) -> np.ndarray:
        """i32[n, W] of block t, without the rows that fill its batches."""
        return self.batches[t].ids.reshape(-1, self.columns)[: len(self.labels[t])]

    def until(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """(i32[N, W], f32[N]) of D_1..D_t, in time order."""
        return np.concatenate([self.rows(block) for block in range(t)]), np.concatenate(self.labels[:t])

    def weight(self, t: int) -> np.ndarray | None:
        """f32[n] of block t; None where every row weighs 1."""
        return self.weights[t] if self.weights else None

    def weight_until(self, t: int) -> np.ndarray | None:
        """f32[N] of D_1..D_t, in time order; None where every row weighs 1."""
        return np.concatenate(self.weights[:t]) if self.weights else None

    def rows_of_pass(self, t: int) -> int:
        """Row visits of one pass over D_1..D_t."""
        return sum(self.sizes[:t])


def read_blocks(stream, batch: int, capacity: int, first: int = 0) -> EvaluationLog:
    """Reads the blocks of a stream, which evaluation may and a stage may not.

    Args: capacity: rows of the id tables; first: blocks before it are only counted.
    """
    steps = rounded(max(-(-b.rows // batch) for b in stream.blocks[first:]))
    batches, labels, groups, weights = ([None] * first for _ in range(4))
    digest = hashlib.sha256(str([f._asdict() for f in stream.fields]).encode())
    for t in range(first, len(stream.blocks)):
        block = stream.load(t)
        rows = block.ids, block.label, np.zeros(len(block.label), bool)
        laid = shard_block(*rows, devices=1, batch=batch, steps=steps, weight=block.weight)
        batches.append(jax.tree.map(lambda x: x[0], laid))
        labels.append(block.label)
        groups.append(block.group)
        weights.append(block.weight)
        for part in (block.ids, block.label, block.weight):
            digest.update(b'' if part is None else part.tobytes())
    return EvaluationLog(
        keys=tuple(b.key for b in stream.blocks),
        sizes=tuple(b.rows for b in stream.blocks),
        batches=batches,
        labels=labels,
        groups=groups,
        num_slots=[b.num_slots for b in stream.blocks],
        layout=stream.layout,
        capacity=capacity,
        digest=digest.hexdigest()[:16],
        weights=weights if stream.weight else None,
    )
