"""What distilling costs beside training the reference model alone, by component.

The components are the parts of a stage (`distillation.stage.PARTS`), each compiled alone and folded with a clock over
the last block; the whole run's overhead is from the stages' own seconds against a pass of the reference model alone.

    overhead.json    block, rows, components (seconds by part), reference_seconds, distill_seconds, overhead,
                     save_seconds, compile_seconds, peak_memory_bytes, device, devices
"""

from __future__ import annotations

import functools
import resource
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.base.atomic import write_json
from diet_jax.base.checksums import Damaged
from diet_jax.device.forecast import ALONE, key_of
from diet_jax.device.programs import Timed, spent
from diet_jax.distillation.reference import train_along_the_stream
from diet_jax.distillation.stage import PARTS, begin
from diet_jax.run import processes
from diet_jax.run.record import read_metrics
from diet_jax.stats.costs import read_overhead
from diet_jax.training.batches import Batches, shard_block
from diet_jax.training.passes import stream_pass, stream_passes

REPEATS = 3


def measure(run) -> dict:
    """Times the parts of a stage on the last block of a finished `Run`, and writes `overhead.json` into its workdir.

    Seconds are the best of three, on one device, compilation apart. Returns what was written.
    """
    since, last = spent(), run.done - 1
    peak = peak_memory()  # of distilling: what is compiled below would add to it
    block = run.block(last)[1]._replace(others=())  # the parts, of the main outcome
    one = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[0]), block) if len(run.devices) == 1 else _gathered(block)
    state = processes.fetched(run.state)._replace(others=())
    state = jax.tree.map(jnp.asarray, state)  # whole, on one device
    spec = run.spec._replace(axis=None, shard_tables=False, others=0)
    seconds, work = {}, begin(spec, state, one)
    for name, part in PARTS:
        done, seconds[name] = _timed(part, spec, work)
        if part is train_along_the_stream and spec.twins:  # the reference model's and theirs, each alone
            without = work._replace(state=work.state._replace(twins=()))
            _, seconds[name] = _timed(part, spec._replace(twins=()), without)
            _, seconds['twins'] = _timed(_twins_alone, spec, work)
        work = done
    lines = read_metrics(run.workdir)
    reference_seconds = _reference_alone(run)
    distill = sum(line['seconds']['read'] + line['seconds']['stage'] for line in lines)
    result = {
        'block': run.stream.blocks[last].key,
        'rows': run.stream.blocks[last].rows,
        'components': {**seconds, 'stage': lines[-1]['seconds']['stage']},
        'reference_seconds': reference_seconds,
        'distill_seconds': distill,
        'overhead': (distill - reference_seconds) / reference_seconds,
        'save_seconds': sum(line['seconds']['save'] for line in lines),
        'compile_seconds': sum(line['seconds']['compile'] for line in lines),
        'peak_memory_bytes': peak,
        'device': str(run.devices[0].device_kind),
        'devices': len(run.devices),
    }
    write_json(run.workdir / 'overhead.json', result)
    if run.forecast:
        run.forecast.note(key_of(ALONE, run.program()), spent(since))
    return result


def outdated(run) -> bool:
    """Whether `overhead.json` is not of the last block done, and can be made: the block's file is still there."""
    if not 0 < run.done <= len(run.stream.blocks):
        return False
    block = run.stream.blocks[run.done - 1]
    try:
        measured = (read_overhead(run.workdir) or {}).get('block')
    except Damaged:
        measured = None
    return measured != block.key and Path(block.path).exists()


def peak_memory() -> int:
    """Largest resident size of this process so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024


def _twins_alone(spec, work):
    """The twins' share of the first part."""
    models = tuple((*twin, 'twins') for twin in spec.twins)
    return stream_passes(models, work.state.twins, work.block)


def _timed(part, spec, work):
    """(what a part of a stage makes, seconds of its fastest run of three)."""
    call = Timed(jax.jit(functools.partial(part, spec)))
    result, seconds = call(work), []  # compiled, and warm
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = jax.block_until_ready(call(work))
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def _reference_alone(run) -> float:
    """Seconds of one pass of the reference model alone over the blocks that are still there, reading included.

    The median of three passes. Blocks whose files are gone count with the rate of the others.
    """
    config = run.config
    rate = config.reference.learning_rate * config.reference.rate
    step = Timed(jax.jit(lambda s, b: stream_pass(run.reference, s, b, rate, recipe=run.spec.recipe)[0]))
    there = [t for t in range(run.done) if Path(run.stream.blocks[t].path).exists()]
    passes = []
    for _ in range(REPEATS):
        state, compiled, start = run.initial().reference, step.compile_seconds, time.perf_counter()
        for t in there:
            block = run.stream.load(t)
            held = np.zeros(len(block.label), bool)
            rows, batch = (block.ids, block.label, held), config.reference.batch
            laid = shard_block(*rows, devices=1, batch=batch, steps=run.steps, weight=block.weight)
            state = jax.block_until_ready(step(state, jax.tree.map(lambda x: x[0], laid)))
        passes.append(time.perf_counter() - start - (step.compile_seconds - compiled))
    rows = sum(run.stream.blocks[t].rows for t in there)
    return float(np.median(passes)) * sum(b.rows for b in run.stream.blocks[: run.done]) / max(rows, 1)


def _gathered(block: Batches) -> Batches:
    """A block laid out for several devices, on one."""
    whole = {
        name: jnp.asarray(np.concatenate(list(np.asarray(getattr(block, name))), axis=1))
        for name in ('ids', 'label', 'weight', 'held')
    }
    return Batches(**whole, steps=jnp.asarray(np.asarray(block.steps)[0]))
