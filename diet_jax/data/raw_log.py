"""The whole log: read, cleared of duplicates, sorted by time, cut into blocks, joined with side tables."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError, closest
from diet_jax.data import files
from diet_jax.data.hashing import hash_rows


class SideTable(NamedTuple):
    """A side table: at most one row per key."""

    name: str
    key: str
    keys: pa.Array  # int64 or string [K], unique
    columns: dict[str, pa.Array]  # each [K]: int64, string, or float64 for numeric fields


class Cut(NamedTuple):
    """One block of the log, not yet joined."""

    key: str
    rows: np.ndarray  # int64 [N]: positions in the log, in time order
    raw_bytes: int  # its share of the log files


class RawLog(NamedTuple):
    """The log's own columns, in the order of the files' names and rows."""

    columns: dict[str, pa.Array]  # fields, keys, the block column, and what negatives are drawn by
    time: np.ndarray  # int64 [N]
    label: np.ndarray  # float32 [N]
    bytes_per_row: np.ndarray  # float64 [N]
    sides: tuple[SideTable, ...]
    side_bytes: int
    notes: tuple[str, ...]


def read_log(data: dict, root: files.Root, log_files: list, known: dict[str, str]) -> RawLog:
    """Reads the needed columns of all files and side tables.

    Args:
      data: checked `config.data`.
      known: type ('int64' or 'string') of the categorical columns as the cache holds them.
    """
    csv = data['csv']
    names = files.column_names(root, log_files[0], csv)
    sides, origin, side_bytes = read_side_tables(data, root, names, known)
    categorical = {name for name in data['fields'] if origin[name] is None}
    categorical |= {side.key for side in sides if side.key in names}
    if data['block']['by'] == 'column':
        categorical.add(data['block']['column'])
    if data['negatives']['per_click']:
        drawn = [data['negatives']['item'], data['negatives']['user'], *data['negatives']['item_columns']]
        categorical |= set(drawn) - set(data['numeric'])
    wanted = [*sorted(categorical), *(name for name in data['numeric'] if origin[name] is None)]
    parts, notes, hashes = [], [], []

    def read_part(file, strings=()):
        types = {**known, **dict.fromkeys(strings, 'string')}
        return _read_part(data, root, file, wanted, categorical, types)

    for file in log_files:
        part, hashed = read_part(file)
        parts.append(part)
        hashes.append(hashed)
    parts = _agree_on_types(parts, categorical, log_files, known, read_part)
    counts = [len(part['time']) for part in parts]
    if not sum(counts):
        raise UserError(f'{log_files[0].name} has no rows: correct data.log, or fetch the file again')
    columns = {name: pa.concat_arrays([part['columns'][name] for part in parts]) for name in wanted}
    time = np.concatenate([part['time'] for part in parts])
    label = pa.concat_arrays([part['label'] for part in parts])
    file_of_row = np.repeat(np.arange(len(counts)), counts)
    keep = np.ones(len(time), bool)
    if data['duplicates'] == 'drop':
        first = np.unique(np.concatenate(hashes), return_index=True)[1]
        keep[:] = False
        keep[first] = True
        notes.append(f'{int((~keep).sum())} rows dropped that repeat an earlier one in every column')
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
    latest = int(time.max()) // files.time_ticks(data['time'])
    if latest < 315_532_800:  # 1980-01-01
        notes.append(f"every time lies before 1980 in unit '{data['time']['unit']}': is data.time.unit right?")
    notes.insert(0, f'{len(time)} rows of {len(log_files)} files')
    label = label.to_numpy(zero_copy_only=False).astype(np.float32)
    return RawLog(columns, time, label, bytes_per_row, sides, side_bytes, tuple(notes))


def _read_part(data, root, file, wanted, categorical, known) -> tuple[dict, np.ndarray | None]:
    drop = data['duplicates'] == 'drop'
    time, label = data['time'], data['label']
    needed = [*wanted, time['column'], *([label['column']] if label['column'] else [])]
    every = files.column_names(root, file, data['csv']) if drop else []
    strings = [name for name, kind in known.items() if kind == 'string' and name in needed]
    for name in needed if drop else ():
        if name not in every:
            raise UserError(f"{file.name} has no column '{name}'{closest(name, every)}: correct config.data")
    raw = files.read_columns(root, file, data['csv'], [*needed, *every], strings)

    def where(name):
        return f"{file.name}: column '{name}'"

    columns = {}
    for name in wanted:
        read = files.categories if name in categorical else files.numbers
        columns[name] = read(raw[name], where(name))
        if name == data['block']['column'] and data['block']['by'] == 'column' and columns[name].null_count:
            raise UserError(
                f'{where(name)} is null in {columns[name].null_count} rows, but cuts the blocks: fill it in'
            )
    part = {
        'columns': columns,
        'time': files.times(raw[time['column']], time, where(time['column'])),
    }
    if label['column']:
        part['label'] = files.labels(raw[label['column']], label, where(label['column']))
    else:  # every row is a click
        part['label'] = pa.array(np.ones(len(part['time']), np.float32))
    return part, hash_rows([raw[name] for name in every]) if drop else None


def _agree_on_types(parts, categorical, log_files, known, reread: Callable) -> list[dict]:
    """Gives every part of a column one type.

    CSV columns that look like integers in one file and like strings in another are strings in all.

    Raises:
      UserError: strings in a column that the cache holds as integers.
    """
    for name in categorical:
        for part, file in zip(parts, log_files, strict=True):
            column = part['columns'][name]
            if known.get(name) == 'int64' and pa.types.is_string(column.type) and column.null_count < len(column):
                words = column.filter(pc.invert(pc.match_substring_regex(column, r'^-?\d+$')))
                shown = (words if len(words) else column.drop_null())[0].as_py()
                raise UserError(
                    f"{file.name}: column '{name}' holds {shown!r}, but held integers when earlier blocks "
                    f"were prepared: correct it, or list '{name}' in data.csv.strings to prepare afresh"
                )
    mixed = []
    for name in categorical:
        kinds = {part['columns'][name].type for part in parts if part['columns'][name].null_count < len(part['time'])}
        if len(kinds) > 1:
            mixed.append(name)
    if mixed:
        pairs = zip(parts, log_files, strict=True)
        parts = [reread(file, mixed)[0] if files.is_csv(file) else part for part, file in pairs]
    for name in categorical:
        kinds = {part['columns'][name].type for part in parts if part['columns'][name].null_count < len(part['time'])}
        kind = pa.string() if pa.string() in kinds else pa.int64()
        for part in parts:
            part['columns'][name] = part['columns'][name].cast(kind)
    return parts


def read_side_tables(data, root, log_names, known) -> tuple[tuple[SideTable, ...], dict[str, int | None], int]:
    """Side tables, and for each field where it comes from: None is the log, i the i-th side table."""
    names = [*data['fields'], *data['numeric']]
    origin = {name: None for name in names if name in log_names}
    found, sizes, available, offered = [], 0, set(log_names), list(log_names)
    for i, table in enumerate(data['side_tables']):
        file = files.find_file(root, table['path'], f'data.side_tables[{i}].path')
        csv = {**data['csv'], 'column_names': (), **(table.get('csv') or {})}
        has = files.column_names(root, file, csv)
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
        strings = [name for name in mine if known.get(name) == 'string']
        raw = files.read_columns(root, file, csv, [key, *mine], strings)
        keys = files.categories(raw[key], f"{file.name}: column '{key}'")
        _check_keys(keys, file.name, key)
        columns = {}
        for name in mine:
            read = files.numbers if name in data['numeric'] else files.categories
            columns[name] = read(raw[name], f"{file.name}: column '{name}'")
        found.append(SideTable(file.name, key, keys, columns))
        sizes += file.size
    for name in names:
        if name not in origin:
            hint = closest(name, offered)
            raise UserError(f"no log file or side table has column '{name}'{hint}: correct data.fields or data.numeric")
    return tuple(found), origin, sizes


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


def since(log: RawLog, data: dict) -> tuple[RawLog, RawLog]:
    """The log from block `data.since` on, and its rows before, which are in no block."""
    if not data['since']:
        early = np.zeros(len(log.time), bool)
    elif data['block']['by'] == 'column':
        coded = log.columns[data['block']['column']].dictionary_encode()
        keys = [str(value) for value in coded.dictionary.to_pylist()]
        for key in keys:
            if key.isdigit() != data['since'].isdigit():
                raise UserError(f"data.since '{data['since']}' is not written like the key of a block, '{key}'")
        before = np.array([block_order(key) < block_order(data['since']) for key in keys])
        early = before[coded.indices.to_numpy(zero_copy_only=False)]
    else:
        ticks = files.time_ticks(data['time'])
        offset = round(data['time']['utc_offset_hours'] * 3600 * ticks)
        local = log.time + offset
        if data['block']['by'] == 'period':
            local -= local % period_ticks(data)
        seconds = np.datetime64(data['since'], 's').astype(np.int64)
        early = local < seconds * ticks
    if early.all():
        last = local_key(int(log.time.max()), data)
        raise UserError(f"data.since '{data['since']}' is after the last row ({last}): no block is left")
    if not early.any():
        return log, _take(log, np.flatnonzero(early))
    kept = _take(log, np.flatnonzero(~early))
    note = f'{int(early.sum())} rows before data.since {data["since"]} left out'
    return kept._replace(notes=(*log.notes, note)), _take(log, np.flatnonzero(early))


def _take(log: RawLog, rows: np.ndarray) -> RawLog:
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
        if key.type != side.keys.type:
            raise UserError(
                f"{side.name}: key column '{side.key}' is {side.keys.type}, but {key.type} in the log: "
                'list it in data.csv.strings of both, or correct the file'
            )
        match = pc.index_in(key, value_set=side.keys)
        for name, column in side.columns.items():
            columns[name] = column.take(match)
    return columns


def block_order(key: str) -> tuple:
    """Sort key of block keys: whole numbers by size, others as strings."""
    return (0, int(key), '') if key.isdigit() else (1, 0, key)


def local_key(time: int, data: dict) -> str:
    """A time stamp in local time, as 2022-04-25, 2022-04-25T13, ...: no longer than it needs to be exact."""
    ticks = files.time_ticks(data['time'])
    local = int(time) + round(data['time']['utc_offset_hours'] * 3600 * ticks)
    unit = {1: 's', 10**3: 'ms', 10**6: 'us', 10**9: 'ns'}[ticks]
    text = str(np.datetime64(local, unit))
    for tail in ('.000000000', '.000000', '.000', ':00', ':00', 'T00'):
        text = text.removesuffix(tail)
    return text


def cut(log: RawLog, data: dict, first_new_time: int | None = None) -> tuple[list[Cut], str | None]:
    """Sorts the log stably by time and cuts it into blocks.

    Args:
      first_new_time: for blocks of N rows, when earlier blocks are cached: cut only rows from here on.
    Returns:
      The blocks in order, and a sentence about rows held back (the last part of a block of N rows) or None.
    """
    by = data['block']['by']
    if by == 'column':
        return _cut_by_column(log, data), None
    order = np.argsort(log.time, kind='stable')
    if by == 'rows':
        if first_new_time is not None:
            order = order[np.searchsorted(log.time[order], first_new_time) :]
        return _cut_by_rows(log, data, order)
    ticks = files.time_ticks(data['time'])
    offset = round(data['time']['utc_offset_hours'] * 3600 * ticks)
    length = period_ticks(data)
    period = (log.time[order] + offset) // length
    edges = np.flatnonzero(np.diff(period, prepend=period[0] - 1, append=period[-1] + 1))
    pieces = [order[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    keys = [local_key(int(period[a]) * length - offset, data) for a in edges[:-1]]
    return [_cut(log, key, rows) for key, rows in zip(keys, pieces, strict=True)], None


def period_ticks(data: dict) -> int:
    """Length of a block by period, in ticks of the log's time; UserError where it is shorter than one."""
    ticks = round(data['block']['hours'] * 3600 * files.time_ticks(data['time']))
    if ticks < 1:
        raise UserError(f'data.block.hours {data["block"]["hours"]} is shorter than data.time.unit: make it longer')
    return ticks


def _cut(log: RawLog, key: str, rows: np.ndarray) -> Cut:
    return Cut(key, rows, round(log.bytes_per_row[rows].sum()))


def _cut_by_column(log: RawLog, data: dict) -> list[Cut]:
    name = data['block']['column']
    column = log.columns[name]
    coded = column.dictionary_encode()
    keys = [str(value) for value in coded.dictionary.to_pylist()]
    code = coded.indices.to_numpy(zero_copy_only=False)
    ranking = sorted(range(len(keys)), key=lambda i: block_order(keys[i]))
    rank = np.empty(len(keys), np.int64)
    rank[ranking] = np.arange(len(keys))
    order = np.lexsort((log.time, rank[code]))
    edges = np.searchsorted(rank[code][order], np.arange(len(keys) + 1))
    return [_cut(log, keys[ranking[b]], order[edges[b] : edges[b + 1]]) for b in range(len(keys))]


def _cut_by_rows(log: RawLog, data: dict, order: np.ndarray) -> tuple[list[Cut], str | None]:
    size, time, start, blocks = data['block']['rows'], log.time[order], 0, []
    while start + size <= len(order):
        end = int(np.searchsorted(time, time[start + size - 1], side='right'))  # never split a timestamp
        blocks.append(_cut(log, local_key(int(time[start]), data), order[start:end]))
        start = end
    rest = len(order) - start
    return blocks, f'{rest} rows held back until a block of {size} is full' if rest else None


def cut_as_cached(log: RawLog, data: dict, cached: list[dict]) -> dict[int, np.ndarray]:
    """Rows of the log that belong to blocks which are in the cache: {block index: positions of its rows}.

    Raises:
      UserError: rows that lie before or between the cached blocks.
    """
    if data['block']['by'] == 'rows':
        starts = np.array([block['first_time'] for block in cached])
        old = np.flatnonzero(log.time <= cached[-1]['last_time'])
        owner = np.searchsorted(starts, log.time[old], side='right') - 1
        if (owner < 0).any():
            raise _back_in_time(local_key(int(log.time[old].min()), data), cached, data)
        return {int(t): old[owner == t] for t in np.unique(owner)}
    index = {block['key']: t for t, block in enumerate(cached)}
    last = block_order(cached[-1]['key'])
    found = {}
    for block in cut(log, data)[0]:
        if block.key in index:
            found[index[block.key]] = block.rows
        elif block_order(block.key) < last:
            raise _back_in_time(block.key, cached, data)
    return found


def _back_in_time(key: str, cached: list[dict], data: dict) -> UserError:
    return UserError(
        f'the log goes back in time: it now has rows of {key}, but was prepared up to {cached[-1]["key"]} '
        f'without them: take them out of {data["log"][0]}, or start a new workdir'
    )
