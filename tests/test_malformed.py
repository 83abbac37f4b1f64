"""Malformed values of every key: a right result or one clear line, before the log is opened. Never anything else."""

import contextlib

import faults
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from diet_jax.base.errors import UserError
from diet_jax.base.layout import flat as flat_layout
from diet_jax.base.plain import plain
from diet_jax.config.checks import RUN, check_config
from diet_jax.config.data import DATA, check_data
from diet_jax.config.defaults import default_config
from diet_jax.config.keys import flat
from diet_jax.models import names
from diet_jax.models.candidates import candidate
from diet_jax.models.twins import left_out, twins_of
from diet_jax.study.pool import CandidatePool

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


@settings(max_examples=300 * faults.MANY, deadline=None)
@given(st.sampled_from([name for name, _ in flat(DATA)]), ANY, st.booleans())
def test_any_value_of_any_key_of_the_data(name, value, simulated):
    data = {'source': 'simulated', **FILES} if simulated else dict(FILES)
    data = {key: dict(part) if isinstance(part, dict) else part for key, part in data.items()}
    put(data, name, value)
    with one_line():
        check_data(data)


@settings(max_examples=150 * faults.MANY, deadline=None)
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


def test_too_few_codes_for_the_bins_are_said_with_the_number_that_does():
    config = default_config()
    config.data.update({**FILES, 'numeric': ConfigDict({'price': 4})})
    config.codebook.codes = 1
    with pytest.raises(UserError, match='set codebook.codes to 6 or more, or to 0'):
        check_config(config, 1)
    config.codebook.codes = 6
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


OPTIONS = [
    'model',
    'name',
    'dim',
    'hidden',
    'dropout',
    'layers',
    'rank',
    'heads',
    'experts',
    'init_std',
    'drop',
    'keep',
]
OPTIONS += ['optimizer', 'b1', 'eps', 'weight_decay', 'outcomes', 'maps', 'layout', 'learning_rate']


@settings(max_examples=200 * faults.MANY, deadline=None)
@given(st.sampled_from(names()), st.dictionaries(st.sampled_from(OPTIONS), ANY, max_size=2))
def test_any_option_of_any_candidate(model, options):
    with one_line():
        made = candidate({'model': model, **options}, 8, flat_layout('abc'), None, ('click', 'like'))
        assert hash(made.model) is not None and made.inputs()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(drop=3), "drop=3 is no tuple of names: write drop=('user',)"),
        (dict(hidden=(0,)), 'hidden=(0,) is not whole numbers, 1 or more'),
        (dict(dropout=2), 'dropout=2 is no share in [0, 1)'),
        (dict(dim=1.5), 'dim=1.5 is no whole number'),
        (dict(weight_decay=float('nan')), 'weight_decay=nan is not 0 or more'),
        (dict(hidden=lambda: 3), 'is not whole numbers'),
    ],
)
def test_what_is_wrong_with_a_candidate_is_said(options, words):
    with pytest.raises(UserError) as error:
        candidate({'model': 'deepfm', **options}, 8, flat_layout('abc'))
    assert words in str(error.value)


@settings(max_examples=100 * faults.MANY, deadline=None)
@given(st.dictionaries(st.sampled_from(OPTIONS), ANY, max_size=3))
def test_any_pool_and_any_twin(options):
    with one_line():
        CandidatePool({'one': {'model': 'fm', **options}}, {'user': ''}, 8, flat_layout('abc'))
    config = default_config()
    config.twins.models = ({'model': 'fm', 'learning_rate': 1e-3, **options},)
    with one_line():
        twins_of(config, flat_layout('abc'))
        left_out(config)


@pytest.mark.parametrize('odd', [dict(hidden=lambda: 3), dict(drop=3), dict(dim={1: object()}), 3])
def test_a_pool_with_what_no_candidate_can_be_is_one_line(odd):
    with pytest.raises(UserError, match='^[^\\n]+$'):
        CandidatePool({'one': {'model': 'mlp', **odd} if isinstance(odd, dict) else odd}, {}, 8, flat_layout('abc'))


def test_a_number_of_numpy_is_a_number():
    assert plain({'dim': np.int64(4), 'dropout': np.float32(0.5)}) == {'dim': 4, 'dropout': 0.5}
