"""The full side of every comparison: one time-ordered pass over the log, scored at the boundaries, kept on disk.

A candidate's passes depend on nothing that is distilled, so they are computed once and kept under a digest of the
data, of what was trained and how, and of the code that trains.
"""

from __future__ import annotations

import functools
import glob
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.base import keep
from diet_jax.base.atomic import write_bytes
from diet_jax.base.checksums import Damaged, read_npz
from diet_jax.device.programs import PROGRAMS_KEPT, Timed
from diet_jax.models.recipes import DEFAULT, Recipe
from diet_jax.stats import metrics
from diet_jax.training.passes import init_stream, predict, settled, stream_pass

# The packages whose code decides what a pass comes to.
CODE = ('device', 'models', 'stats', 'training', 'trials')


class Passes(NamedTuple):
    """One pass for every learning rate and seed of one candidate."""

    logits: dict  # (stage t, block) -> f32[L, S, n], predictions of the block after D_1..D_t
    old_auc: np.ndarray | None  # f64[L, last stage]: AUC on D_1.. of the first seed's model after the last stage
    seconds: np.ndarray  # f64[L, S, last stage]: training time of each block, compilation apart


@functools.lru_cache(maxsize=PROGRAMS_KEPT)
def compiled_pass(model, recipe: Recipe):
    """Of a model: (train, settle, predict).

    train: (state, Batches, lr, key) -> state, timed, one block; settle: (state, lr) -> state, before it is predicted
    with; predict: (params, i32[n, F]) -> f32[n].
    """
    step = Timed(
        jax.jit(lambda state, batches, lr, key: stream_pass(model, state, batches, lr, key=key, recipe=recipe)[0])
    )
    settle = jax.jit(lambda state, lr: settled(recipe, state, lr))
    return step, settle, jax.jit(lambda params, ids: predict(model, params, ids))


def one_pass(model, log, *, lr: float, seed: int, boundaries, recipe: Recipe = DEFAULT, outcomes=(), old: bool = False):
    """Trains a model on D_1, D_2, ... in time order, and predicts the two blocks after every boundary.

    Args:
      log: `trials.log.EvaluationLog`.
      boundaries: stages t (1-based) after which blocks t and t + 1 (0-based) are predicted.
      outcomes: of the candidate; old: whether the blocks trained on are predicted too, after the last boundary.
    Returns: ({(t, block): f32[n]}, AUC on the blocks trained on f64[T] or None, seconds f64[T]).
    """
    step, settle, predict = compiled_pass(model, recipe)
    state = init_stream(model, jax.random.key(seed), log.capacity, log.columns, recipe)
    logits, seconds, last = {}, [], max(boundaries)

    def predicted(t, block):
        return np.asarray(predict(state.params, log.ids(block, log.num_slots[t - 1])))[: len(log.labels[block])]

    for t in range(1, last + 1):
        args = (state, log.batches_of(t - 1, outcomes), jnp.float32(lr), jax.random.key(seed + t))
        compiled, start = step.compile_seconds, time.perf_counter()
        state = jax.block_until_ready(step(*args))
        seconds.append(time.perf_counter() - start - (step.compile_seconds - compiled))
        if t in boundaries:
            state = settle(state, jnp.float32(lr))
            logits |= {(t, block): predicted(t, block) for block in (t, t + 1)}
    score = lambda block: metrics.auc(predicted(last, block), log.labels[block], weight=log.weight(block))  # noqa: E731
    auc = [score(block) for block in range(last)] if old else None
    return logits, auc, np.array(seconds)


def passes(
    candidate, log, lrs, *, seeds: int, boundaries, cache=None, old: bool = False, emit: Callable[[str], None] = print
) -> Passes:
    """All passes of a candidate, from the cache where they are there, those with more boundaries too.

    Args:
      candidate: `models.candidates.Candidate`; lrs: learning rates; seeds: 0 .. seeds - 1.
      cache: folder, or None to keep nothing; old: whether `old_auc` is wanted; emit: told of files that are damaged.
    """
    name = f'{candidate.name}-{_digest(candidate, log, lrs, seeds)}'
    if cache and (kept := _kept(Path(cache), name, boundaries, old, emit)):
        return kept
    runs = [
        [
            one_pass(
                candidate.model,
                log,
                lr=lr,
                seed=seed,
                boundaries=boundaries,
                recipe=candidate.recipe,
                outcomes=candidate.outcomes,
                old=old and seed == 0,
            )
            for seed in range(seeds)
        ]
        for lr in lrs
    ]
    out = Passes(
        {at: np.stack([[run[0][at] for run in by_seed] for by_seed in runs]) for at in runs[0][0][0]},
        np.array([by_seed[0][1] for by_seed in runs]) if old else None,
        np.array([[run[2] for run in by_seed] for by_seed in runs]),
    )
    if cache:
        path = Path(cache) / f'{name}-{"_".join(map(str, sorted(boundaries)))}{"-old" * old}.npz'
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f'logits_{t}_{block}': x for (t, block), x in out.logits.items()}
        arrays |= {'old_auc': out.old_auc} if old else {}
        write_bytes(path, lambda file: np.savez(file, seconds=out.seconds, **arrays))
    return out


def _kept(cache: Path, name: str, boundaries, old: bool, emit) -> Passes | None:
    """Passes on disk that were predicted with at these boundaries, and maybe at others."""
    for path in sorted(cache.glob(f'{glob.escape(name)}-*.npz')):
        try:
            kept = read_npz(path, 'its passes are trained again')
        except Damaged as error:
            emit(str(error))
            continue
        found = {tuple(map(int, k.split('_')[1:])): k for k in kept if k.startswith('logits_')}
        stages = {t for t, _ in found}
        if not stages >= set(boundaries) or (old and not ('old_auc' in kept and max(stages) == max(boundaries))):
            continue
        logits = {at: kept[k] for at, k in found.items() if at[0] in boundaries}
        return Passes(logits, kept['old_auc'] if old else None, kept['seconds'][..., : max(boundaries)])
    return None


def _digest(candidate, log, lrs, seeds) -> str:
    batch = log.batches[0].ids.shape[1]
    return keep.key([candidate.inputs(), log.digest, log.capacity, batch, list(lrs), seeds], CODE)


def cache_folder(config, workdir) -> Path:
    """Where passes of the full side are kept: `config.evaluate.full_cache`, or beside the workdir, for all its runs."""
    return Path(config.evaluate.full_cache or Path(workdir).parent / 'full-side')
