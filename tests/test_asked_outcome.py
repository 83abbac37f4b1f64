"""A log with two outcomes from distilling to the answer: whose labels, twins and kept results are whose."""

import json

import numpy as np
import pytest
import tiny
from ml_collections import ConfigDict
from quirky import ROWS, data_of, days, parquet

from diet_jax.artifact.read import load_memory
from diet_jax.base.errors import UserError
from diet_jax.study import compare, evaluate, trends
from diet_jax.study.distillations import distillations
from diet_jax.study.objective import Objective
from diet_jax.study.rivals import labelled
from diet_jax.trials.log import read_blocks

SEVERAL = dict(model='shared_bottom', hidden=(4,), tower=(2,), outcomes=('y', 'like'))
POOL = {'lr': dict(model='lr'), 'both': SEVERAL}


def config_of(root):
    config = tiny.get_config()
    config.data = data_of(root)
    config.data.label.others = ConfigDict({'like': 'liked'})
    config.reference.learning_rate, config.twins.keep = 0.03, 0
    config.memory.row_budget, config.codebook.codes = 0.2, 8
    config.reference.model, config.refine.models = 'fm', (dict(model='lr'),)  # quick to compile
    config.evaluate.update(label='like', candidates=(SEVERAL,), epochs=(1,), first_stage=2, learning_rates=(1e-2,))
    config.evaluate.student_learning_rates = (1e-2,)
    return config


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Liked is what the city says: far from the click."""
    folder = tmp_path_factory.mktemp('two')
    for d, columns in enumerate(days()):
        parquet(folder / 'log', d, columns | {'liked': [int(city != 'ber') for city in columns['city']]})
    return tiny.distill(folder / 'run', config_of(folder / 'log'))


@pytest.fixture(scope='module')
def answered(run):
    ask = lambda label: compare.compare([run.workdir / 'memory'], POOL, emit=lambda _: None, label=label)  # noqa: E731
    return {label: ask(label) for label in ('', 'like')}


def test_the_answer_is_of_the_outcome_that_is_asked(run, answered):
    assert [answered[label]['label'] for label in answered] == ['y', 'like']
    liked, clicked = (next(c for c in answered[label]['candidates'] if c['name'] == 'lr') for label in ('like', ''))
    assert liked['known_auc'] > 0.8 > clicked['known_auc'], 'the city says who likes, and nothing who clicks'
    assert answered['like']['workdir'] != answered['']['workdir']


def test_kept_results_of_two_outcomes_are_not_mixed(run, answered, tmp_path):
    one = {}
    for label in ('', 'like', ''):
        result = compare.compare([run.workdir / 'memory'], POOL, workdir=tmp_path, emit=lambda _: None, label=label)
        one[label] = [c['auc'] for c in result['candidates']]
        assert one[label] == [c['auc'] for c in answered[label]['candidates']]
    assert one[''] != one['like']


def test_a_study_of_an_outcome_has_its_labels(run, tmp_path):
    config = run.source_config.copy_and_resolve_references()
    config.trends.rivals, config.trends.full_seeds = (), 2
    (tmp_path / 'pool.py').write_text(
        'from ml_collections import ConfigDict\n'
        'get_config = ConfigDict\n'
        f'def sweep(add):\n    add("both", **{SEVERAL!r})\n'
    )
    config.trends.pool = str(tmp_path / 'pool.py')
    study = trends._opened(config, tmp_path, [run.workdir / 'history' / '00002'], lambda _: None)
    labels = load_memory(run.workdir / 'history' / '00002')
    rows = study.distillations[0].memory(2)
    np.testing.assert_allclose(rows.data.target[: len(labels.codes)], labels.of('like').label(), rtol=1e-6)
    both = rows.for_outcomes(('like', 'y')).target[: len(labels.codes)]
    np.testing.assert_allclose(both, np.stack([labels.of('like').label(), labels.label()], -1), rtol=1e-6)
    early = trends._read('early_stop', study.pool.candidates[0], study, None, _visits(60), tmp_path)
    assert np.isfinite(early.logits).all()
    config.trends.rivals = ('cgm_rows',)
    with pytest.raises(UserError, match='cgm_rows, whose labels are of one outcome, and both predicts several'):
        trends._opened(config, tmp_path, [run.workdir / 'history' / '00002'], lambda _: None)


def _visits(rows):
    from diet_jax.study.readings import Reading

    return {'memory': Reading({}, {'frontier': [{'row_visits': rows}]}, None)}


def test_rows_of_a_rival_have_labels_of_every_outcome(run):
    log = read_blocks(run.stream, 64, run.slots, outcome='like')
    (source,) = distillations([run], [2], log)
    own, ours = source.rival('random_rows', 2), source.rival('random_rows_our_labels', 2)
    _, clicks = log.until(2, ('y',))
    of_click = labelled('random', source.seen(2, 'y'), source._chosen['random', 2][1].index)
    size = source.size(2)
    np.testing.assert_array_equal(own.others['y'][:size], clicks[source._chosen['random', 2][1].index])
    np.testing.assert_allclose(ours.by_ids.others['y'][:size], of_click.soft, rtol=1e-5)
    assert np.abs(ours.others['y'][:size] - np.asarray(ours.data.target)[:size]).max() > 0.05


def test_evaluate_takes_candidates_of_several_outcomes(run):
    result = evaluate.evaluate(run.config, run, emit=lambda _: None)
    assert result['data']['label'] == 'like'
    (entry,) = result['stages'][-1]['candidates']
    assert np.mean(entry['full']['auc']) > 0.7 and set(entry['rivals']) == set(evaluate.FLOORS)


def test_a_search_asks_for_an_outcome_too(run):
    ask = Objective([run.workdir / 'memory'], None, lambda _: None, 'like')
    score = ask(SEVERAL)
    assert ask.workdir.name == 'objective-like' and 0 <= score.memory_auc <= 1
    with pytest.raises(UserError, match="no outcome of the log .did you mean 'like'"):
        ask({**SEVERAL, 'outcomes': ('like', 'lik')})
    with pytest.raises(UserError, match='y, and like is asked: --label=y'):
        ask(dict(model='mmoe', outcomes=('y',)))


def test_an_unknown_outcome_is_one_line(run):
    with pytest.raises(UserError, match="no outcome 'lke' .did you mean 'like'.*: it has y, like"):
        compare.compare([run.workdir / 'memory'], POOL, emit=lambda _: None, label='lke')
    assert json.loads((run.workdir / 'memory' / 'manifest.json').read_text())['outcomes'] == ['y', 'like']
    assert len(load_memory(run.workdir / 'memory').of('like').label()) <= 4 * ROWS
