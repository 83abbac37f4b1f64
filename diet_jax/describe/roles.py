"""Which field is the user, the item, its creator, the context: by name first, by its number of values then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.describe import words
from diet_jax.describe.kinds import FEW, Guess
from diet_jax.describe.measure import Measured

CONTEXTS = 1000  # values of a context, at most


class Roles(NamedTuple):
    """Names of fields, '' where there is none."""

    user: str
    item: str
    creator: str
    context: str
    unsure: tuple[str, ...]  # roles that are guesses


def named_columns(columns: dict[str, pa.Array], time: str, label: str) -> dict[str, str]:
    """Names for the columns of a log without a header: what is known by its values, c2, c3, ... for the rest.

    The user is the first column that looks like an id, the item the second.
    """
    ids = [name for name, values in columns.items() if name not in (time, label) and _is_id(values)]
    actions = label and pa.types.is_string(columns[label].type)
    rating = label and not actions and pc.count_distinct(columns[label]).as_py() > 2
    known = dict(zip(ids, ('user', 'item')))
    known |= {time: 'timestamp'} | ({label: 'action' if actions else 'rating' if rating else 'label'} if label else {})
    return {name: known.get(name, name) for name in columns}


def _is_id(values: pa.Array) -> bool:
    kind = values.type
    return (pa.types.is_integer(kind) or pa.types.is_string(kind)) and pc.count_distinct(values).as_py() > FEW


def user_and_item(columns: Sequence[Measured]) -> tuple[str, str, tuple[str, ...]]:
    """(user, item, which of the two is a guess) among the log's columns."""
    ids = [c for c in columns if c.kind in ('int', 'text') and c.values > 1 and not words.has(c.name, words.SESSION)]
    user, item = _named(ids, words.USER), _named(ids, words.ITEM - words.USER)
    unsure = []
    rest = sorted((c for c in ids if c.name not in (user, item) and _like_an_id(c)), key=lambda c: -c.values)
    rest = [c.name for c in ids if c in rest[: 2 - bool(user) - bool(item)]]  # of the largest, in their order
    if not user and rest:
        user, unsure = rest.pop(0), ['user']
    if not item and rest:
        item, unsure = rest.pop(0), [*unsure, 'item']
    return user, item, tuple(unsure)


def _named(columns: Sequence[Measured], names: set[str]) -> str:
    """The column of most values with one of the names, those that are an id first."""
    found = [c for c in columns if words.has(c.name, names) and c.values > 8]
    ids = [c for c in found if words.tokens(c.name)[-1] in names | {'id'}] or found
    return max(ids, key=lambda c: c.values).name if ids else ''


def _like_an_id(column: Measured) -> bool:
    return column.values > FEW and (column.kind == 'text' or not words.has(column.name, words.NUMBER | words.TIME))


def roles(
    columns: Sequence[tuple[Measured, Guess]],
    ids: tuple[str, str, Sequence[str]],
    of_item: Sequence[str],
    hour: bool,
) -> Roles:
    """All four.

    Args: ids: of `user_and_item`; of_item: columns that side tables have for the item; hour: there is a field of the
      hour, which is a context where nothing else is.
    """
    user, item, unsure = ids
    fields = [c for c, found in columns if found.taken == 'field' and c.name not in (user, item)]
    own = [c for c in fields if not c.table and 1 < c.values <= CONTEXTS]
    groups = [c for c in fields if c.name in of_item and (FEW < c.values < c.rows / 2 or c.parts is not None)]
    creator = _most(fields, words.CREATOR) or _most(fields, words.GENRE) or _most(groups)
    own = [c for c in own if c.name != creator]
    context = _first(own, words.CONTEXT) or _first(own, words.DEVICE) or ('hour' if hour else '')
    unsure = [*unsure, *(['creator'] if creator else []), *(['context'] if context else [])]
    return Roles(user, item, creator, context, tuple(unsure))


def _most(columns: Sequence[Measured], names: set[str] | None = None) -> str:
    found = [c for c in columns if names is None or words.has(c.name, names)]
    return max(found, key=lambda c: c.values).name if found else ''


def _first(columns: Sequence[Measured], names: set[str]) -> str:
    return next((c.name for c in columns if words.has(c.name, names)), '')
