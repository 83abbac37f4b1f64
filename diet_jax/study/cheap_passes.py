"""Full training made as cheap as training on a memory: one pass over few rows of the log, from nothing or warm.

* `early_stop`, `subsample`: a fresh model on the first rows, on a uniform draw of all.
* `warm_random_rows`, `warm_recent_rows`, `warm_last_block`: id rows start from the tables of the reference model, as a
  team starts from the model that runs; the head is fresh. Trained on a uniform draw, the last rows, all of D_t.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.study import protocol
from diet_jax.study.readings import Reading
from diet_jax.training.batches import shard_block
from diet_jax.training.passes import init_stream
from diet_jax.trials import full_pass
from diet_jax.trials.log import EvaluationLog

FRESH = ('early_stop', 'subsample')
WARM = ('warm_random_rows', 'warm_recent_rows', 'warm_last_block')


def cheap_reading(
    kind: str,
    candidate,
    log: EvaluationLog,
    t: int,
    *,
    visits: Sequence[int],
    section,
    seeds: int,
    tables: Sequence[Callable[[], np.ndarray]],
) -> Reading:
    """One time-ordered pass over few rows of D_1..D_t, with the log's own labels, ids and weights.

    Args:
      kind: of FRESH or WARM.
      visits: rows of the pass, at each of which it is tuned and scored as a memory is at each number of epochs;
        `warm_last_block` has D_t whatever they say.
      section: `config.trends`, for the batch and the learning rates (a grid of the memory side's size).
      tables: of every replicate, what gives the reference model's table f32[V, 1 + d] after D_t; WARM starts there.
    Returns: Reading, always with `frontier`.
    """
    (ids, label), weight = log.until(t, candidate.outcomes), log.weight_until(t)
    lrs, known = candidate.recipe.rates(section.visit_learning_rates), log.num_slots[t - 1]
    visits = [log.sizes[t - 1]] if kind == 'warm_last_block' else [min(v, len(label)) for v in visits]
    step, settle, predict_logits = full_pass.compiled_pass(candidate.model, candidate.recipe)
    steps = -(-max(*visits, log.sizes[t - 1]) // section.visit_batch)  # room for any kind: one program
    logits, seconds = {}, np.zeros(len(visits))
    for r, table in enumerate(tables):
        table = projected(table(), candidate.model.dim) if kind in WARM else None
        for e, n in enumerate(visits):
            pick = _rows(kind, len(label), n, r)
            rows, of_rows = (ids[pick], label[pick], np.zeros(n, bool)), None if weight is None else weight[pick]
            laid = shard_block(*rows, devices=1, batch=section.visit_batch, steps=steps, weight=of_rows)
            laid = jax.tree.map(lambda x: x[0], laid)
            for j, lr in enumerate(lrs):
                for s in range(seeds):
                    key = jax.random.fold_in(jax.random.key(s), r)
                    state = init_stream(candidate.model, key, log.capacity, log.columns, candidate.recipe)
                    state = state if table is None else _warmed(state, table)
                    compiled, start = step.compile_seconds, time.perf_counter()
                    state = jax.block_until_ready(step(state, laid, np.float32(lr), key))
                    seconds[e] += time.perf_counter() - start - (step.compile_seconds - compiled)
                    state = settle(state, np.float32(lr))
                    for block in (t, t + 1):
                        found = predict_logits(state.params, log.ids(block, known))
                        logits[r, block, e, j, s] = np.asarray(found)[: len(log.labels[block])]
    seconds /= len(tables) * len(lrs) * seeds

    def predict(i, block, e, j):
        return np.stack([logits[i, block, e, j, s] for s in range(seeds)])

    costs = [({'visits': int(n)}, int(n), float(seconds[e])) for e, n in enumerate(visits)]
    return protocol.choose_and_score(predict, costs, lrs, log, t, replicates=len(tables), frontier=True)[0]


def _rows(kind: str, total: int, n: int, replicate: int) -> np.ndarray:
    """i64[n]: which rows of D_1..D_t, in time order."""
    if kind in ('subsample', 'warm_random_rows'):
        return np.sort(np.random.default_rng(replicate).choice(total, n, replace=False))
    return np.arange(n) if kind == 'early_stop' else np.arange(total - n, total)


def projected(table: np.ndarray, dim: int) -> np.ndarray:
    """A table for embeddings of another width: f32[V, 1 + d] -> f32[V, 1 + min(d, dim)].

    The first-order weight stays; embeddings keep their `dim` principal directions (not centred: a model multiplies
    them with each other, as they are).
    """
    weight, embedding = table[:, :1], table[:, 1:]
    if dim < embedding.shape[1]:
        _, vectors = np.linalg.eigh(embedding.T.astype(np.float64) @ embedding)  # ascending
        embedding = embedding @ vectors[:, ::-1][:, :dim].astype(np.float32)
    return np.concatenate([weight, embedding], 1)


def _warmed(state, table: np.ndarray):
    """The state with its table's first columns from another model; more columns keep their own initialisation."""
    own = state.params['table']
    table = jnp.concatenate([jnp.asarray(table), own[:, table.shape[1] :]], 1)[:, : own.shape[1]]
    return state._replace(params={**state.params, 'table': table})
