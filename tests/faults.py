"""Faults at the n-th operation on the disk: no room, a crash, a kill. All of them go through `base.atomic.step`.

As a program it does a day's work and is stopped there: `python tests/faults.py 12 kill <workdir>`
"""

import contextlib
import errno
import os
import signal
import sys
import time
from pathlib import Path

from diet_jax.base import atomic, signals

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
