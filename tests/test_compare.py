"""scripts/compare.py: from a memory to odds, and what a user can get wrong."""

import json
import shutil

import numpy as np
import pytest
import tiny

from diet_jax import report
from diet_jax.base.errors import UserError
from diet_jax.study import compare

POOL = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict(dict(dim=4))

def sweep(add):
    add('fm', model='fm')
    add('small', model='deepfm', hidden=(4,))
    add('lr', model='lr')
"""


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return tiny.distill(tmp_path_factory.mktemp('compare') / 'run')


@pytest.fixture(scope='module')
def pool(tmp_path_factory):
    path = tmp_path_factory.mktemp('pool') / 'mine.py'
    path.write_text(POOL.replace("'lr', model='lr'", "'lr', model='lr', dim=1"))
    return path


@pytest.fixture(scope='module')
def answered(run, pool):
    lines = []
    result = compare.compare([run.workdir / 'memory'], pool, command='python compare', emit=lines.append)
    return result, lines


def test_a_memory_is_asked_about_blocks_that_it_has_not_seen(run, answered):
    result, lines = answered
    assert (result['stage'], result['tuned_on'], result['scored_on']) == (2, tiny.DAYS[2], tiny.DAYS[3])
    assert any(f'the memory of stage 2, up to {tiny.DAYS[1]}, answers' in line for line in lines)
    assert result['memories'][0].endswith('history/00002') and result['full_pass_rows'] == 2 * tiny.ROWS


def test_the_answer(run, answered):
    result, _ = answered
    names = [c['name'] for c in result['candidates']]
    assert names == ['fm', 'small', 'lr', 'deepfm'] and result['twins'] == ['deepfm', 'lr']
    known = {c['name'] for c in result['candidates'] if c['known_auc'] is not None}
    assert known == {'lr', 'deepfm'} and [c['of_the_library'] for c in result['candidates']] == [False] * 3 + [True]
    assert sum(c['best'] for c in result['candidates'] if 'best' in c) == pytest.approx(1)
    odds = np.array(result['beats'])
    assert odds.shape == (3, 3) and np.allclose(odds + odds.T, 1)
    for c in result['candidates']:
        assert c['interval'][0] < c['expected_auc'] < c['interval'][1] and c['row_visits'] > 0
    kept = json.loads((run.workdir / 'compare' / 'mine' / 'compare.json').read_text())
    assert kept['candidates'][0]['expected_auc'] == result['candidates'][0]['expected_auc']


def test_it_goes_on_and_says_the_same(run, pool, answered, monkeypatch):
    monkeypatch.setattr(compare.protocol, 'row_reading', None)  # nothing is trained again
    again = compare.compare([run.workdir / 'memory'], pool, emit=lambda line: None)
    assert [c['expected_auc'] for c in again['candidates']] == [c['expected_auc'] for c in answered[0]['candidates']]


def test_an_anchor_is_believed(run, pool, answered, tmp_path):
    anchors = tmp_path / 'past.jsonl'
    anchors.write_text('{"name": "small", "auc": 0.9}\n\n')
    result = compare.compare([run.workdir / 'memory'], pool, anchors, emit=lambda line: None)
    before, after = ({c['name']: c for c in r['candidates']} for r in (answered[0], result))
    assert after['small']['expected_auc'] > before['small']['expected_auc'] + 0.01
    assert after['small']['known_auc'] == 0.9 and after['small']['gain_of_a_run'] == 0


def test_several_memories_are_averaged(run, pool, answered, tmp_path_factory):
    config = tiny.get_config()
    config.seed = 1
    other = tiny.distill(tmp_path_factory.mktemp('compare') / 'other', config)
    both = [r.workdir / 'memory' for r in (run, other)]
    result = compare.compare(both, pool, emit=lambda line: None)
    assert result['workdir'].endswith('compare/mine-2-memories')  # what one memory said stays as it is
    alone = compare.compare(both[1:], pool, emit=lambda line: None)
    for together, first, second in zip(result['candidates'], answered[0]['candidates'], alone['candidates']):
        chosen = [(c['chosen']['lr'], c['chosen']['epochs']) for c in (together, first, second)]
        passes = [epochs + 1 for _, epochs in chosen]  # and one on ids
        assert np.shape(together['auc']) == (2, 2)
        assert together['row_visits'] * passes[1] == 2 * first['row_visits'] * passes[0]
        if len(set(chosen)) == 1:
            np.testing.assert_allclose(together['auc'], [*first['auc'], *second['auc']], atol=1e-6)
    known = [[c['known_auc'] for c in r['candidates'][2:]] for r in (result, answered[0], alone)]
    np.testing.assert_allclose(known[0], np.mean(known[1:], 0))
    assert 'history/00002, ' in report.compare_table(result).replace('\n', ' ')
    with pytest.raises(UserError, match=r'--memory: distilled with seeds \[0, 0\]: memories are averaged that'):
        compare.compare([both[0], both[0]], pool, emit=lambda line: None)
    path = other.workdir / 'config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'roles': {}}))
    with pytest.raises(UserError, match=r"--memory: the runs of .* and .* differ in 'roles': only seeds may differ"):
        compare.compare(both, pool, emit=lambda line: None)


def test_table_and_page(answered, tmp_path):
    text = report.compare_table(answered[0])
    assert 'P(best)' in text and '* its score on the log is known' in text and 'with probability' in text
    page = (tmp_path / 'report.html', report.write_compare(tmp_path, answered[0], 'python compare'))[0].read_text()
    assert 'Which idea wins on the full log?' in page and 'data:image/png' in page
    assert answered[0]['distilling'] == '' or answered[0]['distilling'] in page


@pytest.mark.parametrize(
    'line, words',
    [
        ('{"name": "smal", "auc": 0.7}', "past.jsonl line 1: 'smal' is none of the candidates .did you mean 'small'"),
        ('{"name": "small"}', 'past.jsonl line 1: .* is not {"name": ..., "auc": ...}'),
        ('{"name": "small", "auc": 71}', "past.jsonl line 1: auc 71.0 of 'small' is not between 0 and 1"),
    ],
)
def test_a_wrong_anchor_is_named(run, pool, tmp_path, line, words):
    anchors = tmp_path / 'past.jsonl'
    anchors.write_text(line + '\n')
    with pytest.raises(UserError, match=words):
        compare.compare([run.workdir / 'memory'], pool, anchors, emit=lambda line: None)


def test_what_is_missing_is_named(run, pool, tmp_path):
    with pytest.raises(UserError, match='manifest.json is missing'):
        compare.compare([tmp_path], pool, emit=lambda line: None)
    with pytest.raises(UserError, match='there is no such file of candidates'):
        compare.compare([run.workdir / 'memory'], tmp_path / 'none.py', emit=lambda line: None)


def test_a_run_whose_twins_are_gone_is_named(run, pool, tmp_path):
    moved = tmp_path / 'run'
    shutil.copytree(run.workdir, moved, ignore=shutil.ignore_patterns('twins', 'compare'))
    with pytest.raises(UserError, match=r'run/twins/00002.npz: not there, and no --anchors are given'):
        compare.compare([moved / 'memory'], pool, emit=lambda line: None)
    said = []
    (tmp_path / 'past.jsonl').write_text('{"name": "small", "auc": 0.8}')
    (moved / 'overhead.json').write_text('{')
    with pytest.raises(UserError, match=r'overhead.json: not valid JSON'):
        compare.compare([moved / 'memory'], pool, tmp_path / 'past.jsonl', emit=said.append)
    (moved / 'overhead.json').write_text('{"distill_seconds": 6.0, "reference_seconds": 2.0}')
    result = compare.compare([moved / 'memory'], pool, tmp_path / 'past.jsonl', emit=said.append)
    assert any('twins/00002.npz: not there, so the anchors alone correct' in line for line in said)
    assert result['twins'] == [] and 'Distilling cost 3.0 passes' in report.compare_table(result)
    config = json.loads((moved / 'config.json').read_text())
    config['evaluate']['seeds'] = 1
    (moved / 'config.json').write_text(json.dumps(config))
    with pytest.raises(UserError, match='evaluate.seeds=1: odds need the spread'):
        compare.compare([moved / 'memory'], pool, emit=said.append)


def test_a_twin_is_known_by_what_it_is_and_not_by_its_name(run, tmp_path):
    other = tmp_path / 'other.py'
    other.write_text(
        POOL.replace("'lr', model='lr'", "'lr', model='fm', dim=2").replace(
            "'small', model='deepfm', hidden=(4,)", "'mine', model='deepfm'"
        )
    )
    result = compare.compare([run.workdir / 'memory'], other, emit=lambda line: None)
    known = {c['name']: c['known_auc'] is not None for c in result['candidates']}
    assert known == {'fm': False, 'mine': True, 'lr': False, 'lr (twin)': True}
