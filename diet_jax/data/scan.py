"""One pass over the log's files, piece by piece, into a file of codes that is cut into blocks afterwards.

Every row goes to a *unit*: a value of the block's column, a period, or an hour where blocks are so many rows. Rows of
one unit lie together in each piece, so that a block is read without the others. No file, and never the log, is held
in memory whole.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base import atomic
from diet_jax.base.errors import UserError, closest
from diet_jax.config import outcomes
from diet_jax.config.impressions import MADE
from diet_jax.data import files, impressions, listed, said, sides, tables, times, values, weights
from diet_jax.data.hashing import hash_rows, mix
from diet_jax.data.log import Log, Slice, label_columns, own

NOT_A_TIME = -(2**63)  # pandas' NaT, where it was cast to a whole number
SOME = 5  # clicked items of a file that say, if none was shown, that they are written otherwise


class _Wanted(NamedTuple):
    """Which columns are read, and of which files."""

    has: dict[str, list[str]]  # file -> its columns, those among them that are made of lists
    categorical: list[str]  # of the log itself
    numeric: list[str]
    lists: list[str]
    sides: list[sides.Read]
    side_bytes: int
    notes: list[str]


def scan(
    data: Mapping,
    root: files.Root,
    log_files: list[files.LogFile],
    known: Mapping[str, str],
    before: Sequence[str] | None,
    path: Path,
    tell: Callable[[files.LogFile, int], None] = lambda file, size: None,
) -> Log:
    """Reads the needed columns of files and side tables; what a column is, is decided over all of them.

    Args:
      data: checked `config.data`; `log_files`: those of the log that are to be read.
      known: kind (`values.KINDS`) of the categorical columns as the cache holds them.
      before: None where nothing is prepared yet, else the columns that earlier preparations read of the log itself,
        () of a cache that does not say.
      path: of the file of codes; tell: given a file and how many of its bytes are read.
    """
    columns, seen = sides.Columns(data), said.Seen()
    wanted = _wanted(data, root, log_files, before, columns)
    log = Log(data, log_files, path)
    log.side_bytes, log.columns = wanted.side_bytes, (*wanted.categorical, *wanted.numeric, *wanted.lists)
    rows_of = {side.key: np.zeros(0, np.int64) for side in wanted.sides if side.key in wanted.categorical}
    fields = [pa.field('__time', pa.int64()), *(pa.field(name, pa.float32()) for name in label_columns(data))]
    fields += [pa.field('__weight', pa.float32())] if data['weight'] else []
    fields += [pa.field('__hash', pa.uint64())] if data['duplicates'] == 'drop' else []
    fields += [pa.field(own(name), pa.int32()) for name in wanted.categorical]
    fields += [pa.field(own(name), pa.float64()) for name in wanted.numeric]
    weighs = {name: bool(data['lists'][name]['weights']) for name in wanted.lists}
    fields += [pa.field(own(name), listed.type_of(pa.int32(), weighs[name])) for name in wanted.lists]
    atomic.step('write', path)  # it is gone again when its rows are in blocks: neither synced nor renamed
    with pa.OSFile(str(path), 'wb') as sink, pa.ipc.new_file(sink, pa.schema(fields)) as writer:
        for number, file in enumerate(log_files):
            reading = _File(data, file, wanted)
            for batch in ahead(reading.batches(root, columns, seen)):
                for name in rows_of:  # how many rows have each key: what a side table says nothing of
                    counts = np.bincount(batch[own(name)].drop_null().to_numpy(), minlength=len(rows_of[name]))
                    counts[: len(rows_of[name])] += rows_of[name]
                    rows_of[name] = counts
                log.file_rows[number] += len(batch)
                _write(writer, log, number, batch)
                tell(file, reading.at)
    if before is None and not log.file_rows.sum():
        raise UserError(f'{log_files[0].name} has no rows: correct data.log, or fetch the file again')
    log.notes += [*wanted.notes, *said.late_columns(log.columns, wanted.has), *said.zones(seen.zones, data['time'])]
    for name in (*wanted.categorical, *columns.owners.values()):
        columns.of(name)  # no file may hold it any more
    kinds, log.values = columns.decide(known)
    log.kinds = {name: kind or 'int64' for name, kind in kinds.items()} | dict.fromkeys(data['numeric'], 'number')
    log.sides = sides.decided(wanted.sides, log.values)
    rows_of = {name: np.pad(rows, (0, len(log.values[name]) - len(rows))) for name, rows in rows_of.items()}
    said.check(log, seen, rows_of, before is None)
    for reader in columns.readers.values() if before is None else ():
        reader.check_separated()
    if data['block']['by'] == 'column':
        _merge_units(log, log.values[data['block']['column']])
    return log


def _wanted(data: Mapping, root, log_files, before: Sequence[str] | None, columns: sides.Columns) -> _Wanted:
    """Which columns are read: a field comes from where it came from before. columns: get the side tables' values."""
    form = tables.form_of(data)
    has = {file.name: _names(data, tables.column_names(root, file, form), file.name) for file in log_files}
    names, joined = dict.fromkeys(name for of_file in has.values() for name in of_file), set()
    if before:
        names |= dict.fromkeys(before)
        joined = {*data['fields'], *data['numeric'], *data['lists']} & set(names) - set(before)
    found, origin, side_bytes = sides.find(data, root, [name for name in names if name not in joined], columns)
    categorical = {name for name in data['fields'] if origin[name] is None}
    categorical |= {side.key for side in found if side.key in names and side.key not in joined}
    if data['block']['by'] == 'column':
        categorical.add(data['block']['column'])
    if data['negatives']['per_click']:
        drawn = [data['negatives']['item'], data['negatives']['user'], *data['negatives']['item_columns']]
        categorical |= set(drawn) - set(data['numeric'])
    numeric = [name for name in data['numeric'] if origin[name] is None]
    lists = [name for name in data['lists'] if origin[name] is None]
    written = [name for name in lists if any(name in of_file for of_file in has.values())]
    for name in (*sorted(categorical), *numeric, *lists, *columns.weights(written)):
        if name not in names:
            raise UserError(f"{log_files[0].name} has no column '{name}'{closest(name, names)}: correct config.data")
    notes = [
        f"column '{name}' of the log is not read: it comes from a side table, as it did before"
        for name in sorted(joined)
    ]
    return _Wanted(has, sorted(categorical), numeric, lists, found, side_bytes, notes)


def ahead(batches: Iterator) -> Iterator:
    """The same, of which the next one is made meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch


def _names(data: Mapping, names: list[str], file: str) -> list[str]:
    """The columns of a file, and those that are made of lists."""
    lists, label = data['impressions'], data['label']['column']
    if not lists['items']:
        return names
    wanted = {*data['fields'], *data['numeric']}
    impressions.check_names(names, lists, label, wanted, lambda name: f"{file}: column '{name}'")
    return list(dict.fromkeys([*names, label, *MADE]))


class _File:
    """One file on its way into codes."""

    def __init__(self, data: Mapping, file: files.LogFile, wanted: _Wanted):
        self.data, self.file, self.has, self.form = data, file, wanted.has[file.name], tables.form_of(data)
        self.categorical, self.numeric, self.listed = wanted.categorical, wanted.numeric, wanted.lists
        self.zone: str | None = None
        self.at = 0  # bytes that are read
        self.lists: Counter = Counter()  # facts of lists of items shown

    def read_to(self, size: int) -> None:
        self.at = size

    def where(self, name: str) -> str:
        return f"{self.file.name}: column '{name}'"

    def batches(self, root: files.Root, columns: sides.Columns, seen: said.Seen) -> Iterator[pa.RecordBatch]:
        """Time, label, hash, codes and numbers of the file's rows, piece by piece."""
        data, lists = self.data, self.data['impressions']
        time, label = data['time']['column'], data['label']['column']
        made = {label, *MADE} - {lists['clicked']} if lists['items'] else set()
        labels = outcomes.columns_of(data)
        beside = columns.weights(name for name in self.listed if name in self.has)
        wanted = [time, *labels, data['weight'], *self.categorical, *self.numeric, *self.listed, *beside]
        wanted += [lists['items'], lists['clicked'], *lists['parallel']] if lists['items'] else []
        drop = data['duplicates'] == 'drop'
        wanted += self.has if drop else []
        of_file = [name for name in dict.fromkeys(wanted) if name and name in self.has and name not in made]
        unlike = {time, *self.numeric} - set(self.categorical)
        cuts = data['block']['column'] if data['block']['by'] == 'column' else ''
        for name in (time, *labels, data['weight'], cuts, *beside):
            if name and name not in self.has:  # say so, in the words for a column that is not there
                of_file.append(name)
        for raw in tables.batches(root, self.file, self.form, of_file, unlike, at=self.read_to):
            hashes = self._hashes(raw) if drop else None
            for name, separator in data['first_value'].items():
                if name in raw:
                    raw[name] = impressions.first_value(raw[name], separator, self.where(name), data['null_words'])
            if lists['items']:
                raw, hashes = self._exploded(raw, hashes, {*wanted, *MADE})
            yield self._coded(raw, hashes, columns, seen)
        if self.lists['not_shown'] >= SOME:
            impressions.check_shown(self.lists, lists, self.where)
        seen.impressions += self.lists

    def _hashes(self, raw: dict[str, pa.Array]) -> np.ndarray:
        """uint64 [N] of rows: times, labels and numbers count by what they are read as, other columns by their text."""
        data, nulls, meant = self.data, self.data['null_words'], dict(raw)
        time = data['time']['column']
        meant[time] = pa.array(times.times(raw[time], data['time'], self.where(time), nulls))
        for key, rule in outcomes.rules_of(data).items():
            label = rule['column']
            if label in raw and not data['impressions']['items'] and not rule['positive']:
                if rule['threshold'] is None:  # true is 1
                    meant[label] = values.labels(raw[label], rule, self.where(label), data['csv'], nulls, key)
                else:
                    meant[label] = values.numbers(raw[label], self.where(label), key, data['csv'], nulls)
        for name in (*self.numeric, *filter(None, [data['weight']])):
            if name in raw and name not in data['first_value'] and not pa.types.is_nested(raw[name].type):
                meant[name] = values.numbers(raw[name], self.where(name), csv=data['csv'], nulls=nulls)
        return hash_rows(meant, nulls)

    def _exploded(self, raw: dict[str, pa.Array], hashes: np.ndarray | None, wanted: set[str]):
        """A piece of lists as one of items, and the hashes of its rows."""
        data, before = self.data, self.lists['impressions']
        found, parent, facts = impressions.explode(
            raw,
            data['impressions'],
            data['label']['column'],
            self.where,
            data['null_words'],
            wanted,
            whole=False,
            first_row=before,
        )
        self.lists += Counter(facts)
        if hashes is not None:  # rows of one list differ by their position
            hashes = mix(hashes[parent] + found['position'].to_numpy().astype(np.uint64))
        return found, hashes

    def _coded(self, raw: dict[str, pa.Array], hashes, columns: sides.Columns, seen: said.Seen) -> pa.RecordBatch:
        data, nulls = self.data, self.data['null_words']
        time = self._times(raw[data['time']['column']], seen)
        rules = outcomes.rules_of(data)
        labels = {name: self._labels(raw, key, len(time), seen) for name, key in zip(label_columns(data), rules)}
        found: dict = {'__time': time, **labels}
        if name := data['weight']:
            labelled = functools.reduce(pc.and_, map(pc.is_valid, labels.values()))
            found['__weight'] = weights.weights(raw[name], labelled, self.where(name), data['csv'], nulls)
        if hashes is not None:
            found['__hash'] = hashes
        for name in self.categorical:
            if name not in raw:  # a column that came later
                codes = pa.nulls(len(time), pa.int32())
            else:
                codes = columns.of(name).add(raw[name], self.where(name))
            if name == data['block']['column'] and data['block']['by'] == 'column' and codes.null_count:
                raise UserError(
                    f'{self.where(name)} is null in {codes.null_count} rows, but cuts the blocks: fill it in'
                )
            found[own(name)] = codes
        for name in self.numeric:
            if name not in raw:
                found[own(name)] = pa.nulls(len(time), pa.float64())
            else:
                found[own(name)] = values.numbers(raw[name], self.where(name), csv=data['csv'], nulls=nulls)
        for name in self.listed:
            if name in raw:
                found[own(name)] = columns.lists(name, raw, self.where, data['csv'])
            else:
                found[own(name)] = listed.nothing(len(time), bool(columns.weights([name])))
        return pa.RecordBatch.from_pydict(found)

    def _times(self, column: pa.Array, seen: said.Seen) -> np.ndarray:
        data, where = self.data, self.where(self.data['time']['column'])
        time, zone = times.zoned_times(column, data['time'], where, data['null_words'])
        both = zone and self.zone and times.NO_ZONE in (zone, self.zone) and zone != self.zone
        if both and values.is_text(column.type):
            raise UserError(f'{where} holds times with a zone and without one: write all in one way')
        self.zone = zone or self.zone
        seen.zones |= {zone} if zone else set()
        seen.rows += len(time)
        if not len(time):
            return time
        time = np.where(time == NOT_A_TIME, 0, time)
        seen.latest = max(seen.latest, int(time.max()))
        early = time // times.time_ticks(data['time']) < times.EARLIEST
        zero = time <= 0
        seen.early += int(early.sum())
        seen.zero += int(zero.sum())
        seen.first_zero = seen.first_zero or (self.file.name if zero.any() else '')
        odd = early & ~zero
        if seen.odd is None and odd.any():
            seen.odd = self.file.name, int(time[odd][0])
        if seen.usual is None and not early.all():
            seen.usual = self.file.name, int(time[~early][0])
        return time

    def _labels(self, raw: dict[str, pa.Array], key: str, rows: int, seen: said.Seen) -> pa.Array:
        data, rule = self.data, outcomes.rules_of(self.data)[key]
        if not (name := rule['column']):  # every row is a click
            return pa.array(np.ones(rows, np.float32))
        column, nulls = raw[name], data['null_words']
        if rule['positive']:
            seen.positives.setdefault(name, set()).update(values.words_of(column, self.where(name), nulls))
        return values.labels(column, rule, self.where(name), data['csv'], nulls, key)


def _write(writer, log: Log, file: int, batch: pa.RecordBatch) -> None:
    """A piece of a file, rows of a unit together."""
    if not len(batch):
        return
    block, time = log.data['block'], batch['__time'].to_numpy()
    if block['by'] == 'column':
        unit = batch[own(block['column'])].to_numpy().astype(np.int64)
    else:
        unit = log.unit_of(time)
    if (np.diff(unit) < 0).any():
        order = np.argsort(unit, kind='stable')
        unit, batch = unit[order], batch.take(pa.array(order))
    edges = np.flatnonzero(np.diff(unit, prepend=unit[0] - 1, append=unit[-1] + 1))
    for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        log.units.setdefault(int(unit[a]), []).append(Slice(len(log.file_of_batch), a, b))
    log.file_of_batch.append(file)
    log.file_latest[file] = max(log.file_latest[file], int(time.max()))
    writer.write_batch(batch)


def _merge_units(log: Log, of: pa.Array) -> None:
    """Units of a column's values: those of one value that was written in two ways are one."""
    first = pc.index_in(of, value_set=pc.unique(of)).to_numpy()
    merged: dict[int, list[Slice]] = {}
    for code, slices in log.units.items():
        merged.setdefault(int(first[code]), []).extend(slices)
    log.units = merged
