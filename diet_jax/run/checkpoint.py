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

import jax
import numpy as np
import orbax.checkpoint as ocp

from diet_jax.base.atomic import write_json
from diet_jax.base.errors import UserError


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
        checkpointer.save((part / 'state').absolute(), args=ocp.args.PyTreeSave(jax.tree.map(np.asarray, state)))
    write_json(part / 'sizes.json', sizes)
    shutil.copy(workdir / 'metrics.jsonl', part)
    part.rename(target)
    for old in folder.iterdir():
        if old != target and old.is_dir():
            shutil.rmtree(old, ignore_errors=True)


def restore(workdir: Path, done: int, shapes):
    """The state of stage `done` as numpy arrays. shapes: of its arrays, as from `jax.eval_shape`.

    Raises:
      UserError: it is damaged, or has other arrays.
    """
    path = workdir / 'checkpoint' / f'{done:05d}' / 'state'
    like = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    try:
        with _checkpointer() as checkpointer:
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
            wanted = ocp.args.PyTreeRestore(item=like, restore_args=as_numpy)
            return checkpointer.restore(path.absolute(), args=wanted)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} cannot be read ({type(error).__name__}): it is damaged, or of another version of diet-jax; '
            f'restore it from a copy, or delete {path.parent.parent} to distill again from the first block'
        ) from error


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
