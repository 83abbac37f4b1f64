"""A study over config keys: one process a point, resumed where it was left; `report.sweep` shows what came of it.

A sweep file is a config file, `get_config(arg='')`, with three more names:

    def sweep(add):                 # calls add(name, **overrides) once a point, as Flax's hparam_sweep examples do
        add('half', **{'memory.row_budget': 0.005})
    SCRIPT = 'trends'               # optional: what runs a point, a command of the library or a script beside the file
    RESULT = 'trends.json'          # optional: the file in a point's folder that says it is finished

`<workdir>/<name>/point.json` keeps what a point was run with: {name, script, overrides, config, command} and, once
it was started here, {exit_code, seconds}; an exit code of null means started and not ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from diet_jax.base import atomic, signals
from diet_jax.base.atomic import appended, write_json
from diet_jax.base.errors import UserError, closest
from diet_jax.base.loading import found, load_module
from diet_jax.base.plain import changes, plain
from diet_jax.base.progress import Progress

FILES = ('sweep.json', 'sweep.md', 'sweep.png', 'log.txt')  # in the workdir, beside the folders of the points
OWN = ('point.json', 'sweep-log.txt')  # what a sweep itself writes into the folder of a point
COMMANDS = ('trends', 'distill', 'evaluate')  # of the library, that can run a point
PATIENCE = 15.0  # seconds that an interrupted point has to end by itself


class Point(NamedTuple):
    """One run of a study."""

    name: str
    overrides: dict[str, Any]  # key -> value, those of this point only
    config: dict  # all of the config it runs with, plain JSON
    folder: Path
    command: list[str]


class Sweep(NamedTuple):
    """A study, checked; nothing of it is on disk yet."""

    file: str  # the sweep file as it was given, with its `:arg`
    workdir: Path
    script: str  # SCRIPT of the file
    result: str
    points: list[Point]


def read(file: str, common: Mapping[str, Any], workdir: str | Path) -> Sweep:
    """Reads a sweep file and checks every point of it before anything runs; writes nothing.

    Args:
      file: path of the sweep file, with `:arg` for its get_config.
      common: overrides of all points, key -> value; those of a point come after them.
      workdir: folder of the study.
    Raises:
      UserError: sweep() is missing or fails, a name comes twice or is no folder name, a key does not exist or cannot
        have the value, SCRIPT does not exist, the folder of a point holds another run.
    """
    path, workdir = file.partition(':')[0], Path(workdir)
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f'{workdir} is a file: --workdir names a folder')
    module = load_module(path)
    if not callable(getattr(module, 'sweep', None)):
        raise UserError(f'{path} has no sweep(add): it must call add(name, **overrides) once a point')
    script, points = getattr(module, 'SCRIPT', COMMANDS[0]), []
    start = _start_of(script, path)
    for name, overrides in _called(module, path).items():
        where = f"{path}: point '{name}'"
        for key, value in overrides.items():
            _check(where, file, common, key, value)
        words = [f'--config.{key}={_text(value)}' for key, value in {**common, **overrides}.items()]
        config = _parsed(file, words)
        command = [sys.executable, *start, f'--config={file}', *words, f'--workdir={workdir / name}']
        points.append(Point(name, overrides, json.loads(json.dumps(plain(config))), workdir / name, command))
    study = Sweep(file, workdir, script, getattr(module, 'RESULT', 'trends.json'), points)
    for point in points:
        _check_folder(study, point)
    return study


def _start_of(script: str, path: str) -> list[str]:
    """Arguments of Python that run a point."""
    if script in COMMANDS:
        return ['-m', f'diet_jax.commands.{script}']
    file = Path(found(path)).absolute().parent / script
    if not file.is_file():
        raise UserError(f'{path}: SCRIPT is {script}: it is none of {", ".join(COMMANDS)}, and there is no file {file}')
    return [str(file)]


def unfinished(study: Sweep) -> list[Point]:
    """The points that are still to be run, in the order of the file."""
    return [point for point in study.points if outcome(study, point)]


def outcome(study: Sweep, point: Point) -> str:
    """'' if a point is finished, else what it is instead, in words. Raises UserError if its point.json is broken."""
    there = _there(study, point)
    noted = read_json(point.folder / OWN[0]) if (point.folder / OWN[0]).exists() else {}
    code = noted.get('exit_code', 0 if there else None)  # run by its printed command: the result alone tells
    if code is None:
        return 'not finished'
    if code < 0:
        return f'killed by {signal.Signals(-code).name}'
    return f'exit code {code}' if code else '' if there else f'ended without {study.result}'


def commands(study: Sweep) -> list[str]:
    """The unfinished points as lines for a shell, to be run by something else; their folders are theirs from now on."""
    points = unfinished(study)
    for point in points:  # a result of a run that did not end well does not say that this one will
        note(study, point, **({'exit_code': None} if _there(study, point) else {}))
    return [shlex.join(point.command) for point in points]


def note(study: Sweep, point: Point, **more) -> None:
    """Writes point.json: from now on the folder belongs to this point."""
    point.folder.mkdir(parents=True, exist_ok=True)
    value = {'name': point.name, 'script': study.script, 'overrides': point.overrides, 'config': point.config}
    write_json(point.folder / OWN[0], value | {'command': shlex.join(point.command)} | more)


def run(
    study: Sweep, processes: int = 1, *, write: Callable[[Sweep], None], emit: Callable[[str], None] = print
) -> dict[str, str]:
    """Runs what is unfinished, `processes` points at a time; after each, `write` shows what came of it so far.

    A point that fails does not stop the others. An exception, a Ctrl-C included, stops the points that run.

    Returns:
      name -> what went wrong and the last line of its log; empty if all points are finished.
    """
    waiting, running, failed, total = unfinished(study), {}, {}, len(study.points)
    study.workdir.mkdir(parents=True, exist_ok=True)
    if len(waiting) < total:
        emit(f'{total - len(waiting)} of {total} points are finished')
    done = total - len(waiting)
    with signals.raised(), Progress('sweep', len(waiting), study.workdir / 'log.txt', emit) as progress:
        try:
            while waiting or running:
                while waiting and len(running) < processes:
                    point = waiting.pop(0)
                    note(study, point, exit_code=None)
                    running[point.name] = point, _start(point), time.perf_counter()
                for name, (point, child, begun) in list(running.items()):
                    if child.poll() is None:
                        continue
                    del running[name]
                    seconds = time.perf_counter() - begun
                    note(study, point, exit_code=child.returncode, seconds=seconds)
                    done, words = done + 1, outcome(study, point)
                    if words:
                        failed[name] = words = f'{words}: {_last_line(point.folder / OWN[1])}'
                    write(study)
                    how = f'failed after {seconds:.0f} s: {words}' if words else f'done in {seconds:.0f} s'
                    progress.advance(1, f'{done}/{total} {name} {how}')
                time.sleep(0.05)
        finally:
            _stop([child for _, child, _ in running.values()])
    write(study)
    return failed


def _there(study: Sweep, point: Point) -> bool:
    return (point.folder / study.result).exists()


def _called(module: ModuleType, path: str) -> dict[str, dict]:
    """name -> overrides, as the file's sweep() adds them."""
    points = {}

    def add(name: str, /, **overrides):
        if not isinstance(name, str) or not re.fullmatch(r'[^\s./\\-][^/\\\n\r\0]*', name):
            raise UserError(f'{path}: point {name!r}: a name becomes a folder: no / or \\, and a letter or digit first')
        if name in points or name in FILES:
            raise UserError(f"{path}: '{name}' is named twice: every point has a folder of its own beside {FILES[0]}")
        points[name] = {key: _value(value) for key, value in overrides.items()}

    try:
        module.sweep(add)
    except UserError:
        raise
    except Exception as error:  # a sweep file is a program: whatever it raises is the user's to see, in one line
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(path)]
        line = f' line {lines[-1]}' if lines else ''
        raise UserError(f'{path}{line}: {type(error).__name__}: {error}') from error
    if not points:
        raise UserError(f'{path}: sweep(add) adds no point: it must call add(name, **overrides) once a point')
    return points


def _check(where: str, file: str, common: Mapping, key: str, value) -> None:
    """Raises UserError unless the flag of an override, as the launcher will parse it, gives the value meant."""
    node = _parsed(file, [f'--config.{k}={_text(v)}' for k, v in common.items()])
    for part in key.split('.'):
        if not isinstance(node, ConfigDict) or part not in node:
            hint = closest(part, node) if isinstance(node, ConfigDict) else ''
            raise UserError(f"{where}: the config has no key '{key}'{hint}")
        old = node = node[part]
    if isinstance(old, ConfigDict):
        raise UserError(f"{where}: '{key}' is a section of the config{closest('', old)}: set one of its keys")
    try:
        new = _parsed(file, [f'--config.{key}={_text(value)}'])
        for part in key.split('.'):
            new = new[part]
        fits = plain(new) == plain(value)
    except (flags.Error, TypeError, ValueError):
        fits = False
    if not fits:
        kinds = [type(v).__name__ for v in (value, old)]
        raise UserError(f'{where}: {key} cannot be {value!r} ({kinds[0]}): the config has {old!r} ({kinds[1]}) there')


def _parsed(file: str, words: list[str]) -> ConfigDict:
    """The config that a launcher makes of these flags: the same parser, on the same words."""
    values, argv = flags.FlagValues(), ['sweep', f'--config={_brought(file)}', *words]
    config_flags.DEFINE_config_file('config', None, lock_config=True, flag_values=values, sys_argv=argv)
    values(argv)
    return values['config'].value


def _brought(file: str) -> str:
    """A config file, its `:arg` with it, where it lies."""
    path, colon, arg = file.partition(':')
    return found(path) + colon + arg


def _text(value) -> str:
    """A value as config_flags parse it."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else repr(value)


def _value(value):
    """numpy's numbers as Python's, lists as tuples: what configs hold."""
    if isinstance(value, (tuple, list)):
        return tuple(_value(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value


def _check_folder(study: Sweep, point: Point) -> None:
    """Raises UserError if the folder of a point holds another run; one without output binds nothing."""
    path = point.folder / OWN[0]
    if point.folder.exists() and not point.folder.is_dir():
        raise UserError(f"{point.folder} is a file: point '{point.name}' needs a folder there")
    others = sorted(p.name for p in point.folder.iterdir() if p.name not in OWN) if point.folder.exists() else []
    if not others:
        return
    if not path.exists():
        raise UserError(f'{point.folder} holds {others[0]} and no {OWN[0]}, so another run: use another --workdir')
    old, new = read_json(path), {**point.config, 'SCRIPT': study.script}
    for key, before, now in changes({**old.get('config', {}), 'SCRIPT': old.get('script')}, new):
        raise UserError(
            f"{path}: {key} was {before!r} when point '{point.name}' was begun and is {now!r} now: "
            'name it otherwise, use another --workdir, or the old value'
        )


def _start(point: Point) -> subprocess.Popen:
    """A point in a session of its own: a Ctrl-C reaches it through `_stop` only, and whatever it started itself."""
    with appended(point.folder / OWN[1]) as out:
        print(f'$ {shlex.join(point.command)}', file=out, flush=True)
        pipes = dict(stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        return subprocess.Popen(point.command, start_new_session=True, **pipes)


def _stop(children: list[subprocess.Popen]) -> None:
    """Interrupts, waits, kills; a second Ctrl-C kills at once."""
    try:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGINT)
        end = time.monotonic() + PATIENCE
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, end - time.monotonic()))
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _last_line(path: Path) -> str:
    lines = [line for line in path.read_text(errors='replace').splitlines() if line.strip()]
    return 'it said nothing' if not lines or lines[-1].startswith('$ ') else lines[-1].strip()


def read_json(path: Path) -> dict:
    """The JSON object in a file of a point; a `UserError` if there is none."""
    try:
        return dict(atomic.read_json(path, 'delete it, and the point is run again') or ())
    except (ValueError, TypeError) as error:
        raise UserError(f'{path} is no JSON object ({error}): delete it, and the point is run again') from error


def results(study: Sweep) -> dict:
    """What is on disk of a study, plain JSON: {sweep, script, points: a row a point}.

    A row is {name, overrides, config, folder, missing ('' or why there is no result), result}; `result` holds what a
    report needs of the file of that name: `protocol` and `summary`.
    """
    rows = []
    for point in study.points:
        missing = outcome(study, point)
        found_ = {} if missing else read_json(point.folder / study.result)
        rows.append(
            {
                'name': point.name,
                'overrides': point.overrides,
                'config': point.config,
                'folder': str(point.folder),
                'missing': missing,
                'result': {part: found_.get(part) for part in ('protocol', 'summary')},
            }
        )
    return {'sweep': study.file, 'script': study.script, 'points': rows}
