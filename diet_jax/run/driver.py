"""The driver: a log's blocks through the stages, with checkpoint, artifact and metrics after each.

A stage opens its own block and nothing older; the next one is read while it runs. The order of writing makes a crash
harmless: first the artifact of the stage, then its metrics, then the checkpoint that makes them count; whatever is
younger than the last checkpoint is written again, with the same bytes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from diet_jax.artifact.format import OtherFormat
from diet_jax.artifact.read import load_memory
from diet_jax.base import lock
from diet_jax.base.atomic import read_json, recover_folder, write_json, write_json_lines, write_text
from diet_jax.base.checksums import Damaged
from diet_jax.base.errors import UserError
from diet_jax.base.plain import plain
from diet_jax.base.progress import Progress
from diet_jax.config.checks import remembered
from diet_jax.data.stream import prepare_again
from diet_jax.device.forecast import ALONE, STAGE, Forecast, key_of
from diet_jax.device.programs import Timed, spent
from diet_jax.distillation import parallel
from diet_jax.distillation.stage import make_stage_update
from diet_jax.models import twins
from diet_jax.run import checkpoint, processes
from diet_jax.run.record import damaged_twins, export, keep_twins, metrics_line, read_metrics
from diet_jax.run.run import Run
from diet_jax.stats import scores


def distill(
    config: ConfigDict,
    workdir,
    emit: Callable[[str], None] = print,
    devices=None,
    after_stage: Callable[[int], None] | None = None,
    timed: bool = False,
) -> Run:
    """Brings the memory in `workdir` up to the last block of the log.

    Args:
      config: a run's config; its data, reference, codebook, memory, addressing and refine sections must be those the
        workdir was begun with.
      workdir: folder of the run, made if absent.
      emit: given plain lines. after_stage: called with the number of the stage when it is safely on disk.
      timed: whether `overhead.measure` comes after it: what that compiles is foretold with the rest.
    Raises:
      UserError: anything wrong with the config, the log or the workdir, or another process that writes there.
    """
    with contextlib.ExitStack() as stack:
        processes.in_turn(lambda: processes.first() and stack.enter_context(lock.held(Path(workdir), emit)))
        try:
            return _distilled(Run(config, workdir, emit, devices), timed, after_stage)
        except Damaged as damage:  # maybe a prepared block: found when its turn came
            if processes.several():
                raise
            prepare_again(config.data, workdir, damage, emit)
        return _distilled(Run(config, workdir, emit, devices), timed, after_stage)


def _distilled(run: Run, timed: bool, after_stage: Callable[[int], None] | None) -> Run:
    """The run, brought up to date: block after block through the stage."""
    config, emit = run.source_config, run.emit
    workdir = run.workdir
    total = len(run.stream.blocks)
    if processes.first():
        _recover(run)
        _correct_roles(run)
    if gone := twins.left_out(config):
        run.emit(scores.left_out(gone, 'twins'))
    if run.done > total:
        emit(
            f'nothing left to do: {workdir / "memory"} has seen {run.done} blocks, more than the {total} up to '
            f'{run.stream.blocks[-1].key} that the config asks for'
        )
        return run
    if run.done == total:
        emit(f'nothing left to do: all {total} blocks, up to {run.stream.blocks[-1].key}, are in {workdir / "memory"}')
        return run
    if processes.first():
        write_json(workdir / 'config.json', remembered(config))
    _foretell(run, timed)
    lines = [line for line in read_metrics(workdir) if line['stage'] <= run.done] if run.done else []
    update = over_devices(make_stage_update(run.spec), run)
    rows = [b.rows for b in run.stream.blocks]
    log_file = workdir / 'log.txt' if processes.first() else Path(os.devnull)
    with Progress('distilling', sum(rows[run.done :]), log_file, run.emit) as progress, ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(run.read, run.done)
        for t in range(run.done, total):
            since, compiled, start = spent(), update.compile_seconds, time.perf_counter()
            block, batches = run.block(t, coming.result())
            if t + 1 < total:
                coming = ahead.submit(run.read, t + 1)
            read = time.perf_counter()
            with processes.together():
                run.state, out = update(run.state, batches)
                out = processes.fetched(jax.block_until_ready(out))
            ran = time.perf_counter()
            compiled = update.compile_seconds - compiled
            run.forecast.note(key_of(STAGE, run.program()), spent(since))
            if not all(np.isfinite(x).all() for x in jax.tree.leaves(out)):
                raise UserError(
                    f'block {block.key}: a loss or gradient of the stage is not finite; lower '
                    'config.reference.learning_rate or config.refine.label_lr'
                    + (f', with another --workdir: this one holds stage {run.done}' if run.done else '')
                )
            run.done = t + 1
            state = processes.fetched(run.state)
            if processes.first():
                line = metrics_line(run, t, block, out, export(run, state, t))
                keep_twins(run, state, t)
                line['seconds'] = {'read': read - start, 'stage': ran - read - compiled, 'compile': compiled}
                line['rows_per_second'] = rows[t] / max(read - start + line['seconds']['stage'], 1e-9)
                line['seconds'].update(save=time.perf_counter() - ran, total=time.perf_counter() - start)
                lines.append(line)
                write_json_lines(workdir / 'metrics.jsonl', lines)
                checkpoint.save(workdir, run.done, state, run.sizes())
                progress.advance(
                    rows[t],
                    f'stage {t + 1}/{total}  block {block.key}  AUC {line["reference"]["auc"]:.4f}  '
                    f'memory {line["memory"]["rows"]} rows  {line["rows_per_second"]:,.0f} rows/s',
                    apart=compiled,
                )
            del state  # a view of the state would keep its buffers from the next stage
            if after_stage:
                after_stage(t + 1)
    processes.wait('the last stage is saved')
    return run


def over_devices(stage_update, run: Run) -> Timed:
    """The stage in the form in which a run's state lies on its devices; it compiles when it is first called."""
    if processes.several() or run.sharded:
        return Timed(parallel.shard_mapped(stage_update, run.devices, donate=True, specs=run.specs))
    return Timed(parallel.pmapped(stage_update, run.devices, donate=True))


def _foretell(run: Run, timed: bool) -> None:
    """Says what will be compiled, and where a log is so small that distilling it takes longer than training on it."""
    run.forecast = Forecast({key_of(kind, run.program()): kind for kind in ((STAGE, ALONE) if timed else (STAGE,))})
    grid, one = run.config.evaluate, scores.pass_seconds(sum(b.rows for b in run.stream.blocks))
    said = [run.forecast.before()]
    if not run.done:
        seconds = scores.DISTILLING * one + run.forecast.seconds
        log = scores.DOZEN * len(grid.learning_rates) * grid.seeds * one
        said.append(scores.quicker_on_the_log('Distilling', seconds, run.forecast.compiling, log))
    for line in filter(None, said):
        run.emit(line)


def _recover(run: Run) -> None:
    """Puts right what a crash, damage or a hand did to the files beside the checkpoint: it alone says what is done."""
    folder, lines, done = run.workdir / 'memory', run.workdir / 'metrics.jsonl', run.done
    recover_folder(folder)
    if not 0 < done <= len(run.stream.blocks):
        return
    again = lambda path: run.emit(f'{path} is not that of stage {done}: written again')  # noqa: E731
    kept = checkpoint.folder(run.workdir, done)
    if _config(run.workdir) is None:
        again(run.workdir / 'config.json')
        write_json(run.workdir / 'config.json', remembered(run.source_config))
    for memory in (run.workdir / 'history' / kept.name, folder):
        if _stage_of(memory) != done:
            again(memory)
            export(run, run.state, done - 1)
    for path in () if processes.several() else damaged_twins(run, done):  # tables may lie on other hosts
        again(path)
        keep_twins(run, run.state, done - 1)
    saved = kept / 'metrics.jsonl'
    if saved.exists() and not (lines.exists() and lines.read_bytes() == saved.read_bytes()):
        again(lines)
        write_text(lines, saved.read_text())


def _config(workdir: Path) -> dict | None:
    """What config.json says; None where it is gone or damaged."""
    try:
        return read_json(workdir / 'config.json')
    except Damaged:
        return None


def _stage_of(folder: Path) -> int:
    """The stage of a memory whose files are all as they were written; 0 where there is none. Raises OtherFormat."""
    try:
        return load_memory(folder).manifest['stage']
    except OtherFormat:
        raise
    except UserError:
        return 0


def _correct_roles(run: Run) -> None:
    """Writes roles that were added or corrected since into what the run has written: `compare` reads them there."""
    path, roles = run.workdir / 'config.json', plain(run.source_config.roles)
    config = read_json(path)
    if not run.done or not config or config.get('roles') == roles:
        return
    for manifest in (run.workdir / 'memory' / 'manifest.json', *run.workdir.glob('history/*/manifest.json')):
        if 'roles' in (said := read_json(manifest, 'restore it from a copy') or {}):
            write_json(manifest, {**said, 'roles': roles})
    write_json(path, {**config, 'roles': roles})  # last: until it is written, the next run does it again
    run.emit(f'roles are now {", ".join(f"{role} {field!r}" for role, field in roles.items())}')
