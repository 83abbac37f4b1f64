"""`config.data.impressions` and `config.data.first_value`: cells that hold more than one value."""

from typing import Any

from diet_jax.base.errors import UserError, closest
from diet_jax.config.keys import Key, Section, defaults

MADE = ('position', 'list_length')  # columns of a list's rows: the place, 0 is the first; how many were shown
IMPRESSIONS: Section = dict(
    items=Key(
        '', 'a column that lists the items shown: every item becomes a row, the column holds that item', empty=True
    ),
    clicked=Key('', "a column that lists those of them that were clicked; '' where `mark` tells", empty=True),
    separator=Key(' ', 'between two items where lists are text'),
    mark=Key('', "between an item and its click in text: '-' of N1-0 N2-1", empty=True),
    parallel=Key((), 'columns with one value for every item shown, as prices', empty=True, of=(object,)),
)


def check_impressions(full: dict, fields: list[str]) -> None:
    """Checks `data.impressions`, and names the label that is made of it.

    Args:
      full: all of `config.data`; `label.column` becomes 'clicked' where it is empty.
      fields: names of all fields.
    """
    lists, label, usual = full['impressions'], full['label'], defaults(IMPRESSIONS)
    for key in ('items', 'clicked', 'separator', 'mark'):
        if not isinstance(lists[key], str):
            raise UserError(f'data.impressions.{key} is {lists[key]!r}: it must be a string')
    items, clicked, mark = lists['items'], lists['clicked'], lists['mark']
    if not items:
        for key, value in lists.items():
            if value != (list(usual[key]) if isinstance(value, list) else usual[key]):
                raise UserError(
                    f'data.impressions.{key} is {value!r}, but data.impressions.items is empty: name the column that '
                    'lists the items shown'
                )
        return
    if full['source'] != 'files':
        raise UserError('data.impressions is for log files, and a simulated stream has one item a row: leave it out')
    if bool(clicked) == bool(mark):
        has = 'both clicked and mark' if clicked else 'neither clicked nor mark'
        raise UserError(
            f"data.impressions has {has}: give one, clicked='a column of clicked items', or mark='-' for N1-0 N2-1"
        )
    if not lists['separator']:
        raise UserError("data.impressions.separator is empty: set it to what stands between two items, e.g. ' '")
    if mark and lists['separator'] in mark:
        raise UserError(
            f'data.impressions.mark {mark!r} holds the separator {lists["separator"]!r}: change one of them'
        )
    columns = [items, *([clicked] if clicked else []), *lists['parallel']]
    for name in columns:
        if not isinstance(name, str) or not name or columns.count(name) > 1:
            why = ' twice' if columns.count(name) > 1 else ', which is no name of a column'
            raise UserError(f'data.impressions names {name!r}{why}: items, clicked and parallel are different columns')
    if clicked in fields:
        raise UserError(f"data.impressions.clicked '{clicked}' is also a field, and tells the label: take it out there")
    for path in ('time', 'block'):
        if full[path]['column'] in columns:
            raise UserError(
                f"data.{path}.column '{full[path]['column']}' lists items in data.impressions: name another column"
            )
    if full['negatives']['per_click']:
        raise UserError(
            'data.impressions have their own negatives, the items not clicked: set negatives.per_click to 0'
        )
    if label['threshold'] is not None or label['positive']:
        raise UserError('data.impressions tell the label, 0 or 1: leave data.label.threshold and positive out')
    label['column'] = label['column'] or 'clicked'
    if label['column'] in (items, *lists['parallel'], *MADE):
        raise UserError(f"data.label.column '{label['column']}' is the label that is made: give it another name")


def check_first_value(full: dict) -> None:
    """Checks `data.first_value`."""
    first, lists = full['first_value'], full['impressions']
    if not isinstance(first, dict):
        raise UserError(f"data.first_value is {first!r}: it must be a dict, column -> separator, {{'genres': ';'}}")
    for name, separator in first.items():
        if not isinstance(separator, str):
            raise UserError(f"data.first_value['{name}'] is {separator!r}: it must be the text between two values")
        if lists['items'] and name in (lists['items'], lists['clicked'], *lists['parallel']):
            raise UserError(f"data.first_value holds '{name}', of which data.impressions takes all values: choose one")
    if first and full['source'] != 'files':
        raise UserError(
            'data.first_value is for log files, and a simulated stream has one value in a cell: leave it out'
        )


def check_side_table(table: Any, where: str) -> None:
    """Checks one of `data.side_tables`; an `on` that says nothing new goes."""
    allowed = ('path', 'key', 'on', 'columns', 'csv')
    if not isinstance(table, dict):
        raise UserError(f'{where} is {table!r}: it must be a dict with path and key')
    for key in table:
        if key not in allowed:
            raise UserError(f"{where} has no key '{key}'{closest(key, allowed)}")
    if not isinstance(table.get('csv') or {}, dict):
        raise UserError(f"{where}.csv is {table['csv']!r}: it must be a dict, as dict(delimiter=';')")
    for key in ('path', 'key'):
        if not table.get(key):
            raise UserError(f'{where}.{key} is missing: a side table needs a path and a key column')
    if not isinstance(table.get('on', 'x'), str):
        raise UserError(f"{where}.on is {table['on']!r}: it must be the log's name of the key '{table['key']}'")
    if table.get('on') in ('', table['key']):
        table.pop('on')
