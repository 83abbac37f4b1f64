"""Columns of a table, or of a sample of it where it is large: enough to see what they are, in seconds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from diet_jax.base import arrow
from diet_jax.base.errors import UserError
from diet_jax.data import files
from diet_jax.data.tables import PARSE_ERRORS, SEPARATOR
from diet_jax.data.values import without_null_words
from diet_jax.describe.formats import Format, decoded, recognised
from diet_jax.describe.look import Group
from diet_jax.describe.typed import typed

CELLS = 40_000_000  # values that are read of a Parquet table
BYTES = 64 << 20  # that are read of a text
PIECES = 256  # places at which a large text is read: a sorted log's days are all met
TEXTS = 16  # files of a large text that are read
OPENED = 400  # Parquet files whose row counts are read


class Sample(NamedTuple):
    """Some rows of a table."""

    columns: dict[str, pa.Array]  # each [N], of the types of `typed.Typed`
    rows: int  # of the whole table; about, where it was not read whole
    whole: bool
    nulls: dict[str, tuple[str, ...]]  # column -> words that stand among its numbers: null in every column of text
    verbatim: tuple[str, ...]  # columns that must be taken as written
    encoding: str = 'utf8'


def read(root: files.Root, group: Group, cells: int = CELLS, size: int = BYTES) -> Sample:
    """The columns that all files of a table have.

    Args: cells, size: at most so many values of Parquet, so many bytes of text.
    Raises:
      UserError: a file does not parse.
    """
    try:
        if group.format.kind == 'parquet':
            return _parquet(root, group, max(cells // max(len(group.format.columns), 1), 1000))
        return _text(root, group, size)
    except PARSE_ERRORS as error:
        raise UserError(f'{group.name} in {root.shown} cannot be read ({error}): fetch it again, or move it') from error


def _parquet(root: files.Root, group: Group, rows: int) -> Sample:
    columns, places, counted = list(group.format.columns), [], 0
    opened = _evenly(group.files, OPENED)
    for file in opened:
        with root.system.open_input_file(file.path) as source:
            meta = pq.ParquetFile(source).metadata
            places += [(file, i, meta.row_group(i).num_rows) for i in range(meta.num_row_groups)]
            counted += meta.num_rows
    total = round(counted * sum(f.size for f in group.files) / max(sum(f.size for f in opened), 1))
    whole = len(opened) == len(group.files) and counted <= rows
    taken = places if whole else _evenly(places, max(8, rows // max(counted // max(len(places), 1), 1)))
    each = max(rows // max(len(taken), 1), 1)
    parts = []
    for file, of_file in itertools.groupby(taken, key=lambda place: place[0]):
        with root.system.open_input_file(file.path) as source:
            table = pq.ParquetFile(source)
            for _, i, count in of_file:
                if whole or count <= each:
                    parts.append(table.read_row_group(i, columns=columns))
                    continue
                batches, had = [], 0
                for batch in table.iter_batches(min(each, 65_536), row_groups=[i], columns=columns):
                    batches.append(batch)
                    had += len(batch)
                    if had >= each:
                        break
                parts.append(pa.Table.from_batches(batches))
    return _sample(parts, group, total, whole)


def _evenly(things: Sequence, taken: int) -> list:
    """At most `taken` of them, the first and the last among them."""
    if len(things) <= taken:
        return list(things)
    return [things[i] for i in np.unique(np.linspace(0, len(things) - 1, taken).round().astype(int))]


def _sample(parts: list[pa.Table], group: Group, rows: int, whole: bool) -> Sample:
    found = {
        name: typed([chunk for piece in pieces for chunk in piece.chunks]) for name, pieces in _of_all(parts, group)
    }
    nulls = {name: column.nulls for name, column in found.items() if column.nulls}
    columns = without_words({name: column.values for name, column in found.items()}, nulls)
    verbatim = tuple(name for name, column in found.items() if column.verbatim)
    return Sample(columns, rows, whole, nulls, verbatim)


def without_words(columns: Mapping[str, pa.Array], nulls: Mapping[str, Sequence[str]]) -> dict[str, pa.Array]:
    """Columns whose text has the words of any of them as nulls, as preparation will read it."""
    words = {word for of_column in nulls.values() for word in of_column}
    if not words:
        return dict(columns)
    return {
        name: without_null_words(column, words) if pa.types.is_string(column.type) else column
        for name, column in columns.items()
    }


def _text(root: files.Root, group: Group, size: int) -> Sample:
    packed = [file for file in group.files if file.packed]
    total = sum(file.size for file in group.files) + 3 * sum(file.size for file in packed)
    whole = total <= size
    taken = list(group.files) if whole else _evenly(group.files, TEXTS)
    parts, had, read_bytes, encodings = [], 0, 0, {group.format.encoding}
    for file in taken:
        form = recognised(root, file) or group.format  # columns may stand in another order than in the first
        each = None if whole else size // len(taken)
        for piece, at_start in _pieces(root, file, each, max(PIECES // len(taken), 1)):
            text, encoding = decoded(piece)
            table = _parsed(text, at_start, form)
            parts.append(table)
            encodings.add(encoding)
            had, read_bytes = had + len(table), read_bytes + len(piece)
    if not had:
        raise UserError(f'{group.name} in {root.shown} has no rows: fetch it again, or move it')
    rows = had if whole else round(had * total / max(read_bytes, 1))
    encoding = 'latin1' if 'latin1' in encodings else 'utf8'
    return _sample(parts, group, rows, whole)._replace(encoding=encoding)


def _of_all(parts: list[pa.Table], group: Group) -> list[tuple[str, list[pa.ChunkedArray]]]:
    """The pieces of every column that all parts have."""
    names = [name for name in group.format.columns if all(name in part.column_names for part in parts)]
    return [(name, [part.column(name) for part in parts]) for name in names]


def _pieces(root: files.Root, file: files.LogFile, size: int | None, pieces: int) -> Iterator[tuple[bytes, bool]]:
    """(bytes of whole lines, whether they begin the file)."""
    if size is None or size >= file.size or file.packed:
        with root.system.open_input_stream(file.path, compression=file.packed) as stream:
            text = stream.read(size) if file.packed and size else stream.read()
        yield (text if size is None or len(text) < size else text[: text.rfind(b'\n') + 1]), True
        return
    with root.system.open_input_file(file.path) as source:
        length = size // pieces
        for start in np.linspace(0, file.size - length, pieces).astype(int):
            source.seek(int(start))
            text = source.read(length)
            yield text[text.find(b'\n') + 1 if start else 0 : text.rfind(b'\n') + 1], start == 0


def _parsed(text: str, at_start: bool, form: Format) -> pa.Table:
    """Lines as columns of strings; lines with another number of values are left out."""
    text = text.replace(form.delimiter, SEPARATOR) if len(form.delimiter) > 1 else text
    if not text.strip():
        return pa.table({name: pa.array([], pa.string()) for name in form.columns})
    try:
        return _read_csv(text, at_start, form, lines_in_quotes=False)
    except pa.ArrowInvalid:
        return _read_csv(text, at_start, form, lines_in_quotes=True)  # slower


def _read_csv(text: str, at_start: bool, form: Format, lines_in_quotes: bool) -> pa.Table:
    several = len(form.delimiter) > 1
    return pa.csv.read_csv(
        arrow.source(text.encode()),
        read_options=pa.csv.ReadOptions(
            column_names=list(form.columns), skip_rows=1 if form.header and at_start else 0
        ),
        parse_options=pa.csv.ParseOptions(
            delimiter=SEPARATOR if several else form.delimiter,
            quote_char=False if several else '"',
            newlines_in_values=lines_in_quotes,
            invalid_row_handler=lambda row: 'skip',
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(form.columns, pa.string()),
            strings_can_be_null=False,
            quoted_strings_can_be_null=False,
        ),
    )
