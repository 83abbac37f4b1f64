"""The encoded stream: a cache of block files, appended to when the log grows.

blocks/<digest of config.data>/manifest.json      written last
                               vocabulary-<n>.parquet  after n blocks
                               histories-<n>.parquet   of every user the last events after n blocks, for histories
                               rows/<t>.parquet        block t: an int32 column per field, label, time, and where the
                                                       log has them other labels, weight; a field that is a
                                                       list has lists of int32
"""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_jax.base import arrow
from diet_jax.base.layout import PAD, Layout, packed
from diet_jax.data import listed, prepare, tables
from diet_jax.data.fields import layout_of
from diet_jax.data.log import of_outcome
from diet_jax.data.vocabulary import Vocabulary

NO_GROUP = -1  # of rows whose group is missing: they are in none


class Block(NamedTuple):
    """The rows of one stage, in time order."""

    key: str
    ids: np.ndarray  # int32 [N, W], global slots, as `EncodedStream.layout` says; below 0 what is none
    label: np.ndarray  # float32 [N], 0 or 1
    group: np.ndarray  # int32 [N], slots of the group field; NO_GROUP where it is missing
    time: np.ndarray  # int64 [N], in data.time.unit since 1970 UTC (microseconds for 'iso')
    bayes: np.ndarray | None  # float32 [N], the true logit; simulated streams only
    weight: np.ndarray | None = None  # float32 [N], >= 0; None: every row weighs 1
    others: tuple[np.ndarray, ...] = ()  # float32 [N] each, 0 or 1: `EncodedStream.outcome_names` after the first


class BlockInfo(NamedTuple):
    """What is known of a block without opening it."""

    key: str
    rows: int
    num_slots: int  # of the vocabulary after this block
    positives: int
    encoded_bytes: int  # of the block's file: zstd Parquet of the joined, encoded rows
    raw_bytes: int  # its share of the log files; the first block also carries the side tables
    path: str


class EncodedStream:
    """The blocks of a log, encoded. Opening one reads the manifest and the vocabulary, never a block."""

    def __init__(self, folder: Path, manifest: dict, until: str = ''):
        self.folder = folder
        self.label = manifest['label']
        self.outcome_names: tuple[str, ...] = tuple(manifest.get('outcomes', (self.label,)))  # the main one first
        self.weight = manifest.get('weight', '')  # the column that says what a row weighs, or ''
        self.notes = list(manifest['notes'])
        self.utc_offset_hours = manifest['utc_offset_hours']  # of local time
        self._manifest = manifest
        self.blocks = tuple(
            BlockInfo(
                *(b[name] for name in ('key', 'rows', 'num_slots', 'positives', 'encoded_bytes', 'raw_bytes')),
                path=str(folder / 'rows' / f'{t:05d}.parquet'),
            )
            for t, b in enumerate(manifest['blocks'][: prepare.blocks_until(manifest, until)])
        )
        self.fields = tuple(field.after(len(self.blocks)) for field in prepare.manifest_fields(manifest))
        self.group_field = [field.name for field in self.fields].index(manifest['group'])

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return prepare.read_vocabulary(self.folder, self._manifest)

    @cached_property
    def layout(self) -> Layout:
        """Where the fields lie among the columns of a block's ids."""
        return layout_of(self.fields)

    @cached_property
    def _field_of_slot(self) -> np.ndarray:
        return self.vocabulary.field_of_slot(self.num_slots)

    @property
    def num_slots(self) -> int:
        """Size of the vocabulary after the last block."""
        return self.blocks[-1].num_slots

    def load(self, t: int, begin: int = 0, end: int | None = None) -> Block:
        """Reads block t (0-based), or its rows begin .. end - 1, and no other file.

        The file is read whole, for its checksum; of a part only its row groups are decoded, 2**20 rows each.

        Raises:
          Damaged: its file is gone, or not as it was written.
        """
        info = self.blocks[t]
        table = self._read(t, slice(begin, info.rows if end is None else end))
        ids = np.empty((len(table), self.layout.columns), np.int32)
        for f, field in enumerate(self.fields):
            column = table.column(field.name)
            if field.kind == 'list':
                of, lengths, weights = listed.flat(tables.one_array(column))
                _pad(of.to_numpy(), lengths, ids[:, self.layout.at(f)])
                if weights is not None:
                    _pad(packed(weights.to_numpy()), lengths, ids[:, self.layout.weights_at(f)])
            else:
                ids[:, self.layout.at(f).start] = column.to_numpy()
        bayes = table.column('__bayes').to_numpy() if '__bayes' in table.column_names else None
        label, *others = (self._label(table, name) for name in self.outcome_names)
        group, time = self._groups(ids[:, self.group_field]), table.column('__time').to_numpy()
        return Block(info.key, ids, label, group, time, bayes, self._weight(table), tuple(others))

    def outcomes(self, t: int) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray | None]:
        """Labels of all outcomes, group and weight of block t, as of `Block`, without its other columns."""
        group = self.fields[self.group_field].name
        names = [group, *map(self._column, self.outcome_names), *(['__weight'] if self.weight else [])]
        table = self._read(t, slice(0, self.blocks[t].rows), names)
        labels = tuple(self._label(table, name) for name in self.outcome_names)
        return labels, self._groups(table.column(group).to_numpy()), self._weight(table)

    def _column(self, outcome: str) -> str:
        return '__label' if outcome == self.outcome_names[0] else of_outcome(outcome)

    def _label(self, table: pa.Table, outcome: str) -> np.ndarray:
        return table.column(self._column(outcome)).to_numpy().astype(np.float32)

    def _weight(self, table: pa.Table) -> np.ndarray | None:
        return table.column('__weight').to_numpy() if self.weight else None

    def _groups(self, slots: np.ndarray) -> np.ndarray:
        return np.where(slots == 2 * self.group_field, np.int32(NO_GROUP), slots).astype(np.int32)

    def _read(self, t: int, rows: slice, columns: list[str] | None = None) -> pa.Table:
        def parse(data: bytes) -> tuple[int, pa.Table]:
            with pq.ParquetFile(arrow.source(data)) as file:
                ends = np.cumsum([file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)])
                groups = np.flatnonzero((ends > rows.start) & (np.append(0, ends[:-1]) < rows.stop))
                table = file.read_row_groups(groups.tolist(), columns)
            return int(ends[groups[0] - 1]) if len(groups) and groups[0] else 0, table

        before, table = prepare.read_file(self.folder, self._manifest, f'rows/{t:05d}.parquet', parse)
        return table.slice(rows.start - before, rows.stop - rows.start)

    def field_of_slot(self, num_slots: int) -> np.ndarray:
        """int32 [num_slots]: the field that each slot belongs to; needs `num_slots` <= `self.num_slots`."""
        if num_slots > self.num_slots:
            raise ValueError(f'num_slots {num_slots} > {self.num_slots}, the slots there are')
        return self._field_of_slot[:num_slots]

    def values(self, slots: np.ndarray) -> pa.Array:
        """The log's own values of slots of one field.

        Args:
          slots: int [N], all of one field.
        Returns:
          int64 or string [N], or the bin's number (int64) for a numeric field; null for MISSING and UNSEEN.
        Raises:
          ValueError: a slot that does not exist, or slots of several fields.
        """
        slots = np.asarray(slots, np.int64)
        if not len(slots):
            return pa.nulls(0)
        if slots.min() < 0 or slots.max() >= self.num_slots:
            raise ValueError(f'slots {slots.min()}..{slots.max()} are not all in 0..{self.num_slots - 1}')
        return self.vocabulary.values(int(self._field_of_slot[slots[0]]), slots)


def _pad(values: np.ndarray, lengths: np.ndarray, out: np.ndarray) -> None:
    """Writes lists, one after the other, at the ends of the rows of `out`, int32 [N, width], and PAD before them."""
    out[:] = PAD
    out[np.arange(out.shape[1]) >= out.shape[1] - lengths[:, None]] = values
