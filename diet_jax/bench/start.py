"""From the start of a process to the end of its first stage: what a filled compilation cache saves."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from diet_jax import models, parallel, stage
from diet_jax.bench import problem
from diet_jax.models import of


def first_stage(sizes) -> None:
    """The first stage of the default configuration on one block, run once."""
    c = problem.config(sizes)
    reference, students = problem.reference(sizes), tuple(of(dict(m), sizes.dim) for m in c.refine.models)
    twins = tuple((models.build(name, dim=sizes.dim), 2e-3) for name in ('lr', 'deepfm', 'mlp'))
    state = problem.first_state(c, sizes.fields, reference, students, [m for m, _ in twins])
    ids = problem.draw_ids(sizes.fields, sizes.steps * sizes.batch, 8)
    block = parallel.shard_block(
        ids, problem.draw_labels(len(ids), 9), jnp.arange(len(ids)) % 5 == 0, 1, sizes.batch, sizes.steps
    )
    update = stage.make_stage_update(c, reference, students, parallel.AXIS, twins)
    run = parallel.Timed(parallel.pmapped(update, jax.devices()[:1]))
    jax.block_until_ready(run(state, block))
