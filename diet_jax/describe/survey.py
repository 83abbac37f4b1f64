"""What a folder of log files holds, and what each column may be in a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError
from diet_jax.data import files
from diet_jax.describe import blocks as cutting
from diet_jax.describe import kinds, lists, look, measure, roles, sample, shown, sides, which, words
from diet_jax.describe.clock import Clock, clock
from diet_jax.describe.kinds import Guess
from diet_jax.describe.label import Label, label
from diet_jax.describe.measure import Measured

GOES_WITH = 0.99  # share of the rows of items with several rows in which a column has one value an item


class Survey(NamedTuple):
    """A folder of log files."""

    root: files.Root
    log: look.Group
    names: tuple[str, ...]  # of the columns of the log's files, as the config calls them
    rows: int  # of the log; about, where `whole` is False
    whole: bool  # all of it was read
    clock: Clock
    days: cutting.Days
    blocks: cutting.Blocks
    label: Label
    sides: tuple[sides.Side, ...]
    columns: tuple[tuple[Measured, Guess], ...]  # of the log, then of the side tables
    shown: shown.Shown | None  # where a row lists what was shown
    first_value: dict[str, str]  # `data.first_value`
    rename: dict[str, str]  # columns whose names no field can have: a name for each
    null_words: dict[str, tuple[str, ...]]  # column -> words among its numbers that mean missing, beside the usual ones
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

    def missing(self) -> dict[str, list[str]]:
        """Word that means missing, beside the usual ones -> the columns in whose numbers it stands."""
        words = dict.fromkeys(word for words in self.null_words.values() for word in words)
        return {word: [name for name, of_column in self.null_words.items() if word in of_column] for word in words}


def survey(folder: str, patterns: Sequence[str] = (), hours: float = 0.0) -> Survey:
    """Looks at a folder. Large tables are sampled, so that it takes seconds.

    Args:
      folder: a folder or a URI, as `data.root`.
      patterns: which files are the log, as `data.log`; () to find out.
      hours: length of a block; 0 to find out.
    Raises:
      UserError: there is no table, no time, there are two logs, all of it is of one day, no row is a click, or every
        row is one and no column is the item.
    """
    try:
        root = files.open_root(folder)
    except UserError as error:
        raise UserError(str(error).replace('data.root', '--root')) from error
    tables, odd = look.groups(root)
    log, others = which.the_log(root, tables, tuple(patterns))
    taken, header = sample.read(root, log), log.format.header
    log = log._replace(format=log.format._replace(encoding=taken.encoding))
    text = log.format.kind == 'csv'
    of_files = list(taken.columns)
    numbered = _own_in_every_row(taken.columns) if taken.whole else set()  # in a sample an id may seem so
    listed, taken = _one_a_row(taken)
    numbered -= {listed.items, *listed.parallel} if listed else set()
    cells, several, whole_cells = lists.of_cells(taken.columns)
    found = clock(cells, header, text)
    if not found:
        raise which.no_time(log, cells)
    target = _label(log, cells, found, listed)
    names = {name: words.given(name) for name in [*of_files, *cells]}
    if not header:
        odd_ones = (numbered - {found.column}) | ({shown.LABEL, shown.POSITION} if listed else set())
        named = {name: values for name, values in cells.items() if name not in odd_ones}
        names |= roles.named_columns(named, found.column, '' if listed else target.column)
    columns = {names[name]: values for name, values in cells.items()}
    found = found._replace(column=names[found.column])
    target = target._replace(column=names.get(target.column, ''))
    apart = (found.column, target.column)
    item = names[listed.items] if listed else ''
    joined, notes = sides.sides(root, others, {n: v for n, v in columns.items() if n not in apart}, header, item)
    null_words = _null_words(taken, joined, names)
    columns = sample.without_words(columns, null_words)
    joined = [side.without_words(null_words) for side in joined]
    notes += _not_read(log, odd)
    notes += lists.said({names[name]: mark for name, mark in whole_cells.items()}, log.name)
    days = cutting.days(found)
    several = {names[name]: mark for name, mark in several.items()}
    measures = _measured(columns, joined, target, found, several)
    numbered = {names[name] for name in numbered}
    user, item, unsure = roles.user_and_item([m for m in measures if not m.table and m.name not in {*apart, *numbered}])
    if listed:
        item, unsure = names[listed.items], tuple(role for role in unsure if role != 'item')
    if not target.column and not item:
        raise UserError(
            f'{log.name}: {target.why}; but no column looks like an item that could be drawn: name it item_id, or the '
            'label click, in the files, or write the config by hand (docs/your-log.md)'
        )
    guesses = _guesses(measures, found, target, (user, item), joined, header)
    if listed:
        guesses = [_of_list(m, guess, numbered) for m, guess in zip(measures, guesses, strict=True)]
    fresh = {role: _fresh(columns[name], days) for role, name in (('users', user), ('items', item)) if name}
    drift = _drift(columns, item, days, fresh)
    asked = dict(hours=hours, whole=taken.whole)
    cut = cutting.blocks(found, days, taken.rows, label=target.values, fresh=drift, **asked)
    of_item = [name for side in joined if side.key == item for name in side.names]
    known = tuple(zip(measures, guesses, strict=True))
    whole = Survey(
        root=root,
        log=log,
        names=tuple(names[name] for name in of_files),
        rows=taken.rows,
        whole=taken.whole,
        clock=found,
        days=days,
        blocks=cut,
        label=target,
        sides=tuple(joined),
        columns=known,
        shown=listed and shown.renamed(listed, names),
        first_value={c.name: c.parts for c, guess in known if guess.seen and c.parts is not None},
        rename=_renamed(names if header else {}, joined),
        null_words=null_words,
        strings=_strings(known, taken, joined, names),
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


def _one_a_row(taken: sample.Sample) -> tuple[shown.Shown | None, sample.Sample]:
    """How rows list what was shown, and the sample with a row for every item of theirs."""
    listed = shown.find(taken.columns)
    if not listed:
        return None, taken
    columns, each = shown.rows(taken.columns, listed)
    whole = taken.whole and len(columns[shown.LABEL]) == round(each * taken.rows)
    return listed, taken._replace(columns=columns, rows=round(each * taken.rows), whole=whole)


def _label(log: look.Group, columns, found: Clock, listed: shown.Shown | None) -> Label:
    if listed:
        hit = columns[shown.LABEL].cast(pa.float32()).to_numpy()
        return Label(shown.LABEL, listed.sure, f"made of '{listed.items}', {listed.why}", hit)
    try:
        return label(columns, log.format.header, [found.column])
    except UserError as error:
        raise UserError(f'{log.name}: {error}') from error


def _null_words(taken: sample.Sample, joined, names: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """{column: words among its numbers that mean missing}, of the log and of side tables, by the config's names."""
    found = {names[name]: nulls for name, nulls in taken.nulls.items()}
    for side in joined:
        found |= {side.here(name): nulls for name, nulls in side.sample.nulls.items()}
    return found


def _strings(known, taken: sample.Sample, joined, names: dict[str, str]) -> tuple[str, ...]:
    """Columns to be read as strings: 1 and 0 beside true and false and other words."""
    odd = {names[name] for name in taken.verbatim} | {
        side.here(name) for side in joined for name in side.sample.verbatim
    }
    return tuple(c.name for c, guess in known if guess.taken == 'field' and c.parts is None and c.name in odd)


def _own_in_every_row(columns) -> set[str]:
    """Columns with a value of their own in every row of the files."""
    found = {name: v for name, v in columns.items() if measure.kind_of(v) in ('int', 'text')}
    return {name for name, v in found.items() if kinds.one_each(pc.count_distinct(v).as_py(), len(v) - v.null_count)}


def _of_list(column: Measured, guess: Guess, numbered: set[str]) -> Guess:
    """What columns are that look otherwise where a row of the log is several ones."""
    if not column.table and column.name in numbered and guess.seen:
        return Guess('id', True, f'{column.values} values in as many rows of the log')
    if column.table or column.name != shown.POSITION:
        return guess
    return Guess('field', False, 'made: the place in the list, which a ranking that is to come does not know')


def _measured(columns, joined, target: Label, found: Clock, several: dict[str, str]) -> list[Measured]:
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
        auc = float('nan') if name in (found.column, target.column) else alone(values)
        figures.append(measure.measured(name, '', values, auc, several.get(name)))
    known_names = set(columns)
    for side in joined:
        for own, name in zip(side.group.format.columns, side.names, strict=True):
            if name not in known_names:
                known_names.add(name)
                values = side.sample.columns[own]
                auc, mark = alone(sides.joined(side, columns, name)), side.first_value.get(own)
                figures.append(measure.measured(name, side.group.name, values, auc, mark))
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


def _renamed(names: Mapping[str, str], joined: Sequence[sides.Side]) -> dict[str, str]:
    """Columns of the log and of side tables with a header that get another name."""
    found = {name: here for name, here in names.items() if here == words.given(name) != name}
    for side in joined:
        if side.group.format.header:
            found |= {name: words.given(name) for name in side.group.format.columns if words.given(name) != name}
    return found
