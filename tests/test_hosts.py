"""Several processes distill one memory: the one that one process with as many devices distills, whoever is killed; and
so they do where the tables are split over the devices."""

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
from tiny import contents, outcome

from diet_jax.base.errors import UserError
from diet_jax.device.collectives import AXIS
from diet_jax.distillation import parallel
from diet_jax.run import processes
from diet_jax.run.driver import distill
from diet_jax.run.record import read_metrics
from diet_jax.run.run import Run
from diet_jax.training.batches import shard_block

REPO = Path(__file__).resolve().parent.parent
BLOCKS, BATCH, STEPS = 4, 32, 7
# The smallest stage: it is compiled by each of six processes.
CONFIG = f"""
import sys

sys.path.append({str(REPO / 'tests')!r})
import tiny


def get_config():
    config = tiny.get_config()
    config.data.simulated.blocks = {BLOCKS}
    config.data.fields, config.data.time_fields = ('user', 'tab'), ()
    config.reference.model, config.twins.models, config.refine.models = 'fm', (), (dict(model='fm'),)
    return config
"""
SPLIT = ('--config.reference.shard_tables=True',)


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('config') / 'config.py'
    path.write_text(CONFIG)
    return path


def config_of(path: Path, split: bool):
    scope = {}
    exec(path.read_text(), scope)
    config = scope['get_config']()
    config.reference.shard_tables = split
    return config


class Processes:
    """`scripts/distill.py` as `count` processes on this machine, one device each; what they say goes to files."""

    def __init__(self, count: int, config: Path, workdir: Path, said: Path, flags: tuple[str, ...] = ()):
        with socket.socket() as free:
            free.bind(('localhost', 0))
            port = free.getsockname()[1]
        kept = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
        environment = {**kept, 'XDG_CACHE_HOME': str(said / 'cache')}
        environment['PYTHONPATH'] = os.pathsep.join([str(REPO), *filter(None, [os.environ.get('PYTHONPATH')])])
        said.mkdir(exist_ok=True)
        self.said, self.running = said, []
        for i in range(count):
            joins = (f'--coordinator=localhost:{port}', f'--processes={count}', f'--process={i}')
            command = [
                sys.executable,
                'scripts/distill.py',
                f'--config={config}',
                f'--workdir={workdir}',
                *joins,
                *flags,
            ]
            with (said / f'{i}.out').open('w') as out, (said / f'{i}.err').open('w') as err:
                self.running.append(subprocess.Popen(command, cwd=REPO, env=environment, stdout=out, stderr=err))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
            process.wait()

    def text(self, i: int, kind: str) -> str:
        lines = (self.said / f'{i}.{kind}').read_text().splitlines()
        return '\n'.join(line for line in lines if not line.startswith('[Gloo]'))  # its greeting

    def wait_for(self, words: str) -> None:
        while words not in self.text(0, 'out'):
            assert self.running[0].poll() is None, self.text(0, 'err')
            time.sleep(0.02)

    def finish(self) -> list[int]:
        return [process.wait(timeout=300) for process in self.running]


@pytest.fixture(scope='module')
def alone(config, tmp_path_factory):
    """workdir of the same run by this process alone, on `count` devices."""

    @functools.cache
    def run(count: int, split: bool = False) -> Path:
        if jax.device_count() < count:
            pytest.skip(f'{jax.device_count()} devices')
        workdir = tmp_path_factory.mktemp('alone') / 'run'
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parallel, 'pmapped', parallel.shard_mapped)
            distill(config_of(config, split), workdir, lambda line: None, jax.devices()[:count])
        return workdir

    return run


def assert_nearly_the_same_run(one: Path, other: Path):
    """Where terms are summed in another order, sums are equal to rounding; and what hangs on the sign of a difference
    near zero, whether a refinement is kept, may be decided the other way."""
    assert contents(one / 'history').keys() == contents(other / 'history').keys()
    for path in sorted((one / 'history').rglob('rows.parquet')):
        ours, theirs = (pq.read_table(p / path.relative_to(one)) for p in (one, other))
        for name in set(ours.column_names) - {'soft_label', 'weight'}:
            a, b = (x.column(name).to_numpy(zero_copy_only=False) for x in (ours, theirs))
            if a.dtype.kind == 'f':
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(a, b, name)
    for ours, theirs in zip(read_metrics(one), read_metrics(other), strict=True):
        for name in ('auc', 'logloss', 'gauc', 'train_loss'):
            assert ours['reference'][name] == pytest.approx(theirs['reference'][name], rel=1e-5), name
        assert ours['addressing'] == theirs['addressing'] and ours['memory']['mass'] == theirs['memory']['mass']


def test_two_processes_one_of_them_killed_and_both_started_again(config, tmp_path, alone):
    workdir = tmp_path / 'run'
    with Processes(2, config, workdir, tmp_path / 'said') as two:
        two.wait_for('stage 1/')
        two.running[1].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        assert two.running[0].wait(timeout=60) == 2
        assert time.monotonic() - killed < 60
        line = two.text(0, 'err')
        assert line.startswith('error: process 0 of 2: another process is gone (') and len(line.splitlines()) == 1
        assert 'start all of them again' in line
    first = read_metrics(workdir)
    assert 1 <= len(first) < BLOCKS, 'killed before the end'
    with Processes(2, config, workdir, tmp_path / 'said') as two:
        assert two.finish() == [0, 0], two.text(0, 'err') + two.text(1, 'err')
        assert f'stage {BLOCKS}/{BLOCKS}' in two.text(0, 'out')
        assert (two.text(1, 'out'), two.text(1, 'err')) == ('', ''), 'one process speaks'
    lines = read_metrics(workdir)
    assert len(lines) == BLOCKS and lines[: len(first) - 1] == first[:-1], 'the stages that were saved stand'
    assert outcome(workdir) == outcome(alone(2)), 'two processes give the bits of one with two devices'


def test_four_processes_with_split_tables(config, tmp_path, alone):
    with Processes(4, config, tmp_path / 'run', tmp_path / 'said', SPLIT) as four:
        assert four.finish() == [0] * 4, ''.join(four.text(i, 'err') for i in range(4))
    assert_nearly_the_same_run(tmp_path / 'run', alone(4))  # over a network four terms have another order


def opened(config: Path, workdir: Path, split: bool, count: int, **reference) -> Run:
    config = config_of(config, split)
    config.reference.update(reference)
    return Run(config, workdir, lambda line: None, jax.devices()[:count])


def test_split_tables_give_the_run_of_whole_ones_and_are_saved_whole(config, alone):
    workdir = alone(4, split=True)
    assert_nearly_the_same_run(workdir, alone(4))
    whole, split = opened(config, workdir, False, 1), opened(config, workdir, True, 2)
    table = split.state.reference.params['table']
    assert {shard.data.shape[0] for shard in table.addressable_shards} == {table.shape[0] // 2}
    assert split.state.memory.ids.sharding.is_fully_replicated
    jax.tree.map(np.testing.assert_array_equal, whole.state, split.state)


def test_tables_that_the_devices_cannot_share_are_refused(config, tmp_path):
    if jax.device_count() < 3:
        pytest.skip(f'{jax.device_count()} devices')
    with pytest.raises(UserError, match='tables of 256 rows cannot be split evenly over 3 devices'):
        opened(config, tmp_path / 'run', True, 3, batch=63)


@pytest.mark.parametrize('count', [1, 2, 4, 8])
@pytest.mark.parametrize('rows', [1, 100, 224])
def test_stretches_of_the_block_are_dealt_as_one_process_lays_it_out(count, rows):
    over = jax.devices()[:count]
    if len(over) < count:
        pytest.skip(f'{len(over)} devices')
    rng = np.random.default_rng(0)
    ids, label = rng.integers(0, 99, (rows, 3), np.int32), rng.random(rows).astype(np.float32)
    held = label > 0.5
    begin, end, steps = processes.share(rows, BATCH, STEPS, over)
    assert (begin, end) == (0, rows) and steps >= STEPS and steps % count == 0
    part = shard_block(ids, label, held, devices=1, batch=BATCH, steps=steps)
    dealt = processes.deal(part, rows, BATCH, STEPS, over)
    for a, b in zip(dealt, shard_block(ids, label, held, devices=count, batch=BATCH, steps=STEPS), strict=True):
        np.testing.assert_array_equal(a, b)


def test_shares_cover_the_block_once(monkeypatch):
    class Device:
        def __init__(self, process_index):
            self.process_index = process_index

    over = [Device(i // 2) for i in range(6)]
    for rows in (1, 100, 223, 224):
        parts = []
        for i in range(3):
            monkeypatch.setattr(jax, 'process_index', lambda i=i: i)
            parts.append(processes.share(rows, BATCH, STEPS, over))
        assert [b for b, _, _ in parts] == [0, *(e for _, e, _ in parts[:-1])] and parts[-1][1] == rows
        assert {steps for _, _, steps in parts} == {4} and all((e - b) <= 4 * BATCH for b, e, _ in parts)


def test_state_goes_out_and_comes_back():
    tree = {'table': np.arange(16.0, dtype=np.float32).reshape(8, 2), 'step': np.int32(3)}
    over = jax.devices()
    spread = processes.spread(tree, over)
    assert all(x.is_fully_replicated and len(x.sharding.device_set) == len(over) for x in jax.tree.leaves(spread))
    jax.tree.map(np.testing.assert_array_equal, processes.fetched(spread), tree)
    specs = {'table': jax.sharding.PartitionSpec(AXIS), 'step': jax.sharding.PartitionSpec()}
    split = processes.spread(tree, over, specs)
    assert split['table'].addressable_shards[0].data.shape == (8 // len(over), 2)
    jax.tree.map(np.testing.assert_array_equal, processes.fetched(split), tree)


def test_alone_nothing_is_waited_for():
    assert processes.first() and not processes.several()
    processes.wait('nobody')
    processes.agree([1, 2], 'numbers')
    assert processes.in_turn(lambda: 5) == 5
    with pytest.raises(ValueError, match='Gloo'), processes.together():
        raise ValueError('Gloo all-reduce failed')  # not ours to explain where there is one process


@pytest.mark.parametrize(
    'given, match',
    [
        (('localhost:80', None, None), '--coordinator=host:port, --processes and --process go together'),
        ((None, 2, 0), 'go together'),
        (('localhost', 2, 0), '--coordinator=localhost is not host:port'),
        (('localhost:80', 2, 2), '--process=2 is not one of 0 .. 1'),
    ],
)
def test_flags_that_do_not_go_together(given, match):
    with pytest.raises(UserError, match=match):
        processes.join(*given)


def test_a_part_of_a_block_opens_its_row_groups_only(distilled, tmp_path, monkeypatch):
    workdir = shutil.copytree(distilled, tmp_path / 'run')
    (path,) = workdir.glob('blocks/*/rows/00001.parquet')
    pq.write_table(pq.read_table(path), path, row_group_size=50)
    tiny.sealed(workdir)
    run = tiny.opened(workdir)
    whole = run.stream.load(1)
    opened, read = [], pq.ParquetFile.read_row_groups
    monkeypatch.setattr(
        pq.ParquetFile,
        'read_row_groups',
        lambda self, groups, *args: (opened.append(groups), read(self, groups, *args))[1],
    )
    for begin, end, groups in (
        (0, 320, range(7)),
        (50, 100, [1]),
        (99, 151, [1, 2, 3]),
        (319, 320, [6]),
        (320, 320, []),
    ):
        part = run.stream.load(1, begin, end)
        assert opened.pop() == list(groups)
        for name in ('ids', 'label', 'group', 'time'):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[begin:end])
    (label,), group, _ = run.stream.outcomes(1)
    np.testing.assert_array_equal(label, whole.label)
    np.testing.assert_array_equal(group, whole.group)
