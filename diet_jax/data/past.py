"""The past of a log does not change: what it still has of prepared blocks is compared with what was encoded.

Beside the rows of block t, `rows/<t>.hashes` holds a hash of every row of the log, 3 to 5 bytes each, so that the rows
that are left of a block are known again when others have gone with older files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_jax.base import arrow, checksums
from diet_jax.base.atomic import write_bytes
from diet_jax.base.errors import UserError
from diet_jax.data import blocks, listed
from diet_jax.data.coded import plain_array, recoded
from diet_jax.data.hashing import mix
from diet_jax.data.log import Log
from diet_jax.data.vocabulary import Vocabulary

KEPT_BITS = 40  # of a row's hash


def check(
    log: Log,
    old: Mapping[int, blocks.Cut],
    cached: list[dict],
    vocabulary: Vocabulary,
    folder: Path,
    unread: Mapping,
    noted: Mapping[str, str],
) -> dict[str, dict[int, list]]:
    """Compares the rows that the log still has of prepared blocks with those encoded then.

    Of the first block that is still there some rows may have gone with older files: the others must be among those
    encoded.

    Args:
      old: what was read of prepared blocks; folder: of the cache.
      unread: name -> what is known of a file that was not read again, since it is as it was (`of_files`).
      noted: checksums of files below the folder.
    Returns: {block: `of_files` of what was read of it}.
    Raises:
      UserError: the rows are others.
    """
    read: dict[str, dict[int, list]] = {}
    name = log.data['log'][0]
    held = {t for t, block in enumerate(cached) if any(block['key'] in file['blocks'] for file in unread.values())}
    first = min(held | set(old), default=None)
    for t in sorted(old):
        block, rows = cached[t], old[t].read(log, log.columns)
        before = block['rows'] - block.get('negatives', {'drawn': 0})['drawn']
        slots = {
            field.name: _slots(vocabulary, f, rows.columns[field.name], t + 1)
            for f, field in enumerate(vocabulary.fields)
            if field.name in rows.columns and field.kind != 'time'
        }
        hashes = row_hashes(vocabulary, slots, rows.time, (rows.label, *rows.others), rows.weight)
        read[block['key']] = of_files(rows.file, hashes)
        others = [file['blocks'][block['key']] for file in unread.values() if block['key'] in file['blocks']]
        count = len(hashes) + sum(number for number, _ in others)
        total = digest(hashes, *(int(found, 16) for _, found in others))
        if t == first and count < before:
            if not hash_path(folder, t).exists():  # of a cache of format 1
                continue
            if odd := _others(hashes, _kept(folder, t, noted)):
                raise UserError(
                    f'the log goes back in time: of block {block["key"]}, of {before} rows when prepared, {count} '
                    f'are left, and {odd} of these are others: restore {name}, or start a new workdir'
                )
        elif count != before or total != block['digest']:
            raise UserError(
                f'the log goes back in time: block {block["key"]} had {before} rows when prepared, '
                f'now {count}, or other values: restore {name}, or start a new workdir and '
                'hold incomplete days back with data.until'
            )
    return read


def _slots(vocabulary: Vocabulary, f: int, column: pa.Array, blocks: int) -> np.ndarray:
    """What `row_hashes` is given of a column of the log."""
    kind = vocabulary.fields[f].kind
    if kind == 'list':
        return listed.hashes(listed.encoded(vocabulary, f, column, ''))
    return vocabulary.encode(f, plain_array(column) if kind == 'numeric' else recoded(column), '', blocks)


def of_files(file: np.ndarray, hashes: np.ndarray) -> dict[int, list]:
    """What is kept of a block for every file that has rows in it: how many, and their digest."""
    order = np.argsort(file, kind='stable')
    which, starts, counts = np.unique(file[order], return_index=True, return_counts=True)
    sums = np.add.reduceat(hashes[order], starts) if len(starts) else ()
    return {int(i): [int(n), f'{int(x):016x}'] for i, n, x in zip(which, counts, sums, strict=True)}


def row_hashes(
    vocabulary: Vocabulary,
    slots: Mapping[str, np.ndarray],
    time: np.ndarray,
    labels: Sequence[np.ndarray],
    weight: np.ndarray | None = None,
) -> np.ndarray:
    """What is remembered of rows: uint64 [N].

    Args: slots: of the log's own columns, by the numbers that were known after the rows' block; of lists their hashes.
      time: int64 [N]; labels: float32 [N] of every outcome, the main one first; weight: float32 [N], or None.
    """
    total = mix(time.view(np.uint64)) ^ labels[0].astype(np.uint64)
    for label in labels[1:]:
        total = mix(total ^ label.astype(np.uint64))
    if weight is not None:
        total = mix(total ^ weight.view(np.uint32).astype(np.uint64))
    for field in vocabulary.fields:
        if field.name in slots and field.kind != 'time':
            total = mix(total ^ slots[field.name].astype(np.uint64))
    return total


def digest(hashes: np.ndarray, *others: int) -> str:
    """Of the rows of a block, whatever their order. others: digests of more rows."""
    return f'{(int(hashes.sum()) + sum(others)) % 2**64:016x}'


def hash_path(folder: Path, t: int) -> Path:
    return folder / 'rows' / f'{t:05d}.hashes'


def _kept(folder: Path, t: int, noted: Mapping[str, str]) -> np.ndarray:
    """What `write_hashes` wrote of block t."""
    path = hash_path(folder, t)
    data = checksums.read(path, noted.get(str(path.relative_to(folder))), f'delete {folder} to prepare the log again')
    return pq.read_table(arrow.source(data))['hash'].to_numpy()


def write_hashes(path: Path, hashes: np.ndarray) -> None:
    table = pa.table({'hash': _short(hashes)})
    how = dict(use_dictionary=False, column_encoding={'hash': 'DELTA_BINARY_PACKED'})
    write_bytes(path, lambda file: pq.write_table(table, file, **how))


def _short(hashes: np.ndarray) -> np.ndarray:
    """int64 [N], ascending."""
    return np.sort(hashes >> np.uint64(64 - KEPT_BITS)).astype(np.int64)


def _others(hashes: np.ndarray, kept: np.ndarray) -> int:
    """How many rows, each counted as often as it is there, are not among those kept."""
    found, counts = np.unique(_short(hashes), return_counts=True)
    there = np.searchsorted(kept, found, side='right') - np.searchsorted(kept, found, side='left')
    return int(np.maximum(counts - there, 0).sum())
