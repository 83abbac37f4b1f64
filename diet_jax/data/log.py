"""The log after one pass over its files: codes of its rows in one file, read block by block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from diet_jax.base.errors import UserError
from diet_jax.config import outcomes
from diet_jax.data import files, listed, sides, tables, times

HOUR = 3600  # seconds of a unit where blocks are so many rows


def own(name: str) -> str:
    """What a column of the log is called in the file of codes, beside `__time`, `__label`, `__weight` and `__hash`."""
    return f'={name}'


def of_outcome(name: str) -> str:
    """What the labels of another outcome than the main one are called, there and in the prepared blocks."""
    return f'__label_{name}'


def label_columns(data: Mapping) -> list[str]:
    """The columns of the labels of all outcomes, the main one first."""
    return ['__label', *map(of_outcome, data['label']['others'])]


class Rows(NamedTuple):
    """Some rows of the log, in order of time."""

    columns: dict[str, pa.Array]  # codes of values, lists of them, or float64, each [N]
    time: np.ndarray  # int64 [N]
    label: np.ndarray  # float32 [N]
    file: np.ndarray  # int32 [N]: which of the files
    raw_bytes: float  # their share of the files
    repeated: int  # rows dropped that repeat an earlier one
    unlabelled: np.ndarray  # int64 [outcomes]: rows dropped since it, and none before it, is null
    weight: np.ndarray | None = None  # float32 [N], where the log has weights
    others: tuple[np.ndarray, ...] = ()  # float32 [N] each: the other outcomes


class Slice(NamedTuple):
    """Rows of one unit that lie together."""

    batch: int
    begin: int
    end: int


class Log:
    """The scanned log."""

    def __init__(self, data: Mapping, log_files: list[files.LogFile], path: Path):
        self.data, self.files, self.path = data, log_files, path
        self.units: dict[int, list[Slice]] = {}
        self.file_of_batch: list[int] = []
        self.columns: tuple[str, ...] = ()  # that the log has itself
        self.file_rows = np.zeros(len(log_files), np.int64)
        self.file_latest = np.full(len(log_files), -(2**63))  # its last time
        self.values: dict[str, pa.Array] = {}  # column -> the value of every code
        self.sides: tuple[sides.SideTable, ...] = ()
        self.side_bytes = 0
        self.notes: list[str] = []
        self.kinds: dict[str, str] = {}  # what every column was read as, for the user
        self.without_time = False  # whether rows of time 0 are left out
        self.kept, self.repeated = 0, 0  # rows, of those that were counted
        self.unlabelled = np.zeros(1 + len(data['label']['others']), np.int64)  # as of `Rows`

    @property
    def ticks(self) -> int:
        return times.time_ticks(self.data['time'])

    def unit_of(self, time: np.ndarray) -> np.ndarray:
        """The units of times, where they are not a column's values: a period, or an hour, of local time."""
        length = HOUR * self.ticks if self.data['block']['by'] == 'rows' else period_ticks(self.data)
        return (time + times.offset_ticks(self.data['time'])) // length

    def settled(self, left: Iterable[int], last: int) -> list[int]:
        """Files none of whose rows wait for a later run. left: units that do; last: the last prepared time."""
        if self.data['block']['by'] == 'rows':
            return np.flatnonzero(self.file_latest <= last).tolist()
        waiting = {self.file_of_batch[piece.batch] for unit in left for piece in self.units[unit]}
        return [i for i in range(len(self.files)) if i not in waiting]

    def count(self, rows: Rows) -> None:
        """Counts rows for what is said of the log."""
        self.kept += len(rows.time)
        self.repeated += rows.repeated
        self.unlabelled += rows.unlabelled

    def said(self, first: bool = True) -> list[str]:
        """What is said of rows, when all of them were counted; UserError where none is left of the first ones."""
        columns, notes = [rule['column'] for rule in outcomes.rules_of(self.data).values()], []
        if first and not self.kept:
            lacking = [name for name, rows in zip(columns, self.unlabelled, strict=True) if rows] or columns[:1]
            names = ' or '.join(f"'{name}'" for name in lacking)
            raise UserError(f'{self.files[0].name}: column {names} is null in every row: correct it')
        if self.data['duplicates'] == 'drop':
            notes.append(f'{self.repeated} rows dropped that repeat an earlier one in every column')
        for name, column, rows in zip(outcomes.names_of(self.data), columns, self.unlabelled, strict=True):
            which = f" (outcome '{name}')" if len(columns) > 1 else ''
            notes += [f"{rows} rows dropped whose '{column}' is null{which}"] if rows else []
        return [f'{self.kept} rows of {len(self.files)} files', *notes]

    def rows(
        self, units: Iterable[int], columns: Iterable[str] = (), begin: int | None = None, end: int | None = None
    ) -> Rows:
        """The rows of some units, of times begin .. end, sorted by time, stably in the order of the files.

        Args: columns: of the log; every call reads these alone.
        """
        columns = list(columns)
        slices = sorted(piece for unit in units for piece in self.units[unit])
        drop = self.data['duplicates'] == 'drop'
        weighs = ['__weight'] if self.data['weight'] else []
        labels = label_columns(self.data)
        names = ['__time', *labels, *weighs, *(['__hash'] if drop else []), *map(own, columns)]
        with pa.memory_map(str(self.path)) as source, pa.ipc.open_file(source) as reader:
            parts = [reader.get_batch(s.batch).select(names).slice(s.begin, s.end - s.begin) for s in slices]
            table = pa.Table.from_batches(parts, schema=pa.schema([reader.schema.field(name) for name in names]))
            file = np.repeat([self.file_of_batch[s.batch] for s in slices], [len(part) for part in parts])
            time = table['__time'].to_numpy()
            keep = np.ones(len(time), bool)
            for bound, side in ((begin, 1), (end, -1)):
                if bound is not None:
                    keep &= time * side >= bound * side
            sizes = np.array([f.size for f in self.files], np.float64) / np.maximum(self.file_rows, 1)
            raw_bytes = float(sizes[file[keep]].sum())
            if self.without_time:
                keep &= time > 0
            lacks = np.stack([table[name].is_null().to_numpy() for name in labels])
            null = lacks.any(axis=0)
            unlabelled = np.bincount(lacks.argmax(axis=0)[keep & null], minlength=len(labels))
            repeated = 0
            if drop:
                first = np.unique(table['__hash'].to_numpy(), return_index=True)[1]
                once = np.zeros(len(time), bool)
                once[first] = True
                repeated = int((keep & ~once).sum())
                keep &= once
            keep &= ~null
            order = np.flatnonzero(keep)
            order = order[np.argsort(time[order], kind='stable')]
            index = pa.array(order)
            found = {}
            for name in columns:
                taken = tables.one_array(table[own(name)].take(index))
                if name in self.data['lists']:
                    owner = self.data['lists'][name]['shares'] or name
                    found[name] = listed.of_codes(taken, self.values[owner])
                else:
                    coded = name in self.values
                    found[name] = pa.DictionaryArray.from_arrays(taken, self.values[name]) if coded else taken
            label, *others = (
                tables.one_array(table[name].take(index)).to_numpy(zero_copy_only=False) for name in labels
            )
            weight = table['__weight'].to_numpy()[order] if weighs else None
            file = file[order].astype(np.int32)
            return Rows(found, time[order], label, file, raw_bytes, repeated, unlabelled, weight, tuple(others))


def period_ticks(data: Mapping) -> int:
    """Length of a block by period, in ticks of the log's time; UserError where it is shorter than one."""
    ticks = round(data['block']['hours'] * 3600 * times.time_ticks(data['time']))
    if ticks < 1:
        raise UserError(f'data.block.hours {data["block"]["hours"]} is shorter than data.time.unit: make it longer')
    return ticks
