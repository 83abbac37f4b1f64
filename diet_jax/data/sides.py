"""Side tables: what they say of a row of the log, by a key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError, closest
from diet_jax.data import files, listed, tables, values
from diet_jax.data.coded import Words, coded_array
from diet_jax.data.impressions import first_value


class SideTable(NamedTuple):
    """A side table: at most one row per key."""

    name: str
    key: str  # the log's name of it
    keys: pa.Array  # int64, bool or string [K], unique
    columns: dict[str, pa.Array]  # each [K]: int64, bool, string, float64 for numeric fields, or lists of coded values


class Read(NamedTuple):
    """A side table whose columns are not decided yet."""

    name: str
    key: str
    keys: pa.Array  # codes
    columns: dict[str, pa.Array]  # codes, lists of codes, or float64
    owners: Mapping[str, str]  # of a column of lists, the column whose codes it has


class Columns:
    """The `Words` of columns: those of the log and of its side tables together."""

    def __init__(self, data: Mapping):
        self.data, self.strings = data, {*data['csv']['strings']}
        self.words: dict[str, Words] = {}
        lists = data.get('lists', {})  # a table at hand may be of a memory before there were any
        self.owners = {name: how['shares'] or name for name, how in lists.items()}
        self.readers = {name: listed.Reader(name, how, data['null_words']) for name, how in lists.items()}

    def of(self, name: str) -> Words:
        """Those of a column, which begin empty."""
        if name not in self.words:
            self.words[name] = Words(name, self.data['null_words'], name in self.strings, name in self.readers)
        return self.words[name]

    def weights(self, names: Iterable[str]) -> list[str]:
        """The columns that say what the values of these lists weigh."""
        return list(dict.fromkeys(filter(None, (self.readers[n].weights for n in names if n in self.readers))))

    def lists(self, name: str, raw: Mapping[str, pa.Array], where: Callable[[str], str], csv: Mapping) -> pa.ListArray:
        """list<int32> [N]: the codes of a piece of a column of lists, with what they weigh where another one says it.

        Args: raw: the columns of a file; where: name -> "file: column 'name'", for messages; csv: of the file.
        """
        reader = self.readers[name]
        beside = listed.Beside(raw[reader.weights], where(reader.weights), csv) if reader.weights else None
        return reader.codes(raw[name], self.of(self.owners[name]), where(name), beside)

    def decide(self, known: Mapping[str, str]) -> tuple[dict[str, str | None], dict[str, pa.Array]]:
        """Of every column its kind, and the value of every code. known: column -> what it was before."""
        kinds = {name: words.decide(known.get(name)) for name, words in self.words.items()}
        return kinds, {name: words.values(kinds[name]) for name, words in self.words.items()}


def read(data: Mapping, root: files.Root | None, log_names: Iterable[str], known: Mapping) -> tuple[SideTable, ...]:
    """The side tables that a table at hand is joined with. known: column -> kind that it has."""
    columns = Columns(data)
    found = find(data, root, list(log_names), columns)[0]
    return decided(found, columns.decide(known)[1])


def decided(found: Iterable[Read], of: Mapping[str, pa.Array]) -> tuple[SideTable, ...]:
    """Side tables with their values. of: column -> the value of every code."""
    return tuple(
        SideTable(
            side.name,
            side.key,
            of[side.key].take(side.keys),
            {name: _decided(name, x, side, of) for name, x in side.columns.items()},
        )
        for side in found
    )


def _decided(name: str, column: pa.Array, side: Read, of: Mapping[str, pa.Array]) -> pa.Array:
    if name in side.owners:
        return listed.of_codes(column, of[side.owners[name]])
    return of[name].take(column) if name in of else column


def find(data, root, log_names: list[str], columns: Columns) -> tuple[list[Read], dict[str, int | None], int]:
    """Side tables as they are written, where each field comes from (None: the log, i: the i-th table), their bytes."""
    names = [*data['fields'], *data['numeric'], *columns.readers]
    origin = {name: None for name in names if name in log_names}
    found, size, available, offered = [], 0, set(log_names), list(log_names)
    for i, table in enumerate(data['side_tables']):
        file = files.find_file(root, table['path'], f'data.side_tables[{i}].path')
        form = tables.form_of(data, table.get('csv') or {})
        has = tables.column_names(root, file, form)
        key, on = table['key'], table.get('on') or table['key']
        log = f'{data["log"][0]} and the tables before {file.name}'
        for place, name, there in ((file.name, key, has), (log, on, available)):
            if name not in there:
                raise UserError(f"{place} has no key column '{name}'{closest(name, there)}: correct data.side_tables")
        for name in table.get('columns') or ():
            if name not in has:
                raise UserError(f"{file.name} has no column '{name}'{closest(name, has)}: correct data.side_tables")
        allowed = set(table.get('columns') or has)
        later = {other.get('on') or other['key'] for other in data['side_tables'][i + 1 :]}
        mine = [name for name in dict.fromkeys([*names, *sorted(later)]) if name in allowed and name not in available]
        offered += sorted(allowed)
        available |= set(mine)
        origin.update({name: i for name in mine})
        beside = columns.weights(mine)
        for name in beside:
            if name not in has:
                raise UserError(f"{file.name} has no column '{name}'{closest(name, has)}: correct data.lists")
        raw = tables.read_columns(root, file, form, [key, *mine, *beside])
        columns.strings |= set(form.csv['strings'])
        for name, separator in data.get('first_value', {}).items():
            if name in raw:
                raw[name] = first_value(raw[name], separator, f"{file.name}: column '{name}'", data['null_words'])
        side = {}
        for name in mine:
            where = f"{file.name}: column '{name}'"
            if name in data['numeric']:
                side[name] = values.numbers(raw[name], where, csv=form.csv, nulls=data['null_words'])
            elif name in columns.readers:
                at = lambda name, file=file: f"{file.name}: column '{name}'"  # noqa: E731
                side[name] = columns.lists(name, raw, at, form.csv)
            else:
                side[name] = columns.of(name).add(raw[name], where)
        keys = columns.of(on).add(raw[key], f"{file.name}: column '{key}'")
        found.append(Read(file.name, on, keys, side, columns.owners))
        size += file.size
    for name in names:
        if name not in origin:
            hint, key = closest(name, offered), 'lists' if name in columns.readers else 'fields or data.numeric'
            raise UserError(f"no log file or side table has column '{name}'{hint}: correct data.{key}")
    return found, origin, size


def check_keys(sides: Iterable[SideTable]) -> None:
    """Raises UserError for a key that is missing, or there more than once."""
    for side in sides:
        if side.keys.null_count:
            raise UserError(
                f"{side.name}: key column '{side.key}' is null in {side.keys.null_count} rows: remove those rows"
            )
        if not len(side.keys):
            raise UserError(f'{side.name} has no rows: fetch it again, or take it out of data.side_tables')
        counts = pc.value_counts(side.keys)
        repeated = counts.filter(pc.greater(counts.field('counts'), 1))
        if len(repeated):
            value = repeated[0].as_py()['values']
            raise UserError(
                f"{side.name}: key column '{side.key}' holds {value!r} more than once ({len(repeated)} such keys): "
                'keep one row per key'
            )


def check_joins(
    sides: Iterable[SideTable], of: Mapping[str, pa.Array], rows: Mapping[str, np.ndarray], first: bool
) -> list[str]:
    """How many rows of the log a side table says nothing of, in words; UserError where that is all of the first ones.

    Args: of: column of the log -> the value of every code; rows: column -> how many rows have each code.
    """
    notes, weights, columns = [], dict(rows), dict(of)
    for side in sides:
        key, weight = columns[side.key], weights[side.key]
        match = pc.index_in(key, value_set=side.keys)
        there = pc.is_valid(key).to_numpy(zero_copy_only=False)
        lost = there & match.is_null().to_numpy(zero_copy_only=False)
        without, whole = int(weight[lost].sum()), int(weight[there].sum())
        if first and without and without == whole:
            example = key.filter(pa.array(lost & (weight > 0)))[0].as_py()
            raise UserError(
                f"{side.name} has none of the log's values of '{side.key}': {side.keys[0].as_py()!r} there, "
                f'{example!r} in the log; correct data.side_tables, or the file'
            )
        if without:
            notes.append(f"{without} of {whole} rows have a '{side.key}' that {side.name} does not: missing there")
        for name, column in side.columns.items():
            columns[name], weights[name] = column.take(match), weight
    return notes


def join(columns: Mapping[str, pa.Array], sides: Iterable[SideTable]) -> dict[str, pa.Array]:
    """Rows of the log, and joined to them the side tables' columns: values [N], or codes of values."""
    found = dict(columns)
    for side in sides:
        key = coded_array(found[side.key])
        words = key.dictionary
        match = pc.index_in(words if words.type == side.keys.type else words.cast(side.keys.type), value_set=side.keys)
        place = match.take(key.indices)
        for name, column in side.columns.items():
            lists = pa.types.is_list(column.type)
            found[name] = column.take(place) if lists else pa.DictionaryArray.from_arrays(place, column)
    return found
