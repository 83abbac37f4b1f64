"""Prepares the cache of a stream: encodes the blocks that it does not hold yet, the manifest last."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_jax.base.errors import UserError, closest
from diet_jax.config.data import Simulated
from diet_jax.data import bins, blocks, files, negatives, past, raw_log, tables, values
from diet_jax.data.fields import Field
from diet_jax.data.simulated import block_key, simulate_block
from diet_jax.data.vocabulary import Vocabulary

FORMAT = 2  # of the cache


def read_manifest(folder: Path, data: dict) -> dict | None:
    """The manifest of a cache, or None where nothing was prepared yet."""
    path = folder / 'manifest.json'
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f'{path} does not parse ({error}): delete {folder} to prepare the log again') from error
    if manifest.get('format') not in (1, FORMAT):
        raise UserError(f'{path} is of format {manifest.get("format")}, not {FORMAT}: delete {folder}')
    for block in manifest['blocks']:  # format 1 did not say when the middle of a block is
        middle = block.setdefault('middle_time', (block['first_time'] + block['last_time']) // 2)
        block.setdefault('start', _start(block['key'], middle, data))
    return manifest


def blocks_until(manifest: dict, last: str) -> int:
    """How many of the blocks of a manifest are not after `data.until`."""
    return blocks.until([(block['key'], block['start']) for block in manifest['blocks']], last)


def manifest_fields(manifest: dict) -> tuple[Field, ...]:
    """The fields, in order."""
    return tuple(map(Field.of, manifest['fields']))


def read_vocabulary(folder: Path, manifest: dict) -> Vocabulary:
    """The vocabulary after all blocks of a manifest; UserError where its file is gone."""
    path = folder / manifest['vocabulary']
    if not path.exists():
        raise UserError(f'{path} is missing: delete the folder {folder} to prepare the log again')
    return Vocabulary.read(path, manifest_fields(manifest), manifest['growth'])


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Writes a file beside its place and renames it, so that no reader ever sees a part of it."""
    part = path.with_name(path.name + '.part')
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class Piece(NamedTuple):
    """One block before it is encoded."""

    key: str
    columns: dict[str, pa.Array]  # every field but the time fields
    time: np.ndarray  # int64 [N]
    label: np.ndarray  # float32 [N]
    bayes: np.ndarray | None  # float32 [N]
    raw_bytes: int
    of_log: tuple[str, ...]  # those of the columns that are the log's own
    drawn: negatives.Drawn | None = None  # where the log is one of clicks; its negatives are among the rows


class SimulatedSource:
    """The simulated stream as a source of blocks."""

    columns: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, data: dict):
        self.parameters = Simulated(**data['simulated'])
        last = block_key(self.parameters.blocks - 1)
        data['until'] = min(data['until'], last) if data['until'] else last  # a longer stream may be cached
        self.data = data

    def fingerprint(self) -> list:
        return ['simulated']

    def new_pieces(self, cached: list[dict], vocabulary, recent, emit) -> Iterator[Piece]:
        del vocabulary, recent, emit
        keys = [block_key(t) for t in range(self.parameters.blocks)]
        for t in range(len(cached), blocks.until([(key, key) for key in keys], self.data['until'])):
            key = keys[t]
            table = simulate_block(self.parameters, t)
            order = np.argsort(table['time'].to_numpy(), kind='stable')
            table = table.take(pa.array(order))
            columns = {}
            for name in (*self.data['fields'], *self.data['numeric']):
                allowed = [n for n in table.column_names if n not in ('bayes_logit', 'label', 'time')]
                if name not in allowed:
                    raise UserError(f"the simulated stream has no field '{name}'{closest(name, allowed)}")
                read = values.categories if name in self.data['fields'] else values.numbers
                columns[name] = read(tables.one_array(table[name]), f"simulated: column '{name}'")
            yield Piece(
                key,
                columns,
                table['time'].to_numpy(),
                table['label'].to_numpy().astype(np.float32),
                table['bayes_logit'].to_numpy().astype(np.float32),
                table.nbytes,
                tuple(columns),
            )

    def notes(self) -> list[str]:
        return [f'simulated with seed {self.parameters.seed}']


class FileSource:
    """Log files as a source of blocks; `folder` is their cache's."""

    def __init__(self, data: dict, folder: Path):
        self.data, self.folder = data, folder
        self.root = files.open_root(data['root'])
        self.log_files = files.find_files(self.root, data['log'])
        self.side_files = [
            files.find_file(self.root, table['path'], f'data.side_tables[{i}].path')
            for i, table in enumerate(data['side_tables'])
        ]
        self._notes: list[str] = []
        self.columns: dict[str, str] = {}  # what each was read as

    def fingerprint(self) -> list:
        found = (*self.log_files, *self.side_files)
        return [[file.name, file.size, files.digest(self.root, file)] for file in found]

    def notes(self) -> list[str]:
        return self._notes

    def new_pieces(self, cached: list[dict], vocabulary: Vocabulary | None, recent: negatives.Clicks | None, emit):
        data, draws = self.data, self.data['negatives']['per_click'] > 0
        known = vocabulary.types() if vocabulary else {}
        if recent:
            known = {**recent.types(data['negatives']['user']), **known}
        raw, earlier = blocks.since(raw_log.read_log(data, self.root, self.log_files, known), data, cached)
        if draws and not cached and len(earlier.time):  # they are in no block, but in the first one's pools
            clicks = negatives.clicks_of(earlier.columns, earlier.time, earlier.label, data, 'before data.since')
            recent = negatives.keep_recent(clicks, negatives.window_ticks(data))
        self._notes += raw.notes
        self.columns = raw.kinds
        first_new = cached[-1]['last_time'] + 1 if cached else None
        found, held_back = blocks.cut(raw, data, first_new)
        if data['block']['by'] == 'column':
            self._notes += blocks.overlaps(raw, data, found)
        if cached:
            old = blocks.cut_as_cached(raw, data, cached)
            past.check(old, cached, raw, vocabulary, self.folder, data['log'][0])
            known = {block['key'] for block in cached}
            found = [block for block in found if block.key not in known]
        if held_back:
            emit(f'data: {held_back}')
        places = [(block['key'], block['start']) for block in cached]
        places += [(block.key, _start(block.key, block.middle, data)) for block in found]
        wanted = max(0, blocks.until(places, data['until']) - len(cached)) if places else 0
        for i, block in enumerate(found):
            if i == wanted:
                emit(f'data: {len(found) - i} blocks after data.until {data["until"]} held back')
                return
            side_bytes = 0 if cached or i else raw.side_bytes
            columns = raw_log.take_columns(raw.columns, block.rows)
            time, label, drawn = raw.time[block.rows], raw.label[block.rows], None
            if draws:
                drawn = negatives.draw(columns, time, label, recent, data, f'block {block.key}')
                recent = drawn.recent
                columns = {**raw_log.take_columns(columns, drawn.rows), **drawn.columns}
                time, label = time[drawn.rows], np.where(drawn.negative, np.float32(0), label[drawn.rows])
            yield Piece(
                block.key,
                raw_log.join(columns, raw.sides),
                time,
                label,
                None,
                block.raw_bytes + side_bytes,
                tuple(raw.columns),
                drawn,
            )


def _start(key: str, middle: int, data: dict) -> str:
    """When a block is, for `data.until`: blocks of a column by the middle of their rows, others by their key."""
    return blocks.local_key(middle, data) if data['block']['by'] == 'column' else key


def clean(folder: Path, blocks: int) -> None:
    """Removes what an interrupted preparation left behind the first `blocks` blocks."""
    for left in (*folder.rglob('*.part'), *(folder / 'rows').glob('*.parquet'), *(folder / 'rows').glob('*.hashes')):
        if left.suffix == '.part' or int(left.stem) >= blocks:
            left.unlink()


def append(data: dict, folder: Path, manifest: dict | None, source, emit: Callable) -> dict:
    """Encodes the new blocks of a source behind the cached ones; the manifest is written last."""
    cached = list(manifest['blocks']) if manifest else []
    vocabulary, recent = None, None
    if manifest:
        vocabulary = read_vocabulary(folder, manifest)
        recent = negatives.Clicks.read(folder / manifest['recent']) if manifest.get('recent') else None
    (folder / 'rows').mkdir(parents=True, exist_ok=True)
    clean(folder, len(cached))
    done = list(cached)
    label_name = data['label']['column'] or 'click'
    for piece in source.new_pieces(cached, vocabulary, recent, emit):
        where = f'block {piece.key}'
        positives = int(piece.label.sum())
        if positives in (0, len(piece.label)):
            raise UserError(
                f"{where} has {len(piece.label)} rows, all with '{label_name}' = "
                f'{int(positives > 0)}: make blocks longer (data.block), or hold it back with data.until'
            )
        if vocabulary is None:
            vocabulary = Vocabulary(fields_of(data))
        available = {**piece.columns, **time_fields(piece.time, data)}
        columns = [available[field.name] for field in vocabulary.fields]
        vocabulary.grow(columns, where)
        encoded = {field.name: vocabulary.encode(f, columns[f], where) for f, field in enumerate(vocabulary.fields)}
        encoded['__label'] = piece.label.astype(np.int8)
        encoded['__time'] = piece.time
        if piece.bayes is not None:
            encoded['__bayes'] = piece.bayes
        path = folder / 'rows' / f'{len(done):05d}.parquet'
        table = pa.table(encoded)
        _replace(path, lambda part, table=table: pq.write_table(table, part, compression='zstd'))
        read = np.arange(len(piece.label)) if piece.drawn is None else np.flatnonzero(~piece.drawn.negative)
        log_columns = raw_log.take_columns({name: piece.columns[name] for name in piece.of_log}, read)
        hashes = past.row_hashes(vocabulary, log_columns, piece.time[read], piece.label[read], len(done) + 1)
        if piece.bayes is None:
            _replace(past.hash_path(folder, len(done)), lambda part, hashes=hashes: past.write_hashes(part, hashes))
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
                start=_start(piece.key, int(np.median(piece.time)), data),
            )
        )
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
    for note in notes:
        emit(f'data: {note}')
    if new:
        emit(f'data: {len(new)} new blocks, {new[0]["key"]} .. {new[-1]["key"]}, {vocabulary.num_slots} slots')
    else:
        emit(f'data: no block is new after {done[-1]["key"]}')
    name = f'vocabulary-{len(done):05d}.parquet'
    clicks = f'clicks-{len(done):05d}.parquet' if recent is not None else ''
    if new:
        _replace(folder / name, vocabulary.write)
        if clicks:
            _replace(folder / clicks, recent.write)
    manifest = dict(
        format=FORMAT,
        fields=[field.plain() for field in vocabulary.fields],
        label=label_name,
        group=data['group'],
        notes=notes,
        columns=source.columns,
        fingerprint=source.fingerprint(),
        until=data['until'],
        vocabulary=name,
        recent=clicks,
        growth=vocabulary.growth,
        blocks=done,
    )
    _replace(folder / 'manifest.json', lambda part: part.write_text(json.dumps(manifest)))
    for old in folder.glob('*.parquet'):
        if old.name not in (name, clicks):
            old.unlink()
    return manifest


def fields_of(data: dict) -> tuple[Field, ...]:
    """The fields before the first block, which know no boundaries yet."""
    return (
        *(Field(name, 'categorical') for name in data['fields']),
        *(Field(name, 'numeric', number, open=True) for name, number in data['numeric'].items()),
        *(Field(name, 'time') for name in data['time_fields']),
    )


def time_fields(time: np.ndarray, data: dict) -> dict[str, pa.Array]:
    """'hour' (0..23) and 'weekday' (0 is Monday) of local time."""
    ticks = values.time_ticks(data['time'])
    hours = (time + round(data['time']['utc_offset_hours'] * 3600 * ticks)) // (3600 * ticks)
    found = {'hour': hours % 24, 'weekday': (hours // 24 + 3) % 7}  # 1970-01-01 was a Thursday
    return {name: pa.array(found[name]) for name in data['time_fields']}
