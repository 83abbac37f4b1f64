"""What a column may be in a config: a field, a number in bins, or nothing a model may see, and why."""

from __future__ import annotations

import re
from typing import NamedTuple

from diet_jax.describe import words
from diet_jax.describe.clock import FIRST, LAST
from diet_jax.describe.measure import Measured

UNIQUE = 0.98  # values a row, from which a column says no more than the row's number
LEAK = 0.95  # AUC of a column alone
FEW = 32  # values of an integer that are taken for categories, whatever its name
HASHED = 10_000_000  # integers as large as this are ids
BINS = 16
WORDS = 40  # characters of a text that is prose


class Guess(NamedTuple):
    """What a column is taken as."""

    taken: str  # 'field', 'numeric', or why it is neither: 'outcome', 'leak', 'constant', ...
    sure: bool
    why: str

    @property
    def seen(self) -> bool:
        """Whether a model may see it."""
        return self.taken in ('field', 'numeric')


def guess(column: Measured, names: tuple[str, ...], header: bool = True, identity: bool = False) -> Guess:
    """What a column is.

    Args: names: of all columns of its table; header: whether its name tells anything; identity: it is the user or the
      item, which are fields whatever they look like.
    """
    if identity:
        return Guess('field', True, '')
    empty = _nothing(column)
    if empty:
        return empty
    for rule, by_name in ((_outcome, True), (_calendar, True), (_unique, False), (_session, True)):
        if (header or not by_name) and (found := rule(column)):
            return found
    if column.auc > LEAK:
        return Guess('leak', False, f'alone it has an AUC of {column.auc:.3f}: does it know the label?')
    if column.parts is not None:
        return Guess('field', False, 'several values in a cell: the first')
    if column.kind in ('int', 'float'):
        return _number(column, names, header)
    if column.kind == 'text':
        return _text(column)
    return Guess('field', column.kind == 'bool', '')


def _nothing(column: Measured) -> Guess | None:
    """What no model can use."""
    if column.kind == 'nested':
        return Guess('nested', True, 'records, numbers in lists, and bytes or numbers among words are no categories')
    if column.kind == 'inexact':
        return Guess('inexact', True, 'floats too large to be exact: write these ids as integers or text')
    if column.missing > 0.99:
        return Guess('missing', True, f'{column.missing:.1%} of the rows are null')
    if column.values == 1 and column.missing < 0.001:
        return Guess('constant', True, f'always {column.example}')
    return None


def _unique(column: Measured) -> Guess | None:
    """What has a value of its own in every row."""
    filled = column.rows * (1 - column.missing)
    if column.kind != 'float' and one_each(column.values, filled):
        where = f'the key of {column.table} says as much' if column.table else 'a value of its own in every row'
        return Guess('unique' if column.table else 'id', True, f'{column.values} values in {filled:.0f} rows: {where}')
    return None


def one_each(values: int, rows: float) -> bool:
    """Whether so many rows of so many values have nearly one each."""
    return rows >= 50 and values >= UNIQUE * rows


def _outcome(column: Measured) -> Guess | None:
    """What is known after the row only, by its name."""
    name = words.snake(column.name)
    if column.table:
        if re.search(words.STATISTIC, name):
            return Guess('statistic', False, 'named like a figure over a whole log, which tells the future')
        return None
    if re.search(words.AT_ITS_END, name):
        return Guess('outcome', False, 'named like what is known when a session ends')
    if re.search(words.FEEDBACK_PHRASES, name):
        return Guess('outcome', False, 'named like what comes after, and tells the label')
    own = words.tokens(column.name)
    if own and own[-1] not in ('id', 'ids', 'type') and words.has(column.name, words.FEEDBACK) and _measures(column):
        return Guess('outcome', False, 'named like feedback, which comes after')
    return None


def _measures(column: Measured) -> bool:
    """Whether a column of a feedback's name can be one: a flag or a number. `click_os` is a text or a code."""
    first, last = words.tokens(column.name)[0], words.tokens(column.name)[-1]
    if column.kind == 'text':
        return last in words.FEEDBACK
    return (
        column.kind == 'bool' or column.values == 2 or last in words.FEEDBACK | words.NUMBER | {'time'} or first == 'is'
    )


def _calendar(column: Measured) -> Guess | None:
    whole = column.kind == 'int' and any(
        FIRST * t <= column.low and column.high <= LAST * t for t in (1, 1e3, 1e6, 1e9)
    )
    if column.kind == 'time' or (whole and words.has(column.name, words.TIME | words.NOT_THE_TIME)):
        return Guess('time', True, 'a date or time, which never comes again')
    if not column.table and words.tokens(column.name) and set(words.tokens(column.name)) <= words.CALENDAR:
        return Guess('time', False, 'its name is that of a date or an hour, as data.time_fields has')
    return None


def _session(column: Measured) -> Guess | None:
    often = column.values / max(column.rows * (1 - column.missing), 1)
    if not column.table and words.has(column.name, words.SESSION) and often > 0.1:
        return Guess('session', False, f'{column.values} values in {column.rows} rows, new ones all the time')
    return None


def _number(column: Measured, names: tuple[str, ...], header: bool) -> Guess:
    range_of = next((n for n in names if n != column.name and n in (f'{column.name}_range', f'{column.name}_bin')), '')
    if range_of:
        return Guess('twin', True, f"column '{range_of}' is the same in ranges")
    if column.kind == 'float':
        return Guess('numeric', True, '')
    last = [word for word in words.tokens(column.name) if not word.isdigit()][-1:]  # video_duration is no video
    if header and column.values > FEW and not words.NUMBER.isdisjoint(last):
        return Guess('numeric', True, '')
    if column.values <= FEW:
        return Guess('field', column.values <= 12 or words.has(column.name, words.CATEGORY), '')
    if not header or words.has(column.name, words.CATEGORY) or column.high >= HASHED:
        return Guess('field', header, '')
    return Guess('field', False, '') if column.values <= 1000 else Guess('numeric', False, '')


def _text(column: Measured) -> Guess:
    filled = column.rows * (1 - column.missing)
    if column.length > WORDS and column.values > 0.05 * filled:
        return Guess('text', True, f'texts of {column.length:.0f} characters are no categories')
    return Guess('field', True, '')
