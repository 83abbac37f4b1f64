"""Reading a memory."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from diet_jax.artifact.encode import Encoded, encode
from diet_jax.artifact.format import DEFAULT_VIEW, LABELS, VIEWS, CodedField, label_column, read_manifest
from diet_jax.artifact.numbers import Known, lengths, list_numbers, list_weights, number, owner_of, padded, right
from diet_jax.base import arrow
from diet_jax.base.errors import UserError, closest
from diet_jax.base.layout import PAD, packed
from diet_jax.config.data import MEMORY_COLUMNS

SWAPS = 10  # of a folder while it is read, before that is given up


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Artifact:
    """A memory as read from its folder: M rows of F fields, and of lists.

    A student trains on `codes + offsets()`, numbers below `num_codes`, or on the log's own values, `ids + id_offsets()`
    below `num_ids`; `encode` gives other rows of the log the same numbers. Lists are apart: `list_codes`, `list_ids`.
    """

    manifest: dict  # manifest.json
    fields: tuple[CodedField, ...]  # in the order of the columns of `codes` and `ids`
    lists: tuple[CodedField, ...]
    rows: pa.Table  # rows.parquet, M rows
    codebook: dict[str, Known]  # field -> (values pa.Array [n], codes i32[n]), without the row of unseen values
    outcome: str = ''  # whose labels `columns` and `label` give; '' is the main one

    def __repr__(self) -> str:
        stage, block = self.manifest['stage'], self.manifest['last_block']
        return f'<memory of stage {stage}, up to {block}: {self.rows.num_rows} rows of {len(self.fields)} fields>'

    @cached_property
    def codes(self) -> np.ndarray:
        """i32[M, F]: codes within the field."""
        return np.stack([self.rows[f'{f.name}__code'].to_numpy() for f in self.fields], axis=1).astype(np.int32)

    @cached_property
    def ids(self) -> np.ndarray:
        """i32[M, F]: a value's place in the field's codebook; behind its n values n is missing and n + 1 unseen."""
        numbered = [number(self.values[f.name], self.codebook[f.name][0]) for f in self.fields]
        return np.stack(numbered, axis=1)

    @cached_property
    def list_codes(self) -> dict[str, np.ndarray]:
        """List -> i32[M, width]: codes within the field that it shares, or its own; PAD (-1) before the first."""
        return {f.name: padded(self.rows[f'{f.name}__code'], f.width) for f in self.lists}

    @cached_property
    def list_ids(self) -> dict[str, np.ndarray]:
        """List -> i32[M, width]: as `ids`, of the field that it shares, or its own; PAD (-1) before the first."""
        return {f.name: list_numbers(self.rows[f.name], f.width, self.codebook[owner_of(f)][0]) for f in self.lists}

    @cached_property
    def list_weights(self) -> dict[str, np.ndarray]:
        """List -> f32[M, width]: what its values weigh, 0 before the first; of lists whose values have weights."""
        return {f.name: list_weights(self.rows[f.weights], f.width) for f in self.lists if f.weights}

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """[M] each: soft_label, mean_label, hard_label, count, weight, influence (f32) and stage (i32)."""
        of = lambda name: label_column(name, self.outcome) if name in LABELS else name  # noqa: E731
        return {name: self.rows[of(name)].to_numpy() for name in MEMORY_COLUMNS}

    @property
    def outcomes(self) -> tuple[str, ...]:
        """What the memory has labels of, the main one first."""
        return tuple(self.manifest.get('outcomes', [self.manifest['label']]))

    def of(self, outcome: str) -> Artifact:
        """The same memory with the labels of one of its `outcomes`.

        Raises:
          UserError: another one.
        """
        if outcome not in self.outcomes:
            has = ', '.join(self.outcomes)
            raise UserError(f"the memory has no outcome '{outcome}'{closest(outcome, self.outcomes)}: it has {has}")
        return dataclasses.replace(self, outcome='' if outcome == self.outcomes[0] else outcome)

    @cached_property
    def values(self) -> dict[str, pa.Array]:
        """Field -> the log's own values, [M]; the bin of a numeric field; null where the log has none."""
        return {f.name: self.rows[f.name].combine_chunks() for f in (*self.fields, *self.lists)}

    @property
    def num_codes(self) -> int:
        """Codes of all fields, and of lists that have their own."""
        return sum(f.codes for f in self._coded)

    @property
    def num_ids(self) -> int:
        """Ids of all fields, and of lists that have their own, missing and unseen among them."""
        return sum(self._ids_of_field())

    def offsets(self) -> np.ndarray:
        """i32[F]: add to a field's codes for their rows in one table of `num_codes`."""
        return _starts([f.codes for f in self._coded])[: len(self.fields)]

    def id_offsets(self) -> np.ndarray:
        """i32[F]: add to a field's ids for their rows in one table of `num_ids`."""
        return _starts(self._ids_of_field())[: len(self.fields)]

    def list_offset(self, name: str) -> int:
        """What to add to a list's codes, but for PAD, for their rows in one table of `num_codes`."""
        return self._offset_of(name, [f.codes for f in self._coded])

    def list_id_offset(self, name: str) -> int:
        """What to add to a list's ids, but for PAD, for their rows in one table of `num_ids`."""
        return self._offset_of(name, self._ids_of_field())

    @property
    def table_rows(self) -> np.ndarray:
        """i32[M, W]: rows of one table of `num_codes`, lists and what they weigh behind the fields (`base.layout`)."""
        lists = [np.where(x == PAD, PAD, x + self.list_offset(name)) for name, x in self.list_codes.items()]
        return np.concatenate([self.codes + self.offsets(), *lists, *self._packed()], 1)

    def _packed(self) -> list[np.ndarray]:
        """i32[M, width] of every list whose values have weights."""
        return [np.where(self.list_codes[name] == PAD, PAD, packed(x)) for name, x in self.list_weights.items()]

    @property
    def _coded(self) -> tuple[CodedField, ...]:
        """What has codes of its own."""
        return (*self.fields, *(f for f in self.lists if not f.shares))

    def _offset_of(self, name: str, sizes: list[int]) -> int:
        of = {f.name: owner_of(f) for f in self.lists}[name]
        return int(_starts(sizes)[[f.name for f in self._coded].index(of)])

    def _ids_of_field(self) -> list[int]:
        return [len(self.codebook[f.name][0]) + 2 for f in self._coded]

    def label(self, view: str = DEFAULT_VIEW) -> np.ndarray:
        """f32[M]: what a student trains on.

        Args:
          view: 'blend' (the default), 'soft', 'mean' or 'hard' (docs/concepts.md).
        Raises:
          UserError: another view.
        """
        if view not in VIEWS:
            raise UserError(f"a memory has no view '{view}'{closest(view, VIEWS)}")
        return np.mean([self.columns[name] for name in VIEWS[view]], 0, dtype=np.float32)

    def encode(self, table: Any) -> Encoded:
        """Encodes rows of the log, its own columns as they are, as the run does.

        Columns that come from side tables are joined from there, unless the table has them. A time without a zone is
        local, as in the log. Values are taken in the memory's types: 7 for '7' where it has integers, and the reverse.

        Args:
          table: N rows: a pandas or polars DataFrame, an Arrow table, anything with `__arrow_c_stream__`, or a dict of
            arrays. It needs the columns of `fields`, and the time column where 'hour' or 'weekday' is one.
        Returns:
          `Encoded(ids, codes)`, i32[N, F] each, numbered as the memory's own `ids` and `codes` are, and its lists.
        Raises:
          UserError: a column is missing, a value is not of the memory's type, a side table is gone, or the memory is
            of a version that did not say how its log is encoded.

        >>> memory = load_memory('runs/demo/memory')  # doctest: +SKIP
        >>> rows = memory.encode(pandas.read_parquet('logs/2022-05-08.parquet'))  # doctest: +SKIP
        >>> embeddings = table[rows.codes + memory.offsets()]  # doctest: +SKIP
        """
        if 'data' not in self.manifest:
            raise UserError(
                f'the memory of stage {self.manifest["stage"]} was written by an earlier version, which did not say '
                'how its log is encoded: distill again'
            )
        return encode(table, (*self.fields, *self.lists), self.codebook, self.manifest['data'])

    def code_of_slots(self, stream) -> np.ndarray:
        """i32[V]: the table row of every slot of an encoded stream; values not in the codebook get the unseen code."""
        owner, names = stream.field_of_slot(stream.num_slots), stream.layout.names
        table = np.zeros(stream.num_slots, np.int32)
        for field, offset in zip(self._coded, _starts([f.codes for f in self._coded]), strict=True):
            f = names.index(field.name)
            slots = np.flatnonzero(owner == f)
            values, codes = self.codebook[field.name]
            of_stream = stream.values(slots)
            found = pc.index_in(of_stream, value_set=values.cast(of_stream.type))  # text since, maybe: the same values
            known = found.is_valid().to_numpy(zero_copy_only=False)
            found = found.fill_null(0).to_numpy()
            table[slots] = np.where(known, codes[found] if len(codes) else 0, field.unseen_code) + offset
            table[2 * f] = field.missing_code + offset
        return table

    def slots(self, stream) -> np.ndarray:
        """i32[M, W]: the rows in the slots of an encoded stream, as its blocks have them."""
        owner, columns = stream.field_of_slot(stream.num_slots), []
        for f, field in enumerate((*self.fields, *self.lists)):
            slots, column = np.flatnonzero(owner == stream.layout.owners[f]), self.values[field.name]
            of_stream, flat = stream.values(slots), column.flatten() if field.kind == 'list' else column
            found = pc.index_in(flat.cast(of_stream.type), value_set=of_stream, skip_nulls=True)
            found = slots[found.fill_null(0).to_numpy()].astype(np.int32)  # null is the field's first slot, MISSING
            columns.append(right(found, lengths(column), field.width) if field.kind == 'list' else found[:, None])
        return np.concatenate([*columns, *self._packed()], 1)


def load_memory(path: str | Path) -> Artifact:
    """Reads and checks a memory.

    Args:
      path: its folder: `memory` of a run, or one below its `history`. Read is one stage, also while a run goes on.
    Raises:
      UserError: no memory there, another format version, or a file that is missing or not as written.

    >>> memory = load_memory('runs/demo/memory')  # doctest: +SKIP
    >>> memory.codes.shape, memory.label().shape, memory.num_codes  # doctest: +SKIP
    ((1920, 10), (1920,), 421)
    """
    folder = Path(path)
    for _ in range(SWAPS):
        manifest = read_manifest(folder)
        try:
            return _loaded(folder, manifest)
        except UserError:
            if _manifest(folder) == manifest:
                raise  # else the folder was replaced meanwhile: what is read now is of another stage
    raise UserError(f'{folder} is replaced again and again while it is read: read one below history/, which stays')


def _manifest(folder: Path) -> dict | None:
    """The manifest that is there now; None where there is none, or none that can be read."""
    try:
        return read_manifest(folder)
    except UserError:
        return None


def _loaded(folder: Path, manifest: dict) -> Artifact:
    """The memory of a manifest. Every file is read once: what is checked is what is used."""
    files = {name: _read(folder / name, digest) for name, digest in manifest['checksums'].items()}
    fields = tuple(_field(f) for f in manifest['fields'])
    codebook = {}
    for f in (f for f in fields if not f.shares):
        name = f'codebook/{f.name}.parquet'
        t = _table(folder / name, files[name], {'value': '', 'code': 'int32'}).combine_chunks()
        _check_codes(f, t['code'], len(t) + len(f.bounds) + 2, folder / name)
        known = t.filter(pc.is_valid(t['value'])).combine_chunks()
        codebook[f.name] = (known['value'].combine_chunks(), known['code'].to_numpy())
    lists = tuple(f for f in fields if f.kind == 'list')
    fields = tuple(f for f in fields if f.kind != 'list')
    rows = _rows(folder / 'rows.parquet', files['rows.parquet'], manifest, (*fields, *lists))
    return Artifact(manifest=manifest, fields=fields, lists=lists, rows=rows, codebook=codebook)


def _read(path: Path, digest: str) -> bytes:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        data = b''
    if hashlib.sha256(data).hexdigest() != digest:
        raise UserError(f'{path} is missing or not as it was written (checksum): copy or distill it again')
    return data


def _field(said: dict) -> CodedField:
    """A field of the manifest, without what a newer version says of it."""
    known = {key: said[key] for key in CodedField._fields if key in said}
    return CodedField(**{**known, 'bounds': tuple(said['bounds'])})


def _rows(path: Path, data: bytes, manifest: dict, fields: Sequence[CodedField]) -> pa.Table:
    """rows.parquet, with the columns and codes that the manifest says."""
    numbers = dict.fromkeys(MEMORY_COLUMNS, 'float') | {'stage': 'int32'}
    for outcome in manifest.get('outcomes', [''])[1:]:
        numbers |= {label_column(name, outcome): 'float' for name in LABELS}
    codes = {f'{f.name}__code': 'list<item: int32>' if f.kind == 'list' else 'int32' for f in fields}
    weights = {f.weights: 'list<item: float>' for f in fields if f.weights}
    table = _table(path, data, {**dict.fromkeys((f.name for f in fields), ''), **codes, **weights, **numbers})
    if len(table) != manifest['rows']:
        raise UserError(f'{path} has {len(table)} rows, and its manifest says {manifest["rows"]}: distill again')
    for f in fields:
        column = table[f'{f.name}__code']
        _check_codes(f, pc.list_flatten(column) if f.kind == 'list' else column, f.codes, path)
    return table


def _table(path: Path, data: bytes, columns: Mapping[str, str]) -> pa.Table:
    """A Parquet file with these columns of these types, '' for any."""
    try:
        table = pq.read_table(arrow.source(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f'{path} is no Parquet file ({type(error).__name__}): copy or distill it again') from error
    for name, kind in columns.items():
        found = str(table.schema.field(name).type) if name in table.column_names else 'missing'
        found = found.replace('list<element:', 'list<item:')  # as Parquet calls it, or Arrow
        if found == 'missing' or kind not in ('', found):
            raise UserError(f"{path}: column '{name}' is {found}, not {kind or 'there'}: copy or distill it again")
    return table


def _check_codes(field: CodedField, codes: pa.ChunkedArray, most: int, path: Path) -> None:
    """Raises UserError for codes that the field does not have, or more codes than a file can have told of."""
    least, last = pc.min_max(codes).as_py().values()
    if field.codes > most or codes.null_count or not (least is None or 0 <= least <= last < field.codes):
        raise UserError(
            f'{path} has codes {least} to {last}, and the manifest {field.codes} codes of {field.name}: distill again'
        )


def _starts(sizes: list[int]) -> np.ndarray:
    return np.cumsum([0, *sizes[:-1]]).astype(np.int32)
