"""A log's rows in the numbering of a memory, as a run encodes them, from the memory's own files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from diet_jax.artifact.format import CodedField
from diet_jax.artifact.numbers import Known, lengths, missing, number, owner_of, right
from diet_jax.base.errors import UserError, closest
from diet_jax.base.layout import PAD
from diet_jax.base.plain import plain
from diet_jax.config.data import NULL_WORDS, default_data
from diet_jax.data import bins, files, listed, prepare, sides, tables, times, values
from diet_jax.data.coded import Words, plain_array
from diet_jax.data.impressions import first_value


class Encoded(NamedTuple):
    """Rows as a student reads them."""

    ids: np.ndarray  # i32[N, F], within the field: the place in its codebook, then one for missing, one for unseen
    codes: np.ndarray  # i32[N, F], code within the field
    list_ids: dict[str, np.ndarray] = {}  # list -> i32[N, width], of the field that it shares; PAD before the first
    list_codes: dict[str, np.ndarray] = {}  # list -> i32[N, width]
    list_weights: dict[str, np.ndarray] = {}  # list whose values have weights -> f32[N, width]; 0 before the first


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
      fields, codebook: of the memory, lists behind the others; data: `data` of its manifest.
    Raises:
      UserError: a column is missing, or holds a value that is not of the memory's type.

    >>> tab, book = CodedField('tab', 'categorical', 3, (), 2, 0), {'tab': (pa.array(['a', 'b']), np.array([1, 1]))}
    >>> rows = encode({'tab': ['b', 'z', None]}, [tab], book, {'side_tables': []})
    >>> rows.ids.tolist(), rows.codes.tolist()
    ([[1], [3], [2]], [[1], [0], [2]])
    """
    given, all_ = _renamed(as_table(table), data.get('rename', {})), {field.name: field for field in fields}
    fields = [field for field in all_.values() if field.kind != 'list']
    columns = {**_columns(given, fields, codebook, data), **_time_fields(given, fields, data)}
    ids = [number(columns[field.name], codebook[field.name][0]) for field in fields]
    codes = [codes_of_ids(field, codebook[field.name])[column] for field, column in zip(fields, ids)]
    lists, of_lists, weights = {}, {}, {}
    for name, field in all_.items():
        if field.kind == 'list':
            known = codebook[owner_of(field)]
            lists[name], heavy = _list(given, field, known[0], data)
            weights |= {} if heavy is None else {name: heavy}
            table_of = np.append(codes_of_ids(all_[owner_of(field)], known), np.int32(PAD))  # PAD is the last place
            of_lists[name] = table_of[lists[name]]
    return Encoded(np.stack(ids, axis=1), np.stack(codes, axis=1), lists, of_lists, weights)


def _list(given: pa.Table, field: CodedField, known: pa.Array, data: dict) -> tuple[np.ndarray, np.ndarray | None]:
    """i32[N, width]: places of a list's values among known ones; of a longer one those that the log would keep. Beside
    it f32[N, width], what they weigh, where they have weights."""
    for name, what in ((field.name, 'values'), (field.weights, 'weights')):
        if name and name not in given.column_names:
            hint = closest(name, given.column_names)
            raise UserError(f"the table has no column '{name}'{hint}: add it, a list of {what} a row")
    column, place, owner = tables.one_array(given[field.name]), _place(field.name), owner_of(field)
    weights = None
    if how := data.get('lists', {}).get(field.name):
        words = Words(owner, _nulls(data), _verbatim(owner, data), listed=True)
        beside = None
        if field.weights:
            beside = listed.Beside(tables.one_array(given[field.weights]), _place(field.weights), data.get('csv'))
        codes = _read(listed.Reader(field.name, how, _nulls(data)).codes, column, words, place, beside)
        codes, sizes, weights = listed.flat(codes)
        kind = _read(words.decide, 'string' if pa.types.is_string(known.type) else None)
        flat = words.values(kind).take(codes)
    elif not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
        raise UserError(f'{place} is {column.type}, and the memory has lists there: give it as an Arrow list column')
    else:  # a history, whose events stand as they are, missing values among them
        flat, sizes = _categories(column.flatten(), place, data, owner, known.type), lengths(column)
    numbers = right(number(_fitting(flat, known.type, place), known), sizes, field.width)
    heavy = None if weights is None else right(weights.to_numpy(), sizes, field.width, 0, np.float32)
    return numbers, heavy


def _renamed(given: pa.Table, rename: Mapping[str, str]) -> pa.Table:
    """With the names of `data.rename`, where the table has the log's own."""
    names = given.column_names
    return given.rename_columns([n if rename.get(n, n) in names else rename[n] for n in names])


def codes_of_ids(field: CodedField, known: Known) -> np.ndarray:
    """i32[n + 2]: the code of every id of a field."""
    return np.append(known[1], [field.missing_code, field.unseen_code]).astype(np.int32)


def _columns(given: pa.Table, fields, codebook, data: dict) -> dict[str, pa.Array]:
    """What the log or its side tables hold: categories in the memory's types, and numbers as their bins."""
    kinds = {field.name: codebook[field.name][0].type for field in fields if len(codebook[field.name][0])}
    found, absent, columns = {}, [], {}
    for field in fields:
        if field.kind != 'time' and field.name in given.column_names:
            column, place = _column(given, field.name, data), _place(field.name)
            if field.kind == 'numeric':
                found[field.name] = _read(values.numbers, column, place, 'data.numeric', data.get('csv'), _nulls(data))
            else:
                found[field.name] = _categories(column, place, data, field.name, kinds.get(field.name))
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
    csv = {**plain(default_data().csv), **data.get('csv', {})}  # a memory of before has fewer keys
    of_table = {**data, 'csv': csv, 'null_words': _nulls(data), 'log': ['the table'], 'side_tables': used, 'lists': {}}
    keys, found = {}, []
    for side in sides.read(of_table, root, given.column_names, known):
        if side.key in given.column_names:
            here, there = _place(side.key), f"{side.name}: column '{side.key}'"
            column = _categories(_column(given, side.key, data), here, data, side.key)
            seen: values.Seen = {}
            values.seen_in(column, here, seen)
            values.seen_in(side.keys, there, seen)
            kind = values.kind_of(seen, None, side.key)
            keys[side.key], side = values.as_kind(column, kind), side._replace(keys=values.as_kind(side.keys, kind))
        found.append(side)
    joined = sides.join(keys, found)
    return {name: plain_array(joined[name]) for name in absent}


def _side_tables(given: pa.Table, absent: list[str], data: dict, root) -> list[dict]:
    """Those of the side tables that bring an absent column, or the key of one that does."""
    brings = []  # per table its file, and the columns that it may bring
    for i, side in enumerate(data['side_tables']):
        file = files.find_file(root, side['path'], f'data.side_tables[{i}].path')
        csv = {**plain(default_data().csv), **data.get('csv', {})}
        has = tables.column_names(root, file, tables.form_of({**data, 'csv': csv}, side.get('csv') or {}))
        brings.append((file.name, set(side.get('columns') or has)))
    for name in absent:
        if not any(name in columns for _, columns in brings):
            hint, neither = closest(name, given.column_names), ', nor has a side table' if brings else ''
            raise UserError(f"the table has no column '{name}'{neither}{hint}: add it, as the log has it")
    wanted, used = set(absent), []
    for i in reversed(range(len(brings))):
        file, columns = brings[i]
        earlier = set().union(*(names for _, names in brings[:i]))  # the first table that has a column brings it
        key = data['side_tables'][i].get('on') or data['side_tables'][i]['key']
        mine = (wanted & columns) - earlier
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
    time = _read(times.times, _column(given, name, data), data['time'], place, _nulls(data))
    return prepare.time_fields(time, data)


def _column(given: pa.Table, name: str, data: dict) -> pa.Array:
    """A column with one value a row."""
    column = given[name]
    if pa.types.is_dictionary(column.type) and str(column.type.value_type) == 'string_view':  # polars' categories
        column = column.cast(pa.dictionary(column.type.index_type, pa.string()))
    column = tables.one_array(column)
    if name in data.get('first_value', {}):
        return _read(first_value, column, data['first_value'][name], _place(name), _nulls(data))
    return column


def _place(name: str) -> str:
    return f"the table: column '{name}'"


def _read(reader: Callable, *args):
    """What a reader of log files makes of a column; its way out is for a config, not for a table at hand."""
    try:
        return reader(*args)
    except UserError as error:
        raise UserError(f'{str(error).rpartition(": ")[0]}: give it as the log has it') from error


def _nulls(data: dict) -> list[str]:
    return data.get('null_words', NULL_WORDS)


def _verbatim(name: str, data: dict) -> bool:
    return name in data.get('csv', {}).get('strings', ())


def _categories(column: pa.Array, place: str, data: dict, name: str, kind: pa.DataType | None = None) -> pa.Array:
    """int64, bool or string [N]; null words are null. name: the field whose values they are; kind: what those are."""
    if _verbatim(name, data):
        return _read(values.category, column, place, _nulls(data), True)
    if kind is not None and pa.types.is_string(kind):  # 1.5 is a word there, and a lone true beside 1 no boolean
        return _read(values.category, column, place, _nulls(data)).cast(kind)
    return _read(values.categories, column, place, _nulls(data))


def _bins(column: pa.Array, bounds: Iterable[float]) -> pa.Array:
    """int64 [N]: as `bins.bin_of`, and null stays null."""
    return pa.array(bins.bin_of(column, tuple(bounds)), mask=missing(column))


def _fitting(column: pa.Array, kind: pa.DataType, place: str) -> pa.Array:
    """A column of categories as int64, bool or string, the types that they have.

    Raises:
      UserError: text that is no integer, or not as an integer is written ('007'); neither true nor false.
    """
    if column.type == kind or pa.types.is_string(kind) or column.null_count == len(column):
        return column.cast(kind)
    words = column.cast(pa.string())
    if pa.types.is_boolean(kind):
        odd = [word for word in words.unique().drop_null().to_pylist() if word not in ('0', '1', 'true', 'false')]
        if not odd:
            return values.as_kind(column, 'bool')
        raise UserError(f'{place} holds {odd[0]!r}, but the memory has true and false there: give it as the log has it')
    if pa.types.is_boolean(column.type):
        return column.cast(kind)
    odd = [word for word in words.unique().drop_null().to_pylist() if not _is_int64(word)]
    if not odd:
        return words.cast(kind)
    raise UserError(f'{place} holds {odd[0]!r}, but the memory has integers there: give it as the log has it')


def _is_int64(text: str) -> bool:
    return bool(re.fullmatch('0|-?[1-9][0-9]{0,18}', text)) and -(2**63) <= int(text) < 2**63
