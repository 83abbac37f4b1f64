"""Is a workdir, or a memory, as it was written? File by file, by checksums alone: no log is read, nothing changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from diet_jax.artifact.format import read_manifest
from diet_jax.artifact.read import load_memory
from diet_jax.base import checksums
from diet_jax.base.atomic import read_json, read_json_lines
from diet_jax.base.errors import UserError

GOOD, UNKNOWN, REBUILDABLE, DAMAGED = 'good', 'no checksum', 'rebuildable', 'damaged'
DISTILL = 'scripts/distill.py writes it again'
COPY = 'restore it from a copy'
ANEW = 'run its command again, which makes it again'
SHOWN = ('.html', '.png', '.txt', '.md', '.yaml', '.csv')  # never read back


class Found(NamedTuple):
    """A file and its state: GOOD, UNKNOWN (of an earlier version), REBUILDABLE or DAMAGED, with words."""

    path: Path
    state: str
    words: str = ''


def verify(folder) -> list[Found]:
    """Every file below a folder that is read back, by its path.

    Args: folder: of a run, of a study or comparison, or of a memory.
    Raises:
      UserError: there is no such folder, or nothing in it that this library wrote.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder}: there is no such folder')
    found: dict[Path, Found] = {}
    for one in _all(folder):
        found.setdefault(one.path, one)
    if not found:
        raise UserError(f'{folder} holds nothing that can be checked: name the workdir of a run, or a memory')
    return [found[path] for path in sorted(found)]


def _all(folder: Path) -> Iterator[Found]:
    runs = [path.parent for path in folder.rglob('checkpoint') if path.is_dir()]
    last = {run: _last(run) for run in runs}
    for run, done in last.items():
        if done:
            yield from _checkpoint(run / 'checkpoint' / f'{done:05d}')
            for memory in (run / 'memory', run / 'history' / f'{done:05d}'):
                if not (memory / 'manifest.json').exists():
                    yield Found(memory / 'manifest.json', REBUILDABLE, f'missing: {DISTILL}')
    for manifest in folder.rglob('manifest.json'):
        if manifest.parent.parent.name == 'blocks':
            yield from _cache(manifest.parent)
        else:
            run = manifest.parent.parent if manifest.parent.name == 'memory' else manifest.parent.parent.parent
            yield from _memory(manifest.parent, last.get(run, 0))
    for entry in folder.rglob('candidates/*.json'):
        predictions = entry.parent.parent / 'predictions' / f'{entry.stem}.npy'
        yield _one(predictions, ANEW, lambda path, entry=entry: _predictions(path, entry))
    for path in folder.rglob('*'):
        if path.is_file() and path.suffix not in SHOWN and not _unfinished(path):
            yield from _alone(path, last)


def _last(run: Path) -> int:
    """The stage of the checkpoint of a run, 0 where there is none."""
    return max((int(p.name) for p in (run / 'checkpoint').iterdir() if p.name.isdigit()), default=0)


def _alone(path: Path, last: dict[Path, int]) -> Iterator[Found]:
    """A file that carries its own checksum."""
    run = path.parent
    if path.suffix == '.json':
        yield _one(path, DISTILL if path.name == 'config.json' and last.get(run) else ANEW, _sealed)
    elif path.name == 'metrics.jsonl' and run in last:
        yield _one(path, DISTILL, _lines)
    elif path.suffix == '.npz':
        run = next((one for one in path.parents if one in last), None)
        twins = run is not None and run / 'twins' in path.parents
        way = ANEW if not twins else DISTILL if int(path.stem) == last[run] else COPY
        yield _one(path, way, lambda p: checksums.read_npz(p, '') and GOOD)


def _checkpoint(folder: Path) -> Iterator[Found]:
    way = f'{COPY}, or delete {folder.parent} to distill again from the first block'
    yield (sizes := _one(folder / 'sizes.json', way, _sealed))
    if sizes.state != DAMAGED:
        noted = read_json(folder / 'sizes.json').get('files', {})
        yield from _files(folder, noted, way)


def _cache(folder: Path) -> Iterator[Found]:
    way = 'scripts/distill.py prepares the log again, if all of its files are still there'
    yield (manifest := _one(folder / 'manifest.json', way, _sealed))
    if manifest.state in (GOOD, UNKNOWN):
        yield from _files(folder, read_json(folder / 'manifest.json').get('checksums', {}), way)


def _memory(folder: Path, last: int) -> Iterator[Found]:
    """A memory; it can be written again if it is of the last stage of its run."""
    path = folder / 'manifest.json'
    way = DISTILL if last and folder.name in ('memory', f'{last:05d}') else COPY
    try:
        manifest = read_manifest(folder)
    except UserError as error:
        yield _bad(path, way, str(error))
        return
    bad = False
    for name, digest in manifest['checksums'].items():
        there = (folder / name).is_file()
        right = there and hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        bad |= not right
        yield Found(folder / name, GOOD) if right else _bad(folder / name, way, 'damaged' if there else 'missing')
    try:
        bad or load_memory(folder)
        yield Found(path, _sealed(path))
    except UserError as error:
        yield _bad(path, way, str(error))


def _files(folder: Path, noted: dict[str, str], way: str) -> Iterator[Found]:
    for name, checksum in noted.items():
        try:
            checksums.check_files(folder, {name: checksum}, way)
            yield Found(folder / name, GOOD)
        except checksums.Damaged as error:
            yield _bad(error.path, way, 'damaged' if error.path.exists() else 'missing')


def _sealed(path: Path) -> str:
    """The state of a JSON file. Raises Damaged."""
    read_json(path)
    return GOOD if checksums.KEY in (json.loads(path.read_text(encoding='utf-8')) or ()) else UNKNOWN


def _lines(path: Path) -> str:
    read_json_lines(path, '')
    return GOOD if f'"{checksums.KEY}"' in path.read_text(encoding='utf-8') else UNKNOWN


def _predictions(path: Path, entry: Path) -> str:
    said = read_json(entry).get(checksums.PREDICTIONS)
    checksums.read(path, said, '')
    return GOOD if said else UNKNOWN


def _one(path: Path, way: str, state: Callable[[Path], str]) -> Found:
    try:
        return Found(path, state(path))
    except (UserError, OSError, ValueError, TypeError, AttributeError):
        return _bad(path, way, 'damaged' if path.exists() else 'missing')


def _bad(path: Path, way: str, what: str) -> Found:
    return Found(path, DAMAGED if way.startswith(COPY) else REBUILDABLE, f'{what}: {way}')


def _unfinished(path: Path) -> bool:
    """What a run that was killed has left; the next one writes it anew."""
    return any(part.endswith(('.part', '.old')) or part == 'part' for part in path.parts) or path.name == 'lock'
