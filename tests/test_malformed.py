"""Malformed values of every key: a right result or one clear line, before the log is opened. Never anything else."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from diet_jax.base.errors import UserError
from diet_jax.base.plain import plain
from diet_jax.config.checks import RUN, check_config
from diet_jax.config.data import DATA, check_data
from diet_jax.config.defaults import default_config
from diet_jax.config.keys import flat

NUMBERS = st.sampled_from([0, -1, 1, 3, 10**13, -(2**70), 0.5, -0.0, 1e308, float('nan'), float('inf'), True, None])
WORDS = st.sampled_from(['', 'item', 'user', '../x', 'a/b', 'a,b', 'soft_label', '\x00', 'y__code', 'x' * 300])
ONE = st.one_of(NUMBERS, WORDS)
ANY = st.one_of(
    ONE,
    st.lists(ONE, max_size=3),
    st.dictionaries(st.one_of(WORDS, st.integers(0, 3)), st.one_of(ONE, st.lists(ONE, max_size=2)), max_size=2),
    st.lists(st.dictionaries(st.sampled_from(['path', 'key', 'model', 'name', 'drop']), ONE, max_size=3), max_size=2),
)
FILES = dict(
    root='/nowhere',
    log=('day*',),
    fields=('user', 'item'),
    numeric={'price': 4},
    time=dict(column='ts', unit='s'),
    label=dict(column='y'),
)


@contextlib.contextmanager
def one_line():
    try:
        yield
    except UserError as error:
        assert error.args[0] and '\n' not in error.args[0]


def put(section: dict, path: str, value) -> dict:
    *sections, key = path.split('.')
    for name in sections:
        section = section.setdefault(name, {})
    section[key] = value
    return section


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from([name for name, _ in flat(DATA)]), ANY, st.booleans())
def test_any_value_of_any_key_of_the_data(name, value, simulated):
    data = {'source': 'simulated', **FILES} if simulated else dict(FILES)
    data = {key: dict(part) if isinstance(part, dict) else part for key, part in data.items()}
    put(data, name, value)
    with one_line():
        check_data(data)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([name for name, _ in flat(RUN)]), ANY)
def test_any_value_of_any_other_key(name, value):
    whole = plain(default_config())
    whole['data'] = {**whole['data'], **FILES}
    put(whole, name, value)
    try:
        config = ConfigDict(whole)
    except (ValueError, TypeError):  # names that a ConfigDict itself refuses
        return
    with one_line():
        check_config(config, 1)


@pytest.mark.parametrize(
    ('name', 'value', 'words'),
    [
        ('memory.row_budget', float('nan'), 'memory.row_budget is nan: it must be in [0, 1]'),
        ('reference.dim', 1.5, 'reference.dim is 1.5: it must be a whole number'),
        ('reference.model', 3, 'reference.model is 3: it must be a string'),
        ('refine.remat', 1, 'refine.remat is 1: it must be True or False'),
        ('evaluate.epochs', [1.5], 'evaluate.epochs holds 1.5: it may hold a whole number'),
        ('evaluate.candidates', [3], 'evaluate.candidates holds 3: it may hold a string or a dict'),
        ('trends.only', 'lr', "trends.only is 'lr': it must be a tuple; write ('lr',)"),
        ('seed', 10**30, 'seed is 1000000000000000000000000000000: it must be a whole number'),
    ],
)
def test_what_is_wrong_with_a_value_is_said(name, value, words):
    whole = plain(default_config())
    whole['data'] = {**whole['data'], **FILES}
    put(whole, name, value)
    with pytest.raises(UserError) as error:
        check_config(ConfigDict(whole), 1)
    assert words in str(error.value)
