"""The checkpoint of a run: its whole state after the last stage, in workdir/checkpoint/<stage>.

    state/           every array of a `StageState`, whole, however it lies on devices
    sizes.json       the capacities that the arrays have, and the blocks that the memory has seen
    metrics.jsonl    as it stood

A folder appears under its number when all of it is written, and the older one goes after that.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from diet_jax.base.atomic import write_json
from diet_jax.base.errors import UserError
from diet_jax.distillation.state import StageState
from diet_jax.training.passes import StreamState

VERSION = 2  # of the state's arrays; 2: rows of tables know when they were last stepped


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
    try:
        return max(done), json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f'{path} cannot be read ({error}): restore it from a copy, or delete {folder} to distill again from the '
            'first block'
        ) from error


def save(workdir: Path, done: int, state, sizes: dict) -> None:
    """Writes the checkpoint of stage `done`, then drops the older ones. state: arrays on this host."""
    folder = workdir / 'checkpoint'
    part, target = folder / 'part', folder / f'{done:05d}'
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    part.mkdir(parents=True)
    with _checkpointer() as checkpointer:
        checkpointer.save(
            (part / 'state').absolute(), args=ocp.args.PyTreeSave(_stored(jax.tree.map(np.asarray, state)))
        )
    write_json(part / 'sizes.json', sizes)
    shutil.copy(workdir / 'metrics.jsonl', part)
    part.rename(target)
    for old in folder.iterdir():
        if old != target and old.is_dir():
            shutil.rmtree(old, ignore_errors=True)


def restore(workdir: Path, done: int, shapes: StageState, version: int = VERSION) -> StageState:
    """The state of stage `done` as numpy arrays.

    Args: shapes: of its arrays, as from `jax.eval_shape`; version: in which it was written, 1 where nothing says.
    Raises:
      UserError: it is damaged, or has other arrays.
    """
    path = workdir / 'checkpoint' / f'{done:05d}' / 'state'
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
            f'restore it from a copy, or delete {path.parent.parent} to distill again from the first block'
        ) from error


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
