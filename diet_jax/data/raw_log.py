"""The whole log: read, cleared of duplicates, joined with side tables."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError, closest
from diet_jax.data import files, tables, values
from diet_jax.data.hashing import hash_rows

NO_ZONE = 'none'  # of a time stamp that is local
FEW = 0.01  # share of rows without a time that are dropped with a word


class SideTable(NamedTuple):
    """A side table: at most one row per key."""

    name: str
    key: str
    keys: pa.Array  # int64, bool or string [K], unique
    columns: dict[str, pa.Array]  # each [K]: int64, bool, string, or float64 for numeric fields


class RawLog(NamedTuple):
    """The log's own columns, in the order of the files' names and rows."""

    columns: dict[str, pa.Array]  # fields, keys, the block column, and what negatives are drawn by
    time: np.ndarray  # int64 [N]
    label: np.ndarray  # float32 [N]
    bytes_per_row: np.ndarray  # float64 [N]
    sides: tuple[SideTable, ...]
    side_bytes: int
    notes: tuple[str, ...]
    kinds: dict[str, str]  # what every column was read as, for the user


def read_log(data: dict, root: files.Root, log_files: list, known: dict[str, str]) -> RawLog:
    """Reads the needed columns of all files and side tables; what a column is is decided over all of them.

    Args:
      data: checked `config.data`.
      known: kind (`values.KINDS`) of the categorical columns as the cache holds them.
    """
    form = tables.form_of(data)
    has = {file.name: tables.column_names(root, file, form) for file in log_files}
    names = list(dict.fromkeys(name for of_file in has.values() for name in of_file))
    sides, origin, side_bytes = _side_tables(data, root, names)
    categorical = {name for name in data['fields'] if origin[name] is None}
    categorical |= {side['key'] for side in sides if side['key'] in names}
    if data['block']['by'] == 'column':
        categorical.add(data['block']['column'])
    if data['negatives']['per_click']:
        drawn = [data['negatives']['item'], data['negatives']['user'], *data['negatives']['item_columns']]
        categorical |= set(drawn) - set(data['numeric'])
    wanted = [*sorted(categorical), *(name for name in data['numeric'] if origin[name] is None)]
    for name in wanted:
        if name not in names:
            raise UserError(f"{log_files[0].name} has no column '{name}'{closest(name, names)}: correct config.data")
    parts = [_read_part(data, root, file, form, has[file.name], wanted, categorical) for file in log_files]
    notes = [*_late_columns(wanted, has), *_zones(parts, data['time'])]
    counts = [len(part['time']) for part in parts]
    if not sum(counts):
        raise UserError(f'{log_files[0].name} has no rows: correct data.log, or fetch the file again')
    sides, parts, kinds = _decided(sides, parts, log_files, categorical, data, known)
    columns = {name: pa.concat_arrays([part['columns'][name] for part in parts]) for name in wanted}
    time = np.concatenate([part['time'] for part in parts])
    label = pa.concat_arrays([part['label'] for part in parts])
    _check_positives(data['label'], parts)
    notes += _check_joins(columns, sides)
    file_of_row = np.repeat(np.arange(len(counts)), counts)
    keep = np.ones(len(time), bool)
    if data['duplicates'] == 'drop':
        first = np.unique(np.concatenate([part['hashes'] for part in parts]), return_index=True)[1]
        keep[:] = False
        keep[first] = True
        notes.append(f'{int((~keep).sum())} rows dropped that repeat an earlier one in every column')
    keep &= ~_without_time(time, file_of_row, log_files, data, notes)
    null = label.is_null().to_numpy(zero_copy_only=False)
    if null.any():
        notes.append(f"{int((null & keep).sum())} rows dropped whose '{data['label']['column']}' is null")
        keep &= ~null
    if not keep.any():
        raise UserError(f"{log_files[0].name}: column '{data['label']['column']}' is null in every row: correct it")
    sizes = np.array([file.size for file in log_files], np.float64)
    kept = np.bincount(file_of_row[keep], minlength=len(sizes))
    bytes_per_row = (sizes / np.maximum(kept, 1))[file_of_row]
    if not keep.all():
        mask = pa.array(keep)
        columns = {name: column.filter(mask) for name, column in columns.items()}
        label, time, bytes_per_row = label.filter(mask), time[keep], bytes_per_row[keep]
    if int(time.max()) // values.time_ticks(data['time']) < values.EARLIEST:
        notes.append(f"every time lies before 1980 in unit '{data['time']['unit']}': is data.time.unit right?")
    notes.insert(0, f'{len(time)} rows of {len(log_files)} files')
    notes += [f'read as {text}' for text in _in_words(kinds)]
    label = label.to_numpy(zero_copy_only=False).astype(np.float32)
    return RawLog(columns, time, label, bytes_per_row, sides, side_bytes, tuple(notes), kinds)


def _read_part(data, root, file, form, has, wanted, categorical) -> dict:
    """One file: {'columns': {name: array}, 'time', 'label', 'hashes'}; what a column is is not decided yet."""
    drop, nulls, csv = data['duplicates'] == 'drop', data['null_words'], data['csv']
    time, label = data['time'], data['label']
    always = [time['column'], *([label['column']] if label['column'] else [])]
    if data['block']['by'] == 'column':
        always.append(data['block']['column'])
    here = [name for name in wanted if name in has]
    unlike = {time['column'], *data['numeric']} - categorical
    raw = tables.read_columns(root, file, form, [*always, *here, *(has if drop else ())], unlike)
    rows, columns = len(raw[time['column']]), {}

    def where(name):
        return f"{file.name}: column '{name}'"

    for name in wanted:
        if name not in has:  # a column that came later
            columns[name] = pa.nulls(rows, pa.int64() if name in categorical else pa.float64())
        elif name in categorical:
            columns[name] = values.category(raw[name], where(name), nulls, name in csv['strings'])
        else:
            columns[name] = values.numbers(raw[name], where(name), csv=csv, nulls=nulls)
        if name == data['block']['column'] and data['block']['by'] == 'column' and columns[name].null_count:
            raise UserError(
                f'{where(name)} is null in {columns[name].null_count} rows, but cuts the blocks: fill it in'
            )
    part = {'columns': columns, 'time': values.times(raw[time['column']], time, where(time['column']), nulls)}
    if label['column']:
        part['label'] = values.labels(raw[label['column']], label, where(label['column']), csv, nulls)
        part['positives'] = values.words_of(raw[label['column']], nulls) if label['positive'] else set()
    else:  # every row is a click
        part['label'] = pa.array(np.ones(rows, np.float32))
    if pa.types.is_timestamp(raw[time['column']].type):
        part['zone'] = raw[time['column']].type.tz or NO_ZONE
    if drop:
        part['hashes'] = hash_rows({name: raw[name] for name in has}, nulls)
    return part


def _without_time(time: np.ndarray, file_of_row, log_files, data: dict, notes: list[str]) -> np.ndarray:
    """bool [N]: rows of time 0 in a log of today, which are in no block; they are told in the notes.

    Rows before `data.since` are nobody's, and a log all of whose times are before 1980 counts from some start.
    """
    ticks, column = values.time_ticks(data['time']), data['time']['column']
    early = time // ticks < values.EARLIEST
    if data['since'] or early.all() or not early.any():
        return np.zeros(len(time), bool)
    odd, zero = early & (time > 0), time <= 0
    if odd.any():
        first, other = int(np.flatnonzero(odd)[0]), int(np.flatnonzero(~early)[0])
        here, there = (log_files[file_of_row[i]].name for i in (first, other))
        day = np.datetime64(int(time[first]) // ticks, 's').astype('datetime64[D]')
        raise UserError(
            f"{here}: column '{column}' holds {time[first]}, which is {day} in unit '{data['time']['unit']}', and "
            f'{time[other]} in {there}: write all files in one unit, or leave old rows out with data.since'
        )
    if zero.mean() > FEW:
        raise UserError(
            f"{log_files[file_of_row[int(np.flatnonzero(zero)[0])]].name}: column '{column}' is 0 (1970) in "
            f'{int(zero.sum())} of {len(time)} rows: correct it, or leave them out with data.since'
        )
    notes.append(f"{int(zero.sum())} rows dropped whose '{column}' is 0 (1970)")
    return zero


def _late_columns(wanted, has: dict[str, list[str]]) -> list[str]:
    """What is said of columns that some files do not have: there they are missing."""
    notes = []
    for name in wanted:
        without = [file for file, names in has.items() if name not in names]
        if without and len(without) < len(has):
            shown = ', '.join(without[:3]) + (', ...' if len(without) > 3 else '')
            notes.append(f"column '{name}' is not in {len(without)} of {len(has)} files ({shown}): missing there")
    return notes


def _zones(parts, time: dict) -> list[str]:
    """What is said of zones in the files: days and hours are cut by one offset."""
    zones = sorted({part['zone'] for part in parts if 'zone' in part})
    local = f'UTC{time["utc_offset_hours"]:+g} (data.time.utc_offset_hours)'
    if not zones or zones == ['UTC'] or zones == [NO_ZONE]:
        return []
    if NO_ZONE in zones:
        others = ', '.join(zone for zone in zones if zone != NO_ZONE)
        return [f"'{time['column']}' has zone {others} in some files and none in others: those are taken as {local}"]
    return [f"'{time['column']}' is in zone {', '.join(zones)}; days and hours are cut in {local}"]


def _check_positives(label: dict, parts) -> None:
    """Raises UserError for a value that counts as 1 and that no row has: it is written otherwise there."""
    if not label['positive']:
        return
    there = set().union(*(part['positives'] for part in parts))
    for word in values.positives(label).to_pylist():
        if word not in there:
            shown = ', '.join(sorted(there)[:6])
            raise UserError(
                f"data.label.positive holds {word!r}, which no row of '{label['column']}' has; there are: {shown}: "
                'name those that count as 1'
            )


def _decided(sides, parts, log_files, categorical, data, known):
    """Side tables and parts with one kind for every categorical column, and what every column was read as."""
    strings, kinds = set(data['csv']['strings']), {}
    places: dict[str, list[tuple[str, dict, str]]] = {}  # column -> (where, the dict that holds it, its key there)
    for side in sides:
        places.setdefault(side['key'], []).append((side['name'], side, 'keys'))
        for name in side['columns']:
            if name not in data['numeric']:
                places.setdefault(name, []).append((side['name'], side['columns'], name))
    for part, file in zip(parts, log_files, strict=True):
        for name in categorical:
            places.setdefault(name, []).append((file.name, part['columns'], name))
    for name, at in places.items():
        arrays = {f"{file}: column '{name}'": holder[key] for file, holder, key in at}
        kind = values.kind_of(arrays, known.get(name), name, name in strings)
        for _, holder, key in at:
            holder[key] = values.as_kind(holder[key], kind)
        kinds[name] = kind or 'int64'
    for side in sides:
        _check_keys(side['keys'], side['name'], side['key'])
    kinds |= {name: 'number' for name in data['numeric']}
    found = tuple(SideTable(side['name'], side['key'], side['keys'], side['columns']) for side in sides)
    return found, parts, kinds


def _check_joins(columns: dict[str, pa.Array], sides: tuple[SideTable, ...]) -> list[str]:
    """How many rows a side table says nothing of; UserError where that is all of them."""
    notes, columns = [], dict(columns)
    for side in sides:
        key = columns[side.key]
        match = pc.index_in(key, value_set=side.keys)
        lost = match.null_count - key.null_count
        if lost and lost == len(key) - key.null_count:
            raise UserError(
                f"{side.name} has none of the log's values of '{side.key}': {side.keys[0].as_py()!r} there, "
                f'{key.drop_null()[0].as_py()!r} in the log; correct data.side_tables, or the file'
            )
        if lost:
            notes.append(f"{lost} of {len(key)} rows have a '{side.key}' that {side.name} does not: missing there")
        columns |= {name: column.take(match) for name, column in side.columns.items()}
    return notes


def _in_words(kinds: dict[str, str]) -> list[str]:
    """['whole numbers: user, item', 'text: city', ...]."""
    words = {'int64': 'whole numbers', 'bool': 'true and false', 'string': 'text', 'number': 'numbers'}
    found = {text: [name for name, kind in kinds.items() if kind == of] for of, text in words.items()}
    return [f'{text}: {", ".join(sorted(names))}' for text, names in found.items() if names]


def read_side_tables(data, root, log_names, known) -> tuple[SideTable, ...]:
    """The side tables that a table at hand is joined with. known: as of `read_log`."""
    return _decided(_side_tables(data, root, log_names)[0], [], [], set(), data, known)[0]


def _side_tables(data, root, log_names) -> tuple[list[dict], dict[str, int | None], int]:
    """Side tables as they are written, and for each field where it comes from: None is the log, i the i-th table."""
    names = [*data['fields'], *data['numeric']]
    origin = {name: None for name in names if name in log_names}
    found, sizes, available, offered = [], 0, set(log_names), list(log_names)
    for i, table in enumerate(data['side_tables']):
        file = files.find_file(root, table['path'], f'data.side_tables[{i}].path')
        form = tables.form_of(data, table.get('csv') or {})
        has = tables.column_names(root, file, form)
        key = table['key']
        for place, columns in (
            (file.name, has),
            (f'{data["log"][0]} and the tables before {file.name}', available),
        ):
            if key not in columns:
                raise UserError(f"{place} has no key column '{key}'{closest(key, columns)}: correct data.side_tables")
        for name in table.get('columns') or ():
            if name not in has:
                raise UserError(f"{file.name} has no column '{name}'{closest(name, has)}: correct data.side_tables")
        allowed = set(table.get('columns') or has)
        later = {other['key'] for other in data['side_tables'][i + 1 :]}
        mine = [name for name in dict.fromkeys([*names, *sorted(later)]) if name in allowed and name not in available]
        offered += sorted(allowed)
        available |= set(mine)
        origin.update({name: i for name in mine})
        raw = tables.read_columns(root, file, form, [key, *mine])
        where = lambda name, file=file: f"{file.name}: column '{name}'"  # noqa: E731
        nulls, strings, columns = data['null_words'], {*form.csv['strings'], *data['csv']['strings']}, {}
        for name in mine:
            if name in data['numeric']:
                columns[name] = values.numbers(raw[name], where(name), csv=form.csv, nulls=nulls)
            else:
                columns[name] = values.category(raw[name], where(name), nulls, name in strings)
        keys = values.category(raw[key], where(key), nulls, key in strings)
        found.append({'name': file.name, 'key': key, 'keys': keys, 'columns': columns})
        sizes += file.size
    for name in names:
        if name not in origin:
            hint = closest(name, offered)
            raise UserError(f"no log file or side table has column '{name}'{hint}: correct data.fields or data.numeric")
    return found, origin, sizes


def _check_keys(keys: pa.Array, file: str, key: str) -> None:
    if keys.null_count:
        raise UserError(f"{file}: key column '{key}' is null in {keys.null_count} rows: remove those rows")
    if not len(keys):
        raise UserError(f'{file} has no rows: fetch it again, or take it out of data.side_tables')
    counts = pc.value_counts(keys)
    repeated = counts.filter(pc.greater(counts.field('counts'), 1))
    if len(repeated):
        value = repeated[0].as_py()['values']
        raise UserError(
            f"{file}: key column '{key}' holds {value!r} more than once ({len(repeated)} such keys): "
            'keep one row per key'
        )


def take(log: RawLog, rows: np.ndarray) -> RawLog:
    columns = take_columns(log.columns, rows)
    return log._replace(
        columns=columns, time=log.time[rows], label=log.label[rows], bytes_per_row=log.bytes_per_row[rows]
    )


def take_columns(columns: dict[str, pa.Array], rows: np.ndarray) -> dict[str, pa.Array]:
    """Some rows of every column."""
    index = pa.array(rows)
    return {name: column.take(index) for name, column in columns.items()}


def join(columns: dict[str, pa.Array], sides: tuple[SideTable, ...]) -> dict[str, pa.Array]:
    """Rows of the log, and joined to them the side tables' columns."""
    columns = dict(columns)
    for side in sides:
        key = columns[side.key]
        match = pc.index_in(key, value_set=side.keys)
        for name, column in side.columns.items():
            columns[name] = column.take(match)
    return columns
