"""Side tables: whose column is a key of the log, by its name and by how many of the log's values it holds."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError
from diet_jax.data import files
from diet_jax.describe import lists, words
from diet_jax.describe.look import Group, stem
from diet_jax.describe.sample import Sample, read, without_words

MOST = 0.5  # share of the log's values that a key must hold
NEARLY_ALL, MANY = 0.95, 100  # share and number of them that make a key whatever its name
SOME = 20  # number of them from which on it is told that it may be one
BY_CHANCE = 0.5  # of whole numbers: share of the range of the log's values that a table's fill
LARGE = 128 << 20  # bytes from which on a table is not read to see whether it is a side table
NAMED, ALIKE, SPEAKS, SILENT = 3, 2, 1, 0  # what names say of a pair: the same; but for _id; of one thing; nothing


class Side(NamedTuple):
    """A side table: its columns by the names that the config gives them."""

    group: Group
    sample: Sample
    first_value: dict[str, str]  # columns of several values in a cell: what separates them
    key: str  # the log's name of it
    own_key: str  # the table's
    names: tuple[str, ...]  # of all its columns, in their order
    sure: bool
    why: str

    @property
    def on(self) -> bool:
        """Whether the key has another name in the log than in the table."""
        return self.group.format.header and self.key != self.own_key

    def without_words(self, nulls: Mapping[str, Sequence[str]]) -> Side:
        """The same with words of its text as nulls."""
        return self._replace(sample=self.sample._replace(columns=without_words(self.sample.columns, nulls)))

    def here(self, name: str) -> str:
        """A column of the table by the name that the config gives it."""
        return self.names[self.group.format.columns.index(name)]


class Pair(NamedTuple):
    """A column of the log and one of a table."""

    names: int  # what they say
    overlap: float  # share of the log's values that the table has
    good: float
    key: str  # the log's
    own: str
    odd: str  # why it is no key; '' of one


def sides(root: files.Root, tables: Sequence[Group], log: Mapping[str, pa.Array], header: bool, item: str = ''):
    """(side tables, what became of the other files: lines).

    A key is unique and never null, and holds most of the log's values. Its name is that of the log's column, or one for
    the same thing, or nearly all values of the log are there and could not be so by chance. Without a header the best
    is taken, the table's name first (`users.dat` has the user's).

    Args: item: the log's column of items, where it is known.
    """
    found, notes, taken = [], [], set()
    for group in sorted(tables, key=lambda g: g.name):
        if len(group.files) > 1:
            notes.append(f'{group.name}: {len(group.files)} files are no side table, which is one file')
            continue
        if group.files[0].size > LARGE:
            notes.append(f'{group.name}: too large to be looked at as a side table: join it by hand')
            continue
        try:
            sample = read(root, group, cells=1 << 62, size=1 << 62)
        except UserError as error:
            notes.append(str(error))
            continue
        columns, between, whole = lists.of_cells(sample.columns)
        sample = sample._replace(columns=columns)
        pairs = list(_pairs(group, sample, log, item, taken))
        keys = [pair for pair in pairs if not pair.odd]
        if not keys:
            notes.append(_not_joined(group, pairs))
            continue
        best = max(keys, key=lambda pair: pair.good)
        taken.add(best.key)
        found.append(_side(group._replace(format=group.format._replace(encoding=sample.encoding)), sample, best, found))
        side = found[-1] = found[-1]._replace(first_value=between, sure=found[-1].sure and header)
        own = list(side.group.format.columns)
        notes += lists.said({side.names[own.index(name)]: mark for name, mark in whole.items()}, group.name)
    return found, notes


def _side(group: Group, sample: Sample, best: Pair, before: Sequence[Side]) -> Side:
    names, why = tuple(group.format.columns), f'{best.overlap:.1%} of its values in the log are there'
    if group.format.header:
        names = tuple(best.key if name == best.own else words.given(name) for name in names)
    else:
        word = words.singular(stem_of(group.name))
        while any(name.startswith(f'{word}_c') for side in before for name in side.names):
            word += '_2'
        names = tuple(best.key if name == best.own else f'{word}_{name}' for name in names)
    return Side(group, sample, {}, best.key, best.own, names, group.format.header and best.names == NAMED, why)


def _not_joined(group: Group, pairs: Sequence[Pair]) -> str:
    """What is said of a table without a key: of the pair that comes nearest to one."""
    if pairs:
        return f'{group.name}: not joined: {max(pairs, key=lambda pair: pair.good).odd}'
    return (
        f'{group.name}: not joined: no column is unique and holds half of the values of a column of the log: where one '
        f"is a key, dict(path={group.files[0].name!r}, key='...', on='...') in data.side_tables names both"
    )


def stem_of(name: str) -> str:
    """A file's name as a word: no folders, no endings of tables.

    >>> stem_of('side/users.dat.gz'), stem_of('u.item')
    ('users', 'u_item')
    """
    return re.sub(r'\W+', '_', stem(posixpath.basename(name))).lower()


def _pairs(group: Group, sample: Sample, log: Mapping[str, pa.Array], item: str, taken: set[str]) -> Iterator[Pair]:
    """Every pair that can be a key, or that names say should be."""
    of_file = {form for word in words.tokens(stem_of(group.name)) for form in (word, words.singular(word))}
    log = {name: keys for name, values in log.items() if (keys := as_key(values)) is not None}
    different = {name: pc.unique(keys.drop_null()) for name, keys in log.items()}
    for own, values in sample.columns.items():
        keys = as_key(values)
        if keys is None or not len(keys):
            continue
        for place, (name, there) in enumerate(different.items()):
            thing = 'item' if name == item else words.thing(name)
            said = _said(own, name, thing, of_file) if group.format.header else SILENT
            if said < 0 or len(there) < 2:
                continue
            there, other = alike(there, keys) if said == NAMED or not group.format.header else (there, keys)
            overlap = pc.mean(pc.is_in(there, value_set=other)).as_py() if there.type == other.type else 0.0
            used = min(len(there) / len(keys), 1.0)
            good = 4 * said + overlap + 0.5 * used - place / 1000
            if not group.format.header:
                good += 2 * (bool(of_file & words.USER) and name == 'user') - 3 * (name in taken)
                good += 2 * (bool(of_file & words.ITEM) and name == 'item')
            odd = _no_key(own, keys)
            near = overlap >= NEARLY_ALL and len(there) >= SOME and not odd
            odd = odd or _no_match(overlap, there, other, (own, name), said, group)
            if not odd or said >= ALIKE or near:
                yield Pair(said, overlap, good - 100 * bool(odd), name, own, odd)


def _said(own: str, name: str, thing: str, of_file: set[str]) -> int:
    """What names say of a table's column and one of the log, of a thing: -1 where they are of two.

    >>> [_said(own, 'video_id', 'item', {'video'}) for own in ('id', 'item_id', 'user_id')]
    [2, 1, -1]
    """
    if own == name:
        return NAMED
    if words.alike(own, name) or (own == 'id' and of_file & set(words.tokens(name))):
        return ALIKE
    mine = words.thing(own)
    if mine and thing:
        return SPEAKS if mine == thing else -1
    heads = [words.head(one) for one in (own, name)]
    if heads[0] and heads[0] == heads[1]:
        return SPEAKS
    like_id = own.lower().endswith(('id', 'key', 'code'))
    return SPEAKS if like_id and thing and thing in {words.thing(word) for word in of_file} else SILENT


def _no_key(own: str, keys: pa.Array) -> str:
    """Why a column is no key of any table."""
    if keys.null_count:
        return f"its '{own}' is null in {keys.null_count} rows: remove those rows"
    more = len(keys) - pc.count_distinct(keys).as_py()
    return f"its '{own}' holds {more} values again: keep one row a value" if more else ''


def _no_match(overlap: float, there: pa.Array, keys: pa.Array, names: tuple[str, str], said: int, group: Group) -> str:
    """Why a table's values are not taken for the log's: there, the different ones of the log."""
    own, name = names
    here, mine = f"the log's '{name}'", f"its '{own}'"
    if there.type != keys.type:
        kinds = ['whole numbers' if pa.types.is_integer(one.type) else 'text' for one in (keys, there)]
        return f'{mine} is {kinds[0]} and {here} {kinds[1]}: write both in one way'
    if overlap < MOST:
        shown = f'{keys[0].as_py()!r} there, {there[0].as_py()!r} in the log'
        return f'{mine} has {overlap:.1%} of the values of {here} ({shown}): correct the file, or join it by hand'
    if said or not group.format.header:
        return ''
    joins = f'dict(path={group.files[0].name!r}, key={own!r}, on={name!r}) in data.side_tables joins it'
    if overlap < NEARLY_ALL or len(there) < MANY:
        return f'{mine} has {overlap:.1%} of the {len(there)} values of {here}, but another name: {joins}'
    if pa.types.is_integer(keys.type):
        low, high = pc.min_max(there).as_py().values()
        inside = pc.sum(pc.and_(pc.greater_equal(keys, low), pc.less_equal(keys, high))).as_py()
        if inside > BY_CHANCE * (high - low + 1):
            return f'{mine} is all numbers of a range, so it has those of {here} by chance or not: where not, {joins}'
    return ''


def alike(one: pa.Array, other: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Keys as preparation compares them: text where either is."""
    return (one, other) if one.type == other.type else (one.cast(pa.string()), other.cast(pa.string()))


def as_key(values: pa.Array) -> pa.Array | None:
    """A column as int64 or string, None where it is neither."""
    if pa.types.is_integer(values.type) or pa.types.is_string(values.type):
        return values
    return None


def joined(side: Side, log: Mapping[str, pa.Array], column: str) -> pa.Array:
    """A column of a side table for every row of the log."""
    own = side.group.format.columns[side.names.index(column)]
    here, there = alike(log[side.key], side.sample.columns[side.own_key])
    return side.sample.columns[own].take(pc.index_in(here, value_set=there))
