"""`diet_jax.objective`: what a search is told, one config after another."""

import json
import shutil

import numpy as np
import pytest
import tiny
from sklearn.metrics import roc_auc_score

from diet_jax.base.atomic import write_json
from diet_jax.base.errors import UserError
from diet_jax.models.candidates import candidate
from diet_jax.study import compare, objective
from diet_jax.study.objective import Objective
from diet_jax.trials import full_pass

SMALL, WIDE = dict(model='deepfm', hidden=(4,)), dict(model='fm', dim=6, drop=('tab',))


def quiet(line):
    pass


@pytest.fixture(scope='module')
def run(distilled, tmp_path_factory):
    return shutil.copytree(distilled, tmp_path_factory.mktemp('objective') / 'run')


@pytest.fixture(scope='module')
def ask(run):
    return Objective([run / 'memory'], emit=quiet)


def nothing_is_trained(monkeypatch):
    monkeypatch.setattr(compare.protocol, 'row_reading', None)
    monkeypatch.setattr(full_pass, 'passes', None)


def test_it_says_what_compare_says_of_that_candidate(run, ask):
    score = ask(SMALL)
    line = compare.compare([run / 'memory'], {'it': SMALL}, emit=quiet)['candidates'][0]
    assert (score.expected_auc, score.sd) == (line['expected_auc'], line['sd'])
    assert (score.lr, score.memory_auc, score.known_auc) == (line['chosen']['lr'], np.mean(line['auc']), None)
    assert ask.workdir == run / 'objective' and score.seconds > 0


def test_the_answer_does_not_depend_on_what_else_was_asked(ask):
    before = ask(SMALL)
    ask(WIDE)
    assert ask(SMALL) == before


def test_together_they_stand_as_in_compare(run, ask):
    ask(SMALL), ask(WIDE)
    result = compare.compare([run / 'memory'], {'small': SMALL, 'wide': WIDE}, emit=quiet)
    of = {c['name']: c for c in result['candidates'][:2]}
    standing = {len(s.config.get('hidden', ())): s for s in ask.asked}
    for mine, theirs in ((standing[1], of['small']), (standing[0], of['wide'])):
        np.testing.assert_allclose(mine.expected_auc, theirs['expected_auc'])
        np.testing.assert_allclose((mine.sd, mine.gain_of_a_run), (theirs['sd'], theirs['gain_of_a_run']), rtol=1e-6)
    assert sum(s.best for s in ask.asked) == pytest.approx(1)
    assert ask.best() == max(ask.asked, key=lambda s: s.expected_auc) == ask.asked[0]
    assert ask.next_run().gain_of_a_run == max(s.gain_of_a_run for s in ask.asked)
    assert ask.odds(SMALL, WIDE) == pytest.approx(result['beats'][0][1], abs=1e-6)
    assert ask.odds(SMALL, WIDE) + ask.odds(WIDE, SMALL) == pytest.approx(1) and ask.odds(SMALL, SMALL) == 0.5


def test_a_second_process_trains_nothing(run, ask, monkeypatch):
    scores = ask(SMALL), ask(WIDE)
    standing = ask.asked
    nothing_is_trained(monkeypatch)
    again = Objective([run / 'memory'], emit=quiet)
    assert again.asked == standing and (again(SMALL), again(WIDE)) == scores
    assert again({'drop': ['tab'], 'dim': 6, 'model': 'fm'}) == scores[1]  # the same config, written another way
    with pytest.raises(TypeError):
        again(dict(model='fm', dim=5))


def test_another_grid_is_trained_anew(run, ask, tmp_path):
    ask(SMALL)
    other = shutil.copytree(run, tmp_path / 'run')
    path = other / 'config.json'
    write_json(path, json.loads(path.read_text().replace('"student_batch": 16', '"student_batch": 8')))
    assert Objective([other / 'memory'], emit=quiet).asked == []


@pytest.mark.parametrize(
    'config, words',
    [
        (dict(model='deepfn'), "no model is named 'deepfn', did you mean 'deepfm'"),
        (dict(model='deepfm', hiden=(4,)), "has no option 'hiden', did you mean 'hidden'"),
        (dict(model='deepfm', drop=('itm',)), "drops 'itm', which is no field of the log .did you mean 'item'"),
        (dict(model='deepfm', optimizer='adm'), "no optimizer is named 'adm'"),
        (dict(dim=4), 'names no model'),
    ],
)
def test_a_wrong_config_is_named_as_a_pool_names_it_and_nothing_is_written(run, ask, config, words):
    before, standing = tiny.contents(run), ask.asked
    with pytest.raises(UserError, match=words):
        ask(config)
    with pytest.raises(UserError, match=words):
        compare.compare([run / 'memory'], {'it': config}, emit=quiet)
    assert tiny.contents(run) == before and ask.asked == standing


def test_what_is_no_config_is_said(ask):
    with pytest.raises(UserError, match=r"'deepfm' is no candidate: give a dict"):
        ask('deepfm')


def test_a_twin_is_known_by_what_it_is(ask):
    known = ask(dict(model='deepfm')).known_auc
    assert known is not None and known == {t.candidate.name: t.auc for t in ask._log.twins}['deepfm']


def test_a_full_run_confirms_and_is_known_from_then_on(distilled, tmp_path, monkeypatch):
    """Its AUC is that of passes made here, scored by scikit-learn; the next process knows it too."""
    run = shutil.copytree(distilled, tmp_path / 'run')
    ask = Objective([run / 'memory'], emit=quiet)
    before, full = ask(WIDE), ask.confirm(WIDE)
    log, t = ask._whole, ask._log.t
    model = candidate(WIDE, 4, ask._log.fields).model
    assert len(full.auc) == ask._log.config.trends.full_seeds and log.keys[t + 1] == tiny.DAYS[3]
    for seed, auc in enumerate(full.auc):
        logits, _, _ = full_pass.one_pass(model, log, lr=full.lr, seed=seed, boundaries=[t])
        assert auc == pytest.approx(roc_auc_score(log.labels[t + 1], logits[t, t + 1]), abs=1e-6)
    after = ask(WIDE)
    assert after.known_auc == full.mean and abs(after.expected_auc - full.mean) < abs(before.expected_auc - full.mean)
    assert after.sd < before.sd and ask.asked[0].gain_of_a_run == 0
    nothing_is_trained(monkeypatch)
    again = Objective([run / 'memory'], emit=quiet)
    assert again(WIDE) == after and again.confirm(WIDE) == full


def test_what_is_missing_is_said(distilled, tmp_path):
    run = shutil.copytree(distilled, tmp_path / 'run')
    with pytest.raises(UserError, match='objective: nothing was asked yet'):
        Objective([run / 'memory'], emit=quiet).best()
    shutil.rmtree(run / 'twins')
    with pytest.raises(UserError, match=r'twins/00002.npz: not there: without a score on the log there are no odds'):
        objective.Objective([run / 'memory'], emit=quiet)
