"""A memory, and the two blocks that it is asked about, written for models that live elsewhere (docs/elsewhere.md).

The stage is the one that `compare` asks, so a model that is trained on the export has seen neither block. What is
written is what students of this library train on: by codes and by the rows' own ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_jax.artifact.format import DEFAULT_VIEW, INIT_STD
from diet_jax.artifact.read import Artifact
from diet_jax.base.atomic import empty_folder, fill, part_of, put_folder, remove, write_json, write_text
from diet_jax.base.errors import UserError
from diet_jax.base.layout import PAD, Layout, unpacked
from diet_jax.base.plain import plain
from diet_jax.elsewhere import card, fuxictr
from diet_jax.elsewhere.export import FORMAT, LABEL, LOG, PADDING, WEIGHT, Field
from diet_jax.study import protocol
from diet_jax.study.asked import Asked, opened

PART = 1 << 20  # rows of the log that are in memory at once


class Numbering(NamedTuple):
    """How slots of the stream become numbers of a view: each field from 0, padding apart."""

    local: np.ndarray  # i32[V], of every slot
    sizes: dict[int, int]  # field that has its own numbers -> how many, that of unseen values among them
    unseen: dict[int, int]  # field -> the number of values that are not known


def export(
    memory, to, *, label: str = '', with_log: bool = False, command: str = '', emit: Callable[[str], None] = print
) -> Path:
    """Writes the folder `to`, whole or not at all. Returns it.

    Args:
      memory: folder of an artifact, in its run; label: the outcome that is predicted, '' for the main one; with_log:
        the encoded log up to the memory's last block too.
    Raises:
      UserError: `to` is there; whatever `compare` refuses of a memory.
    """
    to = Path(to)
    if to.exists():
        raise UserError(
            f'{to} is there already, with its predictions/, maybe: name another folder in --to, or delete it'
        )
    asked, part = opened([Path(memory)], emit, label), part_of(to)
    empty_folder(part)
    try:
        _fill(part, to.absolute(), asked, with_log, command, emit)
        put_folder(part, to)
    except BaseException:
        remove(part)
        raise
    return to


def digest_of(asked: Asked) -> str:
    """What an export was made of: predictions of another one are told by it."""
    checksums, grid = [artifact.manifest['checksums'] for artifact in asked.artifacts], protocol.grid_of(_e(asked))
    text = json.dumps([FORMAT, checksums, asked.log.digest, list(grid), asked.t], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def passes_of(asked: Asked) -> dict[str, int]:
    """{view that is asked for: passes over the memory}."""
    grid = protocol.grid_of(_e(asked))
    return {'codes': grid.epochs[-1], **({'ids': grid.id_epochs} if grid.by_ids else {})}


def _e(asked: Asked):
    return asked.config.evaluate


def _fill(part: Path, to: Path, asked: Asked, with_log: bool, command: str, emit) -> None:
    artifact, log, t = asked.artifacts[0], asked.log, asked.t
    slots, weight, views = artifact.slots(asked.stream), artifact.columns['weight'], {}
    for name, passes in passes_of(asked).items():
        numbering = by_codes(asked, artifact) if name == 'codes' else by_ids(asked, slots)
        label = artifact.label(DEFAULT_VIEW if name == 'codes' else 'soft')
        views[name] = {'passes': passes, 'batch': _e(asked).student_batch, **_view(asked, numbering)}
        views[name]['learning_rates'] = list(_e(asked).student_learning_rates)
        _write(part / name / 'train.parquet', [_table(asked, numbering, slots, label, weight)])
        _write_blocks(part / name, asked, numbering)
    if with_log:
        views[LOG] = _write_log(part / LOG, asked, emit)
    about = _about(asked, views, command)
    for name, view in views.items():
        of_theirs = fuxictr.feature_map(name, [Field(**f) for f in view['fields']])
        write_json(part / name / 'feature_map.json', of_theirs, sealed=False)
    for path, text in fuxictr.configs(about, to).items():
        (part / path).parent.mkdir(exist_ok=True)
        write_text(part / path, text)
    write_text(part / 'README.md', card.text(about))
    files = sorted(path for path in part.rglob('*.parquet'))
    about['checksums'] = {str(path.relative_to(part)): _checksum(path) for path in files}
    write_json(part / 'export.json', about)
    emit(
        f'{len(slots):,} rows of {asked.folders[0]} stand for {log.rows_of_pass(t):,}, up to {log.keys[t - 1]}; '
        f'learning rates are chosen on {log.keys[t]} ({log.sizes[t]:,} rows), '
        f'{log.keys[t + 1]} ({log.sizes[t + 1]:,}) is scored'
    )


def _about(asked: Asked, views: dict, command: str) -> dict:
    """export.json, but for the checksums."""
    log, t, manifest, grid = asked.log, asked.t, asked.artifacts[0].manifest, protocol.grid_of(_e(asked))
    return {
        'format': FORMAT,
        'digest': digest_of(asked),
        'command': command,
        'memory': str(asked.folders[0]),
        'stage': t,
        'last_block': manifest['last_block'],
        'tuned_on': log.keys[t],
        'scored_on': log.keys[t + 1],
        'rows': {
            'train': manifest['rows'],
            'valid': log.sizes[t],
            'test': log.sizes[t + 1],
            'log': log.rows_of_pass(t),
        },
        'budgets': manifest['budgets'],
        'versions': manifest['versions'],
        'label': log.outcomes[0],
        'roles': plain(asked.config.roles),
        'weighted': asked.log.weights is not None,
        'seeds': list(grid.seeds),
        'optimizer': 'adam',
        'init_std': INIT_STD,
        'dim': _e(asked).dim,
        # Order is by the sum over views of weight times AUC, level by the codes alone.
        'weights': {'codes': 1 - grid.by_ids, 'ids': grid.by_ids} if grid.by_ids else {'codes': 1},
        'views': views,
    }


def by_codes(asked: Asked, artifact: Artifact) -> Numbering:
    """The memory's codes."""
    layout, coded = asked.stream.layout, [*artifact.fields, *(f for f in artifact.lists if not f.shares)]
    field = {layout.names.index(f.name): f for f in coded}
    start = dict(zip((layout.names.index(f.name) for f in coded), np.cumsum([0, *(f.codes for f in coded)]).tolist()))
    owner = asked.stream.field_of_slot(asked.stream.num_slots)
    starts = np.array([start.get(f, 0) for f in range(len(layout.names))], np.int32)
    return Numbering(
        local=artifact.code_of_slots(asked.stream) - starts[owner],
        sizes={f: one.codes for f, one in field.items()},
        unseen={f: one.unseen_code for f, one in field.items()},
    )


def by_ids(asked: Asked, slots: np.ndarray) -> Numbering:
    """The values of the memory's own rows, i32[M, W]; all others share a number, which no training row has."""
    return _numbered(asked, np.unique(slots[slots >= 0]), others=True)


def by_log(asked: Asked) -> Numbering:
    """All values up to the memory's last block; those of later blocks come as unseen."""
    return _numbered(asked, np.arange(asked.log.num_slots[asked.t - 1]), others=False)


def _numbered(asked: Asked, known: np.ndarray, others: bool) -> Numbering:
    layout, owner = asked.stream.layout, asked.stream.field_of_slot(asked.stream.num_slots)
    local, sizes, unseen = np.zeros(len(owner), np.int32), {}, {}
    for f in sorted(set(layout.owners)):
        own = known[owner[known] == f]
        local[owner == f] = unseen[f] = len(own) if others else int(np.searchsorted(own, 2 * f + 1))
        local[own] = np.arange(len(own))
        sizes[f] = len(own) + others
    return Numbering(local, sizes, unseen)


def _firsts(layout: Layout) -> np.ndarray:
    """i32[F]: the first code of every field, 1 where lists have its numbers."""
    padded = {layout.owners[f] for f in layout.lists}
    return np.array([int(owner in padded) for owner in layout.owners], np.int32)


def _view(asked: Asked, numbering: Numbering) -> dict:
    """What export.json says of a view's fields."""
    layout, first, found = asked.stream.layout, _firsts(asked.stream.layout), []
    for f, field in enumerate(asked.stream.fields):
        owner = layout.owners[f]
        one = Field(
            name=field.name,
            kind=field.kind,
            size=numbering.sizes[owner] + int(first[f]),
            first=int(first[f]),
            unseen=numbering.unseen[owner] + int(first[f]),
            shares='' if owner == f else layout.names[owner],
            width=layout.widths[f],
            sequence=layout.sequences[f],
            weights=field.weights,
        )
        found.append(one._asdict())
    return {'fields': found}


def _table(asked: Asked, numbering: Numbering, slots, label, weight) -> pa.Table:
    """Rows, slots i32[N, W], as they are written."""
    layout = asked.stream.layout
    first, columns = _firsts(layout), {}
    for f, name in enumerate(layout.names):
        part = slots[:, layout.at(f)]
        part = np.where(part == PAD, PADDING, numbering.local[part] + first[f]).astype(np.int32)
        flat = pa.array(part.reshape(-1))
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, layout.widths[f]) if f in layout.lists else flat
    for f in layout.weighted:
        flat = pa.array(unpacked(slots[:, layout.weights_at(f)]).reshape(-1))
        columns[asked.stream.fields[f].weights] = pa.FixedSizeListArray.from_arrays(flat, layout.widths[f])
    weight = np.ones(len(slots)) if weight is None else weight
    return pa.table({**columns, LABEL: np.float32(label), WEIGHT: np.asarray(weight, np.float32)})


def _write_blocks(folder: Path, asked: Asked, numbering: Numbering, name: str = '') -> None:
    """The blocks that the learning rate is chosen on, and that is scored; values that are new to them are unseen."""
    log, t = asked.log, asked.t
    for split, block in (('valid', t), ('test', t + 1)):
        rows = log.ids(block, log.num_slots[t - 1])[: log.sizes[block]]
        _write(
            folder / f'{split}{name}.parquet',
            [_table(asked, numbering, rows, log.labels[block], log.weight(block))],
        )


def _write_log(folder: Path, asked: Asked, emit) -> dict:
    """The log by its own ids, block after block."""
    numbering, e = by_log(asked), _e(asked)
    for block in range(asked.t):
        _write(folder / 'train' / f'{block:05d}.parquet', _parts(asked, numbering, block))
        emit(f'the log: block {asked.log.keys[block]}, {block + 1} of {asked.t}')
    _write_blocks(folder, asked, numbering, '/00000')
    return {'passes': 1, 'batch': e.batch, 'learning_rates': list(e.learning_rates), **_view(asked, numbering)}


def _parts(asked: Asked, numbering: Numbering, block: int) -> Iterator[pa.Table]:
    rows = asked.stream.blocks[block].rows
    for begin in range(0, rows, PART):
        part = asked.stream.load(block, begin, min(begin + PART, rows))
        label = dict(zip(asked.stream.outcome_names, (part.label, *part.others)))[asked.log.outcomes[0]]
        yield _table(asked, numbering, part.ids, label, part.weight)


def _write(path: Path, tables) -> None:
    """Parquet that old readers read too: no newer encodings."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(file):
        writer = None
        for table in tables:
            writer = writer or pq.ParquetWriter(file, table.schema, compression='snappy')
            writer.write_table(table)
        writer.close()

    fill(path, write)


def _checksum(path: Path) -> str:
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
