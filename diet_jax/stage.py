"""One stage of DIET, on one page: the stage-wise update of the memory by one block of the stream.

    stage_update(state, block) -> (state, StageMetrics)

is one pure function, composed of pure parts that can be used and tested alone. It runs on any number of devices:
the block's rows are sharded over the device axis, the state is replicated (but for the id tables, where
config.reference.shard_tables spreads their rows: `tables`), and nothing here knows the device count.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from diet_jax import codebook as cb
from diet_jax import influence as inf
from diet_jax import memory as mem
from diet_jax import tables
from diet_jax import training as tr
from diet_jax.unroll import meta_gradient

TWIN_SIZE = 0.5  # of a twin's embeddings beside the reference model's, where distances decide on codes


class Pool(NamedTuple):
    """Students of one architecture, of staggered age, that the outer loop draws from (FRePo, arXiv:2206.00719)."""

    students: tr.StudentState  # every leaf has a leading axis [P]
    age: jax.Array  # i32[P]  inner steps taken


class StageState(NamedTuple):
    """Everything that must survive a crash."""

    memory: mem.Memory
    codebook: cb.Codebook
    reference: tr.StreamState
    twins: tuple[tr.StreamState, ...]  # other architectures along the same stream
    pools: tuple[Pool, ...]  # one for each student architecture
    outer: Any  # optimizer state of the learned labels
    key: jax.Array  # uint32[2] raw key
    stage: jax.Array  # i32[]  stages done
    rows_seen: jax.Array  # i32[]


class StageMetrics(NamedTuple):
    """Scalars, except the progressive validation's logits (before each row was trained on)."""

    logits: jax.Array  # f32[S, b, 1 + twins]  this device's share, the reference model's first; gathered by the driver
    train_loss: jax.Array
    moved: jax.Array  # share of the block's id occurrences whose code changed
    influence: dict
    addressing: mem.Addressing
    refinement: dict
    rows: jax.Array  # i32[]  valid entries
    mass: jax.Array  # f32[]  sum of counts


class Rows(NamedTuple):
    """A device's rows of the block, flat."""

    ids: jax.Array  # i32[n, F]
    label: jax.Array  # f32[n]
    weight: jax.Array  # f32[n]  1 row, 0 padding
    held: jax.Array  # bool[n]


def init_state(config, reference, students, capacity: int, num_fields: int, key: jax.Array, twins=()) -> StageState:
    """State before the first block. capacity: rows of the id tables (V); the memory's is config.memory.capacity.

    twins: their `Model`s.
    """
    model_key, pool_key, key = jax.random.split(key, 3)
    wide = [m for m in (reference, *twins) if m.dim == reference.dim]  # `code_space`
    num_codes = num_fields * config.codebook.codes
    memory = mem.init_memory(config.memory.capacity, num_fields)
    pools = tuple(
        _fresh_pool(m, jax.random.fold_in(pool_key, i), config.refine.pool, num_codes, num_fields)
        for i, m in enumerate(students)
    )
    return StageState(
        memory,
        cb.init_codebook(capacity, num_fields, config.codebook.codes, sum(1 + m.dim for m in wide)),
        tr.init_stream(reference, model_key, capacity, num_fields),
        tuple(
            tr.init_stream(m, jax.random.fold_in(model_key, i + 1), capacity, num_fields) for i, m in enumerate(twins)
        ),
        pools,
        _outer_optimizer().init(memory.soft_logit),
        key,
        jnp.int32(0),
        jnp.int32(0),
    )


def make_stage_update(config, reference, students, axis: str | None = None, twins=()):
    """Closes over what is static.

    Args:
      config: the run's ConfigDict (sections reference, codebook, memory, addressing, refine).
      reference: the reference `Model`, over slots; students: tuple of `Model`s over codes for the outer loop.
      axis: name of the device axis that shards the block, or None.
      twins: tuple of (`Model`, learning rate), trained along the stream and touching nothing else.
    Returns:
      stage_update(state: StageState, block: training.Batches) -> (StageState, StageMetrics).
    """

    shards = axis if config.reference.shard_tables else None

    def stage_update(state: StageState, block: tr.Batches):
        key, address_key, refine_key, check_key = jax.random.split(state.key, 4)
        rows = flat_rows(block)
        stage = state.stage + 1
        rows_seen = state.rows_seen + tr.psum(jnp.sum(rows.weight), axis).astype(jnp.int32)

        before = entry_logits(reference, state.reference, state.memory, shards)
        # Mechanism 2: test, then train, in one pass. Names are those in a profile (scripts/bench.py --only=profile).
        models = ((reference, config.reference.learning_rate, 'reference'), *((*twin, 'twins') for twin in twins))
        (trained, *beside), logits = tr.stream_passes(models, (state.reference, *state.twins), block, axis, shards)
        table, head = trained.params['table'], trained.params['head']
        with jax.named_scope('codebook'):
            points = code_space([m for m, *_ in models], [trained, *beside])
            book, moved = cb.extend(state.codebook, points, rows.ids, rows.weight, axis, shards)
        of_rows, of_entries = score_influence(config, reference, trained, state.memory, rows, address_key, axis, shards)
        memory, addressed, addressing = address_and_fuse(
            config,
            table,
            before,
            state.memory,
            rows,
            of_rows,
            of_entries,
            rows_seen,
            stage,
            address_key,
            axis,
            shards,
        )
        teacher = lambda ids: reference.rows(head, tables.gather(table, ids, shards))  # noqa: E731
        refined, pools, outer, refinement = refine(
            config,
            students,
            teacher,
            memory,
            addressed,
            book.code,
            state.pools,
            state.outer,
            moved,
            rows,
            refine_key,
            axis,
        )
        accept, check = do_no_harm(config, students[0], memory, refined, book.code, rows, check_key, axis)
        memory = jax.tree.map(lambda new, old: jnp.where(accept, new, old), refined, memory)

        masked = jnp.where(rows.weight > 0, of_rows.influence, 0.0)
        total = jnp.maximum(tr.psum(jnp.sum(rows.weight), axis), 1.0)
        losses = tr.row_losses(logits[0].reshape(-1), rows.label)
        metrics = StageMetrics(
            logits=jnp.stack(logits, -1),
            train_loss=tr.psum(jnp.sum(losses * rows.weight), axis) / total,
            moved=moved,
            influence={
                'rows_mean': tr.psum(jnp.sum(masked), axis) / total,
                'rows_abs_mean': tr.psum(jnp.sum(jnp.abs(masked)), axis) / total,
                'positive_share': tr.psum(jnp.sum(masked > 0), axis) / total,
                'memory_mean': _mean(memory.influence, memory.valid),
            },
            addressing=addressing,
            refinement={**refinement, **check, 'accepted': accept.astype(jnp.int32)},
            rows=jnp.sum(memory.valid),
            mass=jnp.sum(memory.count),
        )
        state = StageState(memory, book, trained, tuple(beside), pools, outer, key, stage, rows_seen)
        return state, metrics

    return stage_update


def code_space(models, streams) -> jax.Array:
    """What codes are clusters of: rows of the reference model and of the twins as wide as it, side by side. f32[V, D].

    A twin without a strong field has to learn from the others what that field tells the reference model, so the codes
    keep it for candidates that do without the field too. At half its size a twin costs the order of the strong ones
    nothing (docs/results/fidelity.md).

    Args: models: the reference model first, then the twins; streams: their `StreamState`s.
    """
    first, *wide = [s.params['table'] for m, s in zip(models, streams, strict=True) if m.dim == models[0].dim]
    return jnp.concatenate([first, *(TWIN_SIZE * table for table in wide)], -1)


def entry_logits(reference, stream: tr.StreamState, memory: mem.Memory, shards=None) -> jax.Array:
    """Logits of the entries by the reference model as it stands. -> f32[M]."""
    return reference.rows(stream.params['head'], tables.gather_common(stream.params['table'], memory.ids, shards))


@jax.named_scope('influence')
def score_influence(
    config, reference, trained: tr.StreamState, memory: mem.Memory, rows: Rows, key, axis=None, shards=None
):
    """Mechanism 3: influence of the block's rows and of the entries on the loss of the stream so far.

    The query is a sample of the block's rows that are not held out, and the memory standing for the past: each entry
    with its mean label and its count. Returns what `influence.row_influence` does, for the rows and for the entries.
    """
    table, head = trained.params['table'], trained.params['head']
    sample = _sample(rows, config.addressing.query_rows, key, axis)
    past = jnp.where(memory.valid, memory.count, 0.0)
    scale = tr.psum(jnp.sum(rows.weight), axis) / jnp.maximum(tr.psum(jnp.sum(sample.weight), axis), 1.0)
    share = 1.0 if axis is None else 1.0 / jax.lax.psum(1, axis)  # the memory is on every device: count it once
    everyones = jax.lax.all_gather(sample.ids, axis, tiled=True) if axis else sample.ids
    sub = tables.subtable(jnp.concatenate([everyones, memory.ids]), table, shards)
    touched = {'table': tables.gather_common(table, sub.ids, shards), 'head': head}
    of_entries = tables.gather_common(sub.place, memory.ids, shards)
    v = inf.query_gradient(
        reference,
        touched,
        jnp.concatenate([tables.gather(sub.place, sample.ids, shards), of_entries]),
        jnp.concatenate([sample.label, memory.mean_label]),
        jnp.concatenate([sample.weight * scale, past * share]),
        axis,
    )
    correction = 1.0 / (1.0 - tr.B2 ** jnp.maximum(trained.step, 1).astype(jnp.float32))
    second = {
        'table': tables.gather_common(trained.nu, sub.ids, shards) * correction,
        'head': jax.tree.map(lambda x: x * correction, trained.head_opt.nu),
    }
    direction = inf.precondition(v, second)
    along = direction['table']

    def of_log(ids):  # the query does not move what it does not touch
        at = tables.gather(sub.place, ids, shards)
        return tables.gather(table, ids, shards), along.at[at].get(mode='fill', fill_value=0.0)

    return (
        inf.row_influence(reference, touched, direction, rows.ids, rows.label, look_up=of_log),
        inf.row_influence(reference, touched, direction, of_entries, memory.mean_label),
    )


@jax.named_scope('addressing')
def address_and_fuse(
    config,
    table: jax.Array,
    before: jax.Array,
    memory: mem.Memory,
    rows: Rows,
    of_rows: inf.Scored,
    of_entries: inf.Scored,
    rows_seen,
    stage,
    key,
    axis=None,
    shards=None,
):
    """Mechanisms 1 and 3: boundary construction at the first stage, addressing and fusion at every stage.

    Args: table: f32[V, 1 + d] of the reference model after this block; before: f32[M] `entry_logits` before it.
    """
    a = config.addressing
    live = jnp.sum(rows.weight).astype(jnp.int32)  # rows come first, padding last
    spread = (jnp.arange(a.basis_rows) * (live / a.basis_rows)).astype(jnp.int32)
    sample = tables.gather(table, rows.ids[spread], shards)
    basis = mem.principal_basis(sample[..., 1:], rows.weight[spread], a.components, axis)
    place = lambda r, logits: mem.places(r[..., 1:], logits, basis, a.logit_weight)  # noqa: E731
    place_rows = lambda part: place(tables.gather(table, part[0], shards), part[1])  # noqa: E731
    target = jnp.minimum(
        jnp.floor(config.memory.row_budget * rows_seen.astype(jnp.float32)).astype(jnp.int32), memory.count.shape[0]
    )
    return mem.address(
        memory,
        mem.Rows(rows.ids, rows.label, *of_rows, tr.chunked(place_rows, (rows.ids, of_rows.logits)), rows.weight > 0),
        place(tables.gather_common(table, memory.ids, shards), of_entries.logits),
        of_entries.influence,
        of_entries.logits - before,
        target,
        stage,
        key,
        replace=a.replace,
        influence_power=a.influence_power,
        coverage_power=a.coverage_power,
        max_new=config.memory.max_new,
        axis=axis,
    )


@jax.named_scope('refinement')
def refine(
    config, students, teacher, memory: mem.Memory, addressed, code, pools, outer, moved, rows: Rows, key, axis=None
):
    """Mechanism 4, bi-level: the meta-gradient of the loss on real rows, through unrolled training on the memory.

    Each outer step draws a student of the pool, trains it T steps on the memory, and moves the soft labels
    of the addressed entries so that the trained student would have a lower loss on rows of the block, the memory as
    it was standing for the past. Returns (memory, pools, outer state, metrics).
    """
    r = config.refine
    base = mem.student_data(memory, code)
    num_codes = code_count(config, memory.ids.shape[1])
    anchor = jax.nn.sigmoid(memory.soft_logit)  # the past as it was: not learned
    restart = moved > r.restart_moved
    loss = norm = jnp.float32(0)
    new_pools = []
    soft_logit = memory.soft_logit
    for index, (model, pool) in enumerate(zip(students, pools)):
        arch_key = jax.random.fold_in(key, index)
        fresh = _fresh_pool(model, jax.random.fold_in(arch_key, 0), r.pool, num_codes, memory.ids.shape[1])
        pool = jax.tree.map(lambda new, old: jnp.where(restart, new, old), fresh, pool)

        def inner(soft_logit, student, pick, model=model):
            return tr.inner_step(
                model, student, base.ids[pick], jax.nn.sigmoid(soft_logit[pick]), base.weight[pick], r.inner_lr
            )

        def outer_step(carry, i, model=model, arch_key=arch_key, inner=inner):
            soft_logit, outer, pool = carry
            draw_key, pick_key, now_key, past_key, new_key = jax.random.split(jax.random.fold_in(arch_key, i + 1), 5)
            who = jax.random.randint(draw_key, (), 0, r.pool)
            student = jax.tree.map(lambda x: x[who], pool.students)
            picks = jax.random.randint(pick_key, (r.inner_steps, r.batch), 0, jnp.maximum(base.rows, 1))
            now = _sample(rows, r.outer_rows, now_key, axis)
            past = jax.random.randint(past_key, (r.past_rows,), 0, jnp.maximum(base.rows, 1))
            live = tr.psum(jnp.sum(now.weight), axis)
            label = r.click_share * now.label + (1.0 - r.click_share) * jax.nn.sigmoid(teacher(now.ids))

            def outer_loss(student, _):
                today = jnp.sum(now.weight * tr.row_losses(model.apply(student.params, code[now.ids]), label))
                memory_loss = tr.weighted_loss(model, student.params, base.ids[past], anchor[past], base.weight[past])
                share = 1.0 if axis is None else 1.0 / jax.lax.psum(1, axis)
                return today / jnp.maximum(live, 1.0) + r.past_weight * share * memory_loss

            value, student, grad = meta_gradient(
                outer_loss, inner, soft_logit, student, picks, window=r.window, remat=r.remat or None
            )
            value, grad = tr.psum(value, axis), tr.psum(grad, axis)
            grad = jnp.where(addressed & jnp.isfinite(grad), grad, 0.0)
            update, outer = _outer_optimizer().update(grad, outer)
            soft_logit = soft_logit - jnp.where(addressed, r.label_lr * update, 0.0)
            age = pool.age[who] + r.inner_steps
            old = age >= r.max_age
            born = tr.init_student(model, new_key, num_codes, memory.ids.shape[1])
            student = jax.tree.map(lambda new, now: jnp.where(old, new, now), born, student)
            pool = Pool(
                jax.tree.map(lambda all_, one: all_.at[who].set(one), pool.students, student),
                pool.age.at[who].set(jnp.where(old, 0, age)),
            )
            return (soft_logit, outer, pool), (value, jnp.linalg.norm(grad))

        (soft_logit, outer, pool), (values, norms) = jax.lax.scan(
            outer_step, (soft_logit, outer, pool), jnp.arange(r.outer_steps)
        )
        new_pools.append(pool)
        loss, norm = loss + jnp.mean(values) / len(students), norm + jnp.mean(norms) / len(students)
    refined = memory._replace(soft_logit=soft_logit)
    return refined, tuple(new_pools), outer, {'outer_loss': loss, 'meta_gradient_norm': norm}


@jax.named_scope('check')
def do_no_harm(config, model, memory: mem.Memory, refined: mem.Memory, code, rows: Rows, key, axis=None):
    """The refinement stays only if students trained on the refined memory are better on the held-out slice.

    Both sides train the same students from the same seeds, in the same order of rows. Returns (accept bool[],
    {'loss_before', 'loss_after'}), LogLoss on the held-out rows, nats.
    """
    r = config.refine
    num_codes = code_count(config, memory.ids.shape[1])
    weight = rows.weight * rows.held
    held = _compact(rows, weight, r.check_rows if axis is None else -(-r.check_rows // jax.lax.axis_size(axis)))

    def loss(memory_and_key):
        memory, key = memory_and_key
        data = mem.student_data(memory, code)
        student = tr.init_student(model, key, num_codes, memory.ids.shape[1])
        student = tr.student_epochs(model, student, data, key, r.check_lr, r.check_epochs, r.check_batch)
        logits = model.apply(student.params, code[held.ids])
        return jnp.sum(held.weight * tr.row_losses(logits, held.label))

    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), memory, refined)
    keys = jax.random.split(key, r.check_seeds)
    table = tr.mapped(lambda m: tr.mapped(lambda k: loss((m, k)), keys), both)
    total = jnp.maximum(tr.psum(jnp.sum(held.weight), axis), 1.0)
    before, after = jnp.mean(tr.psum(table, axis), axis=1) / total
    return after < before, {'loss_before': before, 'loss_after': after}


def flat_rows(block: tr.Batches) -> Rows:
    """A block's batches as one list of rows."""
    return Rows(*(x.reshape(-1, *x.shape[2:]) for x in (block.ids, block.label, block.weight, block.held)))


def code_count(config, num_fields: int) -> int:
    """Rows of a student's table: every field has the same number of codes."""
    return num_fields * config.codebook.codes


def _outer_optimizer():
    return optax.scale_by_adam(b1=0.9, b2=0.99)


def _fresh_pool(model, key, size: int, num_codes: int, num_fields: int) -> Pool:
    students = jax.vmap(lambda k: tr.init_student(model, k, num_codes, num_fields))(jax.random.split(key, size))
    return Pool(students, jnp.zeros(size, jnp.int32))


def _sample(rows: Rows, count: int, key, axis) -> Rows:
    """`count` rows over all devices, drawn with replacement from those neither padding nor held out."""
    if axis:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        count = -(-count // jax.lax.axis_size(axis))
    open_rows = (rows.weight > 0) & ~rows.held
    cumulative = jnp.cumsum(open_rows)
    pick = jnp.searchsorted(cumulative, jax.random.randint(key, (count,), 0, jnp.maximum(cumulative[-1], 1)), 'right')
    pick = jnp.minimum(pick, rows.weight.shape[0] - 1)
    return jax.tree.map(lambda x: x[pick], rows)._replace(weight=open_rows[pick].astype(jnp.float32))


def _compact(rows: Rows, weight, count: int) -> Rows:
    """The first `count` rows of positive weight, in order, padded with weight 0."""
    count = min(count, weight.shape[0])
    pick = jnp.argsort(weight <= 0, stable=True)[:count]
    return jax.tree.map(lambda x: x[pick], rows)._replace(weight=weight[pick])


def _mean(x, mask):
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(jnp.sum(mask), 1)
