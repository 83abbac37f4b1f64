"""Finds and reads log files and side tables: Parquet or CSV, on disks or object stores."""

import fnmatch
import io
import posixpath
import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet as pq

from diet_jax.base.errors import UserError, closest
from diet_jax.config.data import UNITS

SEPARATOR = '\x1f'  # stands for a delimiter of several characters; the text must not hold it


class LogFile(NamedTuple):
    """A file below `data.root`."""

    name: str  # relative to the root
    path: str  # in the file system
    size: int  # bytes
    modified: int  # nanoseconds since 1970; 0 where the store does not say


class Root(NamedTuple):
    """Where the files lie."""

    system: pa.fs.FileSystem
    folder: str
    shown: str  # as the user wrote it


def open_root(root: str) -> Root:
    """Opens a folder or a URI; raises UserError where it is not there."""
    try:
        if '://' in root:
            system, folder = pa.fs.FileSystem.from_uri(root)
        else:
            system, folder = pa.fs.LocalFileSystem(), posixpath.abspath(posixpath.expanduser(root))
        info = system.get_file_info(folder)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"data.root '{root}' cannot be opened: {error}") from error
    if info.type != pa.fs.FileType.Directory:
        raise UserError(f"data.root '{root}' is not a folder: set data.root to the folder of the log files")
    return Root(system, folder, root)


def find_files(root: Root, patterns: Iterable[str], key: str = 'data.log') -> list[LogFile]:
    """Files that match one of the patterns, in order of their names.

    Of files with one stem (`a.parquet` and `a.csv.gz`) only the one that the earlier pattern names is taken.

    Raises:
      UserError: no file matches, or one is empty.
    """
    taken: dict[str, LogFile] = {}
    for pattern in patterns:
        wanted = pattern.split('/')
        earlier = {_stem(name) for name in taken}
        selector = pa.fs.FileSelector(root.folder, recursive=len(wanted) > 1)
        for info in root.system.get_file_info(selector):
            name = posixpath.relpath(info.path, root.folder)
            parts = name.split('/')
            if info.type != pa.fs.FileType.File or len(parts) != len(wanted) or _stem(name) in earlier:
                continue
            if all(fnmatch.fnmatchcase(part, want) for part, want in zip(parts, wanted, strict=True)):
                taken[name] = LogFile(name, info.path, info.size, info.mtime_ns or 0)
    if not taken:
        there = [
            posixpath.relpath(i.path, root.folder) for i in root.system.get_file_info(pa.fs.FileSelector(root.folder))
        ]
        hint = closest(' '.join(patterns), sorted(there))
        raise UserError(f'{root.shown}: no file matches {key} {" ".join(patterns)}{hint}: correct data.root or {key}')
    files = sorted(taken.values())
    for file in files:
        if file.size == 0:
            raise UserError(f'{file.name} in {root.shown} is empty (0 bytes): remove it or fetch it again')
    return files


def find_file(root: Root, pattern: str, key: str) -> LogFile:
    """The one file that matches a pattern; UserError where there is none, or where there are several."""
    found = find_files(root, [pattern], key)
    if len(found) > 1:
        raise UserError(f'{root.shown}: {found[0].name} and {found[1].name} both match {key} {pattern}: name one file')
    return found[0]


def _stem(name: str) -> str:
    return re.sub(r'(\.(parquet|pq|csv|tsv|txt|dat|gz|bz2|zst))+$', '', name)


def is_csv(file: LogFile) -> bool:
    return not file.name.endswith(('.parquet', '.pq'))


def _options(csv: dict) -> tuple[pa.csv.ReadOptions, pa.csv.ParseOptions]:
    several = len(csv['delimiter']) > 1
    read = pa.csv.ReadOptions(
        column_names=list(csv['column_names']) or None, encoding='utf8' if several else csv['encoding']
    )
    parse = pa.csv.ParseOptions(
        delimiter=SEPARATOR if several else csv['delimiter'], quote_char=False if several else '"'
    )
    return read, parse


def _open_csv(root: Root, file: LogFile, csv: dict):
    stream = root.system.open_input_stream(file.path)  # decompresses by the name's ending
    if len(csv['delimiter']) == 1:
        return stream
    with stream:
        text = stream.read().decode(csv['encoding'])
    if SEPARATOR in text:
        raise UserError(f'{file.name} holds the control character 0x1f: use a delimiter of one character')
    return io.BytesIO(text.replace(csv['delimiter'], SEPARATOR).encode())


def _cannot_read(file: LogFile, error: Exception) -> UserError:
    kind = 'CSV' if is_csv(file) else 'Parquet'
    way_out = 'check data.csv (delimiter, column_names, encoding)' if kind == 'CSV' else 'fetch it again'
    return UserError(f'{file.name} does not parse as {kind} ({error}): {way_out}')


# What pyarrow and codecs raise for a file that is not what the config says: each was met with a damaged or odd file.
PARSE_ERRORS = (
    pa.ArrowInvalid,  # bytes that do not parse
    pa.ArrowNotImplementedError,  # Parquet or CSV that this pyarrow has no reader for: a codec, a nesting, an encoding
    pa.ArrowKeyError,  # a column that the header does not have
    UnicodeError,  # text of another encoding
    LookupError,  # an encoding that does not exist
    OSError,  # truncated, or unreadable
)


def column_names(root: Root, file: LogFile, csv: dict) -> list[str]:
    """Names of a file's columns, without reading the whole of it."""
    try:
        if not is_csv(file):
            with root.system.open_input_file(file.path) as source:
                return pq.read_schema(source).names
        if csv['column_names']:
            return list(csv['column_names'])
        read, parse = _options(csv)
        with pa.csv.open_csv(_open_csv(root, file, csv), read_options=read, parse_options=parse) as reader:
            return reader.schema.names
    except PARSE_ERRORS as error:
        raise _cannot_read(file, error) from error


def read_columns(
    root: Root, file: LogFile, csv: dict, columns: Iterable[str], strings: Iterable[str] = ()
) -> dict[str, pa.Array]:
    """Reads some columns of one file.

    Args:
      strings: columns to be read as strings whatever they look like.
    Returns:
      name -> one array in the file's own type.
    Raises:
      UserError: the file does not parse, or lacks a column.
    """
    columns = list(dict.fromkeys(columns))
    names = column_names(root, file, csv)
    for name in columns:
        if name not in names:
            raise UserError(f"{file.name} has no column '{name}'{closest(name, names)}: correct config.data")
    try:
        if is_csv(file):
            read, parse = _options(csv)
            types = {name: pa.string() for name in (*csv['strings'], *strings)}
            convert = pa.csv.ConvertOptions(include_columns=columns, column_types=types)
            table = pa.csv.read_csv(
                _open_csv(root, file, csv), read_options=read, parse_options=parse, convert_options=convert
            )
        else:
            with root.system.open_input_file(file.path) as source:
                table = pq.read_table(source, columns=columns)
    except PARSE_ERRORS as error:
        raise _cannot_read(file, error) from error
    return {name: one_array(table.column(name)) for name in columns}


def one_array(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # older pyarrow: no chunk, or several that do not fit one
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def categories(array: pa.Array, where: str) -> pa.Array:
    """A column as int64 or string: the two types a vocabulary holds. NaN and the empty string become null.

    Args:
      where: "file: column 'x'", for messages.
    Raises:
      UserError: a float that is no whole number, or a nested column.
    """
    kind = array.type
    try:
        if pa.types.is_null(kind):
            return array.cast(pa.int64())
        if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
            if pa.types.is_uint64(kind) and (pc.max(array).as_py() or 0) >= 2**63:
                return array.cast(pa.string())
            return array.cast(pa.int64())
        if pa.types.is_floating(kind):
            return _whole_numbers(array.cast(pa.float64()), where)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == 'string_view':
            array = array.cast(pa.string())
            return pc.if_else(pc.equal(array, ''), pa.scalar(None, pa.string()), array)
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):  # CSV that is no UTF-8 comes so too
            return categories(array.cast(pa.string()), where)
        if pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
            return array.cast(pa.string())
    # A value that does not cast (bytes that are no UTF-8), or a type for which pyarrow has no cast.
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        way_out = 'set data.csv.encoding, or take it out of data.fields'
        raise UserError(f'{where} cannot be read as categories ({error}): {way_out}') from error
    raise UserError(f'{where} is of type {kind}, which is no category: take it out of data.fields')


def _whole_numbers(array: pa.Array, where: str, way_out: str = 'list it in data.numeric instead') -> pa.Array:
    array = pc.if_else(pc.is_nan(array), pa.scalar(None, pa.float64()), array)
    odd = array.filter(pc.or_(pc.not_equal(array, pc.floor(array)), pc.greater(pc.abs(array), 2.0**53)))
    if len(odd):
        value = odd[0].as_py()
        if value == np.floor(value):
            raise UserError(f'{where} holds {value:.17g}, too large for an exact float: list it in data.csv.strings')
        raise UserError(f'{where} holds {value!r}, no whole number: {way_out}')
    return array.cast(pa.int64())


def numbers(array: pa.Array, where: str, key: str = 'data.numeric') -> pa.Array:
    """A column as float64; NaN becomes null. Raises UserError where it does not hold numbers."""
    kind = array.type
    if pa.types.is_null(kind):
        return array.cast(pa.float64())
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        if not pa.types.is_decimal(kind):
            bad = _first_not_number(array)
            raise UserError(f'{where} is of type {kind} and holds {bad!r}: it must hold numbers; correct it or {key}')
    if pa.types.is_boolean(kind):
        array = array.cast(pa.int8())
    array = array.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_nan(array), pa.scalar(None, pa.float64()), array)


def _first_not_number(array: pa.Array) -> object:
    for value in array:
        try:
            float(str(value.as_py() or 0))
        except ValueError:
            return value.as_py()
    return array[0].as_py() if len(array) else str(array.type)


def labels(array: pa.Array, label: dict, where: str) -> pa.Array:
    """The label as float32 0 / 1, null where the log's is null; see `data.label`."""
    if label['positive']:
        column = categories(array, where)
        as_string = column.cast(pa.string())
        hit = pc.is_in(as_string, value_set=pa.array([str(value) for value in label['positive']]))
        return pc.if_else(pc.is_null(column), pa.scalar(None, pa.float32()), hit.cast(pa.float32()))
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        bad = array.drop_null()
        raise UserError(
            f'{where} holds {bad[0].as_py() if len(bad) else ""!r}, a string: a label must be 0 or 1; '
            'name the values that count as 1 in data.label.positive'
        )
    column = numbers(array, where, 'data.label')
    if label['threshold'] is not None:
        return pc.greater_equal(column, float(label['threshold'])).cast(pa.float32())
    bad = column.filter(pc.and_(pc.not_equal(column, 0.0), pc.not_equal(column, 1.0)))
    if len(bad):
        raise UserError(f'{where} holds {bad[0].as_py():g}: a label must be 0 or 1; set data.label.threshold')
    return column.cast(pa.float32())


def times(array: pa.Array, time: dict, where: str) -> np.ndarray:
    """Time stamps as int64 ticks since 1970 UTC, in `data.time.unit` (microseconds for 'iso').

    Raises:
      UserError: a null, a value that is no time, or one after the year 2200 (a wrong unit).
    """
    if not len(array):
        return np.zeros(0, np.int64)
    if pa.types.is_floating(array.type):
        array = _whole_numbers(array.cast(pa.float64()), where, 'write it as an integer of a smaller unit')
    nulls = array.null_count
    if nulls:
        raise UserError(f'{where} is null in {nulls} of {len(array)} rows: every row needs a time; drop those rows')
    if time['unit'] == 'iso' or pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _calendar_times(array, time, where)
    if not pa.types.is_integer(array.type):
        raise UserError(
            f"{where} holds {_first_not_number(array)!r}, which is no integer time: set data.time.unit='iso'"
        )
    values = array.cast(pa.int64()).to_numpy(zero_copy_only=False)
    ticks = UNITS[time['unit']]
    if int(values.max()) // ticks > 7_258_118_400:  # 2200-01-01
        raise UserError(
            f"{where} holds {values.max()}, after the year 2200 in unit '{time['unit']}': set data.time.unit"
        )
    return values


def _calendar_times(array: pa.Array, time: dict, where: str) -> np.ndarray:
    zoned = pa.types.is_timestamp(array.type) and array.type.tz is not None
    if not pa.types.is_temporal(array.type):
        if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
            raise UserError(f"{where} is of type {array.type}, but data.time.unit is 'iso': set it to s, ms, us or ns")
        zoned = pc.match_substring_regex(array[:1], r'(Z|[+-]\d\d:?\d\d)$')[0].as_py()
    unit = 'us' if time['unit'] == 'iso' else time['unit']
    try:
        ticks = array.cast(pa.timestamp(unit, 'UTC' if zoned else None), safe=False)
    except pa.ArrowInvalid as error:
        raise UserError(f'{where} does not parse as a time ({error}): write it as 2022-04-25 13:05:00') from error
    values = ticks.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return values if zoned else values - round(time['utc_offset_hours'] * 3600 * UNITS[unit])


def time_ticks(time: dict) -> int:
    """Ticks in a second of what `times` returns."""
    return UNITS['us' if time['unit'] == 'iso' else time['unit']]
