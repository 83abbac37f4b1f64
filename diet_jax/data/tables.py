"""Reads columns of one file: Parquet in its own types, CSV as the text that stands there.

No type is guessed here: `values` decides what a column is, over all files at once.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from diet_jax.base.errors import UserError, closest
from diet_jax.data.files import CHUNK, LogFile, Root

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

    def here(self, name: str) -> str:
        return self.rename.get(name, name)


def form_of(data: Mapping, csv: Mapping | None = None) -> Form:
    """Of the log's files; csv: what a side table has otherwise."""
    if csv is None:
        return Form(data['csv'], data.get('rename', {}))
    return Form({**data['csv'], 'column_names': (), **csv}, data.get('rename', {}))


def column_names(root: Root, file: LogFile, form: Form) -> list[str]:
    """Names of a file's columns, without reading the whole of it; those that its folders say come last.

    Raises:
      UserError: the file does not parse, or has two columns of one name.
    """
    names = [form.here(name) for name in _own_names(root, file, form.csv)]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{file.name} has two columns '{name}': remove one of them, or give one another name")
    return [*names, *(form.here(name) for name in file.partitions if form.here(name) not in names)]


def _own_names(root: Root, file: LogFile, csv: Mapping) -> list[str]:
    try:
        if not file.is_csv:
            with root.system.open_input_file(file.path) as source:
                return pq.read_schema(source).names
        if csv['column_names']:
            return list(csv['column_names'])
        read, parse = _options(csv)
        with pa.csv.open_csv(_open_csv(root, file, csv), read_options=read, parse_options=parse) as reader:
            return reader.schema.names
    except PARSE_ERRORS as error:
        if file.is_csv and csv['quote'] and 'out of sync' in str(error):  # a line break inside the first values
            return _first_line(root, file, csv)
        raise _cannot_read(file, error) from error


def _first_line(root: Root, file: LogFile, csv: Mapping) -> list[str]:
    read, parse = _options(csv, newlines=True)
    read.block_size = 1 << 28
    with pa.csv.open_csv(_open_csv(root, file, csv), read_options=read, parse_options=parse) as reader:
        return reader.schema.names


def read_columns(root: Root, file: LogFile, form: Form, columns: Iterable[str]) -> dict[str, pa.Array]:
    """Reads some columns of one file: name -> one array [N]. Text of CSV comes as dictionaries of different words.

    Raises:
      UserError: the file does not parse, lacks a column, or quotes swallow lines.
    """
    columns = list(dict.fromkeys(columns))
    names = column_names(root, file, form)
    for name in columns:
        if name not in names:
            raise UserError(f"{file.name} has no column '{name}'{closest(name, names)}: correct config.data")
    own = {form.here(name): name for name in _own_names(root, file, form.csv)}
    wanted = {name: own[name] for name in columns if name in own}
    found = {}
    try:
        rows = 0
        if file.is_csv:
            table = _read_csv(root, file, form.csv, wanted.values() or list(own.values())[:1])
        else:
            with root.system.open_input_file(file.path) as source:
                table = pq.read_table(source, columns=list(wanted.values()) or None)
                instants = _instants(source) & set(table.column_names)
                for at in instants:
                    place = table.column_names.index(at)
                    table = table.set_column(place, at, table[at].cast(pa.timestamp('ns', 'UTC')))
        rows = table.num_rows
    except PARSE_ERRORS as error:
        raise _cannot_read(file, error, list(own)) from error
    for name in columns:
        if name in wanted:
            found[name] = one_array(table.column(wanted[name]))
        else:
            value = next(value for key, value in file.partitions.items() if form.here(key) == name)
            words = pa.array([value], pa.string())
            found[name] = words.take(pa.array([0] * rows, pa.int32())) if rows else words[:0]
    return found


def _instants(source) -> set[str]:
    """Columns of Spark's INT96 times, which are instants of UTC, though nothing in the file says so."""
    schema = pq.ParquetFile(source).schema
    return {schema.column(i).name for i in range(len(schema)) if schema.column(i).physical_type == 'INT96'}


def _options(csv: Mapping, newlines: bool = False) -> tuple[pa.csv.ReadOptions, pa.csv.ParseOptions]:
    several = len(csv['delimiter']) > 1
    read = pa.csv.ReadOptions(
        column_names=list(csv['column_names']) or None, encoding='utf8' if several else csv['encoding']
    )
    parse = pa.csv.ParseOptions(
        delimiter=SEPARATOR if several else csv['delimiter'],
        quote_char=False if several else csv['quote'] or False,
        escape_char=csv['escape'] or False,
        newlines_in_values=newlines,
    )
    return read, parse


def _open_csv(root: Root, file: LogFile, csv: Mapping):
    stream = root.system.open_input_stream(file.path, compression=file.packed)
    if len(csv['delimiter']) == 1:
        return stream
    with stream:
        text = stream.read().decode(csv['encoding'])
    if SEPARATOR in text:
        raise UserError(f'{file.name} holds the control character 0x1f: use a delimiter of one character')
    return io.BytesIO(text.replace(csv['delimiter'], SEPARATOR).encode())


def _read_csv(root: Root, file: LogFile, csv: Mapping, columns: Iterable[str]) -> pa.Table:
    columns = list(columns)
    quoted, lines = _scan(root, file, csv)
    table = _parsed(root, file, csv, columns, newlines=quoted)
    lines -= 0 if csv['column_names'] else 1
    if quoted and lines > table.num_rows:
        bare = {**csv, 'quote': ''}
        try:
            without = _parsed(root, file, bare, columns, newlines=False)
        except PARSE_ERRORS:
            return table  # lines are no rows: they are inside values
        if without.num_rows > table.num_rows:
            raise UserError(
                f'{file.name}: quotes swallow {without.num_rows - table.num_rows} of {without.num_rows} rows; where '
                "quotes mean nothing every line has all of its values: set data.csv.quote='', or close the quotes"
            )
    return table


def _parsed(root: Root, file: LogFile, csv: Mapping, columns: list[str], newlines: bool) -> pa.Table:
    read, parse = _options(csv, newlines)
    words = pa.dictionary(pa.int32(), pa.string())
    convert = pa.csv.ConvertOptions(
        include_columns=columns,
        column_types=dict.fromkeys(columns, words),
        strings_can_be_null=False,
        quoted_strings_can_be_null=False,
    )
    return pa.csv.read_csv(_open_csv(root, file, csv), read_options=read, parse_options=parse, convert_options=convert)


def _scan(root: Root, file: LogFile, csv: Mapping) -> tuple[bool, int]:
    """(whether a file has quotes that mean something, its lines that are not empty)."""
    quote = csv['quote'].encode() if len(csv['delimiter']) == 1 else b''
    if not quote:
        return False, 0
    quoted, lines, last = False, 0, b'\n'
    with root.system.open_input_stream(file.path, compression=file.packed) as stream:
        while chunk := stream.read(CHUNK):
            quoted = quoted or quote in chunk
            chunk = bytes(chunk)
            lines += chunk.count(b'\n') - chunk.count(b'\n\n') - (last == b'\n' and chunk[:1] == b'\n')
            last = chunk[-1:]
    return quoted, lines + (last != b'\n')


def _cannot_read(file: LogFile, error: Exception, names: Iterable[str] = ()) -> UserError:
    said, names = str(error).replace('\n', ' '), list(names)
    at = re.match(r'In CSV column #(\d+): (.*)', said)
    if at and int(at[1]) < len(names):
        return UserError(
            f"{file.name}: column '{names[int(at[1])]}' cannot be read as text ({at[2]}): set data.csv.encoding"
        )
    kind = 'CSV' if file.is_csv else 'Parquet'
    way_out = 'check data.csv (delimiter, column_names, quote, encoding)' if file.is_csv else 'fetch it again'
    return UserError(f'{file.name} does not parse as {kind} ({said}): {way_out}')


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """All of a column; dictionaries share one."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # older pyarrow: no chunk, or several that do not fit one
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array
