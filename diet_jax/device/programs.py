"""Compiled programs: how often and for how long a function compiled, and what compiling leaves behind."""

from __future__ import annotations

import ctypes
import os
import time

import jax
import numpy as np

# Compiled functions of a candidate that are kept. Each takes hundreds of the 65,530 memory maps that Linux grants a
# process: a study of thirty candidates on a dozen kinds of rows would run out of them.
PROGRAMS_KEPT = 8


class Timed:
    """A jitted or pmapped function that compiles when shapes change, and knows how often and how long it did.

    Attributes: compiles (int), compile_seconds (float) so far.
    """

    def __init__(self, function):
        self.function, self.compiled, self.compiles, self.compile_seconds = function, {}, 0, 0.0

    def __call__(self, *args):
        shapes = str(jax.tree.map(lambda x: (np.shape(x), str(getattr(x, 'dtype', type(x)))), args))
        if shapes not in self.compiled:
            start = time.perf_counter()
            self.compiled[shapes] = self.function.lower(*args).compile()
            self.compile_seconds += time.perf_counter() - start
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
        for private in (folder, os.path.join(folder, 'xla')):  # makedirs gives the last one alone its mode
            os.makedirs(private, mode=0o700, exist_ok=True)
        jax.config.update('jax_compilation_cache_dir', private)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)  # the first state is many small programs
