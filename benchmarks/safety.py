"""What checksums and syncs cost a run: seconds and share of its stages.

    python -m benchmarks.safety --config=configs/kuairand.py:smoke

The log is distilled into a new folder; what is hashed, read back or written, and every fsync has a clock around it.
`DIET_FSYNC=0` before it shows what is left without syncs.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from pathlib import Path

from absl import app
from ml_collections import config_flags

from diet_jax.artifact import read, write
from diet_jax.base import atomic, checksums
from diet_jax.run import driver
from diet_jax.run.record import read_metrics

_CONFIG = config_flags.DEFINE_config_file('config', 'configs/kuairand.py:smoke', lock_config=True)


def clocked(spent: Counter, what: str, place, name: str) -> None:
    """Puts a clock around a function of a module."""
    real = getattr(place, name)

    def timed(*args, **kwargs):
        start = time.perf_counter()
        try:
            return real(*args, **kwargs)
        finally:
            spent[what] += time.perf_counter() - start
            spent[f'{what}, times'] += 1

    setattr(place, name, timed)


class Clocked:
    """`hashlib`, with a clock around SHA-256."""

    def __init__(self, spent: Counter):
        import hashlib

        self.sha256 = hashlib.sha256
        clocked(spent, 'checksums', self, 'sha256')


def main(_) -> None:
    spent: Counter = Counter()
    for name in ('of', 'of_file'):
        clocked(spent, 'checksums', checksums, name)
    read.hashlib = write.hashlib = Clocked(spent)
    clocked(spent, 'syncs', atomic.os, 'fsync')
    with tempfile.TemporaryDirectory(dir=os.environ.get('TMPDIR', '.')) as folder:
        driver.distill(_CONFIG.value, folder, emit=lambda line: None)
        lines = read_metrics(Path(folder))
    stages = [line['seconds']['read'] + line['seconds']['stage'] + line['seconds']['save'] for line in lines]
    print(f'{len(stages)} stages, {sum(stages):.1f} s without compiling, {sum(stages) / len(stages):.2f} s each')
    for what in ('checksums', 'syncs'):
        print(f'{what}: {spent[what]:.3f} s of {int(spent[f"{what}, times"])} times, {spent[what] / sum(stages):.2%}')


if __name__ == '__main__':
    app.run(main)
