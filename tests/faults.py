"""Faults at the n-th operation on the disk: no room, a crash, a kill. All of them go through `base.atomic.step`.

As a program it does a day's work and is stopped there: `python tests/faults.py 12 kill <workdir>`
"""

import contextlib
import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

from diet_jax.base import atomic, signals

ODD = (
    None,
    True,
    -1,
    0,
    1,
    7,
    10**13,
    2**80,
    0.5,
    '',
    '..',
    '../../x',
    'user',
    'x\x00',
    [],
    [0, 'a', None],
    {},
    {'x': 0},
)
MANY = int(os.environ.get('DIET_EXAMPLES', '1'))  # times as many examples of what is drawn
SIGNALS = {'kill': signal.SIGKILL, 'term': signal.SIGTERM}


class Crash(BaseException):
    """As a lost machine: nothing catches it."""


class Disk:
    """Counts operations, and fails at number n: 'full', 'crash', or a signal of SIGNALS.

    Attributes: done: what was announced so far.
    """

    def __init__(self, n: int = -1, kind: str = 'full'):
        self.n, self.kind, self.done = n, kind, []

    def step(self, what, path):
        self.done.append(f'{what} {path}')
        if len(self.done) - 1 != self.n:
            return
        if what == 'write' and path.is_file():  # not all of it is there yet
            os.truncate(path, path.stat().st_size // 2)
        if self.kind == 'full':
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if self.kind == 'crash':
            raise Crash(self.done[-1])
        os.kill(os.getpid(), SIGNALS[self.kind])
        time.sleep(60)  # a thread ends the process: nothing goes on with half a file


@contextlib.contextmanager
def disk(n: int = -1, kind: str = 'full'):
    """While it lasts, the disk is one that fails. Gives the `Disk`."""
    before, found = atomic.step, Disk(n, kind)
    atomic.step = found.step
    try:
        yield found
    finally:
        atomic.step = before


def flip(path, draw) -> None:
    """One wrong bit in a file."""
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def doctor(path, draw) -> str:
    """Another value, or none, at some place of a JSON file, or of a line of one. Its checksum goes, as somebody's would
    who edits it. What was done, in words."""
    lines = path.read_text().splitlines() if path.suffix == '.jsonl' else [path.read_text()]
    values = [json.loads(line) for line in lines]
    value = draw.choice(values)
    if isinstance(value, dict):
        value.pop('checksum', None)
    *before, last = draw.choice(list(places(value)))
    section = value
    for key in before:
        section = section[key]
    if draw.random() < 0.3:
        odd = 'gone'
        del section[last]
    else:
        section[last] = odd = draw.choice(ODD)
    path.write_text('\n'.join(map(json.dumps, values)) + '\n')
    return f'{path.name}: {".".join(map(str, (*before, last)))} {odd!r:.40}'


def places(value, at=()):
    """Where something stands in JSON: every key, and every place of a list."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*at, key)
        yield from places(part, (*at, key))


def main() -> None:
    n, kind, workdir = sys.argv[1:4]
    signals.end_at_once()
    found = Disk(int(n), kind)
    atomic.step = found.step
    sys.exit(job(Path(workdir)) or print(len(found.done)))


def job(workdir: Path) -> int:
    """A day's work on the tiny run: distilled, evaluated, compared, exported. The exit code, as of a command."""
    import tiny

    import diet_jax
    from diet_jax.commands import launch

    def run(_):
        config, quiet = tiny.get_config(), lambda line: None
        config.evaluate.candidates = ('lr',)
        memory = diet_jax.distill(config, workdir, emit=quiet)
        diet_jax.evaluate(config, workdir, emit=quiet)
        ideas = {'wide': dict(model='lr', dim=1), 'none': dict(model='mlp', hidden=(4,))}
        diet_jax.compare(memory, ideas, emit=quiet)
        if not (export := workdir.with_name(f'{workdir.name}-export')).exists():
            diet_jax.export(memory, export, emit=quiet)

    try:
        launch._guarded(run, False)(['job'])
    except SystemExit as stop:
        return stop.code
    return 0


if __name__ == '__main__':
    main()
