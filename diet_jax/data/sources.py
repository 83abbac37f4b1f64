"""Where blocks come from before they are encoded: the simulated stream, or the files of a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from diet_jax.base.atomic import remove
from diet_jax.base.errors import UserError, closest
from diet_jax.base.progress import Progress
from diet_jax.config.data import Simulated
from diet_jax.data import blocks, clock, files, negatives, past, scan, sides, tables, values
from diet_jax.data.coded import plain_array
from diet_jax.data.log import Log
from diet_jax.data.simulated import block_key, simulate_block
from diet_jax.data.vocabulary import Vocabulary

LARGE = 64 << 20  # bytes of a log from which on reading it shows its progress
STEP = 32 << 20  # bytes from one line to the next, at least


class Piece(NamedTuple):
    """One block before it is encoded."""

    key: str
    columns: dict[str, pa.Array]  # every field but the time fields; values, or codes of values
    time: np.ndarray  # int64 [N]
    label: np.ndarray  # float32 [N]
    bayes: np.ndarray | None  # float32 [N]
    raw_bytes: int
    of_log: tuple[str, ...]  # those of the columns that are the log's own
    file: np.ndarray  # int32: of the log's own rows, which of the files read
    drawn: negatives.Drawn | None = None  # where the log is one of clicks; its negatives are among the rows
    weight: np.ndarray | None = None  # float32 [N], where the log has weights
    others: tuple[np.ndarray, ...] = ()  # float32 [N] each: the other outcomes


class SimulatedSource:
    """The simulated stream as a source of blocks."""

    columns: dict[str, str] = {}  # noqa: RUF012
    read: tuple = ()  # files
    before: tuple = ()

    def __init__(self, data: dict):
        self.parameters = Simulated(**data['simulated'])
        last = block_key(self.parameters.blocks - 1)
        data['until'] = min(data['until'], last) if data['until'] else last  # a longer stream may be cached
        self.data = data

    def fingerprint(self) -> list:
        return ['simulated']

    def files(self, done: list[dict]) -> list[dict]:
        del done
        return []

    def prepared(self, piece: Piece, hashes: np.ndarray) -> None:
        pass

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
                np.zeros(len(table), np.int32),
            )

    def notes(self) -> list[str]:
        return [f'simulated with seed {self.parameters.seed}']


class FileSource:
    """Log files as a source of blocks.

    Args:
      data: checked `config.data`; where it says no `time.utc_offset_hours`, it does afterwards.
      folder: of the cache; manifest: what it holds, or None.
    """

    def __init__(self, data: dict, folder: Path, manifest: dict | None):
        self.data, self.folder = data, folder
        self.root = files.open_root(data['root'])
        quote = data['csv']['quote']
        found = files.find_files(self.root, data['log'])
        self.log_files = [files.looked_through(self.root, file, quote) for file in found]
        self.side_files = [
            files.looked_through(self.root, files.find_file(self.root, side['path'], f'data.side_tables[{i}].path'))
            for i, side in enumerate(data['side_tables'])
        ]
        before = {} if data['duplicates'] == 'drop' else {f['name']: f for f in (manifest or {}).get('files', ())}
        same = [f for f in self.log_files if before.get(f.name, {}).get('digest') == f.digest]
        self.kept = {file.name: before[file.name] for file in same if before[file.name]['whole']}
        self.read = tuple(file for file in self.log_files if file.name not in self.kept)
        clock.settle(data, self.root, self.log_files, manifest)
        self._notes: list[str] = []
        self.log: Log | None = None
        self.before = tuple((manifest or {}).get('log_columns', ()))  # columns that were read of the log itself
        self.columns: dict[str, str] = dict((manifest or {}).get('columns', {}))  # what each was read as
        self.noted = (manifest or {}).get('checksums', {})
        self.left: list[int] = []  # units of blocks that a later run prepares
        self.in_blocks: list[dict] = [{} for _ in self.read]  # of every file: block -> its rows and their digest

    def fingerprint(self) -> list:
        return [[f.name, f.size, f.digest] for f in (*self.log_files, *self.side_files)]

    def notes(self) -> list[str]:
        return self._notes

    def files(self, done: list[dict]) -> list[dict]:
        """Of every file its digest, and whether all of its rows are in blocks that are prepared."""
        whole = self.log.settled(self.left, done[-1]['last_time']) if self.log else ()
        found = [
            dict(name=file.name, digest=file.digest, whole=i in whole, blocks=self.in_blocks[i])
            for i, file in enumerate(self.read)
        ]
        return [*self.kept.values(), *found]

    def prepared(self, piece: Piece, hashes: np.ndarray) -> None:
        """Notes what of a block came from which file; hashes: of the log's own rows."""
        for i, found in past.of_files(piece.file, hashes).items():
            self.in_blocks[i][piece.key] = found

    def new_pieces(self, cached: list[dict], vocabulary: Vocabulary | None, recent: negatives.Clicks | None, emit):
        if not self.read:
            return
        path = self.folder / 'log.part'
        try:
            yield from self._pieces(path, cached, vocabulary, recent, emit)
        finally:
            remove(path)

    def _pieces(self, path: Path, cached: list[dict], vocabulary, recent, emit) -> Iterator[Piece]:
        data, draws = self.data, self.data['negatives']['per_click'] > 0
        known = vocabulary.types() if vocabulary else {}
        if recent:
            known = {**recent.types(data['negatives']['user']), **known}
        with Reading(self.read, self.folder.parent.parent / 'log.txt', emit) as reading:
            before = self.before if cached else None
            log = scan.scan(data, self.root, list(self.read), known, before, path, reading)
        self.log, self.columns = log, {**self.columns, **log.kinds}
        self.before = self.before or log.columns
        found = blocks.cut(log, data, cached)
        self._notes += [*log.said(not cached), *log.notes, *found.notes]
        if self.kept:
            self._notes.append(f'{len(self.kept)} files are as they were when prepared, and were not read again')
        own = log.columns
        if draws and not cached:  # rows before data.since are in no block, but in the first one's pools
            for block in found.early:
                rows = block.read(log, negatives.names_of_log(data))
                columns = {name: plain_array(x) for name, x in rows.columns.items()}
                clicks = negatives.clicks_of(columns, rows.time, rows.label, data, 'before data.since')
                recent = negatives.keep_recent(negatives.join_clicks(recent, clicks), negatives.window_ticks(data))
        for key, of_block in past.check(
            log, found.old, cached, vocabulary, self.folder, unread=self.kept, noted=self.noted
        ).items():
            for i, what in of_block.items():
                self.in_blocks[i][key] = what
        if found.held_back:
            emit(f'data: {found.held_back}')
        places = [(block['key'], block['start']) for block in cached]
        places += [(block.key, blocks.start(block.key, block.middle, data)) for block in found.new]
        wanted = max(0, blocks.until(places, data['until']) - len(cached)) if places else 0
        for i, block in enumerate(found.new):
            if i == wanted:
                self.left = [unit for later in found.new[i:] for unit in later.units]
                emit(f'data: {len(found.new) - i} blocks after data.until {data["until"]} held back')
                return
            side_bytes = 0 if cached or i else log.side_bytes
            rows = block.read(log, own)
            columns, time, drawn, weight = rows.columns, rows.time, None, rows.weight
            label, *others = rows.label, *rows.others
            if draws:
                plain = {name: plain_array(columns[name]) for name in negatives.names_of_log(data)}
                drawn = negatives.draw(plain, time, label, recent, data, f'block {block.key}')
                recent, index = drawn.recent, pa.array(drawn.rows)
                columns = {**{name: column.take(index) for name, column in columns.items()}, **drawn.columns}
                time = time[drawn.rows]
                label, *others = (np.where(drawn.negative, np.float32(0), x[drawn.rows]) for x in (label, *others))
                weight = weight if weight is None else weight[drawn.rows]
            yield Piece(
                block.key,
                sides.join(columns, log.sides),
                time,
                label,
                None,
                block.raw_bytes + side_bytes,
                tuple(own),
                rows.file,
                drawn,
                weight,
                tuple(others),
            )


class Reading:
    """Progress of the pass over a large log's files, by their bytes; nothing is said of a small one."""

    def __init__(self, read: Sequence[files.LogFile], path: Path, emit: Callable[[str], None]):
        self.total = sum(file.size for file in read)
        self.progress = Progress('reading the log', self.total, path, emit) if self.total > LARGE else None
        self.read: dict[str, int] = {}  # bytes of every file
        self.told = 0

    def __enter__(self):
        if self.progress:
            self.progress.__enter__()
        return self.advance

    def advance(self, file: files.LogFile, done: int) -> None:
        """Given a file, and how many of its bytes are read; says a line every so many."""
        self.read[file.name] = done
        read = sum(self.read.values())
        if self.progress and (read - self.told >= max(STEP, self.total // 20) or read == self.total):
            said = f'{read / 1e6:.0f} of {self.total / 1e6:.0f} MB, {file.name}'
            self.progress.advance(read - self.told, said)
            self.told = read

    def __exit__(self, *error):
        if self.progress:
            self.progress.__exit__(*error)
