"""scripts/compare.py: from a memory to odds, and what a user can get wrong."""

import json
import shutil

import numpy as np
import pytest
import tiny
from sklearn.metrics import roc_auc_score

from diet_jax import report
from diet_jax.base.atomic import write_json
from diet_jax.base.errors import UserError
from diet_jax.device import forecast
from diet_jax.report.compare import notes, tables
from diet_jax.report.page import DASH
from diet_jax.study import compare, foretold

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
    path.write_text(POOL)
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


def test_a_run_older_than_the_choice_of_an_optimiser_is_refused_in_one_line(run, pool, tmp_path):
    """Its models were trained lazily, whatever the default is now: its twins are others than those asked for."""
    workdir = shutil.copytree(run.workdir, tmp_path / 'run')
    config = json.loads((workdir / 'config.json').read_text())
    del config['reference']['optimizer'], config['evaluate']['by_ids']
    write_json(workdir / 'config.json', config)
    with pytest.raises(UserError, match='or for others of these names: distill again in another --workdir'):
        compare.compare([workdir / 'memory'], pool, emit=lambda line: None)


def test_a_log_that_is_quicker_trained_on_says_so_first(run, pool, answered, tmp_path, monkeypatch):
    """With both numbers, before any candidate is read; of an answer that is kept there is nothing to say."""
    monkeypatch.setattr(foretold, 'SCORED', 0.1)  # half of this log is scored, elsewhere a tenth of one
    monkeypatch.setattr(forecast, '_folder', lambda: None)  # no program is there
    clock = run.workdir / 'overhead.json'
    for seconds, where, said in ((0.001, tmp_path / 'a', True), (100.0, tmp_path / 'b', False), (0.001, None, False)):
        lines = []
        clock.write_text(json.dumps({'reference_seconds': seconds, 'distill_seconds': 1.0}))
        compare.compare([run.workdir / 'memory'], pool, workdir=where, emit=lines.append)
        found = [i for i, line in enumerate(lines) if line.endswith('Train on the log.')]
        assert len(found) == said
        if said:
            line = lines[found[0]]
            assert 'This answer will take about 26 s, 26 s of them compiling' in line and 'take about 0 s' in line
            assert lines[found[0] + 1].startswith('comparing: ')
    clock.unlink()


def test_twins_that_the_log_cannot_have_are_named_before_and_after(run, pool, answered, tmp_path):
    workdir, lines = shutil.copytree(run.workdir, tmp_path / 'run'), []
    config = json.loads((workdir / 'config.json').read_text())
    blind = {'model': 'fm', 'name': 'blind', 'drop': ['creator'], 'learning_rate': 0.01}
    config['twins']['models'].append(blind)
    write_json(workdir / 'config.json', config)
    result = compare.compare([workdir / 'memory'], pool, emit=lines.append)
    said = 'twins left out: blind (drops the creator, and roles.creator names no field)'
    assert said in lines and said in notes(result) and result['twins_left_out'] == {'blind': 'creator'}
    assert answered[0]['twins_left_out'] == {} and not any('left out' in line for line in notes(answered[0]))


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
    write_json(path, {**json.loads(path.read_text()), 'roles': {}})
    with pytest.raises(UserError, match=r"--memory: the runs of .* and .* differ in 'roles': only seeds may differ"):
        compare.compare(both, pool, emit=lambda line: None)


def test_table_and_page(answered, tmp_path):
    text = report.compare_table(answered[0])
    assert 'P(best)' in text and '* its score on the log is known' in text and 'with probability' in text
    for c in answered[0]['candidates']:
        assert (f'{c["name"]} {c["known_auc"] or 0:.4f}' in ' '.join(text.split())) == (c['known_auc'] is not None)
    (_, header, rows, _), *_ = tables(answered[0])
    first, second = answered[0]['candidates'][:2]
    by_name = {row[0].removesuffix(' *'): row[header.index(f'beats {first["name"]}')] for row in rows}
    assert by_name[second['name']] == f'{answered[0]["beats"][1][0]:.2f}' and by_name[first['name']] == DASH
    page = (tmp_path / 'report.html', report.write_compare(tmp_path, answered[0], 'python compare'))[0].read_text()
    assert 'Which idea wins on the full log?' in page and '<svg' in page
    assert answered[0]['distilling'] == '' or answered[0]['distilling'] in page


def test_the_rates_of_twins_are_said_where_they_are_not_the_usual_ones(answered):
    result = answered[0]
    assert result['twin_rates'] == {'deepfm': [1.0], 'lr': [1.0]} and result['reference_rate'] == 1.0
    assert ' times its rate' not in report.compare_table(result) and not any(
        'reference.rate' in x for x in notes(result)
    )
    fast = {**result, 'twin_rates': {'deepfm': [4.0, 4.0], 'lr': [4.0, 1.0]}, 'reference_rate': 2.0}
    text = ' '.join(report.compare_table(fast).split())
    assert '(at 4 times its rate)' in text and '(at 1 and 4 times its rate)' in text
    assert any('distill with --config.reference.rate=6.5 in another --workdir' in line for line in notes(fast))
    half = {**fast, 'twin_rates': {'deepfm': [4.0], 'lr': [1.0]}}
    assert not any('reference.rate' in line for line in notes(half))


def test_a_margin_splits_the_odds_in_three(run, pool, answered, tmp_path):
    result = compare.compare([run.workdir / 'memory'], pool, margin=0.002, emit=lambda line: None)
    better, within = (np.array(result['odds'][name]) for name in ('better', 'within'))
    np.testing.assert_allclose(better + within + better.T, 1)
    assert (result['margin'], answered[0]['margin']) == (0.002, 0.0) and result['beats'] == answered[0]['beats']
    assert answered[0]['odds']['better'] == answered[0]['beats']
    names = [c['name'] for c in result['candidates']][:3]
    first = int(np.argmax([c['expected_auc'] for c in result['candidates'][:3]]))
    told = [name for i, name in enumerate(names) if i != first and better[first, i] < 0.9]
    assert result['leader'] == {'name': names[first], 'not_told_from': told, 'sure': 0.9}
    text = ' '.join(report.compare_table(result).split())
    page = (tmp_path / 'report.html', report.write_compare(tmp_path, result, 'python compare'))[0].read_text()
    for i in set(range(3)) - {first}:
        odds = better[first, i], within[first, i], better[i, first]  # i is worse, within, better
        assert ' '.join([names[i], *(f'{p:.2f}' for p in odds)]) in text
        assert f'<td>{names[i]}</td>' + ''.join(f'<td>{p:.2f}</td>' for p in odds) in page
    assert 'by more than 0.002 AUC with probability' in text and 'within 0.002 of it with' in text
    assert 'better than that of the column by more than 0.002 AUC on the full log' in page


def test_without_a_margin_nothing_is_said_of_one(answered, tmp_path):
    text = report.compare_table(answered[0])
    page = (tmp_path / 'report.html', report.write_compare(tmp_path, answered[0], 'python compare'))[0].read_text()
    assert 'by more than' not in text + page and 'better than' not in text + page and 'may be as good' not in text


@pytest.mark.parametrize('told, words', [([], 'Every other'), (['fm'], 'fm may be as good;'), (['fm', 'lr'], 'All')])
def test_who_may_be_as_good_is_said(answered, told, words):
    leader = {'name': 'small', 'not_told_from': told, 'sure': 0.9}
    lines = notes({**answered[0], 'margin': 0.001, 'leader': leader})
    [line] = [line for line in lines if 'worse than small by more than 0.001 AUC with probability 0.9 or more' in line]
    assert line.startswith(words)


def test_rules_are_held_against_the_answer(run, pool, answered, tmp_path):
    """Names of the file and of twins; what is found agrees with the odds; lines and page say it."""
    texts = [
        'fm worse than small by 0.002 with probability 0.0001',
        '"small" better than fm with probability 0.9999',
        'fm worse than deepfm with probability 0.5',  # a twin that is no candidate of the file
    ]
    result = compare.compare([run.workdir / 'memory'], pool, margin=0.002, fail_if=texts, emit=lambda line: None)
    first, second, third = result['rules']
    assert [rule['text'] for rule in result['rules']] == texts and answered[0]['rules'] == []
    assert first['probability'] == pytest.approx(result['odds']['better'][1][0], abs=1e-12) and first['fails']
    assert second['probability'] == pytest.approx(result['beats'][1][0], abs=1e-12) and not second['fails']
    expected = {c['name']: c['expected_auc'] for c in result['candidates']}
    assert third['fails'] == (third['probability'] > 0.5) == (expected['fm'] < expected['deepfm'])
    lines = report.compare_checks(result)
    assert lines[0].startswith('check FAILED: fm is worse than small by more than 0.002 AUC on the full log with')
    assert lines[0].endswith(f'{first["probability"]:.3f}, above 0.0001')
    assert lines[1].startswith('check passed: small is better than fm on the full log with probability')
    assert lines[1].endswith('not above 0.9999')
    page = (tmp_path / 'report.html', report.write_compare(tmp_path, result, 'python compare'))[0].read_text()
    assert f'<td>{texts[0]}</td><td>{first["probability"]:.3f}</td><td>failed</td>' in page
    assert '<h2>Checks</h2>' not in report_of(answered[0], tmp_path)


def report_of(result, folder):
    report.write_compare(folder, result, 'python compare')
    return (folder / 'report.html').read_text()


@pytest.mark.parametrize(
    'rule, words',
    [
        ('fm wors than small with probability 0.9', "is not '<name> worse than <name>"),
        ('fm worse than smal with probability 0.9', "'smal' is none of the candidates .did you mean 'small'"),
        ('fm worse than small with probability 1.5', 'the probability 1.5 must lie between 0 and 1'),
        ('fm worse than small by -1 with probability 0.9', 'the margin -1 is a difference in AUC'),
    ],
)
def test_a_wrong_rule_is_named_before_anything_is_trained(run, pool, tmp_path, rule, words):
    with pytest.raises(UserError, match=words):
        compare.compare(
            [run.workdir / 'memory'], pool, workdir=tmp_path / 'new', fail_if=[rule], emit=lambda line: None
        )
    assert not (tmp_path / 'new').exists()


def test_slices_are_answered_from_predictions_that_are_kept(run, pool, answered, tmp_path, monkeypatch):
    """Nothing is trained; the rows of a slice, and scores on them by scikit-learn, from the files."""
    monkeypatch.setattr(compare.protocol, 'row_reading', None)
    asked = {'slices': ['tab', 'new:item'], 'margin': 0.001, 'workdir': run.workdir / 'compare' / 'mine'}
    result = compare.compare([run.workdir / 'memory'], pool, **asked, emit=lambda line: None)
    assert [c['expected_auc'] for c in result['candidates']] == [c['expected_auc'] for c in answered[0]['candidates']]
    assert answered[0]['slices'] == []
    stream, names = run.stream, [c['name'] for c in result['candidates']]
    block, kept = (
        stream.load(3),
        [np.load(run.workdir / 'compare' / 'mine' / 'predictions' / f'{n}.npy') for n in names],
    )
    assert {x.shape for x in kept} == {(4, tiny.ROWS)} and kept[0].dtype == np.float16, 'codes and ids, two seeds each'
    tabs, new = result['slices']
    assert (tabs['slices'], tabs['name'], new['name']) == ('tab', 'tab', 'new item')
    tab = np.array(stream.values(block.ids[:, 2]).to_pylist())
    unseen = block.ids[:, 1] >= stream.blocks[1].num_slots
    masks = [*((value, tab == int(value['value'])) for value in tabs['values']), *zip(new['values'], (unseen, ~unseen))]
    for value, rows in masks:
        label = block.label[rows]
        assert (value['rows'], value['clicks']) == (rows.sum(), label.sum())
        for logits, found in zip(kept, value['candidates'], strict=True):
            if 0 < label.mean() < 1:
                assert found['auc'] == pytest.approx(np.mean([roc_auc_score(label, z[rows]) for z in logits[:2]]))
    leader = max(result['candidates'][:3], key=lambda c: c['expected_auc'])['name']
    text = report.compare_table(result)
    assert f'By tab, rows of block {tiny.DAYS[3]}: {leader}, which has the highest expected AUC' in text
    page = report_of(result, tmp_path)
    assert '<h2>By slice</h2>' in page and 'new item: every candidate on the memory' in page
    assert '<h2>By slice</h2>' not in report_of(answered[0], tmp_path) and 'nan' not in text


@pytest.mark.parametrize(
    'word, words',
    [('tabb', "'tabb' names no field and no role .did you mean 'tab'"), ('new:tabb', "'new:tabb' names no field")],
)
def test_a_wrong_slice_is_named_before_anything_is_trained(run, pool, tmp_path, word, words):
    with pytest.raises(UserError, match=f'--slices: {words}'):
        compare.compare(
            [run.workdir / 'memory'], pool, workdir=tmp_path / 'new', slices=['item', word], emit=lambda line: None
        )
    assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize('margin', [-0.001, 1.0, float('nan'), True, '0.001'])
def test_a_margin_that_is_none_is_refused_before_anything_is_done(run, pool, tmp_path, margin):
    with pytest.raises(UserError, match=f'--margin={margin}: a difference in AUC, from 0 to below 1'):
        compare.compare([run.workdir / 'memory'], pool, workdir=tmp_path / 'new', margin=margin, emit=lambda line: None)
    assert not (tmp_path / 'new').exists()


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
    (other := tmp_path / 'train.py').write_text('def fit():\n    pass\n')
    with pytest.raises(UserError, match=r'train.py has no get_config\(\) and sweep\(add\): configs/candidates'):
        compare.compare([run.workdir / 'memory'], other, emit=lambda line: None)


def test_a_run_whose_twins_are_gone_is_named(run, pool, tmp_path):
    moved = tmp_path / 'run'
    shutil.copytree(run.workdir, moved, ignore=shutil.ignore_patterns('twins', 'compare'))
    with pytest.raises(UserError, match=r'run/twins/00002.npz: not there, and no --anchors are given'):
        compare.compare([moved / 'memory'], pool, emit=lambda line: None)
    said = []
    (tmp_path / 'past.jsonl').write_text('{"name": "small", "auc": 0.8}')
    (moved / 'overhead.json').write_text('{')
    with pytest.raises(UserError, match=r'overhead.json is not valid JSON'):
        compare.compare([moved / 'memory'], pool, tmp_path / 'past.jsonl', emit=said.append)
    (moved / 'overhead.json').write_text('{"distill_seconds": 6.0, "reference_seconds": 2.0}')
    result = compare.compare([moved / 'memory'], pool, tmp_path / 'past.jsonl', emit=said.append)
    assert any('twins/00002.npz: not there, so the anchors alone correct' in line for line in said)
    assert result['twins'] == [] and 'Distilling cost 3.0 passes' in report.compare_table(result)
    config = json.loads((moved / 'config.json').read_text())
    config['evaluate']['seeds'] = 1
    write_json(moved / 'config.json', config)
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


def test_a_model_from_elsewhere_behind_every_twin_is_asked_how_it_begins(answered):
    """What a default initialisation comes to is no idea's score."""
    worst = min(np.mean(c['auc']) for c in answered[0]['candidates'] if c['of_the_library'])
    for auc, said in ((worst - 0.01, True), (worst + 0.001, False)):
        first, *others = answered[0]['candidates']
        candidates = [{**first, 'auc': [[auc]], 'framework': 'pytorch'}, *others]
        lines = notes({**answered[0], 'candidates': candidates})
        assert any('do its embeddings start at N(0, view.init_std)' in line for line in lines) == said
