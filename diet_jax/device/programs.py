"""Compiled programs: how often and for how long a function compiled, and what compiling leaves behind."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from diet_jax.base.atomic import remove, write_text
from diet_jax.base.errors import UserError

# Compiled functions of a candidate that are kept. Each takes hundreds of the 65,530 memory maps that Linux grants a
# process: a study of thirty candidates on a dozen kinds of rows would run out of them.
PROGRAMS_KEPT = 8
CACHE_BYTES = 2 << 30  # of compiled programs on disk; a study of thirty candidates leaves some 100 MB


def rounded(n: int, least: int = 1) -> int:
    """A size for `n` things: the next quarter of a power of two times 4 to 8, so that like sizes share programs.

    Args: least: what the size is a multiple of. At most a quarter of it is padding, or less than `least`.

    >>> [rounded(n) for n in (5, 37, 40, 41)], rounded(2284, 256), rounded(100, 256)
    ([5, 40, 40, 48], 2560, 256)
    """
    quarter = max(least, 1 << max(0, int(n - 1).bit_length() - 3))
    return -(-n // quarter) * quarter


class Spent(NamedTuple):
    """Seconds of compiling, by all of `Timed` in this process."""

    seconds: float
    fresh: float  # of these on programs that the folder of compiled ones did not have


NOTHING = Spent(0.0, 0.0)
_SPENT = {'seconds': 0.0, 'fresh': 0.0, 'missed': 0}


def spent(since: Spent = NOTHING) -> Spent:
    """What compiling took so far, or since an earlier call of this."""
    return Spent(_SPENT['seconds'] - since.seconds, _SPENT['fresh'] - since.fresh)


def _missed(event: str, **_) -> None:
    _SPENT['missed'] += event == '/jax/compilation_cache/cache_misses'


jax.monitoring.register_event_listener(_missed)


class Timed:
    """A jitted or pmapped function that compiles when shapes change, and knows how often and how long it did.

    Attributes: compiles (int), compile_seconds (float) so far.
    """

    def __init__(self, function):
        self.function, self.compiled, self.compiles, self.compile_seconds = function, {}, 0, 0.0

    def __call__(self, *args):
        shapes = str(jax.tree.map(lambda x: (np.shape(x), str(getattr(x, 'dtype', type(x)))), args))
        if shapes not in self.compiled:
            start, missed = time.perf_counter(), _SPENT['missed']
            self.compiled[shapes] = self.function.lower(*args).compile()
            took = time.perf_counter() - start
            self.compile_seconds += took
            _SPENT['seconds'] += took
            _SPENT['fresh'] += took * (_SPENT['missed'] > missed)
            self.compiles += 1
            _give_back()
        return self.compiled[shapes](*args)


def _give_back() -> None:
    """Returns to the system what compiling left free: a gigabyte after a stage, which the C library would keep."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        pass  # not glibc


def keep_compiled() -> None:
    """Compiled programs are kept on disk from now on, in ~/.cache/diet-jax unless the user has named a folder."""
    if not jax.config.jax_compilation_cache_dir:
        folder = os.path.join(os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache')), 'diet-jax')
        try:
            for private in (folder, os.path.join(folder, 'xla')):  # makedirs gives the last one alone its mode
                os.makedirs(private, mode=0o700, exist_ok=True)
            if not os.access(private, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise UserError(
                f'{folder}: {error.strerror}: compiled programs are kept there; name a folder that can be written in '
                'XDG_CACHE_HOME, or one for these alone in JAX_COMPILATION_CACHE_DIR'
            ) from error
        tidy(Path(private))
        jax.config.update('jax_compilation_cache_dir', private)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)  # the first state is many small programs


def tidy(folder: Path, most: int = CACHE_BYTES) -> None:
    """Removes what JAX leaves for ever in its folder of compiled programs: a program that a kill or a full disk cut
    short, which would be compiled again and again, and beyond so many bytes those that were unused longest.

    Programs that were looked at before are not looked at again.
    """
    looked, now, found = folder / 'looked', time.time(), []
    try:
        before = float(looked.read_text())
    except (OSError, ValueError):
        before = 0.0
    with contextlib.suppress(OSError):  # another process tidies too; a disk that is full stops no run here
        for path in folder.glob('*-cache'):
            about = path.stat()
            if about.st_mtime >= before and _cut_short(path):
                remove(path)
            else:
                found.append((max(about.st_atime, about.st_mtime), about.st_size, path))
        room = most
        for _, size, path in sorted(found, reverse=True):
            room -= size
            if room < 0:
                remove(path)
        write_text(looked, repr(now))


def _cut_short(path: Path) -> bool:
    """Whether a program is not whole; of one that is not packed by zlib nothing is known."""
    packed = path.read_bytes()
    if packed and packed[0] != 0x78:
        return False
    try:
        return not zlib.decompress(packed)
    except zlib.error:
        return True
