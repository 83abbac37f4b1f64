"""From the start of a process to the end of its first stage: what a filled compilation cache saves."""

from __future__ import annotations

import jax
import numpy as np

from benchmarks import problem
from diet_jax import models
from diet_jax.base.layout import flat
from diet_jax.device.collectives import AXIS
from diet_jax.device.programs import Timed
from diet_jax.distillation import parallel
from diet_jax.distillation.spec import spec_of
from diet_jax.distillation.stage import make_stage_update
from diet_jax.training.batches import shard_block


def first_stage(sizes) -> None:
    """The first stage of the default configuration on one block, run once."""
    c = problem.config(sizes)
    students = [models.of(dict(m), sizes.dim) for m in c.refine.models]
    twins = [(models.build(name, dim=sizes.dim), 2e-3) for name in ('lr', 'deepfm', 'mlp')]
    spec = spec_of(c, problem.reference(sizes), students, layout=flat(range(len(sizes.fields))), twins=twins, axis=AXIS)
    state = problem.first_state(spec, sizes.fields)
    ids = problem.draw_ids(sizes.fields, sizes.steps * sizes.batch, 8)
    label, held = problem.draw_labels(len(ids), 9), np.arange(len(ids)) % 5 == 0
    block = shard_block(ids, label, held, devices=1, batch=sizes.batch, steps=sizes.steps)
    run = Timed(parallel.pmapped(make_stage_update(spec), jax.devices()[:1]))
    jax.block_until_ready(run(state, block))
