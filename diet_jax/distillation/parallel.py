"""The same stage on one device or on many: rows are sharded, the state is replicated, or its id tables sharded too."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import Mesh

from diet_jax.device.collectives import AXIS, SPLIT, WHOLE
from diet_jax.distillation.state import Outcome, StageMetrics, StageState
from diet_jax.training.passes import StreamState

BY_ROW = ('logits', 'other_logits')  # what metrics say of every row: each device's share


def state_specs(twins: int, others: int = 0) -> StageState:
    """How a state lies on the devices where config.reference.shard_tables spreads the rows of its id tables.

    Args: twins: how many the state has; others: outcomes beside the main one.
    Returns: a PartitionSpec for every part of a `StageState`.
    """
    split = StreamState(
        {'table': SPLIT, 'head': WHOLE}, mu=SPLIT, nu=SPLIT, head_opt=WHOLE, place=SPLIT, last=SPLIT, step=WHOLE
    )
    rest = StageState(*[WHOLE] * len(StageState._fields))
    streams = dict(reference=split, twins=(split,) * twins)
    other = Outcome(*[WHOLE] * len(Outcome._fields))._replace(**streams)
    return rest._replace(**streams, others=(other,) * others)


def pmapped(stage_update, devices=None, donate: bool = False):
    """`jax.pmap` of a stage over the device axis: the form that the driver runs where the whole state is replicated.

    Args: donate: the state that goes in gives its buffers to the one that comes out, and cannot be read afterwards.
    """
    metrics = StageMetrics(*[None] * len(StageMetrics._fields))._replace(**dict.fromkeys(BY_ROW, 0))
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
        rows = jax.tree.map(lambda x: x[None], {name: getattr(metrics, name) for name in BY_ROW})
        return state, metrics._replace(**rows)

    metrics = StageMetrics(*[WHOLE] * len(StageMetrics._fields))._replace(**dict.fromkeys(BY_ROW, SPLIT))
    # top-k outputs are replicated, which the checker cannot see
    mapped = jax.shard_map(local, mesh=mesh, in_specs=(specs, SPLIT), out_specs=(specs, metrics), check_vma=False)
    return jax.jit(mapped, donate_argnums=(0,) if donate else ())
