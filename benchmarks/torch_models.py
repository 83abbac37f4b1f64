"""DeepFM, DCNv2 and DIN in PyTorch as its users write them, with our parameters, so that both sides compute the same.

Imported only where PyTorch is installed (the extra `torch`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


class DeepFM(nn.Module):
    """sum_i w_i + sum_{i<j} <e_i, e_j> + MLP([e_1 .. e_F]); one embedding holds first-order weights and embeddings."""

    def __init__(self, params):
        super().__init__()
        self.table = _embedding(params['table'])
        self.tower = _tower(params['head']['MLP_0'])
        self.readout = _linear(params['head']['Readout_0']['Dense_0'])

    def rows(self, rows: torch.Tensor) -> torch.Tensor:
        """[B, F, 1 + d] -> [B] logits."""
        embeddings = rows[..., 1:]
        total = embeddings.sum(1)
        pairs = 0.5 * ((total * total).sum(1) - (embeddings * embeddings).sum((1, 2)))
        return rows[..., 0].sum(1) + pairs + self.readout(self.tower(embeddings.flatten(1)))[:, 0]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.rows(self.table(ids))


class DCNv2(nn.Module):
    """x_{l+1} = x_0 * (U_l V_l x_l + b_l) + x_l beside a tower."""

    def __init__(self, params):
        super().__init__()
        head = params['head']
        self.table = _embedding(params['table'])
        layers = range(sum(name.startswith('cross_u') for name in head))
        self.v = nn.ModuleList(_linear(head[f'cross_v_{i}']) for i in layers)
        self.u = nn.ModuleList(_linear(head[f'cross_u_{i}']) for i in layers)
        self.tower = _tower(head['MLP_0'])
        self.readout = _linear(head['Readout_0']['Dense_0'])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x0 = x = self.table(ids)[..., 1:].flatten(1)
        for v, u in zip(self.v, self.u):
            x = x0 * u(v(x)) + x
        return self.readout(torch.cat([x, self.tower(x0)], 1))[:, 0]


class DIN(nn.Module):
    """MLP([e_1 .. e_F, mean_l e_l, sum_l a(e_l, t) e_l]), a = MLP([e, t, e - t, e * t]); the history stands last."""

    def __init__(self, params, history: int, target: int = 1):
        super().__init__()
        head = params['head']
        unit = dict(head['LocalActivation_0'])
        self.history, self.target = history, target
        self.table = _embedding(params['table'])
        first, last = _linear({name: unit[name] for name in ('kernel', 'bias')}), _linear(unit['Dense_0'])
        self.unit = nn.Sequential(first, nn.ReLU(), last)
        self.tower = _tower(head['MLP_0'])
        self.readout = _linear(head['Readout_0']['Dense_0'])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        embeddings = self.table(ids.clamp(min=0))[..., 1:]
        mask = (ids[:, -self.history :] >= 0)[..., None]
        fields, events = embeddings[:, : -self.history], embeddings[:, -self.history :] * mask
        own = fields[:, self.target, None].expand_as(events)
        weight = self.unit(torch.cat([events, own, events - own, events * own], 2))
        mean, pooled = events.sum(1) / mask.sum(1).clamp(min=1), (weight * events).sum(1)
        return self.readout(self.tower(torch.cat([fields.flatten(1), mean, pooled], 1)))[:, 0]


def tensor(x) -> torch.Tensor:
    """A copy of an array; ids become int64, as embeddings want them."""
    x = np.array(x)
    return torch.from_numpy(x.astype(np.int64) if x.dtype.kind == 'i' else x)


def _embedding(table) -> nn.Embedding:
    return nn.Embedding.from_pretrained(tensor(table), freeze=False)


def _linear(dense) -> nn.Linear:
    kernel = tensor(dense['kernel']).T.contiguous()
    layer = nn.Linear(kernel.shape[1], kernel.shape[0], bias='bias' in dense)
    layer.weight = nn.Parameter(kernel)
    if 'bias' in dense:
        layer.bias = nn.Parameter(tensor(dense['bias']))
    return layer


def _tower(mlp) -> nn.Sequential:
    layers = []
    for i in range(len(mlp)):
        layers += [_linear(mlp[f'Dense_{i}']), nn.ReLU()]
    return nn.Sequential(*layers)
