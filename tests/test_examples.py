"""The PyTorch example does what it says, on an export of the tiny run."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from diet_jax import elsewhere
from diet_jax.elsewhere.predictions import read_predictions
from diet_jax.study.export import export

torch = pytest.importorskip('torch', reason='torch is not installed: examples/pytorch.py trains with it')
PATH = pathlib.Path(__file__).resolve().parent.parent / 'examples' / 'pytorch.py'


@pytest.fixture(scope='module')
def example():
    spec = importlib.util.spec_from_file_location('pytorch_example', PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def folder(distilled, tmp_path_factory):
    return export(distilled / 'memory', tmp_path_factory.mktemp('to') / 'exports', emit=lambda line: None)


@pytest.fixture(scope='module')
def train(folder):
    return elsewhere.open_export(folder).rows('codes', 'train')


def test_the_model_is_a_deepfm(example, train):
    """sum_i w_i + sum_{i<j} <e_i, e_j> + tower: written out, pair by pair."""
    torch.manual_seed(0)
    model, codes = example.DeepFM(train.view), torch.tensor(train.codes[:5])
    assert 0.005 < model.table.weight.std().item() < 0.015 and not model.first.weight.any()
    torch.nn.init.normal_(model.first.weight)
    e, w, fields = model.table.weight[codes], model.first.weight[codes], codes.shape[1]
    pairs = sum((e[:, i] * e[:, j]).sum(1) for i in range(fields) for j in range(i))
    expected = w.sum((1, 2)) + pairs + model.deep(e.reshape(len(e), -1))[:, 0]
    torch.testing.assert_close(model(codes), expected)


def test_a_seed_is_a_training(example, train):
    first, again, other = (example.fit(train, 1e-2, seed)(train) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any() and ((first > 0) & (first < 1)).all()


def test_as_the_page_shows_it(folder):
    command = [sys.executable, str(PATH), f'--export={folder}', '--name=mine']
    paths = [str(PATH.parent.parent), *filter(None, [os.environ.get('PYTHONPATH')])]
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    path = pathlib.Path(done.stdout.strip().splitlines()[-1])
    opened = elsewhere.open_export(folder)
    found = read_predictions(path, opened.asked, opened.sizes, opened.digest, seeds=len(opened.about['seeds']))
    assert (found.name, found.framework) == ('mine', 'pytorch')
