"""examples/search_optuna.py on the tiny run: it searches, it goes on, it says how to confirm."""

import importlib.util
import pathlib
import shutil

import pytest

pytest.importorskip('optuna', reason='optuna is not installed: examples/search_optuna.py searches with it')
PATH = pathlib.Path(__file__).resolve().parent.parent / 'examples' / 'search_optuna.py'


@pytest.fixture(scope='module')
def example():
    spec = importlib.util.spec_from_file_location('search_example', PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_search_goes_on_and_confirms(example, distilled, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    run, asked, real = shutil.copytree(distilled, tmp_path / 'run'), [], example.config_of
    monkeypatch.setattr(example, 'config_of', lambda *args: asked.append(real(*args)) or asked[-1])
    example.main(run / 'memory', 2, False)
    first = capsys.readouterr().out
    assert len(asked) == 2 and 'with probability 0.' in first and '--confirm trains both' in first
    assert (run / 'objective' / 'search.log').exists()
    example.main(run / 'memory', 3, True)
    assert len(asked) == 3, 'two were kept'
    out = capsys.readouterr().out
    assert out.count('on the full log, 6 seeds') == 2
    configs = [str(sorted(config.items())) for config in asked]
    assert len(set(configs)) == 3, 'what goes on draws anew'
