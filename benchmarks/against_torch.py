"""Ours and PyTorch's side by side: the same problem, parameters, optimizer and threads, in turn.

Every case gives `{name: Pair}`; `runner` takes the best of the thread counts on either side.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import clock, problem
from benchmarks.clock import Seconds
from benchmarks.unrolling import RATE, meta
from diet_jax import models
from diet_jax.device import tables
from diet_jax.distillation.influence import row_influence
from diet_jax.training.losses import row_losses
from diet_jax.training.passes import init_stream, stream_pass

RATE_OF_EPOCH = 2e-3


class Pair(NamedTuple):
    """What one comparison found, in seconds for each unit of work (a call, or a row)."""

    ours: Seconds
    theirs: Seconds
    unit: str  # 'ms' | 'rows/s'


def _theirs():
    """(torch_calls, torch_models): PyTorch is an extra, and what needs none of it is imported without it."""
    from benchmarks import torch_calls, torch_models

    return torch_calls, torch_models


def _pair(ours, theirs, repeats: int, unit: str = 'ms', rows=(1, 1)) -> Pair:
    t = clock.interleaved({'ours': ours, 'theirs': theirs}, repeats)
    return Pair(*(Seconds(*(s / n for s in t[k])) for k, n in zip(('ours', 'theirs'), rows)), unit)


def remapped(inner: problem.Inner, table, room: int):
    """The problem on the sub-table of `room` rows that its ids touch. A student's moments are zero where no batch has
    been, so dense Adam leaves an untouched row as it is, and the sub-table is exact. -> (Inner, table f32[room, D])."""
    sub = tables.subtable(jnp.concatenate([inner.ids, inner.outer_ids]), table)
    rows = table.at[sub.ids[:room]].get(mode='fill', fill_value=0.0)  # no id points at what is left over
    return inner._replace(ids=sub.place[inner.ids], outer_ids=sub.place[inner.outer_ids]), rows


def meta_gradients(sizes) -> dict[str, Pair]:
    """`vs_torch_meta_gradient_t20` (the log's own ids: dense tables there; here the remap, the gather and the unroll in
    one call) and `..._subtable` (both are given the sub-table), for the two shorter unrolls."""
    calls, modules = _theirs()
    model = models.of(problem.STUDENT, sizes.dim)
    out = {}
    for steps in sizes.unrolls[:2]:
        inner = problem.inner_problem(sizes, steps, codes=False)
        inner = _only_drawn(inner)
        params = model.init(jax.random.key(0), sum(sizes.fields), len(sizes.fields))
        touched = np.unique(np.concatenate([inner.ids, inner.outer_ids])).size
        room = min(-(-touched // 1024) * 1024, sum(sizes.fields))  # static: in steps of 1,024 rows

        def whole(params, inner, room=room):
            small, table = remapped(inner, params['table'], room)
            return meta(model, small)({**params, 'table': table}, inner.learnable)[2]

        whole = jax.jit(whole)
        theirs = calls.meta_gradient(modules.DeepFM(params), inner, RATE)
        ours = lambda f=whole, p=params, x=inner: f(p, x)  # noqa: E731
        out[f'vs_torch_meta_gradient_t{steps}'] = _pair(ours, theirs, _few(sizes))

        small, table = remapped(inner, params['table'], room)
        small_params = {**params, 'table': table}
        on_small = jax.jit(lambda p, x: meta(model, x)(p, x.learnable)[2])
        theirs = calls.meta_gradient(modules.DeepFM(small_params), small, RATE)
        ours = lambda f=on_small, p=small_params, x=small: f(p, x)  # noqa: E731
        out[f'vs_torch_meta_gradient_t{steps}_subtable'] = _pair(ours, theirs, _few(sizes))
    return out


def _only_drawn(inner: problem.Inner) -> problem.Inner:
    """Leaves out entries that no batch draws."""
    drawn, place = np.unique(inner.picks, return_inverse=True)
    learnable = {name: x[drawn] for name, x in inner.learnable.items()}
    picks = jnp.asarray(place.reshape(inner.picks.shape), jnp.int32)
    return inner._replace(ids=inner.ids[drawn], learnable=learnable, picks=picks)


def influences(sizes) -> dict[str, Pair]:
    """`vs_torch_influence_jvp`, `..._per_sample` (gathered rows), `..._per_sample_tables`: rows/s."""
    calls, modules = _theirs()
    model = problem.reference(sizes)
    params = model.init(jax.random.key(0), sum(sizes.fields), len(sizes.fields))
    direction = jax.tree.map(lambda x: 1e-3 * jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), params)
    ids, label = problem.draw_ids(sizes.fields, sizes.rows, 1), problem.draw_labels(sizes.rows, 2)
    score = jax.jit(lambda p, v, i, y: row_influence(model, p, v, i, y).influence)
    placed = jnp.asarray(ids), jnp.asarray(label)
    module, tangents = modules.DeepFM(params), modules.DeepFM(direction)
    gathered, whole = sizes.per_sample
    out = {}
    for name, call, rows in (
        ('jvp', calls.influence_jvp, sizes.rows),
        ('per_sample', calls.per_sample_rows, gathered),
        ('per_sample_tables', calls.per_sample_tables, whole),
    ):
        theirs = call(module, tangents, ids[:rows], label[:rows])
        ours = lambda: score(params, direction, *placed)  # noqa: E731
        out[f'vs_torch_influence_{name}'] = _pair(ours, theirs, _few(sizes), 'rows/s', (sizes.rows, rows))
    return out


def epochs(sizes) -> dict[str, Pair]:
    """`vs_torch_deepfm_epoch`, `..._dcnv2_epoch`, `..._din_epoch` (with a history), `..._deepfm_epoch_<V>_ids`: a pass
    of `steps` steps."""
    _, modules = _theirs()
    many = sizes.many_ids
    cases = (
        ('deepfm_epoch', 'deepfm', modules.DeepFM, sizes.fields),
        ('dcnv2_epoch', 'dcnv2', modules.DCNv2, sizes.fields),
        ('din_epoch', 'din', modules.DIN, sizes.fields, sizes.history),
        (f'deepfm_epoch_{many}_ids', 'deepfm', modules.DeepFM, problem.spread_over(many, len(sizes.fields))),
    )
    return {f'vs_torch_{name}': _pair(*_epoch(sizes, *of), _few(sizes)) for name, *of in cases}


def _epoch(sizes, model: str, module, fields, history: int = 0) -> tuple:
    """(ours, theirs): calls that each go on along the same block, from the same weights."""
    calls, _ = _theirs()
    ids, layout = problem.draw_ids(fields, sizes.steps * sizes.batch, 7), None
    if history:
        ids, layout = problem.with_history(ids, fields, history)
    block = problem.batches(ids, sizes.batch)
    model = problem.reference(sizes, model, layout)
    state = init_stream(model, jax.random.key(0), sum(fields), ids.shape[1])
    held = {'state': jax.tree.map(jnp.copy, state)}  # both moments are one array of zeros: not to be donated twice
    one_pass = jax.jit(lambda s, b: stream_pass(model, s, b, RATE_OF_EPOCH), donate_argnums=0)

    def ours():
        held['state'], logits = one_pass(held['state'], block)
        return jnp.mean(jax.vmap(row_losses)(logits, block.label), 1)

    module = module(state.params, history) if history else module(state.params)
    return ours, calls.epoch(module, block, RATE_OF_EPOCH)


def case(sizes) -> dict[str, Pair]:
    """All of them."""
    return {**meta_gradients(sizes), **influences(sizes), **epochs(sizes)}


def _few(sizes) -> int:
    return min(sizes.repeats, 5)  # theirs take seconds a call
