"""Several processes that distill one memory together, through `jax.distributed`: every host of a cluster runs one.

All of them run the same driver over one workdir, a folder that all of them see. The first prepares the log and writes
everything; each reads its own share of a block's rows, and the stage runs over the devices of all. A process that is
alone passes through the same calls, which then do nothing.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from concurrent import futures
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diet_jax.base.errors import UserError
from diet_jax.device.collectives import AXIS, WHOLE
from diet_jax.training.batches import Batches

T = TypeVar('T')
# A process that says nothing for so long is gone. Where peers are connected directly (gloo, on CPUs) a collective
# notices at once; elsewhere this is the bound.
HEARTBEAT_SECONDS = 60
JOIN_SECONDS = 300
# What the engine says, among other words, when a peer is gone.
GONE = ('gloo', 'nccl', 'unavailable', 'deadline_exceeded', 'heartbeat', 'connection', 'coordination')


def join(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Joins the other processes; before anything is computed.

    Args: coordinator: host:port of the first process; processes: how many; process: 0, 1, ... All None: from the
      environment of SLURM, Open MPI, Kubernetes or a TPU pod, as `jax.distributed.initialize` reads it.
    Raises:
      UserError: the arguments do not go together, or the environment does not say.
    """
    given = (coordinator, processes, process)
    if any(x is not None for x in given):
        if any(x is None for x in given):
            raise UserError('--coordinator=host:port, --processes and --process go together: give all three')
        if not coordinator.rpartition(':')[0] or not coordinator.rpartition(':')[2].isdigit():
            raise UserError(f'--coordinator={coordinator} is not host:port, as 10.0.0.1:8476 is')
        if not 0 <= process < processes:
            raise UserError(f'--process={process} is not one of 0 .. {processes - 1}, the --processes={processes}')
    jax.config.update('jax_enable_preemption_service', False)  # it would keep SIGTERM to itself
    try:
        jax.distributed.initialize(
            *given, initialization_timeout=JOIN_SECONDS, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f'the processes cannot join ({_first_line(error)}): start all of them with the same --coordinator and '
            '--processes, each with its own --process'
        ) from error
    wait('all have joined')  # gloo connects them at the first collective, and gives that half a minute


def several() -> bool:
    return jax.process_count() > 1


def first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def devices() -> list:
    """All devices of all processes, process by process."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


@contextlib.contextmanager
def together():
    """Around what all processes do at once: when one of them is gone, the others stop with one line.

    Raises:
      UserError: in place of the engine's error.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:  # gloo's come as the one, XLA's own as the other
        if not several() or not any(word in str(error).lower() for word in GONE):
            raise
        raise UserError(
            f'process {jax.process_index()} of {jax.process_count()}: another process is gone '
            f'({_first_line(error)}); start all of them again: they go on after the last stage that was saved'
        ) from error


def wait(where: str) -> None:
    """Returns when all processes are here."""
    if several():
        with together():
            multihost_utils.sync_global_devices(where)


def in_turn(work: Callable[[], T]) -> T:
    """What `work` returns, after it has run on the first process: the others find what that has written.

    Meanwhile all meet every second: a collective that waits for hours would run into its time limit, and nobody would
    notice that another process is gone.

    Raises:
      UserError: what `work` raises, and on the other processes that it did not succeed on the first.
    """
    if not several():
        return work()
    with futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(work) if first() else None
        while True:
            state = 0 if running is None or not running.done() else 2 if running.exception() else 1
            with together():
                state = int(multihost_utils.process_allgather(np.int32(state))[0])
            if state:
                break
            if running is not None:
                futures.wait([running], 1.0)
    if running is not None:
        return running.result()
    if state == 2:
        raise UserError(f'process {jax.process_index()}: the first process has stopped, its line says why')
    return work()


def agree(numbers: list[int], what: str) -> None:
    """Raises UserError, in every process, unless `numbers` are the same in all of them."""
    if not several():
        return
    with together():
        seen = multihost_utils.process_allgather(np.asarray(numbers, np.int32))
    for process, theirs in enumerate(seen):
        if (theirs != seen[0]).any():
            raise UserError(
                f'{what}: process {process} finds {theirs.tolist()} and process 0 {seen[0].tolist()}: give all '
                'processes the same flags, and a --workdir on storage that they share'
            )


def spread(tree, over: list, specs=WHOLE):
    """Values that are the same on every host, as arrays over all devices.

    Args: tree: of arrays; over: the devices; specs: how each array is split over the device axis, a prefix of the tree.
    """

    def put(sharding, part):
        return jax.tree.map(lambda x: put_one(np.asarray(x), sharding), part)

    def put_one(x, sharding):
        return jax.make_array_from_callback(x.shape, sharding, lambda index: np.asarray(x[index]))

    return jax.tree.map(put, shardings(over, specs), tree)


def shardings(over: list, specs=WHOLE):
    """`specs` as shardings of arrays over these devices."""
    mesh = Mesh(np.array(over), (AXIS,))
    return jax.tree.map(
        lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda spec: isinstance(spec, PartitionSpec)
    )


def fetched(tree):
    """Arrays over all devices as numpy arrays of this host. Split ones are gathered one by one: all must call."""

    def fetch(x):
        whole = not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated
        return np.asarray(x) if whole else multihost_utils.process_allgather(x, tiled=True)

    with together():
        return jax.tree.map(fetch, tree)


def share(rows: int, batch: int, steps: int, over: list) -> tuple[int, int, int]:
    """The rows of a block that this process reads: (first, end, batches that they are padded to).

    One stretch for every process, so that it opens no other part of the file: `deal` brings rows to their devices.
    """
    per_device = -(-steps // len(over))
    mine = [i for i, device in enumerate(over) if device.process_index == jax.process_index()]
    begin = min(mine[0] * per_device * batch, rows)
    end = min((mine[-1] + 1) * per_device * batch, rows)
    return begin, end, per_device * len(mine)


def deal(part: Batches, rows: int, batch: int, steps: int, over: list) -> Batches:
    """Whole batches, a stretch of the block on every process, dealt to the devices as `parallel.shard_block` does.

    Args: part: this process's stretch, [1, its batches, batch, ...]; rows: of the block; steps: S, of the result.
    Returns: Batches over all devices, [devices, S, batch / devices, ...]: batch k lies on all devices side by side.
    """
    sharding = NamedSharding(Mesh(np.array(over), (AXIS,)), PartitionSpec(AXIS))
    arrays = jax.tree.map(lambda x: x[0], part._replace(steps=None))
    arrays = jax.tree.map(functools.partial(jax.make_array_from_process_local_data, sharding), arrays)
    used = spread(np.full(len(over), -(-rows // batch), np.int32), over, PartitionSpec(AXIS))
    with together():
        return jax.block_until_ready(_dealt(tuple(over), batch, steps)(arrays))._replace(steps=used)


@functools.cache
def _dealt(over: tuple, batch: int, steps: int):
    count, spec = len(over), PartitionSpec(AXIS)

    def deal_one(x):  # [S / D, batch, ...] of one device -> [1, S, batch / D, ...]
        x = x.reshape(x.shape[0], count, batch // count, *x.shape[2:])
        x = jax.lax.all_to_all(x, AXIS, split_axis=1, concat_axis=0, tiled=True)
        return jnp.swapaxes(x, 0, 1)[:, :steps]

    mesh = Mesh(np.array(over), (AXIS,))
    return jax.jit(jax.shard_map(lambda tree: jax.tree.map(deal_one, tree), mesh=mesh, in_specs=spec, out_specs=spec))


def _first_line(error) -> str:
    return str(error).strip().partition('\n')[0]
