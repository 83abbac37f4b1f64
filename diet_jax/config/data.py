"""`config.data`: what a row is, its fields, label, time and block."""

import hashlib
import json
import math
import re
from collections import namedtuple
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ml_collections import ConfigDict

from diet_jax.base.errors import UserError, closest
from diet_jax.base.plain import plain
from diet_jax.config import lists, outcomes
from diet_jax.config.impressions import IMPRESSIONS, check_first_value, check_impressions, check_side_table
from diet_jax.config.keys import Key, Section, check_types, defaults, flat
from diet_jax.config.weight import WEIGHT, check_weight

OF_OUTCOMES = ('soft_label_', 'mean_label_', 'hard_label_', '__label')  # how columns of labels begin
UNITS = {'s': 1, 'ms': 10**3, 'us': 10**6, 'ns': 10**9}  # ticks in a second
TIME_FIELDS = ('hour', 'weekday')
MEMORY_COLUMNS = (
    'soft_label',
    'mean_label',
    'hard_label',
    'count',
    'weight',
    'influence',
    'stage',
)  # of a memory's rows
NEWER = (
    'null_words',
    'rename',
    'time.format',
    'csv.quote',
    'csv.escape',
    'csv.decimal_point',
    'csv.thousands',
    'impressions',
    'first_value',
    'simulated.behaviour',
    'lists',
    'histories',
    'weight',
    'label.name',
    'label.others',
)
OPEN = (
    'data.numeric',
    'data.first_value',
    'data.lists',
    'data.histories',
    'data.label.others',
)  # dicts whose keys are columns
NULL_WORDS = ('', 'NULL', 'null', '\\N', 'nan', 'NaN', 'None', '<NA>')
SIMULATED: Section = dict(
    seed=Key(0, 'of the simulated stream', least=0),
    blocks=Key(28, 'days, the first a Monday', free=True),
    rows_per_block=Key(4000, 'rows of a day'),
    users=Key(2000, 'users, all there from the start'),
    items=Key(1500, 'items there before the first block'),
    new_items_per_block=Key(30, 'items that come with each block', least=0),
    authors=Key(200, 'who made the items'),
    categories=Key(16, 'of items'),
    user_groups=Key(8, 'of users'),
    zipf=Key(0.8, 'popularity falls as 1 / rank**zipf, of users and of items'),
    half_life=Key(7.0, 'blocks after which a new item has lost half of its popularity'),
    first_order=Key(0.7, 'standard deviation in the logit of each user, item, group, category, author, tab, price'),
    interaction=Key(1.0, 'the same of group x category and device x tab'),
    season=Key(1.0, 'the same of weekend x category and weekend x tab'),
    low_rank=Key(0.4, 'the same of user x item'),
    rank=Key(4, 'of user x item'),
    drift=Key(0.5, 'share of the user and item terms that wanders, over weeks'),
    bias=Key(-0.5, 'mean logit', least=-math.inf),
    behaviour=Key(0.0, 'size of what the category that its user clicked last says of a row', least=0),
)
# Parameters of the simulated stream; the formulas are in diet_jax/data/simulated.py.
Simulated = namedtuple('Simulated', SIMULATED, defaults=[key.default for key in SIMULATED.values()])

DATA: Section = dict(
    source=Key('files', 'where rows come from', choices=('files', 'simulated')),
    root=Key('', 'a folder, or a URI of pyarrow.fs: s3://bucket/path, gs://...', free=True),
    log=Key(
        (),
        'glob patterns below root, Parquet or CSV (also .gz); of files with one stem the first pattern wins',
        empty=True,
    ),
    csv=dict(
        delimiter=Key(',', "between two values; may be several characters, as MovieLens' '::'"),
        column_names=Key((), 'for files without a header line', empty=True),
        encoding=Key('utf8', 'of the text'),
        strings=Key((), 'columns that are text as written, whatever they look like', empty=True),
        quote=Key('"', "around a value that holds a delimiter; '' where quotes mean nothing", empty=True),
        escape=Key('', "before a character that means itself, as '\\\\'; '' is none", empty=True),
        decimal_point=Key('.', 'of numbers'),
        thousands=Key('', "between groups of three digits; '' is nothing", empty=True),
    ),
    rename=Key((), 'pairs: a name in the files, its name here; of the log and of side tables', empty=True),
    null_words=Key(NULL_WORDS, 'words that mean a missing value, in every column of text'),
    time=dict(
        column=Key('', 'when a row was'),
        unit=Key('ms', "of the time column, since 1970 UTC; 'iso' for dates in words", choices=(*UNITS, 'iso')),
        format=Key('', "how a date in words is written, as '%d/%m/%Y %H:%M:%S'; '' is ISO 8601", empty=True),
        utc_offset_hours=Key(None, 'a number: of local time, for days and hours; None is that of the times themselves'),
    ),
    block=dict(
        by=Key(
            'period', 'one block per value of a column, by time, or every N rows', choices=('column', 'period', 'rows')
        ),
        column=Key('', 'of the blocks'),
        hours=Key(24.0, 'a period; days begin at local midnight'),
        rows=Key(0, 'a block of N rows', least=0),
    ),
    label=dict(
        column=Key('', "the click; '' where every row is one"),
        threshold=Key(None, 'a number: label = value >= threshold'),
        positive=Key(
            (), 'values: label = value is one of them; with neither: 0 and 1', empty=True, of=(str, bool, float)
        ),
        name=Key('', "what this outcome is called; '' is its column, or 'click' where every row is one", empty=True),
        others=Key({}, 'more outcomes of a row: name -> column, or dict(column, threshold, positive)'),
    ),
    weight=WEIGHT,
    # For a log whose row is a list of items: the label and the columns 'position' and 'list_length' are made.
    impressions=IMPRESSIONS,
    # For a log of clicks only: every click is followed by copies of itself with another item, label 0.
    # label.column may then be '' (every row is a click); of a labelled log the positive rows are the clicks.
    negatives=dict(
        per_click=Key(0, 'copies of a click with another item, label 0; 0: none', least=0),
        item=Key('', 'the field that is redrawn, from the items clicked just before'),
        by=Key('items', 'all as likely: popularity tells much; or as likely as clicked', choices=('items', 'clicks')),
        item_columns=Key((), 'columns of the log that go with the item, and not with the click', empty=True),
        user=Key('', "a column of the log: items its own clicks hold are not drawn; '' = the group field"),
        window_hours=Key(24.0, 'how long before the click, strictly'),
        seed=Key(0, 'of the draws', least=0),
    ),
    fields=Key((), 'categorical columns, of the log or of a side table', empty=True),
    numeric=Key({}, 'column -> number of bins: quantiles of the first block that can teach them, heavy values apart'),
    first_value=Key(
        {}, "column -> separator: of several values in a cell ('Comedy|War') the first is taken; '' for list columns"
    ),
    lists=Key(
        {},
        "column -> dict: separator ('' for list columns), max_len (20), keep ('last', 'first'), shares (a field), "
        'weights (a column)',
    ),
    histories=Key(
        {}, "name -> dict: of (fields), by (data.group), where ('label', 'not label', ''), max_len (50), gap (False)"
    ),
    time_fields=Key((), "of 'hour' and 'weekday' (Monday is 0), from the time column", empty=True),
    side_tables=Key(
        (),
        "dicts: path, key, and optionally on (the log's name of the key), columns=(...), csv=dict(...)",
        empty=True,
        of=(object,),  # what it holds has a check of its own
    ),
    duplicates=Key('keep', 'rows that repeat an earlier one in every column', choices=('keep', 'drop')),
    group=Key('', "the field that GAUC groups by; '' = the first field"),
    since=Key('', "first block to read, '' = all: leaves stray rows out"),
    until=Key('', "last block to read, '' = all: holds an incomplete day back", free=True),
    simulated=SIMULATED,
)


def default_data() -> ConfigDict:
    """`config.data` with every key and its default; a dataset's config fills in its own."""
    return defaults(DATA)


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


def _merge(known: dict, given: dict, where: str) -> dict:
    merged = dict(known)
    for key, value in given.items():
        if key not in known:
            raise UserError(f"{where} has no key '{key}'{closest(key, known)}")
        if isinstance(known[key], dict) and f'{where}.{key}' not in OPEN:
            if not isinstance(value, dict):
                raise UserError(f'{where}.{key} is {value!r}: it must be a dict of {", ".join(known[key])}')
            value = _merge(known[key], value, f'{where}.{key}')
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
    full = _merge(plain(default_data()), plain(data), 'data')
    check_types({name: key for name, key in DATA.items() if name not in ('rename', 'weight')}, full, 'data')
    for path, allowed in ((name, key.choices) for name, key in flat(DATA) if key.choices):
        value = full
        for part in path.split('.'):
            value = value[part]
        if value not in allowed:
            raise UserError(f'data.{path} is {value!r}: it must be one of {", ".join(allowed)}')
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
    full['rename'] = _renaming(full['rename'])
    outcomes.fill(full['label'])
    names = [*full['fields'], *full['numeric'], *full['time_fields']]
    lists.fill(full)
    for name in names:
        if odd := name_fault(name):
            way_out = f"data.rename = (({name!r}, 'my_name'),) gives it another one, for data.fields too"
            raise UserError(f"field '{name}' {odd}: {way_out if name else 'give the column one in the files'}")
    if not names:
        raise UserError('data.fields is empty: name the columns a model may see')
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"field '{name}' is named twice in data.fields, data.numeric and data.time_fields")
    check_impressions(full, names)
    check_first_value(full)
    keys = [table.get('on') or table.get('key') for table in full['side_tables'] if isinstance(table, dict)]
    for name, where in (
        (full['block']['column'], 'data.block.column'),
        *((key, 'the key of a side table') for key in keys),
    ):
        if name and name in full['numeric'] and (full['block']['by'] == 'column' or name in keys):
            raise UserError(f"'{name}' is in data.numeric and is {where}: take it out of data.numeric, or out of there")
    for path in ('time', 'label'):
        column = full[path]['column']
        if not column and (path == 'time' or not full['negatives']['per_click']):
            hint = ', or set data.negatives.per_click if every row is a click' if path == 'label' else ''
            raise UserError(f"data.{path}.column is empty: name the log's {path} column{hint}")
        if column in (*names, *full['lists']):
            raise UserError(f"data.{path}.column '{column}' is also a field: take it out of data.fields")
    offset = full['time']['utc_offset_hours']
    if offset is not None and (isinstance(offset, (bool, str)) or not -24 <= offset <= 24):
        raise UserError(f'data.time.utc_offset_hours is {offset!r}: it must be a number of hours, or None')
    full['group'] = full['group'] or names[0]
    if full['group'] not in names:
        raise UserError(f"data.group '{full['group']}' is no field{closest(full['group'], names)}")
    if full['label']['threshold'] is not None and full['label']['positive']:
        raise UserError('data.label has both threshold and positive: give one of them')
    lists.check(full, names, name_fault)
    check_weight(full, names)
    outcomes.check(full, names)
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


def name_fault(name: str) -> str:
    """What is wrong with a field's name, which files of a memory have beside their own columns; '' if nothing."""
    odd = 'holds a character that no file name can have' if re.search(r'[/\\\x00-\x1f]', name) else ''
    taken = name in (*MEMORY_COLUMNS, '__time', '__weight', '__bayes') or name.startswith(OF_OUTCOMES)
    if taken or name.endswith('__code'):
        odd = 'is the name of a column that a memory has beside its fields'
    if name in ('', '.', '..') or len(name) > 200:
        odd = 'is no name for a file'
    return odd


def _renaming(rename: Any) -> dict[str, str]:
    """`data.rename` as a dict, checked."""
    pairs = list(rename.items()) if isinstance(rename, dict) else rename  # as checked before
    good = isinstance(pairs, list) and all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(x, str) and x for x in pair)
        for pair in pairs
    )
    if not good:
        raise UserError(f"data.rename is {rename!r}: it must hold pairs, (('name in the files', 'name here'),)")
    found = dict(pairs)
    for name in found.values():
        if list(found.values()).count(name) > 1:
            raise UserError(f"data.rename gives two columns the name '{name}': give them different ones")
    return found


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
        check_side_table(table, f'data.side_tables[{i}]')


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
    for path in NEWER:  # a log described as before has the cache of before
        *sections, key = path.split('.')
        section, usual = kept, plain(default_data())
        for name in sections:
            section, usual = section[name], usual[name]
        if section[key] in (usual[key], {}):
            section.pop(key)
    for one in kept.get('lists', {}).values():
        if not one['weights']:  # newer, too
            one.pop('weights')
    if kept['time']['utc_offset_hours'] is None:
        kept['time']['utc_offset_hours'] = 0.0
    if not kept['negatives']['per_click']:
        kept.pop('negatives')
    if not kept['since']:
        kept.pop('since')
    if kept['source'] == 'files':
        kept.pop('simulated')
    else:
        kept['simulated'].pop('blocks')
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
