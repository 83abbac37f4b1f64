"""What compiling is going to cost, said beforehand: how long it took this machine, kept beside the compiled programs.

    <folder of compiled programs>/seconds/<key>.json    {kind, seconds or null}, of programs that are there

A key is of all that decides a group of programs, its shapes among them, and of the code: logs of like size have the
same. Where no folder is kept, nothing is foretold as new, and nothing is noted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

import jax
import numpy as np

from diet_jax.base import keep
from diet_jax.base.atomic import read_json, write_json
from diet_jax.base.checksums import Damaged
from diet_jax.device.programs import NOTHING, Spent

CODE = ('device', 'models', 'training', 'distillation', 'trials')
RECENT = 30  # groups of a kind whose seconds count, the latest


class Clocked(TypedDict):
    """What is read of a file of seconds."""

    kind: str
    seconds: float | None


class Kind(NamedTuple):
    """A group of programs that are compiled together. Seconds: on two CPU cores, until this machine has its own."""

    name: str
    programs: int  # the large ones; beside them are small ones, a twentieth of the time
    seconds: float  # of compiling them
    loading: float  # of tracing and loading them where they are kept


STAGE = Kind('stage', programs=1, seconds=18.0, loading=4.0)
ALONE = Kind('parts of a stage, each alone', programs=9, seconds=21.0, loading=4.0)


class Forecast:
    """What groups of programs will cost, and what they did cost.

    Attributes: new: keys of those to be compiled, in order; compiling, loading: seconds foretold of the new ones, of
      the others; spent: what was noted so far.
    """

    def __init__(self, wanted: Mapping[str, Kind]):
        """Args: wanted: {key: kind}, keys as of `key_of`."""
        self.folder, self.wanted, self.spent = _folder(), dict(wanted), NOTHING
        self.new = [key for key in wanted if not (self.folder and self._path(key).exists())]
        took = {kind: _took(self.folder, kind) for kind in {wanted[key] for key in self.new}}
        self.compiling = sum(took[wanted[key]] for key in self.new)
        self.loading = float(sum(kind.loading for key, kind in wanted.items() if key not in self.new))

    @property
    def seconds(self) -> float:
        """All that is foretold."""
        return self.compiling + self.loading

    def before(self) -> str:
        """What is going to be compiled, in a line; '' where nothing is, or nothing would be kept."""
        if not (self.new and self.folder):
            return ''
        many = sum(self.wanted[key].programs for key in self.new)
        return (
            f'compiling {many} program{"s" * (many > 1)}, about {self.compiling:.0f} s on this machine; kept in '
            f'{self.folder.parent} for logs of like size'
        )

    def note(self, key: str, took: Spent) -> None:
        """What the group took; of one that is new it is kept, as no measure where its programs were there after all."""
        self.spent = Spent(self.spent.seconds + took.seconds, self.spent.fresh + took.fresh)
        if self.folder and key in self.new and took.seconds > 0 and not self._path(key).exists():
            seconds = round(took.seconds, 3) if took.fresh > took.seconds / 2 else None
            with contextlib.suppress(OSError):  # a folder that is only read costs the forecast, not the run
                self.folder.mkdir(mode=0o700, exist_ok=True)
                write_json(self._path(key), {'kind': self.wanted[key].name, 'seconds': seconds})

    def after(self) -> str:
        """How long it took, in a line; '' where `before` said nothing."""
        if not self.before():
            return ''
        took, fresh = self.spent
        if fresh <= took / 2:  # another version of the code, or a log of other names
            return f'most programs were there: loading them took {took:.0f} s'
        return f'compiling took {took:.0f} s, {self.compiling:.0f} s were foretold'

    def _path(self, key: str) -> Path:
        return self.folder / f'{key}.json'


def key_of(kind: Kind, inputs) -> str:
    """What a group is kept under. inputs: all that decides it but code and machine, as JSON has it."""
    device = jax.devices()[0]
    return keep.key([kind.name, inputs, device.platform, device.device_kind, os.environ.get('XLA_FLAGS', '')], CODE)


def _folder() -> Path | None:
    """Where seconds are kept; None where no program is, or not on this machine's disk."""
    folder = jax.config.jax_compilation_cache_dir
    if not folder or '://' in folder or not jax.config.jax_enable_compilation_cache:
        return None
    return Path(folder) / 'seconds'


def _took(folder: Path | None, kind: Kind) -> float:
    """Median of the seconds that groups of a kind took this machine lately; the constant where there are none."""
    found = sorted(folder.glob('*.json'), key=lambda path: path.stat().st_mtime) if folder else []
    said = [one for path in reversed(found) if (one := _clocked(path)) and one['kind'] == kind.name]
    measured = [one['seconds'] for one in said if one['seconds'] is not None][:RECENT]
    return float(np.median(measured)) if measured else kind.seconds


def _clocked(path: Path) -> Clocked | None:
    """What a group took; None where nobody can tell."""
    try:
        return read_json(path, of=Clocked)
    except Damaged:
        return None
