"""scripts/compare.py --predictions=: models that live elsewhere, in one answer with the library's own."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from diet_jax import elsewhere, report
from diet_jax.base.errors import UserError
from diet_jax.stats.frameworks import BIAS
from diet_jax.study import compare, export, outside
from diet_jax.study.asked import opened

QUIET = {'emit': lambda line: None}


def table(train, lr, seed):
    """Means of every code's labels, on the logit scale, added up: a model of a kind; the seed draws rows."""
    rng, total = np.random.default_rng(seed), np.zeros(train.view.num_codes)
    keep = rng.random(len(train)) < 0.8
    count = np.bincount(train.codes[keep].ravel(), minlength=len(total))
    weight = np.repeat(train.target[keep], train.codes.shape[1]) - train.target.mean()
    total = np.bincount(train.codes[keep].ravel(), weight, len(total)) / (count + 100 * lr)
    return lambda rows: 1 / (1 + np.exp(-total[rows.codes].sum(1)))


@pytest.fixture(scope='module')
def asked(distilled):
    return opened([distilled / 'memory'], lambda line: None)


@pytest.fixture(scope='module')
def folder(distilled, tmp_path_factory):
    to = export.export(distilled / 'memory', tmp_path_factory.mktemp('to') / 'exports', **QUIET)
    elsewhere.grid(table, to, 'deepfm', framework='numpy', **QUIET)  # the name of a twin
    return to


@pytest.fixture(scope='module')
def answered(distilled, folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('answer')
    args = {'predictions': folder / 'predictions', 'workdir': workdir, 'slices': ['tab'], **QUIET}
    return compare.compare([distilled / 'memory'], {}, **args)


def test_a_model_that_lives_elsewhere_is_answered_beside_the_twins(answered):
    names = {c['name']: c for c in answered['candidates']}
    assert list(names) == ['deepfm', 'deepfm (twin)', 'lr'] and names['deepfm']['framework'] == 'numpy'
    one = names['deepfm']
    assert one['best'] == 1 and one['interval'][0] < one['expected_auc'] < one['interval'][1]
    assert one['sd'] > BIAS and one['sd'] > names['deepfm (twin)']['sd']
    assert 'of numpy no full run is known' in answered['correction']['text']
    assert 'deepfm (numpy)' in str(report.compare_table(answered))
    first = answered['slices'][0]['values'][0]['candidates']
    assert len(first) == 3 and all(np.isfinite(c['auc']) for c in first)
    assert json.loads((Path(answered['workdir']) / 'compare.json').read_text())['predictions']


def test_its_rate_is_chosen_on_valid_and_its_scores_are_of_test(answered, folder):
    """Once more, from the file, by scikit-learn."""
    opened_export = elsewhere.open_export(folder)
    labels = {split: opened_export.rows('codes', split).target for split in ('valid', 'test')}
    one, rates = answered['candidates'][0], {}
    for view in ('codes', 'ids'):
        train = opened_export.rows(view, 'train')
        score = {
            (lr, split): [
                roc_auc_score(labels[split], table(train, lr, seed)(opened_export.rows(view, split)).astype(np.float32))
                for seed in (0, 1)
            ]
            for lr in (0.003, 0.01)
            for split in labels
        }
        rates[view] = max((0.003, 0.01), key=lambda lr, score=score: np.mean(score[lr, 'valid']))
        found = one['auc'] if view == 'codes' else one['by_ids']['auc']
        np.testing.assert_allclose(found[0], score[rates[view], 'test'], atol=1e-6)
    assert (one['chosen']['lr'], one['chosen']['by_ids']['lr']) == (rates['codes'], rates['ids'])
    p = table(opened_export.rows('codes', 'train'), rates['codes'], 0)(opened_export.rows('codes', 'test'))
    assert one['logloss'][0][0] == pytest.approx(log_loss(labels['test'], p), rel=1e-4)


def test_names_folders_and_several_memories(asked, folder, tmp_path):
    read = lambda path, names=(), asked=asked: outside.read(path, asked, names)  # noqa: E731
    assert [one.name for one in read(folder / 'predictions')] == ['deepfm']
    with pytest.raises(UserError, match="'deepfm' is another candidate's name too: train it under another name"):
        read(folder / 'predictions', ['deepfm'])
    twice = tmp_path / 'twice'
    twice.mkdir()
    for name in 'ab':
        (twice / f'{name}.parquet').write_bytes((folder / 'predictions' / 'deepfm.parquet').read_bytes())
    with pytest.raises(UserError, match="b.parquet: 'deepfm' is another candidate's name too"):
        read(twice)
    with pytest.raises(UserError, match='there is no file of predictions in that folder; diet_jax.elsewhere.grid'):
        read(tmp_path)
    with pytest.raises(UserError, match=f'did you mean {folder / "predictions"}?'):
        read(folder)
    with pytest.raises(UserError, match='an export is of one memory, --memory names 2: name one'):
        read(folder / 'predictions', asked=asked._replace(folders=asked.folders * 2))
    with pytest.raises(UserError, match='of another export'):
        read(folder / 'predictions', asked=asked._replace(log=asked.log._replace(digest='of another log')))
    with pytest.raises(UserError, match='nothing to compare: name --candidates, --predictions, or both'):
        compare.compare([folder], {})


def test_an_anchor_of_a_model_elsewhere_is_believed(distilled, folder, answered, tmp_path):
    anchors = tmp_path / 'past.jsonl'
    anchors.write_text('{"name": "deepfm", "auc": 0.9}\n')
    args = {'predictions': folder / 'predictions', 'workdir': answered['workdir'], **QUIET}
    again = compare.compare([distilled / 'memory'], {}, anchors, **args)
    assert again['candidates'][0]['known_auc'] == 0.9 and again['candidates'][0]['expected_auc'] > 0.85
    for before, after in zip(answered['candidates'][1:], again['candidates'][1:], strict=True):
        assert after['expected_auc'] == pytest.approx(before['expected_auc'], abs=5e-4)
        assert after['sd'] == pytest.approx(before['sd'], rel=0.02)
