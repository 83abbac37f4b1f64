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
    return list(_columns_of(root, file, form))


def _columns_of(root: Root, file: LogFile, form: Form) -> dict[str, str | None]:
    """{name here: name in the file, None where a folder says it}."""
    own = _own_names(root, file, form.csv)
    names = [form.here(name) for name in own]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{file.name} has two columns '{name}': remove one of them, or give one another name")
    return {**dict.fromkeys(form.here(name) for name in file.partitions), **dict(zip(names, own, strict=True))}


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


def read_columns(
    root: Root, file: LogFile, form: Form, columns: Iterable[str], unlike: Iterable[str] = ()
) -> dict[str, pa.Array]:
    """Reads some columns of one file: name -> one array [N].

    Args: unlike: columns most of whose values differ; text of others comes as dictionaries of different words.
    Raises:
      UserError: the file does not parse, lacks a column, or quotes swallow lines.
    """
    columns, own = list(dict.fromkeys(columns)), _columns_of(root, file, form)
    for name in columns:
        if name not in own:
            raise UserError(f"{file.name} has no column '{name}'{closest(name, own)}: correct config.data")
    wanted = {name: own[name] for name in columns if own[name] is not None}
    in_file = list(wanted.values()) or [name for name in own.values() if name is not None][:1]
    try:
        if file.is_csv:
            table = _read_csv(root, file, form.csv, in_file, {own[name] for name in unlike if name in own})
        else:
            table = _read_parquet(root, file, in_file)
    except PARSE_ERRORS as error:
        raise _cannot_read(file, error, [name for name in own.values() if name is not None]) from error
    found = {}
    for name in columns:
        if name in wanted:
            found[name] = one_array(table.column(wanted[name]))
        else:
            value = next(value for key, value in file.partitions.items() if form.here(key) == name)
            found[name] = pa.repeat(pa.scalar(value, pa.string()), table.num_rows)
    return found


def _read_parquet(root: Root, file: LogFile, columns: list[str]) -> pa.Table:
    with root.system.open_input_file(file.path) as source:
        table = pq.read_table(source, columns=columns)
        for name in _instants(source) & set(columns):
            place = table.column_names.index(name)
            table = table.set_column(place, name, table[name].cast(pa.timestamp('ns', 'UTC')))
    return table


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


def _read_csv(root: Root, file: LogFile, csv: Mapping, columns: list[str], unlike: set[str]) -> pa.Table:
    quoted = _holds(root, file, csv)
    table = _parsed(root, file, csv, columns, unlike, newlines=quoted)
    if quoted and _lines(root, file) - (not csv['column_names']) > table.num_rows:
        try:
            without = _parsed(root, file, {**csv, 'quote': ''}, columns, unlike, newlines=False)
        except PARSE_ERRORS:
            return table  # lines are no rows: they are inside values
        if without.num_rows > table.num_rows:
            raise UserError(
                f'{file.name}: quotes swallow {without.num_rows - table.num_rows} of {without.num_rows} rows; where '
                "quotes mean nothing every line has all of its values: set data.csv.quote='', or close the quotes"
            )
    return table


def _parsed(root: Root, file: LogFile, csv: Mapping, columns: list[str], unlike: set[str], newlines: bool) -> pa.Table:
    read, parse = _options(csv, newlines)
    words = pa.dictionary(pa.int32(), pa.string())
    convert = pa.csv.ConvertOptions(
        include_columns=columns,
        column_types={name: pa.string() if name in unlike else words for name in columns},
        strings_can_be_null=False,
        quoted_strings_can_be_null=False,
    )
    return pa.csv.read_csv(_open_csv(root, file, csv), read_options=read, parse_options=parse, convert_options=convert)


def _holds(root: Root, file: LogFile, csv: Mapping) -> bool:
    """Whether a file has quotes that mean something."""
    quote = csv['quote'].encode() if len(csv['delimiter']) == 1 else b''
    if not quote:
        return False
    with root.system.open_input_stream(file.path, compression=file.packed) as stream:
        return any(quote in chunk for chunk in iter(lambda: stream.read(CHUNK), b''))


def _lines(root: Root, file: LogFile) -> int:
    """Lines that are not empty."""
    lines, last = 0, b'\n'
    with root.system.open_input_stream(file.path, compression=file.packed) as stream:
        while chunk := stream.read(CHUNK):
            lines += chunk.count(b'\n') - chunk.count(b'\n\n') - (last == b'\n' and chunk[:1] == b'\n')
            last = chunk[-1:]
    return lines + (last != b'\n')


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
