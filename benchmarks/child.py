"""A case in a process of its own: `python -m benchmarks.child <what> <sizes> <threads>` prints its result as JSON.

XLA and PyTorch size their thread pools when they start, so the number of cores is set before either is imported.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent  # holds benchmarks/ and diet_jax/


def run(what: str, sizes: str, threads: int = 0, cache: str = '', folder: str | os.PathLike = ''):
    """Starts the child and reads what it found.

    Args: threads: 0 for all cores; cache: folder of the compilation cache; folder: that of `long` and `profile`, and
      what `reading` is told.

    Raises: RuntimeError with the child's last lines.
    """
    environment = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}  # the parent may hold most of a GPU's memory
    if cache:
        environment |= {'JAX_COMPILATION_CACHE_DIR': cache, 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.3'}
    return module('child', what, sizes, str(threads), str(time.time()), str(folder), **environment)


def module(name: str, *arguments: str, **environment: str):
    """What `python -m benchmarks.<name>` prints as its last line, JSON. The child imports from where this process does.

    Raises: RuntimeError with the child's last lines.
    """
    path = os.pathsep.join(dict.fromkeys([str(_CHECKOUT), *(p for p in sys.path if p)]))
    command = [sys.executable, '-m', f'benchmarks.{name}', *arguments]
    done = subprocess.run(
        command, env={**os.environ, 'PYTHONPATH': path, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f'{shlex.join(command[1:5])}: ' + ' '.join(done.stderr.split()[-60:]))
    return json.loads(done.stdout.splitlines()[-1])


def _main(what: str, sizes: str, threads: int, begun: float, folder: str):
    if threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    # Imports from here on start JAX or PyTorch: after the number of threads is set.
    from benchmarks.sizes import SIZES

    if what == 'start':
        from benchmarks import start

        start.first_stage(SIZES[sizes])
        return time.time() - begun
    if what == 'reading':
        from benchmarks import reading

        return reading.run(SIZES[sizes], folder)
    if what == 'long':
        from benchmarks import long

        return long.run(SIZES[sizes], folder)
    if what == 'profile':
        from benchmarks import profile

        return profile.run(sizes, folder)
    import torch

    from benchmarks import against_torch

    torch.set_num_threads(threads or torch.get_num_threads())
    return against_torch.case(SIZES[sizes])


if __name__ == '__main__':
    print(json.dumps(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])))
