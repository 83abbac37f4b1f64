"""How near a GPU comes to its memory's speed: the roofline of the three parts that are made of gathers and scatters.

All three do a few operations for each byte they move (below 10, where a GPU needs 50 and more to be bound by
arithmetic), so the ceiling is bandwidth. Bytes are the least that the algorithm must move, with every gathered row
counted once and nothing cached; a row of the table is D = 4 (1 + d) bytes, F fields, P the student's parameters:

* reference training, a row: F (6 D + 12): table and both moments read and written, the id, its place twice;
* influence, a row: F (2 D + 4): table and direction, the id;
* one inner step of an outer step: 60 P: parameters and two moments read and written forward (24 P), the same states
  read and their three adjoints read and written on the way back (12 P + 24 P).

A stage's parts and the share of it in which the device is busy are `profile`'s.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks import clock, problem
from benchmarks.unrolling import meta
from diet_jax import models
from diet_jax.base.errors import UserError
from diet_jax.distillation.influence import row_influence
from diet_jax.training.passes import init_stream, stream_pass

COPY = 1 << 28  # floats copied to measure the ceiling: 1 GB
WARM = 200  # copies before anything is timed: an idle GPU runs at a fraction of its clock


def require() -> None:
    """Raises UserError where JAX sees no GPU."""
    if jax.default_backend() != 'gpu':
        raise UserError(
            f"--gpu: JAX runs on '{jax.default_backend()}' here: install jax[cuda12] on a machine with a GPU"
        )


def case(sizes) -> dict:
    """`gpu_copy` (GB/s), and `gpu_<part>` (rows/s; ratio: achieved bandwidth / that of the copy; `gb_per_s`).

    The reference model trains with several batch sizes: the default's first, and larger ones."""
    fields, width = len(sizes.fields), 4 * (1 + sizes.dim)
    model, student = problem.reference(sizes), models.of(problem.STUDENT, sizes.dim)
    x = jnp.zeros(COPY if sizes.rows > 10_000 else 1 << 10)
    copy = jax.jit(lambda x: x + 1)
    clock.interleaved({'copy': lambda: copy(x)}, WARM)
    seconds = clock.interleaved({'copy': lambda: copy(x)}, sizes.repeats)['copy']
    ceiling = 2 * x.nbytes / seconds.median

    state = init_stream(model, jax.random.key(0), sum(sizes.fields), fields)
    params = jax.tree.map(jnp.copy, state.params)
    one_pass = jax.jit(lambda s, b: stream_pass(model, s, b, 2e-3), donate_argnums=0)

    def training(batch):
        block = problem.batches(problem.draw_ids(sizes.fields, sizes.steps * batch, 7), batch)
        held = {'state': jax.tree.map(jnp.copy, state)}

        def train():
            held['state'], logits = one_pass(held['state'], block)
            return logits

        return train, sizes.steps * batch, fields * (6 * width + 12)

    rows = 16 * sizes.rows
    ids, label = jnp.asarray(problem.draw_ids(sizes.fields, rows, 1)), jnp.asarray(problem.draw_labels(rows, 2))
    score = jax.jit(lambda p, i, y: row_influence(model, p, p, i, y))
    inner = problem.inner_problem(sizes, sizes.unrolls[0], codes=True)
    fresh = student.init(jax.random.key(1), fields * sizes.codes, fields)
    outer = jax.jit(lambda p, x: meta(student, x)(p, x.learnable))
    count = sum(x.size for x in jax.tree.leaves(fresh))
    calls = {
        **{f'reference_training_b{batch}': training(batch) for batch in sizes.batches},
        'influence': (lambda: score(params, ids, label), rows, fields * (2 * width + 4)),
        'outer_step': (lambda: outer(fresh, inner), inner.picks.size, 60 * count / sizes.inner_batch),
    }
    times = clock.interleaved({name: call for name, (call, *_) in calls.items()}, sizes.repeats)
    out = {'gpu_copy': clock.figure(ceiling / 1e9, 'GB/s')}
    for name, (_, rows, row_bytes) in calls.items():
        achieved = rows * row_bytes / times[name].median
        out[f'gpu_{name}'] = clock.rate(rows, times[name], 'copy bandwidth', achieved / ceiling) | {
            'gb_per_s': achieved / 1e9
        }
    return out
