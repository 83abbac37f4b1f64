"""What ends a command from outside: Ctrl-C, a scheduler's SIGTERM, a closed terminal's SIGHUP. Each ends it at once.

Python runs a handler between two of its own instructions, so not while XLA compiles; and an exception raised there may
fall into a callback that cannot pass it on (JAX has one in the garbage collector) and is lost. So no exception is
raised: the signal's number goes down a pipe, from C, and a thread that waits there ends the process. Nothing is to be
tidied up: files appear whole or not at all (`base.atomic`), and the next run goes on after the last stage.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

WORDS = {signal.SIGINT: 'interrupted', signal.SIGTERM: 'ended by SIGTERM', signal.SIGHUP: 'ended by SIGHUP'}
SHOW_CURSOR = '\x1b[?25h\n'  # a progress bar hides it
_watched: set[int] = set()  # processes: a fork has no thread of its own yet


def end_at_once() -> None:
    """From now on each of these signals ends the process with one line, exit code 128 + its number, in any state.

    One that was ignored when the process was started (nohup) stays so.
    """
    if os.getpid() in _watched:
        return
    _watched.add(os.getpid())
    read, write = os.pipe()
    os.set_blocking(write, False)
    _handle(lambda number, frame: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), daemon=True).start()


@contextlib.contextmanager
def raised():
    """Within it the signals raise KeyboardInterrupt(number) instead: for work that has processes of its own to end."""
    before, wakeup = {number: signal.getsignal(number) for number in WORDS}, signal.set_wakeup_fd(-1)
    _handle(_raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)


def end(number: int = signal.SIGINT) -> None:
    """Says what ended the process, and ends it."""
    line = f'{WORDS[number]}: run the same command again to go on\n'
    with contextlib.suppress(OSError):  # the terminal is gone
        if sys.stdout is not None and os.isatty(1):
            os.write(1, SHOW_CURSOR.encode())
        os.write(2, line.encode())
    os._exit(128 + number)


def _handle(handler) -> None:
    for number in WORDS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _raise(number, frame):
    raise KeyboardInterrupt(number)


def _watch(read: int) -> None:
    while True:
        (number,) = os.read(read, 1)
        if number in WORDS:
            end(number)
