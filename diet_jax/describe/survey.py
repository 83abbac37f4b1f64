"""What a folder of log files holds, and what each column may be in a config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError
from diet_jax.data import files
from diet_jax.describe import blocks as cutting
from diet_jax.describe import kinds, look, measure, roles, sample, sides, which
from diet_jax.describe.clock import Clock, clock
from diet_jax.describe.kinds import Guess
from diet_jax.describe.label import Label, label
from diet_jax.describe.measure import Measured

GOES_WITH = 0.99  # share of the rows of items with several rows in which a column has one value an item


class Survey(NamedTuple):
    """A folder of log files."""

    root: files.Root
    log: look.Group
    names: tuple[str, ...]  # of the log's columns, as the config calls them
    rows: int  # of the log; about, where `whole` is False
    whole: bool  # all of it was read
    clock: Clock
    days: cutting.Days
    blocks: cutting.Blocks
    label: Label
    sides: tuple[sides.Side, ...]
    columns: tuple[tuple[Measured, Guess], ...]  # of the log, then of the side tables
    strings: tuple[str, ...]  # `data.csv.strings`
    roles: roles.Roles
    item_columns: tuple[str, ...]  # of a log of clicks: what goes with the item
    fresh: dict[str, np.ndarray]  # 'users', 'items' -> share of a day's rows whose id was in no earlier day
    notes: tuple[str, ...]

    def fields(self, taken: str) -> list[str]:
        """Names of the columns that are taken as `field` or `numeric`: the roles first."""
        found = [c.name for c, guess in self.columns if guess.taken == taken]
        first = [name for name in self.roles[:4] if name in found]
        return [*first, *(name for name in found if name not in first)]


def survey(folder: str, patterns: Sequence[str] = (), hours: float = 0.0) -> Survey:
    """Looks at a folder. Large tables are sampled, so that it takes seconds.

    Args:
      folder: a folder or a URI, as `data.root`.
      patterns: which files are the log, as `data.log`; () to find out.
      hours: length of a block; 0 to find out.
    Raises:
      UserError: there is no table, no time, there are two logs, or all of it is of one day.
    """
    try:
        root = files.open_root(folder)
    except UserError as error:
        raise UserError(str(error).replace('data.root', '--root')) from error
    tables, odd = look.groups(root)
    log, others = which.the_log(root, tables, tuple(patterns))
    taken, header = sample.read(root, log), log.format.header
    text = log.format.kind == 'csv'
    found = clock(taken.columns, header, text)
    if not found:
        raise which.no_time(log, taken.columns)
    target = label(taken.columns, header, [found.column])
    names = {name: name for name in taken.columns}
    if not header:
        names = roles.named_columns(taken.columns, found.column, target.column)
    columns = {names[name]: values for name, values in taken.columns.items()}
    found = found._replace(column=names[found.column])
    target = target._replace(column=names.get(target.column, ''))
    joined, notes = sides.sides(root, others, columns, header)
    notes += _not_read(log, odd)
    days = cutting.days(found)
    measures = _measured(columns, joined, target, found)
    user, item, unsure = roles.user_and_item(
        [m for m in measures if not m.table and m.name not in _apart(found, target)]
    )
    guesses = _guesses(measures, found, target, (user, item), joined, header)
    fresh = {role: _fresh(columns[name], days) for role, name in (('users', user), ('items', item)) if name}
    drift = _drift(columns, item, days, fresh)
    asked = dict(hours=hours, whole=taken.whole)
    cut = cutting.blocks(found, days, taken.rows, label=target.values, fresh=drift, **asked)
    of_item = [name for side in joined if side.key == item for name in side.names]
    known = tuple(zip(measures, guesses, strict=True))
    odd_ids = {names[name] for name in taken.strings}
    odd_ids |= {side.names[side.group.format.columns.index(name)] for side in joined for name in side.sample.strings}
    whole = Survey(
        root=root,
        log=log,
        names=tuple(names.values()),
        rows=taken.rows,
        whole=taken.whole,
        clock=found,
        days=days,
        blocks=cut,
        label=target,
        sides=tuple(joined),
        columns=known,
        strings=_strings(known, target, odd_ids, text),
        roles=roles.roles(known, (user, item, unsure), of_item, hour=not found.of_days),
        item_columns=(),
        fresh=fresh,
        notes=tuple(notes),
    )
    return whole._replace(item_columns=_with_item(whole, columns))


def _not_read(log: look.Group, odd: list[str]) -> list[str]:
    """What of a folder is not in the config, in lines."""
    more = f' and {len(odd) - 3} more' if len(odd) > 3 else ''
    lines = [f'not read: {", ".join(odd[:3])}{more}'] if odd else []
    parts = {part.partition('=')[0] for file in log.files for part in file.name.split('/')[:-1] if '=' in part}
    if parts:
        lines.append(f'names of folders are not looked at: {", ".join(sorted(parts))}')
    if log.partly:
        lines.append(f'only some of the log files have {", ".join(log.partly)}: no fields')
    return lines


def _strings(known, target: Label, odd_ids: set[str], text: bool) -> tuple[str, ...]:
    """Columns of text files to be read as strings: odd ids, and a label in words, which is true in one file only."""
    fields = [column.name for column, guess in known if guess.taken == 'field' and column.name in odd_ids]
    return (*fields, *([target.column] if text and target.positive else []))


def _apart(found: Clock, target: Label) -> tuple[str, str]:
    return found.column, target.column


def _measured(columns, joined, target: Label, found: Clock) -> list[Measured]:
    """Figures of every column of the log and of the side tables, but for keys and names that came before."""
    rows = None
    if target.values is not None:
        known = np.flatnonzero(~np.isnan(target.values))
        rng = np.random.default_rng(0)
        rows = np.sort(rng.choice(known, min(len(known), measure.ROWS), replace=False))
        held_out = rng.random(len(rows)) < 0.3
        y = target.values[rows]
        if any(len(np.unique(y[part])) < 2 for part in (held_out, ~held_out)):
            rows = None

    def alone(values: pa.Array) -> float:
        if rows is None or measure.kind_of(values) == 'nested':
            return float('nan')
        return measure.auc_alone(values.take(pa.array(rows)), y, held_out)

    figures = []
    for name, values in columns.items():
        apart = name in _apart(found, target)
        figures.append(measure.measured(name, '', values, float('nan') if apart else alone(values)))
    known_names = set(columns)
    for side in joined:
        for own, name in zip(side.group.format.columns, side.names, strict=True):
            if name not in known_names:
                known_names.add(name)
                values = side.sample.columns[own]
                figures.append(
                    measure.measured(name, side.group.name, values, alone(sides.joined(side, columns, name)))
                )
    return figures


def _guesses(measures, found, target, identities, joined, header) -> list[Guess]:
    names = {'': tuple(m.name for m in measures if not m.table)} | {s.group.name: s.names for s in joined}
    headed = {'': header} | {side.group.name: side.group.format.header for side in joined}
    guesses = []
    for m in measures:
        if m.name == found.column:
            guesses.append(Guess('time', found.sure, f'in {found.unit}'))
        elif m.name == target.column:
            guesses.append(Guess('label', target.sure, target.why))
        else:
            is_id = not m.table and m.name in identities
            guesses.append(kinds.guess(m, names[m.table], headed[m.table], is_id))
    return guesses


def _fresh(values: pa.Array, days: cutting.Days) -> np.ndarray:
    """float64 [D]: share of a day's sampled rows whose value was in no earlier day, nan on days without rows."""
    code = measure.codes(values)
    first = np.full(code.max() + 1, len(days.rows))
    np.minimum.at(first, code, days.of_row)
    new = np.bincount(days.of_row, first[code] == days.of_row, minlength=len(days.rows))
    return np.divide(new, days.rows, out=np.full(len(days.rows), np.nan), where=days.rows > 0)


def _drift(columns, item: str, days: cutting.Days, fresh: dict[str, np.ndarray]) -> float:
    """The median day's share of rows on new items, nan where items have too few rows for it to mean that they rise."""
    if not item or len(columns[item]) < 5 * len(pc.unique(columns[item])):
        return float('nan')
    later = fresh['items'][days.begin + 1 : days.last + 1]
    return float(np.nanmedian(later)) if np.isfinite(later).any() else float('nan')


def _with_item(found: Survey, columns: dict[str, pa.Array]) -> tuple[str, ...]:
    """Columns of a log of clicks that have one value for an item."""
    if found.label.column or not found.roles.item:
        return ()
    item, names = measure.codes(columns[found.roles.item]).astype(np.int64), []
    several = np.bincount(item) > 1
    for name in found.fields('field') + found.fields('numeric'):
        if name in columns and name not in (found.roles.user, found.roles.item):
            code = measure.codes(columns[name])
            pairs = np.unique(item * (code.max() + 1) + code) // (code.max() + 1)
            one = np.bincount(pairs, minlength=len(several)) == 1
            if several.any() and one[item[several[item]]].mean() >= GOES_WITH:
                names.append(name)
    return tuple(names)
