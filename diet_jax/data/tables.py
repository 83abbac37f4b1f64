"""Reads columns of one file: Parquet in its own types, CSV as the text that stands there.

No type is guessed here: `values` decides what a column is, over all files at once.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from diet_jax.base import arrow
from diet_jax.base.errors import UserError, closest
from diet_jax.data.files import CHUNK, LogFile, Root, unpacked

ROWS = 1 << 19  # of a piece, about
CSV_BLOCKS = (1 << 22, 1 << 25, 1 << 28, 1 << 30)  # bytes parsed at a time; larger where a value is longer
PARQUET_BUFFER = 1 << 20  # bytes of a column read at a time
SMALL = 1 << 16  # bytes of a file that is read at once
SEPARATOR = '\x1f'  # stands for a delimiter of several characters; the text must not hold it

# What pyarrow and codecs raise for a file that is not what the config says: each was met with a damaged or odd file.
PARSE_ERRORS = (
    pa.ArrowInvalid,  # bytes that do not parse
    pa.ArrowNotImplementedError,  # Parquet or CSV that this pyarrow has no reader for: a codec, a nesting, an encoding
    pa.ArrowKeyError,  # a column that the header does not have
    UnicodeError,  # text of another encoding
    LookupError,  # an encoding that does not exist
    OSError,  # truncated, or unreadable
)


class Form(NamedTuple):
    """How a file is written: `data.csv`, and `data.rename`."""

    csv: Mapping
    rename: Mapping[str, str]  # name in the file -> name here
    key: str = 'data.csv'  # where the former is set

    def here(self, name: str) -> str:
        return self.rename.get(name, name)


def form_of(data: Mapping, csv: Mapping | None = None) -> Form:
    """Of the log's files; csv: what a side table has otherwise."""
    if csv is None:
        return Form(data['csv'], data.get('rename', {}))
    key = "csv=dict(encoding='latin1', ...) of the side table"
    return Form({**data['csv'], 'column_names': (), **csv}, data.get('rename', {}), key)


def column_names(root: Root, file: LogFile, form: Form) -> list[str]:
    """Names of a file's columns, without reading the whole of it; those that its folders say come last.

    Raises:
      UserError: the file does not parse, or has two columns of one name.
    """
    return list(_columns_of(root, file, form))


def _columns_of(root: Root, file: LogFile, form: Form) -> dict[str, str | None]:
    """{name here: name in the file, None where a folder says it}."""
    own = _own_names(root, file, form)
    names = [form.here(name) for name in own]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{file.name} has two columns '{name}': remove one of them, or give one another name")
    return {**dict.fromkeys(form.here(name) for name in file.partitions), **dict(zip(names, own, strict=True))}


def _own_names(root: Root, file: LogFile, form: Form) -> list[str]:
    csv = form.csv
    try:
        if not file.is_csv:
            with root.system.open_input_file(file.path) as source:
                return pq.read_schema(source).names
        return list(csv['column_names']) or _first_line(root, file, csv)
    except PARSE_ERRORS as error:
        raise _cannot_read(file, error, form.key) from error


def _first_line(root: Root, file: LogFile, csv: Mapping) -> list[str]:
    """A line break or a long value may stand inside the first values."""
    first_error = None
    for read_on, block in ((False, CSV_BLOCKS[0]), *((True, block) for block in CSV_BLOCKS[:-1])):
        read, parse = _options(csv, newlines=read_on)
        read.block_size = block
        try:
            with pa.csv.open_csv(_open_csv(root, file, csv), read_options=read, parse_options=parse) as reader:
                return reader.schema.names
        except pa.ArrowInvalid as error:
            first_error = first_error or error
            if not csv['quote']:
                break
    raise first_error


def read_columns(
    root: Root, file: LogFile, form: Form, columns: Iterable[str], unlike: Iterable[str] = ()
) -> dict[str, pa.Array]:
    """All rows of some columns of one file: name -> one array [N]; otherwise as `batches`."""
    columns = list(dict.fromkeys(columns))
    parts = list(batches(root, file, form, columns, unlike))
    return {name: one_array(pa.chunked_array([part[name] for part in parts])) for name in columns}


def batches(
    root: Root,
    file: LogFile,
    form: Form,
    columns: Iterable[str],
    unlike: Iterable[str] = (),
    rows: int = ROWS,
    at: Callable[[int], None] = lambda size: None,
) -> Iterator[dict[str, pa.Array]]:
    """Reads some columns of one file, piece by piece: name -> array [about `rows`, and not many more].

    A file without a row gives one piece without a row.

    Args:
      unlike: columns most of whose values differ; text of others comes as dictionaries of different words.
      at: told after every piece how many of the file's bytes are read, about.
    Raises:
      UserError: the file does not parse, lacks a column, or quotes swallow lines.
    """
    columns, own = list(dict.fromkeys(columns)), _columns_of(root, file, form)
    for name in columns:
        if name not in own:
            raise UserError(f"{file.name} has no column '{name}'{closest(name, own)}: correct config.data")
    wanted = {name: own[name] for name in columns if own[name] is not None}
    in_file = list(wanted.values()) or [name for name in own.values() if name is not None][:1]
    folders = {form.here(key): value for key, value in file.partitions.items()}
    try:
        if file.is_csv:
            read = _read_csv(root, file, form.csv, in_file, {own[name] for name in unlike if name in own}, at)
        else:
            read = _read_parquet(root, file, in_file, rows, at)
        for table in _together(read, rows):
            found = {name: one_array(table.column(of_file)) for name, of_file in wanted.items()}
            for name, value in folders.items():
                if name in wanted:
                    _check_folder(file, name, value, found.pop(name))
            for name in columns:
                if name not in found:
                    found[name] = pa.repeat(pa.scalar(folders[name], pa.string()), table.num_rows)
            yield {name: found[name] for name in columns}
    except PARSE_ERRORS as error:
        raise _cannot_read(file, error, form.key, [name for name in own.values() if name is not None]) from error


def _check_folder(file: LogFile, name: str, value: str | None, column: pa.Array) -> None:
    """Raises UserError for a folder that says otherwise than the file's own column."""
    for own in pc.unique(column).to_pylist():
        number = str(value).isdigit() and str(own).lstrip('0') == str(value).lstrip('0')  # month=03, and 3
        same = str(own).lower().removesuffix(' 00:00:00') == str(value).lower()
        if not same and not number:
            raise UserError(
                f"{file.name}: column '{name}' holds {own!r}, and its folder says {value!r}: remove the column "
                'from the files, or rename the folders'
            )


def _together(read: Iterator[pa.RecordBatch | pa.Table], rows: int) -> Iterator[pa.Table]:
    """Small pieces joined until they have so many rows."""
    held: list[pa.Table] = []
    last = None
    for piece in read:
        table = piece if isinstance(piece, pa.Table) else pa.Table.from_batches([piece])
        last = table
        if len(table):
            held.append(table)
        if sum(map(len, held)) >= rows:
            yield pa.concat_tables(held)
            held, last = [], held[-1]
    if held:
        yield pa.concat_tables(held)
    elif last is not None and not len(last):
        yield last


def _read_parquet(root: Root, file: LogFile, columns: list[str], rows: int, at: Callable) -> Iterator[pa.Table]:
    with root.system.open_input_file(file.path) as source:
        schema, instants = pq.read_schema(source), _instants(source) & set(columns)
        text = [name for name in columns if pa.types.is_string(schema.field(name).type)]
        source.seek(0)
        table = pq.ParquetFile(source, read_dictionary=text, buffer_size=PARQUET_BUFFER)
        done = 0
        for batch in table.iter_batches(rows, columns=columns):
            done += len(batch)
            at(file.size * done // table.metadata.num_rows)
            yield _with_instants(pa.Table.from_batches([batch]), instants)
        if not done:
            yield _with_instants(schema.empty_table().select(columns), instants)


def _with_instants(table: pa.Table, instants: set[str]) -> pa.Table:
    for name in instants:
        place = table.column_names.index(name)
        table = table.set_column(place, name, table[name].cast(pa.timestamp('ns', 'UTC')))
    return table


def _instants(source) -> set[str]:
    """Columns of Spark's INT96 times, which are instants of UTC, though nothing in the file says so."""
    schema = pq.ParquetFile(source).schema
    return {schema.column(i).name for i in range(len(schema)) if schema.column(i).physical_type == 'INT96'}


def _options(csv: Mapping, newlines: bool = False) -> tuple[pa.csv.ReadOptions, pa.csv.ParseOptions]:
    several = len(csv['delimiter']) > 1
    read = pa.csv.ReadOptions(column_names=list(csv['column_names']) or None)
    parse = pa.csv.ParseOptions(
        delimiter=SEPARATOR if several else csv['delimiter'],
        quote_char=False if several else csv['quote'] or False,
        escape_char=csv['escape'] or False,
        newlines_in_values=newlines,
    )
    return read, parse


def _open_csv(root: Root, file: LogFile, csv: Mapping):
    return _as_utf8(root.system.open_input_stream(file.path, compression=None), file, csv)


def _as_utf8(stream, file: LogFile, csv: Mapping):
    """The text of a file, as UTF-8 with one character between values. stream: of its bytes."""
    ' '.encode(csv['encoding'])  # a LookupError where it is none of text, as base64, which `codecs.lookup` finds
    plain = len(csv['delimiter']) == 1 and codecs.lookup(csv['encoding']).name == 'utf-8'
    if file.packed:
        stream = pa.CompressedInputStream(stream, file.packed)
    elif file.size < SMALL and plain:
        text = stream.read()  # a header alone, without an end of its line, is one all the same
        return arrow.source(text if text.endswith(b'\n') else text + b'\n')
    return stream if plain else arrow.stream(_Text(stream, csv['delimiter'], csv['encoding'], file.name))


class _Text(io.RawIOBase):
    """Text as UTF-8; where its delimiter has several characters, with one in its place."""

    def __init__(self, stream, delimiter: str, encoding: str, name: str):
        self.name, self.delimiter = name, delimiter
        self.pieces = self._pieces(stream, codecs.getincrementaldecoder(encoding)())
        self.ready = bytearray()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """`size` bytes, fewer at the end alone: Arrow takes what comes for a block."""
        while size < 0 or len(self.ready) < size:
            piece = next(self.pieces, None)
            if piece is None:
                break
            self.ready += piece
        end = len(self.ready) if size < 0 else size
        found = bytes(self.ready[:end])
        del self.ready[:end]
        return found

    def _pieces(self, stream, decoder) -> Iterator[bytes]:
        """Whole lines where a delimiter could be cut; the last one has an end, as Arrow wants of a header."""
        several, text, last, ended = len(self.delimiter) > 1, '', '', False
        while not ended:
            chunk = stream.read(CHUNK)
            ended = not chunk
            text += decoder.decode(chunk, final=ended)
            if several and SEPARATOR in text:
                raise UserError(f'{self.name} holds the control character 0x1f: use a delimiter of one character')
            end = text.rfind('\n') + 1 if several and not ended else len(text)
            yield (text[:end].replace(self.delimiter, SEPARATOR) if several else text[:end]).encode()
            last, text = text[:end][-1:] or last, text[end:]
        if last != '\n':
            yield b'\n'


def _read_csv(root: Root, file: LogFile, csv: Mapping, columns: list[str], unlike: set[str], at: Callable) -> Iterator:
    quoted, rows = _holds(root, file, csv), 0
    for batch in _parsed(root, file, csv, columns, unlike, quoted, at):
        rows += len(batch)
        yield batch
    if quoted and _lines(root, file) - (not csv['column_names']) > rows and (lost := _swallowed(root, file, csv)):
        raise UserError(
            f'{file.name}: quotes swallow {lost} of {rows + lost} rows; a value holds the rest of its line and '
            "whole lines behind it: set data.csv.quote='' where quotes mean nothing, or close the quotes"
        )


def _swallowed(root: Root, file: LogFile, csv: Mapping) -> int:
    """How many rows lie inside values: what a value holds of its own line and of the last one makes a whole line.

    A line break that a value means has other text around it: as many delimiters, by chance, in a few values at most.
    """
    with pa.csv.open_csv(
        _open_csv(root, file, csv), read_options=_options(csv)[0], parse_options=_options(csv, newlines=True)[1]
    ) as reader:
        names = reader.schema.names
    broken, rows, lone = 0, 0, 0
    for batch in _parsed(root, file, csv, names, set(names), True, lambda size: None):
        for column in batch.columns:
            values = column.filter(pc.match_substring(column, '\n'))
            for text in values.to_pylist():
                broken += 1
                first, *inner, last = (line.count(csv['delimiter']) for line in text.split('\n'))
                if first + last == len(names) - 1 and all(count == len(names) - 1 for count in inner):
                    rows += len(inner) + 1
                    lone += not inner
    certain = rows - lone
    return rows if certain or (len(names) > 2 and lone and 2 * lone > broken) else 0


def _parsed(
    root: Root, file: LogFile, csv: Mapping, columns: list[str], unlike: set[str], newlines: bool, at: Callable
) -> Iterator[pa.RecordBatch | pa.Table]:
    """Batches of a CSV file; a value that is longer than a block is read in larger blocks."""
    read, parse = _options(csv, newlines)
    words = pa.dictionary(pa.int32(), pa.string())
    convert = pa.csv.ConvertOptions(
        include_columns=columns,
        column_types={name: pa.string() if name in unlike else words for name in columns},
        strings_can_be_null=False,
        quoted_strings_can_be_null=False,
    )
    done = 0
    for read.block_size in CSV_BLOCKS:
        skip = done
        try:
            packed = root.system.open_input_file(file.path)
            stream = _as_utf8(packed, file, csv)
            with pa.csv.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert) as reader:
                if not done:
                    yield reader.schema.empty_table()
                for batch in reader:
                    fresh = batch.slice(min(skip, len(batch)))
                    skip -= len(batch) - len(fresh)
                    done += len(fresh)
                    at(file.size if packed.closed else packed.tell())
                    yield fresh
            return
        except pa.ArrowInvalid as error:
            if not re.search('straddl|out of sync', str(error)) or read.block_size == CSV_BLOCKS[-1]:
                raise


def _holds(root: Root, file: LogFile, csv: Mapping) -> bool:
    """Whether a file has quotes that mean something."""
    quote = csv['quote'] if len(csv['delimiter']) == 1 else ''
    if not quote:
        return False
    if file.looked_for == quote:
        return file.quoted
    return any(quote.encode() in chunk for chunk in unpacked(root, file))


def _lines(root: Root, file: LogFile) -> int:
    """Lines that are not empty."""
    lines, last = 0, b'\n'
    for chunk in unpacked(root, file):
        lines += chunk.count(b'\n') - chunk.count(b'\n\n') - (last == b'\n' and chunk[:1] == b'\n')
        last = chunk[-1:]
    return lines + (last != b'\n')


def _cannot_read(file: LogFile, error: Exception, key: str, names: Iterable[str] = ()) -> UserError:
    said, names = str(error).replace('\n', ' '), list(names)
    at = re.match(r'In CSV column #(\d+): (.*)', said)
    if at and int(at[1]) < len(names):
        return UserError(
            f"{file.name}: column '{names[int(at[1])]}' cannot be read as text ({at[2]}): set "
            f'{key if key != "data.csv" else "data.csv.encoding"}'
        )
    kind = 'CSV' if file.is_csv else 'Parquet'
    way_out = f'check {key} (delimiter, column_names, quote, encoding)' if file.is_csv else 'fetch it again'
    if file.packed and isinstance(error, OSError):
        way_out = 'fetch it again'
    return UserError(f'{file.name} does not parse as {kind} ({said}): {way_out}')


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """All of a column; dictionaries share one."""
    if pa.types.is_dictionary(column.type):
        try:
            column = column.unify_dictionaries()
        except pa.ArrowInvalid:  # its indices are too narrow for all values
            column = column.cast(column.type.value_type)
    column = _usual(column)
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # older pyarrow: no chunk, or several that do not fit one
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array


def _usual(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Types for which pyarrow lacks functions as their usual ones."""
    kind = column.type
    if pa.types.is_decimal(kind) and kind.bit_width < 128:
        return column.cast(pa.decimal128(kind.precision, kind.scale))
    return column.cast(pa.binary()) if str(kind) == 'binary_view' else column
