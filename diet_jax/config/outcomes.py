"""`config.data.label.others`: more outcomes of a row than the main one."""

import re
from collections.abc import Mapping
from typing import Any

from diet_jax.base.errors import UserError, closest
from diet_jax.config import lists

RULE = dict(column='', threshold=None, positive=[])  # of an outcome, where it says nothing else
EXAMPLE = "{'like': 'is_like'} or {'like': dict(column='is_like')}"


def main_name(label: Mapping) -> str:
    """What the main outcome is called."""
    return label['name'] or label['column'] or 'click'


def names_of(full: Mapping) -> tuple[str, ...]:
    """Every outcome of a checked config, the main one first."""
    return main_name(full['label']), *full['label']['others']


def rules_of(full: Mapping) -> dict[str, Mapping]:
    """Of every outcome of a checked config, the main one first, where its rule stands -> the rule.

    >>> list(rules_of(dict(label=dict(column='is_click', others={'like': dict(column='is_like')}))))
    ['data.label', 'data.label.others.like']
    """
    label = full['label']
    return {'data.label': label, **{f'data.label.others.{name}': rule for name, rule in label['others'].items()}}


def columns_of(full: Mapping) -> list[str]:
    """The columns of the log that outcomes are read from."""
    return [rule['column'] for rule in rules_of(full).values() if rule['column']]


def fill(label: dict) -> None:
    """Fills in the rules of `data.label.others`, in order of their names.

    Raises:
      UserError: no dict, an unknown key, a name that is none, no column, two rules for one outcome.
    """
    given, main = label['others'], label['name']
    if not isinstance(given, dict):
        raise UserError(f'data.label.others is {given!r}: it must be a dict, as {EXAMPLE}')
    if not isinstance(main, str) or (main and not _good(main)):
        raise UserError(f'data.label.name is {main!r}: it must be a word of letters, digits, _, - and .')
    label['others'] = {name: _rule(name, given[name]) for name in sorted(given, key=str)}
    if label['others'] and not _good(main_name(label)):
        raise UserError(
            f"data.label.column '{label['column']}' is no name of an outcome, and there are others: set "
            "data.label.name to a word of letters, digits, _, - and ., as 'click'"
        )
    if main_name(label) in label['others']:
        raise UserError(f"data.label.others has '{main_name(label)}', the main outcome: give one of them another name")


def _rule(name: Any, given: Any) -> dict:
    where = f'data.label.others.{name}'
    if not isinstance(name, str) or not _good(name):
        raise UserError(f'{where}: {name!r} is no name of an outcome: take a word of letters, digits, _, - and .')
    given = {'column': given} if isinstance(given, str) else given
    if not isinstance(given, dict):
        raise UserError(f'{where} is {given!r}: it must be a column, or a dict of {", ".join(RULE)}, as {EXAMPLE}')
    for key in given:
        if key not in RULE:
            raise UserError(f"{where} has no key '{key}'{closest(key, RULE)}")
    rule = {**RULE, **given}
    if not isinstance(rule['column'], str) or not rule['column']:
        raise UserError(f'{where}.column is {rule["column"]!r}: name the column of the outcome')
    if not isinstance(rule['positive'], list):
        raise UserError(f'{where}.positive is {rule["positive"]!r}: it must be a tuple; write ({rule["positive"]!r},)')
    if isinstance(rule['threshold'], (bool, str)):
        raise UserError(f'{where}.threshold is {rule["threshold"]!r}: it must be a number, or None')
    if rule['threshold'] is not None and rule['positive']:
        raise UserError(f'{where} has both threshold and positive: give one of them')
    return rule


def _good(name: str) -> bool:
    return bool(re.fullmatch(r'[\w.-]{1,60}', name)) and name not in ('.', '..')


def check(full: Mapping, single: list[str]) -> None:
    """Raises UserError where an outcome's column has another part in the log: outcomes are never features.

    Args: full: all of `config.data`, else checked; single: the fields that hold one value in a row.
    """
    others = full['label']['others']
    if not others:
        return
    if full['source'] != 'files':
        raise UserError('data.label.others is for log files, and a simulated stream has one outcome: leave it out')
    if full['impressions']['items']:
        raise UserError('data.label.others: the label of data.impressions is made, and is the only one: leave it out')
    side_keys = [t.get('on') or t.get('key') for t in full['side_tables'] if isinstance(t, dict)]
    parts = {
        'also a field': [*single, *lists.names_of(full)],
        'also data.label.column': [full['label']['column']],
        'also data.time.column': [full['time']['column']],
        'also data.block.column': [full['block']['column']] if full['block']['by'] == 'column' else [],
        'also data.weight': [full['weight']],
        'also in data.first_value': list(full['first_value']),
        'also data.negatives.user': [full['negatives']['user']] if full['negatives']['per_click'] else [],
        'also the key of a side table': side_keys,
    }
    for name, rule in others.items():
        for part, columns in parts.items():
            if rule['column'] in columns:
                raise UserError(
                    f"data.label.others.{name}: column '{rule['column']}' is {part}, and an outcome is nothing else: "
                    'take it out of one of them'
                )
