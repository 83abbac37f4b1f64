"""What a row is: its fields, label, time and block, as said by `config.data`."""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from diet_jax.errors import UserError, closest

UNITS = {'s': 1, 'ms': 10**3, 'us': 10**6, 'ns': 10**9}  # ticks in a second
TIME_FIELDS = ('hour', 'weekday')
CHOICES = {
    'source': ('files', 'simulated'),
    'time.unit': (*UNITS, 'iso'),
    'block.by': ('column', 'period', 'rows'),
    'negatives.by': ('items', 'clicks'),
    'duplicates': ('keep', 'drop'),
}


class Field(NamedTuple):
    """One input of a model."""

    name: str  # the column, or 'hour' / 'weekday'
    kind: str  # 'categorical' | 'numeric' | 'time'
    bounds: tuple[float, ...] = ()  # numeric: inner bin boundaries; bin b holds bounds[b-1] <= x < bounds[b]


class Simulated(NamedTuple):
    """Parameters of the simulated stream; the formulas are in diet_jax/data/simulated.py."""

    seed: int = 0
    blocks: int = 28  # days, the first a Monday
    rows_per_block: int = 4000
    users: int = 2000
    items: int = 1500  # there before the first block
    new_items_per_block: int = 30
    authors: int = 200
    categories: int = 16
    user_groups: int = 8
    zipf: float = 0.8  # popularity ~ 1 / rank**zipf, of users and of items
    half_life: float = 7.0  # blocks after which a new item has lost half of its popularity
    first_order: float = 0.7  # standard deviations in the logit: user, item, group, category, author, tab, price ...
    interaction: float = 1.0  # ... group x category and device x tab
    season: float = 1.0  # ... weekend x category and weekend x tab
    low_rank: float = 0.4  # ... user x item
    rank: int = 4
    drift: float = 0.5  # share of the user and item terms that wanders, over weeks
    bias: float = -0.5


def default_simulated() -> ConfigDict:
    """`config.data.simulated` with every parameter."""
    return ConfigDict(Simulated()._asdict())


def default_data() -> ConfigDict:
    """`config.data` with every key and its default; a dataset's config fills in its own."""
    return ConfigDict(
        dict(
            source='files',  # 'files' | 'simulated'
            root='',  # a folder, or a URI of pyarrow.fs: s3://bucket/path, gs://...
            # Glob patterns below root, Parquet or CSV (also .gz); of files with one stem the first pattern's.
            log=(),
            csv=dict(
                delimiter=',',  # may be several characters, as MovieLens' '::'
                column_names=(),  # for files without a header line
                encoding='utf8',
                strings=(),  # columns that look like numbers but are strings (zip codes, long ids)
            ),
            time=dict(
                column='',
                unit='ms',  # 's' | 'ms' | 'us' | 'ns' since 1970 UTC, or 'iso' for dates and times in words
                utc_offset_hours=0.0,  # local time for days and hours; 'iso' without a zone is local
            ),
            block=dict(
                by='period',  # 'column': one block per value; 'period': by time; 'rows': every N rows
                column='',
                hours=24.0,  # a period; days begin at local midnight
                rows=0,
            ),
            label=dict(
                column='',
                threshold=None,  # a number: label = value >= threshold
                positive=(),  # values: label = value is one of them; with neither: 0 and 1
            ),
            # For a log of clicks only: every click is followed by copies of itself with another item, label 0.
            # label.column may then be '' (every row is a click); of a labelled log the positive rows are the clicks.
            negatives=dict(
                per_click=0,  # 0: none are drawn
                item='',  # the field that is redrawn, from the items clicked just before
                by='items',  # all as likely: popularity tells much; 'clicks': as likely as they were clicked, harder
                item_columns=(),  # columns of the log that go with the item (its category), and not with the click
                user='',  # a column of the log: items its own clicks hold are not drawn; '' = the group field
                window_hours=24.0,  # how long before the click, strictly
                seed=0,
            ),
            fields=(),  # categorical columns, of the log or of a side table
            numeric=dict(),  # column -> number of quantile bins, learned from the first block only
            time_fields=(),  # of 'hour', 'weekday'
            side_tables=(),  # dicts: path, key, and optionally columns=(...), csv=dict(...)
            duplicates='keep',  # 'drop': rows that repeat an earlier one in every column
            group='',  # the field that GAUC groups by; '' = the first field
            since='',  # first block to read, '' = all: leaves stray rows out
            until='',  # last block to read, '' = all: holds an incomplete day back
            simulated=default_simulated(),
        )
    )


def simulated_data(**parameters: Any) -> ConfigDict:
    """`config.data` of a simulated stream, e.g. `simulated_data(blocks=14, seed=1)`."""
    data = default_data()
    data.source = 'simulated'
    data.time.column = 'time'
    data.label.column = 'label'
    data.fields = ('user', 'item', 'user_group', 'category', 'author', 'tab', 'device')
    data.numeric = ConfigDict({'price': 8})
    data.time_fields = TIME_FIELDS
    data.group = 'user'
    unknown = sorted(set(parameters) - set(data.simulated))
    if unknown:
        raise UserError(f"data.simulated has no parameter '{unknown[0]}'{closest(unknown[0], data.simulated)}")
    data.simulated.update(parameters)
    return data


def plain(value: Any) -> Any:
    """Config values as JSON can hold them: dicts, lists, numbers, strings."""
    if isinstance(value, ConfigDict):
        value = {key: value[key] for key in value}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def _merge(defaults: dict, given: dict, where: str) -> dict:
    merged = dict(defaults)
    for key, value in given.items():
        if key not in defaults:
            raise UserError(f"{where} has no key '{key}'{closest(key, defaults)}")
        if isinstance(defaults[key], dict) and f'{where}.{key}' != 'data.numeric':
            if not isinstance(value, dict):
                raise UserError(f'{where}.{key} is {value!r}: it must be a dict of {", ".join(defaults[key])}')
            value = _merge(defaults[key], value, f'{where}.{key}')
        merged[key] = value
    return merged


def check_data(data: Mapping | ConfigDict) -> dict:
    """Fills in defaults and checks every value that can be checked without opening a file.

    Args:
      data: `config.data` or a part of it.
    Returns:
      A complete nested dict of plain values (lists, dicts, numbers, strings).
    Raises:
      UserError: an unknown key or value, a name missing or given twice.
    """
    defaults = plain(default_data())
    full = _merge(defaults, plain(data), 'data')
    for path, allowed in CHOICES.items():
        value = full
        for part in path.split('.'):
            value = value[part]
        if value not in allowed:
            raise UserError(f'data.{path} is {value!r}: it must be one of {", ".join(allowed)}')
    tuples = {key: full[key] for key in ('fields', 'time_fields', 'log', 'side_tables')}
    tuples |= {f'csv.{key}': full['csv'][key] for key in ('column_names', 'strings')}
    tuples['label.positive'] = full['label']['positive']
    tuples['negatives.item_columns'] = full['negatives']['item_columns']
    for key, value in tuples.items():
        if not isinstance(value, list):
            raise UserError(f'data.{key} is {value!r}: it must be a tuple; write ({value!r},)')
    if not full['csv']['delimiter']:
        raise UserError("data.csv.delimiter is empty: set it to the character between two values, e.g. ','")
    for name in full['time_fields']:
        if name not in TIME_FIELDS:
            raise UserError(f'data.time_fields holds {name!r}: it may hold {", ".join(TIME_FIELDS)}')
    if not isinstance(full['numeric'], dict):
        raise UserError(f'data.numeric is {full["numeric"]!r}: it must be a dict, column -> number of bins')
    for name, bins in full['numeric'].items():
        if not isinstance(bins, int) or isinstance(bins, bool) or bins < 2:
            raise UserError(f"data.numeric['{name}'] is {bins!r}: the number of bins must be an int, 2 or more")
    names = [*full['fields'], *full['numeric'], *full['time_fields']]
    if not names:
        raise UserError('data.fields is empty: name the columns a model may see')
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"field '{name}' is named twice in data.fields, data.numeric and data.time_fields")
    for path in ('time', 'label'):
        column = full[path]['column']
        if not column and (path == 'time' or not full['negatives']['per_click']):
            hint = ', or set data.negatives.per_click if every row is a click' if path == 'label' else ''
            raise UserError(f"data.{path}.column is empty: name the log's {path} column{hint}")
        if column in names:
            raise UserError(f"data.{path}.column '{column}' is also a field: take it out of data.fields")
    full['group'] = full['group'] or names[0]
    if full['group'] not in names:
        raise UserError(f"data.group '{full['group']}' is no field{closest(full['group'], names)}")
    if full['label']['threshold'] is not None and full['label']['positive']:
        raise UserError('data.label has both threshold and positive: give one of them')
    _check_negatives(full)
    if full['source'] == 'files':
        _check_files(full)
    else:
        for key in (
            'blocks',
            'rows_per_block',
            'users',
            'items',
            'authors',
            'categories',
            'user_groups',
            'rank',
        ):
            if full['simulated'][key] < 1:
                raise UserError(f'data.simulated.{key} is {full["simulated"][key]}: it must be 1 or more')
        if full['since']:
            raise UserError(f"data.since is '{full['since']}', but no row of a simulated stream can be left out")
    return full


def _check_negatives(full: dict) -> None:
    negatives = full['negatives']
    for key in ('per_click', 'seed'):
        value = negatives[key]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise UserError(f'data.negatives.{key} is {value!r}: it must be a whole number, 0 or more')
    if not negatives['per_click']:
        return
    if full['source'] != 'files':
        raise UserError('data.negatives is for log files, and a simulated stream has negatives: set per_click to 0')
    if not negatives['item']:
        raise UserError('data.negatives.item is empty: name the field whose value is redrawn')
    if negatives['item'] not in full['fields']:
        hint = closest(negatives['item'], full['fields'])
        raise UserError(f"data.negatives.item '{negatives['item']}' is not in data.fields{hint}: name one of them")
    columns = [*full['fields'], *full['numeric']]
    for name in negatives['item_columns']:
        if name not in columns or name == negatives['item']:
            raise UserError(
                f"data.negatives.item_columns holds '{name}'{closest(name, columns)}: name fields other than the item"
            )
    negatives['user'] = negatives['user'] or full['group']
    if negatives['user'] in (negatives['item'], *negatives['item_columns']):
        raise UserError(f"data.negatives.user '{negatives['user']}' is the item: name the column of the user")
    if not negatives['window_hours'] > 0:
        raise UserError(f'data.negatives.window_hours is {negatives["window_hours"]}: it must be longer than 0')
    label = full['label']
    if not label['column'] and (label['positive'] or label['threshold'] is not None):
        raise UserError('data.label.column is empty, but threshold or positive is set: name the label column')


def _check_files(full: dict) -> None:
    block = full['block']
    if full['since'] and block['by'] != 'column':
        _check_local_time(full['since'])
    if not full['root'] or not full['log']:
        key = 'log' if full['root'] else 'root'
        raise UserError(f'data.{key} is empty: name the folder (data.root) and the log files in it (data.log)')
    if block['by'] == 'column' and not block['column']:
        raise UserError("data.block.by is 'column' but data.block.column is empty: name the column of the day")
    if block['by'] == 'rows' and block['rows'] < 1:
        raise UserError(f"data.block.by is 'rows' but data.block.rows is {block['rows']}: set it to 1 or more")
    if block['by'] == 'period' and block['hours'] <= 0:
        raise UserError(f'data.block.hours is {block["hours"]}: a period must be longer than 0')
    for i, table in enumerate(full['side_tables']):
        where = f'data.side_tables[{i}]'
        allowed = ('path', 'key', 'columns', 'csv')
        for key in table:
            if key not in allowed:
                raise UserError(f"{where} has no key '{key}'{closest(key, allowed)}")
        for key in ('path', 'key'):
            if not table.get(key):
                raise UserError(f'{where}.{key} is missing: a side table needs a path and a key column')


def _check_local_time(since: str) -> None:
    try:
        good = re.fullmatch(r'\d{4}-\d\d-\d\d(T\d\d(:\d\d(:\d\d)?)?)?', since) and datetime.fromisoformat(since)
    except ValueError:
        good = False
    if not good:
        raise UserError(f"data.since '{since}' is no local time: write it as 2022-04-25 or 2022-04-25T13:05")


def data_digest(data: dict) -> str:
    """Name of the cache of `data`: what changes a row changes it, where the files lie does not."""
    kept = plain(data)
    for key in ('root', 'until'):
        kept.pop(key, None)
    if not kept['negatives']['per_click']:
        kept.pop('negatives')
    if not kept['since']:
        kept.pop('since')
    if kept['source'] == 'files':
        kept.pop('simulated')
    else:
        kept['simulated'].pop('blocks')
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
