"""Where the time of one whole stage goes: a picture of the last stage of KuaiRand by part.

The stage is the driver's, compiled as a whole and run warm on one core or one GPU, under XLA's profiler. The parts are
the scopes that the parts of `stage` name; `trace` adds up their operations.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from benchmarks import child, clock, trace
from diet_jax.base import loading
from diet_jax.base.atomic import write_bytes
from diet_jax.config import default_config, simulated_data
from diet_jax.distillation import parallel
from diet_jax.distillation.stage import PARTS, make_stage_update
from diet_jax.report import figures
from diet_jax.run.driver import distill
from diet_jax.run.record import read_metrics

REPEATS = 3
# Of a stage: the first of its parts has two, the reference model and the twins; each other bears its part's name.
SCOPES = ('reference', 'twins', *(name for name, _ in PARTS[1:]))
WORDS = {
    'reference': 'reference model: test, then train',
    'twins': 'twins: the other models along the stream',
    'codebook': 'codebook: codes of the ids',
    'influence': 'influence of rows and entries',
    'addressing': 'addressing and fusion',
    'refinement': 'refinement: the outer steps',
    'check': 'do-no-harm check',
    trace.REST: 'rest, and between operations',
    'read': 'waiting for the block',
    'save': 'metrics, artifact, checkpoint',
}


def config(sizes: str):
    """(name of the log, config): KuaiRand where it is at hand, else a simulated stream."""
    path = loading.found('configs/kuairand.py')
    if sizes == 'full' and Path(path).exists():
        c = loading.load_module(path).get_config()
        if Path(c.data.root).is_dir():
            return 'KuaiRand', c
    c = default_config()
    c.data = simulated_data(**({'blocks': 5, 'rows_per_block': 20_000} if sizes == 'full' else {'blocks': 2}))
    return 'a simulated stream', c


def run(sizes: str, folder) -> dict:
    """Distills the log into `folder`, which is emptied before, and runs its last stage again under the profiler.

    Returns: {'log', 'rows', 'device', 'plain' (seconds of the compiled stage without the profiler), 'parts' (seconds,
    by name), 'busy' (`trace.BUSY`)}; medians.
    """
    shutil.rmtree(folder, ignore_errors=True)
    log, c = config(sizes)
    done = distill(c, folder, devices=jax.devices()[:1])
    block, batches = done.block(done.done - 1)
    compiled = parallel.pmapped(make_stage_update(done.spec), done.devices).lower(done.state, batches).compile()
    call = lambda: jax.block_until_ready(compiled(done.state, batches))  # noqa: E731
    call()
    plain, traced, text = [], [], compiled.as_text()
    for _ in range(REPEATS):
        begun = time.perf_counter()
        call()
        plain.append(time.perf_counter() - begun)
        traced.append(trace.measure(call, text, SCOPES))
    parts = {name: float(np.median([one[name] for one in traced])) for name in traced[0]}
    busy = parts.pop(trace.BUSY)
    lines = [line['seconds'] for line in read_metrics(folder)[1:]]  # the first compiles what saving needs
    parts |= {name: float(np.median([s[name] for s in lines])) for name in ('read', 'save')}
    device = 'one core' if jax.default_backend() == 'cpu' else jax.devices()[0].device_kind
    found = {'log': log, 'rows': len(block.label), 'device': device}
    return found | {'plain': float(np.median(plain)), 'parts': parts, 'busy': busy}


def picture(found: Mapping) -> bytes:
    """PNG: a bar a part, the longest first; what lies outside the compiled stage in grey."""
    parts = dict(sorted(found['parts'].items(), key=lambda part: -part[1]))
    whole = sum(parts.values())

    def draw(fig) -> None:
        ax = fig.subplots()
        colours = [figures.GREY if name in ('read', 'save') else figures.BLUE for name in parts]
        milliseconds = [1e3 * seconds for seconds in parts.values()]
        bars = ax.barh(range(len(parts)), milliseconds, color=colours, height=0.7)
        shares = [f'{ms:.0f} ms, {ms / whole / 10:.0f} %' for ms in milliseconds]
        ax.bar_label(bars, shares, padding=4, color=figures.INK)
        ax.set_yticks(range(len(parts)), [WORDS[name] for name in parts], color=figures.INK)
        ax.invert_yaxis()
        ax.grid(axis='y', visible=False)
        ax.set_xlim(0, 1.25 * max(milliseconds))
        ax.set_xlabel(f'milliseconds, {found["device"]}; blue: the compiled stage, grey: the driver around it')
        ax.set_title(
            f'One stage of {found["log"]}: {found["rows"]:,} rows in {1e3 * whole:,.0f} ms', loc='left', fontsize=11
        )

    return figures.png(draw, (figures.PAGE, 4.0))


def figures_of(found: Mapping) -> dict:
    """`stage_part_<name>`: ms, the ratio is the share of the whole; `stage_traced`: all compiled parts against a run
    without the profiler; `stage_busy`: share of the compiled stage in which the device was at work."""
    parts = found['parts']
    whole = sum(parts.values())
    out = {
        f'stage_part_{name}': clock.figure(1e3 * seconds, 'ms', 'whole stage', seconds / whole)
        for name, seconds in parts.items()
    }
    compiled = sum(seconds for name, seconds in parts.items() if name not in ('read', 'save'))
    out['stage_traced'] = clock.figure(1e3 * compiled, 'ms', 'not traced', compiled / found['plain'])
    out['stage_busy'] = clock.figure(found['busy'], 'of the stage')
    return out


def case(sizes: str, workdir: Path) -> dict:
    """`figures_of` a run in `workdir`/profile, in a process with one core; draws `workdir`/stage.png."""
    threads = 1 if jax.default_backend() == 'cpu' else 0  # a GPU's programs are compiled by all cores
    found = child.run('profile', sizes, threads, folder=workdir / 'profile')
    png = picture(found)
    write_bytes(workdir / 'stage.png', lambda file: file.write(png))
    return figures_of(found)
