"""What distilling costs beside training the reference model alone, by component.

The components are the pure functions that `stage_update` is composed of, each compiled alone and timed on the last
block; the whole run's overhead is from the stages' own seconds against a pass of the reference model alone.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax import codebook, hosts, parallel, stage, training
from diet_jax.disk import write_json
from diet_jax.training import Batches

REPEATS = 3


def measure(run) -> dict:
    """Times the components on the last block of a finished `stream.Run`, and writes `overhead.json` into its workdir.

    Seconds are the best of three, on one device, compilation apart. Returns what was written.
    """
    config, reference, students = run.config, run.reference, run.students
    last = run.done - 1
    block = run.block(last)[1]
    one = Batches(*(jnp.asarray(np.asarray(x)[0]) for x in block)) if len(run.devices) == 1 else _gathered(block)
    rows = stage.flat_rows(one)
    state = jax.tree.map(jnp.asarray, hosts.fetched(run.state))  # whole, on one device
    key = jnp.asarray(state.key)
    compiled = [0.0]

    def timed(function, *args):
        start = time.perf_counter()
        call = jax.jit(function).lower(*args).compile()
        compiled[0] += time.perf_counter() - start
        result, seconds = None, []
        for _ in range(REPEATS):
            start = time.perf_counter()
            result = jax.block_until_ready(call(*args))
            seconds.append(time.perf_counter() - start)
        return result, min(seconds)

    c = {}
    (trained, _), c['reference'] = timed(
        lambda s, b: training.stream_pass(reference, s, b, config.reference.learning_rate), state.reference, one
    )

    if run.twins:
        twins = tuple((twin.candidate.model, twin.lr, 'twins') for twin in run.twins)
        _, c['twins'] = timed(lambda s, b: training.stream_passes(twins, s, b), state.twins, one)
    models = [reference, *(twin.candidate.model for twin in run.twins)]
    _, c['codebook'] = timed(
        lambda b, streams, r: codebook.extend(b, stage.code_space(models, streams), r.ids, r.weight),
        state.codebook,
        [trained, *state.twins],
        rows,
    )
    (of_rows, of_entries), c['influence'] = timed(
        lambda s, m, r: stage.score_influence(config, reference, s, m, r, key), trained, state.memory, rows
    )
    (memory, addressed, _), c['addressing'] = timed(
        lambda a, b, m, r, i, e: stage.address_and_fuse(
            config,
            b.params['table'],
            stage.entry_logits(reference, a, m),
            m,
            r,
            i,
            e,
            state.rows_seen,
            state.stage + 1,
            key,
        ),
        state.reference,
        trained,
        state.memory,
        rows,
        of_rows,
        of_entries,
    )
    (refined, *_), c['refinement'] = timed(
        lambda p, m, a, code, pools, outer, r: stage.refine(
            config, students, lambda ids: reference.apply(p, ids), m, a, code, pools, outer, jnp.float32(0), r, key
        ),
        trained.params,
        memory,
        addressed,
        state.codebook.code,
        state.pools,
        state.outer,
        rows,
    )
    _, c['check'] = timed(
        lambda a, b, code, r: stage.do_no_harm(config, students[0], a, b, code, r, key),
        memory,
        refined,
        state.codebook.code,
        rows,
    )
    lines = [json.loads(line) for line in (run.workdir / 'metrics.jsonl').read_text().splitlines()]
    reference_seconds = _reference_alone(run)
    distill = sum(line['seconds']['read'] + line['seconds']['stage'] for line in lines)
    c['stage'] = lines[-1]['seconds']['stage']
    result = {
        'block': run.stream.blocks[last].key,
        'rows': run.stream.blocks[last].rows,
        'components': c,
        'reference_seconds': reference_seconds,
        'distill_seconds': distill,
        'overhead': (distill - reference_seconds) / reference_seconds,
        'save_seconds': sum(line['seconds']['save'] for line in lines),
        'compile_seconds': sum(line['seconds']['compile'] for line in lines),
        'peak_memory_bytes': peak_memory(),
        'device': str(run.devices[0].device_kind),
        'devices': len(run.devices),
    }
    write_json(run.workdir / 'overhead.json', result)
    return result


def outdated(run) -> bool:
    """Whether `overhead.json` is not of the last block done, and can be made: the block's file is still there."""
    if not 0 < run.done <= len(run.stream.blocks):
        return False
    path, block = run.workdir / 'overhead.json', run.stream.blocks[run.done - 1]
    try:
        measured = json.loads(path.read_text())['block']
    except (OSError, ValueError, KeyError, TypeError):
        measured = None
    return measured != block.key and Path(block.path).exists()


def peak_memory() -> int:
    """Largest resident size of this process so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024


def _reference_alone(run) -> float:
    """Seconds of one pass of the reference model alone over the blocks that are still there, reading included.

    The median of three passes. Blocks whose files are gone count with the rate of the others.
    """
    config = run.config
    rate = config.reference.learning_rate
    step = parallel.Timed(jax.jit(lambda s, b: training.stream_pass(run.reference, s, b, rate)[0]))
    there = [t for t in range(run.done) if Path(run.stream.blocks[t].path).exists()]
    passes = []
    for _ in range(REPEATS):
        state, compiled, start = run.initial().reference, step.compile_seconds, time.perf_counter()
        for t in there:
            block = run.stream.load(t)
            laid = parallel.shard_block(
                block.ids, block.label, np.zeros(len(block.label), bool), 1, config.reference.batch, run.steps
            )
            state = jax.block_until_ready(step(state, jax.tree.map(lambda x: x[0], laid)))
        passes.append(time.perf_counter() - start - (step.compile_seconds - compiled))
    rows = sum(run.stream.blocks[t].rows for t in there)
    return float(np.median(passes)) * sum(b.rows for b in run.stream.blocks[: run.done]) / max(rows, 1)


def _gathered(block: Batches) -> Batches:
    """A block laid out for several devices, on one."""
    return Batches(
        *(jnp.asarray(np.concatenate(list(np.asarray(x)), axis=1)) for x in block[:4]),
        jnp.asarray(np.asarray(block.steps)[0]),
    )
