"""The past of a log does not change: what it still has of prepared blocks is compared with what was encoded.

Beside the rows of block t, `rows/<t>.hashes` holds a hash of every row of the log, 3 to 5 bytes each, so that the rows
that are left of a block are known again when others have gone with older files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_jax.base.errors import UserError
from diet_jax.data import raw_log
from diet_jax.data.hashing import mix
from diet_jax.data.vocabulary import Vocabulary

KEPT_BITS = 40  # of a row's hash


def check(old: dict[int, np.ndarray], cached: list[dict], raw, vocabulary: Vocabulary, folder: Path, log: str) -> None:
    """Compares the rows that the log still has of prepared blocks with those encoded then.

    Of the first block that is still there some rows may have gone with older files: the others must be among those
    encoded.

    Args: old: {block: positions of its rows in the log}; folder: of the cache; log: its files, for messages.
    Raises:
      UserError: the rows are others.
    """
    for i, t in enumerate(sorted(old)):
        block, rows = cached[t], old[t]
        read = block['rows'] - block.get('negatives', {'drawn': 0})['drawn']
        columns = raw_log.take_columns(raw.columns, rows)
        hashes = row_hashes(vocabulary, columns, raw.time[rows], raw.label[rows], t + 1)
        if i == 0 and len(rows) < read:
            if not hash_path(folder, t).exists():  # of a cache of format 1
                continue
            if others := _others(hashes, pq.read_table(hash_path(folder, t))['hash'].to_numpy()):
                raise UserError(
                    f'the log goes back in time: of block {block["key"]}, of {read} rows when prepared, {len(rows)} '
                    f'are left, and {others} of these are others: restore {log}, or start a new workdir'
                )
        elif len(rows) != read or digest(hashes) != block['digest']:
            raise UserError(
                f'the log goes back in time: block {block["key"]} had {read} rows when prepared, '
                f'now {len(rows)}, or other values: restore {log}, or start a new workdir and '
                'hold incomplete days back with data.until'
            )


def row_hashes(vocabulary: Vocabulary, columns: dict, time: np.ndarray, label: np.ndarray, blocks: int) -> np.ndarray:
    """uint64 [N], of the log's own columns, by the numbers that were known after the first `blocks` blocks."""
    total = mix(time.view(np.uint64)) ^ label.astype(np.uint64)
    for f, field in enumerate(vocabulary.fields):
        if field.name in columns and field.kind != 'time':
            slots = vocabulary.encode(f, columns[field.name], '', blocks)
            total = mix(total ^ slots.astype(np.uint64))
    return total


def digest(hashes: np.ndarray) -> str:
    """Of the rows of a block, whatever their order."""
    return f'{int(hashes.sum()):016x}'


def hash_path(folder: Path, t: int) -> Path:
    return folder / 'rows' / f'{t:05d}.hashes'


def write_hashes(path: Path, hashes: np.ndarray) -> None:
    table = pa.table({'hash': _short(hashes)})
    pq.write_table(table, path, use_dictionary=False, column_encoding={'hash': 'DELTA_BINARY_PACKED'})


def _short(hashes: np.ndarray) -> np.ndarray:
    """int64 [N], ascending."""
    return np.sort(hashes >> np.uint64(64 - KEPT_BITS)).astype(np.int64)


def _others(hashes: np.ndarray, kept: np.ndarray) -> int:
    """How many rows, each counted as often as it is there, are not among those kept."""
    found, counts = np.unique(_short(hashes), return_counts=True)
    there = np.searchsorted(kept, found, side='right') - np.searchsorted(kept, found, side='left')
    return int(np.maximum(counts - there, 0).sum())
