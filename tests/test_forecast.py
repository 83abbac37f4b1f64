"""What compiling will cost is said beforehand; logs of like size share programs, and padding changes nothing."""

import jax
import numpy as np
import pytest
import tiny
from core import CAPACITY, FIELDS, assert_same, clicks

from diet_jax.data.stream import open_stream
from diet_jax.device.forecast import STAGE, Forecast, Kind, key_of
from diet_jax.device.programs import Spent, rounded, spent
from diet_jax.models import candidates
from diet_jax.run import twin_files
from diet_jax.run.run import Run
from diet_jax.stats import scores
from diet_jax.trials.log import read_blocks
from diet_jax.trials.rows import padded
from diet_jax.trials.students import call_size, laid_out, train_grid

SMALL = Kind('small', programs=2, seconds=5.0, loading=1.0)


@pytest.fixture
def cache(tmp_path):
    """A folder of compiled programs of this test's own."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update('jax_compilation_cache_dir', str(tmp_path / 'xla'))
    (tmp_path / 'xla').mkdir()
    yield tmp_path / 'xla'
    jax.config.update('jax_compilation_cache_dir', before)


def test_what_is_new_is_foretold_by_what_earlier_programs_took(cache):
    first = Forecast({'a': SMALL, 'b': SMALL, 'c': STAGE})
    assert (first.new, first.compiling, first.loading) == (['a', 'b', 'c'], 10.0 + STAGE.seconds, 0.0)
    assert first.before() == f'compiling 5 programs, about 28 s on this machine; kept in {cache} for logs of like size'
    first.note('a', Spent(2.0, 2.0))
    first.note('a', Spent(60.0, 60.0))  # shapes changed: the first counts
    first.note('b', Spent(4.0, 4.0))
    assert first.after() == 'compiling took 66 s, 28 s were foretold'
    second = Forecast({'a': SMALL, 'd': SMALL})
    assert (second.new, second.compiling, second.loading, second.seconds) == (['d'], 3.0, 1.0, 4.0)
    second.note('a', Spent(0.5, 0.5))
    second.note('d', Spent(3.5, 3.5))
    third = Forecast({'a': SMALL, 'd': SMALL})
    assert (third.before(), third.after(), third.loading) == ('', '', 2.0)
    assert len(list((cache / 'seconds').glob('*.json'))) == 3


def test_programs_that_were_there_after_all_are_no_measure(cache):
    """As after a change of the code that changes no program: they are loaded, which takes less."""
    forecast = Forecast({'a': SMALL})
    forecast.note('a', Spent(1.0, 0.1))
    assert forecast.after() == 'most programs were there: loading them took 1 s'
    assert Forecast({'a': SMALL}).new == [] and Forecast({'b': SMALL}).compiling == 5.0


def test_where_nothing_is_kept_nothing_is_said_and_a_folder_that_is_only_read_stops_nobody(tmp_path, cache):
    (cache / 'seconds').write_text('no folder')
    forecast = Forecast({'a': SMALL})
    forecast.note('a', Spent(2.0, 2.0))
    assert forecast.before().startswith('compiling 2 programs')
    jax.config.update('jax_compilation_cache_dir', None)
    forecast = Forecast({'a': SMALL})
    forecast.note('a', Spent(2.0, 2.0))
    assert (forecast.before(), forecast.after(), forecast.seconds) == ('', '', 5.0)


def test_logs_of_like_size_have_the_same_stage_whatever_their_rows_seed_and_names(tmp_path):
    def program(name, **simulated):
        config = tiny.get_config()
        config.data.simulated.update({'rows_per_block': 2400, **simulated})
        run = Run(config, tmp_path / name, lambda line: None, jax.devices()[:1])
        return key_of(STAGE, run.program()), run.steps

    like, steps = program('one')
    assert steps == 40 == rounded(38)
    assert program('another', seed=3)[0] == like == program('fewer', rows_per_block=2330)[0]
    assert program('half', rows_per_block=1200)[0] != like


def test_how_far_student_data_is_padded_changes_no_student():
    ids, label, _ = clicks(90, seed=1)
    fm = candidates.candidate('fm', 3, [str(i) for i in range(FIELDS)])
    for lazy in (False, True):
        trained = [
            train_grid(
                fm,
                padded(ids, label, np.ones(90), capacity),
                CAPACITY,
                batch=16,
                epochs=(2,),
                lrs=(0.01,),
                seeds=(0, 1),
                lazy=lazy,
            )
            for capacity in (96, 160)
        ]
        assert_same(*(students.params for students in trained))
    since = spent()
    whole = trained[0].logits(laid_out(ids), 0, 0)
    assert call_size(90) == 128 and whole.shape == (2, 128)
    np.testing.assert_array_equal(whole[:, :64], trained[0].logits(laid_out(ids[:64]), 0, 0))
    assert spent(since).seconds > 0, 'predicting is compiled, and counted'


def test_twins_of_logs_with_other_slots_predict_with_one_program(distilled, tmp_path):
    config = tiny.get_config()
    run, programs = tiny.opened(distilled), set()
    log = read_blocks(open_stream(config.data, tmp_path, lambda line: None), 64, 512)
    params = [run.state.reference.params, *(state.params for state in run.state.twins)]
    found = []
    for slots in (100, 120):
        twin_files.write(tmp_path / f'{slots}.npz', run.beside, params, slots)
        ids = np.minimum(log.ids(3, 60), 59)
        found.append(twin_files.logits(tmp_path / f'{slots}.npz', run.beside, ids))
        programs.add(twin_files._predict(run.beside[0].candidate.model)._cache_size())
    np.testing.assert_array_equal(*found)
    assert programs == {1}


def test_it_is_said_where_the_log_is_quicker():
    said = scores.quicker_on_the_log('Distilling', 60.0, 40.0, 51.0)
    assert said.endswith('about 51 s. Train on the log.') and 'about 60 s, 40 s of them compiling' in said
    assert scores.quicker_on_the_log('Distilling', 50.0, 40.0, 51.0) == ''


def test_distilling_says_both_and_the_twins_that_the_log_cannot_have(tmp_path, cache):
    config, said = tiny.get_config(), []
    config.twins.models = (*config.twins.models, dict(model='fm', drop=('user',), learning_rate=0.01))
    tiny.distill(tmp_path / 'run', config, said.append)
    assert 'twins left out: fm (drops the user, and roles.user names no field)' in said
    [before] = [line for line in said if line.startswith('compiling 1 program, about 18 s on this machine')]
    quicker = [line.startswith('Distilling will take about') and line.endswith('Train on the log.') for line in said]
    assert said.index(before) < quicker.index(True) < [line.startswith('distilling: ') for line in said].index(True)
