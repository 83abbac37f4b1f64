"""What is said of a log after one pass over its files, and what of it is refused as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from diet_jax.base.errors import UserError
from diet_jax.config import outcomes
from diet_jax.data import impressions, sides, times, values
from diet_jax.data.log import Log

FEW = 0.01  # share of rows without a time that are dropped with a word


class Seen:
    """What the pass over the files gathers for the user."""

    def __init__(self):
        self.zones: set[str] = set()
        self.positives: dict[str, set[str]] = {}  # words of the columns whose outcome is a word
        self.impressions: Counter = Counter()
        self.zero, self.early, self.rows = 0, 0, 0
        self.odd: tuple[str, int] | None = None  # file and time of a row before 1980, but not of time 0
        self.usual: tuple[str, int] | None = None  # of one after it
        self.first_zero = ''  # file of the first row of time 0
        self.latest = -(2**63)


def check(log: Log, seen: Seen, rows_of: Mapping[str, np.ndarray], first: bool) -> None:
    """Notes what is to be said of a log as a whole.

    Args: rows_of: key of a side table -> how many rows have each code; first: whether nothing is prepared yet.
    Raises:
      UserError: keys that are no keys or that no row has, a positive word that no row has, times of two units.
    """
    data = log.data
    sides.check_keys(log.sides)
    if first:
        for key, rule in outcomes.rules_of(data).items():
            _check_positives(rule, key, seen.positives.get(rule['column'], set()))
    log.notes += sides.check_joins(log.sides, log.values, rows_of, first)
    log.without_time = _without_time(seen, data, log.notes)
    if seen.latest // log.ticks < times.EARLIEST:
        log.notes.append(f"every time lies before 1980 in unit '{data['time']['unit']}': is data.time.unit right?")
    log.notes += [f'read as {text}' for text in _in_words(log.kinds)]
    if seen.impressions:
        lists = data['impressions']
        impressions.check_shown(seen.impressions, lists, lambda name: f"{data['log'][0]}: column '{name}'")
        log.notes.append(_impressions_in_words(seen.impressions))


def _without_time(seen: Seen, data: Mapping, notes: list[str]) -> bool:
    """Whether there are rows of time 0 in a log of today, which are in no block; they are told in the notes.

    Rows before `data.since` are nobody's, and a log all of whose times are before 1980 counts from some start.
    """
    ticks, column = times.time_ticks(data['time']), data['time']['column']
    if data['since'] or not seen.early or seen.usual is None:
        return False
    if seen.odd:
        day = np.datetime64(seen.odd[1] // ticks, 's').astype('datetime64[D]')
        raise UserError(
            f"{seen.odd[0]}: column '{column}' holds {seen.odd[1]}, which is {day} in unit '{data['time']['unit']}', "
            f'and {seen.usual[1]} in {seen.usual[0]}: write all files in one unit, or leave old rows out with '
            'data.since'
        )
    if seen.zero > FEW * seen.rows:
        raise UserError(
            f"{seen.first_zero}: column '{column}' is 0 (1970) in {seen.zero} of {seen.rows} rows: correct it, or "
            'leave them out with data.since'
        )
    notes.append(f"{seen.zero} rows dropped whose '{column}' is 0 (1970)")
    return True


def late_columns(wanted, has: dict[str, list[str]]) -> list[str]:
    """What is said of columns that some files do not have: there they are missing."""
    notes = []
    for name in wanted:
        without = [file for file, names in has.items() if name not in names]
        if without and len(without) < len(has):
            shown = ', '.join(without[:3]) + (', ...' if len(without) > 3 else '')
            notes.append(f"column '{name}' is not in {len(without)} of {len(has)} files ({shown}): missing there")
    return notes


def zones(found: set[str], time: Mapping) -> list[str]:
    """What is said of zones in the files: days and hours are cut by one offset."""
    named, column = sorted(found), time['column']
    local = f'UTC{times.offset_hours(time):+g}'
    if not named or named in (['UTC'], [times.NO_ZONE]):
        return []
    if times.NO_ZONE in named:
        others = ', '.join(zone for zone in named if zone != times.NO_ZONE)
        return [f"'{column}' has zone {others} in some files and none in others: those are taken as {local}"]
    return [f"'{column}' is in zone {', '.join(named)}; days and hours are cut in {local} (data.time.utc_offset_hours)"]


def _check_positives(label: Mapping, key: str, there: set[str]) -> None:
    """Raises UserError for a value that counts as 1 and that no row has: it is written otherwise there."""
    if not label['positive']:
        return
    for word in values.positives(label).to_pylist():
        if word not in there:
            shown = ', '.join(sorted(there)[:6])
            raise UserError(
                f"{key}.positive holds {word!r}, which no row of '{label['column']}' has; there are: {shown}: "
                'name those that count as 1'
            )


def _in_words(kinds: dict[str, str]) -> list[str]:
    """['whole numbers: user, item', 'text: city', ...]."""
    words = {'int64': 'whole numbers', 'bool': 'true and false', 'string': 'text', 'number': 'numbers'}
    found = {text: [name for name, kind in kinds.items() if kind == of] for of, text in words.items()}
    return [f'{text}: {", ".join(sorted(names))}' for text, names in found.items() if names]


def _impressions_in_words(facts: Mapping[str, int]) -> str:
    more = [f'{facts["empty"]} lists are empty'] if facts.get('empty') else []
    more += [f'{facts["not_shown"]} clicked items were not shown, and are in no row'] if facts.get('not_shown') else []
    said = f'{facts["impressions"]} lists of items shown are {facts["rows"]} rows, {facts["clicked"]} of them clicked'
    return '; '.join([said, *more])


def others(rules: Mapping[str, Mapping], blocks: Sequence[Mapping]) -> list[str]:
    """What is said of the other outcomes of prepared blocks.

    Raises:
      UserError: one that no row has, or every row.

    >>> blocks = [dict(key='1', rows=8, others={'like': 0}), dict(key='2', rows=2, others={'like': 1})]
    >>> others({'like': {'column': 'is_like'}}, blocks)
    ["outcome 'like' is 1 in 1 of 10 rows", "outcome 'like' is 0 in every row of 1 blocks: 1"]
    """
    notes, rows = [], sum(block['rows'] for block in blocks)
    for name, rule in rules.items():
        ones = sum(block['others'][name] for block in blocks)
        if ones in (0, rows):
            raise UserError(
                f"column '{rule['column']}' (data.label.others.{name}) is {int(ones > 0)} in all {rows} rows: correct "
                'it, or leave the outcome out'
            )
        notes.append(f"outcome '{name}' is 1 in {ones} of {rows} rows")
        for value, alike in ((0, lambda block: 0), (1, lambda block: block['rows'])):
            keys = [block['key'] for block in blocks if block['others'][name] == alike(block)]
            shown = ', '.join(keys[:3]) + (', ...' if len(keys) > 3 else '')
            notes += [f"outcome '{name}' is {value} in every row of {len(keys)} blocks: {shown}"] if keys else []
    return notes
