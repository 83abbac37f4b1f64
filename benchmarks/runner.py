"""Runs the cases, writes bench.json, prints the table with ratios and targets."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import (
    child,
    clock,
    devices,
    gpu,
    influence,
    long,
    precision,
    profile,
    reading,
    recipes,
    unrolling,
    vocabulary,
)
from benchmarks.clock import Seconds
from benchmarks.sizes import SIZES
from diet_jax.base.atomic import write_json
from diet_jax.base.errors import UserError, closest

# What issue and docs ask of `ratio`.
AT_LEAST = {
    'influence_vs_forward_rate': 0.33,
    'vs_torch_meta_gradient_t20': 6,
    'vs_torch_meta_gradient_t60': 6,
    'vs_torch_meta_gradient_t20_subtable': 1.5,
    'vs_torch_meta_gradient_t60_subtable': 1.5,
    'vs_torch_influence_jvp': 1.5,
    'vs_torch_influence_per_sample': 20,
    'vs_torch_influence_per_sample_tables': 250,
    'vs_torch_deepfm_epoch': 6,
    'vs_torch_dcnv2_epoch': 2.5,
    'vs_torch_din_epoch': 3,
    'vs_torch_deepfm_epoch_1000000_ids': 20,
}
AT_MOST = {
    'reference_step_time_10m_vs_10k_ids': 1.3,
    'outer_step_time_10m_vs_10k_ids': 1.3,
    'outer_step_memory_10m_vs_10k_ids': 1.3,
    'unroll_memory_t200_vs_t20': 3,
    'read_second_day_parquet': 1.5,
    'read_second_day_csv': 1.5,
    'adam_pass_vs_lazy': 1.15,
    'adam_pass_vs_lazy_10000000_ids': 1.25,
    'stage_time_block_100_vs_10': 1.05,
    'peak_memory_block_100_vs_10': 1.05,
}


def _here(case: Callable) -> Callable:
    return lambda sizes, workdir: case(SIZES[sizes])


def start(sizes: str, workdir: Path) -> dict:
    """`start_seconds_warm_cache`: the second process, with what the first compiled; ratio to the first."""
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = (child.run('start', sizes, cache=cache) for _ in range(2))
    return {'start_seconds_warm_cache': clock.figure(warm, 's', 'empty cache', warm / cold)}


def against_torch(sizes: str, workdir: Path) -> dict:
    """`vs_torch_*`: how many times as fast as PyTorch, each side on its better number of threads; {} without it."""
    if importlib.util.find_spec('torch') is None:
        print("torch: not installed, left out (pip install 'diet-jax[torch]')")
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 0  # 0: cannot be set, all are used
    found = {threads: child.run('torch', sizes, threads) for threads in range(1, min(cores, 2) + 1) or (0,)}
    return best_of_threads(found)


def best_of_threads(found: Mapping[int, Mapping]) -> dict:
    """{threads: {name: (ours, theirs, unit)}}, seconds as (median, low, high) -> figures."""
    out = {}
    for name in next(iter(found.values())):
        sides = []
        for side in (0, 1):
            threads = min(found, key=lambda t: found[t][name][side][0])
            sides.append((threads, Seconds(*found[threads][name][side])))
        (threads, ours), (their_threads, theirs) = sides
        unit = next(iter(found.values()))[name][2]
        value = 1e3 * ours.median if unit == 'ms' else 1 / ours.median
        out[name] = clock.figure(
            value,
            unit,
            'PyTorch',
            theirs.median / ours.median,
            threads=threads,
            torch_threads=their_threads,
            spread=clock.spread(ours),
            torch_spread=clock.spread(theirs),
        )
    return out


CASES: dict[str, Callable[[str, Path], dict]] = {  # (name of SIZES, workdir) -> {name: figure}
    'influence': _here(influence.case),
    'vocabulary': _here(vocabulary.case),
    'recipes': _here(recipes.case),
    'unroll': _here(unrolling.case),
    'bf16': _here(precision.case),
    'start': start,
    'torch': against_torch,
}
GPU = {'gpu': _here(gpu.case), 'profile': profile.case}
LONG = {  # only where they are named
    'devices': _here(devices.case),
    'long': long.case,
    'profile': profile.case,
    'reading': reading.case,
}


def bench(workdir, only: Sequence[str] = (), sizes: str = 'full', on_gpu: bool = False) -> dict:
    """Runs the cases and writes `workdir`/bench.json after each; figures of cases not run stay as they were.

    Args: only: names of CASES or LONG, () for CASES; sizes: a name of SIZES; on_gpu: those of GPU in their place.
    Returns: bench.json, {name: figure}.
    Raises: UserError: an unknown case; `on_gpu` without a GPU.
    """
    cases = GPU if on_gpu else CASES
    known = GPU if on_gpu else CASES | LONG
    for name in only:
        if name not in known:
            raise UserError(f"--only={','.join(only)}: there is no case '{name}'{closest(name, known)}")
    if on_gpu:
        gpu.require()
    path = Path(workdir) / 'bench.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    result = _read(path)
    for name in only or cases:
        begun = time.perf_counter()
        found = known[name](sizes, path.parent)
        result.update(found)
        write_json(path, result)
        print(f'{name}: {time.perf_counter() - begun:.0f} s')
    return result


def _read(path: Path) -> dict:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f'{path} does not parse ({error}): remove it') from error


def table(result: Mapping[str, Mapping]) -> str:
    """A line a figure: value, ratio, and whether its target is met."""
    rows = [('figure', 'value', 'unit', 'ratio', 'against', 'target', '')]
    for name, f in result.items():
        ratio = f['ratio']
        target, met = '', ''
        if name in AT_LEAST:
            target, met = f'>= {AT_LEAST[name]:g}', ratio >= AT_LEAST[name]
        elif name in AT_MOST:
            target, met = f'<= {AT_MOST[name]:g}', ratio <= AT_MOST[name]
        shown = '' if ratio is None else f'{ratio:.3g}'
        met = {True: 'met', False: 'missed'}.get(met, '')
        rows.append((name, f'{f["value"]:,.4g}', f['unit'], shown, f['ratio_to'], target, met))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return '\n'.join('  '.join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows)
