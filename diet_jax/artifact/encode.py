"""A log's rows in the numbering of a memory, as a run encodes them, from the memory's own files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.artifact.format import CodedField
from diet_jax.base.errors import UserError, closest
from diet_jax.data import bins, files, prepare, raw_log

Known = tuple[pa.Array, np.ndarray]  # a field's n values, and i32[n] their codes


class Encoded(NamedTuple):
    """Rows as a student reads them."""

    ids: np.ndarray  # i32[N, F], within the field: the place in its codebook, then one for missing, one for unseen
    codes: np.ndarray  # i32[N, F], code within the field


def as_table(table: Any) -> pa.Table:
    """Any table in memory as an Arrow table.

    Args:
      table: a pandas or polars DataFrame, an Arrow table, anything with `__arrow_c_stream__`, or a dict of arrays.
    Raises:
      UserError: something else, columns of unequal lengths, values of mixed types, or two columns of one name.

    >>> as_table({'user': [1, 2], 'tab': ['a', None]}).column_names
    ['user', 'tab']
    """
    kind = f'{type(table).__module__}.{type(table).__qualname__}'
    try:
        if kind.startswith('pandas.'):  # not by its __arrow_c_stream__, which makes the index a column
            made = pa.Table.from_pandas(table, preserve_index=False)
        elif isinstance(table, dict) or hasattr(table, '__arrow_c_stream__'):
            made = pa.table(table)
        else:
            raise UserError(f'a {kind} is no table: give a pandas or polars DataFrame, an Arrow table, or a dict')
    except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
        raise UserError(f'the table does not convert to Arrow ({error}): give every column one type') from error
    twice = [name for name in made.column_names if made.column_names.count(name) > 1]
    if twice:
        raise UserError(f"the table has two columns '{twice[0]}': take one of them out")
    return made


def encode(table: Any, fields: Iterable[CodedField], codebook: dict[str, Known], data: dict) -> Encoded:
    """Encodes rows of a log, its own columns as they are.

    Args:
      table: see `as_table`; N rows.
      fields, codebook: of the memory; data: `data` of its manifest.
    Raises:
      UserError: a column is missing, or holds a value that is not of the memory's type.

    >>> tab, book = CodedField('tab', 'categorical', 3, (), 2, 0), {'tab': (pa.array(['a', 'b']), np.array([1, 1]))}
    >>> rows = encode({'tab': ['b', 'z', None]}, [tab], book, {'side_tables': []})
    >>> rows.ids.tolist(), rows.codes.tolist()
    ([[1], [3], [2]], [[1], [0], [2]])
    """
    given, fields = as_table(table), tuple(fields)
    values = {**_columns(given, fields, codebook, data), **_time_fields(given, fields, data)}
    ids = [number(values[field.name], codebook[field.name][0]) for field in fields]
    codes = [codes_of_ids(field, codebook[field.name])[column] for field, column in zip(fields, ids)]
    return Encoded(ids=np.stack(ids, axis=1), codes=np.stack(codes, axis=1))


def number(column: pa.Array, values: pa.Array) -> np.ndarray:
    """i32[N]: the place of each value among n known ones; n where it is null, n + 1 where it is not known.

    >>> number(pa.array([6, None, 7]), pa.array([5, 6])).tolist()
    [1, 2, 3]
    """
    if column.type != values.type:  # one of them holds nothing
        column, values = (column, values.cast(column.type)) if not len(values) else (column.cast(values.type), values)
    place = pc.index_in(column, value_set=values).fill_null(len(values) + 1).to_numpy(zero_copy_only=False)
    return np.where(_missing(column), len(values), place).astype(np.int32)


def codes_of_ids(field: CodedField, known: Known) -> np.ndarray:
    """i32[n + 2]: the code of every id of a field."""
    return np.append(known[1], [field.missing_code, field.unseen_code]).astype(np.int32)


def _columns(given: pa.Table, fields, codebook, data: dict) -> dict[str, pa.Array]:
    """What the log or its side tables hold: categories in the memory's types, and numbers as their bins."""
    kinds = {field.name: codebook[field.name][0].type for field in fields if len(codebook[field.name][0])}
    found, absent, columns = {}, [], {}
    for field in fields:
        if field.kind != 'time' and field.name in given.column_names:
            read = _numbers if field.kind == 'numeric' else _categories
            found[field.name] = read(_column(given, field.name), _place(field.name))
        elif field.kind != 'time':
            absent.append(field.name)
    if absent:
        found |= _joined(given, absent, kinds, data)
    for field in fields:
        if field.kind == 'numeric':
            columns[field.name] = _bins(found[field.name], field.bounds)
        elif field.kind == 'categorical':
            column = found[field.name]
            columns[field.name] = _fitting(column, kinds.get(field.name, column.type), _place(field.name))
    return columns


def _joined(given: pa.Table, absent: list[str], kinds: dict[str, pa.DataType], data: dict) -> dict[str, pa.Array]:
    """The columns that the table lacks, joined to its rows from the side tables."""
    root = files.open_root(data['root']) if data['side_tables'] else None
    used = _side_tables(given, absent, data, root)
    known = {name: 'string' for name, kind in kinds.items() if pa.types.is_string(kind)}
    of_table = {**data, 'log': ['the table'], 'side_tables': used}
    sides = raw_log.read_side_tables(of_table, root, given.column_names, known)[0]
    keys = {}
    for side in sides:
        if side.key in given.column_names:
            column = _categories(_column(given, side.key), _place(side.key))
            keys[side.key] = _fitting(column, side.keys.type, _place(side.key))
    joined = raw_log.join(keys, sides)
    return {name: joined[name] for name in absent}


def _side_tables(given: pa.Table, absent: list[str], data: dict, root) -> list[dict]:
    """Those of the side tables that bring an absent column, or the key of one that does."""
    brings = []  # per table its file, and the columns that it may bring
    for i, side in enumerate(data['side_tables']):
        file = files.find_file(root, side['path'], f'data.side_tables[{i}].path')
        has = files.column_names(root, file, {**data['csv'], 'column_names': (), **(side.get('csv') or {})})
        brings.append((file.name, set(side.get('columns') or has)))
    for name in absent:
        if not any(name in columns for _, columns in brings):
            hint, neither = closest(name, given.column_names), ', nor has a side table' if brings else ''
            raise UserError(f"the table has no column '{name}'{neither}{hint}: add it, as the log has it")
    wanted, used = set(absent), []
    for i in reversed(range(len(brings))):
        file, columns = brings[i]
        earlier = set().union(*(names for _, names in brings[:i]))  # the first table that has a column brings it
        key, mine = data['side_tables'][i]['key'], (wanted & columns) - earlier
        if not mine:
            continue
        used.insert(0, data['side_tables'][i])
        if key not in given.column_names:
            if key not in earlier:
                others = ', '.join(sorted(mine - {key}))
                instead = f', or what comes from there: {others}' if others else ''
                raise UserError(f"the table has no column '{key}', by which {file} is joined: add it{instead}")
            wanted.add(key)
    return used


def _time_fields(given: pa.Table, fields, data: dict) -> dict[str, pa.Array]:
    """'hour' and 'weekday' (Monday is 0) of the memory, from the time column."""
    names = [field.name for field in fields if field.kind == 'time']
    if not names:
        return {}
    name, place = data['time']['column'], _place(data['time']['column'])
    if name not in given.column_names:
        hint = closest(name, given.column_names)
        raise UserError(f"the table has no column '{name}'{hint}, from which {' and '.join(names)} come: add it")
    column = _column(given, name)
    if _is_text(column) and data['time']['unit'] != 'iso':
        column = _fitting(_categories(column, place), pa.int64(), place)
    return prepare.time_fields(_read(files.times, column, data['time'], place), data)


def _column(given: pa.Table, name: str) -> pa.Array:
    column = given[name]
    if pa.types.is_dictionary(column.type) and str(column.type.value_type) == 'string_view':  # polars' categories
        column = column.cast(pa.dictionary(column.type.index_type, pa.string()))
    return files.one_array(column)


def _place(name: str) -> str:
    return f"the table: column '{name}'"


def _missing(column: pa.Array) -> np.ndarray:
    return column.is_null().to_numpy(zero_copy_only=False)


def _is_text(column: pa.Array) -> bool:
    return str(column.type) in ('string', 'large_string', 'string_view')


def _read(reader: Callable, *args):
    """What a reader of log files makes of a column; its way out is for a config, not for a table at hand."""
    try:
        return reader(*args)
    except UserError as error:
        raise UserError(f'{str(error).rpartition(": ")[0]}: give it as the log has it') from error


def _categories(column: pa.Array, place: str) -> pa.Array:
    """int64 or string [N]; NaN and the empty string are null."""
    return _read(files.categories, column, place)


def _numbers(column: pa.Array, place: str) -> pa.Array:
    """float64 [N]; NaN is null. Numbers written as text are read, the empty string is null."""
    if _is_text(column):
        column = _categories(column, place)
        try:
            column = column.cast(pa.float64())
        except pa.ArrowInvalid:
            pass  # refused below, with the word that is none
    return _read(files.numbers, column, place)


def _bins(column: pa.Array, bounds: Iterable[float]) -> pa.Array:
    """int64 [N]: as `bins.bin_of`, and null stays null."""
    return pa.array(bins.bin_of(column, tuple(bounds)), mask=_missing(column))


def _fitting(column: pa.Array, kind: pa.DataType, place: str) -> pa.Array:
    """A column of categories as int64 or string, the two types that they have.

    Raises:
      UserError: text that is no integer, or not as an integer is written ('007').
    """
    if column.type == kind or pa.types.is_string(kind) or column.null_count == len(column):
        return column.cast(kind)
    try:
        whole = column.cast(kind)
        if whole.cast(column.type).equals(column):
            return whole
    except pa.ArrowInvalid:
        pass  # a word, or a number beyond 64 bits
    odd = next(text for text in column.drop_null().to_pylist() if not _is_int64(text))
    raise UserError(f'{place} holds {odd!r}, but the memory has integers there: give it as the log has it')


def _is_int64(text: str) -> bool:
    return bool(re.fullmatch('0|-?[1-9][0-9]{0,18}', text)) and -(2**63) <= int(text) < 2**63
