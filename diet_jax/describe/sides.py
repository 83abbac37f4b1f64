"""Side tables: whose column is a key of the log, by its name and by how many of the log's values it holds."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError
from diet_jax.data import files
from diet_jax.describe import words
from diet_jax.describe.look import Group, stem
from diet_jax.describe.sample import Sample, read

MOST = 0.5  # share of the log's values that a key must hold
LARGE = 128 << 20  # bytes from which on a table is not read to see whether it is a side table


class Side(NamedTuple):
    """A side table: its columns by the names that the config gives them."""

    group: Group
    sample: Sample
    key: str  # the log's name of it
    own_key: str  # the table's
    names: tuple[str, ...]  # of all its columns, in their order
    sure: bool
    why: str


def sides(root: files.Root, tables: Sequence[Group], log: Mapping[str, pa.Array], header: bool):
    """(side tables, what became of the other files: lines).

    A key is unique and never null, and holds most of the log's values. With a header its name is that of the log's
    column, but for `_id`; without one the best is taken, the table's name first (`users.dat` has the user's).
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
        rated = sorted(_rated(group, sample, log, header, taken), reverse=True)
        if not rated:
            notes.append(f'{group.name}: no column is unique and holds most values of a column of the log')
            continue
        overlap, key, own = rated[0][1:]
        if group.format.header and key != own:
            notes.append(f"{group.name}: its '{own}' is the log's '{key}': give them one name to join it")
            continue
        taken.add(key)
        names = tuple(group.format.columns)
        if not group.format.header:
            word = words.singular(stem_of(group.name))
            while any(name.startswith(f'{word}_c') for side in found for name in side.names):
                word += '_2'
            names = tuple(key if name == own else f'{word}_{name}' for name in names)
        sure = group.format.header and header
        found.append(Side(group, sample, key, own, names, sure, f'{overlap:.1%} of its values in the log are there'))
    return found, notes


def stem_of(name: str) -> str:
    """A file's name as a word: no folders, no endings of tables.

    >>> stem_of('side/users.dat.gz'), stem_of('u.item')
    ('users', 'u_item')
    """
    return re.sub(r'\W+', '_', stem(posixpath.basename(name))).lower()


def _rated(group: Group, sample: Sample, log: Mapping[str, pa.Array], header: bool, taken: set[str]):
    """(how good, overlap, the log's column, the table's) of every pair that can be a key."""
    tokens = {form for word in words.tokens(stem_of(group.name)) for form in (word, words.singular(word))}
    for own, keys in sample.columns.items():
        keys = as_key(keys)
        if keys is None or keys.null_count or pc.count_distinct(keys).as_py() < len(keys):
            continue
        for place, (name, values) in enumerate(log.items()):
            named = group.format.header and header
            same = 2 if own == name else 1 if words.alike(own, name) else 0
            if named and own == 'id' and tokens & set(words.tokens(name)):
                same = 1
            values = as_key(values)
            if values is None or values.type != keys.type or (named and not same):
                continue
            there = pc.unique(values.drop_null())
            if len(there) < 2:
                continue
            overlap = pc.mean(pc.is_in(there, value_set=keys)).as_py()
            if overlap < MOST:
                continue
            of_name = bool(tokens & words.USER) and name == 'user' or bool(tokens & words.ITEM) and name == 'item'
            used = min(len(there) / len(keys), 1.0)
            good = 4 * same + 2 * of_name * (not named) + overlap + 0.5 * used - 3 * (name in taken and not named)
            yield good - place / 1000, overlap, name, own


def as_key(values: pa.Array) -> pa.Array | None:
    """A column as int64 or string, None where it is neither."""
    kind = values.type
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return values.cast(pa.int64())
    if pa.types.is_floating(kind):
        try:
            return values.cast(pa.int64())
        except pa.ArrowInvalid:
            return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return values.cast(pa.string())
    return None


def joined(side: Side, log: Mapping[str, pa.Array], column: str) -> pa.Array:
    """A column of a side table for every row of the log."""
    own = side.group.format.columns[side.names.index(column)]
    keys = as_key(side.sample.columns[side.own_key])
    return side.sample.columns[own].take(pc.index_in(as_key(log[side.key]), value_set=keys))
