"""A process ends after Arrow has parsed: no thread of Arrow's still holds a Python object."""

import ast
import sys
import time
from pathlib import Path

import pytest

from diet_jax.base import arrow
from diet_jax.config.data import default_data
from diet_jax.data import files, tables

PACKAGE = Path(arrow.__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ('encoding', 'delimiter'), [('latin1', ','), ('utf-16', ','), ('cp1252', '::'), ('UTF-8', ',')]
)
def test_a_stream_is_let_go_of_before_the_process_ends(encoding, delimiter, tmp_path):
    """Closed at its header, while Arrow reads ahead; and read to its end, a line without a line break."""
    rows = [('user', 'caf\u00e9'), *((str(n), f'\u00e9{n}') for n in range(100_000))]
    (tmp_path / 'log.csv').write_bytes('\n'.join(map(delimiter.join, rows)).encode(encoding))
    data = default_data()
    data.csv.update(encoding=encoding, delimiter=delimiter)
    root = files.open_root(str(tmp_path))
    [file], form = files.find_files(root, ('log.csv',)), tables.Form(data.csv, {})
    assert tables.column_names(root, file, form) == list(rows[0])
    assert tables.read_columns(root, file, form, rows[0])['caf\u00e9'].to_pylist() == [b for _, b in rows[1:]]
    began = time.monotonic()
    arrow._wait()
    assert not arrow._LENT and time.monotonic() - began < arrow.PATIENCE


def test_a_header_alone_is_one_in_any_encoding(tmp_path):
    (tmp_path / 'log.csv').write_bytes('user,caf\u00e9'.encode('utf-16'))
    data = default_data()
    data.csv.encoding = 'utf-16'
    root = files.open_root(str(tmp_path))
    [file] = files.find_files(root, ('log.csv',))
    assert tables.column_names(root, file, tables.Form(data.csv, {})) == ['user', 'caf\u00e9']


def test_arrow_reads_its_own_copy_of_bytes():
    data = bytearray(b'a,b\n1,2\n')
    held = sys.getrefcount(data)
    source = arrow.source(data)
    assert sys.getrefcount(data) == held
    data[:] = b''  # a buffer that were lent could not be resized
    assert source.read() == b'a,b\n1,2\n'
    assert arrow.source(b'').read() == b''


def test_no_other_module_gives_arrow_python_objects():
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and path != Path(arrow.__file__).resolve():
                name = ast.unparse(node.func)
                lends = {'BufferReader', 'py_buffer', 'PythonFile'} & {name.split('.')[-1]}
                named = [k for k in node.keywords if k.arg == 'encoding' and 'ReadOptions' in name]
                assert not lends and not named, f'{path}:{node.lineno} gives Arrow what Python owns: use base.arrow'
