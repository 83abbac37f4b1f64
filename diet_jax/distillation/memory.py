"""The distilled memory as data: an empty one, and what a student trains on. `address` and `refine` change it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from diet_jax.distillation.state import Memory
from diet_jax.training.students import StudentData


def init_memory(capacity: int, columns: int) -> Memory:
    """No valid entry, room for `capacity`.

    >>> int(init_memory(8, 3).valid.sum())
    0
    """
    zero = jnp.zeros(capacity)
    return Memory(
        ids=jnp.zeros((capacity, columns), jnp.int32),
        soft_logit=zero,
        mean_label=zero,
        hard_label=zero,
        count=zero,
        influence=zero,
        stage=jnp.zeros(capacity, jnp.int32),
        valid=jnp.zeros(capacity, bool),
    )


def coded(code: jax.Array, ids: jax.Array) -> jax.Array:
    """The codes of slots; what is no slot stays. code: i32[V], of every slot; ids: i32[...]."""
    return jnp.where(ids < 0, ids, code[ids])


def student_data(memory: Memory, code: jax.Array) -> StudentData:
    """The memory as training data on codes: soft labels, every entry one row. code: i32[V], of every slot."""
    return StudentData(
        ids=coded(code, memory.ids),
        target=jax.nn.sigmoid(memory.soft_logit),
        weight=memory.valid.astype(jnp.float32),
        rows=jnp.sum(memory.valid),
    )
