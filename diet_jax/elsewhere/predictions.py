"""Predictions of a model that lives elsewhere: a Parquet file a candidate.

Columns `view` and `split` (text), `lr` (f64), `seed`, `row` (i32), `prediction` (f32, a probability): of every view of
the export, every learning rate and seed, all rows of 'valid' and of 'test', in any order. The schema's metadata says
whose they are: `digest` of the export, `name` of the candidate, its `framework`, and `seconds` of one training on all
views, where that is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from diet_jax.base.atomic import remove, rename, write_bytes
from diet_jax.base.errors import UserError
from diet_jax.elsewhere.export import SPLITS, Export

SCHEMA = pa.schema(
    [
        ('view', pa.dictionary(pa.int32(), pa.string())),
        ('split', pa.dictionary(pa.int32(), pa.string())),
        ('lr', pa.float64()),
        ('seed', pa.int32()),
        ('row', pa.int32()),
        ('prediction', pa.float32()),
    ]
)
PREDICTED = SPLITS[1:]
AGAIN = 'write the file again (diet_jax.elsewhere.grid, or write_predictions)'


class Predictions(NamedTuple):
    """A candidate's file, read and found right."""

    name: str
    framework: str
    lrs: dict[str, tuple[float, ...]]  # view -> the learning rates that it was trained with
    by_split: dict[tuple[str, str], np.ndarray]  # (view, split) -> f32[L, S, N], probabilities
    seconds: float  # of one training, nan where nobody said
    source: str  # digest of the program that wrote it, '' where nobody said


def write_predictions(
    export: Export,
    name: str,
    predictions: Mapping,
    *,
    framework: str = 'elsewhere',
    seconds: float | None = None,
    source: str = '',
) -> Path:
    """Writes a candidate's predictions from arrays, into the export's `predictions/`.

    Args:
      name: of the candidate, and of the file; predictions: {(view, split, lr, seed): f32[N], probabilities in the order
        of the split's rows}, of every view and both splits 'valid' and 'test'.
      framework: candidates of one are taken to err alike; seconds: that one training took, on all views; source: a
        digest of the program.
    Raises:
      UserError: a name that is no file's; what `compare` would refuse.

    >>> write_predictions(export, 'wide', {('codes', 'valid', 1e-3, 0): p, ...})  # doctest: +SKIP
    """
    path = path_of(export, name)
    said = {'digest': export.digest, 'name': name, 'framework': framework, 'source': source}
    if seconds is not None:
        said['seconds'] = repr(float(seconds))
    path.parent.mkdir(exist_ok=True)

    def write(file):
        with pq.ParquetWriter(file, SCHEMA.with_metadata(said), compression='zstd') as writer:
            for point, values in predictions.items():
                writer.write_table(_table(*point, values).replace_schema_metadata(said))

    check = path.with_name(f'{path.name}.unchecked')
    write_bytes(check, write)
    try:
        read_predictions(check, export.asked, export.sizes, export.digest, seeds=len(export.about['seeds']))
    except UserError:
        remove(check)
        raise
    rename(check, path)
    return path


def path_of(export: Export, name: str) -> Path:
    """The file of a candidate. Raises UserError if its name cannot be a file's."""
    if not isinstance(name, str) or not re.fullmatch(r'[^\s./\\-][^/\\\n\r\0]*', name):
        raise UserError(f'candidate {name!r}: it becomes a file: no / or \\, a letter or digit first')
    return export.folder / 'predictions' / f'{name}.parquet'


def _table(view: str, split: str, lr: float, seed: int, prediction) -> pa.Table:
    """One training's predictions of a split, as rows of the file."""
    prediction = np.asarray(prediction, np.float32).reshape(-1)
    n = len(prediction)
    of = lambda text: pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([text]))  # noqa: E731
    columns = [of(view), of(split), np.full(n, lr), np.full(n, seed, np.int32), np.arange(n, dtype=np.int32)]
    return pa.Table.from_arrays([*map(pa.array, columns), pa.array(prediction)], schema=SCHEMA)


def read_predictions(path: Path, views: Sequence[str], sizes: Mapping[str, int], digest: str, seeds: int):
    """Reads a file of predictions and checks that nothing is missing.

    Args: views: that are asked for; sizes: {split: rows}; digest: of the export; seeds: of every learning rate.
    Returns: `Predictions`.
    Raises:
      UserError: of another export; not Parquet; a column, a view, a seed or rows missing, or too many; a prediction
        that is no probability.
    """
    with _opened(path) as file:
        said = _said(path, file.schema_arrow, digest)
        lrs, of_seed = _points(path, file, views, sizes, seeds)
        shape = {view: (len(rates), seeds) for view, rates in lrs.items()}
        found = {(v, s): np.full((*shape[v], sizes[s]), np.nan, np.float32) for v in views for s in PREDICTED}
        for batch in file.iter_batches(columns=SCHEMA.names):
            _fill(path, found, lrs, of_seed, pa.table(batch))
    for (view, split), values in found.items():
        if np.isnan(values).any():
            row = int(np.argwhere(np.isnan(values))[0][-1])
            raise UserError(f'{path}: row {row} of {split} is missing in {view}, and another is there twice: {AGAIN}')
    if all(((values == 0) | (values == 1)).all() for values in found.values()):
        raise UserError(f'{path}: every prediction is 0 or 1, a class: probabilities are needed (predict_proba)')
    return Predictions(
        name=said['name'],
        framework=said.get('framework', 'elsewhere'),
        lrs=lrs,
        by_split=found,
        seconds=float(said.get('seconds', 'nan')),
        source=said.get('source', ''),
    )


def _opened(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f'{path} is not a Parquet file ({error}): {AGAIN}') from error
    if missing := [name for name in SCHEMA.names if name not in file.schema_arrow.names]:
        file.close()
        raise UserError(f'{path}: no column {missing[0]}; it needs {", ".join(SCHEMA.names)}: {AGAIN}')
    return file


def _said(path: Path, schema: pa.Schema, digest: str) -> dict[str, str]:
    """The metadata of a file, checked."""
    said = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items() if key != b'ARROW:schema'}
    if not {'digest', 'name'} <= said.keys():
        raise UserError(f'{path}: the metadata of its schema names no export and no candidate: {AGAIN}')
    if said['digest'] != digest:
        raise UserError(
            f'{path} is of another export ({said["digest"]}, this is {digest}): export this memory and train on that'
        )
    return said


def _points(path: Path, file: pq.ParquetFile, views, sizes, seeds: int) -> tuple[dict, np.ndarray]:
    """({view: learning rates}, seeds), if every view has all of its points, with as many rows as they should have."""
    keys = SCHEMA.names[:4]
    table = file.read(columns=keys)
    table = pa.table({key: _plain(table[key], key) for key in keys})
    counts = {tuple(row[k] for k in keys): row['lr_count'] for row in _counted(table, keys)}
    for view in sorted({view for view, *_ in counts} - set(views)):
        raise UserError(f"{path}: there is no view '{view}' in this export, which has {' and '.join(views)}: {AGAIN}")
    lrs = {view: tuple(sorted({lr for v, _, lr, _ in counts if v == view})) for view in views}
    drawn = np.array(sorted({seed for *_, seed in counts}), np.int64)
    for view in views:
        if not lrs[view]:
            there = ' and '.join(sorted({v for v, *_ in counts})) or 'nothing'
            raise UserError(f"{path} has {there}, and no predictions of '{view}': train on both views")
    if len(drawn) != seeds:
        raise UserError(f'{path} has {len(drawn)} seeds ({drawn.tolist()}), {seeds} are needed: {AGAIN}')
    for view in views:
        for point in [(view, split, lr, seed) for split in sizes for lr in lrs[view] for seed in drawn.tolist()]:
            if counts.pop(point, 0) != sizes[point[1]]:
                where = f'of {view} at lr {point[2]:g}, seed {point[3]}'
                raise UserError(
                    f'{path}: {point[1]} {where} must have {sizes[point[1]]:,} rows, no more or less: {AGAIN}'
                )
    for view, split, *_ in counts:
        raise UserError(f"{path}: '{split}' of {view} is not asked for: predict {' and '.join(sizes)}")
    return lrs, drawn


def _plain(column: pa.ChunkedArray, key: str) -> pa.ChunkedArray:
    return column.cast(pa.string() if key in ('view', 'split') else SCHEMA.field(key).type)


def _counted(table: pa.Table, keys) -> list[dict]:
    return table.group_by(keys).aggregate([('lr', 'count')]).to_pylist()


def _fill(path: Path, found: dict, lrs: dict, seeds: np.ndarray, batch: pa.Table) -> None:
    """Puts a part of a file in its places."""
    value, row = batch['prediction'].to_numpy(), batch['row'].to_numpy()
    if len(bad := np.flatnonzero(~((value >= 0) & (value <= 1)))):
        raise UserError(
            f'{path}: prediction {value[bad[0]]:g} of row {row[bad[0]]} is no probability from 0 to 1: apply the '
            'sigmoid to logits, leave out learning rates at which training diverges'
        )
    seed = np.searchsorted(seeds, batch['seed'].to_numpy())
    view, split = (_plain(batch[key], key) for key in ('view', 'split'))
    for (v, s), values in found.items():
        here = pc.and_(pc.equal(view, v), pc.equal(split, s)).to_numpy()
        if here.any():
            if row[here].min() < 0 or row[here].max() >= values.shape[-1]:
                raise UserError(f'{path}: rows of {s} are 0 to {values.shape[-1] - 1:,}, here is {row[here].max():,}')
            lr = np.searchsorted(lrs[v], batch['lr'].to_numpy()[here])
            values[lr, seed[here], row[here]] = value[here]
