"""Did an answer hold? The figures by hand, and the command as one types it."""

import json

import pytest

from diet_jax.base.atomic import read_json
from diet_jax.base.errors import UserError
from diet_jax.commands import judge
from diet_jax.stats.held import held
from diet_jax.study import anchors


def candidate(name, expected, half=0.005, **more):
    return {'name': name, 'expected_auc': expected, 'interval': [expected - half, expected + half], **more}


ANSWER = [candidate('a', 0.74), candidate('b', 0.73, framework='pytorch'), candidate('c', 0.72), candidate('d', 0.71)]
FULL = {'a': 0.741, 'b': 0.735, 'c': 0.736, 'd': 0.709, 'of another comparison': 0.5}


def test_figures_by_hand():
    found = held(ANSWER, FULL)
    assert [c['name'] for c in found['candidates']] == ['a', 'c', 'b', 'd']
    assert found['error'] == pytest.approx((0.001 + 0.005 + 0.016 + 0.001) / 4)
    assert found['bias'] == pytest.approx((-0.001 - 0.005 - 0.016 + 0.001) / 4)
    assert found['worst'] == pytest.approx(0.016) and found['covered'] == 0.75
    assert found['pairs'] == 5 and found['ordered'] == 1.0  # b and c, 0.001 apart, are left to chance
    assert held(ANSWER, FULL, apart=0.0)['ordered'] == 5 / 6


def test_what_the_answer_knew_is_no_test_of_it():
    known = [candidate('a', 0.741, known_auc=0.741), *ANSWER[1:]]
    assert [c['name'] for c in held(known, FULL)['candidates']] == ['c', 'b', 'd']
    assert held(known[:1], FULL) == {} and held(ANSWER, {}) == {}


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('{"name": "a"}', 'line 1: .* is not'),
        ('\nnot json', 'line 1: .* is not'),
        ('{"name": "a", "auc": 74.1}', "auc 74.1 of 'a' is not between 0 and 1"),
        ('{"name": "a", "auc": NaN}', "auc nan of 'a' is not between 0 and 1"),
        ('[1]', 'line 1: .* is not'),
    ],
)
def test_a_line_that_is_no_score_is_named(tmp_path, text, said):
    (path := tmp_path / 'past.jsonl').write_text(text)
    with pytest.raises(UserError, match=said):
        anchors.read(path)


def test_the_command(tmp_path, capsys, monkeypatch):
    folder, full = tmp_path / 'compare', tmp_path / 'past.jsonl'
    folder.mkdir()
    result = {'candidates': ANSWER, 'beats': [], 'scored_on': 'day', 'command': ''}
    (folder / 'compare.json').write_text(json.dumps(result))
    full.write_text('\n'.join(json.dumps({'name': name, 'auc': auc}) for name, auc in FULL.items()))
    asked = lambda **flags: monkeypatch.setattr(judge, 'flags', type('F', (), {'FLAGS': type('G', (), flags)}))  # noqa: E731
    asked(full=str(full))
    judge.main(['judge', str(folder)])
    said = capsys.readouterr().out
    assert '3 of 4 inside their 90 % interval' in said and '5 of 5 pairs more than 0.003 AUC apart' in said
    assert read_json(folder / 'judged.json') == held(ANSWER, FULL)
    told = {**result, 'candidates': [candidate('a', 0.741, known_auc=0.741)]}
    (folder / 'compare.json').write_text(json.dumps(told))
    with pytest.raises(UserError, match='was told the full run of a, so it foretold nothing of it: judge what'):
        judge.main(['judge', str(folder)])
    (folder / 'compare.json').write_text(json.dumps(result))
    full.write_text('{"name": "z", "auc": 0.7}')
    with pytest.raises(UserError, match='no full run of a candidate that .* did not know: make one of a, b, c, d'):
        judge.main(['judge', str(folder)])
    with pytest.raises(UserError, match=f'no compare.json there; did you mean {folder}'):
        judge.main(['judge', str(tmp_path)])
