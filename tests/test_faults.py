"""What a run meets from outside: other processes, damage, no room. It ends right, or in one line, and never wrong."""

import os
import random
import shutil
import socket
import subprocess
import sys

import faults
import pytest
import tiny
from tiny import contents

from diet_jax.artifact.read import load_memory
from diet_jax.base import lock
from diet_jax.base.errors import UserError


def test_two_writers(distilled):
    """The second one is told who the first is, and touches nothing."""
    with lock.held(distilled):
        before = contents(distilled)
        who = rf'another process, process {os.getpid()} on {socket.gethostname()} since \d{{4}}-'
        with pytest.raises(UserError, match=f'{distilled} is being written by {who}'):
            tiny.distill(distilled)
        assert contents(distilled) == before
    assert tiny.distill(distilled).done == 4 and not (distilled / 'lock').exists()


def test_a_lock_ends_with_its_process_and_an_unused_folder_with_the_lock(tmp_path):
    folder = tmp_path / 'a' / 'run'
    with lock.held(folder):
        assert folder.is_dir()
    assert not folder.parent.exists()
    killed = 'import os, pathlib\nfrom diet_jax.base import lock\n'
    killed += f'with lock.held(pathlib.Path({str(folder)!r})): os._exit(9)'
    assert subprocess.run([sys.executable, '-c', killed]).returncode == 9
    assert (folder / 'lock').exists()
    with lock.held(folder):
        (folder / 'memory').mkdir()
    assert os.listdir(folder) == ['memory']


@pytest.fixture(scope='module')
def three_days(tmp_path_factory):
    """The tiny run before its last day: what stays of an operation that fails is seen on the day after."""
    config = tiny.get_config()
    config.data.until = tiny.DAYS[2]
    workdir = tmp_path_factory.mktemp('before') / 'run'
    tiny.distill(workdir, config)
    return workdir


def _sampled(count, of, seed=0):
    """Of every part of a run some operation, always the same."""
    draw = random.Random(seed)
    return sorted({draw.randrange(of * i // count, of * (i + 1) // count) for i in range(count)})


def _parts(workdir):
    return [
        str(p.relative_to(workdir)) for p in workdir.rglob('*') if p.suffix in ('.part', '.old') or p.name == 'part'
    ]


def test_a_fault_in_any_operation_loses_nothing(distilled, three_days, tmp_path):
    """A new day, with a disk that is full and a crash: the next run comes to the same bytes, with nothing left over."""
    whole, names = tiny.outcome(distilled), {p.name for p in distilled.iterdir()}
    shutil.copytree(three_days, tmp_path / 'counted')
    with faults.disk() as disk:
        tiny.distill(tmp_path / 'counted')
    assert len(disk.done) > 50 and tiny.outcome(tmp_path / 'counted') == whole
    for i, n in enumerate(_sampled(28, len(disk.done))):
        kind = ('full', 'crash')[i % 2]
        workdir, where = tmp_path / 'run', f'{kind} at {n}: {disk.done[n]}'
        shutil.copytree(three_days, workdir)
        with faults.disk(n, kind), pytest.raises((OSError, UserError) if kind == 'full' else faults.Crash):
            tiny.distill(workdir)
        memory = workdir / 'memory'
        assert load_memory(memory).manifest['stage'] in (3, 4), where
        tiny.distill(workdir)
        assert tiny.outcome(workdir) == whole and not _parts(workdir), where
        assert {p.name for p in workdir.iterdir()} == names, where
        shutil.rmtree(workdir)
