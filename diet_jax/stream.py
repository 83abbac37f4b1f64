"""The driver: a log's blocks through the stages, with checkpoint, artifact and metrics after each.

A stage opens its own block and nothing older; the next one is read while it runs. The order of writing makes a crash
harmless: first the artifact of the stage, then its metrics, then the checkpoint that makes them count; whatever is
younger than the last checkpoint is written again, with the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diet_jax import checkpoint, codebook, hosts, metrics, models, parallel, stage, twins
from diet_jax.artifact import read_manifest, write_artifact
from diet_jax.checks import check_config, check_same_config
from diet_jax.data import open_stream
from diet_jax.disk import recover_folder, replace_folder, write_json, write_json_lines, write_text
from diet_jax.errors import UserError
from diet_jax.progress import Progress
from diet_jax.schema import plain
from diet_jax.training import Batches


class Read(NamedTuple):
    """A block on the host, ready for the devices."""

    key: str
    label: np.ndarray  # f32[N]
    group: np.ndarray  # i32[N]
    batches: Batches  # this process's share
    vocabulary: tuple[np.ndarray, np.ndarray]  # field_of_slot, position


class Run:
    """A workdir, its config, its stream and its state: what `distill` advances and `measure` looks at."""

    def __init__(self, config: ConfigDict, workdir, log: Callable[[str], None] = print, devices=None):
        self.workdir = Path(workdir)
        self.devices = list(devices or hosts.devices())
        if self.workdir.exists() and not self.workdir.is_dir():
            raise UserError(f'{workdir} is a file: --workdir names a folder')
        check_config(config, len(self.devices))
        self.reference = models.build(config.reference.model, dim=config.reference.dim)
        self.students = tuple(models.of(spec, config.reference.dim) for spec in config.refine.models)
        self.done, sizes = checkpoint.last(self.workdir)
        if self.done:  # before the first stage is done nothing binds
            check_same_config(config, self.workdir / 'config.json')
        self.log, self.source_config = log if hosts.first() else lambda line: None, config
        self.stream = hosts.in_turn(lambda: open_stream(config.data, workdir, self.log, prepares=hosts.first()))
        self._check_same_log(sizes.get('log', []))
        self.config = _sized(config, self.stream)
        self.fields = len(self.stream.fields)
        names = [field.name for field in self.stream.fields]
        self.beside = twins.of(config, names)  # the reference model and the twins: their score on the log is known
        self.twins = self.beside[1:]
        if sizes:  # capacities never shrink
            with self.config.unlocked():
                self.config.memory.capacity = max(self.config.memory.capacity, sizes['memory'])
        self.slots = max(table_capacity(self.stream.num_slots), sizes.get('slots', 0))
        self.steps = self._steps()
        self.sharded = self.config.reference.shard_tables
        if self.sharded and self.slots % len(self.devices):
            raise UserError(
                f'reference.shard_tables: tables of {self.slots} rows cannot be split evenly over {len(self.devices)} '
                'devices; run on a power of two of them, or leave the tables whole'
            )
        self.specs = parallel.state_specs(len(self.twins)) if self.sharded else parallel.WHOLE
        hosts.agree([self.done, len(self.stream.blocks), self.stream.num_slots], f'{workdir}: stages, blocks, slots')
        self.state = self.spread(self._restored(sizes), self.specs) if self.done else self._first()

    def _steps(self) -> int:
        """Batches of the largest block at hand: all blocks are padded to it, so that a stage is compiled once."""
        return max(-(-b.rows // self.config.reference.batch) for b in self.stream.blocks)

    def _check_same_log(self, seen: list) -> None:
        """Raises UserError if the blocks at hand do not begin with those that the memory has seen.

        They would not if the prepared blocks were deleted and prepared again from a log that has lost its oldest
        files: every id would have another slot.
        """
        for old, new in zip(seen, self._seen(len(self.stream.blocks))):
            if old != new:
                raise UserError(
                    f'{self.workdir / "blocks"}: block {new[0]} ({new[1]} rows, {new[2]} slots) is where the memory '
                    f'has seen block {old[0]} ({old[1]} rows, {old[2]} slots): restore the folder or the old log '
                    'files, or use another --workdir'
                )

    def _seen(self, stages: int) -> list:
        """[key, rows, slots known afterwards] of the first blocks."""
        return [[b.key, b.rows, b.num_slots] for b in self.stream.blocks[:stages]]

    def initial(self) -> stage.StageState:
        """The state before the first block."""
        return self._initial(self.slots, self.config.memory.capacity)

    def _first(self) -> stage.StageState:
        """The state before the first block, on the devices; split tables are made split, never whole on one device."""
        if self.sharded:
            return jax.jit(self.initial, out_shardings=hosts.shardings(self.devices, self.specs))()
        return self.spread(self.initial())

    def _initial(self, slots: int, capacity: int) -> stage.StageState:
        config = self.config.copy_and_resolve_references()
        with config.unlocked():
            config.memory.capacity = capacity
        return stage.init_state(
            config,
            self.reference,
            self.students,
            slots,
            self.fields,
            jax.random.key_data(jax.random.key(self.config.seed)),
            tuple(twin.candidate.model for twin in self.twins),
        )

    def _restored(self, sizes: dict) -> stage.StageState:
        """The state of the last checkpoint on this host, in the capacities of now."""
        old = jax.eval_shape(lambda: self._initial(sizes['slots'], sizes['memory']))
        state = checkpoint.restore(self.workdir, self.done, old)
        if old == jax.eval_shape(self.initial):
            return state
        return checkpoint.grow(state, hosts.fetched(self._first()))

    def sizes(self) -> dict:
        """What a checkpoint must say to be read, and to be recognised: capacities, and the blocks seen."""
        return {'slots': self.slots, 'memory': self.config.memory.capacity, 'log': self._seen(self.done)}

    def spread(self, state, specs=parallel.WHOLE):
        """A state (or a part of one) of this host, on the devices of all of them; specs: how it is to lie there."""
        if hosts.several() or self.sharded:
            return hosts.spread(state, self.devices, specs)
        return jax.tree.map(jnp.array, state)  # copies: a fresh state has one zero in many places, and is donated

    def read(self, t: int) -> Read:
        """Block t, this process's share of its rows laid out. Work of the host alone, so a thread may do it ahead."""
        info, batch, count = self.stream.blocks[t], self.config.reference.batch, len(self.devices)
        held = held_out(info.key, info.rows, self.config.refine.held_share)
        slots = vocabulary(self.stream, t, self.slots, self.fields)
        if not hosts.several():
            block = self.stream.load(t)
            batches = parallel.shard_block(block.ids, block.label, held, count, batch, self.steps)
            return Read(info.key, block.label, block.group, batches, slots)
        begin, end, steps = hosts.share(info.rows, batch, self.steps, self.devices)
        part = self.stream.load(t, begin, end)
        batches = parallel.shard_block(part.ids, part.label, held[begin:end], 1, batch, steps)
        return Read(info.key, *self.stream.outcomes(t), batches, slots)

    def block(self, t: int, read: Read | None = None) -> tuple[Read, Batches]:
        """Block t, and its layout over the devices, with the vocabulary's growth put into the state."""
        read, batch = read or self.read(t), self.config.reference.batch
        field_of_slot, position = self.spread(read.vocabulary)
        book = self.state.codebook._replace(field_of_slot=field_of_slot, position=position)
        self.state = self.state._replace(codebook=book)
        if not hosts.several():
            return read, read.batches
        return read, hosts.deal(read.batches, self.stream.blocks[t].rows, batch, self.steps, self.devices)


def distill(
    config: ConfigDict,
    workdir,
    log: Callable[[str], None] = print,
    devices=None,
    after_stage: Callable[[int], None] | None = None,
) -> Run:
    """Brings the memory in `workdir` up to the last block of the log.

    Args:
      config: a run's config; its data, reference, codebook, memory, addressing and refine sections must be those the
        workdir was begun with.
      workdir: folder of the run, made if absent.
      log: told plain lines. after_stage: called with the number of the stage when it is safely on disk.
    Raises:
      UserError: anything wrong with the config, the log or the workdir.
    """
    run = Run(config, workdir, log, devices)
    workdir = run.workdir
    total = len(run.stream.blocks)
    if hosts.first():
        _recover(run)
    if run.done > total:
        log(
            f'nothing left to do: {workdir / "memory"} has seen {run.done} blocks, more than the {total} up to '
            f'{run.stream.blocks[-1].key} that the config asks for'
        )
        return run
    if run.done == total:
        log(f'nothing left to do: all {total} blocks, up to {run.stream.blocks[-1].key}, are in {workdir / "memory"}')
        return run
    if hosts.first():
        write_json(workdir / 'config.json', plain(config))
    lines = [line for line in read_metrics(workdir) if line['stage'] <= run.done] if run.done else []
    beside = tuple((twin.candidate.model, twin.lr) for twin in run.twins)
    stage_update = stage.make_stage_update(run.config, run.reference, run.students, parallel.AXIS, beside)
    if hosts.several() or run.sharded:
        form = parallel.shard_mapped(stage_update, run.devices, donate=True, specs=run.specs)
    else:
        form = parallel.pmapped(stage_update, run.devices, donate=True)
    update = parallel.Timed(form)
    rows = [b.rows for b in run.stream.blocks]
    told = workdir / 'log.txt' if hosts.first() else Path(os.devnull)
    with Progress('distilling', sum(rows[run.done :]), told, run.log) as progress, ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(run.read, run.done)
        for t in range(run.done, total):
            compiled, start = update.compile_seconds, time.perf_counter()
            block, batches = run.block(t, coming.result())
            if t + 1 < total:
                coming = ahead.submit(run.read, t + 1)
            read = time.perf_counter()
            with hosts.together():
                run.state, out = update(run.state, batches)
                out = hosts.fetched(jax.block_until_ready(out))
            ran = time.perf_counter()
            if not all(np.isfinite(x).all() for x in jax.tree.leaves(out)):
                raise UserError(
                    f'block {block.key}: a loss or gradient of the stage is not finite; lower '
                    'config.reference.learning_rate or config.refine.label_lr'
                    + (f', with another --workdir: this one holds stage {run.done}' if run.done else '')
                )
            run.done = t + 1
            state = hosts.fetched(run.state)
            if hosts.first():
                line = _metrics_line(run, t, block, out, _export(run, state, t))
                _keep_twins(run, state, t)
                compiled = update.compile_seconds - compiled
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
    hosts.wait('the last stage is saved')
    return run


def opened(config: ConfigDict, workdir, log: Callable[[str], None] = print) -> Run:
    """A run whose memory is up to date with the prepared blocks.

    Raises:
      UserError: nothing was distilled there, or blocks are missing.
    """
    if not checkpoint.last(Path(workdir))[0]:
        raise UserError(f'{workdir} holds no memory: run scripts/distill.py with the same flags first')
    run = Run(config, workdir, log)
    if run.done < len(run.stream.blocks):
        raise UserError(
            f'{workdir} has distilled {run.done} of {len(run.stream.blocks)} blocks: run scripts/distill.py again'
        )
    return run


def replicate(run: Run, workdir) -> Run:
    """Another distillation of the same log with another seed.

    Raises:
      UserError: it differs in more than its seed.
    """
    path = Path(workdir) / 'config.json'
    if not path.exists():
        raise UserError(f'{workdir} holds no memory: distill one there with another --config.seed')
    config = run.source_config.copy_and_resolve_references()
    try:
        seed = json.loads(path.read_text())['seed']
    except (ValueError, KeyError) as error:
        raise UserError(f'{path} is not the config of a run ({error}): distill one there') from error
    with config.unlocked():
        config.seed = seed
    if config.seed == run.config.seed:
        raise UserError(f'{workdir} was distilled with seed {config.seed}, as {run.workdir}: it adds nothing')
    return opened(config, workdir, run.log)


def _recover(run: Run) -> None:
    """Puts right what a crash or a hand did to the files beside the checkpoint: it alone says what is done."""
    folder, lines = run.workdir / 'memory', run.workdir / 'metrics.jsonl'
    recover_folder(folder)
    if not 0 < run.done <= len(run.stream.blocks):
        return
    if not (folder / 'manifest.json').exists() or read_manifest(folder)['stage'] != run.done:
        run.log(f'{folder} is not the memory of stage {run.done}: written again')
        _export(run, run.state, run.done - 1)
    saved = run.workdir / 'checkpoint' / f'{run.done:05d}' / 'metrics.jsonl'
    if saved.exists() and not (lines.exists() and lines.read_bytes() == saved.read_bytes()):
        run.log(f'{lines} is not that of stage {run.done}: written again')
        write_text(lines, saved.read_text())


def _export(run: Run, state: stage.StageState, t: int) -> dict:
    """Writes the artifact of stage t + 1 to history/, and puts a copy of it at memory/."""
    blocks = run.stream.blocks[: t + 1]
    kept = run.workdir / 'history' / f'{t + 1:05d}'
    kept.parent.mkdir(parents=True, exist_ok=True)
    manifest = write_artifact(
        kept,
        state.memory,
        state.codebook,
        run.stream,
        stage=t + 1,
        seed=run.config.seed,
        encoded_bytes=sum(b.encoded_bytes for b in blocks),
        raw_bytes=sum(b.raw_bytes for b in blocks),
        rows_seen=sum(b.rows for b in blocks),
    )
    part = run.workdir / 'memory.part'
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(kept, part)
    replace_folder(part, run.workdir / 'memory')
    return manifest


def _keep_twins(run: Run, state: stage.StageState, t: int) -> None:
    """Writes the reference model and the twins as they stand after stage t + 1, and drops what `twins.keep` says."""
    folder, params = run.workdir / 'twins', [state.reference.params, *(s.params for s in state.twins)]
    twins.write(folder / f'{t + 1:05d}.npz', run.beside, params, run.stream.blocks[t].num_slots)
    if keep := run.config.twins.keep:
        for path in sorted(p for p in folder.glob('*.npz') if int(p.stem) <= t + 1 - keep):
            path.unlink()


def _metrics_line(run: Run, t: int, block, out: stage.StageMetrics, manifest: dict) -> dict:
    logits = [parallel.unshard(x, len(block.label)) for x in np.moveaxis(np.asarray(out.logits), -1, 0)]
    info, previous = run.stream.blocks[t], run.stream.blocks[t - 1].num_slots if t else 0
    number = lambda tree: {k: float(v) for k, v in tree.items()}  # noqa: E731
    refinement = number(out.refinement)
    refinement.update(
        proposed=run.config.refine.outer_steps * len(run.students), accepted=int(out.refinement['accepted'])
    )
    budgets = manifest['budgets']
    return {
        'stage': t + 1,
        'block': block.key,
        'rows': info.rows,
        'rows_seen': manifest['rows_seen'],
        'rows_per_second': 0.0,
        'seconds': {},
        'reference': {
            'auc': metrics.auc(logits[0], block.label),
            'logloss': metrics.logloss(logits[0], block.label),
            'gauc': metrics.gauc(logits[0], block.label, block.group),
            'train_loss': float(out.train_loss),
        },
        'twins': {
            twin.name: {'auc': metrics.auc(x, block.label), 'logloss': metrics.logloss(x, block.label)}
            for twin, x in zip(run.twins, logits[1:], strict=True)
        },
        'codebook': {'slots': info.num_slots, 'new_slots': info.num_slots - previous, 'moved': float(out.moved)},
        'influence': number(out.influence),
        'addressing': {k: int(v) for k, v in out.addressing._asdict().items()},
        'refinement': refinement,
        'memory': {
            'rows': int(out.rows),
            'row_budget': budgets['rows'],
            'bytes': budgets['bytes'],
            'byte_budget': budgets['bytes_of_encoded'],
            'byte_budget_raw': budgets['bytes_of_raw'],
            'mass': float(out.mass),
        },
    }


def held_out(key: str, rows: int, share: float) -> np.ndarray:
    """The slice of a block that refinement never sees: bool[rows], the same in every run and on any device count."""
    seed = int.from_bytes(key.encode()[:16].ljust(16, b'\0'), 'big')
    return np.random.default_rng(seed).random(rows) < share


def read_metrics(workdir) -> list[dict]:
    path = Path(workdir) / 'metrics.jsonl'
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def vocabulary(stream, t: int, slots: int, fields: int) -> tuple[np.ndarray, np.ndarray]:
    """field_of_slot and position of a codebook, i32[slots], with the slots of block t known."""
    owner = stream.field_of_slot(stream.blocks[t].num_slots)
    order = np.argsort(owner, kind='stable')
    starts = np.searchsorted(owner[order], np.arange(fields))
    position = np.full(slots, -1, np.int32)
    position[order] = np.arange(len(order)) - starts[owner[order]]
    field = np.zeros(slots, np.int32)
    field[: len(owner)] = owner
    return field, position


def with_vocabulary(book: codebook.Codebook, stream, t: int) -> codebook.Codebook:
    """The codebook with the slots of block t known: which field each is of, and its place in it."""
    field, position = vocabulary(stream, t, book.code.shape[0], book.centroids.shape[0])
    return book._replace(field_of_slot=jnp.asarray(field), position=jnp.asarray(position))


def _sized(config: ConfigDict, stream) -> ConfigDict:
    """A copy of the config with the memory's static sizes filled in."""
    config = config.copy_and_resolve_references()
    first = stream.blocks[0]
    if config.memory.row_budget * first.rows < 1:
        raise UserError(
            f'memory.row_budget {config.memory.row_budget:g} of the {first.rows} rows of block {first.key} is not one '
            f'row: set it to {1.01 / first.rows:.2g} or more'
        )
    with config.unlocked():
        config.codebook.codes = codebook.codes_per_field(config.codebook.codes, stream.fields)
        m = config.memory
        m.row_budget = float(m.row_budget)
        if not m.capacity:
            m.capacity = -(-int(np.ceil(m.row_budget * sum(b.rows for b in stream.blocks)) + 1) // 256) * 256
        largest = max(b.rows for b in stream.blocks)
        m.max_new = int(largest * m.row_budget + 2 + m.capacity * config.addressing.replace)
    return config


def table_capacity(slots: int) -> int:
    """Rows of an id table for `slots` ids: a quarter of a power of two times 4 to 8, so that growth seldom recompiles.

    >>> table_capacity(45_618)
    49152
    """
    quarter = max(256, 1 << max(0, int(slots - 1).bit_length() - 3))
    return -(-slots // quarter) * quarter
