"""The first of several values in a cell."""

import pyarrow as pa
import pytest

from diet_jax.base.errors import UserError
from diet_jax.data.impressions import first_value


@pytest.mark.parametrize('coded', [False, True])
def test_the_first_value_of_text(coded):
    cells = ['Comedy|War', ' Drama | War', 'Comedy', None, '', "['Art House', 'War']", '[]', '|War', 'Comedy|Drama']
    array = pa.array(cells).dictionary_encode() if coded else pa.array(cells)
    found = first_value(array, '|', 'f')
    assert found.to_pylist() == ['Comedy', 'Drama', 'Comedy', None, '', 'Art House', None, '', 'Comedy']
    assert pa.types.is_dictionary(found.type) == coded
    if coded:  # of different words, though many began alike
        assert len(found.dictionary) == len(set(found.dictionary.to_pylist()))
        assert first_value(array.slice(8), '|', 'f').to_pylist() == ['Comedy']


def test_the_first_value_of_lists():
    lists = pa.array([[3, 1], [], None, [None, 2], [7]], pa.list_(pa.int16()))
    for separator in ('', '|'):
        found = first_value(lists, separator, 'f')
        assert found.to_pylist() == [3, None, None, None, 7] and found.type == pa.int16()
    assert first_value(lists.slice(3), '', 'f').to_pylist() == [None, 7]
    assert first_value(pa.array([['a', 'b']], pa.large_list(pa.string())), '', 'f').to_pylist() == ['a']
    assert first_value(pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), '', 'f').to_pylist() == [1, None]
    assert first_value(pa.array([[]], pa.list_(pa.int8())), '', 'f').to_pylist() == [None]
    assert first_value(pa.array(['[4 2]', 'nan', None, '']), '', 'f').to_pylist() == ['4', 'nan', None, '']
    with pytest.raises(UserError, match=r"f holds 'a;b', text and no list: data.first_value must hold"):
        first_value(pa.array(['[1]', 'a;b']), '', 'f')


def test_one_value_a_cell_is_its_first():
    for array in (pa.array([1, None]), pa.nulls(2), pa.array([1.5]), pa.array([], pa.string())):
        assert first_value(array, '|', 'f').equals(array)
