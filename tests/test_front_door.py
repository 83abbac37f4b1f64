"""The front door: what `import diet_jax` offers, the commands, and the wheel that brings them."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import jax
import pytest
import tiny
from commands import one_device

import diet_jax
from diet_jax.base.loading import found
from diet_jax.report import scalars
from diet_jax.run import processes
from diet_jax.run.record import read_metrics

ROOT = Path(__file__).resolve().parent.parent
IDEAS = """
from ml_collections import ConfigDict


def get_config():
    return ConfigDict(dict(dim=4))


def sweep(add):
    add('fm', model='fm')
    add('fm-dim2', model='fm', dim=2)
"""


@pytest.fixture
def no_cache_left():
    """The folder of compiled programs, which the doors choose for the whole process, is as before."""
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update('jax_compilation_cache_dir', before)


def test_every_name_of_the_front_door_is_there_and_documented():
    for name in diet_jax.__all__:
        assert getattr(diet_jax, name) is not None
        assert name == '__version__' or getattr(diet_jax, name).__doc__
    assert set(diet_jax.__all__) <= set(dir(diet_jax))
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        diet_jax.distil  # noqa: B018
    assert (ROOT / 'diet_jax' / 'py.typed').exists()


def test_importing_starts_nothing():
    """Neither JAX nor a config is loaded before it is asked for."""
    code = "import sys, diet_jax; print([m for m in sys.modules if m.split('.')[0] in ('jax', 'flax', 'pyarrow')])"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


@pytest.mark.parametrize('name, flag', [('distill', '--workdir'), ('compare', '--margin'), ('judge', '--full')])
def test_help_says_what_a_command_does_and_its_flags(name, flag):
    said = subprocess.run([sys.executable, ROOT / 'scripts' / f'{name}.py', '--help'], capture_output=True, text=True)
    assert f'python scripts/{name}.py' in said.stdout and f'\n  {flag}: ' in said.stdout, said


def test_from_a_config_to_an_answer_in_python(tmp_path, monkeypatch, no_cache_left):
    """distill, evaluate, load_memory, compare; then compare again from another folder: paths are remembered."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(processes, 'devices', lambda: jax.devices()[:1])  # as most machines have
    monkeypatch.chdir(tmp_path)
    config, said = tiny.get_config(), []
    memory = diet_jax.distill(config, 'run', tensorboard=True, emit=said.append)
    assert memory == Path('run/memory') and (tmp_path / 'run' / 'report.html').exists()
    assert json.loads((tmp_path / 'run' / 'overhead.json').read_text())['block'] == tiny.DAYS[-1]
    assert any('stage 4/4' in line for line in said)
    result = diet_jax.evaluate(config, 'run', emit=said.append)
    assert [c['name'] for c in result['stages'][-1]['candidates']] == ['lr', 'mlp']
    rows = diet_jax.load_memory(memory)
    assert len(rows.codes) == json.loads((tmp_path / 'run' / 'memory' / 'manifest.json').read_text())['rows']
    ideas = {'wide': dict(model='mlp', hidden=(32,)), 'plain': dict(model='fm')}
    answer = diet_jax.compare(memory, ideas, tensorboard=True, emit=said.append)
    board = written_scalars(tmp_path / 'run' / 'tensorboard') | written_scalars(Path(answer['workdir']) / 'tensorboard')
    stage = result['stages'][-1]['stage']
    assert board['compare/wide/expected_auc', stage] == pytest.approx(answer['candidates'][0]['expected_auc'], rel=1e-6)
    assert ('reference/auc', 1) in board and ('reference/auc', 4) in board
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    rule = 'wide worse than plain by 0.001 with probability 0.9'  # one is as good as a list of one
    asked = {'margin': 0.001, 'fail_if': rule, 'slices': 'tab'}
    again = diet_jax.compare(tmp_path / 'run' / 'memory', ideas, **asked, emit=said.append)
    [found] = again['rules']
    assert found['probability'] == again['odds']['better'][1][0] and again['slices'][0]['name'] == 'tab'
    names = ['wide', 'plain']
    assert [c['name'] for c in answer['candidates'] if not c['of_the_library']] == names
    for one, other in zip(answer['candidates'], again['candidates'], strict=True):
        assert one['expected_auc'] == other['expected_auc']


def test_a_config_of_the_library_is_found_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert found('configs/demo.py') == str(ROOT / 'configs' / 'demo.py')
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs' / 'demo.py').write_text('')
    assert found('configs/demo.py') == 'configs/demo.py'  # the user's own comes first


def test_the_wheel_lists_every_package():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    packages = set(project['tool']['setuptools']['packages'])
    folders = [path.parent for path in (ROOT / 'diet_jax').rglob('*.py')] + [
        p.parent for p in (ROOT / 'configs').rglob('*.py')
    ]
    names = {'.'.join(folder.relative_to(ROOT).parts) for folder in folders}
    assert packages == {f'diet_jax.{n}' if n.startswith('configs') else n for n in names}


def test_the_wheel_alone_goes_from_a_log_to_an_answer(tmp_path):
    """Built, installed in an environment of its own, and run in an empty folder, by the commands that it brings."""
    source = tmp_path / 'source'  # a copy: building leaves files beside what it builds
    for name in ('diet_jax', 'configs'):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '-w', str(tmp_path)]
    subprocess.run([*build, str(source)], check=True)
    (wheel,) = tmp_path.glob('*.whl')
    names = zipfile.ZipFile(wheel).namelist()
    assert {'diet_jax/configs/demo.py', 'diet_jax/configs/pools/ctr.py', 'diet_jax/py.typed'} <= set(names)
    assert not [name for name in names if name.startswith(('tests', 'benchmarks', 'scripts'))]
    folder, python = tmp_path / 'empty', tmp_path / 'env' / 'bin' / 'python'
    venv.create(tmp_path / 'env', with_pip=False, symlinks=True)
    site = next((tmp_path / 'env' / 'lib').glob('python*')) / 'site-packages'
    # Its own copy of the library, and what that needs from where these tests run.
    install = [sys.executable, '-m', 'pip', '--python', str(python), 'install', '--quiet', '--no-deps']
    subprocess.run([*install, str(wheel)], check=True)
    (site / 'needs.pth').write_text(os.pathsep.join(p for p in sys.path if p.endswith('site-packages')) + '\n')
    folder.mkdir()
    env = one_device(XDG_CACHE_HOME=str(tmp_path / 'cache'), PYTHONPATH='')

    def run(command, *flags):
        program = [str(python), str(tmp_path / 'env' / 'bin' / command), *flags]
        done = subprocess.run(program, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [python, '-c', 'import diet_jax; print(diet_jax.__file__)'], cwd=folder, env=env, capture_output=True
    )
    assert str(site) in where.stdout.decode()
    flags = ('--config=configs/demo.py:smoke', '--workdir=runs/demo')
    assert 'memory: runs/demo/memory' in run('diet-distill', *flags)
    (folder / 'ideas.py').write_text(IDEAS)
    answer = run('diet-compare', '--memory=runs/demo/memory', '--candidates=ideas.py')
    assert 'fm-dim2' in answer and (folder / 'runs' / 'demo' / 'compare' / 'ideas' / 'report.html').exists()
    assert sorted(p.name for p in folder.iterdir()) == ['ideas.py', 'runs']


def written_scalars(folder) -> dict:
    """{(tag, step): value} of the event files in a folder: records of length, crc, protobuf, crc."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(folder.glob('events*')):
        data, at = path.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], 'little')
            event = Event.FromString(data[at + 12 : at + 12 + size])
            found |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
            at += 16 + size
    return found


def test_figures_are_tensorboard_scalars(distilled, tmp_path, monkeypatch):
    lines = read_metrics(distilled)
    scalars.write(tmp_path, True, map(scalars.of_stage, lines))
    scalars.write(tmp_path / 'unwanted', False, map(scalars.of_stage, lines))
    assert not (tmp_path / 'unwanted').exists()
    found = written_scalars(tmp_path / 'tensorboard')
    for line in lines:
        assert found['reference/auc', line['stage']] == pytest.approx(line['reference']['auc'], rel=1e-6)
        assert found['memory/rows', line['stage']] == line['memory']['rows']
    monkeypatch.setitem(sys.modules, 'tensorboardX', None)
    with pytest.raises(diet_jax.UserError, match=r"pip install 'diet-jax\[tensorboard\]'"):
        diet_jax.evaluate(diet_jax.default_config(), distilled, tensorboard=True)
