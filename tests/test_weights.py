"""Weights of rows as they are read: the same in every format, carried wherever a row goes, or refused in one line."""

import numpy as np
import pyarrow as pa
import pytest
import quirky
from quirky import DAYS, ROWS, bytes_of, csv, days, parquet, read, refused, written

from diet_jax.base.errors import UserError
from diet_jax.config.data import check_data, data_digest, default_data
from diet_jax.data.stream import open_stream


def weights_of(d: int) -> list[float]:
    """Of a day's rows; one of them weighs nothing."""
    return [0.0, 2.5, *np.random.default_rng(d).choice([1.0, 10.0], ROWS - 2).tolist()]


def weighted(tmp_path, how=csv, shown=lambda w: w, **changes):
    """A log with a column 'w'."""
    data = written(tmp_path, lambda d, columns: columns | {'w': shown(weights_of(d))}, how)
    data.weight = 'w'
    data.update(changes)
    return data


def test_a_log_without_weights_is_read_as_before(tmp_path):
    data = written(tmp_path, lambda d, columns: None)
    stream, blocks, _ = read(data, tmp_path / 'w')
    assert stream.weight == '' and all(block.weight is None for block in blocks)
    assert stream.outcomes(0)[2] is None
    assert '__weight' not in stream._read(0, slice(0, 5)).column_names
    assert 'weight' not in stream._manifest and 'weight' not in stream._manifest['blocks'][0]
    old = {key: value for key, value in check_data(data).items() if key != 'weight'}
    assert data_digest(check_data(data)) == data_digest(old | {'weight': ''}), 'the cache of before'
    weights = check_data(data) | {'weight': 'w'}
    assert data_digest(weights) != data_digest(check_data(data))


@pytest.mark.parametrize(
    ('how', 'shown'),
    [
        (csv, lambda w: w),
        (parquet, lambda w: w),
        (parquet, lambda w: pa.array(w, pa.float32())),
        (parquet, lambda w: [str(x) for x in w]),
        (csv, lambda w: [f'{x:g}' for x in w]),
    ],
)
def test_a_weight_is_a_number_however_it_is_written(tmp_path, how, shown):
    stream, blocks, said = read(weighted(tmp_path, how, shown), tmp_path / 'w')
    for d, block in enumerate(blocks):
        assert block.weight.dtype == np.float32 and block.weight.tolist() == weights_of(d)
        part = stream.load(d, 7, 20)
        np.testing.assert_array_equal(part.weight, block.weight[7:20])
        np.testing.assert_array_equal(stream.outcomes(d)[2], block.weight)
    total = sum(sum(weights_of(d)) for d in range(DAYS))
    assert f"data: {DAYS * ROWS} rows weigh {total:g} by column 'w'" in said
    assert stream.fields == read(written(tmp_path / 'b', lambda d, c: None), tmp_path / 'v')[0].fields, (
        'a weight is no field'
    )


def test_decimal_commas_are_those_of_numbers(tmp_path):
    for d, columns in enumerate(days()):
        columns = columns | {'x': [str(x).replace('.', ',') for x in columns['x']]}
        csv(tmp_path / 'log', d, columns | {'w': [str(x).replace('.', ',') for x in weights_of(d)]}, delimiter=';')
    data = quirky.data_of(tmp_path / 'log', weight='w')
    data.csv.delimiter, data.csv.decimal_point = ';', ','
    assert [block.weight.tolist() for block in read(data, tmp_path / 'w')[1]] == [weights_of(d) for d in range(DAYS)]


def test_rows_are_put_in_order_with_their_weights(tmp_path):
    def shuffled(d, columns):
        order = np.random.default_rng(d).permutation(ROWS)
        return {name: np.array(column)[order].tolist() for name, column in (columns | {'w': weights_of(d)}).items()}

    data = written(tmp_path, shuffled)
    data.weight = 'w'
    assert [block.weight.tolist() for block in read(data, tmp_path / 'w')[1]] == [weights_of(d) for d in range(DAYS)]


def test_a_second_day_comes_to_the_same_and_a_changed_weight_is_a_changed_past(tmp_path):
    whole, _, _ = read(weighted(tmp_path / 'all'), tmp_path / 'v')
    data = weighted(tmp_path)
    (last := tmp_path / 'log' / 'day3.csv').rename(kept := tmp_path / 'kept.csv')
    read(data, tmp_path / 'w')
    kept.rename(last)
    stream, _, said = read(data, tmp_path / 'w')
    assert 'data: 3 files are as they were when prepared, and were not read again' in said
    assert bytes_of(tmp_path / 'w') == bytes_of(tmp_path / 'v') and stream.num_slots == whole.num_slots
    csv(tmp_path / 'log', 2, days()[2] | {'w': [1.0, *weights_of(2)[1:]]})
    with pytest.raises(UserError, match='goes back in time: block 2024-03-03 had 50 rows when prepared, now 50, or'):
        read(data, tmp_path / 'w')


def test_rows_that_differ_in_their_weight_are_no_repeats(tmp_path):
    def twice(d, columns):
        more = {name: [*column, column[0], column[1]] for name, column in columns.items()}
        return more | {'w': [*weights_of(d), 7.0, '2.50']}  # the last repeats row 1, the other is not row 0

    data = written(tmp_path, twice)
    data.weight, data.duplicates = 'w', 'drop'
    _, blocks, said = read(data, tmp_path / 'w')
    assert [len(block.weight) for block in blocks] == [ROWS + 1] * DAYS
    assert all(sorted(b.weight.tolist()) == sorted([*weights_of(d), 7.0]) for d, b in enumerate(blocks))
    assert any('4 rows dropped that repeat' in line for line in said)


def test_rows_without_a_label_need_no_weight(tmp_path):
    def gaps(d, columns):
        return columns | {'y': ['', *columns['y'][1:]], 'w': ['', *weights_of(d)[1:]]}

    data = written(tmp_path, gaps)
    data.weight = 'w'
    assert [block.weight.tolist() for block in read(data, tmp_path / 'w')[1]] == [
        weights_of(d)[1:] for d in range(DAYS)
    ]


def test_drawn_rows_weigh_what_their_click_does(tmp_path):
    data = weighted(tmp_path)
    data.negatives.update(per_click=2, item='item', window_hours=48.0)
    stream, blocks, _ = read(data, tmp_path / 'w')
    for d, block in enumerate(blocks):
        click = np.cumsum(np.isin(block.time, days()[d]['ts']) & np.r_[True, np.diff(block.time) > 0]) - 1
        np.testing.assert_array_equal(block.weight, np.array(weights_of(d), np.float32)[click])
    assert sum(len(block.label) for block in blocks) > DAYS * ROWS
    read(data, tmp_path / 'w')  # and the past is the same past
    again = stream._manifest['blocks'][1]
    csv(tmp_path / 'log', 9, {name: column[:0] for name, column in (days()[0] | {'w': []}).items()})
    assert open_stream(data, tmp_path / 'w', lambda line: None)._manifest['blocks'][1] == again


@pytest.mark.parametrize('parallel', [False, True])
def test_items_of_a_list_weigh_what_the_list_does_or_each_its_own(tmp_path, parallel):
    rng, each = np.random.default_rng(0), []

    def shown(d, columns):
        marks = [f'{i}-{y} {i + 50}-{1 - y}' for i, y in zip(columns['item'], columns['y'])]
        w = [(rng.choice([1.0, 4.0], 2 if parallel else 1)).tolist() for _ in marks]
        each.append([x for ws in w for x in (ws if parallel else ws * 2)])
        return {n: c for n, c in columns.items() if n not in 'yx'} | {
            'item': marks,
            'w': w if parallel else [x for (x,) in w],
        }

    data = written(tmp_path, shown, parquet)
    data.weight, data.label.column, data.numeric = 'w', '', {}
    data.impressions.update(items='item', mark='-', parallel=('w',) if parallel else ())
    assert [block.weight.tolist() for block in read(data, tmp_path / 'w')[1]] == each


@pytest.mark.parametrize(
    ('value', 'says'),
    [
        (-1, "column 'w' holds -1, which no row can weigh (data.weight)"),
        ('inf', "column 'w' holds inf, which no row can weigh"),
        (1e39, "column 'w' holds 1e+39, which no row can weigh"),
        ('', "column 'w' is null in 1 rows, but says what a row weighs (data.weight): fill it in"),
        ('nan', "column 'w' is null in 1 rows"),
        ('heavy', "column 'w' holds 'heavy', no number: correct it or data.weight"),
    ],
)
def test_what_is_no_weight_is_refused_by_file_column_and_value(tmp_path, value, says):
    data = weighted(tmp_path, shown=lambda w: [*w[:-1], value])
    refused(data, tmp_path / 'w', 'day0.csv', says)


def test_a_list_or_a_date_is_no_weight(tmp_path):
    refused(weighted(tmp_path / 'a', parquet, lambda w: [[x] for x in w]), tmp_path / 'w', 'day0.parquet', "column 'w'")
    dates = lambda w: pa.array([1] * len(w), pa.timestamp('s'))  # noqa: E731
    refused(weighted(tmp_path / 'b', parquet, dates), tmp_path / 'w', 'must hold numbers; correct it or data.weight')


def test_a_block_that_weighs_nothing_or_has_one_class_of_some_weight_is_refused(tmp_path):
    data = written(tmp_path / 'a', lambda d, columns: columns | {'w': [float(d != 2)] * ROWS})
    data.weight = 'w'
    refused(data, tmp_path / 'w', "block 2024-03-03: column 'w' is 0 in all 50 rows (data.weight)", 'data.until')
    data = written(tmp_path / 'b', lambda d, columns: columns | {'w': columns['y']})
    data.weight = 'w'
    refused(data, tmp_path / 'w', "rows of some weight, all with 'y' = 1", 'data.since')


def test_a_column_that_is_not_there_is_refused(tmp_path):
    data = weighted(tmp_path)
    data.weight = 'ww'
    refused(data, tmp_path / 'w', "day0.csv has no column 'ww' (did you mean 'w'?)")
    data.weight = 'w'
    csv(tmp_path / 'log', 2, days()[2])
    refused(data, tmp_path / 'w', "day2.csv has no column 'w'")


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        (dict(weight='user'), "data.weight 'user' is also a field"),
        (dict(weight='x'), "data.weight 'x' is also a field"),
        (dict(weight='y'), "data.weight 'y' is also data.label.column"),
        (dict(weight='ts'), "data.weight 'ts' is also data.time.column"),
        (dict(weight='w', block=dict(by='column', column='w')), "data.weight 'w' is also data.block.column"),
        (dict(weight='w', lists={'w': {}}), "data.weight 'w' is also a field"),
        (dict(weight='w', first_value={'w': ''}), "data.weight 'w' is also in data.first_value"),
        (dict(weight=3), 'data.weight is 3: it must be the name of a column of the log'),
        (dict(weight='w', source='simulated', numeric={}), 'data.weight is for log files'),
    ],
)
def test_a_column_with_another_part_is_refused(tmp_path, changes, says):
    data = quirky.data_of(tmp_path)
    with data.unlocked(), data.ignore_type():
        data.update(changes)
    with pytest.raises(UserError) as error:
        check_data(data)
    assert says in str(error.value) and '\n' not in str(error.value)


def test_the_key_has_its_place(tmp_path):
    assert default_data().weight == ''
    data = quirky.data_of(tmp_path)
    data.weight = '__weight'  # whatever the log calls it
    check_data(data)
    data.fields = ('user', '__weight')
    with pytest.raises(UserError, match="'__weight' is the name of a column that a memory has"):
        check_data(data)
