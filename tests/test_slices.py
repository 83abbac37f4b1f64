"""Slices of the scored block: which rows are in them, what is scored there, and what is foretold, all once more by
numpy and scikit-learn."""

from collections import Counter

import numpy as np
import pytest
import tiny
from sklearn.metrics import log_loss, roc_auc_score

from diet_jax.base.errors import UserError
from diet_jax.data.stream import open_stream
from diet_jax.stats import correction
from diet_jax.study.slices import LEAST, Predictions, Slice, Slicing, by_slice, check_words, cut

T = 2  # the memory has seen blocks 0 and 1, block 3 is scored
ROLES = {'user': 'user', 'item': 'item', 'context': 'tab', 'creator': ''}


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    config = tiny.get_config()
    config.data.simulated.new_items_per_block = 8
    return open_stream(config.data, tmp_path_factory.mktemp('slices'), lambda line: None)


def sliced(stream, *words):
    names = [field.name for field in stream.fields]
    block, known = stream.load(T + 1), stream.blocks[T - 1].num_slots
    return cut(check_words(words, names, ROLES), stream, block.ids, known, block.label), block, names


def spelt(stream, block, f):
    return [str(value) for value in stream.values(block.ids[:, f]).to_pylist()]


@pytest.mark.parametrize('name', ['item', 'tab'])
def test_the_ten_most_frequent_values_and_all_others(stream, name):
    [slicing], block, names = sliced(stream, name)
    values = spelt(stream, block, names.index(name))
    counts, slices = Counter(values), {one.value: one.rows for one in slicing.slices}
    shown = [value for value in slices if value != 'other']
    assert len(shown) == min(10, len(counts)) and ('other' in slices) == (len(counts) > 10)
    for value in shown:
        np.testing.assert_array_equal(slices[value], np.array(values) == value)
    sizes = [counts[value] for value in shown]
    assert sizes == sorted(counts.values(), reverse=True)[: len(shown)], 'the largest first'
    assert np.sum([rows for rows in slices.values()], 0).max() == 1 and sum(map(np.sum, slices.values())) == tiny.ROWS


def test_hours_and_bins_stand_in_their_order(stream):
    (hours, bins), block, names = sliced(stream, 'hour', 'price')
    shown = [int(one.value) for one in hours.slices if one.value != 'other']
    assert shown == sorted(shown) and set(shown) <= set(range(24))
    for one in hours.slices[:3]:
        np.testing.assert_array_equal(one.rows, np.array(spelt(stream, block, names.index('hour'))) == one.value)
    low, same, high = stream.fields[names.index('price')].bounds
    assert low < same <= np.nextafter(low, 99) < high, 'more than a quarter of the first rows have this price'
    assert [one.value for one in bins.slices] == [
        f'below {low:g}',
        f'{low:g}',
        f'above {low:g} to {high:g}',
        f'from {high:g}',
    ]
    place = np.array(stream.values(block.ids[:, names.index('price')]).to_pylist())
    for i, one in enumerate(bins.slices):
        np.testing.assert_array_equal(one.rows, place == i)


def test_new_is_what_no_block_of_the_memory_holds(stream):
    """Also what the tuning block has shown: the memory has not seen it. A role stands for its field."""
    (items, users), block, names = sliced(stream, 'new:item', 'new:user')
    for slicing, name in ((items, 'item'), (users, 'user')):
        f = names.index(name)
        before = {slot for t in range(T) for slot in stream.load(t).ids[:, f]}
        new = np.array([slot not in before for slot in block.ids[:, f]])
        assert [one.value for one in slicing.slices] == ['new', 'seen'] and slicing.name == f'new {name}'
        np.testing.assert_array_equal(slicing.slices[0].rows, new)
        np.testing.assert_array_equal(slicing.slices[1].rows, ~new)
    tuning = set(stream.load(T).ids[:, names.index('item')]) - {
        slot for t in range(T) for slot in stream.load(t).ids[:, names.index('item')]
    }
    assert any(slot in tuning for slot in block.ids[items.slices[0].rows, names.index('item')])


def test_words():
    fields = ['user_id', 'tab', 'hour']
    words = ['context', 'new:user', ' hour', 'tab', 'new:user_id']
    found = check_words(words, fields, {'user': 'user_id', 'context': 'tab', 'creator': ''})
    assert found == [('context', 'tab', False), ('new:user', 'user_id', True), ('hour', 'hour', False)], 'each once'
    for word, line in (
        ('tabb', "'tabb' names no field and no role .did you mean 'tab'"),
        ('new:usr', "'new:usr' names no field and no role .did you mean 'user'"),
        ('old:user', "'old:user' names no field and no role"),
        ('creator', "'creator' names no field and no role"),  # this log has none
        ('', "'' names no field and no role .there are: user"),
    ):
        with pytest.raises(UserError, match=f'--slices: {line}'):
            check_words([word], fields, {'user': 'user_id', 'context': 'tab', 'creator': ''})


def test_a_word_without_a_slice_that_has_both_classes_is_refused(stream):
    names, block = [field.name for field in stream.fields], stream.load(T + 1)
    ids, known = block.ids, stream.blocks[T - 1].num_slots
    label = (ids[:, names.index('tab')] == ids[0, names.index('tab')]).astype(np.float32)
    with pytest.raises(UserError, match='--slices: of context no slice has rows with a click and rows without'):
        cut(check_words(['context'], names, ROLES), stream, ids, known, label)
    assert cut(check_words(['user'], names, ROLES), stream, ids, known, label)


def predictions(rows=900, candidates=4, seed=0) -> Predictions:
    """Made-up students, two distillations of three seeds, by codes and by ids; two twins."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=rows)
    label = (rng.random(rows) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    students = [
        (0.5 * truth + rng.normal(0, 0.4 + 0.1 * i, (2, 2, 3, rows))).astype(np.float16) for i in range(candidates)
    ]
    twins = {i: (truth + rng.normal(0, 0.3 + 0.1 * i, (2, rows))).astype(np.float32) for i in (0, 3)}
    group = rng.integers(0, 40, rows).astype(np.int32)
    return Predictions(label=label, group=group, students=students, weight=0.2, twins=twins)


def test_scores_of_a_slice_are_those_of_its_rows_alone():
    given = predictions()
    rows = np.arange(900) % 3 == 0
    [answer] = by_slice([Slicing('w', 'w', [Slice('a', rows), Slice('b', ~rows)])], given, leader=1, margin=0.0)
    value, y, g = answer['values'][0], given.label[rows], given.group[rows]
    assert (answer['slices'], value['value'], value['rows'], value['clicks']) == ('w', 'a', 300, int(y.sum()))
    for logits, found in zip(given.students, value['candidates'], strict=True):
        runs = logits[0].astype(np.float64).reshape(6, -1)[:, rows]
        click = 1 / (1 + np.exp(-runs))
        assert found['auc'] == pytest.approx(np.mean([roc_auc_score(y, z) for z in runs]), abs=1e-9)
        assert found['logloss'] == pytest.approx(np.mean([log_loss(y, p) for p in click]), abs=1e-6)
        assert found['calibration'] == pytest.approx(np.mean([p.mean() / y.mean() for p in click]), abs=1e-6)
        both = [u for u in np.unique(g) if 0 < y[g == u].mean() < 1]
        by_user = [[roc_auc_score(y[g == u], z[g == u]) for u in both] for z in runs]
        weight = [np.sum(g == u) for u in both]
        assert found['gauc'] == pytest.approx(np.mean([np.average(aucs, weights=weight) for aucs in by_user]), abs=1e-9)


@pytest.mark.parametrize('ways', [1, 2])
def test_what_is_foretold_of_a_slice_is_the_correction_of_its_scores_by_its_twins(ways):
    """By codes alone (evaluate.by_ids=0), and with students on ids beside."""
    given = predictions()
    given = given._replace(students=[logits[:ways] for logits in given.students])
    rows = np.arange(900) < 500
    slicing = Slicing('w', 'w', [Slice('a', rows), Slice('b', ~rows)])
    for margin in (0.0, 0.01):
        value = by_slice([slicing], given, leader=1, margin=margin)[0]['values'][0]['candidates']
        y = given.label[rows]
        auc = np.array(
            [[[[roc_auc_score(y, z[rows]) for z in run] for run in way] for way in logits] for logits in given.students]
        )  # [C, V, R, S]
        order = 0.8 * auc[:, 0] + 0.2 * auc[:, -1]
        order += (auc[:, 0] - order).mean((0, 2), keepdims=True)
        known = {i: np.mean([roc_auc_score(y, z[rows]) for z in logits]) for i, logits in given.twins.items()}
        means = np.stack([logits[0].astype(np.float32).mean((0, 1))[rows] for logits in given.students])
        answer = correction.correct(order, means, known)
        beats = correction.beats(answer, margin)
        for i, found in enumerate(value):
            sd = np.sqrt(answer.cov[i, i] + answer.cov[1, 1] - 2 * answer.cov[i, 1])
            assert found['expected_auc'] == pytest.approx(answer.mean[i], abs=1e-6)
            assert found['difference'] == pytest.approx(answer.mean[i] - answer.mean[1], abs=1e-6)
            if i != 1:
                low, high = found['interval']
                assert (high - low) / 2 == pytest.approx(1.645 * sd, rel=1e-3)
                assert found['better'] == pytest.approx(beats[i, 1], abs=1e-4)
                assert found['worse'] == pytest.approx(beats[1, i], abs=1e-4)


def test_the_whole_block_as_a_slice_and_another_order_of_rows():
    given, everything = predictions(), Slicing('w', 'w', [Slice('all', np.ones(900, bool))])
    shuffle = np.random.default_rng(5).permutation(900)
    moved = Predictions(
        label=given.label[shuffle],
        group=given.group[shuffle],
        students=[logits[..., shuffle] for logits in given.students],
        weight=given.weight,
        twins={i: logits[:, shuffle] for i, logits in given.twins.items()},
    )
    one, other = (by_slice([everything], p, 0, 0.0)[0]['values'][0]['candidates'] for p in (given, moved))
    for a, b in zip(one, other, strict=True):
        assert a['auc'] == b['auc'] and a['expected_auc'] == pytest.approx(b['expected_auc'], abs=1e-7)


@pytest.mark.parametrize('clicked', [0.0, 1.0])
def test_a_slice_of_one_class_has_no_auc_and_the_rest_of_its_scores(clicked):
    given = predictions()
    rows = given.label == clicked
    [answer] = by_slice([Slicing('w', 'w', [Slice('a', rows), Slice('none', rows & ~rows)])], given, 0, 0.0)
    one, none = answer['values']
    assert one['rows'] == rows.sum() and none['rows'] == 0
    for found in one['candidates']:
        assert found['auc'] is None and found['gauc'] is None and found['logloss'] > 0
        assert (found['calibration'] is None) == (clicked == 0) and 'expected_auc' not in found
    assert none['candidates'] == [dict.fromkeys(('auc', 'gauc', 'logloss', 'calibration'))] * 4


def test_of_few_rows_and_without_twins_nothing_is_foretold():
    given = predictions()
    clicks = np.flatnonzero(given.label == 1)
    few = given.label == 0
    few[clicks[: LEAST - 1]] = True
    slices = [Slice('few', few), Slice('all', np.ones(900, bool))]
    few, whole = by_slice([Slicing('w', 'w', slices)], given, 0, 0.0)[0]['values']
    assert 'expected_auc' not in few['candidates'][0] and few['candidates'][0]['auc'] > 0.5
    assert 'expected_auc' in whole['candidates'][0]
    alone = by_slice([Slicing('w', 'w', slices)], given._replace(twins={}), 0, 0.0)[0]['values'][1]
    assert 'expected_auc' not in alone['candidates'][0]
