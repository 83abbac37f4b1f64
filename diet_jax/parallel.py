"""The same stage on one device or on many: rows are sharded, the state is replicated, or its id tables sharded too."""

from __future__ import annotations

import ctypes
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from diet_jax.stage import StageMetrics, StageState
from diet_jax.training import Batches, StreamState

AXIS = 'rows'
WHOLE, SPLIT = PartitionSpec(), PartitionSpec(AXIS)  # on every device; by the leading axis


def shard_block(ids, label, held, devices: int, batch: int, steps: int) -> Batches:
    """Lays a block out for `devices`: batch k of the block is batch k of every device, side by side.

    Args:
      ids: i32[N, F]; label: f32[N]; held: bool[N]; batch: rows of one step over all devices, a multiple of `devices`;
      steps: padded number of batches S, at least ceil(N / batch).
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
    return Batches(lay(ids, np.int32), lay(label, np.float32), lay(np.ones(n), np.float32), lay(held, bool), used)


def unshard(per_row, rows: int):
    """Undoes the layout of a [devices, S, b] result: -> numpy [rows] in block order."""
    return np.asarray(per_row).swapaxes(0, 1).reshape(-1)[:rows]


def state_specs(twins: int) -> StageState:
    """How a state lies on the devices where config.reference.shard_tables spreads the rows of its id tables.

    Args: twins: how many the state has. Returns: a PartitionSpec for every part of a `StageState`.
    """
    split = StreamState({'table': SPLIT, 'head': WHOLE}, mu=SPLIT, nu=SPLIT, head_opt=WHOLE, place=SPLIT, step=WHOLE)
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


class Timed:
    """A jitted or pmapped function that compiles when shapes change, and knows how often and how long it did.

    Attributes: compiles (int), compile_seconds (float) so far.
    """

    def __init__(self, function):
        self.function, self.compiled, self.compiles, self.compile_seconds = function, {}, 0, 0.0

    def __call__(self, *args):
        shapes = str(jax.tree.map(lambda x: (np.shape(x), str(getattr(x, 'dtype', type(x)))), args))
        if shapes not in self.compiled:
            start = time.perf_counter()
            self.compiled[shapes] = self.function.lower(*args).compile()
            self.compile_seconds += time.perf_counter() - start
            self.compiles += 1
            _give_back()
        return self.compiled[shapes](*args)


def _give_back() -> None:
    """Returns to the system what compiling left free: a gigabyte after a stage, which the C library would keep."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        pass  # not glibc
