"""The checkpoint of a run: its whole state after the last stage, in workdir/checkpoint/<stage>.

    state/           every array of a `StageState`, whole, however it lies on devices
    metrics.jsonl    as it stood
    sizes.json       the capacities that the arrays have, the blocks that the memory has seen, and checksums of all
                     that lies beside it: nothing is restored that is not as it was written

A folder appears under its number when all of it is written, and the older one goes after that.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

import jax
import msgspec
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from diet_jax.base import atomic, checksums
from diet_jax.base.atomic import empty_folder, fill, put_folder, read_json, remove, write_json
from diet_jax.base.errors import UserError
from diet_jax.distillation.state import StageState
from diet_jax.training.passes import StreamState

VERSION = 2  # of the state's arrays; 2: rows of tables know when they were last stepped
Rows = Annotated[int, msgspec.Meta(ge=0, lt=2**40)]
BESIDE = 1 << 18  # bytes of a checkpoint that are no arrays, at most


class Sizes(TypedDict):
    """What is read of sizes.json."""

    version: NotRequired[int]
    slots: Rows
    memory: Rows
    log: NotRequired[list[tuple[str, Rows, Rows]]]  # key, rows, slots known afterwards
    config: NotRequired[dict]
    files: NotRequired[dict[str, str]]


def folder(workdir: Path, done: int) -> Path:
    """Where the checkpoint of stage `done` is."""
    return workdir / 'checkpoint' / f'{done:05d}'


def last(workdir: Path) -> tuple[int, dict]:
    """(stages done, sizes) of the last whole checkpoint; (0, {}) if there is none.

    Raises:
      UserError: its sizes are damaged.
    """
    folder = workdir / 'checkpoint'
    done = [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.exists() else []
    if not done:
        return 0, {}
    path = folder / f'{max(done):05d}' / 'sizes.json'
    if (sizes := read_json(path, _way_out(folder), Sizes)) is None:
        raise checksums.Damaged(path, 'missing', _way_out(folder))
    return max(done), sizes


def save(workdir: Path, done: int, state, sizes: dict) -> None:
    """Writes the checkpoint of stage `done`, then drops the older ones. state: arrays on this host."""
    folder = workdir / 'checkpoint'
    part, target = folder / 'part', folder / f'{done:05d}'
    empty_folder(part)
    stored = _stored(jax.tree.map(np.asarray, state))
    # tensorstore's threads print a stack each where a disk fills under them
    atomic.check_room(part, sum(x.nbytes for x in jax.tree.leaves(stored)) + BESIDE)
    try:
        with _quiet(), atomic.named(part / 'state'), _checkpointer() as checkpointer:
            checkpointer.save((part / 'state').absolute(), args=ocp.args.PyTreeSave(stored))
    except (ValueError, RuntimeError) as error:  # tensorstore has no error of its own for a full disk
        if (reason := _reason(error)) is None:
            raise
        raise OSError(reason, os.strerror(reason), str(part / 'state')) from error
    atomic.step('write', part / 'state')
    metrics = (workdir / 'metrics.jsonl').read_bytes()
    fill(part / 'metrics.jsonl', lambda file: file.write(metrics))
    write_json(part / 'sizes.json', {**sizes, 'files': checksums.of_files(part)})
    put_folder(part, target)
    for old in folder.iterdir():
        if old != target and old.is_dir():
            remove(old)


def restore(workdir: Path, done: int, shapes: StageState, sizes: dict, emit: Callable[[str], None]) -> StageState:
    """The state of stage `done` as numpy arrays.

    Args: shapes: of its arrays, as from `jax.eval_shape`; sizes: what the checkpoint says of itself; emit: told where
      an earlier version wrote it, which noted no checksums.
    Raises:
      UserError: it is damaged, or has other arrays.
    """
    path, version = folder(workdir, done) / 'state', sizes.get('version', 1)
    if 'files' in sizes:
        checksums.check_files(path.parent, sizes['files'], _way_out(path.parent.parent))
    else:
        emit(f'{path.parent} was written by an earlier version, without checksums: it is taken as it is')
    shapes = shapes if version == VERSION else _streams(_first_form, shapes)
    like = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), _stored(shapes))
    try:
        with _checkpointer() as checkpointer:
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
            wanted = ocp.args.PyTreeRestore(item=like, restore_args=as_numpy)
            state = StageState(**checkpointer.restore(path.absolute(), args=wanted))
            return state if version == VERSION else _streams(_present_form, state)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} cannot be read ({type(error).__name__}): it is damaged, or of another version of diet-jax; '
            f'{_way_out(path.parent.parent)}'
        ) from error


def _way_out(folder: Path) -> str:
    return f'restore it from a copy, or delete {folder} to distill again from the first block'


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What goes wrong is raised: orbax prints it as well, with the stack of each of its threads."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _reason(error: Exception) -> int | None:
    """The system's error behind one of tensorstore's."""
    known = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)
    return next((number for number in known if os.strerror(number) in str(error)), None)


def _stored(state: StageState) -> dict:
    """What is stored of a state: of one outcome the same as when there could be no others."""
    return {name: part for name, part in state._asdict().items() if name != 'others' or part}


class _FirstStreamState(NamedTuple):
    """A `StreamState` of version 1, under lazy Adam: rows that a batch does not hold had nothing to remember."""

    params: Any
    mu: np.ndarray
    nu: np.ndarray
    head_opt: Any
    place: np.ndarray
    step: np.ndarray


def _first_form(state: StreamState) -> _FirstStreamState:
    return _FirstStreamState(*(getattr(state, name) for name in _FirstStreamState._fields))


def _present_form(state: _FirstStreamState) -> StreamState:
    return StreamState(**state._asdict(), last=np.full(state.place.shape, state.step, np.int32))


def _streams(form, state: StageState) -> StageState:
    """The state with its models along the stream in another form."""
    return state._replace(reference=form(state.reference), twins=tuple(map(form, state.twins)))


def grow(state, larger):
    """Puts a state into one of larger capacity; what was not there yet is as in `larger`, a fresh state. Of numpy."""

    def one(old, new):
        if old.shape == new.shape:
            return old
        new = np.array(new)
        new[tuple(slice(n) for n in old.shape)] = old
        return new

    return jax.tree.map(one, state, larger)


def _checkpointer() -> ocp.Checkpointer:
    """Of this process alone, whatever the others do."""
    alone = ocp.options.MultiprocessingOptions(primary_host=jax.process_index(), active_processes={jax.process_index()})
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)
