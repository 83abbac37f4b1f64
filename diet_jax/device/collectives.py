"""The device axis: its name, how arrays lie on it, and the sum over it."""

from __future__ import annotations

import jax
from jax.sharding import PartitionSpec

AXIS = 'rows'
WHOLE, SPLIT = PartitionSpec(), PartitionSpec(AXIS)  # on every device; by the leading axis


def psum(x, axis: str | None):
    """Sum over the device axis; the identity when there is none."""
    return jax.lax.psum(x, axis) if axis else x
