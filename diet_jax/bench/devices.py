"""One stage on 1, 2, 4 and 8 devices: what sharding itself costs.

Every number of devices is a process of its own, for XLA fixes how many CPU devices there are when it starts. All of
them share the cores of one machine, so the ideal is the rate of one device and not a multiple of it: what is lost is
lost to splitting, collectives and threads that wait. What a network would add is docs/scaling.md's arithmetic.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp

from diet_jax import models, parallel, stage
from diet_jax.bench import clock, problem, sizes

COUNTS = (1, 2, 4, 8)


def case(sizes) -> dict:
    """`stage_rows_<n>_devices`: rows/s of a whole stage, the ratio against one device; batches are shared by all."""
    rates = {count: _in_a_process(sizes, count) for count in COUNTS if sizes.batch % count == 0}
    return {
        f'stage_rows_{count}_devices': clock.figure(
            rate, 'rows/s', '1 device', rate / rates[1], cores=len(os.sched_getaffinity(0))
        )
        for count, rate in rates.items()
    }


def _in_a_process(sizes, count: int) -> float:
    flags = [x for x in os.environ.get('XLA_FLAGS', '').split() if 'device_count' not in x]
    flags = ' '.join([*flags, f'--xla_force_host_platform_device_count={count}'])
    environment = {**os.environ, 'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'}
    command = [sys.executable, '-m', 'diet_jax.bench.devices', json.dumps(sizes._asdict())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def rate(sizes) -> float:
    """Rows/s of the stage on all devices of this process, reading and compiling apart, the median of the repeats."""
    over = jax.devices()
    config, fields = problem.config(sizes), sizes.fields
    reference, students = problem.reference(sizes), (models.of(problem.STUDENT, sizes.dim),)
    state = problem.first_state(config, fields, reference, students)
    update = stage.make_stage_update(config, reference, students, parallel.AXIS)
    rows = sizes.steps * sizes.batch
    ids, label = problem.draw_ids(fields, rows, 7), problem.draw_labels(rows, 1)
    block = parallel.shard_block(ids, label, jnp.arange(rows) % 5 == 0, len(over), sizes.batch, sizes.steps)
    run, held = parallel.Timed(parallel.shard_mapped(update, over)), {'state': state}

    def one():
        held['state'], metrics = run(held['state'], block)
        return metrics

    return rows / clock.interleaved({'stage': one}, sizes.repeats)['stage'].median


if __name__ == '__main__':
    print(rate(sizes.Sizes(**json.loads(sys.argv[1]))))
