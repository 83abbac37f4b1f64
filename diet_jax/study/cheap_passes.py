"""Full training made as cheap as training on a memory: one pass over fewer rows of the log."""

from __future__ import annotations

import time
from collections.abc import Sequence

import jax
import numpy as np

from diet_jax.study import protocol
from diet_jax.study.readings import Reading
from diet_jax.training.batches import shard_block
from diet_jax.training.passes import init_stream
from diet_jax.trials import full_pass
from diet_jax.trials.log import EvaluationLog


def cheap_reading(
    kind: str, candidate, log: EvaluationLog, t: int, *, visits: Sequence[int], section, seeds: int, replicates: int
) -> Reading:
    """Full training made as cheap as training on a memory: one time-ordered pass over fewer rows, own labels and ids.

    Args:
      kind: 'early_stop', the first rows of the log; 'subsample', a uniform draw of all of D_1..D_t, a replicate a draw.
      visits: rows of the pass, at each of which it is tuned and scored as a memory is at each number of epochs.
      section: `config.trends`, for the batch and the learning rates (a grid of the memory side's size).
    Returns: Reading, always with `frontier`.
    """
    ids, label = log.until(t)
    lrs, known = candidate.recipe.rates(section.visit_learning_rates), log.num_slots[t - 1]
    batch = section.visit_batch
    total, steps = len(label), -(-min(max(visits), len(label)) // batch)
    step, settle, predict_logits = full_pass.compiled_pass(candidate.model, candidate.recipe)
    params, seconds = {}, np.zeros(len(visits))
    for r in range(replicates):
        rng = np.random.default_rng(r)
        for e, n in enumerate(min(v, total) for v in visits):
            pick = np.arange(n) if kind == 'early_stop' else np.sort(rng.choice(total, n, replace=False))
            laid = shard_block(ids[pick], label[pick], np.zeros(n, bool), devices=1, batch=batch, steps=steps)
            laid = jax.tree.map(lambda x: x[0], laid)
            for j, lr in enumerate(lrs):
                for s in range(seeds):
                    key = jax.random.fold_in(jax.random.key(s), r)
                    state = init_stream(candidate.model, key, log.capacity, log.fields, candidate.recipe)
                    compiled, start = step.compile_seconds, time.perf_counter()
                    state = jax.block_until_ready(step(state, laid, np.float32(lr), key))
                    seconds[e] += time.perf_counter() - start - (step.compile_seconds - compiled)
                    state = settle(state, np.float32(lr))
                    for block in (t, t + 1):
                        logits = predict_logits(state.params, log.ids(block, known))
                        params[r, block, e, j, s] = np.asarray(logits)[: len(log.labels[block])]
    seconds /= replicates * len(lrs) * seeds

    def predict(i, block, e, j):
        return np.stack([params[i, block, e, j, s] for s in range(seeds)])

    costs = [({'visits': int(v)}, int(min(v, total)), float(seconds[e])) for e, v in enumerate(visits)]
    return protocol.choose_and_score(predict, costs, lrs, log, t, replicates=replicates, frontier=True)[0]
