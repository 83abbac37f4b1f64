"""What a user can get wrong in a config, found before the log is opened and before anything is written."""

from __future__ import annotations

import json
import math
from pathlib import Path

from ml_collections import ConfigDict

from diet_jax.config import default_config
from diet_jax.errors import UserError, closest
from diet_jax.schema import plain

# What may change between two runs over one workdir.
FREE = (
    'evaluate.',
    'trends.',
    'twins.keep',
    'reference.shard_tables',
    'data.root',
    'data.until',
    'data.simulated.blocks',
)
MAY_BE_ZERO = (
    'seed',
    'memory.capacity',
    'codebook.codes',
    'memory.max_new',
    'trends.stage',
    'twins.keep',
)  # of the whole numbers
MAY_BE_EMPTY = ('trends.only', 'trends.rivals', 'twins.models')  # of the lists


def check_config(config: ConfigDict, devices: int) -> None:
    """Checks all but the data section, which `diet_jax.data` checks.

    Raises:
      UserError: a key that does not exist or is missing, a number out of range, settings that do not go together.
    """
    if not isinstance(config, ConfigDict):
        raise UserError(f'the config is a {type(config).__name__}: get_config() must return a ConfigDict')
    defaults = default_config()
    _check_keys(config, defaults, 'config')
    for key, value in _flat(plain({k: v for k, v in config.items() if k != 'data'})).items():
        _check_value(key, value)
    for key in defaults.data:
        if key not in config.data:
            raise UserError(f"config.data has no '{key}': begin with default_data() or simulated_data()")
    budget = config.memory.row_budget
    if not 0 < budget <= 1:
        raise UserError(f'memory.row_budget {budget} is not in (0, 1]: it is a share of the rows, 0.01 for 1 %')
    if not 0 < config.refine.held_share < 1:
        raise UserError(f'refine.held_share {config.refine.held_share} is not in (0, 1): it is a share of a block')
    if config.addressing.replace > 1:
        raise UserError(f'addressing.replace {config.addressing.replace} is above 1: it is a share of the entries')
    epochs = tuple(config.evaluate.epochs)
    if epochs != tuple(sorted(set(epochs))):
        raise UserError(f'evaluate.epochs {epochs} do not increase: write {tuple(sorted(set(epochs)))}')
    if config.reference.batch % devices:
        raise UserError(f'reference.batch {config.reference.batch} is not a multiple of the {devices} devices')
    if isinstance(config.data.numeric, ConfigDict):
        for column, bins in config.data.numeric.items():
            if isinstance(bins, int) and 0 < config.codebook.codes < bins + 2:
                raise UserError(
                    f"data.numeric['{column}'] has {bins} bins and codebook.codes is {config.codebook.codes}: every "
                    f'bin needs a code, and so do missing and unseen: at most {config.codebook.codes - 2} bins'
                )


def check_same_config(config: ConfigDict, path: Path) -> None:
    """Raises UserError if `path`, the config.json of a memory already begun, differs where it must not."""
    try:
        old = json.loads(path.read_text())
        old = _flat(dict(old))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f'{path} does not parse ({error}): restore it from a copy, or use another --workdir') from error
    new, defaults = (_flat(json.loads(json.dumps(plain(c)))) for c in (config, default_config()))
    for key in sorted(old.keys() | new.keys()):
        was = old.get(key, defaults.get(key))  # a key that is newer than the memory had its default
        if was != new.get(key) and not key.startswith(FREE):
            raise UserError(
                f'{path}: {key} was {was!r} when this memory was begun and is {new.get(key)!r} now: '
                'use another --workdir, or the old value'
            )


def _check_keys(config, defaults, where: str) -> None:
    for key in config:
        if key not in defaults:
            raise UserError(f"{where} has no key '{key}'{closest(key, defaults)}")
    for key, default in defaults.items():
        if key not in config:
            raise UserError(f"{where} lacks '{key}': begin with diet_jax.config.default_config()")
        if isinstance(default, ConfigDict):
            if not isinstance(config[key], ConfigDict):
                raise UserError(f'{where}.{key} is {config[key]!r}: it must be a section, as in default_config()')
            if key != 'data':
                _check_keys(config[key], default, f'{where}.{key}')


def _check_value(key: str, value) -> None:
    """Every whole number counts something and every other one is a rate, a share or an exponent; lists hold some."""
    if isinstance(value, list):
        if not value and key not in MAY_BE_EMPTY:
            raise UserError(f'{key} is empty: name at least one')
        for item in value:
            if isinstance(item, str) and ',' in item:
                names = ', '.join(repr(name.strip()) for name in item.split(','))
                raise UserError(f'{key} holds {item!r}: several are written --config.{key}="({names})"')
            if isinstance(item, (int, float)) and not (math.isfinite(item) and item > 0):
                raise UserError(f'{key} holds {item}: it must be above 0')
    elif isinstance(value, int) and not isinstance(value, bool):
        least = 0 if key in MAY_BE_ZERO else 1
        if value < least:
            raise UserError(f'{key} is {value}: it must be {least} or more')
    elif isinstance(value, float) and not (math.isfinite(value) and value >= 0):
        raise UserError(f'{key} is {value}: it must be 0 or more')


def _flat(tree: dict, prefix: str = '') -> dict:
    out = {}
    for key, value in tree.items():
        out.update(_flat(value, f'{prefix}{key}.') if isinstance(value, dict) and value else {prefix + key: value})
    return out
