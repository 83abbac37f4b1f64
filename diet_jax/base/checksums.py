"""What is read back is as it was written: checksums of files, of JSON objects, of arrays.

They are CRC-32: they find every burst of up to 32 wrong bits for certain, at 2 GiB a second, where SHA-256 takes three
times as long. They are against damage, not against forgery: a memory, which may come from elsewhere, has SHA-256.

What an earlier version wrote has none, and passes.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from diet_jax.base.errors import UserError

KEY = 'checksum'  # the last key of a JSON object
PREDICTIONS = 'predictions_checksum'  # of the file of a candidate, in its entry
CHUNK = 1 << 22


class Damaged(UserError):
    """A file that is not as it was written, or gone. Attributes: path."""

    def __init__(self, path: Path, what: str, way_out: str):
        super().__init__(f'{path} is {what}: {way_out}')
        self.path = Path(path)


def of(data) -> str:
    """Eight hexadecimal digits of bytes.

    >>> of(b'diet'), of(b'dieu')
    ('9de46520', 'eae355b6')
    """
    return f'{zlib.crc32(data):08x}'


def of_file(path: Path) -> str:
    """That of a file, which is not read at once."""
    total = 0
    with open(path, 'rb') as file:
        while part := file.read(CHUNK):
            total = zlib.crc32(part, total)
    return f'{total:08x}'


def of_files(folder: Path) -> dict[str, str]:
    """{path below the folder: checksum} of all files in it."""
    return {str(p.relative_to(folder)): of_file(p) for p in sorted(folder.rglob('*')) if p.is_file()}


def read(path: Path, checksum: str | None, way_out: str) -> bytes:
    """The bytes of a file.

    Args: checksum: that it had, None where nobody noted it; way_out: what to do if it has another.
    Raises:
      Damaged: it has, or there is none.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise Damaged(path, 'missing', way_out) from None
    if checksum is not None and of(data) != checksum:
        raise Damaged(path, 'damaged (checksum)', way_out)
    return data


def check_files(folder: Path, wanted: dict[str, str], way_out: str) -> None:
    """Raises Damaged unless files of a folder have these checksums."""
    for name, checksum in wanted.items():
        if not (folder / name).is_file():
            raise Damaged(folder / name, 'missing', way_out)
        if of_file(folder / name) != checksum:
            raise Damaged(folder / name, 'damaged (checksum)', way_out)


def sealed(value: dict) -> dict:
    """A JSON object with its checksum as its last key; what its numbers and words are counts, not how it is laid out.

    >>> sealed({'auc': 0.7})
    {'auc': 0.7, 'checksum': '6ac1868b'}
    """
    value = {key: item for key, item in value.items() if key != KEY}
    return {**value, KEY: _of_object(json.loads(json.dumps(value)))}


def opened(value):
    """A parsed JSON value without its checksum. Raises ValueError where it has another one."""
    if not isinstance(value, dict) or KEY not in value:
        return value
    value = dict(value)
    if value.pop(KEY) != _of_object(value):
        raise ValueError('its checksum is another')
    return value


def read_npz(path: Path, way_out: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, all of it checked by the checksums that a zip has.

    Raises:
      Damaged: it is not as it was written.
    """
    try:
        with zipfile.ZipFile(path) as file:
            found = {name.removesuffix('.npy'): file.read(name) for name in file.namelist()}
        return {name: array(data) for name, data in found.items()}
    except (*_OF_ZIP, ValueError) as error:
        raise Damaged(path, f'damaged ({type(error).__name__})', way_out) from error


def array(data: bytes) -> np.ndarray:
    """The array of an .npy file's bytes, never unpickled. Raises ValueError if there is none."""
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (EOFError, SyntaxError, TypeError, MemoryError) as error:
        raise ValueError(str(error)) from error


def npy(values: np.ndarray) -> bytes:
    """The bytes of an .npy file."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


# What `zipfile` raises, of a file whose bits are others: flags of an encryption, sizes, methods.
_OF_ZIP = (OSError, EOFError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, struct.error)


def _of_object(value: dict) -> str:
    return of(json.dumps(value).encode())
