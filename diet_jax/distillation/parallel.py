"""The same stage on one device or on many: rows are sharded, the state is replicated, or its id tables sharded too."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from diet_jax.device.collectives import AXIS, SPLIT, WHOLE
from diet_jax.distillation.state import StageMetrics, StageState
from diet_jax.training.passes import StreamState


def state_specs(twins: int) -> StageState:
    """How a state lies on the devices where config.reference.shard_tables spreads the rows of its id tables.

    Args: twins: how many the state has. Returns: a PartitionSpec for every part of a `StageState`.
    """
    split = StreamState(
        {'table': SPLIT, 'head': WHOLE}, mu=SPLIT, nu=SPLIT, head_opt=WHOLE, place=SPLIT, last=SPLIT, step=WHOLE
    )
    rest = StageState(*[WHOLE] * len(StageState._fields))
    return rest._replace(reference=split, twins=(split,) * twins)


def pmapped(stage_update, devices=None, donate: bool = False):
    """`jax.pmap` of a stage over the device axis: the form that the driver runs where the whole state is replicated.

    Args: donate: the state that goes in gives its buffers to the one that comes out, and cannot be read afterwards.
    """
    metrics = StageMetrics(0, *([None] * (len(StageMetrics._fields) - 1)))
    return jax.pmap(
        stage_update,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, metrics),
        devices=devices,
        donate_argnums=(0,) if donate else (),
    )


def shard_mapped(stage_update, devices=None, donate: bool = False, specs=WHOLE):
    """The same by `jax.jit` and `jax.shard_map`: the form for several processes, and for tables that are split.

    Args: specs: how the state lies on the devices, `state_specs` or a prefix of it.
    """
    mesh = Mesh(np.array(devices or jax.devices()), (AXIS,))

    def local(state, block):
        state, metrics = stage_update(state, jax.tree.map(lambda x: x[0], block))
        return state, metrics._replace(logits=jnp.expand_dims(metrics.logits, 0))

    metrics = StageMetrics(SPLIT, *([WHOLE] * (len(StageMetrics._fields) - 1)))
    # top-k outputs are replicated, which the checker cannot see
    mapped = jax.shard_map(local, mesh=mesh, in_specs=(specs, SPLIT), out_specs=(specs, metrics), check_vma=False)
    return jax.jit(mapped, donate_argnums=(0,) if donate else ())
