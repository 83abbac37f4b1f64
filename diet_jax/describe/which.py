"""Which table of a folder is the log: the one with a time and most rows."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError
from diet_jax.data import files
from diet_jax.describe import look, measure, sample, shown, words
from diet_jax.describe.clock import times

LIKE_SIZE = 4.0  # two tables with a time are two logs where neither has so many times the other's rows
CELLS, BYTES = 200_000, 1 << 20  # of a table that are looked at for a time


def the_log(
    root: files.Root, tables: list[look.Group], patterns: tuple[str, ...]
) -> tuple[look.Group, list[look.Group]]:
    """The table that is the log, and the others. patterns: as the user names it, () to find out.

    Raises:
      UserError: no table has a time, or two could be the log.
    """
    if patterns:
        return _named(root, tables, patterns)
    seen = {group: sample.read(root, group, CELLS, BYTES) for group in tables}
    timed = [group for group in tables if is_log(seen[group].columns, group.format.header)]
    if not timed:
        biggest = max(tables, key=lambda group: seen[group].rows)
        columns, header = seen[biggest].columns, biggest.format.header
        if times(columns, header):
            raise UserError(
                f"{biggest.name} has a row for each '{row_each(columns, header)}', as a table of users or items has: "
                f"it is not taken for the log; where it is the log, say so with --log='{','.join(biggest.patterns)}'"
            )
        raise no_time(biggest, columns)
    first, *others = sorted(timed, key=lambda group: -seen[group].rows)
    if others and seen[first].rows < LIKE_SIZE * seen[others[0]].rows:
        one, other = (','.join(group.patterns) for group in (first, others[0]))
        raise UserError(
            f'{root.shown} holds two logs, {one} and {other}, each with a time and columns of its own: '
            f"say which with --log='{one}' or --log='{other}'"
        )
    return first, [group for group in tables if group is not first]


def _named(root, tables: list[look.Group], patterns: tuple[str, ...]) -> tuple[look.Group, list[look.Group]]:
    wanted = {file.name for file in files.find_files(root, patterns, '--log')}
    chosen = [group for group in tables if wanted & {file.name for file in group.files}]
    given = f'--log={",".join(patterns)}'
    if not chosen:
        raise UserError(f'{root.shown}: what {given} names is no table: name Parquet or CSV files')
    if len(chosen) > 1:
        one, other = chosen[0].name, chosen[1].name
        raise UserError(f'{root.shown}: {given} names tables of different columns, {one} and {other}: name one of them')
    (log,) = chosen
    kept = tuple(file for file in log.files if file.name in wanted)
    return log._replace(patterns=patterns, files=kept), [group for group in tables if group is not log]


def is_log(columns: Mapping[str, pa.Array], header: bool) -> bool:
    """Whether a table has a time, and is not one of users or items with their dates: a row for each of them.

    >>> ids, seconds = pa.array([3, 4, 5]), pa.array([1_650_000_000, 1_650_000_060, 1_650_000_070])
    >>> is_log({'user_id': ids, 'registered_at': seconds}, True), is_log({'id': ids, 'ts': seconds}, True)
    (False, True)
    """
    return not row_each(columns, header) and bool(times(columns, header))


def row_each(columns: Mapping[str, pa.Array], header: bool) -> str:
    """The user, the item, ... of which a table has a row each, '' where it has none."""
    things = words.USER | words.ITEM | words.CREATOR | words.GENRE
    again = set()  # things that come several times: users and items do so in a log alone, whose rows may have numbers
    unique = []
    for i, (name, values) in enumerate(columns.items()):
        is_key = words.has(name, things) if header else i == 0
        if is_key and measure.kind_of(values) in ('int', 'text'):
            if len(pc.unique(values)) == len(values):
                unique.append(name)
            elif header:
                again.add(words.thing(name))
    return unique[0] if unique and not {'user', 'item'} <= again and not shown.find(columns) else ''


def no_time(group: look.Group, columns: Mapping[str, pa.Array]) -> UserError:
    """What is said of a table in which no column can be the time."""
    near = [name for name in columns if words.has(name, words.TIME | words.CALENDAR)]
    return UserError(
        f'{group.name} has no column that tells when a row was{_near(near[0], columns[near[0]]) if near else ""}; a '
        'time is whole s, ms, us or ns since 1970, in one unit, or 2022-04-25 13:05:00, in every row: write one'
    )


def _near(name: str, values: pa.Array) -> str:
    """Why a column with the name of a time is none."""
    if values.null_count:
        return f": '{name}' is null in {values.null_count} of {len(values)} rows"
    if measure.kind_of(values) == 'int':
        low, high = (pc.min_max(values)[end].as_py() for end in ('min', 'max'))
        return f": '{name}' goes from {low} to {high}"
    return f": '{name}' holds {values[0].as_py()!r}" if len(values) else ''
