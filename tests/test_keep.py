"""What results are kept under moves when anything that decides them does, and only then."""

import ast
import re
import shutil

import pytest

from diet_jax.base import keep
from diet_jax.study import readings
from diet_jax.trials import full_pass

LIBRARY = keep.LIBRARY


def numbers(source: str) -> list[ast.Constant]:
    """The numeric literals of a program that stand in one line, bools apart."""
    found = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)]
    return [n for n in found if type(n.value) in (int, float)]


@pytest.fixture
def copy(tmp_path):
    """The library, to be changed."""
    shutil.copytree(LIBRARY, tmp_path / 'library', ignore=shutil.ignore_patterns('__pycache__'))
    keep.code_digest.cache_clear()
    yield tmp_path / 'library'
    keep.code_digest.cache_clear()


def changed(copy, packages, path, source) -> bool:
    """Whether the digest moves when a file of the copy is so; afterwards it is as before."""
    old, before = path.read_text(), keep.key([], packages, copy)
    path.write_text(source)
    keep.code_digest.cache_clear()
    moved = keep.key([], packages, copy) != before
    path.write_text(old)
    keep.code_digest.cache_clear()
    return moved


@pytest.mark.parametrize('packages', [full_pass.CODE, readings.CODE], ids=['full side', 'rows'])
def test_one_constant_in_any_module_that_decides_numbers_moves_the_digest(copy, packages):
    one = set(packages) - ({'report', 'commands'} | set(full_pass.CODE if packages is readings.CODE else ()))
    count = 0
    for package in one:
        for path in sorted((copy / package).rglob('*.py')):
            source = path.read_text()
            if found := numbers(source):
                lines, at = source.splitlines(keepends=True), found[-1]
                line = lines[at.lineno - 1].encode()
                lines[at.lineno - 1] = (line[: at.col_offset] + b'9876' + line[at.end_col_offset :]).decode()
                assert changed(copy, [package], path, ''.join(lines)), path
                count += 1
    assert count > 10


def test_comments_docstrings_and_layout_do_not_move_it(copy):
    for path in sorted((copy / 'stats').glob('*.py')):
        source = path.read_text()
        commented = source.replace('"""', '"""Said otherwise. ', 1) + '\n\n# A comment.\n'
        assert not changed(copy, ['stats'], path, commented), path


def test_a_file_that_is_split_off_is_in_it(copy):
    """The reason for whole folders: no list of files goes stale."""
    keep.key([], full_pass.CODE, copy)
    path = copy / 'training' / 'split_off.py'
    path.write_text('RATE = 1')
    assert changed(copy, full_pass.CODE, path, 'RATE = 2')


def test_every_package_that_decides_numbers_is_declared():
    packages = {path.name for path in LIBRARY.iterdir() if (path / '__init__.py').exists()}
    # What shows, starts, writes a config, and the digest itself.
    assert packages - set(readings.CODE) == {'base', 'report', 'commands', 'describe'}


@pytest.mark.parametrize('packages', [full_pass.CODE, readings.CODE], ids=['full side', 'rows'])
def test_whatever_the_code_imports_is_declared(packages):
    for path in (p for package in packages for p in (LIBRARY / package).rglob('*.py')):
        used = re.findall(r'(?m)^\s*(?:from|import) diet_jax\.(\w+)', path.read_text())
        used += re.findall(r'(?m)^\s*from diet_jax import (\w+)', path.read_text())
        assert set(used) <= {*packages, 'base', '__version__'}, path


def test_inputs_and_versions_are_in_it(monkeypatch):
    key = keep.key({'lr': 0.1}, ['stats'])
    assert key == keep.key({'lr': 0.1}, ['stats']) and key != keep.key({'lr': 0.2}, ['stats'])
    monkeypatch.setattr(keep, '_versions', lambda: ['jax 99'])
    assert key != keep.key({'lr': 0.1}, ['stats'])
