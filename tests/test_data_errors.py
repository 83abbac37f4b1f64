"""Every bad input is one line that names the file, the column, the value and the way out."""

import re

import numpy as np
import pyarrow as pa
import pytest
from test_data import START, config, make_log, opened, write

from diet_jax.base.errors import UserError
from diet_jax.config.data import check_data


def _bad(identity, /, table=None, users=None, **changes):
    def prepare(path):
        return config(write(path, make_log() if table is None else table, users=users), **changes)

    return pytest.param(prepare, id=identity)


def _raw(identity, text, name='log.csv', encoding='utf8'):
    def prepare(path):
        write(path, make_log(), 'unused.parquet')
        (path / name).write_bytes(text)
        return config(path, csv=dict(encoding=encoding))

    return pytest.param(prepare, id=identity)


def _column(name, values):
    log = make_log()
    return log.set_column(
        log.column_names.index(name), name, values if isinstance(values, pa.Array) else pa.array(values)
    )


N = 800
BAD_INPUTS = [
    (_bad('folder', root='/nowhere/at/all'), "'/nowhere/at/all' is not a folder: set data.root"),
    (
        _bad('file', side_tables=(dict(path='user.csv', key='user'),)),
        r'no file matches data.side_tables\[0\].path user.csv .did you mean .users.csv.*correct',
    ),
    (_raw('empty file', b''), 'log.csv in .* is empty .0 bytes.'),
    (_raw('header only', b'user,item,price,click,ts,day\n'), 'log.csv has no rows'),
    (
        _raw('ragged csv', b'user,item,price,click,ts,day\n1,2,3\n'),
        'log.csv does not parse as CSV .*Expected 6 columns',
    ),
    (_raw('no parquet', b'PAR1 nothing', 'log.parquet'), 'log.parquet does not parse as Parquet'),
    (
        _raw('not utf8', b'user,item,price,click,ts,day\n1,\xff\xfe,1,1,1,1\n'),
        "column 'item' cannot be read as text .*data.csv.encoding",
    ),
    *(
        (_raw(name, b'user,item,price,click,ts,day\n', encoding=name), f'log.csv does not parse .*{name}.*data.csv')
        for name in ('base64', 'rot13', 'latin-seven')
    ),
    (_bad('field', fields=('user', 'itm', 'city')), "has column 'itm' .did you mean 'item'."),
    (_bad('time column', time=dict(column='tss')), "log.parquet has no column 'tss' .did you mean 'ts'."),
    (
        _bad('label column', label=dict(column='clicks')),
        "log.parquet has no column 'clicks' .did you mean 'click'.",
    ),
    (_bad('block column', block=dict(column='dya')), "no column 'dya' .did you mean 'day'."),
    (
        _bad('label of words', _column('click', ['yes'] * N)),
        "log.parquet: column 'click' holds 'yes', a string: .*positive",
    ),
    (
        _bad('label of stars', _column('click', [5] * N)),
        "column 'click' holds 5: .* set data.label.threshold",
    ),
    (
        _bad('one class', _column('click', [1] * N)),
        "block 20220425 has 200 rows, all with 'click' = 1: make blocks longer",
    ),
    (
        _bad('number of words', _column('price', ['cheap'] * N)),
        "log.parquet: column 'price' holds 'cheap', no number: correct it or data.numeric",
    ),
    (_bad('fraction as id', _column('user', np.full(N, 1.5))), "column 'user' holds 1.5, .*data.numeric"),
    (_bad('nested', _column('item', [[1]] * N)), "column 'item' is of type list.*take it out of data.fields"),
    (
        _bad('null time', _column('ts', [None] + [START] * (N - 1))),
        "log.parquet: column 'ts' is null in 1 of 800 rows",
    ),
    (_bad('time in words', _column('ts', ['noon'] * N)), "column 'ts' holds 'noon', .*unit='iso'"),
    (
        _bad('bad iso', _column('ts', ['noon'] * N), time=dict(unit='iso')),
        "column 'ts' does not parse as a time .*'noon'",
    ),
    (
        _bad('iso of numbers', time=dict(unit='iso')),
        "column 'ts' is of type int64, but data.time.unit is 'iso'",
    ),
    (_bad('wrong unit', time=dict(unit='s')), "column 'ts' holds 165.*, after the year 2200 in unit 's'"),
    (
        _bad('null block', _column('day', [None] + [1] * (N - 1))),
        "log.parquet: column 'day' is null in 1 rows",
    ),
    (
        _bad('duplicate keys', users=pa.table({'user': [3, 3], 'city': ['a', 'b']})),
        "users.csv: key column 'user' holds 3 more than once",
    ),
    (
        _bad('null key', users=pa.table({'user': [3, None], 'city': ['a', 'b']})),
        "users.csv: key column 'user' is null in 1",
    ),
    (
        _bad('no key', users=pa.table({'usr': [3], 'city': ['a']})),
        "users.csv has no key column 'user' .did you mean 'usr'.",
    ),
    (
        _bad('key type', users=pa.table({'user': ['a'], 'city': ['b']})),
        "users.csv has none of the log's values of 'user': 'a' there, '\\d+' in the log",
    ),
    (
        _bad('block.by', block=dict(by='day')),
        "data.block.by is 'day': it must be one of column, period, rows",
    ),
    (_bad('unit', time=dict(unit='min')), "data.time.unit is 'min': it must be one of s, ms, us, ns, iso"),
    (_bad('duplicates', duplicates='remove'), "data.duplicates is 'remove': it must be one of keep, drop"),
    (_bad('rows', block=dict(by='rows', rows=0)), 'data.block.rows is 0'),
    (_bad('too few rows', block=dict(by='rows', rows=1000)), 'not one whole block'),
    (_bad('group', group='usr'), "data.group 'usr' is no field .did you mean 'user'."),
    (_bad('twice', fields=('user', 'user')), "field 'user' is named twice"),
    (_bad('label as field', fields=('user', 'click')), "'click' is also a field"),
]


@pytest.mark.parametrize('prepare, message', [pytest.param(*p.values, m, id=p.id) for p, m in BAD_INPUTS])
def test_a_bad_input_is_one_line_that_says_what_to_do(tmp_path, prepare, message):
    with pytest.raises(UserError) as error:
        opened(prepare(tmp_path / 'data'), tmp_path / 'w')
    assert re.search(message, str(error.value)), str(error.value)
    assert '\n' not in str(error.value)


def test_a_column_of_integers_that_gets_a_word_is_text_from_then_on_and_keeps_its_slots(tmp_path):
    log = make_log()
    root = write(tmp_path, log.filter(pa.compute.less(log['day'], 20220427)), 'log_1.csv')
    data = config(root, fields=('user', 'other'))
    before = opened(data, tmp_path / 'w')
    assert before.vocabulary.types()['other'] == 'int64'
    late = log.filter(pa.compute.greater_equal(log['day'], 20220427))
    write(root, late.set_column(6, 'other', pa.array(['z9'] * len(late))), 'log_2.csv')
    after = opened(data, tmp_path / 'w')
    assert len(after.blocks) == 4 and after.vocabulary.types()['other'] == 'string'
    slots = np.arange(4, before.num_slots)
    slots = slots[before.field_of_slot(before.num_slots)[slots] == 1]
    old, new = before.values(slots).to_pylist(), after.values(slots).to_pylist()
    assert new == [str(value) for value in old], 'slots do not move'
    assert 'z9' in after.vocabulary.values(1, np.unique(after.load(3).ids[:, 1])).to_pylist()


def test_unknown_keys_of_the_config_are_named():
    with pytest.raises(UserError, match="data.block has no key 'hour' .did you mean 'hours'."):
        check_data({'block': {'hour': 3}})
    with pytest.raises(UserError, match=r"data.fields is 'user': it must be a tuple; write \('user',\)"):
        check_data({'fields': 'user'})
    with pytest.raises(UserError, match="data has no key 'side_table' .did you mean 'side_tables'."):
        check_data({'side_table': ()})
