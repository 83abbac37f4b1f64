"""Columns of a table, or of a sample of it where it is large: enough to see what they are, in seconds."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from diet_jax.base.errors import UserError
from diet_jax.data import files
from diet_jax.describe.formats import Format, decoded, recognised
from diet_jax.describe.look import Group

CELLS = 40_000_000  # values that are read of a Parquet table
BYTES = 64 << 20  # that are read of a text
PIECES = 256  # places at which a large text is read: a sorted log's days are all met
TEXTS = 16  # files of a large text that are read
OPENED = 400  # Parquet files whose row counts are read
SEPARATOR = '\x1f'
NULLS = ['', 'NULL', 'null', '\\N', 'NA', 'N/A', 'n/a', 'nan', 'NaN', 'None']


class Sample(NamedTuple):
    """Some rows of a table."""

    columns: dict[str, pa.Array]  # each [N]; text is typed by what it holds: int64, float64, bool, timestamp, string
    rows: int  # of the whole table; about, where it was not read whole
    whole: bool
    strings: tuple[str, ...] = ()  # columns of text whose digits are no numbers: 0501, or a word among them


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
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
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
    return Sample({name: _joined(pieces) for name, pieces in _of_all(parts, group)}, total, whole)


def _evenly(things: Sequence, taken: int) -> list:
    """At most `taken` of them, the first and the last among them."""
    if len(things) <= taken:
        return list(things)
    return [things[i] for i in np.unique(np.linspace(0, len(things) - 1, taken).round().astype(int))]


def _joined(parts: list[pa.ChunkedArray]) -> pa.Array:
    """Pieces of a column as one array, in a type that holds them all."""
    arrays = [chunk for part in parts for chunk in part.chunks]
    arrays = [a.dictionary_decode() if pa.types.is_dictionary(a.type) else a for a in arrays]
    kinds = {a.type for a in arrays if not pa.types.is_null(a.type)}
    if not kinds:
        return pa.nulls(sum(map(len, arrays)))
    if len(kinds) == 1:
        wanted = kinds.pop()
    elif all(pa.types.is_integer(kind) for kind in kinds):
        wanted = pa.int64()
    elif all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds):
        wanted = pa.float64()
    elif all(pa.types.is_timestamp(kind) for kind in kinds):
        wanted = max(kinds, key=lambda kind: ('s', 'ms', 'us', 'ns').index(kind.unit))
    else:
        wanted = pa.string()
    return pa.concat_arrays([a.cast(wanted, safe=False) for a in arrays])


def _text(root: files.Root, group: Group, size: int) -> Sample:
    packed = [file for file in group.files if file.packed]
    total = sum(file.size for file in group.files) + 3 * sum(file.size for file in packed)
    whole = total <= size
    taken = list(group.files) if whole else _evenly(group.files, TEXTS)
    parts, had, read_bytes = [], 0, 0
    for file in taken:
        form = recognised(root, file) or group.format  # columns may stand in another order than in the first
        each = None if whole else size // len(taken)
        for piece, at_start in _pieces(root, file, each, max(PIECES // len(taken), 1)):
            table = _parsed(piece, at_start, form)
            parts.append(table)
            had, read_bytes = had + len(table), read_bytes + len(piece)
    if not had:
        raise UserError(f'{group.name} in {root.shown} has no rows: fetch it again, or move it')
    rows = had if whole else round(had * total / max(read_bytes, 1))
    columns, strings = {}, []
    for name, pieces in _of_all(parts, group):
        columns[name], odd = typed(pa.concat_arrays([chunk for piece in pieces for chunk in piece.chunks]))
        strings += [name] if odd else []
    return Sample(columns, rows, whole, tuple(strings))


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


def _parsed(piece: bytes, at_start: bool, form: Format) -> pa.Table:
    """Lines as columns of strings; lines with another number of values are left out."""
    text = decoded(piece)[0].replace(form.delimiter, SEPARATOR) if len(form.delimiter) > 1 else decoded(piece)[0]
    if not text.strip():
        return pa.table({name: pa.array([], pa.string()) for name in form.columns})
    try:
        return _read_csv(text, at_start, form, lines_in_quotes=False)
    except pa.ArrowInvalid:
        return _read_csv(text, at_start, form, lines_in_quotes=True)  # slower


def _read_csv(text: str, at_start: bool, form: Format, lines_in_quotes: bool) -> pa.Table:
    several = len(form.delimiter) > 1
    return pa.csv.read_csv(
        io.BytesIO(text.encode()),
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
            column_types=dict.fromkeys(form.columns, pa.string()), strings_can_be_null=True, null_values=NULLS
        ),
    )


def typed(text: pa.Array) -> tuple[pa.Array, bool]:
    """Strings as what they write, and whether they are digits that no number keeps: codes with zeros in front, or
    numbers with words among them.

    >>> typed(pa.array(['3', None, '-4']))[0].type, typed(pa.array(['0501', '501']))[1]
    (DataType(int64), True)
    """
    filled = text.drop_null()
    if not len(filled):
        return text, False
    digits = pc.match_substring_regex(filled, r'^-?\d+$')
    share = pc.mean(digits).as_py()
    if share == 1:
        kept = pc.all(pc.match_substring_regex(filled, r'^(0|-?[1-9]\d{0,17})$')).as_py()
        return (text.cast(pa.int64()), False) if kept else (text, True)
    if pc.all(pc.match_substring_regex(filled, r'^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$')).as_py():
        return text.cast(pa.float64()), False
    words = pc.utf8_lower(filled)
    if pc.all(pc.is_in(words, value_set=pa.array(['true', 'false']))).as_py():
        return pc.equal(pc.utf8_lower(text), 'true'), False
    if pc.all(pc.match_substring_regex(filled, r'^\d{4}-\d\d-\d\d([ T]\d\d:\d\d)?')).as_py():
        zoned = pc.match_substring_regex(filled[:1], r':\d\d.*(Z|[+-]\d\d:?\d\d)$')[0].as_py()
        try:
            return text.cast(pa.timestamp('us', 'UTC' if zoned else None)), False
        except pa.ArrowInvalid:
            return text, False
    return text, share > 0.5
