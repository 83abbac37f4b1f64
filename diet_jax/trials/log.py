"""The log that candidates are compared on: its blocks in the layout of a pass, for training and scoring."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import numpy as np

from diet_jax.base.errors import UserError, closest
from diet_jax.base.layout import Layout
from diet_jax.device.programs import rounded
from diet_jax.training.batches import Batches, shard_block


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
    outcomes: tuple[str, ...] = ()  # of a row, the one that `labels` holds first
    others: Mapping[str, list] = MappingProxyType({})  # of the others: f32[S, b] of each block, or None
    main: bool = True  # whether `labels` is of the main outcome

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

    def until(self, t: int, outcomes: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
        """(i32[N, W], f32[N], or f32[N, K] of several outcomes) of D_1..D_t, in time order."""
        labels = [self.labels_of(block, outcomes) for block in range(t)]
        return np.concatenate([self.rows(block) for block in range(t)]), np.concatenate(labels)

    @property
    def outcome(self) -> str:
        """What `labels` is of; '' is the main outcome."""
        return '' if self.main else self.outcomes[0]

    def batches_of(self, t: int, outcomes: Sequence[str] = ()) -> Batches:
        """Block t with the labels of these outcomes, f32[S, b] of one and f32[S, b, K] of several; of none of them,
        of the one that is asked."""
        batches = self.batches[t]
        laid = [self.others[name][t] if name in self.others else batches.label for name in outcomes]
        if not laid:
            return batches
        return batches._replace(label=laid[0] if len(laid) == 1 else np.stack(laid, -1))

    def labels_of(self, t: int, outcomes: Sequence[str] = ()) -> np.ndarray:
        """f32[n] of block t, or f32[n, K] of several outcomes; of none of them, of the one that is asked."""
        label = self.batches_of(t, outcomes).label
        return label.reshape(-1, *label.shape[2:])[: len(self.labels[t])]

    def weight(self, t: int) -> np.ndarray | None:
        """f32[n] of block t; None where every row weighs 1."""
        return self.weights[t] if self.weights else None

    def weight_until(self, t: int) -> np.ndarray | None:
        """f32[N] of D_1..D_t, in time order; None where every row weighs 1."""
        return np.concatenate(self.weights[:t]) if self.weights else None

    def rows_of_pass(self, t: int) -> int:
        """Row visits of one pass over D_1..D_t."""
        return sum(self.sizes[:t])


def outcomes_from(stream, outcome: str = '') -> tuple[str, ...]:
    """The outcomes of a stream's rows, the one that is asked first; '' is the main one.

    Raises:
      UserError: the log has no such outcome.
    """
    names = stream.outcome_names
    if outcome and outcome not in names:
        raise UserError(f"the log has no outcome '{outcome}'{closest(outcome, names)}: it has {', '.join(names)}")
    return tuple(sorted(names, key=lambda name: name != (outcome or names[0])))


def read_blocks(stream, batch: int, capacity: int, first: int = 0, outcome: str = '') -> EvaluationLog:
    """Reads the blocks of a stream, which evaluation may and a stage may not.

    Args:
      capacity: rows of the id tables; first: blocks before it are only counted; outcome: whose labels are wanted, ''
        for the main one.
    Raises:
      UserError: the log has no such outcome.
    """
    names, ordered = stream.outcome_names, outcomes_from(stream, outcome)
    steps = rounded(max(-(-b.rows // batch) for b in stream.blocks[first:]))
    batches, labels, groups, weights = ([None] * first for _ in range(4))
    others = {name: [None] * first for name in ordered[1:]}
    digest = hashlib.sha256(str([f._asdict() for f in stream.fields]).encode())
    for t in range(first, len(stream.blocks)):
        block = stream.load(t)
        by_name = dict(zip(names, (block.label, *block.others), strict=True))
        label, *rest = (by_name[name] for name in ordered)
        rows = block.ids, label, np.zeros(len(label), bool)
        laid = shard_block(*rows, devices=1, batch=batch, steps=steps, weight=block.weight, others=rest)
        laid = jax.tree.map(lambda x: x[0], laid)
        batches.append(laid._replace(others=()))
        for name, laid_label in zip(others, laid.others, strict=True):
            others[name].append(laid_label)
        labels.append(label)
        groups.append(block.group)
        weights.append(block.weight)
        for part in (block.ids, label, block.weight, *rest):
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
        outcomes=ordered,
        others=others,
        main=ordered == names,
    )
