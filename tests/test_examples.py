"""The examples of other frameworks do what they say, on an export of the tiny run."""

import importlib.util
import json
import os
import pathlib
import runpy
import subprocess
import sys

import numpy as np
import pytest

from diet_jax import elsewhere
from diet_jax.elsewhere.export import LOG, Field, Rows, View
from diet_jax.elsewhere.predictions import read_predictions
from diet_jax.study.export import export

FOLDER = pathlib.Path(__file__).resolve().parent.parent / 'examples'
LIBRARIES = {'pytorch': 'torch', 'deepctr': 'deepctr_torch', 'keras3': 'keras'}
FIELDS = (
    Field('user', 'categorical', 5, 0, 4),
    Field('item', 'categorical', 7, 1, 6),
    Field('clicked', 'list', 7, 1, 6, shares='item', width=3, sequence='clicked'),
)


def there(name: str) -> bool:
    return importlib.util.find_spec(LIBRARIES[name]) is not None


def needs(name: str):
    return pytest.mark.skipif(
        not there(name), reason=f'{LIBRARIES[name]} is not installed: examples/{name}.py trains with it'
    )


EACH = [pytest.param(name, marks=needs(name)) for name in LIBRARIES]


def load(name: str):
    spec = importlib.util.spec_from_file_location(f'{name}_example', FOLDER / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module', autouse=True)
def environment():
    """Keras on what is installed; DeepCTR asks PyPI for news when it is imported: nobody answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('KERAS_BACKEND', 'torch' if there('pytorch') else 'jax')
        for name in ('HTTPS_PROXY', 'https_proxy'):
            patch.setenv(name, 'http://127.0.0.1:9')
        yield


@pytest.fixture(scope='module')
def folder(distilled, tmp_path_factory):
    to = tmp_path_factory.mktemp('to') / 'exports'
    return export(distilled / 'memory', to, with_log=True, emit=lambda line: None)


@pytest.fixture(scope='module')
def train(folder):
    return elsewhere.open_export(folder).rows('codes', 'train')


@pytest.fixture(scope='module')
def listed():
    """Rows with a list that shares the items' table, whose values have weights: whole, short, and empty."""
    view = View('codes', FIELDS, 1, 2, (0.01,), (0, 1), 0.01)
    at = view.offsets['item']
    clicked = np.array([[1, 2, 6], [3, 0, 0], [0, 0, 0]], np.int32) + at
    codes = np.array([[0, at + 1], [4, at + 2], [1, at + 6]], np.int32)
    weights = {'clicked': np.float32([[0.5, 2, 1], [0.25, 0, 0], [0, 0, 0]])}
    return Rows(view, codes, {'clicked': clicked}, np.float32([0, 0.3, 1]), np.ones(3, np.float32), weights)


def deepfm(e, w, deep):
    """f[B]: sum_i w_i + sum_{i<j} <e_i, e_j> + tower, pair by pair. e: f[B, F, D]; w: f[B, F]; deep: f[B]."""
    pairs = sum((e[:, i] * e[:, j]).sum(1) for i in range(e.shape[1]) for j in range(i))
    return w.sum(1) + pairs + deep


def means(table, rows):
    """f[B, 1, D] of the list `clicked`, by weight; of an empty one zeros."""
    weight = rows.list_weights['clicked'][..., None]
    return ((table[rows.lists['clicked']] * weight).sum(1) / np.maximum(weight.sum(1), 1e-9))[:, None]


@needs('pytorch')
def test_the_model_of_pytorch_is_a_deepfm(train):
    import torch

    torch.manual_seed(0)
    model, codes = load('pytorch').DeepFM(train.view), torch.tensor(train.codes[:5])
    assert 0.005 < model.table.weight.std().item() < 0.015 and not model.first.weight.any()
    torch.nn.init.normal_(model.first.weight)
    e, w = model.table.weight[codes], model.first.weight[codes][..., 0]
    torch.testing.assert_close(model(codes), deepfm(e, w, model.deep(e.reshape(len(e), -1))[:, 0]))


@needs('keras3')
def test_the_model_of_keras_is_a_deepfm_with_the_means_of_lists(listed):
    import keras

    example = load('keras3')
    keras.utils.set_random_seed(0)
    model = example.DeepFM(listed.view)
    model(example.inputs(listed))
    table, first = (np.asarray(keras.ops.convert_to_numpy(x.embeddings)) for x in (model.table, model.first))
    assert 0.005 < table.std() < 0.015 and not first.any()
    model.first.embeddings.assign(np.random.default_rng(0).normal(size=first.shape))
    first = np.asarray(keras.ops.convert_to_numpy(model.first.embeddings))
    e = np.concatenate([table[listed.codes], means(table, listed)], 1)
    w = np.concatenate([first[listed.codes], means(first, listed)], 1)[..., 0]
    deep, found = model.deep(e.reshape(len(e), -1)), model(example.inputs(listed))
    found, deep = (keras.ops.convert_to_numpy(x)[:, 0] for x in (found, deep))
    np.testing.assert_allclose(found, deepfm(e, w, deep), rtol=1e-4, atol=1e-6)


@needs('deepctr')
def test_a_model_of_deepctr_begins_as_students_do_and_masks_lists(listed):
    """DeepFM, written out; every list has a table of its own, whose row of padding counts for nothing."""
    import torch

    example, columns = load('deepctr'), listed.columns
    model = example.build('DeepFM', listed.view, seed=0)
    assert all(0.004 < x.std() < 0.02 for x in model.embedding_dict.parameters())
    assert not any(x.any() for x in model.linear_model.parameters())
    assert model.dnn.linears[0].weight.std() > 0.05  # its own is 0.0001
    for part in model.linear_model.parameters():
        torch.nn.init.normal_(part)
    table, first = ({n: x.weight.detach().numpy() for n, x in part.embedding_dict.items()} for part in (
        model, model.linear_model))  # fmt: skip

    def looked_up(by_field):
        flat = [by_field[name][columns[name]][:, None] for name in ('user', 'item')]
        mask = (columns['clicked'] != 0)[..., None]
        mean = (by_field['clicked'][columns['clicked']] * mask).sum(1) / np.maximum(mask.sum(1), 1)
        return np.float32(np.concatenate([*flat, mean[:, None]], 1))

    e, w = looked_up(table), looked_up(first)[..., 0]
    deep = model.dnn_linear(model.dnn(torch.tensor(e.reshape(len(e), -1))))[:, 0].detach().numpy()
    found = model(example.inputs(listed)).detach().numpy()[:, 0]
    np.testing.assert_allclose(np.log(found / (1 - found)), deepfm(e, w, deep), rtol=1e-4, atol=1e-5)


@needs('deepctr')
@pytest.mark.parametrize('name', ['AutoInt', 'DCN', 'FiBiNET', 'NFM', 'PNN', 'WDL', 'xDeepFM'])
def test_a_model_of_deepctr_learns(listed, name):
    """With lists too: two rows that are there often enough are told apart."""
    example, often = load('deepctr'), listed.take(np.array([0, 2] * 40))
    assert name in example.MODELS
    p = example.fit(often, 0.02, 0, name)(listed)
    assert p.shape == (3,) and p[0] < 0.4 and p[2] > 0.6
    np.testing.assert_array_equal(p, example.fit(often, 0.02, 0, name)(listed))


@needs('pytorch')
def test_a_seed_is_a_training(train):
    example = load('pytorch')
    first, again, other = (example.fit(train, 1e-2, seed)(train) for seed in (0, 0, 1))
    assert (first == again).all() and (first != other).any() and ((first > 0) & (first < 1)).all()


@pytest.mark.parametrize('name', EACH)
def test_it_trains_on_the_memory_and_on_the_log(name, folder, monkeypatch, capsys):
    opened = elsewhere.open_export(folder)
    for more in ([], ['--log']):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', f'--export={folder}', f'--name=mine-{name}', *more])
        runpy.run_path(str(FOLDER / f'{name}.py'), run_name='__main__')
    path = folder / 'predictions' / f'mine-{name}.parquet'
    assert str(path) in capsys.readouterr().out
    found = read_predictions(path, opened.asked, opened.sizes, opened.digest, seeds=len(opened.about['seeds']))
    assert found.name == f'mine-{name}' and found.framework == name.removesuffix('3')
    lines = [json.loads(line) for line in (folder / 'anchors.jsonl').read_text().splitlines()]
    [line] = [line for line in lines if line['name'] == f'mine-{name}']
    assert 0.4 < line['auc'] < 0.9 and line['lr'] in opened.views[LOG].learning_rates


@needs('pytorch')
def test_as_the_page_shows_it(folder):
    command = [sys.executable, str(FOLDER / 'pytorch.py'), f'--export={folder}', '--name=mine']
    paths = [str(FOLDER.parent), *filter(None, [os.environ.get('PYTHONPATH')])]
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    path = pathlib.Path(done.stdout.strip().splitlines()[-1])
    opened = elsewhere.open_export(folder)
    found = read_predictions(path, opened.asked, opened.sizes, opened.digest, seeds=len(opened.about['seeds']))
    assert (found.name, found.framework) == ('mine', 'pytorch')
