"""One writer a folder: a lock that the system gives back when its process ends, however it ends.

    lock    {host, pid, since} of the process that holds it; there while it is held, and after a crash, when it binds
            nobody

It is `flock`, which NFS keeps for all hosts that mount it. Who only reads, asks for none.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from diet_jax.base import atomic
from diet_jax.base.atomic import remove, remove_empty
from diet_jax.base.errors import UserError


@contextlib.contextmanager
def held(folder: Path, emit: Callable[[str], None] = print) -> Iterator[None]:
    """While a folder is written; it is made if absent, and goes again if nothing came to lie in it.

    Args: emit: told where the file system keeps no locks, and nothing is held.
    Raises:
      UserError: it is a file, or another process holds it: which, and since when.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f'{folder} is a file: --workdir names a folder')
    above = (folder.absolute(), *folder.absolute().parents)
    made = [path for path in above if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    file = _locked(folder / 'lock', emit)
    try:
        yield
    finally:
        try:
            remove(folder / 'lock')  # before it is given back: nobody else can hold this file
        finally:
            file.close()
        for path in made:
            with contextlib.suppress(OSError):  # something lies in it
                remove_empty(path)


def _locked(path: Path, emit: Callable[[str], None]) -> IO[str]:
    while True:
        atomic.step('append', path)
        file = path.open('a+')
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f'{path.parent} is being written by another process, {_who(file)}: wait until it is done, or use '
                'another --workdir'
            ) from None
        except OSError as error:
            emit(f'{path}: no lock can be held there ({error.strerror}): see to it that no other run writes here')
        if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:  # not one that was just given back
            break
        file.close()
    try:
        with atomic.named(path):
            file.truncate(0)
            file.write(json.dumps({'host': socket.gethostname(), 'pid': os.getpid(), 'since': time.strftime('%F %T')}))
            file.flush()
    except OSError:
        file.close()
        raise
    return file


def _who(file: IO[str]) -> str:
    file.seek(0)
    try:
        return 'process {pid} on {host} since {since}'.format(**json.load(file))
    except ValueError:  # it has just begun
        return 'just begun'
