"""What a value means, however it is written: categories, labels.

What people have reported to be read wrong of real logs, each with what is right.
"""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest
from quirky import DAYS, ROWS, USERS, csv, data_of, days, facts, parquet, refused, same, written

from diet_jax.data.stream import open_stream
from diet_jax.stats import metrics
from diet_jax.stats.resampling import auc_user_bootstrap

# Categories: one kind a column, over all files.


@pytest.mark.parametrize('how', [csv, parquet])
@pytest.mark.parametrize('point_zero', [(1, 3), (0,), (0, 1, 2, 3)])
def test_whole_numbers_with_a_point_are_the_same_users(tmp_path, healthy, how, point_zero):
    def change(d, columns):
        if d in point_zero:
            columns['user'] = [f'{u}.0' for u in columns['user']]
        elif how is parquet and d % 2:
            columns['user'] = [float(u) for u in columns['user']]

    assert same(facts(written(tmp_path, change, how), tmp_path / 'w'), healthy)


def test_a_word_in_a_later_file_makes_no_new_users(tmp_path, healthy):
    def change(d, columns):
        columns['user'] = [f'{u}.0' if d == 1 else u for u in columns['user']]
        if d == 3:
            columns['user'][0] = 'guest'

    found = facts(written(tmp_path, change), tmp_path / 'w')
    assert found.values == {**healthy.values, 'user': USERS + 1} and 'read as text: city, user' in found.said


def test_leading_zeros_exponents_and_long_numbers_are_text(tmp_path):
    words = ['501', '0501', '00501', '12e4', '120000', '1' * 19, '1' * 20]

    def change(d, columns):
        columns['item'] = [words[k % 7] for k in range(ROWS)]

    data = written(tmp_path, change)
    assert facts(data, tmp_path / 'w').values['item'] == 7
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    values = stream.vocabulary.values(1, np.unique(stream.load(0).ids[:, 1])).to_pylist()
    assert sorted(values) == sorted(words), 'as the log has them'


def test_numbers_of_19_digits_are_whole_numbers_where_they_fit(tmp_path):
    ids = [1726821708034062800, 1726821708034062801, 9223372036854775807]

    def change(d, columns):
        columns['user'] = [ids[k % 3] for k in range(ROWS)]

    found = facts(written(tmp_path, change), tmp_path / 'w')
    assert found.values['user'] == 3 and 'whole numbers: item, user' in found.said


def test_floats_that_have_lost_digits_are_refused(tmp_path):
    def change(d, columns):
        columns['user'] = [1.7268217080340628e18 + 4096 * u for u in columns['user']]

    data = written(tmp_path, change, parquet)
    refused(data, tmp_path / 'w', 'day0.parquet', "column 'user'", 'its last digits are lost', 'data.fields')
    data.fields, data.group = ('item', 'city'), 'item'
    assert facts(data, tmp_path / 'w').rows == [ROWS] * DAYS, 'the way out works'


@pytest.mark.parametrize('how', [csv, parquet])
@pytest.mark.parametrize('word', ['NULL', '\\N', 'nan', 'None', '<NA>', ''])
def test_null_words_mean_missing_everywhere(tmp_path, how, word):
    def change(d, columns):
        columns['user'] = [word if k % 5 == 0 else str(u) for k, u in enumerate(columns['user'])]
        columns['city'] = [word if k % 2 else c for k, c in enumerate(columns['city'])]
        columns['x'] = [word if k % 10 == 0 else str(x) for k, x in enumerate(columns['x'])]
        columns['y'] = [word if k == 3 else str(y) for k, y in enumerate(columns['y'])]

    found = facts(written(tmp_path, change, how), tmp_path / 'w')
    assert found.rows == [ROWS - 1] * DAYS and "4 rows dropped whose 'y' is null" in found.said
    assert found.missing['user'] == DAYS * 10 and found.missing['city'] == DAYS * 24 and found.missing['x'] == DAYS * 5
    assert found.values['user'] == USERS and found.values['city'] == 3


def test_null_words_can_be_said(tmp_path):
    def change(d, columns):
        columns['city'] = ['-' if k % 2 else c for k, c in enumerate(columns['city'])]
        columns['x'] = ['-' if k % 10 == 0 else x for k, x in enumerate(columns['x'])]

    data = written(tmp_path, change)
    refused(data, tmp_path / 'w', "day0.csv: column 'x' holds '-', no number", 'data.null_words')
    data.null_words = ('-',)
    assert facts(data, tmp_path / 'w').missing == {'user': 0, 'item': 0, 'city': DAYS * 25, 'x': DAYS * 5}


@pytest.mark.parametrize('spelling', [('True', 'False'), ('true', 'false'), ('TRUE', 'FALSE'), ('1', '0')])
def test_booleans_are_one_thing_however_they_are_written(tmp_path, spelling):
    def change(d, columns):
        words = spelling if d == 1 else ('true', 'false')
        columns['city'] = [words[u % 2] for u in columns['user']]

    found = facts(written(tmp_path, change), tmp_path / 'w')
    assert found.values['city'] == 2 and 'read as true and false: city' in found.said
    stream = open_stream(data_of(tmp_path / 'log'), tmp_path / 'w', lambda line: None)
    assert set(stream.vocabulary.values(2, np.unique(stream.load(0).ids[:, 2])).to_pylist()) == {True, False}


def test_a_parquet_boolean_is_the_word_of_a_csv(tmp_path):
    for d, columns in enumerate(days()):
        columns['city'] = [bool(u % 2) for u in columns['user']]
        (parquet if d % 2 else csv)(tmp_path / 'log', d, columns)  # csv writes True and False
    assert facts(data_of(tmp_path / 'log'), tmp_path / 'w').values['city'] == 2


def test_a_boolean_that_gets_a_word_on_a_later_day_is_text_and_keeps_its_slots(tmp_path):
    for d, columns in enumerate(days()):
        columns['city'] = [('false', 'true')[u % 2] for u in columns['user']]
        csv(tmp_path / 'log', d, columns)
    before = open_stream(data_of(tmp_path / 'log'), tmp_path / 'w', lambda line: None)
    kept = before.load(0).ids
    late = {**days()[0], 'ts': [t + DAYS * 86400 for t in days()[0]['ts']], 'city': ['true', 'unknown'] * (ROWS // 2)}
    csv(tmp_path / 'log', DAYS, late)
    after = open_stream(data_of(tmp_path / 'log'), tmp_path / 'w', lambda line: None)
    np.testing.assert_array_equal(after.load(0).ids, kept)
    values = after.vocabulary.values(2, after.load(DAYS).ids[:2, 2]).to_pylist()
    assert (
        values == ['true', 'unknown']
        and after.load(DAYS).ids[0, 2] == kept[:, 2][np.array(days()[0]['user']) % 2 == 1][0]
    )


def test_ones_and_words_that_are_true_beside_others_are_refused(tmp_path):
    def change(d, columns):
        columns['city'] = [['true', 'false'], ['1', '0'], ['true', 'maybe'], ['true', 'false']][d] * (ROWS // 2)

    data = written(tmp_path, change)
    refused(data, tmp_path / 'w', "column 'city'", "'maybe'", 'data.csv.strings')
    data.csv.strings = ('city',)
    assert facts(data, tmp_path / 'w').values['city'] == 5, 'as written'


def test_side_tables_are_read_as_the_log_is(tmp_path, healthy):
    """Keys with a point in the log, as text in the table; a null word; a word that makes the column text in both."""
    for d, columns in enumerate(days()):
        del columns['city']
        columns['user'] = [f'{u}.0' for u in columns['user']]
        csv(tmp_path / 'log', d, columns)
    table = {'user': [*(str(u) for u in range(100, 108)), 'guest'], 'city': ['007', '7', 'NULL', *['ams'] * 6]}
    csv(tmp_path / 'log', 0, table, 'users.csv')
    data = data_of(tmp_path / 'log', side_tables=({'path': 'users.csv', 'key': 'user'},))
    found = facts(data, tmp_path / 'w')
    users = np.concatenate([np.array(day['user']) for day in days()])
    assert found.values['city'] == 3 and found.missing['city'] == np.isin(users, [102, 108]).sum()
    assert f"{(users == 108).sum()} of {DAYS * ROWS} rows have a 'user' that users.csv does not" in found.said


def test_a_side_table_with_none_of_the_keys_is_refused(tmp_path):
    for d, columns in enumerate(days()):
        del columns['city']
        csv(tmp_path / 'log', d, columns)
    csv(tmp_path / 'log', 0, {'user': ['u100', 'u101'], 'city': ['a', 'b']}, 'users.csv')
    data = data_of(tmp_path / 'log', side_tables=({'path': 'users.csv', 'key': 'user'},))
    refused(data, tmp_path / 'w', "users.csv has none of the log's values of 'user'", "'u100'", "'100'")


def test_rows_without_a_user_are_in_no_group(tmp_path):
    """GAUC is that of the known users alone, and each row without one is a test user of its own."""

    def change(d, columns):
        columns['user'] = ['' if k % 5 < 3 else u for k, u in enumerate(columns['user'])]

    stream = open_stream(written(tmp_path, change), tmp_path / 'w', lambda line: None)
    block, z = stream.load(2), np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
    known = block.ids[:, 0] != 0
    assert (block.group[~known] == -1).all() and (~known).sum() == 30
    np.testing.assert_array_equal(stream.outcomes(2)[1], block.group)
    assert metrics.gauc(z, block.label, block.group) == metrics.gauc(z[known], block.label[known], block.ids[known, 0])
    assert np.isnan(metrics.gauc(z, block.label, np.full(ROWS, -1)))
    draws = auc_user_bootstrap(z[None], block.label, block.group, resamples=400)
    alone = auc_user_bootstrap(
        z[None], block.label, np.where(known, block.group, 1000 + np.arange(ROWS)), resamples=400
    )
    np.testing.assert_array_equal(draws, alone)


# Labels.


@pytest.mark.parametrize('positive', [('true',), (True,), (1,), ('TRUE',)])
@pytest.mark.parametrize('words', [('true', 'false'), ('True', 'False'), ('1', '0')])
def test_labels_in_words_are_positive_in_every_file(tmp_path, healthy, positive, words):
    def change(d, columns):
        columns['y'] = [words[1 - y] for y in columns['y']]
        if d in (1, 3):
            columns['y'][columns['y'].index(words[1])] = 'unknown'

    data = written(tmp_path, change)
    data.label.positive = positive
    assert facts(data, tmp_path / 'w').clicks == healthy.clicks


def test_a_label_of_booleans_in_parquet_is_the_same(tmp_path, healthy):
    def change(d, columns):
        columns['y'] = [bool(y) for y in columns['y']]

    data = written(tmp_path, change, parquet)
    assert facts(data, tmp_path / 'w').clicks == healthy.clicks
    data.label.positive = ('true',)
    assert facts(data, tmp_path / 'v').clicks == healthy.clicks


def test_a_positive_word_that_no_row_has_is_refused(tmp_path):
    data = written(tmp_path, lambda d, columns: columns.update(y=['yes' if y else 'no' for y in columns['y']]))
    data.label.positive = ('Yes',)
    refused(data, tmp_path / 'w', "data.label.positive holds 'Yes', which no row of 'y' has; there are: no, yes")
    data.label.positive = ('yes',)
    assert facts(data, tmp_path / 'w').rows == [ROWS] * DAYS


def test_a_date_is_that_date_at_midnight(tmp_path, healthy):
    def dates(values):
        return pa.array([datetime.date(2000, 1, 1) + datetime.timedelta(days=v) for v in values])

    kinds = (pa.date32(), pa.timestamp('us'), pa.timestamp('ns'), pa.date64())
    data = written(tmp_path, lambda d, c: c.update(user=dates(c['user']).cast(kinds[d])), parquet)
    assert same(facts(data, tmp_path / 'w'), healthy)


def test_a_number_cuts_no_blocks_and_is_no_key(tmp_path):
    data = written(tmp_path, lambda d, columns: columns.update(day=[d] * ROWS))
    data.block.update(by='column', column='day')
    data.numeric = {'x': 4, 'day': 3}
    refused(data, tmp_path / 'w', "'day' is in data.numeric and is data.block.column")
    assert not (tmp_path / 'w').exists()


def test_positive_floats_and_thresholds_with_decimal_commas(tmp_path, healthy):
    data = written(tmp_path / 'a', lambda d, c: c.update(y=[4.5 if y else 2.0 for y in c['y']]), parquet)
    data.label.positive = (4.5,)
    assert same(facts(data, tmp_path / 'w'), healthy)
    data = written(
        tmp_path / 'b',
        lambda d, c: c.update(y=['4,5' if y else '2,5' for y in c['y']], x=[str(x).replace('.', ',') for x in c['x']]),
        lambda root, d, columns: csv(root, d, columns, delimiter=';'),
    )
    data.csv.update(delimiter=';', decimal_point=',')
    data.label.threshold = 4
    assert same(facts(data, tmp_path / 'v'), healthy)


def test_narrow_dictionaries_and_small_decimals_are_read(tmp_path, healthy):
    def table(d, columns):
        user = (
            pa.array([f'u{u}' for u in columns['user']]).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string()))
        )
        return pa.table({**columns, 'user': user})

    parquet(
        tmp_path / 'a',
        0,
        pa.concat_tables([table(d, columns) for d, columns in enumerate(days())]),
        row_group_size=ROWS,
    )
    assert same(facts(data_of(tmp_path / 'a'), tmp_path / 'w'), healthy)
    if hasattr(pa, 'decimal32'):
        data = written(
            tmp_path / 'b',
            lambda d, c: c.update(user=pa.array([decimal.Decimal(u) for u in c['user']], pa.decimal32(5, 0))),
            parquet,
        )
        assert same(facts(data, tmp_path / 'v'), healthy)
