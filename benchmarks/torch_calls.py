"""What our functions do, in PyTorch as `torch.func` and `torch.optim` users write it. Imported as `torch_models` is."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, jvp, vmap

from benchmarks.torch_models import tensor
from diet_jax.models.recipes import DEFAULT
from diet_jax.training.optimizers import EPS_ROOT


def meta_gradient(module, inner, rate: float) -> Callable:
    """() -> gradient of the outer loss by the learnable labels, through Adam steps on dense tables."""
    params = {name: p.detach() for name, p in module.named_parameters()}
    ids, outer_ids, outer_label, picks = (
        tensor(x) for x in (inner.ids, inner.outer_ids, inner.outer_label, inner.picks)
    )
    learnable = {name: tensor(x) for name, x in inner.learnable.items()}
    zeros = {name: torch.zeros_like(p) for name, p in params.items()}

    def inner_loss(params, ids, target):
        return F.binary_cross_entropy_with_logits(functional_call(module, params, (ids,)), target)

    def outer_loss(learnable):
        w, mu, nu = params, zeros, zeros
        for t, pick in enumerate(picks, 1):
            g = grad(inner_loss)(w, ids[pick], learnable['soft_logit'][pick].sigmoid())
            mu = {k: DEFAULT.b1 * mu[k] + (1 - DEFAULT.b1) * g[k] for k in g}
            nu = {k: DEFAULT.b2 * nu[k] + (1 - DEFAULT.b2) * g[k] * g[k] for k in g}
            w = {
                k: w[k]
                - rate * (mu[k] / (1 - DEFAULT.b1**t)) / ((nu[k] / (1 - DEFAULT.b2**t) + EPS_ROOT).sqrt() + DEFAULT.eps)
                for k in g
            }
        return F.binary_cross_entropy_with_logits(functional_call(module, w, (outer_ids,)), outer_label)

    return lambda: grad(outer_loss)(learnable)


def _parts(module, direction):
    """(parameters, their tangents) by name; `direction` is a module with the tangents in the parameters' places."""
    return tuple({name: p.detach() for name, p in m.named_parameters()} for m in (module, direction))


def influence_jvp(module, direction, ids, label, chunk: int = 2048) -> Callable:
    """() -> influences [N] by `torch.func.jvp` of the logits and the chain rule, as ours."""
    params, tangents = _parts(module, direction)
    ids, label = tensor(ids).split(chunk), tensor(label).split(chunk)

    def call():
        out = []
        for rows, y in zip(ids, label):
            z, change = jvp(lambda p, rows=rows: functional_call(module, p, (rows,)), (params,), (tangents,))
            out.append((z.sigmoid() - y) * change)
        return torch.cat(out)

    return call


def per_sample_tables(module, direction, ids, label) -> Callable:
    """() -> the same by `vmap(grad)` over all parameters, whole tables included, and inner products."""
    params, tangents = _parts(module, direction)
    ids, label = tensor(ids), tensor(label)

    def loss(params, row, y):
        return F.binary_cross_entropy_with_logits(functional_call(module, params, (row[None],))[0], y)

    def call():
        g = vmap(grad(loss), in_dims=(None, 0, 0))(params, ids, label)
        return sum((g[k].flatten(1) @ tangents[k].flatten()) for k in g)

    return call


def per_sample_rows(module, direction, ids, label) -> Callable:
    """() -> the same by `vmap(grad)` over the gathered rows and the head."""
    params, tangents = _parts(module, direction)
    ids, label = tensor(ids), tensor(label)
    table, v = params.pop('table.weight'), tangents.pop('table.weight')

    class Head(torch.nn.Module):
        """The module, called with rows in place of ids."""

        def __init__(self):
            super().__init__()
            self.of = module

        def forward(self, rows):
            return self.of.rows(rows)

    head = Head()

    def loss(rows, params, y):
        named = {f'of.{name}': p for name, p in params.items()}
        return F.binary_cross_entropy_with_logits(functional_call(head, named, (rows[None],))[0], y)

    def call():
        of_rows, of_head = vmap(grad(loss, argnums=(0, 1)), in_dims=(0, None, 0))(table[ids], params, label)
        products = (of_rows * v[ids]).flatten(1).sum(1)
        return products + sum(of_head[k].flatten(1) @ tangents[k].flatten() for k in of_head)

    return call


def epoch(module, batches, rate: float) -> Callable:
    """() -> the loss of every step of one pass by `torch.optim.Adam`, the table dense, as nearly all train."""
    optimizer = torch.optim.Adam(module.parameters(), lr=rate)
    ids, label = tensor(batches.ids), tensor(batches.label)

    def call():
        losses = []
        for rows, y in zip(ids, label):
            loss = F.binary_cross_entropy_with_logits(module(rows), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    return call
