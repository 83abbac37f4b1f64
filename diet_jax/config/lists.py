"""`config.data.lists` and `config.data.histories`: fields that hold several values in a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diet_jax.base.errors import UserError, closest

LIST = dict(separator='', max_len=20, keep='last', shares='', weights='')  # of a list, where it says nothing else
HISTORY = dict(of='', by='', where='label', max_len=50, gap=False)  # of a history; by '' is data.group
KEEPS = ('last', 'first')
WHERE = ('label', 'not label', '')  # rows of label 1, of label 0, all


def history_fields(name: str, history: Mapping) -> dict[str, str]:
    """{field: the field whose values it holds} of a checked history, without that of its gaps.

    >>> history_fields('clicked', dict(of=['item', 'tag']))
    {'clicked_item': 'item', 'clicked_tag': 'tag'}
    >>> history_fields('clicked', dict(of=['item']))
    {'clicked': 'item'}
    """
    return {name if len(history['of']) == 1 else f'{name}_{one}': one for one in history['of']}


def gap_field(name: str) -> str:
    """The field of a history's gaps."""
    return f'{name}_gap'


def names_of(full: Mapping) -> list[str]:
    """Every field that is a list, in order: those of `data.lists`, then those of `data.histories`."""
    found = list(full['lists'])
    for name, history in full['histories'].items():
        found += [*history_fields(name, history), *([gap_field(name)] if history['gap'] else [])]
    return found


def fill(full: dict) -> None:
    """Fills in defaults of `data.lists` and `data.histories`, and checks what needs no other key.

    Raises:
      UserError: no dict, an unknown key, a length that is none, an unknown word.
    """
    for key, usual, example in (('lists', LIST, "{'genres': dict(separator='|')}"), ('histories', HISTORY, EXAMPLE)):
        given = full[key]
        if not isinstance(given, dict):
            raise UserError(f'data.{key} is {given!r}: it must be a dict, as {example}')
        for name, one in given.items():
            where = f'data.{key}.{name}'
            if not isinstance(one, dict):
                raise UserError(f'{where} is {one!r}: it must be a dict of {", ".join(usual)}, as {example}')
            for part in one:
                if part not in usual:
                    raise UserError(f"{where} has no key '{part}'{closest(part, usual)}")
            given[name] = one = {**usual, **one}
            length = one['max_len']
            if not isinstance(length, int) or isinstance(length, bool) or length < 1:
                raise UserError(f'{where}.max_len is {length!r}: it must be a whole number, 1 or more')
    for name, one in full['lists'].items():
        if not isinstance(one['separator'], str):
            raise UserError(
                f"data.lists.{name}.separator is {one['separator']!r}: it must be the text between two values, as '|', "
                "or '' for columns of lists"
            )
        _one_of(one['keep'], KEEPS, f'data.lists.{name}.keep')
        if not isinstance(one['weights'], str):
            raise UserError(
                f"data.lists.{name}.weights is {one['weights']!r}: it must be the column that says what the list's "
                "values weigh, or '' where each weighs 1"
            )
    for name, one in full['histories'].items():
        one['of'] = [one['of']] if isinstance(one['of'], str) else list(one['of'])
        if one['of'] in ([''], []):
            raise UserError(f'data.histories.{name}.of is empty: name the field whose values are remembered')
        _one_of(one['where'], WHERE, f'data.histories.{name}.where')
        if not isinstance(one['gap'], bool):
            raise UserError(f'data.histories.{name}.gap is {one["gap"]!r}: it must be True or False')


EXAMPLE = "{'clicked': dict(of='item', max_len=50)}"


def _one_of(value: Any, allowed: tuple[str, ...], where: str) -> None:
    if value not in allowed:
        raise UserError(f'{where} is {value!r}: it must be one of {", ".join(map(repr, allowed))}')


def check(full: dict, single: list[str], name_fault: Callable[[str], str]) -> None:
    """Checks `data.lists` and `data.histories`, which `fill` has filled in; `by` of a history gets the group.

    Args:
      full: all of `config.data`, else checked.
      single: the fields that hold one value in a row.
      name_fault: what is wrong with a field's name, '' if nothing.
    Raises:
      UserError: a name that is none or is there twice, a field that is not there, settings that do not go together.
    """
    lists, histories, every = full['lists'], full['histories'], [*single, *names_of(full)]
    for name in [*lists, *histories, *names_of(full)]:
        if odd := name_fault(name):
            raise UserError(f"'{name}' of data.lists or data.histories {odd}: give it another name")
        if every.count(name) > 1 or (name in histories and name in (*single, *lists)):
            raise UserError(
                f"field '{name}' is named twice in data.fields, data.numeric, data.time_fields, data.lists and "
                'data.histories: give each a name of its own'
            )
    if lists and full['source'] != 'files':
        raise UserError('data.lists is for log files, and a simulated stream has one value in a cell: leave it out')
    for name, one in lists.items():
        if one['shares'] and one['shares'] not in full['fields']:
            raise UserError(
                f"data.lists.{name}.shares is '{one['shares']}'{closest(one['shares'], full['fields'])}: name one of "
                "data.fields, or '' for values of its own"
            )
        _check_column(name, full)
        if weights := one['weights']:
            if odd := name_fault(weights):
                raise UserError(f"'{weights}' of data.lists.{name}.weights {odd}: data.rename gives it another name")
            if [other['weights'] for other in lists.values()].count(weights) > 1:
                raise UserError(f"data.lists names '{weights}' as the weights of two lists: give each its own column")
            if weights in every:
                raise UserError(
                    f"data.lists.{name}.weights is '{weights}', which is a field: take it out of there, for it says "
                    'what the values of a list weigh'
                )
            _check_column(weights, full)
    for name, one in histories.items():
        one['by'] = one['by'] or full['group']
        for key, value in (('by', one['by']), *(('of', of) for of in one['of'])):
            if value not in single:
                raise UserError(
                    f"data.histories.{name}.{key} is '{value}', no field of one value a row{closest(value, single)}: "
                    'name one of data.fields, data.numeric or data.time_fields'
                )
        if len(set(one['of'])) < len(one['of']):
            raise UserError(f'data.histories.{name}.of {tuple(one["of"])} names a field twice: name it once')
        if one['where'] == 'not label' and full['negatives']['per_click']:
            raise UserError(
                f"data.histories.{name}.where is 'not label', but rows of label 0 are drawn (data.negatives): remember "
                "clicks, where='label'"
            )


def _check_column(name: str, full: dict) -> None:
    """Raises UserError where a column of lists has another part in the log, too."""
    shown = full['impressions']
    parts = {
        'data.impressions': [shown['items'], shown['clicked'], *shown['parallel']] if shown['items'] else [],
        'data.first_value': list(full['first_value']),
        'data.time.column': [full['time']['column']],
        'data.label.column': [full['label']['column']],
        'data.block.column': [full['block']['column']] if full['block']['by'] == 'column' else [],
        'the key of a side table': [t.get('on') or t.get('key') for t in full['side_tables'] if isinstance(t, dict)],
    }
    for part, columns in parts.items():
        if name in columns:
            raise UserError(f"'{name}' is in data.lists and is {part}: take it out of one of them")
    if name in full['negatives']['item_columns']:
        raise UserError(
            f"data.negatives.item_columns holds '{name}', a list, which cannot go with a drawn item: write it into a "
            'side table of the items (data.side_tables)'
        )
