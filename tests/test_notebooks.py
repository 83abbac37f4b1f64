"""The notebooks of examples/ run from top to bottom, the second on the memory of the first, and are kept clean."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import one_device

ROOT = Path(__file__).resolve().parent.parent
NAMES = ('from_my_log', 'my_pytorch_model')


def cells(name: str) -> list[dict]:
    return json.loads((ROOT / 'examples' / f'{name}.ipynb').read_text(encoding='utf-8'))['cells']


def run(name: str, where: Path) -> str:
    """What the code cells print, one after the other in a process of their own. A quick compilation will do."""
    code = '\n'.join(''.join(cell['source']) for cell in cells(name) if cell['cell_type'] == 'code')
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    env = one_device(JAX_DISABLE_MOST_OPTIMIZATIONS='1', XDG_CACHE_HOME=str(where / 'cache'), PYTHONPATH=path)
    (where / f'{name}.py').write_text(code, encoding='utf-8')  # as a file, so that an error has its line
    command = [sys.executable, f'{name}.py']
    done = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def first(tmp_path_factory):
    where = tmp_path_factory.mktemp('notebooks')
    return where, run('from_my_log', where)


def test_from_my_log(first):
    where, said = first
    assert '360 rows stand for 18,000' in said and 'fm-no-author   expected AUC on the log 0.' in said
    assert Path(said.strip().splitlines()[-1]) == where / 'runs' / 'mylog' / 'ideas' / 'report.html'
    assert Path(said.strip().splitlines()[-1]).exists()


@pytest.mark.skipif(
    importlib.util.find_spec('torch') is None, reason='torch is not installed: the notebook trains with it'
)
def test_my_pytorch_model(first):
    said = run('my_pytorch_model', first[0])
    assert 'two-towers: 12/12 ids' in said and 'two-towers     expected AUC on the log 0.' in said


@pytest.mark.parametrize('name', NAMES)
def test_it_is_stored_without_outputs(name):
    for cell in cells(name):
        if cell['cell_type'] == 'code':
            assert cell['outputs'] == [] and cell['execution_count'] is None
