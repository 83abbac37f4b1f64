"""What a stream says of the sizes of a stage: capacities, the vocabulary's layout, the held-out slice."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diet_jax.base.errors import UserError
from diet_jax.device.programs import rounded
from diet_jax.distillation.codebook import codes_per_field
from diet_jax.distillation.state import Codebook


def held_out(key: str, rows: int, share: float) -> np.ndarray:
    """The slice of a block that refinement never sees: bool[rows], the same in every run and on any device count."""
    seed = int.from_bytes(key.encode()[:16].ljust(16, b'\0'), 'big')
    return np.random.default_rng(seed).random(rows) < share


def vocabulary(stream, t: int, slots: int, fields: int) -> tuple[np.ndarray, np.ndarray]:
    """field_of_slot and position of a codebook, i32[slots], with the slots of block t known."""
    owner = stream.field_of_slot(stream.blocks[t].num_slots)
    order = np.argsort(owner, kind='stable')
    starts = np.searchsorted(owner[order], np.arange(fields))
    position = np.full(slots, -1, np.int32)
    position[order] = np.arange(len(order)) - starts[owner[order]]
    field = np.zeros(slots, np.int32)
    field[: len(owner)] = owner
    return field, position


def with_vocabulary(book: Codebook, stream, t: int) -> Codebook:
    """The codebook with the slots of block t known: which field each is of, and its place in it."""
    field, position = vocabulary(stream, t, book.code.shape[0], book.centroids.shape[0])
    return book._replace(field_of_slot=jnp.asarray(field), position=jnp.asarray(position))


def sized(config: ConfigDict, stream) -> ConfigDict:
    """A copy of the config with the memory's static sizes filled in."""
    config = config.copy_and_resolve_references()
    first = stream.blocks[0]
    if config.memory.row_budget * first.rows < 1:
        raise UserError(
            f'memory.row_budget {config.memory.row_budget:g} of the {first.rows} rows of block {first.key} is not one '
            f'row: set it to {1.01 / first.rows:.2g} or more'
        )
    with config.unlocked():
        config.codebook.codes = codes_of(config.codebook.codes, stream.fields)
        m = config.memory
        m.row_budget = float(m.row_budget)
        if not m.capacity:
            m.capacity = rounded(int(np.ceil(m.row_budget * sum(b.rows for b in stream.blocks)) + 1), 256)
        largest = max(b.rows for b in stream.blocks)
        m.max_new = rounded(int(largest * m.row_budget + 2 + m.capacity * config.addressing.replace), 32)
    return config


def table_capacity(slots: int) -> int:
    """Rows of an id table for `slots` ids: growth seldom recompiles.

    >>> table_capacity(45_618)
    49152
    """
    return rounded(slots, 256)


def codes_of(codes: int, fields) -> int:
    """Codes of every field. Args: codes: `codebook.codes` of a config; fields: of a stream."""
    own = sum(not field.shares for field in fields)  # lists that share a field's vocabulary share its codes
    return codes_per_field(codes, own, max((f.most_bins for f in fields if f.kind == 'numeric'), default=0))
