"""A run: its folder, its config, its stream and its state, on the devices of all processes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diet_jax import models
from diet_jax.base.atomic import read_json
from diet_jax.base.errors import UserError
from diet_jax.base.plain import plain
from diet_jax.config.checks import check_config, check_same_config, remembered
from diet_jax.config.data import check_data
from diet_jax.data.fields import layout_of
from diet_jax.data.prepare import fields_of
from diet_jax.data.stream import open_stream
from diet_jax.device.collectives import AXIS, WHOLE
from diet_jax.device.forecast import Forecast
from diet_jax.device.programs import rounded
from diet_jax.distillation import parallel
from diet_jax.distillation.spec import Spec, spec_of
from diet_jax.distillation.stage import init_state
from diet_jax.distillation.state import StageState
from diet_jax.models.twins import reference_of, tracks_of
from diet_jax.run import checkpoint, processes
from diet_jax.run.sizes import held_out, sized, table_capacity, vocabulary
from diet_jax.training.batches import Batches, shard_block


class Seeded(TypedDict):
    """What is read of config.json where a run is a replicate."""

    seed: int


class HostBlock(NamedTuple):
    """A block on the host, ready for the devices."""

    key: str
    label: np.ndarray  # f32[N]
    group: np.ndarray  # i32[N]
    weight: np.ndarray | None  # f32[N], None: every row weighs 1
    others: tuple[np.ndarray, ...]  # f32[N] each: the other outcomes
    batches: Batches  # this process's share
    vocabulary: tuple[np.ndarray, np.ndarray]  # field_of_slot, position: i32[V] each


class Run:
    """A workdir, its config, its stream and its state: what `distill` advances and `measure` looks at."""

    def __init__(self, config: ConfigDict, workdir, emit: Callable[[str], None] = print, devices=None):
        self.workdir = Path(workdir)
        self.devices = list(devices or processes.devices())
        check_config(config, len(self.devices))
        self.layout = layout_of(fields_of(check_data(config.data)))
        self.reference = models.build(reference_of(config, self.layout), dim=config.reference.dim, layout=self.layout)
        self.students = tuple(models.of(spec, config.reference.dim, self.layout) for spec in config.refine.models)
        self.done, sizes = checkpoint.last(self.workdir)
        if self.done:  # before the first stage is done nothing binds
            check_same_config(config, *self._begun_with(sizes))
        self.forecast: Forecast | None = None  # of what is compiled, while it is distilled
        self.emit, self.source_config = emit if processes.first() else lambda line: None, config
        self.stream = processes.in_turn(
            lambda: open_stream(config.data, workdir, self.emit, prepares=processes.first())
        )
        self._check_same_log(sizes.get('log', []))
        self.config = sized(config, self.stream)
        self.outcomes = self.stream.outcome_names  # the main one first
        self.beside = tracks_of(config, self.layout)  # the reference model and the twins: their score is known
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
        self.specs = parallel.state_specs(len(self.twins), len(self.outcomes) - 1) if self.sharded else WHOLE
        processes.agree(
            [self.done, len(self.stream.blocks), self.stream.num_slots], f'{workdir}: stages, blocks, slots'
        )
        self.spec = self._spec(self.config.memory.capacity)
        self.state = self.spread(self._restored(sizes), self.specs) if self.done else self._first()

    def _begun_with(self, sizes: dict) -> tuple[dict | None, Path]:
        """The config of the checkpoint, and the file that says so; before checkpoints did, config.json."""
        if 'config' in sizes:
            return sizes['config'], checkpoint.folder(self.workdir, self.done) / 'sizes.json'
        return read_json(self.workdir / 'config.json'), self.workdir / 'config.json'

    def _steps(self) -> int:
        """Batches that all blocks are padded to, room for the largest at hand: a stage is compiled once."""
        return rounded(max(-(-b.rows // self.config.reference.batch) for b in self.stream.blocks))

    def program(self) -> list:
        """What decides what is compiled for its stage, as JSON; names of fields do not."""
        sections = ('reference', 'codebook', 'memory', 'addressing', 'refine')
        models = [[twin.candidate.program(), twin.lr] for twin in self.beside]
        shapes = [self.layout.columns, self.slots, self.steps, len(self.devices), jax.process_count()]
        lists = list(self.layout[1:]) if self.layout.lists else []  # names apart: they compile to nothing
        others = [f'{len(self.outcomes)} outcomes'] if self.outcomes[1:] else []
        return [[plain(self.config[name]) for name in sections], models, [*shapes, *lists, *others]]

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

    def initial(self) -> StageState:
        """The state before the first block."""
        return self._initial(self.spec, self.slots)

    def _first(self) -> StageState:
        """The state before the first block, on the devices; split tables are made split, never whole on one device."""
        if self.sharded:
            return jax.jit(self.initial, out_shardings=processes.shardings(self.devices, self.specs))()
        return self.spread(self.initial())

    def _spec(self, capacity: int) -> Spec:
        config = self.config.copy_and_resolve_references()
        with config.unlocked():
            config.memory.capacity = capacity
        twins = [(twin.candidate.model, twin.candidate.recipe, twin.lr) for twin in self.twins]
        aside = sum(twin.times != 1 for twin in self.twins)
        sizes = dict(layout=self.layout, twins=twins, aside=aside, others=len(self.outcomes) - 1)
        return spec_of(config, self.reference, self.students, **sizes, axis=AXIS)

    def _initial(self, spec: Spec, slots: int) -> StageState:
        return init_state(spec, slots, jax.random.key_data(jax.random.key(self.config.seed)))

    def _restored(self, sizes: dict) -> StageState:
        """The state of the last checkpoint on this host, in the capacities of now."""
        old = jax.eval_shape(lambda: self._initial(self._spec(sizes['memory']), sizes['slots']))
        state = checkpoint.restore(self.workdir, self.done, old, sizes, self.emit)
        if old == jax.eval_shape(self.initial):
            return state
        return checkpoint.grow(state, processes.fetched(self._first()))

    def sizes(self) -> dict:
        """What a checkpoint must say to be read, and to be recognised: capacities, the blocks seen, the config."""
        return {
            'version': checkpoint.VERSION,
            'slots': self.slots,
            'memory': self.config.memory.capacity,
            'log': self._seen(self.done),
            'config': remembered(self.source_config),
        }

    def spread(self, state, specs=WHOLE):
        """A state (or a part of one) of this host, on the devices of all of them; specs: how it is to lie there."""
        if processes.several() or self.sharded:
            return processes.spread(state, self.devices, specs)
        return jax.tree.map(jnp.array, state)  # copies: a fresh state has one zero in many places, and is donated

    def read(self, t: int) -> HostBlock:
        """Block t, this process's share of its rows laid out. Work of the host alone, so a thread may do it ahead."""
        info, batch, count = self.stream.blocks[t], self.config.reference.batch, len(self.devices)
        held = held_out(info.key, info.rows, self.config.refine.held_share)
        lay = functools.partial(shard_block, batch=batch)
        slots = vocabulary(self.stream, t, self.slots, len(self.layout.names))
        if not processes.several():
            block = self.stream.load(t)
            rows = block.ids, block.label, held
            batches = lay(*rows, devices=count, steps=self.steps, weight=block.weight, others=block.others)
            return HostBlock(info.key, block.label, block.group, block.weight, block.others, batches, slots)
        begin, end, steps = processes.share(info.rows, batch, self.steps, self.devices)
        part = self.stream.load(t, begin, end)
        more = dict(weight=part.weight, others=part.others)
        batches = lay(part.ids, part.label, held[begin:end], devices=1, steps=steps, **more)
        (label, *others), group, weight = self.stream.outcomes(t)
        return HostBlock(info.key, label, group, weight, tuple(others), batches, slots)

    def block(self, t: int, read: HostBlock | None = None) -> tuple[HostBlock, Batches]:
        """Block t, and its layout over the devices, with the vocabulary's growth put into the state."""
        read, batch = read or self.read(t), self.config.reference.batch
        field_of_slot, position = self.spread(read.vocabulary)
        book = self.state.codebook._replace(field_of_slot=field_of_slot, position=position)
        self.state = self.state._replace(codebook=book)
        if not processes.several():
            return read, read.batches
        return read, processes.deal(read.batches, self.stream.blocks[t].rows, batch, self.steps, self.devices)


def opened(config: ConfigDict, workdir, emit: Callable[[str], None] = print) -> Run:
    """A run whose memory is up to date with the prepared blocks.

    Raises:
      UserError: nothing was distilled there, or blocks are missing.
    """
    if not checkpoint.last(Path(workdir))[0]:
        raise UserError(f'{workdir} holds no memory: run scripts/distill.py with the same flags first')
    run = Run(config, workdir, emit)
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
    seed = read_json(path, 'it is not the config of a run: distill one there', Seeded)['seed']
    with config.unlocked():
        config.seed = seed
    if config.seed == run.config.seed:
        raise UserError(f'{workdir} was distilled with seed {config.seed}, as {run.workdir}: it adds nothing')
    return opened(config, workdir, run.emit)
