"""A config key: its default, its range and its sentence, in one place.

Sections are dicts of keys; configs, checks and docs/reference/config.md are made of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from diet_jax.base.errors import UserError, closest


class Key(NamedTuple):
    """What there is to know about one key of a config."""

    default: Any
    text: str  # one sentence for the user
    least: float | None = None  # None: 1 of a whole number, 0 of another one
    most: float | None = None
    open: bool = False  # neither end of the range belongs to it
    choices: tuple = ()
    empty: bool = False  # of a list or tuple: may hold nothing
    free: bool = False  # may change between two runs over one workdir
    of: tuple[type, ...] = ()  # what a tuple holds; (): what its default does, text where that is empty

    def range(self) -> str:
        """The values it may have, in words; '' where any will do."""
        if self.choices:
            return ', '.join(map(repr, self.choices))
        if isinstance(self.default, bool) or not isinstance(self.default, (int, float, tuple)):
            return ''
        if isinstance(self.default, tuple):
            return 'may be empty' if self.empty else 'at least one'
        low, high = self.bounds()
        if math.isinf(high):
            return f'above {low:g}' if self.open else f'{low:g} or more'
        return f'in ({low:g}, {high:g})' if self.open else f'in [{low:g}, {high:g}]'

    def bounds(self) -> tuple[float, float]:
        """Least and greatest number."""
        usual = 1 if isinstance(self.default, int) else 0
        return usual if self.least is None else self.least, math.inf if self.most is None else self.most

    def check_type(self, name: str, value: Any) -> None:
        """Raises UserError unless a value, plain, is of the default's type and, a number, finite."""
        kind = type(self.default)
        if not _is(kind, value):
            way_out = f'; write ({value!r},)' if kind is tuple else ''
            raise UserError(f'{name} is {value!r}: it must be {_KINDS[kind]}{way_out}')
        if kind is tuple:
            kinds = self.of or tuple({type(item) for item in self.default}) or (str,)
            for item in value:
                if not any(_is(kind, item) for kind in kinds):
                    raise UserError(f'{name} holds {item!r}: it may hold {" or ".join(_KINDS[k] for k in kinds)}')

    def check(self, name: str, value: Any) -> None:
        """Raises UserError unless a value, plain, is of the default's type and in the range."""
        if self.choices and value not in self.choices:
            near = closest(str(value), self.choices)
            hint = near if 'did you mean' in near else ''
            raise UserError(f'{name} is {value!r}{hint}: it must be one of {", ".join(map(str, self.choices))}')
        if isinstance(value, list) and isinstance(self.default, tuple):
            self._check_list(name, value)
        elif _is_number(value) and _is_number(self.default):
            low, high = self.bounds()
            inside = low < value < high if self.open else low <= value <= high
            if not (math.isfinite(value) and inside):
                raise UserError(f'{name} is {value:g}: it must be {self.range()}; {self.text}')
        self.check_type(name, value)

    def _check_list(self, name: str, value: list) -> None:
        if not value and not self.empty:
            raise UserError(f'{name} is empty: name at least one')
        for item in value:
            if isinstance(item, str) and ',' in item:
                names = ', '.join(repr(part.strip()) for part in item.split(','))
                raise UserError(f'{name} holds {item!r}: several are written --config.{name}="({names})"')
            if isinstance(item, (int, float)) and not (math.isfinite(item) and item > 0):
                raise UserError(f'{name} holds {item}: it must be above 0')


Section = Mapping[str, 'Key | Section']
_KINDS = {
    bool: 'True or False',
    int: 'a whole number',
    float: 'a number',
    str: 'a string',
    tuple: 'a tuple',
    dict: 'a dict',
    type(None): 'a number, or None',
}


def _is(kind: type, value: Any) -> bool:
    """Whether a plain value is of the type of a default; a number is finite, a whole one of 64 bits at most.

    >>> _is(float, 3), _is(int, 3.0), _is(int, True), _is(float, math.nan)
    (True, False, False, False)
    """
    if kind in (int, float, type(None)):
        if isinstance(value, int) or not _is_number(value):
            return _is_number(value) and abs(value) < 2**63 or (value is None and kind is type(None))
        return math.isfinite(value) and kind is not int
    return isinstance(value, list if kind is tuple else kind)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_types(section: Section, values: Mapping, where: str) -> None:
    """Raises UserError for a value that is there, and not of its key's type.

    Dicts of columns and words to choose from are left out: their own checks say it better.

    Args: values: plain, nested as the section is; where: what they are of, as 'data'.
    """
    for name, key in section.items():
        if name not in values:
            continue
        if isinstance(key, Mapping):
            if not isinstance(values[name], Mapping):
                raise UserError(f'{where}.{name} is {values[name]!r}: it must be a dict of {", ".join(key)}')
            check_types(key, values[name], f'{where}.{name}')
        elif not key.choices and not isinstance(key.default, dict):
            key.check_type(f'{where}.{name}', values[name])


def defaults(section: Section) -> ConfigDict:
    """The config of a section: every key at its default."""
    return ConfigDict(
        {name: defaults(key) if isinstance(key, Mapping) else key.default for name, key in section.items()}
    )


def flat(section: Section, prefix: str = '') -> Iterator[tuple[str, Key]]:
    """('memory.row_budget', its Key), ... of all keys below a section."""
    for name, key in section.items():
        if isinstance(key, Mapping):
            yield from flat(key, f'{prefix}{name}.')
        else:
            yield prefix + name, key
