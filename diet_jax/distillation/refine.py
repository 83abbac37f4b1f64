"""Bi-level refinement of the labels (mechanism 4), by a meta-gradient through unrolled training.

Each outer step draws a student of the pool, trains it T steps on the memory, and moves the soft labels of the addressed
entries so that the trained student would have a lower loss on rows of the block, the memory as it was standing for the
past:

    min over soft labels   E_{x in D_t} l(f(x; w_T), p(x)) + E_{s in S} l(f(s; w_T), soft label of s)

p(x) is the reference model's probability, or the row's own click, in the proportion of `refine.click_share`. The
definition is ours; the paper's formula was not at hand.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from diet_jax.device.collectives import psum
from diet_jax.distillation.memory import coded, student_data
from diet_jax.distillation.outcomes import of_every_outcome
from diet_jax.distillation.reference import teacher_logits
from diet_jax.distillation.spec import Spec
from diet_jax.distillation.state import StudentPool, Work, sample_rows
from diet_jax.models import Model
from diet_jax.training.losses import divisor, row_losses, weighted_loss
from diet_jax.training.students import StudentData, init_student, inner_step
from diet_jax.training.unroll import meta_gradient


class Learned(NamedTuple):
    """What the outer loop moves."""

    soft_logit: jax.Array  # f32[M]
    outer: Any  # optimizer state


@of_every_outcome
@jax.named_scope('refinement')
def refine(spec: Spec, work: Work) -> Work:
    """The part of a stage: every student architecture in turn moves the labels that the one before has left."""
    state, r = work.state, spec.refine
    entries = student_data(state.memory, state.codebook.code)
    restart = work.moved > r.restart_moved
    learned, pools, loss, norm = Learned(state.memory.soft_logit, state.outer), [], jnp.float32(0), jnp.float32(0)
    for index, (model, pool) in enumerate(zip(spec.students, state.pools, strict=True)):
        key = jax.random.fold_in(work.keys.refine, index)
        fresh = fresh_pool(spec, model, jax.random.fold_in(key, 0))
        pool = jax.tree.map(lambda new, old: jnp.where(restart, new, old), fresh, pool)
        learned, pool, (losses, norms) = refine_with(spec, work, model, entries, learned, pool, key=key)
        pools.append(pool)
        loss, norm = (x + jnp.mean(y) / len(spec.students) for x, y in ((loss, losses), (norm, norms)))
    state = state._replace(
        memory=state.memory._replace(soft_logit=learned.soft_logit), pools=tuple(pools), outer=learned.outer
    )
    return work._replace(state=state, refinement={'outer_loss': loss, 'meta_gradient_norm': norm})


def refine_with(
    spec: Spec, work: Work, model: Model, entries: StudentData, learned: Learned, pool: StudentPool, *, key: jax.Array
) -> tuple[Learned, StudentPool, tuple[jax.Array, jax.Array]]:
    """`refine.outer_steps` outer steps with students of one architecture.

    Args: entries: the memory as students see it; learned, pool: as they stand; key: of this architecture.
    Returns: (learned, pool, (outer loss, norm of the meta-gradient), f32[outer steps] each).
    """
    r, code, axis = spec.refine, work.state.codebook.code, spec.axis
    chex.assert_equal_shape([learned.soft_logit, entries.target, work.addressed])
    anchor = jax.nn.sigmoid(work.unrefined.soft_logit)  # the past as it was: not learned
    share = 1.0 if axis is None else 1.0 / jax.lax.psum(1, axis)  # the memory is on every device: count it once

    def inner(soft_logit, student, pick):
        target = jax.nn.sigmoid(soft_logit[pick])
        return inner_step(model, student, entries.ids[pick], target, entries.weight[pick], r.inner_lr)

    def outer_step(carry, i):
        (soft_logit, outer), pool = carry
        draw_key, pick_key, now_key, past_key, new_key = jax.random.split(jax.random.fold_in(key, i + 1), 5)
        who = jax.random.randint(draw_key, (), 0, r.pool)
        student = jax.tree.map(lambda x: x[who], pool.students)
        most = jnp.maximum(entries.rows, 1)
        picks = jax.random.randint(pick_key, (r.inner_steps, r.batch), 0, most)
        now = sample_rows(work.rows, r.outer_rows, now_key, axis)
        past = jax.random.randint(past_key, (r.past_rows,), 0, most)
        live = psum(jnp.sum(now.weight), axis)
        probability = jax.nn.sigmoid(teacher_logits(spec, work.state.reference, now.ids))
        label = r.click_share * now.label + (1.0 - r.click_share) * probability

        def outer_loss(student, _):
            today = jnp.sum(now.weight * row_losses(model.apply(student.params, coded(code, now.ids)), label))
            before = weighted_loss(model, student.params, entries.ids[past], anchor[past], entries.weight[past])
            return today / divisor(live) + r.past_weight * share * before

        value, student, grad = meta_gradient(
            outer_loss, inner, soft_logit, student, picks, window=r.window, remat=r.remat or None
        )
        value, grad = psum(value, axis), psum(grad, axis)
        grad = jnp.where(work.addressed & jnp.isfinite(grad), grad, 0.0)
        update, outer = outer_optimizer().update(grad, outer)
        soft_logit = soft_logit - jnp.where(work.addressed, r.label_lr * update, 0.0)
        pool = _returned(spec, model, pool, who, student, key=new_key)
        return (Learned(soft_logit, outer), pool), (value, jnp.linalg.norm(grad))

    (learned, pool), readings = jax.lax.scan(outer_step, (learned, pool), jnp.arange(r.outer_steps))
    return learned, pool, readings


def _returned(spec: Spec, model: Model, pool: StudentPool, who, student, *, key) -> StudentPool:
    """The pool with a student back at its place, older by the inner steps; one too old makes way for a new one."""
    age = pool.age[who] + spec.refine.inner_steps
    old = age >= spec.refine.max_age
    born = init_student(model, key, spec.num_codes, spec.columns)
    student = jax.tree.map(lambda new, now: jnp.where(old, new, now), born, student)
    return StudentPool(
        students=jax.tree.map(lambda all_, one: all_.at[who].set(one), pool.students, student),
        age=pool.age.at[who].set(jnp.where(old, 0, age)),
    )


def outer_optimizer() -> optax.GradientTransformation:
    """Of the learned labels, without its learning rate."""
    return optax.scale_by_adam(b1=0.9, b2=0.99)


def fresh_pool(spec: Spec, model: Model, key: jax.Array) -> StudentPool:
    """`refine.pool` untrained students of one architecture."""
    keys = jax.random.split(key, spec.refine.pool)
    students = jax.vmap(lambda k: init_student(model, k, spec.num_codes, spec.columns))(keys)
    return StudentPool(students=students, age=jnp.zeros(spec.refine.pool, jnp.int32))
