"""Do no harm: a refinement stays only if students trained on it are better on rows of the block that it never saw."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from diet_jax.device.collectives import psum
from diet_jax.device.tiling import mapped
from diet_jax.distillation.memory import coded, student_data
from diet_jax.distillation.outcomes import of_every_outcome
from diet_jax.distillation.spec import Spec
from diet_jax.distillation.state import Rows, Work
from diet_jax.training.losses import divisor, row_losses
from diet_jax.training.students import init_student, student_epochs


@of_every_outcome
@jax.named_scope('check')
def do_no_harm(spec: Spec, work: Work) -> Work:
    """The part of a stage: the memory is the refined one, or the unrefined one; `refinement` says which, and why.

    Both sides train the same students (the first architecture) from the same seeds, in the same order of rows, and are
    scored on the held-out clicks, by their weights: `loss_before`, `loss_after`, LogLoss in nats.
    """
    r, model, axis, memory = spec.refine, spec.students[0], spec.axis, work.state.memory
    code = work.state.codebook.code
    held = _first(work.rows, work.rows.weight * work.rows.held.astype(jnp.float32), _share(r.check_rows, axis))

    def loss(memory, key):
        data = student_data(memory, code)
        student = init_student(model, key, spec.num_codes, spec.columns)
        student = student_epochs(model, student, data, key, r.check_lr, r.check_epochs, batch=r.check_batch)
        return jnp.sum(held.weight * row_losses(model.apply(student.params, coded(code, held.ids)), held.label))

    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), work.unrefined, memory)
    keys = jax.random.split(work.keys.check, r.check_seeds)
    table = mapped(lambda m: mapped(lambda k: loss(m, k), keys), both)
    total = divisor(psum(jnp.sum(held.weight), axis))
    before, after = jnp.mean(psum(table, axis), axis=1) / total
    accepted = after < before
    memory = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), memory, work.unrefined)
    verdict = {'loss_before': before, 'loss_after': after, 'accepted': accepted.astype(jnp.int32)}
    return work._replace(state=work.state._replace(memory=memory), refinement={**work.refinement, **verdict})


def _share(count: int, axis: str | None) -> int:
    """A device's share of `count` rows, rounded up."""
    return count if axis is None else -(-count // jax.lax.axis_size(axis))


def _first(rows: Rows, weight: jax.Array, count: int) -> Rows:
    """The first `count` rows of positive weight, in order, padded with weight 0."""
    count = min(count, weight.shape[0])
    pick = jnp.argsort(weight <= 0, stable=True)[:count]
    return jax.tree.map(lambda x: x[pick], rows)._replace(weight=weight[pick])
