"""Influence of rows on training, by one forward-mode derivative.

The influence of row i is the first-order fall of the query loss Q when the model takes one preconditioned step on it:

    I_i = g_i . P v,   g_i = grad of row i's loss,  v = grad of Q,  P = 1 / (sqrt(second moment) + eps)

(TracIn, Pruthi et al. 2020, arXiv:2002.08484, in the optimizer's own metric as in Adam-aware variants). No gradient
of a single row is ever formed: all I_i are the directional derivative of the *vector of row losses* along P v, which
`jax.jvp` gives in one forward pass, and the rows' logits with it. The definition is ours: the paper's formula was not
at hand.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from diet_jax.device import tables
from diet_jax.device.collectives import psum
from diet_jax.device.tiling import chunked, split
from diet_jax.distillation.reference import entry_logits, teacher_logits
from diet_jax.distillation.spec import Spec
from diet_jax.distillation.state import Scored, Work, mass, sample_rows
from diet_jax.models.recipes import Recipe
from diet_jax.training.losses import divisor, row_losses

EPS = 1e-4  # of the preconditioner: a slot that was hardly ever touched must not dominate the inner product


def query_gradient(model, params, ids, label, weight, axis=None, chunk: int | None = None):
    """Gradient of the weighted mean loss over the query rows, in constant memory; O(rows) beside the gradient itself.

    Args:
      params: with the table of the rows that the query touches (`tables.subtable`), [U, 1 + d], not of all ids.
      ids: i32[Q, W] places in that table, PAD in lists; label, weight: f32[Q]; rows may be sharded over `axis`.
    Returns: a pytree like `params`.
    """
    chex.assert_equal_shape([label, weight, ids[:, 0]])
    total = divisor(psum(jnp.sum(weight), axis))

    def loss(rows, head, ids, label, weight):
        return jnp.sum(weight * row_losses(model.rows(head, rows, ids), label)) / total

    def add(grads, part):
        ids, *rest = part
        rows, head = jax.grad(loss, (0, 1))(params['table'][ids], params['head'], ids, *rest)
        return {'table': grads['table'].at[ids].add(rows), 'head': jax.tree.map(jnp.add, grads['head'], head)}, None

    grads, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), split((ids, label, weight), chunk))
    return psum(grads, axis)


def unbiased(recipe: Recipe, nu, step: jax.Array):
    """Second moments of an optimizer after so many steps, as it divides by them; ones where it has none."""
    if recipe.optimizer == 'sgd':
        return jax.tree.map(jnp.ones_like, nu)
    if not recipe.adaptive:
        return nu
    correction = 1.0 / (1.0 - recipe.b2 ** jnp.maximum(step, 1).astype(jnp.float32))
    return jax.tree.map(lambda x: x * correction, nu)


def precondition(grads, second_moments):
    """P v: the query gradient in the metric of the optimizer that would take the step."""
    return jax.tree.map(lambda g, nu: g / (jnp.sqrt(nu) + EPS), grads, second_moments)


def row_influence(model, params, direction, ids, label, chunk: int | None = None, look_up=None):
    """Logits and influences of any number of rows along `direction` = P v, in constant memory.

    The derivative is taken of the logits, whose values are wanted too; that of the LogLoss follows by the chain rule,
    g_i . P v = (sigmoid(z_i) - y_i) (dz_i . P v).

    Args:
      direction: a pytree like params; ids: i32[N, W]; label: f32[N] in [0, 1].
      look_up: i32[n, W] -> (rows of the params' table, rows of the direction's), both f32[n, W, 1 + d], where the two
        tables are of different size: a direction knows the ids that the query touched only. Default: their rows `ids`.
    Returns: Scored(logits f32[N], influence f32[N], positive = training on the row lowers the query loss); a row's
      influence does not depend on what the row weighs.
    """

    chex.assert_equal_shape([label, ids[:, 0]])

    def score(part):
        rows, along = look_up(part[0]) if look_up else (params['table'][part[0]], direction['table'][part[0]])
        of_rows = lambda head, rows: model.rows(head, rows, part[0])  # noqa: E731
        logits, change = jax.jvp(of_rows, (params['head'], rows), (direction['head'], along))
        return Scored(logits, (jax.nn.sigmoid(logits) - part[1]) * change)

    return chunked(score, (ids, label), chunk)


@jax.named_scope('influence')
def score_influence(spec: Spec, work: Work) -> Work:
    """The part of a stage (mechanism 3): influence of the block's rows and of the entries on the stream's loss so far.

    The query is a sample of the block's rows that are not held out, each with its weight, and the memory standing for
    the past: each entry with its mean label and its count. The model is the reference model after the block. Of other
    outcomes the reference model's logits are taken, and no influence: that of the main outcome decides.
    """
    trained, memory, rows, axis, shards = work.state.reference, work.state.memory, work.rows, spec.axis, spec.shards
    table, head = trained.params['table'], trained.params['head']
    sample = sample_rows(rows, spec.addressing.query_rows, work.keys.address, axis)
    past = jnp.where(memory.valid, memory.count, 0.0)
    scale = mass(rows, axis) / divisor(mass(sample, axis))
    share = 1.0 if axis is None else 1.0 / jax.lax.psum(1, axis)  # the memory is on every device: count it once
    everyones = jax.lax.all_gather(sample.ids, axis, tiled=True) if axis else sample.ids
    sub = tables.subtable(jnp.concatenate([everyones, memory.ids]), table, shards)
    touched = {'table': tables.gather_common(table, sub.ids, shards), 'head': head}
    padded = lambda ids, at: jnp.where(ids < 0, ids, at)  # noqa: E731
    of_entries = padded(memory.ids, tables.gather_common(sub.place, memory.ids, shards))
    of_sample = padded(sample.ids, tables.gather(sub.place, sample.ids, shards))
    v = query_gradient(
        spec.reference,
        touched,
        jnp.concatenate([of_sample, of_entries]),
        jnp.concatenate([sample.label, memory.mean_label]),
        jnp.concatenate([sample.weight * scale, past * share]),
        axis,
    )
    nu = {'table': tables.gather_common(trained.nu, sub.ids, shards), 'head': trained.head_opt.nu}
    direction = precondition(v, unbiased(spec.recipe, nu, trained.step))
    along = direction['table']

    def of_log(ids):  # the query does not move what it does not touch
        at = tables.gather(sub.place, ids, shards)
        return tables.gather(table, ids, shards), along.at[at].get(mode='fill', fill_value=0.0)

    return work._replace(
        of_rows=row_influence(spec.reference, touched, direction, rows.ids, rows.label, look_up=of_log),
        of_entries=row_influence(spec.reference, touched, direction, of_entries, memory.mean_label),
        others=tuple(_read(spec, other) for other in work.others),
    )


def _read(spec: Spec, work: Work) -> Work:
    """Another outcome's rows and entries by its reference model."""
    reference, memory = work.state.reference, work.state.memory
    of_rows = chunked(lambda part: teacher_logits(spec, reference, part[0]), (work.rows.ids,), None)
    of_entries = entry_logits(spec, reference, memory)
    return work._replace(of_rows=Scored(of_rows, None), of_entries=Scored(of_entries, None))
