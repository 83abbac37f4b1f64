"""What tests that start commands share."""

import functools
import importlib.util
import mmap
import os
from pathlib import Path

EMITTERS = 'xla_cpu_use_fusion_emitters'


def one_device(**more: str) -> dict[str, str]:
    """The environment of a command that sees one CPU device, as most machines have.

    XLA's older emitters of fused loops compile sooner. Not where devices wait for each other: there a stage
    hung with them in one of two runs of all tests, and whether they are why is not known.
    """
    flags = [flag for flag in os.environ.get('XLA_FLAGS', '').split() if 'device_count' not in flag]
    return {**os.environ, 'XLA_FLAGS': ' '.join([*flags, *[f'--{EMITTERS}=false'] * _known_to_xla(EMITTERS)]), **more}


@functools.cache
def _known_to_xla(flag: str) -> bool:
    """Whether this jaxlib has a flag: one that it has not ends the process."""
    for path in Path(importlib.util.find_spec('jaxlib').origin).parent.glob('*.so'):
        with path.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as library:
            if library.find(flag.encode()) >= 0:
                return True
    return False
