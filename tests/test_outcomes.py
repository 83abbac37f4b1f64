"""Several outcomes of a row as they are read: the same in every format, never features, or refused in one line."""

import numpy as np
import pyarrow as pa
import pytest
from quirky import DAYS, ROWS, bytes_of, csv, parquet, refused, written

from diet_jax.base.errors import UserError
from diet_jax.config.data import check_data, data_digest
from diet_jax.data.stream import open_stream


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


def read(data, workdir):
    said = []
    stream = open_stream(data, workdir, said.append)
    return stream, [stream.load(t) for t in range(len(stream.blocks))], said


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
    plain = check_data(data)
    old = {**plain, 'label': {k: v for k, v in plain['label'].items() if k not in ('name', 'others')}}
    for key in ('name', 'others'):
        old['label'][key] = plain['label'][key]
    assert data_digest(plain) == data_digest(old) and plain['label']['others'] == {}
    others = logged(tmp_path / 'b')
    _, with_others, _ = read(others, tmp_path / 'v')
    np.testing.assert_array_equal(with_others[0].ids, blocks[0].ids)
    np.testing.assert_array_equal(with_others[0].label, blocks[0].label)
    assert data_digest(check_data(others)) != data_digest(plain)


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


def test_a_drawn_negative_has_no_outcome(tmp_path):
    data = logged(tmp_path)
    data.negatives.update(per_click=2, item='item', window_hours=1e4)
    _, blocks, _ = read(data, tmp_path / 'w')
    for d, block in enumerate(blocks):
        assert len(block.label) > ROWS
        for found, expected in zip(block.others, truth(d), strict=True):
            assert found.sum() == expected.sum() and not found[block.label == 0].sum() > expected.sum()


def test_rows_that_lack_an_outcome_are_dropped_and_counted(tmp_path):
    holes = lambda d, c: c | {'liked': ['', *c['liked'][1:]]} if d == 0 else c  # noqa: E731
    _, blocks, said = read(logged(tmp_path, csv, holes), tmp_path / 'w')
    assert len(blocks[0].label) == ROWS - 1
    np.testing.assert_array_equal(blocks[0].others[2], truth(0)[2][1:])
    assert any(line.startswith('data: 1 rows dropped whose') and "'liked'" in line for line in said)


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
        (dict(others={'good': 'stars'}), 'a label must be 0 or 1'),
        (dict(others={'b': dict(column='asked', positive=('bye',))}), "holds 'bye', which no row of 'asked' has"),
        (dict(name='a b'), 'data.label.name'),
    ],
)
def test_bad_outcomes_are_one_clear_line(tmp_path, change, words):
    data = logged(tmp_path)
    for key, value in change.items():
        data.label[key] = value
    refused(data, tmp_path / 'w', words)


def test_an_outcome_that_never_happens_is_refused(tmp_path):
    data = logged(tmp_path, change=lambda d, c: c | {'liked': [0] * ROWS})
    refused(data, tmp_path / 'w', f'is 0 in all {DAYS * ROWS} rows')
