"""Twins: which are taken, how they are kept, and that they touch nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from diet_jax.base.errors import UserError
from diet_jax.config.checks import check_config
from diet_jax.models.twins import left_out, tracks_of, twins_of
from diet_jax.run import twin_files
from diet_jax.run.record import read_metrics
from diet_jax.stats import metrics
from diet_jax.study import evaluate
from diet_jax.study.twin_scores import twin_predictions
from diet_jax.training.passes import stream_pass
from diet_jax.trials.log import read_blocks

FIELDS = ['user', 'item', 'tab', 'price', 'hour']


def test_a_twin_whose_role_the_log_does_not_have_is_left_out():
    config = tiny.get_config()
    config.twins.models = (
        dict(name='lr', model='lr', learning_rate=0.01),
        dict(name='blind', model='fm', drop=('user',), learning_rate=0.01),
        dict(name='without-tab', model='fm', drop=('tab',), learning_rate=0.01),
    )
    assert [twin.name for twin in twins_of(config, FIELDS)] == ['deepfm', 'lr', 'without-tab']
    assert left_out(config) == {'blind': 'user'}
    config.roles.user = 'user'
    assert [twin.name for twin in twins_of(config, FIELDS)] == ['deepfm', 'lr', 'blind', 'without-tab']
    assert twins_of(config, FIELDS)[2].candidate.config['drop'] == ['user'] and left_out(config) == {}


@pytest.mark.parametrize(
    'models, words',
    [
        ((dict(model='lr'),), 'a twin is dict.model=, learning_rate=, ...'),
        (
            (dict(model='lr', learning_rate=0.1), dict(model='lr', learning_rate=0.2)),
            "'lr' is a name that another one has",
        ),
        ((dict(model='deepfm', learning_rate=0.1),), "'deepfm' is a name that another one has"),
        ((dict(model='fm', learning_rate=0.1, optimizer='adma'),), "no optimizer is named 'adma'"),
        ((dict(model='fm', learning_rate=0.1, drop=('usr',)),), "drops 'usr', which is no field of the log"),
    ],
)
def test_what_is_no_twin_is_refused(models, words):
    config = tiny.get_config()
    config.twins.models = models
    with pytest.raises(UserError, match=words):
        twins_of(config, FIELDS)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A finished tiny run that keeps the twins of its last two stages, and the memories of three."""
    config = tiny.get_config()
    config.twins.keep, config.history.keep = 2, 3
    return tiny.distill(tmp_path_factory.mktemp('twins') / 'run', config)


def test_kept_twins_predict_as_they_did(run):
    assert sorted(p.name for p in (run.workdir / 'twins').iterdir()) == ['00003.npz', '00004.npz']
    log = read_blocks(run.stream, run.config.evaluate.batch, run.slots)
    ids = log.rows(3)
    kept = twin_files.logits(run.workdir / 'twins' / '00004.npz', run.beside, ids)
    params = [run.state.reference.params, *(state.params for state in run.state.twins)]
    for twin, own, logits in zip(run.beside, params, kept, strict=True):
        np.testing.assert_allclose(twin.candidate.model.apply(own, ids), logits, rtol=1e-4, atol=1e-5)
    assert twin_files.logits(run.workdir / 'twins' / '00001.npz', run.beside, ids) is None
    with pytest.raises(UserError, match='00004.npz holds deepfm, lr, the config asks for lr, or for others'):
        twin_files.logits(run.workdir / 'twins' / '00004.npz', run.twins, ids)


def test_memories_of_earlier_stages_go_and_the_others_are_evaluated(run, distilled):
    kept = sorted(p.name for p in (run.workdir / 'history').iterdir())
    assert kept == ['00002', '00003', '00004']
    for name in kept:
        assert tiny.contents(run.workdir / 'history' / name) == tiny.contents(distilled / 'history' / name)
    config, said = tiny.get_config(), []
    config.history.keep, config.evaluate.candidates = 3, ('lr',)
    found = evaluate.evaluate(config, run, emit=said.append)
    assert [stage['stage'] for stage in found['stages']] == [2]
    assert said[0] == 'evaluated from stage 2 on: history.keep is 3'


def test_so_few_memories_that_compare_has_none_are_refused():
    config = tiny.get_config()
    config.history.keep = 2
    with pytest.raises(UserError, match='history.keep is 2: `compare` asks .* so 3 is the least; 0 keeps all'):
        check_config(config, 1)


def test_a_twin_is_trained_as_any_model_on_the_log_and_scored_before(run):
    state = run.initial().twins[0]
    lines = read_metrics(run.workdir)
    for t in range(2):
        _, block = run.block(t)
        one = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[0]), block)
        state, logits = stream_pass(run.twins[0].candidate.model, state, one, run.twins[0].lr)
        label = np.asarray(one.label)[np.asarray(one.weight) > 0]
        auc = metrics.auc(np.asarray(logits)[np.asarray(one.weight) > 0], label)
        assert lines[t]['twins'].keys() == {'lr'} and lines[t]['twins']['lr']['auc'] == pytest.approx(auc, abs=1e-5)


def test_twins_do_not_touch_the_memory(run, tmp_path):
    config = tiny.get_config()
    config.twins.models = ()
    alone = tiny.distill(tmp_path / 'alone', config)
    for stage in ('00002', '00004'):
        name = f'history/{stage}/rows.parquet'
        assert (alone.workdir / name).read_bytes() == (run.workdir / name).read_bytes()
    assert read_metrics(alone.workdir)[0]['twins'] == {}


@pytest.fixture(scope='module')
def at_two_rates(tmp_path_factory):
    """A run whose twins learn at eight times their rates too; one is blind to the user, so codes are clusters of it."""
    config = tiny.get_config()
    config.roles.user = 'user'
    config.twins.models = (*config.twins.models, dict(name='blind', model='fm', drop=('user',), learning_rate=1e-3))
    config.twins.other_rates = (8.0,)
    return tiny.distill(tmp_path_factory.mktemp('rates') / 'run', config)


def test_other_rates_touch_nothing_but_what_is_known(at_two_rates, tmp_path):
    config = at_two_rates.source_config.copy_and_resolve_references()
    config.twins.other_rates = ()
    alone = tiny.distill(tmp_path / 'alone', config)
    assert [(twin.name, twin.lr) for twin in at_two_rates.beside[3:]] == [
        ('deepfm x8', 8e-3),
        ('lr x8', 8e-2),
        ('blind x8', 8e-3),
    ]
    for name in ('rows.parquet', 'codebook/user.parquet', 'codebook/item.parquet'):
        ours, theirs = (one.workdir / 'history' / '00004' / name for one in (at_two_rates, alone))
        assert ours.read_bytes() == theirs.read_bytes(), name
    lines, usual = (read_metrics(one.workdir)[-1]['twins'] for one in (at_two_rates, alone))
    assert lines.keys() == {'lr', 'blind', 'deepfm x8', 'lr x8', 'blind x8'}
    assert {name: lines[name] for name in usual} == usual and lines['lr x8'] != lines['lr']


def test_known_is_the_rate_that_was_best_on_the_block_that_rates_are_chosen_on(at_two_rates):
    run, t = at_two_rates, 2
    log = read_blocks(run.stream, run.config.evaluate.batch, run.slots)
    found = twin_predictions(run.config, run.stream, log, t, [run.workdir / 'history' / f'{t:05d}'])
    path = run.workdir / 'twins' / f'{t:05d}.npz'
    ids = [log.ids(block, log.num_slots[t - 1]) for block in (t, t + 1)]
    chosen, scored = (twin_files.logits(path, run.beside, each)[:, : tiny.ROWS] for each in ids)
    aucs = np.array([metrics.auc(x, log.labels[t]) for x in chosen]).reshape(2, 3)
    assert list(found) == ['deepfm', 'lr', 'blind'] and (aucs[0] != aucs[1]).all()
    for i, predicted in enumerate(found.values()):
        np.testing.assert_array_equal(predicted.logits, scored[[3 * aucs[:, i].argmax() + i]])
        assert predicted.times == [(1.0, 8.0)[aucs[:, i].argmax()]]


def test_a_rate_that_is_there_twice_is_refused():
    for rates in ((4.0, 4.0), (1.0,)):
        config = tiny.get_config()
        config.twins.other_rates = rates
        with pytest.raises(UserError, match='every rate once, and 1, the usual one, is trained anyway'):
            tracks_of(config, FIELDS)
