"""FuxiCTR as PyPI has it trains on an export: its feature map, loader, layers and loop, wired as its run_expid does.

The wheel has no models but those for long lists, so DeepFM is put together here from its layers. Its loader is Ray's.
"""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from diet_jax import elsewhere
from diet_jax.study.export import export

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('fuxictr') is None, reason='fuxictr is not installed: it trains on an export'
)
CODE = """
import os, sys
import numpy as np
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import FactorizationMachine, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.utils import load_config


class DeepFM(BaseModel):
    def __init__(self, feature_map, learning_rate, embedding_dim, hidden_units, **params):
        super().__init__(feature_map, **params)
        self.embedding, self.fm = FeatureEmbedding(feature_map, embedding_dim), FactorizationMachine(feature_map)
        wide = feature_map.sum_emb_out_dim()
        self.deep = MLP_Block(input_dim=wide, output_dim=1, hidden_units=hidden_units)
        self.compile(params['optimizer'], params['loss'], learning_rate)
        self.reset_parameters()

    def forward(self, inputs):
        x = self.get_inputs(inputs)
        e = self.embedding(x)
        return {'y_pred': self.output_activation(self.fm(x, e) + self.deep(e.flatten(start_dim=1)))}


export, experiment, out = sys.argv[1:]
params = load_config(f'{export}/fuxictr', experiment) | {'model_root': f'{out}/'}
os.makedirs(f"{out}/{params['dataset_id']}")
seed_everything(params['seed'])
folder = f"{params['data_root']}{params['dataset_id']}"
feature_map = FeatureMap(params['dataset_id'], folder)
feature_map.load(f'{folder}/feature_map.json', params)
model = DeepFM(feature_map, **params)


def loaders(stage):
    found = RankDataLoader(feature_map, stage=stage, **params)
    return found.make_iterator() if hasattr(found, 'make_iterator') else found  # a class before Ray


train, valid = loaders('train')
model.fit(train, validation_data=valid, **params)
model.eval()
found = [(model(batch)['y_pred'].detach().numpy()[:, 0], batch['__label'].numpy()) for batch in loaders('test')]
np.savez(f'{out}/found.npz', **dict(zip(['predicted', 'labels'], map(np.concatenate, zip(*found)))))
"""


def test_it_trains_and_predicts_in_the_order_of_the_rows(distilled, tmp_path):
    folder = export(distilled / 'memory', tmp_path / 'exports', emit=lambda line: None)
    env = {**os.environ, 'RAY_USAGE_STATS_ENABLED': '0'}
    command = [sys.executable, '-c', CODE, str(folder), 'DeepFM_codes', str(tmp_path / 'out')]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    opened = elsewhere.open_export(folder)
    with np.load(tmp_path / 'out' / 'found.npz') as found:
        predicted, rows = found['predicted'], opened.rows('codes', 'test')
        np.testing.assert_array_equal(found['labels'], rows.target)
    assert ((predicted > 0) & (predicted < 1)).all() and predicted.std() > 1e-4
    _, alike = np.unique(rows.codes, axis=0, return_inverse=True)
    mean = np.bincount(alike, predicted) / np.bincount(alike)
    np.testing.assert_allclose(predicted, mean[alike], atol=1e-5)  # rows of the same codes
