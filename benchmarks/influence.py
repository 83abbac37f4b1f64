"""Influence scoring beside the plain forward pass on the same rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks import clock, problem
from diet_jax.distillation.influence import row_influence
from diet_jax.training.passes import predict


def case(sizes) -> dict:
    """`influence_vs_forward_rate`: rows/s of `row_influence`, ratio to those of `predict`."""
    model = problem.reference(sizes)
    params = model.init(jax.random.key(0), sum(sizes.fields), len(sizes.fields))
    direction = jax.tree.map(lambda x: 1e-3 * jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), params)
    ids = jnp.asarray(problem.draw_ids(sizes.fields, sizes.rows, 1))
    label = jnp.asarray(problem.draw_labels(sizes.rows, 2))
    forward = jax.jit(lambda p: predict(model, p, ids))
    score = jax.jit(lambda p, v: row_influence(model, p, v, ids, label))
    t = clock.interleaved(
        {'forward': lambda: forward(params), 'score': lambda: score(params, direction)}, sizes.repeats
    )
    ratio = t['forward'].median / t['score'].median
    return {'influence_vs_forward_rate': clock.rate(sizes.rows, t['score'], 'forward pass', ratio)}
