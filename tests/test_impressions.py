"""Lists of items become rows, and the first of several values is taken: against what is written out by hand."""

import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from diet_jax.base.errors import UserError
from diet_jax.config.data import NULL_WORDS
from diet_jax.data.impressions import check_shown, explode


def how(**changes):
    return {'items': 'shown', 'clicked': '', 'separator': ' ', 'mark': '', 'parallel': [], **changes}


def where(name):
    return f"day0.csv: column '{name}'"


def exploded(columns, wanted=(), label='clicked', **changes):
    return explode(columns, how(**changes), label, where, NULL_WORDS, wanted)


def plain(columns):
    return {name: column.to_pylist() for name, column in columns.items()}


def shown_of(array, separator=' ', kind=None):
    """The items of every cell."""
    array = array if isinstance(array, (pa.Array, pa.ChunkedArray)) else pa.array(array, kind)
    log = {'shown': array, 'hit': pa.nulls(len(array))}
    found, parent, _ = exploded(log, separator=separator, clicked='hit')
    items = found['shown'].to_pylist()
    return [[item for item, row in zip(items, parent) if row == k] for k in range(len(array))]


# Rows.


def test_text_with_marks_as_mind_has_it():
    log = {'user': pa.array([7, 8, 9]), 'shown': pa.array(['N1-0 N-2-1  N3-0', None, ' N4-1 ']), 'day': pa.array('abc')}
    log['day'] = pa.array(['a', 'b', 'c']).dictionary_encode()
    found, parent, facts = exploded(log, ('position', 'list_length', 'user'), mark='-')
    assert plain(found) == {
        'user': [7, 7, 7, 9],
        'shown': ['N1', 'N-2', 'N3', 'N4'],
        'day': ['a', 'a', 'a', 'c'],
        'clicked': [0, 1, 0, 1],
        'position': [0, 1, 2, 0],
        'list_length': [3, 3, 3, 1],
    }
    assert found['shown'].type == pa.string() and pa.types.is_dictionary(found['day'].type)
    assert all(found[name].type == pa.int64() for name in ('clicked', 'position', 'list_length'))
    assert parent.dtype == np.int64 and parent.tolist() == [0, 0, 0, 2]
    assert facts == {'impressions': 3, 'rows': 4, 'empty': 1, 'clicked': 2, 'not_shown': 0}


def test_lists_beside_lists_of_clicks_as_ebnerd_has_it():
    log = {
        'shown': pa.array([[1, 2, 3], [4, 2], None, [], [5, None, 5]], pa.list_(pa.int32())),
        'hit': pa.array([[3, 1], [9, None], [1], None, [5, 5]], pa.list_(pa.int64())),
        'user': pa.array(list('abcde')),
    }
    found, parent, facts = exploded(log, clicked='hit')
    assert plain(found) == {
        'shown': [1, 2, 3, 4, 2, 5, None, 5],
        'user': ['a', 'a', 'a', 'b', 'b', 'e', 'e', 'e'],
        'clicked': [1, 0, 1, 0, 0, 1, 0, 1],
    }
    assert found['shown'].type == pa.int32() and parent.tolist() == [0, 0, 0, 1, 1, 4, 4, 4]
    assert facts == {'impressions': 5, 'rows': 8, 'empty': 2, 'clicked': 4, 'not_shown': 2}


def test_the_column_of_clicks_may_have_the_name_of_the_label():
    log = {'clicked': pa.array(['2']), 'shown': pa.array(['1 2'])}
    assert plain(exploded(log, clicked='clicked')[0]) == {'clicked': [0, 1], 'shown': ['1', '2']}
    assert plain(exploded(log, clicked='clicked', label='y')[0]) == {'shown': ['1', '2'], 'y': [0, 1]}


SHOWN = [[1, 2, 3], [4, 5], [6]]
CLICKED = [[2], [], [6]]
FORMS = {
    'int32': lambda rows: pa.array(rows, pa.list_(pa.int32())),
    'int64': lambda rows: pa.array(rows, pa.large_list(pa.int64())),
    'uint8': lambda rows: pa.array(rows, pa.list_(pa.uint8())),
    'float': lambda rows: pa.array(rows, pa.list_(pa.float64())),
    'text': lambda rows: pa.array([[str(x) for x in row] for row in rows], pa.list_(pa.large_string())),
    'dictionary': lambda rows: pa.ListArray.from_arrays(
        np.cumsum([0, *map(len, rows)]).astype(np.int32),
        pa.array([str(x) for row in rows for x in row], pa.string()).dictionary_encode(),
    ),
    'binary': lambda rows: pa.array([[str(x).encode() for x in row] for row in rows], pa.list_(pa.binary())),
    'words': lambda rows: pa.array([' '.join(map(str, row)) for row in rows]),
    'coded words': lambda rows: pa.array([' '.join(map(str, row)) for row in rows]).dictionary_encode(),
    'bytes': lambda rows: pa.array([' '.join(map(str, row)).encode() for row in rows]),
    'printed': lambda rows: pa.array([str(row) for row in rows]),
    'points': lambda rows: pa.array([str([float(x) for x in row]) for row in rows]),
    'slice': lambda rows: pa.array([[9], *rows, [9]]).slice(1, len(rows)),
}


@pytest.mark.parametrize('shown', FORMS)
@pytest.mark.parametrize('clicked', FORMS)
def test_items_are_compared_by_what_they_mean_whatever_their_type(shown, clicked):
    log = {'shown': FORMS[shown](SHOWN), 'hit': FORMS[clicked](CLICKED)}
    found, parent, facts = exploded(log, clicked='hit')
    assert found['clicked'].to_pylist() == [0, 1, 0, 0, 0, 1] and parent.tolist() == [0, 0, 0, 1, 1, 2]
    assert [float(x) for x in found['shown'].to_pylist()] == [1, 2, 3, 4, 5, 6]
    assert facts == {'impressions': 3, 'rows': 6, 'empty': 0, 'clicked': 2, 'not_shown': 0}


@pytest.mark.parametrize('kind', [pa.int64(), pa.float64(), pa.string()])
def test_one_click_a_row_needs_no_list(kind):
    hit = pa.array([12, None, 11, 12]).cast(kind)
    log = {'shown': pa.array(['11|12|13', '11|12', '11', '13']), 'hit': hit}
    found, _, facts = exploded(log, clicked='hit', separator='|')
    assert found['clicked'].to_pylist() == [0, 1, 0, 0, 0, 1, 0] and facts['not_shown'] == 1


def test_lists_of_one_size_and_their_nulls():
    shown = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2))
    assert shown_of(shown) == [[1, 2], [], [3, 4]]
    assert shown_of(shown.slice(1)) == [[], [3, 4]]


def test_no_rows_and_rows_without_a_list():
    for shown in (pa.array([], pa.string()), pa.array([None, None], pa.string()), pa.nulls(3), pa.array(['', ' '])):
        log = {'shown': shown, 'hit': shown, 'x': pa.array(range(len(shown)))}
        found, parent, facts = exploded(log, ('position',), clicked='hit')
        assert {name: len(column) for name, column in found.items()} == dict(shown=0, x=0, clicked=0, position=0)
        assert len(parent) == 0 and facts['empty'] == len(shown) == facts['impressions']
    log = {'shown': pa.array(['', None])}
    assert plain(exploded(log, mark='-')[0]) == {'shown': [], 'clicked': []}


def test_against_a_loop():
    """A seeded log, row by row in Python."""
    rng = np.random.default_rng(0)
    shown = [rng.choice(30, rng.integers(0, 8)).tolist() for _ in range(500)]
    clicked = [rng.choice(30, rng.integers(0, 3)).tolist() for _ in shown]
    log = {'shown': FORMS['int32'](shown), 'hit': FORMS['coded words'](clicked), 'prices': FORMS['printed'](shown)}
    found, parent, facts = exploded(log, ('position', 'list_length'), clicked='hit', parallel=['prices'])
    rows = [(r, p, x, len(s), int(x in clicked[r])) for r, s in enumerate(shown) for p, x in enumerate(s)]
    got = (parent, *(found[name].to_pylist() for name in ('position', 'shown', 'list_length', 'clicked')))
    assert list(zip(*got)) == rows
    assert found['prices'].to_pylist() == [str(row[2]) for row in rows]
    assert facts['clicked'] == sum(row[-1] for row in rows) > 0
    assert facts['not_shown'] == sum(len(set(c) - set(s)) for s, c in zip(shown, clicked)) > 0
    assert facts['empty'] == sum(not s for s in shown)


def test_batches_give_what_the_whole_gives():
    shown = pa.array([' '.join(map(str, range(k % 4))) for k in range(20)]).dictionary_encode()
    log = {'shown': shown, 'hit': pa.array(['0'] * 20)}
    whole, parent, facts = exploded(log, ('position',), clicked='hit')
    parts = []
    for start in range(0, 20, 3):
        rows = {name: column.slice(start, 3) for name, column in log.items()}
        parts.append(explode(rows, how(clicked='hit'), 'clicked', where, NULL_WORDS, ('position',), whole=False))
    for name, column in whole.items():
        assert sum((part[0][name].to_pylist() for part in parts), []) == column.to_pylist()
    assert np.concatenate([part[1] + 3 * k for k, part in enumerate(parts)]).tolist() == parent.tolist()
    assert {key: sum(part[2][key] for part in parts) for key in facts} == facts


def test_a_million_lists_take_seconds():
    text = pa.array([' '.join(str(1000 * k + j) for j in range(10)) for k in range(1000)])
    log = {'shown': text.take(pa.array(np.arange(1_000_000) % 1000)), 'user': pa.array(np.arange(1_000_000))}
    log['hit'] = pa.array(np.arange(1_000_000) % 1000 * 1000 + 3)
    start = time.monotonic()
    found, _, facts = exploded(log, clicked='hit')
    assert facts['clicked'] == 1_000_000 and facts['rows'] == 10_000_000
    assert pc.all(pc.equal(found['clicked'], pa.array(np.arange(10_000_000) % 10 == 3).cast(pa.int64()))).as_py()
    assert time.monotonic() - start < 60  # 4 s on two idle cores


# Text.


@pytest.mark.parametrize(
    'separator, cell, items',
    [
        (' ', ' a  b\tc ', ['a', 'b', 'c']),
        (',', 'a, b ,c', ['a', 'b', 'c']),
        ('|', 'a b|c|', ['a b', 'c']),
        ('|', 'a||b', ['a', '', 'b']),
        ('||', 'a||b', ['a', 'b']),
        ('\t', 'a\tb', ['a', 'b']),
        ('|', '|', ['']),
        ('.', 'a.b', ['a', 'b']),  # no pattern
        (' ', 'NULL', []),
        (' ', '', []),
        ('|', '  ', []),
    ],
)
def test_text_is_split_at_the_separator(separator, cell, items):
    assert shown_of([cell, 'x'], separator) == [items, ['x']]


@pytest.mark.parametrize('separator', [' ', ',', '|'])
@pytest.mark.parametrize(
    'cell, items',
    [
        ('[1, 2, 3]', ['1', '2', '3']),
        ('[1,2]', ['1', '2']),
        (' [1 2\n  3] ', ['1', '2', '3']),
        ('[1]', ['1']),
        ('[1, 2,]', ['1', '2']),
        ("['a', 'b']", ['a', 'b']),
        ('["a","b"]', ['a', 'b']),
        ("['a' 'b']", ['a', 'b']),
        ("['a']", ['a']),
        ("['New York, NY', 'Rome']", ['New York, NY', 'Rome']),
        ("[\"it's\", 'b']", ["it's", 'b']),
        ("['a', None, 'b']", ['a', '', 'b']),
        ('[1, nan, None]', ['1', '', '']),
        ('[null]', ['']),
        ("['nano', 'none']", ['nano', 'none']),
        ("['a', 1]", ['a', '1']),
        ("['']", ['']),
        ('[]', []),
        ('[ ]', []),
    ],
)
def test_printed_lists_are_known_whatever_the_separator(separator, cell, items):
    assert shown_of([cell, 'x', None, cell], separator) == [items, ['x'], [], items]
    assert shown_of([cell], separator) == [items]
    assert shown_of(pa.array(['x', cell, cell]).dictionary_encode(), separator) == [['x'], items, items]


@pytest.mark.parametrize('cell', ['[1 2 ... 8 9]', '[1, 2, ..., 9]', '[[1], [2]]'])
def test_lists_that_were_shortened_are_refused(cell):
    refused(
        {'shown': pa.array(['1', cell])}, "column 'shown' holds", cell, 'a list that was shortened', clicked='shown'
    )


# Parallel columns.


def test_parallel_columns_go_with_the_items():
    log = {
        'shown': pa.array(['a b', None, 'c', 'd e']),
        'hit': pa.array(['a', None, None, None]),
        'prices': pa.array(['1.5 2', '', '[3]', None]),
        'ranks': pa.array([[1, 2], [], [None], [4, 5]]),
    }
    found, _, _ = exploded(log, clicked='hit', parallel=['prices', 'ranks'])
    assert found['prices'].to_pylist() == ['1.5', '2', '3', None, None]
    assert found['ranks'].to_pylist() == [1, 2, None, 4, 5] and found['ranks'].type == pa.int64()


def test_parallel_columns_of_another_length_are_refused():
    log = {'shown': pa.array(['a b', 'c d e']), 'hit': pa.array(['a', 'c']), 'prices': pa.array([[1, 2], [3, 4]])}
    said = ("column 'prices' holds 2 values in row 2, [3, 4], where 'shown' holds 3, ['c', 'd', 'e']: write one",)
    refused(log, *said, clicked='hit', parallel=['prices'])
    log['prices'] = pa.array([[1, 2], []], pa.list_(pa.int64()))
    refused(log, 'holds 0 values in row 2, []', clicked='hit', parallel=['prices'])
    with pytest.raises(UserError, match='in row 1002, '):
        explode(log, how(clicked='hit', parallel=['prices']), 'y', where, (), (), first_row=1000)


# Errors.


def refused(columns, *parts, wanted=(), label='clicked', **changes):
    with pytest.raises(UserError) as error:
        exploded(columns, wanted, label, **changes)
    text = str(error.value)
    assert '\n' not in text and text.startswith('day0.csv: ') and all(part in text for part in parts), text


@pytest.mark.parametrize('item', ['N2', 'N2-', 'N2-2', 'N2-yes', '-', '3'])
def test_an_item_without_its_mark_is_shown(item):
    said = f"column 'shown' holds the item '{item}', which does not end in '-0' or '-1'"
    refused({'shown': pa.array(['N1-0 N3-1', f'N1-0 {item}'])}, said, 'data.impressions.mark', mark='-')


def test_marks_may_be_true_and_false_and_long():
    log = {'shown': pa.array([['a::True', 'b::FALSE'], ['c::x::1']])}
    found, _, _ = exploded(log, mark='::')
    assert plain(found) == {'shown': ['a', 'b', 'c::x'], 'clicked': [1, 0, 1]}


def test_what_is_no_list_is_refused():
    ints = pa.array([1, 2])
    refused({'shown': ints}, "column 'shown' is of type int64 and holds 1: it must hold lists", mark='-')
    refused({'shown': pa.array([[1]])}, "'shown' holds lists of int64, in which no mark '-' can be", mark='-')
    refused({'shown': pa.array([[None, 'a-1']])}, 'holds the item None', mark='-')
    structs = {'shown': pa.array([[{'a': 1}]]), 'hit': ints.slice(1)}
    refused(structs, "'shown' holds lists of struct", 'correct data.impressions', clicked='hit')
    refused({'shown': pa.array([b'\xff'])}, 'bytes that are no UTF-8', mark='-')
    refused({'show': ints}, "column 'shown' is not there (did you mean 'show'?)", mark='-')
    refused({'shown': pa.array(['a'])}, "column 'hit' is not there", clicked='hit')
    refused({'shown': pa.array(['a'])}, "column 'price' is not there", mark='-', parallel=['price'])


def test_a_wrong_separator_is_noticed():
    log = {'shown': pa.array(['N1-0 N2-1'] * 100)}
    said = "holds 'N1-0 N2-1', and no list has the separator ','"
    refused(log, said, 'data.impressions.separator', mark='-', separator=',')
    assert exploded({'shown': pa.array(['N1-1'] * 100)}, mark='-', separator=',')[2]['rows'] == 100


@pytest.mark.parametrize('name', ['position', 'list_length'])
def test_names_that_are_made_are_not_there_already(name):
    log = {'shown': pa.array(['a-1']), name: pa.array([5])}
    refused(log, f"column '{name}' is there, and is also made", f"(('{name}', 'my_{name}'),)", wanted=[name], mark='-')
    assert exploded(log, mark='-')[0][name].to_pylist() == [5]
    log = {'shown': pa.array(['a-1']), 'y': pa.array([1])}
    refused(log, "column 'y' is there, and is also the label", "data.rename = (('y', 'my_y'),)", label='y', mark='-')


def test_clicks_none_of_which_was_shown_are_refused():
    log = {'shown': pa.array(['N1 N2', 'N3']), 'hit': pa.array(['1', '3'])}
    said = "column 'hit': none of its 2 clicked items is in the row's 'shown' ('1' was clicked, 'N1' was shown)"
    refused(log, said, 'write items in one way', clicked='hit')
    facts = explode(log, how(clicked='hit'), 'y', where, (), (), whole=False)[2]
    assert facts['not_shown'] == 2
    with pytest.raises(UserError, match='none of its 2 clicked items'):
        check_shown(facts, how(clicked='hit'), where)
    check_shown({**facts, 'clicked': 1}, how(clicked='hit'), where)
    log['hit'] = pa.nulls(2, pa.string())
    assert exploded(log, clicked='hit')[2]['clicked'] == 0, 'no click at all is no mistake'


# The first of several values.


# The config.
