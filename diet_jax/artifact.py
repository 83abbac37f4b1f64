"""The memory on disk: plain Parquet and JSON that any program can read (format: docs/format.md).

    rows.parquet            one row an entry: the log's own values, codes, labels, weight
    codebook/<field>.parquet    value -> code; the row with a null value is the code of unseen values
    manifest.json           fields, budgets, seed, versions, checksums

A folder is written beside its place and renamed, so a reader sees a whole artifact or none.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from diet_jax.disk import replace_folder
from diet_jax.errors import UserError

FORMAT = 2
# What a student may train on: the mean of these columns. The teacher's label keeps the level, the mean click of the log
# rows an entry stands for keeps the order (docs/results/fidelity.md).
VIEWS = {
    'blend': ('soft_label', 'mean_label'),
    'soft': ('soft_label',),
    'mean': ('mean_label',),
    'hard': ('hard_label',),
}
DEFAULT_VIEW = 'blend'


class CodedField(NamedTuple):
    name: str
    kind: str  # 'categorical' | 'numeric' | 'time'
    codes: int  # codes are 0 .. codes - 1
    bounds: tuple[float, ...]  # numeric: bin b holds bounds[b-1] <= x < bounds[b]
    missing_code: int  # of rows in which the log has no value
    unseen_code: int  # of values that are not in the codebook


class Artifact(NamedTuple):
    """A memory as read from its folder."""

    manifest: dict
    fields: tuple[CodedField, ...]
    codes: np.ndarray  # i32[M, F], code within the field
    columns: dict  # name -> f32[M]: soft_label, mean_label, hard_label, count, weight, influence, stage
    codebook: dict  # field -> (values pa.Array, codes i32[n]), without the null row
    values: dict  # field -> pa.Array [M], the log's own values

    def offsets(self) -> np.ndarray:
        """i32[F]: add to a field's codes for their rows in one table; `num_codes` rows in all."""
        return np.cumsum([0] + [f.codes for f in self.fields[:-1]]).astype(np.int32)

    def label(self, view: str = DEFAULT_VIEW) -> np.ndarray:
        """f32[M]: what a student trains on."""
        return np.mean([self.columns[name] for name in VIEWS[view]], 0, dtype=np.float32)

    @property
    def num_codes(self) -> int:
        return sum(f.codes for f in self.fields)

    def code_of_slots(self, stream) -> np.ndarray:
        """i32[V]: the table row of every slot of an encoded stream; values not in the codebook get the unseen code."""
        owner = stream.field_of_slot(stream.num_slots)
        table = np.zeros(stream.num_slots, np.int32)
        for f, (field, offset) in enumerate(zip(self.fields, self.offsets())):
            slots = np.flatnonzero(owner == f)
            values, codes = self.codebook[field.name]
            found = pc.index_in(stream.values(slots), value_set=values)
            known = found.is_valid().to_numpy(zero_copy_only=False)
            found = found.fill_null(0).to_numpy()
            table[slots] = np.where(known, codes[found] if len(codes) else 0, field.unseen_code) + offset
            table[2 * f] = field.missing_code + offset
        return table

    def slots(self, stream) -> np.ndarray:
        """i32[M, F]: the rows in the slots of an encoded stream."""
        owner, columns = stream.field_of_slot(stream.num_slots), []
        for f, field in enumerate(self.fields):
            slots = np.flatnonzero(owner == f)
            found = pc.index_in(self.values[field.name], value_set=stream.values(slots), skip_nulls=True)
            columns.append(slots[found.fill_null(0).to_numpy()])  # null is the field's first slot, MISSING
        return np.stack(columns, 1).astype(np.int32)


def write_artifact(
    folder,
    memory,
    book,
    stream,
    *,
    stage: int,
    seed: int,
    encoded_bytes: int,
    raw_bytes: int,
    rows_seen: int,
) -> dict:
    """Writes the artifact of one stage, replacing an older one at the same place only when it is whole.

    Args:
      folder: where; memory, book: `Memory` and `Codebook` (arrays); stream: the `EncodedStream`.
      stage: stages done, its last block is stream.blocks[stage - 1]; encoded_bytes, raw_bytes, rows_seen: of the
      stream up to that block, for the budgets.
    Returns: the manifest.
    """
    folder = Path(folder)
    part = folder.with_name(folder.name + '.part')
    shutil.rmtree(part, ignore_errors=True)
    (part / 'codebook').mkdir(parents=True)
    memory = type(memory)(*(np.asarray(x) for x in memory))
    info = stream.blocks[stage - 1]
    valid = int(memory.valid.sum())
    code = np.asarray(book.code)
    frequency = np.asarray(book.frequency)
    per_field = book.centroids.shape[1]
    owner = stream.field_of_slot(info.num_slots)

    fields, columns, tables = [], {}, {}
    for f, field in enumerate(stream.fields):
        slots = np.flatnonzero(owner == f)
        local, missing, unseen, used = _local_codes(field, slots, code, frequency, f, per_field)
        column = memory.ids[:valid, f]
        columns[field.name] = stream.values(column)
        position = np.searchsorted(slots, column)
        columns[f'{field.name}__code'] = pa.array(local[position], pa.int32())
        seen = slots[(frequency[slots] > 0) & (slots != 2 * f)]
        values = stream.values(seen) if len(seen) else pa.array([], columns[field.name].type)
        order = pc.sort_indices(values)
        values, codes = values.take(order), local[np.searchsorted(slots, seen)][order.to_numpy()]
        tables[field.name] = pa.table(
            {
                'value': pa.concat_arrays([values, pa.nulls(1, values.type)]),
                'code': pa.array(np.append(codes, unseen), pa.int32()),
            }
        )
        fields.append(CodedField(field.name, field.kind, int(used), tuple(field.bounds), int(missing), int(unseen)))
    soft = 1.0 / (1.0 + np.exp(-memory.soft_logit.astype(np.float64)))
    for name, values in (
        ('soft_label', soft),
        ('mean_label', memory.mean_label),
        ('hard_label', memory.hard_label),
        ('count', memory.count),
        ('weight', memory.valid),  # every entry is one row: weights did not pay (docs/results/fidelity.md)
        ('influence', memory.influence),
    ):
        columns[name] = pa.array(values[:valid].astype(np.float32))
    columns['stage'] = pa.array(memory.stage[:valid], pa.int32())

    _write_parquet(pa.table(columns), part / 'rows.parquet')
    for name, table in tables.items():
        _write_parquet(table, part / 'codebook' / f'{name}.parquet')
    files = sorted(p for p in part.rglob('*.parquet'))
    size = sum(p.stat().st_size for p in files)
    manifest = {
        'format': FORMAT,
        'stage': stage,
        'last_block': info.key,
        'rows': valid,
        'rows_seen': rows_seen,
        'label': stream.label,
        'group': stream.fields[stream.group_field].name,
        'fields': [f._asdict() for f in fields],
        'views': VIEWS,
        'budgets': {
            'rows': valid / rows_seen,
            'bytes': size,
            'encoded_bytes': encoded_bytes,
            'raw_bytes': raw_bytes,
            'bytes_of_encoded': size / encoded_bytes,
            'bytes_of_raw': size / raw_bytes if raw_bytes else None,
        },
        'seed': seed,
        'versions': {p: version(p) for p in ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'pyarrow')},
        'checksums': {str(p.relative_to(part)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
    }
    (part / 'manifest.json').write_text(json.dumps(manifest, indent=1))
    replace_folder(part, folder)
    return manifest


def read_manifest(folder) -> dict:
    """Reads the manifest of an artifact.

    Raises:
      UserError: no artifact there, or another format version.
    """
    path = Path(folder) / 'manifest.json'
    if not path.exists():
        raise UserError(f'{path} is missing: {folder} is not a memory; scripts/distill.py writes one')
    try:
        manifest = json.loads(path.read_text())
        version_ = manifest.get('format')
    except (ValueError, AttributeError) as error:
        raise UserError(f'{path} does not parse ({error}): distill again') from error
    if version_ != FORMAT:
        raise UserError(
            f'{path} is of format {version_}, this version reads {FORMAT}: distill again in another --workdir, or '
            'read it with the version of diet-jax that wrote it'
        )
    return manifest


def load_artifact(folder) -> Artifact:
    """Reads and checks an artifact.

    Raises:
      UserError: no artifact there, another format version, or a file that is missing or not as written.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, digest in manifest['checksums'].items():
        if not (folder / name).exists() or hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise UserError(f'{folder / name} is missing or not as it was written (checksum): copy or distill it again')
    fields = tuple(CodedField(**{**f, 'bounds': tuple(f['bounds'])}) for f in manifest['fields'])
    table = pq.read_table(folder / 'rows.parquet')
    codes = np.stack([table[f'{f.name}__code'].to_numpy() for f in fields], axis=1).astype(np.int32)
    names = ('soft_label', 'mean_label', 'hard_label', 'count', 'weight', 'influence', 'stage')
    codebook = {}
    for f in fields:
        t = pq.read_table(folder / 'codebook' / f'{f.name}.parquet').combine_chunks()
        known = t.filter(pc.is_valid(t['value'])).combine_chunks()
        codebook[f.name] = (known['value'].combine_chunks(), known['code'].to_numpy())
    values = {f.name: table[f.name].combine_chunks() for f in fields}
    return Artifact(manifest, fields, codes, {n: table[n].to_numpy() for n in names}, codebook, values)


def _local_codes(field, slots, code, frequency, f, per_field):
    """Codes of a field's slots, numbered from 0 without holes.

    A numeric field keeps its bin as its code: bins first, then MISSING. -> (i32[n], missing, unseen, number of codes)
    """
    raw = code[slots] - f * per_field
    first = slots[frequency[slots] > 0]
    bins = len(slots) - 2
    if field.kind == 'numeric':
        names = np.r_[np.full(2, bins), np.arange(bins)]  # position in the field -> new code
        renamed = names[raw]
        return renamed.astype(np.int32), int(bins), int(renamed[1]), bins + 1
    used = np.unique(raw[frequency[slots] > 0]) if len(first) else np.array([0])
    renamed = np.clip(np.searchsorted(used, raw), 0, len(used) - 1)
    missing = renamed[0] if frequency[slots[0]] > 0 else renamed[1]
    return renamed.astype(np.int32), int(missing), int(renamed[1]), len(used)


def _write_parquet(table: pa.Table, path: Path) -> None:
    """zstd; sorted integers as deltas, floats by byte streams: about half the bytes of the defaults."""
    encodings, dictionary = {}, []
    for field in table.schema:
        if pa.types.is_floating(field.type):
            encodings[field.name] = 'BYTE_STREAM_SPLIT'
        elif pa.types.is_int64(field.type) and field.name == 'value':
            encodings[field.name] = 'DELTA_BINARY_PACKED'
        else:
            dictionary.append(field.name)
    pq.write_table(
        table,
        path,
        compression='zstd',
        compression_level=12,
        use_dictionary=dictionary,
        column_encoding=encodings or None,
        write_statistics=False,
        store_schema=True,
    )
