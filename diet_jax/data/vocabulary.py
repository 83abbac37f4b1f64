"""Values to append-only slots: one table of slots for all fields, as in the design's section 3."""

from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from diet_jax.base import arrow
from diet_jax.base.errors import UserError
from diet_jax.data import bins
from diet_jax.data.coded import coded_array
from diet_jax.data.fields import Field, layout_of

COLUMNS = {'integer': pa.int64(), 'boolean': pa.bool_(), 'string': pa.string()}  # of its file


class Vocabulary:
    """The slots of every field, in the order in which the stream showed them.

    Slots 2f and 2f + 1 are field f's MISSING (null) and UNSEEN (not in the vocabulary) slot. Values first
    seen in block t get the next slots, ordered by field and then by first appearance, so what a block adds
    lies in one range, and no earlier slot ever moves. A numeric field's values are its bins, which come with the
    block that teaches their boundaries (`bins`). A list that shares a field has that field's slots: what the list shows
    first is new to the field, behind the block's own values of it.
    """

    def __init__(self, fields: tuple[Field, ...]):
        self.fields = fields
        self.growth: list[list[int]] = []  # [t][f]: values that block t added to field f
        self._values = [pa.array([], pa.int64()) for _ in fields]
        self._slots = [np.zeros(0, np.int32) for _ in fields]
        self.owners = layout_of(fields).owners  # of every field the one whose slots its values have

    @property
    def num_slots(self) -> int:
        return self.slots_after(len(self.growth))

    def slots_after(self, blocks: int) -> int:
        """Number of slots after the first `blocks` blocks."""
        return 2 * len(self.fields) + sum(map(sum, self.growth[:blocks]))

    def grow(self, columns: list[pa.Array | None], where: str) -> None:
        """Adds the values of one block that are new.

        Args:
          columns: per field the block's values, int64, bool or string, or `recoded` codes of them (numeric: float64);
            of a list those of all rows, one after the other, or None where it adds none (a history).
          where: names the block in messages.
        Raises:
          UserError: 2**31 slots are full.
        """
        added = []
        next_slot = self.num_slots
        for f, (field, column) in enumerate(zip(self.fields, columns, strict=True)):
            if field.kind == 'numeric':
                have, grown = len(self._values[f]), list(self.fields)
                grown[f], count = bins.learn(field, len(self.growth), column, have)
                new, self.fields = pa.array(np.arange(have, have + count)), tuple(grown)
            else:
                of = [columns[i] for i, owner in enumerate(self.owners) if owner == f and columns[i] is not None]
                parts = [self._as_known_type(f, coded_array(part).dictionary) for part in of]
                words = pa.concat_arrays(parts) if len(parts) > 1 else (*parts, self._values[f].slice(0, 0))[0]
                seen = pc.index_in(words, value_set=self._values[f])
                new = pc.unique(words.filter(pc.and_(pc.is_null(seen), pc.is_valid(words))))
            next_slot = self._add(f, new, next_slot, where)
            added.append(len(new))
        self.growth.append(added)

    def extend(self, f: int, column: pa.Array, where: str) -> None:
        """Adds values of field f to the last block, none of whose later fields has added any."""
        new = pc.unique(column.filter(pc.is_null(pc.index_in(column, value_set=self._values[f]))))
        self._add(f, new, self.num_slots, where)
        self.growth[-1][f] += len(new)

    def _add(self, f: int, new: pa.Array, next_slot: int, where: str) -> int:
        """Gives new values the next slots, and says which comes then."""
        self._values[f] = pa.concat_arrays([self._values[f], new]) if len(self._values[f]) else new
        end = next_slot + len(new)
        if end >= 2**31:
            raise UserError(f'{where}: more than 2**31 values in all fields; take a field of unique values out')
        self._slots[f] = np.concatenate([self._slots[f], np.arange(next_slot, end, dtype=np.int64).astype(np.int32)])
        return end

    def encode(self, f: int, column: pa.Array, where: str, blocks: int | None = None) -> np.ndarray:
        """Global slots of field f's values: int32[N]; null -> MISSING, unknown -> UNSEEN.

        Numbers by the boundaries that were known after the first `blocks` blocks, by default all. Values of a list that
        shares a field have that field's slots.
        """
        f = self.owners[f]
        field = self.fields[f]
        if field.kind == 'numeric':
            index = bins.bin_of(column, field.bounds if blocks is None else field.after(blocks).bounds)
            missing = column.is_null().to_numpy(zero_copy_only=False)
            of_bin = np.append(self._slots[f], np.int32(2 * f))  # index -1: missing
            return of_bin[np.where(missing, -1, index)]
        coded = coded_array(column)
        words = self._as_known_type(f, coded.dictionary)
        index = pc.index_in(words, value_set=self._values[f]).fill_null(-1).to_numpy(zero_copy_only=False)
        of_word = np.append(self._slots[f], np.int32(2 * f + 1))[index]  # -1: unseen
        of_word[words.is_null().to_numpy(zero_copy_only=False)] = 2 * f
        missing = len(of_word)
        return np.append(of_word, np.int32(2 * f))[coded.indices.fill_null(missing).to_numpy(zero_copy_only=False)]

    def _as_known_type(self, f: int, column: pa.Array) -> pa.Array:
        """A column in the type of the values that are known; they become text where it is, and keep their slots."""
        if not len(self._values[f]):
            self._values[f] = pa.array([], column.type)  # no value yet, so the type is free
        known = self._values[f].type
        if pa.types.is_string(column.type) and not pa.types.is_string(known):
            self._values[f] = self._values[f].cast(pa.string())
            known = pa.string()
        return column if column.type == known else column.cast(known)

    def types(self) -> dict[str, str]:
        """Kind (`values.KINDS`, or 'bit': whole numbers that are 0 and 1) of each field that has a value."""
        filled = zip(self.fields, self._values, strict=True)
        found = {}
        for field, known in filled:
            if len(known) and field.kind in ('categorical', 'list'):
                bits = pa.types.is_integer(known.type) and pc.min(known).as_py() >= 0 and pc.max(known).as_py() <= 1
                found[field.name] = 'bit' if bits else str(known.type)
        return found

    def field_of_slot(self, num_slots: int) -> np.ndarray:
        """int32[num_slots]: the field that each slot belongs to."""
        fields = np.arange(len(self.fields), dtype=np.int32)
        parts = [np.repeat(fields, 2)] + [np.repeat(fields, counts) for counts in self.growth]
        return np.concatenate(parts)[:num_slots]

    def values(self, f: int, slots: np.ndarray) -> pa.Array:
        """Values of field f's slots as the log has them (numeric: the bin); null for missing and unseen."""
        known = self._slots[f]
        index = np.searchsorted(known, slots)
        found = (index < len(known)) & (np.append(known, -1)[np.minimum(index, len(known))] == slots)
        if not np.all(found | (slots // 2 == f)):
            odd = int(slots[~found & (slots // 2 != f)][0])
            raise ValueError(f"slot {odd} does not belong to field '{self.fields[f].name}'")
        return self._values[f].take(pa.array(np.where(found, index, 0), mask=~found))

    def write(self, file: BinaryIO) -> None:
        """Writes all values, field after field; the growth goes into the manifest."""
        lengths = [len(values) for values in self._values]
        field = np.repeat(np.arange(len(self.fields), dtype=np.int32), lengths)
        table = pa.table({'field': field})
        for name, kind in COLUMNS.items():
            parts = [v if v.type == kind else pa.nulls(len(v), kind) for v in self._values]
            table = table.append_column(name, pa.concat_arrays(parts))
        pq.write_table(table, file, compression='zstd')

    @classmethod
    def read(cls, data: bytes, fields: tuple[Field, ...], growth: list[list[int]]) -> 'Vocabulary':
        """Reads what `write` wrote."""
        vocabulary = cls(fields)
        vocabulary.growth = [list(counts) for counts in growth]
        table = pq.read_table(arrow.source(data)).combine_chunks()
        counts = np.asarray(growth, np.int64).reshape(-1, len(fields))
        starts = 2 * len(fields) + np.cumsum(counts).reshape(counts.shape) - counts  # first slot of [t][f]
        offset = 0
        for f, total in enumerate(counts.sum(axis=0).tolist()):
            rows = table.slice(offset, total)
            there = [c for c in COLUMNS if c in table.column_names]  # a cache of format 1 has no booleans
            column = next((c for c in there if total and rows[c].null_count == 0), 'integer')
            values = rows[column].combine_chunks()
            vocabulary._values[f] = pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
            ranges = [np.arange(s, s + n) for s, n in zip(starts[:, f], counts[:, f], strict=True)]
            vocabulary._slots[f] = np.concatenate([np.zeros(0, np.int64), *ranges]).astype(np.int32)
            offset += total
        return vocabulary
