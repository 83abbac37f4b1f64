"""One stage on 1, 2, 4 and 8 devices: what sharding itself costs.

Every number of devices is a process of its own, for XLA fixes how many CPU devices there are when it starts. All of
them share the cores of one machine, so the ideal is the rate of one device and not a multiple of it: what is lost is
lost to splitting, collectives and threads that wait. What a network would add is docs/scaling.md's arithmetic.
"""

from __future__ import annotations

import json
import os
import sys

import jax
import numpy as np

from benchmarks import child, clock, problem
from benchmarks.sizes import Sizes
from diet_jax import models
from diet_jax.base.layout import flat
from diet_jax.device.collectives import AXIS, WHOLE
from diet_jax.device.programs import Timed
from diet_jax.distillation import parallel
from diet_jax.distillation.spec import spec_of
from diet_jax.distillation.stage import make_stage_update
from diet_jax.training.batches import shard_block

COUNTS = (1, 2, 4, 8)


def case(sizes) -> dict:
    """`stage_rows_<n>_devices`: rows/s of a whole stage, the ratio against one device; batches are shared by all.

    `stage_memory_<tables>`: bytes that XLA reserves on one of the most devices for a stage with `sizes.split` ids:
    tables whole on every device, the same with the state donated, and split over them; the ratio is against the first.
    """
    counts = [count for count in COUNTS if sizes.batch % count == 0]
    rates = {count: _in_a_process('rate', sizes, count) for count in counts}
    out = {
        f'stage_rows_{count}_devices': clock.figure(
            rate, 'rows/s', '1 device', rate / rates[1], cores=len(os.sched_getaffinity(0))
        )
        for count, rate in rates.items()
    }
    memory = _in_a_process('memory', sizes, counts[-1])
    return out | {
        f'stage_memory_{name}': clock.figure(held, 'bytes', f'whole, {counts[-1]} devices', held / memory['whole'])
        for name, held in memory.items()
    }


def _in_a_process(what: str, sizes, count: int):
    flags = [x for x in os.environ.get('XLA_FLAGS', '').split() if 'device_count' not in x]
    flags = ' '.join([*flags, f'--xla_force_host_platform_device_count={count}'])
    return child.module('devices', what, json.dumps(sizes._asdict()), XLA_FLAGS=flags, JAX_PLATFORMS='cpu')


def rate(sizes) -> float:
    """Rows/s of the stage on all devices of this process, reading and compiling apart, the median of the repeats."""
    run, state, block = _stage(sizes, sizes.fields)
    run, held = Timed(run), {'state': state()}

    def one():
        held['state'], metrics = run(held['state'], block)
        return metrics

    return block.label.size / clock.interleaved({'stage': one}, sizes.repeats)['stage'].median


def memory(sizes) -> dict:
    """Bytes on each device of this process: arguments, results that take no argument's place, and what is between."""
    fields, out = problem.spread_over(sizes.split, len(sizes.fields)), {}
    for name, split, donate in (('whole', False, False), ('whole_donated', False, True), ('split_donated', True, True)):
        run, state, block = _stage(sizes, fields, split, donate)
        used = run.lower(jax.eval_shape(state), block).compile().memory_analysis()
        results = used.output_size_in_bytes - used.alias_size_in_bytes
        out[name] = used.argument_size_in_bytes + results + used.temp_size_in_bytes
    return out


def _stage(sizes, fields, split: bool = False, donate: bool = False):
    """(the stage over all devices of this process, a maker of its first state, a block)."""
    over, config = jax.devices(), problem.config(sizes)
    config.reference.shard_tables = split
    reference, students = problem.reference(sizes), (models.of(problem.STUDENT, sizes.dim),)
    spec = spec_of(config, reference, students, layout=flat(range(len(fields))), axis=AXIS)
    specs = parallel.state_specs(0) if split else WHOLE
    rows = sizes.steps * sizes.batch
    ids, label = problem.draw_ids(fields, rows, 7), problem.draw_labels(rows, 1)
    held = np.arange(rows) % 5 == 0
    block = shard_block(ids, label, held, devices=len(over), batch=sizes.batch, steps=sizes.steps)
    run = parallel.shard_mapped(make_stage_update(spec), over, donate, specs)
    return run, lambda: problem.first_state(spec, fields), block


if __name__ == '__main__':
    print(json.dumps({'rate': rate, 'memory': memory}[sys.argv[1]](Sizes(**json.loads(sys.argv[2])))))
