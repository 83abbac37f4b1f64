"""A case in a process of its own: `python -m diet_jax.bench.child <what> <sizes> <threads>` prints its result as JSON.

XLA and PyTorch size their thread pools when they start, so the number of cores is set before either is imported.
"""

import json
import os
import subprocess
import sys
import time


def run(what: str, sizes: str, threads: int = 0, cache: str = '', folder: str | os.PathLike = ''):
    """Starts the child and reads what it found.

    Args: threads: 0 for all cores; cache: folder of the compilation cache; folder: that of `long` and `profile`.

    Raises: RuntimeError with the child's last lines.
    """
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
    env['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'  # the parent may hold most of a GPU's memory
    if cache:
        env |= {'JAX_COMPILATION_CACHE_DIR': cache, 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.3'}
    command = [sys.executable, '-m', 'diet_jax.bench.child', what, sizes, str(threads), str(time.time()), str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'{what} on {threads or "all"} threads: ' + ' '.join(done.stderr.split()[-60:]))
    return json.loads(done.stdout.splitlines()[-1])


def _main(what: str, sizes: str, threads: int, begun: float, folder: str):
    if threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    from diet_jax.bench.sizes import SIZES

    if what == 'start':
        from diet_jax.bench import start

        start.first_stage(SIZES[sizes])
        return time.time() - begun
    if what == 'long':
        from diet_jax.bench import long

        return long.run(SIZES[sizes], folder)
    if what == 'profile':
        from diet_jax.bench import profile

        return profile.run(sizes, folder)
    import torch

    from diet_jax.bench import against_torch

    torch.set_num_threads(threads or torch.get_num_threads())
    return against_torch.case(SIZES[sizes])


if __name__ == '__main__':
    print(json.dumps(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])))
