"""Several outcomes of a row as they are read: the same in every format, never features, or refused in one line."""

import numpy as np
import pyarrow as pa
import pytest
from quirky import DAYS, ROWS, bytes_of, csv, parquet, read, refused, written

from diet_jax.base.errors import UserError
from diet_jax.config.data import check_data, data_digest, simulated_data
from diet_jax.data.generated import GeneratedStream

FIRST = 'dabf9821ff940884'  # what was remembered of the first block by the version before there were any others


def liked(d: int) -> list[int]:
    return (np.random.default_rng(70 + d).random(ROWS) < 0.2).astype(int).tolist()


def stars(d: int) -> list[float]:
    return np.random.default_rng(80 + d).choice([1, 2.5, 4, 5], ROWS).tolist()


def asked(d: int) -> list[str]:
    return np.random.default_rng(90 + d).choice(['buy', 'cart', 'look'], ROWS).tolist()


OTHERS = {
    'like': 'liked',
    'good': dict(column='stars', threshold=4),
    'bought': dict(column='asked', positive=('buy', 'cart')),
}


def logged(root, how=csv, change=lambda d, columns: columns, **changes):
    data = written(root, lambda d, c: change(d, c | {'liked': liked(d), 'stars': stars(d), 'asked': asked(d)}), how)
    data.label.name, data.label.others = 'click', OTHERS
    data.update(changes)
    return data


def truth(d: int) -> list[np.ndarray]:
    """Of a day: bought, good, like."""
    bought = np.isin(asked(d), ['buy', 'cart'])
    return [x.astype(np.float32) for x in (bought, np.array(stars(d)) >= 4, np.array(liked(d)))]


@pytest.mark.parametrize('how', [csv, parquet])
def test_every_outcome_is_what_its_rule_says(tmp_path, how):
    stream, blocks, said = read(logged(tmp_path, how), tmp_path / 'w')
    assert stream.outcome_names == ('click', 'bought', 'good', 'like')
    for d, block in enumerate(blocks):
        for found, expected in zip(block.others, truth(d), strict=True):
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(stream.load(d, 7, 20).others[2], truth(d)[2][7:20])
        labels, group, _ = stream.outcomes(d)
        np.testing.assert_array_equal(labels, [block.label, *block.others])
        np.testing.assert_array_equal(group, block.group)
    ones = int(sum(truth(d)[2].sum() for d in range(DAYS)))
    assert f"data: outcome 'like' is 1 in {ones} of {DAYS * ROWS} rows" in said


def test_words_and_booleans_are_read_as_the_main_outcome_is(tmp_path):
    booleans = lambda d, c: c | {'liked': pa.array([bool(x) for x in liked(d)])}  # noqa: E731
    _, blocks, _ = read(logged(tmp_path, parquet, booleans), tmp_path / 'w')
    np.testing.assert_array_equal(blocks[1].others[2], truth(1)[2])


def test_a_log_with_one_outcome_is_read_as_before(tmp_path):
    data = written(tmp_path, lambda d, columns: None)
    stream, blocks, _ = read(data, tmp_path / 'w')
    assert stream.outcome_names == (stream.label,) and blocks[0].others == ()
    assert data_digest(check_data(data)) == '414e08b758c17ac0'  # of the version before there were any
    assert stream._manifest['blocks'][0]['digest'] == FIRST
    assert 'outcomes' not in stream._manifest and 'others' not in stream._manifest['blocks'][0]
    assert [n for n in stream._read(0, slice(0, 1)).column_names if n.startswith('__')] == ['__label', '__time']
    others = logged(tmp_path / 'b')
    _, with_others, _ = read(others, tmp_path / 'v')
    np.testing.assert_array_equal(with_others[0].ids, blocks[0].ids)
    np.testing.assert_array_equal(with_others[0].label, blocks[0].label)
    assert data_digest(check_data(others)) != data_digest(check_data(data))


def test_a_rule_is_filled_in_once_and_the_order_of_names_says_nothing(tmp_path):
    data = logged(tmp_path)
    full = check_data(data)
    assert full['label']['others']['like'] == dict(column='liked', threshold=None, positive=[])
    assert check_data(full) == full
    data.label.others = dict(reversed(OTHERS.items()))
    assert data_digest(check_data(data)) == data_digest(full)


def test_the_name_of_a_lone_outcome(tmp_path):
    data = written(tmp_path, lambda d, columns: None)
    data.label.name = 'click'
    stream, _, _ = read(data, tmp_path / 'w')
    assert stream.outcome_names == ('click',) and stream.label == 'y'
    data = check_data(simulated_data(blocks=1, rows_per_block=10))
    assert GeneratedStream(data).outcome_names == ('label',)


def test_a_new_day_is_added_as_all_days_at_once(tmp_path):
    data = logged(tmp_path)
    stream, _, _ = read(data, tmp_path / 'all')
    for data.until in (stream.blocks[1].key, ''):
        read(data, tmp_path / 'daily')
    assert bytes_of(tmp_path / 'daily') == bytes_of(tmp_path / 'all')


def test_a_changed_outcome_is_a_changed_past(tmp_path):
    data = logged(tmp_path)
    read(data, tmp_path / 'w')
    logged(tmp_path, change=lambda d, c: c | {'liked': [1 - c['liked'][0], *c['liked'][1:]]} if d == 1 else c)
    with pytest.raises(UserError, match='the log goes back in time'):
        read(data, tmp_path / 'w')


@pytest.mark.parametrize('column', ['y', ''])
def test_a_drawn_negative_has_no_outcome(tmp_path, column):
    data = logged(tmp_path)
    data.label.column = column  # '': every row is a click
    data.negatives.update(per_click=2, item='item', window_hours=1e4)
    stream, blocks, _ = read(data, tmp_path / 'w')
    assert stream.outcome_names[0] == 'click'
    for d, block in enumerate(blocks):
        real = np.r_[True, np.diff(block.time) > 0]  # the log's rows have times of their own, and stand first
        assert real.sum() == ROWS and (~real).sum() > 0
        for found, expected in zip(block.others, truth(d), strict=True):
            np.testing.assert_array_equal(found[real], expected)
            assert not found[~real].any()
    assert bytes_of(tmp_path / 'w') and read(data, tmp_path / 'w')[0].blocks == stream.blocks


def test_rows_are_put_in_order_with_their_outcomes(tmp_path):
    def shuffled(d, columns):
        order = np.random.default_rng(d).permutation(ROWS)
        return {name: np.array(column)[order].tolist() for name, column in columns.items()}

    for d, block in enumerate(read(logged(tmp_path, change=shuffled), tmp_path / 'w')[1]):
        np.testing.assert_array_equal(block.others, truth(d))


def test_rows_that_differ_in_an_outcome_are_no_repeats(tmp_path):
    def twice(d, c):
        more = {name: [*column, column[0], column[1]] for name, column in c.items()}
        return more | {'liked': [*c['liked'], 1 - c['liked'][0], f'{c["liked"][1]}.0']}  # the last repeats row 1

    _, blocks, said = read(logged(tmp_path, change=twice, duplicates='drop'), tmp_path / 'w')
    assert [len(block.label) for block in blocks] == [ROWS + 1] * DAYS
    assert all(block.others[2].sum() == truth(d)[2].sum() + 1 - liked(d)[0] for d, block in enumerate(blocks))
    assert any(f'{DAYS} rows dropped that repeat' in line for line in said)


def test_rows_that_lack_an_outcome_are_dropped_and_counted(tmp_path):
    def holes(d, c):  # the second row lacks two, and is counted once; what is dropped needs no weight
        w = ['', '', *[1.0] * (ROWS - 2)]
        more = (
            {'liked': ['', '', *c['liked'][2:]], 'y': [c['y'][0], '', *c['y'][2:]]} if d == 0 else {'w': [2.0] * ROWS}
        )
        return c | {'w': w} | more

    _, blocks, said = read(logged(tmp_path, csv, holes, weight='w'), tmp_path / 'w')
    assert len(blocks[0].label) == ROWS - 2 and blocks[0].weight.tolist() == [1.0] * (ROWS - 2)
    np.testing.assert_array_equal(blocks[0].others[2], truth(0)[2][2:])
    assert "data: 1 rows dropped whose 'liked' is null (outcome 'like')" in said
    assert "data: 1 rows dropped whose 'y' is null (outcome 'click')" in said


def test_a_log_in_which_no_row_has_all_outcomes_is_refused(tmp_path):
    data = logged(tmp_path, change=lambda d, c: c | {'liked': [''] * ROWS})
    refused(data, tmp_path / 'w', "day0.csv: column 'liked' is null in every row")


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(others={'like': 'likd'}), "'likd'"),
        (dict(others={'like': 'item'}), 'is also a field'),
        (dict(others={'like': dict(colum='liked')}), "no key 'colum' (did you mean 'column'?)"),
        (dict(others={'like': dict(column='')}), 'name the column'),
        (dict(others={'like': dict(column='stars', threshold=4, positive=(1,))}), 'both threshold and positive'),
        (dict(others={'a/b': 'liked'}), 'is no name of an outcome'),
        (dict(others={'click': 'liked'}), 'the main outcome: give one of them another name'),
        (dict(others={'like': 3}), 'it must be a column, or a dict'),
        (dict(others={'good': 'stars'}), 'a label must be 0 or 1; set data.label.others.good.threshold'),
        (dict(others={'b': 'asked'}), 'name the values that count as 1 in data.label.others.b.positive'),
        (dict(others={'b': dict(column='asked', threshold=1)}), 'no number: correct it or data.label.others.b,'),
        (dict(others={'x': 'x'}), "data.label.others.x: column 'x' is also a field"),
        (dict(others={'x': 'y'}), "column 'y' is also data.label.column"),
        (dict(others={'x': 'ts'}), "column 'ts' is also data.time.column"),
        (dict(others={'x': dict(column='stars', positive='4')}), "write ('4',)"),
        (dict(others={'x': dict(column='stars', threshold='4')}), 'it must be a number, or None'),
        (dict(name='..'), "data.label.name is '..'"),
        (dict(others='liked'), 'it must be a dict, as'),
        (
            dict(others={'b': dict(column='asked', positive=('bye',))}),
            "others.b.positive holds 'bye', which no row of 'asked' has",
        ),
        (dict(name='a b'), 'data.label.name'),
    ],
)
def test_bad_outcomes_are_one_clear_line(tmp_path, change, words):
    data = logged(tmp_path)
    with data.ignore_type():
        for key, value in change.items():
            data.label[key] = value
    refused(data, tmp_path / 'w', words)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(lists={'liked': {}}), "column 'liked' is also a field"),
        (dict(histories={'liked': dict(of='item')}), "column 'liked' is also a field"),
        (dict(histories={'was': dict(of='liked')}), "data.histories.was.of is 'liked', no field"),
        (dict(weight='liked'), "column 'liked' is also data.weight"),
        (dict(first_value={'liked': ''}), "column 'liked' is also in data.first_value"),
        (dict(block=dict(by='column', column='liked')), "column 'liked' is also data.block.column"),
        (dict(negatives=dict(per_click=1, item='item', user='liked')), "column 'liked' is also data.negatives.user"),
        (dict(side_tables=(dict(path='a.csv', key='liked'),)), "column 'liked' is also the key of a side table"),
        (dict(impressions=dict(items='item', mark='-')), 'is made, and is the only one: leave it out'),
        (dict(source='simulated'), 'data.label.others is for log files'),
        (dict(label=dict(name='', column='a/b')), "'a/b' is no name of an outcome, and there are others"),
        (dict(fields=('user', 'item', '__label_like')), "'__label_like' is the name of a column that a memory has"),
    ],
)
def test_an_outcome_has_no_other_part_in_the_log(tmp_path, changes, words):
    data = logged(tmp_path)
    with data.unlocked(), data.ignore_type():
        data.update(changes)
    with pytest.raises(UserError) as error:
        check_data(data)
    assert words in str(error.value) and '\n' not in str(error.value)


def test_a_block_in_which_an_outcome_is_always_the_same_is_told_and_read(tmp_path):
    rare = lambda d, c: c | {'liked': [int(d == 1)] * ROWS}  # noqa: E731
    _, blocks, said = read(logged(tmp_path, change=rare), tmp_path / 'w')
    assert [block.others[2].mean() for block in blocks] == [0, 1, 0, 0]
    assert "data: outcome 'like' is 0 in every row of 3 blocks: 2024-03-01, 2024-03-03, 2024-03-04" in said
    assert "data: outcome 'like' is 1 in every row of 1 blocks: 2024-03-02" in said


def test_an_outcome_that_never_happens_is_refused(tmp_path):
    data = logged(tmp_path, change=lambda d, c: c | {'liked': [0] * ROWS})
    refused(data, tmp_path / 'w', f'is 0 in all {DAYS * ROWS} rows')
