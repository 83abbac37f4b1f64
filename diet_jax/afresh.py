"""The yardstick of "evolves": a memory distilled afresh from all days seen, in one stage, by the reference model as it
is now.

The same parts as a stage's (`stage`): codebook, influence, boundary construction, refinement and its check; but they
see all rows of D_1..D_t at once, which no stage of a stream may. As many outer steps and k-means steps as t stages.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax import codebook as cb
from diet_jax import memory as mem
from diet_jax import stage
from diet_jax import training as tr


class Afresh(NamedTuple):
    memory: mem.Memory
    book: cb.Codebook


def distilled(config, reference, students, trained: tr.StreamState, book: cb.Codebook, ids, label, n: int, t: int):
    """A memory of n entries out of all rows of D_1..D_t.

    Args:
      config: the run's, with its sizes filled in; reference, students: `Model`s, as in `stage.make_stage_update`.
      trained: the reference model after D_1..D_t; book: an empty codebook that knows the slots' fields.
      ids: i32[N, F] slots; label: f32[N]; n: entries, 1 <= n <= N; t: stages that the stream took.
    Returns: Afresh; all n entries are valid.
    """
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.memory.row_budget, config.memory.capacity, config.memory.max_new = 1.0, n, n
        config.refine.outer_steps *= t
    rng = np.random.default_rng(config.seed)
    held = rng.random(len(label)) < config.refine.held_share
    rows = stage.Rows(jnp.asarray(ids), jnp.asarray(label, jnp.float32), jnp.ones(len(label)), jnp.asarray(held))
    return jax.jit(_one_stage, static_argnums=(0, 1, 2, 3))(
        _Static(config), reference, students, t, trained, book, rows, jax.random.key(config.seed)
    )


class _Static:
    """A config as a static argument: compared by identity, one call compiles once."""

    def __init__(self, config):
        self.config = config


def _one_stage(static: _Static, reference, students, t: int, trained, book, rows: stage.Rows, key) -> Afresh:
    config, fields = static.config, rows.ids.shape[1]
    address_key, pool_key, refine_key, check_key = jax.random.split(key, 4)
    table = trained.params['table']
    book = jax.lax.fori_loop(0, t, lambda _, book: cb.extend(book, table, rows.ids, rows.weight)[0], book)
    empty = mem.init_memory(config.memory.capacity, fields)
    scored = stage.score_influence(config, reference, trained, empty, rows, address_key)
    seen = jnp.sum(rows.weight).astype(jnp.int32)
    memory, addressed, _ = stage.address_and_fuse(
        config, table, scored[1].logits, empty, rows, *scored, seen, jnp.int32(t), address_key
    )
    state = stage.init_state(config, reference, students, table.shape[0], fields, pool_key)
    refined, *_ = stage.refine(
        config,
        students,
        lambda ids: reference.apply(trained.params, ids),
        memory,
        addressed,
        book.code,
        state.pools,
        state.outer,
        jnp.float32(0),
        rows,
        refine_key,
    )
    accept, _ = stage.do_no_harm(config, students[0], memory, refined, book.code, rows, check_key)
    return Afresh(jax.tree.map(lambda new, old: jnp.where(accept, new, old), refined, memory), book)
