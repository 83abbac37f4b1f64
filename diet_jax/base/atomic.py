"""The one place that writes: files and folders that a reader finds whole or not at all.

They are written beside their place, synced, and renamed. Every operation is announced to `step`, where tests put their
faults: no room, a kill, a signal at the n-th of them (tests/faults.py).

JSON carries its own checksum (`base.checksums`): its last key. `DIET_FSYNC=0` in the environment leaves syncing to the
system: what a crash of the machine then costs is files of the last half minute, which may come back empty.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import json
import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import msgspec

from diet_jax.base import checksums

EXCHANGE = 2  # renameat2: swap the two
HERE = -100  # its paths are as usual
FORGOTTEN = 86400.0  # seconds after which the unfinished file of another host is nobody's


def step(what: str, path: Path) -> None:
    """Called before a file is finished, renamed, synced or removed, and does nothing."""


def write_json(path: Path, value, indent: int | None = 1, sealed: bool = True) -> None:
    """Writes a value as strict JSON: numbers that are not finite become null.

    Args: sealed: an object gets its checksum as its last key; not in a format of others.
    """
    value = strict(value)
    value = checksums.sealed(value) if sealed and isinstance(value, dict) else value
    write_text(path, json.dumps(value, indent=indent, allow_nan=False))


def read_json(path: Path, way_out: str = 'delete it and run again', of: type = Any):
    """The JSON in a file, None where there is no file.

    Args: of: a TypedDict of what is read of it: types and ranges. Other keys pass: a newer version may write more.
    Raises:
      Damaged: it does not parse, was changed, or is not of that type.
    """
    try:
        value = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise checksums.Damaged(path, f'not valid JSON ({error})', way_out) from error
    try:
        value = checksums.opened(value)
    except ValueError as error:
        raise checksums.Damaged(path, 'damaged, or was changed by hand (checksum)', way_out) from error
    return typed(path, value, way_out, of)


def typed(path: Path, value, way_out: str, of: type):
    """A value of a file, if it is of a type. Raises Damaged."""
    try:
        msgspec.convert(value, of)
    except msgspec.ValidationError as error:
        raise checksums.Damaged(path, f'damaged, or of another version ({error})', way_out) from error
    return value


def write_json_lines(path: Path, rows: list) -> None:
    """One object a line, as strict JSON, each with its checksum."""
    write_text(path, ''.join(json.dumps(checksums.sealed(strict(row)), allow_nan=False) + '\n' for row in rows))


def read_json_lines(path: Path, way_out: str) -> list:
    """The JSON of every line of a file. Raises Damaged as `read_json` does."""
    try:
        return [
            checksums.opened(json.loads(line)) for line in path.read_text(encoding='utf-8').splitlines() if line.strip()
        ]
    except (OSError, ValueError, RecursionError) as error:
        raise checksums.Damaged(path, f'not as it was written ({error})', way_out) from error


def write_text(path: Path, text: str) -> None:
    """A file of text, UTF-8."""
    write_bytes(path, lambda file: file.write(text.encode()))


def write_bytes(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """A file that `write` fills; where that fails, the place is as it was."""
    part = part_of(path)
    try:
        with named(path), open(part, 'wb') as file:
            write(file)
            file.flush()
            step('write', part)
            _sync(file.fileno())
        step('rename', path)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def part_of(path: Path) -> Path:
    """Where this process writes what is then put at `path`: beside it, for several processes may keep one cache.

    What a process that was killed has left there goes.
    """
    host = socket.gethostname()
    for left in path.parent.glob(f'{glob.escape(path.name)}.*-*.part'):
        its_host, _, process = left.name[len(path.name) + 1 : -len('.part')].rpartition('-')
        with contextlib.suppress(OSError, ValueError):  # gone meanwhile, or of another name
            dead = its_host == host and not _alive(int(process))
            if dead or time.time() - left.stat().st_mtime > FORGOTTEN:
                remove(left)
    return path.with_name(f'{path.name}.{host}-{os.getpid()}.part')


def fill(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """A file inside a folder that is not in its place yet: `put_folder` syncs and renames it with the rest."""
    with named(path), open(path, 'wb') as file:
        write(file)
        file.flush()
        step('write', path)


def appended(path: Path) -> IO[str]:
    """A file of text that is written line by line: what is shown, never what is read back."""
    step('append', path)
    return path.open('a', encoding='utf-8')


def empty_folder(folder: Path) -> None:
    """An empty folder, where a crash may have left something."""
    remove(folder)
    folder.mkdir(parents=True)


def copy_folder(folder: Path, to: Path) -> None:
    """All files of a folder, in another one that is not in its place yet."""
    empty_folder(to)
    for path in sorted(folder.rglob('*')):
        place = to / path.relative_to(folder)
        if path.is_dir():
            place.mkdir()
        else:
            fill(place, lambda file, path=path: file.write(path.read_bytes()))


def put_folder(part: Path, folder: Path) -> None:
    """Puts the whole folder `part` where `folder` is, or nothing was: a reader finds the one or the other.

    Where the file system cannot swap two folders at once (NFS), there is none for a moment; `recover_folder` finishes
    what a crash in between left.
    """
    sync_tree(part)
    step('rename', folder)
    if not folder.exists():
        os.rename(part, folder)
    elif _exchanged(part, folder):
        remove(part)
    else:
        old = _old(folder)
        remove(old)
        os.rename(folder, old)
        step('rename', folder)
        os.rename(part, folder)
    sync_folder(folder.parent)
    remove(_old(folder))  # also of a crash before


def recover_folder(folder: Path) -> None:
    """Brings back the last whole version of a folder that a crash left between two renames."""
    if _old(folder).exists() and not folder.exists():
        step('rename', folder)
        os.rename(_old(folder), folder)


def rename(old: Path, new: Path) -> None:
    """Gives a file that is whole another name in its folder."""
    step('rename', new)
    os.replace(old, new)
    sync_folder(new.parent)


def remove(path: Path) -> None:
    """Removes a file, a link, or a folder with all that lies in it, if there is one."""
    if not (path.exists() or path.is_symlink()):
        return
    step('remove', path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)  # NFS keeps what a reader has open: next time
    else:
        path.unlink(missing_ok=True)


def remove_empty(folder: Path) -> None:
    """Removes a folder in which nothing lies. Raises OSError if something does."""
    step('remove', folder)
    folder.rmdir()


def sync_tree(folder: Path) -> None:
    """Brings all files of a folder, and their names, to the disk."""
    step('sync', folder)
    if syncs():
        for path in (*sorted(folder.rglob('*')), folder):
            _sync_path(path)


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk."""
    step('sync', folder)
    if syncs():
        _sync_path(folder)


def syncs() -> bool:
    """Whether files are brought to the disk before they are renamed."""
    return os.environ.get('DIET_FSYNC', '1') != '0'


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """What goes wrong with a file names it: the system does not, where it is written to."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def check_room(folder: Path, size: int) -> None:
    """Raises OSError, as a write would, unless so many bytes are free where a folder lies."""
    found = os.statvfs(folder)
    if found.f_blocks and found.f_bavail * found.f_frsize < size:  # some that are mounted over a network count nothing
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def strict(value):
    """A value as strict JSON can hold it: what is not finite is None, tuples are lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [strict(item) for item in value]
    return value


def _sync(descriptor: int) -> None:
    if syncs():
        os.fsync(descriptor)


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that keeps no folder apart
            raise
    finally:
        os.close(descriptor)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process != os.getpid()


def _old(folder: Path) -> Path:
    return folder.with_name(folder.name + '.old')


def _exchanged(one: Path, other: Path) -> bool:
    """Swaps two folders at once; False where the system cannot."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # not Linux
        return False
    if swap(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0:
        return True
    if (number := ctypes.get_errno()) in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))
