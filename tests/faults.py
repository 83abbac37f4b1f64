"""Faults at the n-th operation on the disk: no room, a crash, a kill. All of them go through `base.atomic.step`.

As a program it starts a command that is killed there: `python tests/faults.py 12 kill distill --config=...`
"""

import contextlib
import errno
import os
import signal
import sys

from diet_jax.base import atomic

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
    n, kind, command = sys.argv[1:4]
    sys.argv[:] = [command, *sys.argv[4:]]
    atomic.step = Disk(int(n), kind).step
    from diet_jax.commands import entry

    getattr(entry, command)()


if __name__ == '__main__':
    main()
