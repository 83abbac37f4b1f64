"""One stage of DIET, on one page: the stage-wise update of the memory by one block of the stream.

    stage_update(state, block) -> (state, StageMetrics)

is one pure function, the fold of `PARTS`, each of which can be run and tested alone. It runs on any number of devices:
the block's rows are sharded over the device axis, the state is replicated (but for the id tables, where
config.reference.shard_tables spreads their rows: `device.tables`), and nothing here knows the device count.
"""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from diet_jax.device.collectives import psum
from diet_jax.distillation.address import address_and_fuse
from diet_jax.distillation.check import do_no_harm
from diet_jax.distillation.codebook import extend_codebook, in_code_space, init_codebook
from diet_jax.distillation.influence import score_influence
from diet_jax.distillation.memory import init_memory
from diet_jax.distillation.outcomes import begun, ended, outcome_of
from diet_jax.distillation.reference import train_along_the_stream
from diet_jax.distillation.refine import fresh_pool, outer_optimizer, refine
from diet_jax.distillation.spec import Spec
from diet_jax.distillation.state import Keys, StageMetrics, StageState, Work, count_rows, flat_rows, mass
from diet_jax.training.batches import Batches
from diet_jax.training.losses import divisor, row_losses
from diet_jax.training.passes import init_stream

Part = Callable[[Spec, Work], Work]
PARTS: tuple[tuple[str, Part], ...] = (
    ('reference', train_along_the_stream),  # test, then train: the reference model and its twins
    ('codebook', extend_codebook),  # ids first seen get codes
    ('influence', score_influence),  # of every row and entry on the loss of the stream so far
    ('addressing', address_and_fuse),  # kept, modified, replaced; at the first stage the boundary memory
    ('refinement', refine),  # bi-level: labels move along the meta-gradient
    ('check', do_no_harm),  # or stay, if that does not help
)


def make_stage_update(spec: Spec) -> Callable[[StageState, Batches], tuple[StageState, StageMetrics]]:
    """The stage of a run, to be jitted, pmapped or shard-mapped (`parallel`).

    Returns: stage_update(state, this device's share of the block) -> (state, metrics).
    """

    def stage_update(state: StageState, block: Batches) -> tuple[StageState, StageMetrics]:
        work = begin(spec, state, block)
        for _, part in PARTS:
            work = part(spec, work)
        return ended(work), metrics(spec, work)

    return stage_update


def begin(spec: Spec, state: StageState, block: Batches) -> Work:
    """What the first part is given: the stage and its rows are counted, its keys drawn."""
    rows = flat_rows(block)
    chex.assert_shape(rows.ids, (None, spec.columns))
    chex.assert_equal_shape([rows.label, rows.weight, rows.held])
    key, *keys = jax.random.split(state.key, 4)
    seen = state.rows_seen + count_rows(rows, spec.axis).astype(jnp.int32)
    state = state._replace(key=key, stage=state.stage + 1, rows_seen=seen)
    return begun(Work(state=state, block=block, rows=rows, keys=Keys(*keys)))


def metrics(spec: Spec, work: Work) -> StageMetrics:
    """What is said of a stage when all parts have run."""
    axis, rows, memory = spec.axis, work.rows, work.state.memory
    total = divisor(mass(rows, axis))
    influence = work.of_rows.influence
    losses = row_losses(work.logits[0].reshape(-1), rows.label)
    over_rows = lambda x: psum(jnp.sum(jnp.where(rows.weight > 0, rows.weight * x, 0.0)), axis) / total  # noqa: E731
    return StageMetrics(
        logits=jnp.stack(work.logits, -1),
        train_loss=over_rows(losses),
        moved=work.moved,
        influence={
            'rows_mean': over_rows(influence),
            'rows_abs_mean': over_rows(jnp.abs(influence)),
            'positive_share': over_rows(influence > 0),
            'memory_mean': jnp.sum(jnp.where(memory.valid, memory.influence, 0.0))
            / jnp.maximum(jnp.sum(memory.valid), 1),
        },
        addressing=work.addressing,
        refinement=work.refinement,
        rows=jnp.sum(memory.valid),
        mass=jnp.sum(memory.count),
        other_logits=tuple(jnp.stack(other.logits, -1) for other in work.others),
        other_refinement=tuple(other.refinement for other in work.others),
    )


def init_state(spec: Spec, slots: int, key: jax.Array) -> StageState:
    """State before the first block.

    Args: slots: rows of the id tables (V); the memory's capacity is `spec.memory.capacity`; key: uint32[2], raw.
    """
    others = (_init_state(spec, slots, jax.random.fold_in(key, k)) for k in range(spec.others))
    return _init_state(spec, slots, key)._replace(others=tuple(map(outcome_of, others)))


def _init_state(spec: Spec, slots: int, key: jax.Array) -> StageState:
    """Of one outcome."""
    model_key, pool_key, key = jax.random.split(key, 3)
    streams, recipes = spec.along_the_stream, (spec.recipe, *(recipe for _, recipe, _ in spec.twins))
    reference, *twins = (
        init_stream(model, jax.random.fold_in(model_key, i) if i else model_key, slots, spec.columns, recipe)
        for i, (model, recipe) in enumerate(zip(streams, recipes, strict=True))
    )
    memory = init_memory(spec.memory.capacity, spec.columns)
    width = sum(1 + streams[i].dim for i in in_code_space(spec.with_codes))
    return StageState(
        memory=memory,
        codebook=init_codebook(slots, spec.num_fields, spec.codes, width),
        reference=reference,
        twins=tuple(twins),
        pools=tuple(fresh_pool(spec, model, jax.random.fold_in(pool_key, i)) for i, model in enumerate(spec.students)),
        outer=outer_optimizer().init(memory.soft_logit),
        key=key,
        stage=jnp.int32(0),
        rows_seen=jnp.int32(0),
    )
