"""A step that touches b rows costs O(b), whatever the vocabulary: reference training and one outer step."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks import clock, problem
from diet_jax import models
from diet_jax.base.layout import flat
from diet_jax.distillation.refine import refine
from diet_jax.distillation.spec import spec_of
from diet_jax.distillation.stage import begin
from diet_jax.distillation.state import StageState
from diet_jax.training.batches import Batches
from diet_jax.training.passes import stream_pass


def case(sizes) -> dict:
    """`reference_step_time_*`, `outer_step_time_*`, `outer_step_memory_*`: the large vocabulary against the small one.

    Ids follow Zipf's law with exponent 1, as those of logs nearly do; `..._uniform_ids` has every id as likely as any
    other, where each row of the large table is a miss of all caches. Memory is what the compiled step allocates beside
    the tables it is given.
    """
    small, large = (f'{_short(v)}' for v in sizes.vocabularies)
    parts = [_parts(sizes, v) for v in sizes.vocabularies]
    pair = f'{large}_vs_{small}_ids'
    out = {}
    for name, steps in (('reference_step_time', sizes.steps), ('outer_step_time', parts[0]['outer_steps'])):
        t = clock.interleaved({'small': parts[0][name], 'large': parts[1][name]}, sizes.repeats)
        ratio = t['large'].median / t['small'].median
        out[f'{name}_{pair}'] = clock.milliseconds(t['large'], f'{small} ids', ratio, steps)
    t = clock.interleaved({k: p['reference_uniform'] for k, p in zip(('small', 'large'), parts)}, sizes.repeats)
    ratio = t['large'].median / t['small'].median
    key = f'reference_step_time_{pair}_uniform_ids'
    out[key] = clock.milliseconds(t['large'], f'{small} ids', ratio, sizes.steps)
    low, high = (p['outer_step_memory'] for p in parts)
    out[f'outer_step_memory_{pair}'] = clock.figure(high, 'bytes', f'{small} ids', high / low)
    return out


def _parts(sizes, vocabulary: int) -> dict:
    """Calls of the steps on a vocabulary, compiled; bytes of the outer step."""
    fields = problem.spread_over(vocabulary, len(sizes.fields))
    model, student = problem.reference(sizes), models.of(problem.STUDENT, sizes.dim)
    c = problem.config(sizes)
    spec = spec_of(c, model, [student], layout=flat(range(len(fields))))
    state = problem.first_state(spec, fields)
    rows = sizes.steps * sizes.batch
    zipf, uniform = (problem.batches(problem.draw_ids(fields, rows, 7, p), sizes.batch) for p in (0, 1))
    lr = c.reference.learning_rate
    one_pass = jax.jit(lambda s, b: stream_pass(model, s, b, lr), donate_argnums=0).lower(state.reference, zipf)
    one_pass = one_pass.compile()
    # Copied, because both moments are one array of zeros, which cannot be donated twice.
    held = {'state': jax.tree.map(jnp.copy, state.reference)}

    def train(block):
        held['state'], logits = one_pass(held['state'], block)
        return logits

    def outer_step(state: StageState, block: Batches):
        work = begin(spec, state, block)
        memory = work.state.memory
        return refine(spec, work._replace(moved=jnp.float32(0), addressed=memory.valid, unrefined=memory)).state.memory

    book = state.codebook
    book = book._replace(code=book.field_of_slot * sizes.codes + book.position % sizes.codes)
    state = state._replace(memory=problem.full_memory(sizes, fields), codebook=book)
    one_step = jax.jit(outer_step).lower(state, zipf).compile()
    return {
        'reference_step_time': lambda: train(zipf),
        'reference_uniform': lambda: train(uniform),
        'outer_step_time': lambda: one_step(state, zipf),
        'outer_steps': c.refine.outer_steps,
        'outer_step_memory': one_step.memory_analysis().temp_size_in_bytes,
    }


def _short(vocabulary: int) -> str:
    """10000000 -> '10m'."""
    for unit, letter in ((1_000_000, 'm'), (1_000, 'k')):
        if vocabulary >= unit:
            return f'{vocabulary // unit}{letter}'
    return str(vocabulary)
