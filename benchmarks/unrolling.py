"""The unroll's ways, on the students' shapes: time and memory for three lengths."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks import clock, problem
from diet_jax import models
from diet_jax.models.recipes import DEFAULT
from diet_jax.training.losses import row_losses
from diet_jax.training.optimizers import dense_init
from diet_jax.training.students import StudentState, inner_step
from diet_jax.training.unroll import is_plain, meta_gradient

MODES = {'plain': False, 'remat': True}
RATE = 3e-3


def meta(model, inner: problem.Inner, remat: bool | None = None):
    """(params, learnable) -> what `meta_gradient` gives, from a fresh student with those parameters."""

    def train(learnable, student, pick):
        target = jax.nn.sigmoid(learnable['soft_logit'][pick])
        return inner_step(model, student, inner.ids[pick], target, jnp.ones_like(target), RATE)

    def outer(student, _):
        return jnp.mean(row_losses(model.apply(student.params, inner.outer_ids), inner.outer_label))

    def call(params, learnable):
        student = StudentState(params, dense_init(DEFAULT, params))
        return meta_gradient(outer, train, learnable, student, inner.picks, remat=remat)

    return call


def case(sizes) -> dict:
    """`unroll_<mode>_t20` (ms, against plain), `unroll_<mode>_memory_t20` (bytes beside the arguments), ... and
    `unroll_memory_t200_vs_t20`: of the longest against the shortest, both in the mode that the longest is run in."""
    model = models.of(problem.STUDENT, sizes.dim)
    fields = len(sizes.fields)
    params = model.init(jax.random.key(0), fields * sizes.codes, fields)
    out, memory = {}, {}
    for steps in sizes.unrolls:
        inner = problem.inner_problem(sizes, steps, codes=True)
        compiled = {
            mode: jax.jit(meta(model, inner, remat)).lower(params, inner.learnable).compile()
            for mode, remat in MODES.items()
        }
        calls = {mode: lambda c=c, x=inner.learnable: c(params, x) for mode, c in compiled.items()}
        seconds = clock.interleaved(calls, sizes.repeats)
        for mode, call in compiled.items():
            memory[mode, steps] = call.memory_analysis().temp_size_in_bytes
            ratio = seconds[mode].median / seconds['plain'].median
            out[f'unroll_{mode}_t{steps}'] = clock.milliseconds(seconds[mode], 'plain', ratio)
            ratio = memory[mode, steps] / memory['plain', steps]
            out[f'unroll_{mode}_memory_t{steps}'] = clock.figure(memory[mode, steps], 'bytes', 'plain', ratio)
    short, *_, long = sizes.unrolls
    student = StudentState(params, dense_init(DEFAULT, params))
    mode = 'plain' if is_plain(student, long) else 'remat'
    high, low = memory[mode, long], memory[mode, short]
    out[f'unroll_memory_t{long}_vs_t{short}'] = clock.figure(high, 'bytes', f'{mode}, T = {short}', high / low)
    return out
