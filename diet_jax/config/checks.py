"""What a user can get wrong in a config, found before the log is opened and before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

from ml_collections import ConfigDict

from diet_jax.base.errors import UserError, closest
from diet_jax.base.loading import absolute
from diet_jax.base.plain import plain
from diet_jax.config.data import DATA
from diet_jax.config.defaults import KEYS, default_config
from diet_jax.config.keys import Section, flat

PATHS = (('data', 'root'), ('evaluate', 'full_cache'), ('trends', 'pool'))
BEFORE = {'reference.optimizer': 'lazy_adam'}  # what was done before there was a key, where that is not its default
RUN: Section = {name: section for name, section in KEYS.items() if name != 'data'}  # `data` has checks of its own


def check_config(config: ConfigDict, devices: int) -> None:
    """Checks all but the data section, which `diet_jax.data` checks.

    Raises:
      UserError: a key that does not exist or is missing, a number out of range, settings that do not go together.
    """
    if not isinstance(config, ConfigDict):
        raise UserError(f'the config is a {type(config).__name__}: get_config() must return a ConfigDict')
    _check_keys(config, default_config(), 'config')
    values = _flat(plain({name: section for name, section in config.items() if name != 'data'}))
    for name, key in flat(RUN):
        key.check(name, values[name])
    for key in DATA:
        if key not in config.data:
            raise UserError(f"config.data has no '{key}': begin with default_data() or simulated_data()")
    if not config.memory.row_budget:
        raise UserError('memory.row_budget is 0: it is a share of the rows, 0.01 for 1 %')
    if 0 < config.history.keep < 3:
        raise UserError(
            f'history.keep is {config.history.keep}: `compare` asks the memory of two stages before the last, so 3 is '
            'the least; 0 keeps all'
        )
    epochs = tuple(config.evaluate.epochs)
    if epochs != tuple(sorted(set(epochs))):
        raise UserError(f'evaluate.epochs {epochs} do not increase: write {tuple(sorted(set(epochs)))}')
    _check_roles(config)
    if config.reference.batch % devices:
        raise UserError(f'reference.batch {config.reference.batch} is not a multiple of the {devices} devices')
    if isinstance(config.data.numeric, ConfigDict):
        for column, bins in config.data.numeric.items():
            if isinstance(bins, int) and 0 < config.codebook.codes < bins + 2:
                raise UserError(
                    f"data.numeric['{column}'] has {bins} bins and codebook.codes is {config.codebook.codes}: every "
                    f'bin needs a code, and so do missing and unseen: set codebook.codes to {bins + 2} or more, or to 0'
                )


def _check_roles(config: ConfigDict) -> None:
    fields = [*config.data.fields, *config.data.numeric, *config.data.time_fields]
    for role, field in config.roles.items():
        if field and field not in fields:
            raise UserError(
                f"roles.{role} is '{field}', which is no field of the log{closest(field, fields)}: name one of "
                f"data.fields, or '' where the log has no {role}"
            )


def check_same_config(config: ConfigDict, begun_with, path: Path) -> None:
    """Raises UserError if the config that a memory was begun with, as `path` has it, differs where it must not."""
    if not isinstance(begun_with, dict):
        raise UserError(f'{path} is missing, or holds no config: restore it from a copy, or use another --workdir')
    old = _flat(begun_with)
    new, usual = (_flat(json.loads(json.dumps(plain(c)))) for c in (config, default_config()))
    free = {name for name, key in flat(KEYS) if key.free}
    twins = [twin for twin in new['twins.models'] if isinstance(twin, dict)]
    dropped = {field for twin in twins for field in twin.get('drop', ())}
    free |= {f'roles.{role}' for role in config.roles if role not in dropped}  # no twin depends on them
    for key in sorted(old.keys() | new.keys()):
        was = old.get(key, BEFORE.get(key, usual.get(key)))  # a key that is newer than the memory had its default
        if key == 'data.time.utc_offset_hours' and not (was or new.get(key)):
            continue  # the default of before was 0, and is what the blocks say
        if was != new.get(key) and key not in free:
            raise UserError(
                f'{path}: {key} was {was!r} when this memory was begun and is {new.get(key)!r} now: '
                'use another --workdir, or the old value'
            )


def completed(old: dict) -> dict:
    """The config of a run as its config.json has it, with the keys of the library that are newer than the run."""
    found = {}
    for name, section in default_config().to_dict().items():
        before = {key.partition('.')[2]: was for key, was in BEFORE.items() if key.startswith(f'{name}.')}
        found[name] = (
            section | before | dict(old.get(name, {})) if isinstance(section, dict) else old.get(name, section)
        )
    return {**old, **found, 'data': old['data']}


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
        elif isinstance(config[key], ConfigDict):
            raise UserError(f'{where}.{key} is a section: it must be one value, as {default!r}')


def remembered(config: ConfigDict) -> dict:
    """A run's config as it is kept in its folder, plain: paths are absolute, for it may be read from another folder."""
    kept = plain(config)
    for section, key in PATHS:
        kept[section][key] = absolute(kept[section][key])
    return kept


def _flat(tree: dict, prefix: str = '') -> dict:
    out = {}
    for key, value in tree.items():
        out.update(_flat(value, f'{prefix}{key}.') if isinstance(value, dict) and value else {prefix + key: value})
    return out
