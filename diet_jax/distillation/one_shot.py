"""The yardstick of "evolves": a memory distilled in one stage from all days seen, by the reference model as it is now.

The parts are those of a stage, but for the reference model, which is trained already; and they see all rows of D_1..D_t
at once, which no stage of a stream may. As many outer steps and k-means steps as t stages.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.distillation.spec import Spec
from diet_jax.distillation.stage import PARTS, init_state
from diet_jax.distillation.state import Codebook, Keys, Memory, Rows, Work, count_rows
from diet_jax.training.passes import StreamState


class OneShot(NamedTuple):
    memory: Memory
    codebook: Codebook


def distill_at_once(
    spec: Spec, trained: StreamState, book: Codebook, ids, label, *, weight=None, entries: int, stages: int, seed: int
) -> OneShot:
    """A memory of all rows of D_1..D_t.

    Args:
      spec: of a run without twins, on one device; trained: the reference model after D_1..D_t.
      book: an empty codebook that knows the slots' fields; ids: i32[N, F] slots; label: f32[N]; weight: f32[N], None:
        every row weighs 1.
      entries: of the memory, 1 <= entries <= N, all of them valid; stages: that the stream took; seed: of all draws.
    """
    memory = spec.memory.as_configdict()
    memory.update(row_budget=1.0, capacity=entries, max_new=entries)
    refine = spec.refine.as_configdict()
    refine.outer_steps *= stages
    spec = spec._replace(memory=type(spec.memory)(memory), refine=type(spec.refine)(refine))
    held = np.random.default_rng(seed).random(len(label)) < refine.held_share
    rows = Rows(
        ids=jnp.asarray(ids),
        label=jnp.asarray(label, jnp.float32),
        weight=jnp.ones(len(label)) if weight is None else jnp.asarray(weight, jnp.float32),
        held=jnp.asarray(held),
    )
    return _folded(spec, stages, trained, book, rows, jax.random.key(seed))


@jax.jit(static_argnums=(0, 1))
def _folded(spec: Spec, stages: int, trained: StreamState, book: Codebook, rows: Rows, key: jax.Array) -> OneShot:
    address_key, pool_key, refine_key, check_key = jax.random.split(key, 4)
    state = init_state(spec, trained.params['table'].shape[0], pool_key)._replace(
        reference=trained,
        codebook=book,
        stage=jnp.int32(stages),
        rows_seen=count_rows(rows).astype(jnp.int32),
    )
    work = Work(
        state=state,
        block=None,
        rows=rows,
        keys=Keys(address=address_key, refine=refine_key, check=check_key),
        before=jnp.zeros(spec.memory.capacity),  # of entries that there are not yet
    )
    (_, extend), *rest = PARTS[1:]

    def again(_, book):
        return extend(spec, work._replace(state=state._replace(codebook=book))).state.codebook

    book = jax.lax.fori_loop(0, stages, again, book)
    work = work._replace(state=state._replace(codebook=book), moved=jnp.float32(0))
    for _, part in rest:
        work = part(spec, work)
    return OneShot(memory=work.state.memory, codebook=book)
