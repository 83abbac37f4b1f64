"""Writing a memory: a folder that a reader finds whole or not at all."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ml_collections import ConfigDict

from diet_jax import __version__
from diet_jax.artifact import card
from diet_jax.artifact.format import DEFAULT_VIEW, ENCODING, FORMAT, INIT_STD, VIEWS, WEEKDAY, CodedField, label_column
from diet_jax.base.atomic import empty_folder, fill, put_folder, write_json, write_text
from diet_jax.base.layout import PAD, unpacked
from diet_jax.base.loading import absolute
from diet_jax.base.plain import plain
from diet_jax.config.data import check_data


def write_artifact(
    folder,
    memory,
    book,
    stream,
    *,
    others: Mapping[str, Any] | None = None,
    source: ConfigDict,
    stage: int,
    seed: int,
    encoded_bytes: int,
    raw_bytes: int,
    rows_seen: int,
) -> dict:
    """Writes the artifact of one stage, replacing an older one at the same place only when it is whole.

    Args:
      folder: where; memory, book: `Memory` and `Codebook` (arrays); stream: the `EncodedStream`.
      others: {name: the labels of another outcome, as they stand in `Memory`}.
      source: the config of the run: how its log is read and encoded, and how students are to be trained.
      stage: stages done, its last block is stream.blocks[stage - 1]; encoded_bytes, raw_bytes, rows_seen: of the
      stream up to that block, for the budgets.
    Returns: the manifest.
    Raises:
      UserError: a `source.data` that does not check.
    """
    folder, meant = Path(folder), _meant(source, stream.utc_offset_hours)
    part = folder.with_name(folder.name + '.part')
    empty_folder(part)
    (part / 'codebook').mkdir()
    memory = type(memory)(*(np.asarray(x) for x in memory))
    info = stream.blocks[stage - 1]
    valid = int(memory.valid.sum())
    code = np.asarray(book.code)
    frequency = np.asarray(book.frequency)
    per_field = book.centroids.shape[1]
    owner = stream.field_of_slot(info.num_slots)

    fields, columns, tables, layout, of_field = [], {}, {}, stream.layout, {}
    for f, field in enumerate(stream.fields):
        if field.shares:
            like, slots, local = of_field[layout.owners[f]]
            fields.append(like._replace(**_list(field)))
        else:
            slots = np.flatnonzero(owner == f)
            local, missing, unseen, used = _local_codes(field, slots, code, frequency, f, per_field)
            bounds = field.after(stage).bounds
            fields.append(CodedField(field.name, field.kind, int(used), bounds, int(missing), int(unseen)))
            if field.kind == 'list':
                fields[-1] = fields[-1]._replace(**_list(field))
            of_field[f] = fields[-1], slots, local
        column = memory.ids[:valid, layout.at(f)]
        there = column != PAD
        values = stream.values(column[there])
        codes = pa.array(local[np.searchsorted(slots, column[there])], pa.int32())
        if field.kind == 'list':
            ends = pa.array(np.append(0, np.cumsum(there.sum(1))), pa.int32())
            values, codes = (pa.ListArray.from_arrays(ends, x) for x in (values, codes))
            if field.weights:
                weights = unpacked(memory.ids[:valid, layout.weights_at(f)])[there]
                columns[field.weights] = pa.ListArray.from_arrays(ends, pa.array(weights))
        columns[field.name], columns[f'{field.name}__code'] = values, codes
        if field.shares:
            continue
        seen = slots[(frequency[slots] > 0) & (slots != 2 * f)]
        kind = values.type.value_type if field.kind == 'list' else values.type
        values = stream.values(seen) if len(seen) else pa.array([], kind)
        order = pc.sort_indices(values)
        values, codes = values.take(order), local[np.searchsorted(slots, seen)][order.to_numpy()]
        tables[field.name] = pa.table(
            {
                'value': pa.concat_arrays([values, pa.nulls(1, values.type)]),
                'code': pa.array(np.append(codes, unseen), pa.int32()),
            }
        )
    numbers = {
        **_labels(memory),
        'count': memory.count,
        'weight': memory.valid,  # every entry is one row: weights did not pay (docs/results/choices.md)
        'influence': memory.influence,
    }
    for outcome, labels in (others or {}).items():
        numbers |= {label_column(name, outcome): values for name, values in _labels(labels).items()}
    for name, values in numbers.items():
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
        'outcomes': list(stream.outcome_names),
        'group': stream.fields[stream.group_field].name,
        'fields': [f._asdict() for f in fields],
        'views': VIEWS,
        **meant,
        'budgets': {
            'rows': valid / rows_seen,
            'bytes': size,
            'encoded_bytes': encoded_bytes,
            'raw_bytes': raw_bytes,
            'bytes_of_encoded': size / encoded_bytes,
            'bytes_of_raw': size / raw_bytes if raw_bytes else None,
        },
        'seed': seed,
        'versions': {
            'python': platform.python_version(),
            'diet-jax': __version__,
            **{p: version(p) for p in ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'pyarrow')},
        },
        'checksums': {str(p.relative_to(part)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
    }
    write_text(part / 'README.md', card.text(manifest))
    write_json(part / 'manifest.json', manifest)
    put_folder(part, folder)
    return manifest


def _meant(config: ConfigDict, utc_offset_hours: float) -> dict:
    """What a reader of the files alone must know: how a log becomes codes, and how students are meant to be trained."""
    data, evaluate = check_data(config.data), config.evaluate
    data['root'] = absolute(data['root'])
    if data['time']['utc_offset_hours'] is None:  # the log's own
        data['time']['utc_offset_hours'] = utc_offset_hours
    students = {
        'batch': evaluate.student_batch,
        'epochs': evaluate.epochs,
        'learning_rates': evaluate.student_learning_rates,
        'id_epochs': evaluate.id_epochs,
        'by_ids': evaluate.by_ids,
        'init_std': INIT_STD,
        'optimizer': 'adam',
        'label': DEFAULT_VIEW,
    }
    kept = {key: data[key] for key in ENCODING}
    kept |= {key: data[key] for key in ('first_value', 'lists', 'histories', 'weight') if data[key]}
    return plain({'data': kept, 'roles': config.roles, 'weekday': WEEKDAY, 'students': students})


def _labels(memory) -> dict[str, np.ndarray]:
    """The labels of the entries by one outcome."""
    soft = 1.0 / (1.0 + np.exp(-np.asarray(memory.soft_logit).astype(np.float64)))
    return {'soft_label': soft, **{name: np.asarray(getattr(memory, name)) for name in ('mean_label', 'hard_label')}}


def _list(field) -> dict:
    """What a list's `CodedField` says beside its codes."""
    return {key: getattr(field, key) for key in ('name', 'kind', 'width', 'shares', 'sequence', 'weights')}


def _local_codes(field, slots, code, frequency, f, per_field):
    """Codes of a field's slots, numbered from 0 without holes.

    A numeric field keeps its bin as its code: bins first, then MISSING; not where it has come to more bins than codes,
    and its bins are clustered as ids are. -> (i32[n], missing, unseen, number of codes)
    """
    raw = code[slots] - f * per_field
    first = slots[frequency[slots] > 0]
    bins = len(slots) - 2
    if field.kind == 'numeric' and len(slots) <= per_field:
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
    how = dict(
        compression='zstd',
        compression_level=12,
        use_dictionary=dictionary,
        column_encoding=encodings or None,
        write_statistics=False,
        store_schema=True,
    )
    fill(path, lambda file: pq.write_table(table, file, **how))
