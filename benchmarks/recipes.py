"""What plain Adam costs beside the lazy one along the stream: on the shapes of a log, and on a large vocabulary."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from benchmarks import clock, problem
from diet_jax.models.recipes import Recipe
from diet_jax.training.passes import init_stream, stream_pass

RECIPES = {name: Recipe(name) for name in ('lazy_adam', 'adam')}
RATE = 2e-3


def case(sizes) -> dict:
    """`adam_pass_vs_lazy`, `adam_pass_vs_lazy_<V>_ids`: a pass of the reference model, ids by Zipf's law."""
    large = problem.spread_over(max(sizes.vocabularies), len(sizes.fields))
    out = {}
    for name, fields in (('', sizes.fields), (f'_{max(sizes.vocabularies)}_ids', large)):
        ids = problem.draw_ids(fields, sizes.steps * sizes.batch, 7, 0)
        t = clock.interleaved(_passes(sizes, fields, problem.batches(ids, sizes.batch)), sizes.repeats)
        ratio = t['adam'].median / t['lazy_adam'].median
        out[f'adam_pass_vs_lazy{name}'] = clock.milliseconds(t['adam'], 'lazy_adam', ratio, sizes.steps)
    return out


def _passes(sizes, fields, block) -> dict:
    """{recipe: a call that goes on along the same block}, each with its own state, given to the next call."""
    model, calls = problem.reference(sizes), {}
    for name, recipe in RECIPES.items():
        state = init_stream(model, jax.random.key(0), sum(fields), len(fields), recipe)
        one_pass = jax.jit(functools.partial(_pass, model, recipe), donate_argnums=0)
        held = {'state': jax.tree.map(jnp.copy, state)}  # both moments are one array of zeros
        calls[name] = functools.partial(_go_on, one_pass, held, block)
    return calls


def _pass(model, recipe: Recipe, state, block):
    return stream_pass(model, state, block, RATE, recipe=recipe)


def _go_on(one_pass, held: dict, block):
    held['state'], logits = one_pass(held['state'], block)
    return logits
