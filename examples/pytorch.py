"""A model of your own, in PyTorch, joins the answer: trained on an export of a memory, told beside all others.

    python scripts/export.py  --memory=runs/kuairand/memory --to=exports/kuairand
    python examples/pytorch.py --export=exports/kuairand --name=torch-deepfm
    python scripts/compare.py --memory=runs/kuairand/memory --predictions=exports/kuairand/predictions

The second needs torch, numpy and pyarrow, and no JAX. It prints a line a training, and goes on where it was stopped.
Yours to change is DeepFM; `fit` fits any model that takes codes.
"""

import argparse

import torch
from torch import nn
from torch.nn import functional as F

from diet_jax import elsewhere


class DeepFM(nn.Module):
    def __init__(self, view, dim=8):
        super().__init__()
        self.table, self.first = nn.Embedding(view.num_codes, dim), nn.Embedding(view.num_codes, 1)
        nn.init.normal_(
            self.table.weight, std=view.init_std
        )  # 0.01; from PyTorch's own 1 little is learned in one pass
        nn.init.zeros_(self.first.weight)
        wide = len(view.flat) * dim
        self.deep = nn.Sequential(nn.Linear(wide, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, codes):  # i32[B, F] -> f32[B]
        e = self.table(codes)
        pairs = (e.sum(1).square() - e.square().sum(1)).sum(1) / 2
        return self.first(codes).sum((1, 2)) + pairs + self.deep(e.flatten(1)).squeeze(1)


def fit(train, lr, seed):
    """Trains a new model on rows of a memory; gives back what says the probabilities of other rows."""
    torch.manual_seed(seed)
    model = DeepFM(train.view)
    adam = torch.optim.Adam(model.parameters(), lr)
    for batch in train.batches(seed):
        adam.zero_grad()
        logits = model(torch.tensor(batch.codes))
        F.binary_cross_entropy_with_logits(logits, torch.tensor(batch.target)).backward()
        adam.step()

    @torch.no_grad()
    def predict(rows):
        return model(torch.tensor(rows.codes)).sigmoid().numpy()

    return predict


if __name__ == '__main__':
    torch.set_num_threads(1)  # batches are small: more threads wait for each other
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--export', required=True, help='the folder that scripts/export.py wrote')
    parser.add_argument('--name', default='torch-deepfm', help='of the candidate')
    parser.add_argument('--log', action='store_true', help='a full run, on an export with the log: a line of anchors')
    args = parser.parse_args()
    train = elsewhere.full_run if args.log else elsewhere.grid
    print(train(fit, args.export, args.name, framework='pytorch'))
