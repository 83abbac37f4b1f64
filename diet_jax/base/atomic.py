"""Files and folders that a reader finds whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from diet_jax.base.errors import UserError


def write_json(path: Path, value, indent: int | None = 1) -> None:
    """Writes a value as strict JSON: numbers that are not finite become null."""
    write_text(path, json.dumps(_strict(value), indent=indent, allow_nan=False))


def read_json(path: Path):
    """The JSON in a file, None where there is no file. Raises UserError where it does not parse."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise UserError(f'{path}: not valid JSON ({error}); delete it and run again') from error


def write_json_lines(path: Path, rows: list) -> None:
    """One object a line, as strict JSON."""
    write_text(path, ''.join(json.dumps(_strict(row), allow_nan=False) + '\n' for row in rows))


def write_text(path: Path, text: str) -> None:
    write_bytes(path, lambda file: file.write(text.encode()))


def write_bytes(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """A file that `write` fills."""
    part = path.with_name(f'{path.name}.{os.getpid()}.part')  # several processes may keep one cache
    with open(part, 'wb') as file:
        write(file)
    os.replace(part, path)


def replace_folder(part: Path, folder: Path) -> None:
    """Puts the whole folder `part` where `folder` was; `recover_folder` finishes what a crash in between left."""
    old = folder.with_name(folder.name + '.old')
    if folder.exists():  # else `old` may be all there is
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
    os.rename(part, folder)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Brings back the last whole version of a folder that a crash left between two renames."""
    old = folder.with_name(folder.name + '.old')
    if old.exists() and not folder.exists():
        os.rename(old, folder)


def _strict(value):
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_strict(item) for item in value]
    return value
