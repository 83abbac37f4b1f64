"""The shape of the code: who may import whom, and how much a function asks of its caller (CONTRIBUTING.md)."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'diet_jax'
MODULES = sorted(PACKAGE.rglob('*.py'))
# What starts so slowly that --help should not wait for it, or must not start before the process has joined others.
SLOW = {'diet_jax.commands.doors', 'diet_jax.report', 'diet_jax.report.sweep', 'diet_jax.run'}


def allowed() -> dict[str, set[str]]:
    """package -> the packages that it may import, from the list in CONTRIBUTING.md."""
    text = re.search(r'```imports\n(.*?)```', (ROOT / 'CONTRIBUTING.md').read_text(), re.S)[1]
    lines = (line.partition(':') for line in text.splitlines() if line.strip())
    return {name.strip(): set(filter(None, re.split(r'[,\s]+', others))) for name, _, others in lines}


def imports(path: Path):
    """(module of this library that is imported, whether inside a function) of every import in a file."""
    tree = ast.parse(path.read_text())
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'diet_jax':
            for alias in (a for a in node.names if a.name != '__version__'):  # there before any module is
                module = PACKAGE.parent / node.module.replace('.', '/') / alias.name
                whole = module.is_dir() or module.with_suffix('.py').exists()
                yield f'{node.module}.{alias.name}' if whole else node.module, id(node) in inner
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split('.')[0] == 'diet_jax':
                    yield alias.name, id(node) in inner


def name_of(path: Path) -> str:
    return '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts).removesuffix('.__init__')


def test_the_list_names_every_package_and_only_those_above_it():
    packages, above = allowed(), set()
    there = {path.name for path in PACKAGE.iterdir() if (path / '__init__.py').exists()}
    assert set(packages) == there
    for name, others in packages.items():
        assert others <= above, f'{name} would import {others - above}, which stand below it'
        above.add(name)


@pytest.mark.parametrize('path', [p for p in MODULES if p.parent != PACKAGE], ids=name_of)
def test_a_module_imports_what_its_package_may(path):
    package = path.relative_to(PACKAGE).parts[0]
    for module, inner in imports(path):
        other = module.split('.')[1]
        assert other == package or other in allowed()[package], f'{path}: {package} may not import {module}'
        slow = package == 'commands' and module.startswith(tuple(SLOW))
        assert slow or not inner, f'{path}: {module} is imported in a function'


def test_no_module_imports_itself_through_others():
    modules = [path for path in MODULES if path.parent != PACKAGE]
    graph = {name_of(path): {module for module, inner in imports(path) if not inner} for path in modules}
    done, path = set(), []

    def visit(name):
        assert name not in path, ' -> '.join([*path, name])
        if name in done or name not in graph:
            return
        path.append(name)
        for other in graph[name]:
            if not name.startswith(f'{other}.'):  # a package that a module is in is there when the module is
                visit(other)
        path.pop()
        done.add(name)

    for name in graph:
        visit(name)


def functions():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield path, node


def test_no_function_takes_more_than_seven_arguments_by_position():
    many = {
        f'{path.name}:{f.name}': len(f.args.posonlyargs + f.args.args)
        for path, f in functions()
        if len(f.args.posonlyargs + f.args.args) > 7
    }
    assert not many


def test_no_file_outgrows_one_concept():
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert not {path: n for path, n in lines.items() if n > 420}


def test_no_comment_cites_a_page_that_is_not_there():
    for path in (*MODULES, *ROOT.glob('configs/**/*.py'), *ROOT.glob('scripts/*.py'), *ROOT.glob('benchmarks/*.py')):
        for page in re.findall(r'docs/[\w/-]+\.md', path.read_text()):
            assert (ROOT / page).exists(), f'{path} cites {page}'


def test_one_place_writes():
    """All that changes the disk goes through base/atomic.py, where tests put their faults."""
    changes = {'rename', 'unlink', 'rmdir', 'touch', 'write_text', 'symlink_to', 'rmtree', 'copytree', 'copy2', 'fsync'}
    files = {'write_table', 'ParquetWriter', 'savez', 'savez_compressed'}  # given an open file, of `write_bytes`
    found = []
    for path in (p for p in MODULES if p != PACKAGE / 'base' / 'atomic.py'):
        for call in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)):
            name = getattr(call.func, 'attr', getattr(call.func, 'id', ''))
            words = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            opens = name == 'open' and any(set(word) <= set('rwaxbt+') and set(word) & set('wax+') for word in words)
            given = [a.id for a in call.args if isinstance(a, ast.Name)]
            whole = (
                name in files
                and not ast.unparse(call.func).startswith('writer.')
                and not {'file', 'encoded'} & set(given)
            )
            method = (
                name in changes and isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) != 'atomic'
            )
            if opens or whole or method:
                found.append(f'{path.relative_to(PACKAGE)}:{call.lineno} {ast.unparse(call.func)}')
    locked = [line for line in found if line.startswith('base/lock.py')]
    assert len(locked) == 1 and found == locked, found  # the lock itself is no file that anybody reads
