"""Prepares the cache of a stream: encodes the blocks that it does not hold yet, the manifest last."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_jax.base import checksums
from diet_jax.base.atomic import read_json, remove, typed, write_bytes, write_json
from diet_jax.base.errors import UserError
from diet_jax.config import lists, outcomes
from diet_jax.data import bins, blocks, histories, listed, negatives, past, said, times, weights
from diet_jax.data.coded import plain_array, recoded
from diet_jax.data.fields import Field
from diet_jax.data.log import of_outcome
from diet_jax.data.vocabulary import Vocabulary

FORMAT = 2  # of the cache
FILES = ('vocabulary', 'recent', 'histories')  # keys of the manifest that name the files of what goes on


Count = Annotated[int, msgspec.Meta(ge=0, lt=2**48)]
Time = Annotated[int, msgspec.Meta(ge=-(2**62), lt=2**62)]


class BlockOfManifest(TypedDict):
    key: str
    rows: Count
    num_slots: Count
    positives: float
    encoded_bytes: Count
    raw_bytes: Count
    first_time: Time
    last_time: Time
    middle_time: NotRequired[Time]
    start: NotRequired[str]


class FieldOfManifest(TypedDict):
    name: str
    kind: str
    bounds: list[float]
    bins: NotRequired[Count]
    learned: NotRequired[list[tuple[Count, list[float]]]]
    open: NotRequired[bool]


class Manifest(TypedDict):
    """What is read of a cache's manifest.json."""

    format: int
    fields: list[FieldOfManifest]
    label: str
    group: str
    notes: list[str]
    utc_offset_hours: NotRequired[float | None]
    until: str
    fingerprint: Any
    vocabulary: str
    growth: list[list[Count]]
    blocks: Annotated[list[BlockOfManifest], msgspec.Meta(min_length=1)]
    checksums: NotRequired[dict[str, str]]
    outcomes: NotRequired[list[str]]
    weight: NotRequired[str]
    recent: NotRequired[str]
    histories: NotRequired[str]


def read_manifest(folder: Path, data: dict) -> dict | None:
    """The manifest of a cache, or None where nothing was prepared yet."""
    path = folder / 'manifest.json'
    if (manifest := read_json(path, again(folder))) is None:
        return None
    if not isinstance(manifest, dict) or manifest.get('format') not in (1, FORMAT):
        of = manifest.get('format') if isinstance(manifest, dict) else None
        raise UserError(f'{path} is of format {of}, not {FORMAT}: delete {folder}')
    typed(path, manifest, again(folder), Manifest)
    names = [field['name'] for field in manifest['fields']]
    counts = [len(manifest['blocks']), *map(len, manifest['growth'])]
    told = {len({'bins', 'learned', 'open'} & set(field)) for field in manifest['fields']}  # all three since format 2
    if (
        told - {0, 3}
        or manifest['group'] not in names
        or counts != [len(manifest['growth']), *[len(names)] * (len(counts) - 1)]
    ):
        raise checksums.Damaged(path, 'damaged (group, growth and fields do not fit)', again(folder))
    for block in manifest['blocks']:  # format 1 did not say when the middle of a block is
        middle = block.setdefault('middle_time', (block['first_time'] + block['last_time']) // 2)
        block.setdefault('start', blocks.start(block['key'], middle, data))
    return manifest


def blocks_until(manifest: dict, last: str) -> int:
    """How many of the blocks of a manifest are not after `data.until`."""
    return blocks.until([(block['key'], block['start']) for block in manifest['blocks']], last)


def manifest_fields(manifest: dict) -> tuple[Field, ...]:
    """The fields, in order."""
    return tuple(map(Field.of, manifest['fields']))


def read_vocabulary(folder: Path, manifest: dict) -> Vocabulary:
    """The vocabulary after all blocks of a manifest; UserError where its file is gone."""
    fields, growth = manifest_fields(manifest), manifest['growth']
    return read_file(folder, manifest, manifest['vocabulary'], lambda data: Vocabulary.read(data, fields, growth))


def read_file(folder: Path, manifest: dict, name: str, parse: Callable[[bytes], Any]) -> Any:
    """What `parse` makes of a file of a cache, by its path below the folder.

    Raises:
      Damaged: it is not as it was written.
    """
    data = checksums.read(folder / name, manifest.get('checksums', {}).get(name), again(folder))
    try:
        return parse(data)
    except (ValueError, LookupError, TypeError, OSError) as error:  # Arrow's are among these
        raise checksums.Damaged(folder / name, f'damaged ({type(error).__name__}: {error})', again(folder)) from error


def again(folder: Path) -> str:
    """The way out of damage."""
    return f'delete the folder {folder} to prepare the log again, if all of its files are still there'


def clean(folder: Path, blocks: int) -> None:
    """Removes what an interrupted preparation left behind the first `blocks` blocks."""
    for left in (*folder.rglob('*.part'), *(folder / 'rows').glob('*.parquet'), *(folder / 'rows').glob('*.hashes')):
        if left.suffix == '.part' or int(left.stem) >= blocks:
            remove(left)


def append(data: dict, folder: Path, manifest: dict | None, source, emit: Callable) -> dict:
    """Encodes the new blocks of a source behind the cached ones; the manifest is written last."""
    cached = list(manifest['blocks']) if manifest else []
    vocabulary, recent, before = None, None, histories.Histories(data)
    if manifest:
        vocabulary = read_vocabulary(folder, manifest)
        if data['histories']:
            read = functools.partial(histories.Histories.read, data=data)
            before = read_file(folder, manifest, manifest['histories'], read)
        if manifest.get('recent'):
            recent = read_file(folder, manifest, manifest['recent'], negatives.Clicks.read)
    (folder / 'rows').mkdir(parents=True, exist_ok=True)
    clean(folder, len(cached))
    done = list(cached)
    label_name = data['label']['column'] or 'click'
    for piece in source.new_pieces(cached, vocabulary, recent, emit):
        where = f'block {piece.key}'
        weight, positives, counted = piece.weight, int(piece.label.sum()), piece.label
        if weight is not None:
            weights.check(weight, data['weight'], where, bool(done))
            counted = counted[weight > 0]
        if counted.all() or not counted.any():
            raise UserError(
                f"{where} has {len(counted)} rows{' of some weight' * (weight is not None)}, all with '{label_name}' = "
                f'{int(counted.all())}: make blocks longer (data.block), or '
                + ('hold it back with data.until' if done else 'leave it out with data.since')
            )
        if vocabulary is None:
            vocabulary = Vocabulary(fields_of(data))
        available = {**piece.columns, **time_fields(piece.time, data)}
        columns = [_column(available, field) for field in vocabulary.fields]
        vocabulary.grow(columns, where)
        encoded = {
            field.name: vocabulary.encode(f, columns[f], where)
            for f, field in enumerate(vocabulary.fields)
            if field.kind != 'list'
        }
        encoded |= {
            name: listed.encoded(vocabulary, f, available[name], where)
            for f, name in enumerate(field.name for field in vocabulary.fields)
            if name in data['lists']
        }
        real = np.ones(len(piece.label), bool) if piece.drawn is None else ~piece.drawn.negative
        encoded |= before.encode(vocabulary, encoded, piece.time, piece.label, real, where)
        encoded['__label'] = piece.label.astype(np.int8)
        others = dict(zip(data['label']['others'], piece.others, strict=True))
        encoded |= {of_outcome(name): label.astype(np.int8) for name, label in others.items()}
        encoded['__time'] = piece.time
        if weight is not None:
            encoded['__weight'] = weight
        if piece.bayes is not None:
            encoded['__bayes'] = piece.bayes
        path = folder / 'rows' / f'{len(done):05d}.parquet'
        table = pa.table(encoded)
        write_bytes(path, lambda file, table=table: pq.write_table(table, file, compression='zstd'))
        read = np.flatnonzero(real)
        slots = {name: _hashed(encoded[name])[read] for name in piece.of_log if name in encoded}
        heavy = None if weight is None else weight[read]
        labels = [label[read] for label in (piece.label, *piece.others)]
        hashes = past.row_hashes(vocabulary, slots, piece.time[read], labels, heavy)
        source.prepared(piece, hashes)
        if piece.bayes is None:
            past.write_hashes(past.hash_path(folder, len(done)), hashes)
        done.append(
            dict(
                key=piece.key,
                rows=len(piece.label),
                num_slots=vocabulary.num_slots,
                positives=positives,
                encoded_bytes=path.stat().st_size,
                raw_bytes=piece.raw_bytes,
                digest=past.digest(hashes),
                first_time=int(piece.time.min()),
                last_time=int(piece.time.max()),
                middle_time=int(np.median(piece.time)),
                start=blocks.start(piece.key, int(np.median(piece.time)), data),
            )
        )
        if weight is not None:
            done[-1]['weight'] = float(weight.sum(dtype=np.float64))
        if others:
            done[-1]['others'] = {name: int(label.sum()) for name, label in others.items()}
        if piece.drawn is not None:
            recent = piece.drawn.recent
            done[-1]['negatives'] = piece.drawn.facts
    if not done and data['until']:
        raise UserError(f"data.until '{data['until']}' is before the first block: no block is left")
    if not done:
        raise UserError(f'data.log {" ".join(data["log"])}: not one whole block: make blocks smaller (data.block)')
    new = done[len(cached) :]
    notes = [*source.notes(), *bins.notes(vocabulary.fields, done)]
    if recent is not None:
        notes = [*notes, *negatives.notes(data, done)]
    if data['weight']:
        notes = [*notes, *weights.notes(data['weight'], done)]
    notes = [*notes, *said.others(data['label']['others'], done)]
    for note in notes:
        emit(f'data: {note}')
    if new:
        emit(f'data: {len(new)} new blocks, {new[0]["key"]} .. {new[-1]["key"]}, {vocabulary.num_slots} slots')
    else:
        emit(f'data: no block is new after {done[-1]["key"]}')
    kept = {manifest.get(key) for key in FILES} if manifest else set()
    name = f'vocabulary-{len(done):05d}.parquet'
    clicks = f'clicks-{len(done):05d}.parquet' if recent is not None else ''
    tails = f'histories-{len(done):05d}.parquet' if data['histories'] else ''
    if new:
        write_bytes(folder / name, vocabulary.write)
        if clicks:
            write_bytes(folder / clicks, recent.write)
        if tails:
            write_bytes(folder / tails, before.write)
    manifest = dict(
        format=FORMAT,
        fields=[field.plain() for field in vocabulary.fields],
        label=label_name,
        group=data['group'],
        notes=notes,
        columns=source.columns,
        log_columns=list(source.before),
        fingerprint=source.fingerprint(),
        files=source.files(done),
        utc_offset_hours=times.offset_hours(data['time']),
        until=data['until'],
        vocabulary=name,
        recent=clicks,
        growth=vocabulary.growth,
        blocks=done,
        checksums=_checksums(folder, manifest, [name, clicks, tails], emit),
        **({'histories': tails} if tails else {}),
        **({'weight': data['weight']} if data['weight'] else {}),
        **({'outcomes': names} if (names := outcomes.names_of(data)) != (label_name,) else {}),
    )
    write_json(folder / 'manifest.json', manifest, indent=None)
    for old in folder.glob('*.parquet'):
        if old.name not in (name, clicks, tails, *kept):  # who reads by the manifest of before, still may
            remove(old)
    return manifest


def _checksums(folder: Path, before: dict | None, names: list[str], emit: Callable) -> dict[str, str]:
    """{path below the folder: checksum} of all files of a cache; those of before are as they were noted then."""
    noted = (before or {}).get('checksums', {})
    there = [str(path.relative_to(folder)) for path in sorted((folder / 'rows').iterdir())] + list(filter(None, names))
    if before and not noted:
        emit(f'data: {folder} is of an earlier version, which noted no checksums: its files are taken as they are')
    return {name: noted.get(name) or checksums.of_file(folder / name) for name in there}


def _column(available: dict[str, pa.Array], field: Field) -> pa.Array | None:
    """What a block adds of a field: its numbers, or codes of its values, of lists of all of them; None of a history."""
    if field.kind == 'numeric':
        return plain_array(available[field.name])
    if field.kind == 'list':
        return recoded(listed.flat(available[field.name]).values) if field.name in available else None
    return recoded(available[field.name])


def _hashed(slots: np.ndarray | pa.ListArray) -> np.ndarray:
    return listed.hashes(slots) if isinstance(slots, pa.ListArray) else slots


def fields_of(data: dict) -> tuple[Field, ...]:
    """The fields before the first block, which know no boundaries yet."""
    return (
        *(Field(name, 'categorical') for name in data['fields']),
        *(Field(name, 'numeric', number, open=True) for name, number in data['numeric'].items()),
        *(Field(name, 'time') for name in data['time_fields']),
        *(
            Field(name, 'list', width=one['max_len'], shares=one['shares'], sequence=name, weights=one['weights'])
            for name, one in data['lists'].items()
        ),
        *_history_fields(data),
    )


def _history_fields(data: dict) -> Iterator[Field]:
    for name, one in data['histories'].items():
        for field, of in lists.history_fields(name, one).items():
            yield Field(field, 'list', width=one['max_len'], shares=of, sequence=name)
        if one['gap']:
            yield Field(lists.gap_field(name), 'list', width=one['max_len'], sequence=name)


def time_fields(time: np.ndarray, data: dict) -> dict[str, pa.Array]:
    """'hour' (0..23) and 'weekday' (0 is Monday) of local time."""
    hours = (time + times.offset_ticks(data['time'])) // (3600 * times.time_ticks(data['time']))
    found = {'hour': hours % 24, 'weekday': (hours // 24 + 3) % 7}  # 1970-01-01 was a Thursday
    return {name: pa.array(found[name]) for name in data['time_fields']}
