"""A step that touches b rows costs O(b), whatever the vocabulary: reference training and one outer step."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from diet_jax import models, stage
from diet_jax import training as tr
from diet_jax.bench import clock, problem


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
    state = problem.first_state(c, fields, model, (student,))
    rows = sizes.steps * sizes.batch
    zipf, uniform = (problem.batches(problem.draw_ids(fields, rows, 7, p), sizes.batch) for p in (0, 1))
    lr = c.reference.learning_rate
    one_pass = jax.jit(lambda s, b: tr.stream_pass(model, s, b, lr), donate_argnums=0).lower(state.reference, zipf)
    one_pass = one_pass.compile()
    # Copied, because both moments are one array of zeros, which cannot be donated twice.
    held = {'state': jax.tree.map(jnp.copy, state.reference)}

    def train(block):
        held['state'], logits = one_pass(held['state'], block)
        return logits

    def outer(params, memory, code, pools, optimizer, block):
        teacher = lambda ids: model.apply(params, ids)  # noqa: E731
        addressed = memory.valid
        key = jax.random.key(1)
        flat = stage.flat_rows(block)
        return stage.refine(
            c, (student,), teacher, memory, addressed, code, pools, optimizer, jnp.float32(0), flat, key
        )[0]

    memory = problem.full_memory(sizes, fields)
    code = state.codebook.field_of_slot * sizes.codes + state.codebook.position % sizes.codes
    args = state.reference.params, memory, code, state.pools, state.outer, zipf
    refine = jax.jit(outer).lower(*args).compile()
    return {
        'reference_step_time': lambda: train(zipf),
        'reference_uniform': lambda: train(uniform),
        'outer_step_time': lambda: refine(*args),
        'outer_steps': c.refine.outer_steps,
        'outer_step_memory': refine.memory_analysis().temp_size_in_bytes,
    }


def _short(vocabulary: int) -> str:
    """10000000 -> '10m'."""
    for unit, letter in ((1_000_000, 'm'), (1_000, 'k')):
        if vocabulary >= unit:
            return f'{vocabulary // unit}{letter}'
    return str(vocabulary)
