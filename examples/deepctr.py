"""A model of DeepCTR-Torch joins the answer: trained on an export of a memory, told beside all others.

    python scripts/export.py  --memory=runs/kuairand/memory --to=exports/kuairand
    python examples/deepctr.py --export=exports/kuairand --model=NFM
    python scripts/compare.py --memory=runs/kuairand/memory --predictions=exports/kuairand/predictions

The second needs deepctr-torch, numpy and pyarrow, and no JAX. The loop is written out, with the export's batches.
DeepCTR's own `fit` adds an L2 penalty that students do not have, cannot stream a log, and its metrics cannot take
labels between 0 and 1.
"""

import argparse
import functools

import numpy as np
import torch
from deepctr_torch import models
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
from torch import nn
from torch.nn import functional as F

from diet_jax import elsewhere

MODELS = ('AutoInt', 'DCN', 'DeepFM', 'FiBiNET', 'NFM', 'PNN', 'WDL', 'xDeepFM')
OPTIONS = {'DCN': {'cross_parameterization': 'matrix'}, 'xDeepFM': {'cin_layer_size': (32, 16)}}


def build(name, view, seed, dim=8):
    """A model of DeepCTR as students begin. Its own begin at N(0, 0.0001), the tower too: 60 steps do not move that."""
    # Lists have tables of their own: some models count the fields by their tables.
    lists = [VarLenSparseFeat(SparseFeat(f.name, f.size, dim), f.width, combiner='mean') for f in view.lists]
    columns = [SparseFeat(f.name, f.size, dim) for f in view.flat] + lists
    twice = [] if name == 'PNN' else [columns]  # the linear part's and the tower's; PNN has no linear part
    options = {'dnn_hidden_units': (64, 32), 'init_std': view.init_std, 'seed': seed, **OPTIONS.get(name, {})}
    model = getattr(models, name)(*twice, columns, **options)
    for part in model.modules():
        if isinstance(part, nn.Linear):
            part.reset_parameters()  # PyTorch's own
    for first in model.linear_model.parameters():
        nn.init.zeros_(first)
    return model


def inputs(rows):
    """f64[N, columns]: numbers within a field's own table; of 32 bits floats hold those up to 16 million alone."""
    return torch.tensor(np.column_stack(list(rows.columns.values())), dtype=torch.float64)


def fit(train, lr, seed, name):
    """Trains a new model on rows of a memory; gives back what says the probabilities of other rows."""
    model = build(name, train.view, seed)
    adam = torch.optim.Adam(model.parameters(), lr)
    for batch in train.batches(seed):
        adam.zero_grad()
        p = model(inputs(batch)).squeeze(1)
        F.binary_cross_entropy(p.double(), torch.tensor(batch.target).double()).backward()
        adam.step()

    @torch.no_grad()
    def predict(rows):
        return torch.cat([model(part).squeeze(1) for part in inputs(rows).split(4096)]).numpy()

    return predict


if __name__ == '__main__':
    torch.set_num_threads(1)  # batches are small: more threads wait for each other
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--export', required=True, help='the folder that scripts/export.py wrote')
    parser.add_argument('--model', default='DeepFM', choices=MODELS)
    parser.add_argument('--name', help='of the candidate; by default deepctr- and the model')
    parser.add_argument('--log', action='store_true', help='a full run, on an export with the log: a line of anchors')
    args = parser.parse_args()
    train = elsewhere.full_run if args.log else elsewhere.grid
    one = functools.partial(fit, name=args.model)
    print(train(one, args.export, args.name or f'deepctr-{args.model.lower()}', framework='deepctr'))
