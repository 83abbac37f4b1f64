"""Train a model of your own on a memory, in PyTorch, and score it on a day that neither has seen.

    python examples/pytorch.py --memory=runs/kuairand/memory \
        --log=../shared/data/kuairand/log_standard_4_25_to_5_08_pure.parquet

The memory is the one of two stages before the end of the log: the learning rate is chosen on the block after it, and
the model is scored once on the block after that. Expected on KuaiRand, in under a minute: AUC 0.725. Needs torch,
numpy, pyarrow and ml_collections, and no JAX.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn

import diet_jax


def honest(folder):
    """The newest memory that has two blocks of the run after it, and the keys of these: to tune on, to score on."""
    history = sorted((Path(folder).parent / 'history').iterdir())
    if len(history) < 3:
        raise SystemExit(f'{folder} is of stage {len(history)}: it takes three to tune and score on unseen blocks')
    keys = [json.loads((stage / 'manifest.json').read_text())['last_block'] for stage in history]
    return diet_jax.load_memory(history[-3]), keys[-2], keys[-1]


def outcomes(log, data):
    """Whether each row of the log is a click, and the key of its block, by the rules in the manifest."""
    click, threshold = log[data['label']['column']].to_numpy(), data['label']['threshold']
    click = click == 1 if threshold is None else click >= threshold
    if data['block']['by'] == 'column':
        return click, log[data['block']['column']].to_numpy().astype(str)
    time = log[data['time']['column']].to_numpy().astype(f'datetime64[{data["time"]["unit"]}]')
    local = time + np.timedelta64(round(3600 * data['time']['utc_offset_hours']), 's')
    return click, local.astype('datetime64[D]').astype(str)  # a block a day; other periods need another line


class DeepFM(nn.Module):
    def __init__(self, codes, fields, std, dim=8):
        super().__init__()
        self.table, self.first = nn.Embedding(codes, dim), nn.Embedding(codes, 1)
        nn.init.normal_(self.table.weight, std=std)  # 0.01; PyTorch's own 1 gives 0.57 on KuaiRand
        nn.init.zeros_(self.first.weight)
        self.deep = nn.Sequential(
            nn.Linear(fields * dim, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
        )

    def forward(self, codes):  # i32[B, F] -> f32[B]
        e = self.table(codes)
        pairs = (e.sum(1).square() - e.square().sum(1)).sum(1) / 2
        return self.first(codes).sum((1, 2)) + pairs + self.deep(e.flatten(1)).squeeze(1)


def train(memory, lr, seed):
    """A model trained from scratch as the manifest says: small batches, since the rows are few, and one pass."""
    torch.manual_seed(seed)
    how, (rows, fields) = memory.manifest['students'], memory.codes.shape
    codes, label = torch.tensor(memory.codes + memory.offsets()), torch.tensor(memory.label(how['label']))
    model = DeepFM(memory.num_codes, fields, how['init_std'])
    adam, loss = torch.optim.Adam(model.parameters(), lr), nn.BCEWithLogitsLoss()
    for batch in torch.randperm(rows).split(how['batch']):
        adam.zero_grad()
        loss(model(codes[batch]), label[batch]).backward()
        adam.step()
    return model


def auc(score, click):
    """The share of the pairs of a click and no click that the score puts in order; ties count half."""
    _, place, size = np.unique(score, return_inverse=True, return_counts=True)
    rank, n = (np.cumsum(size) - (size - 1) / 2)[place], click.sum()
    return (rank[click].sum() - n * (n + 1) / 2) / (n * (len(click) - n))


def aucs(models, codes, click):
    with torch.no_grad():
        return np.array([auc(model(torch.tensor(codes)).numpy(), click) for model in models])


def main(memory, log, seeds=3):
    memory, tuned_on, scored_on = honest(memory)
    log = pq.read_table(log)
    codes = memory.encode(log).codes + memory.offsets()
    click, block = outcomes(log, memory.manifest['data'])
    of = lambda key: (codes[block == key], click[block == key])  # noqa: E731
    grid = {lr: [train(memory, lr, s) for s in range(seeds)] for lr in memory.manifest['students']['learning_rates']}
    best = max(grid, key=lambda lr: aucs(grid[lr], *of(tuned_on)).mean())
    scored = aucs(grid[best], *of(scored_on))
    print(f'{len(memory.codes)} rows that stand for all up to {memory.manifest["last_block"]}')
    print(f'learning rate {best:g}, chosen on {tuned_on}')
    print(f'AUC {scored.mean():.4f} +- {scored.std(ddof=1):.4f} on {scored_on}, {seeds} seeds')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--memory', required=True, help='the memory of a run, with history/ beside it')
    parser.add_argument('--log', required=True, help='a Parquet file of the log with the last two blocks in it')
    main(**vars(parser.parse_args()))
