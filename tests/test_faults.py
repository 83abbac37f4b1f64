"""What a run meets from outside: other processes, damage, no room. It ends right, or in one line, and never wrong."""

import errno
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import faults
import jax
import numpy as np
import pytest
import quirky
import tiny
from tiny import contents

from diet_jax.artifact.read import load_memory
from diet_jax.base import atomic, checksums, lock
from diet_jax.base.errors import UserError
from diet_jax.commands import launch
from diet_jax.data.stream import open_stream, prepare_again
from diet_jax.device.programs import keep_compiled, tidy
from diet_jax.run.verify import verify
from diet_jax.study.readings import Reading, Shelf


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
    for i, n in enumerate(_sampled(20, len(disk.done))):
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


SWAPPING = """
import pathlib, sys, time
from diet_jax.base import atomic
memory, *stages = map(pathlib.Path, sys.argv[1:])
part, end, swaps = memory.with_name('memory.part'), time.time() + 3, 0
while time.time() < end:
    atomic.copy_folder(stages[swaps % 2], part)
    atomic.put_folder(part, memory)
    swaps += 1
print(swaps)
"""


def _recipe():
    """What docs/elsewhere.md tells the readers of other tools."""
    page = (Path(__file__).parent.parent / 'docs' / 'elsewhere.md').read_text()
    names = {}
    exec(next(code for code in re.findall(r'```python\n(.*?)```', page, re.S) if 'def read_whole' in code), names)
    return names['read_whole']


@pytest.mark.parametrize('at_once', [True, False], ids=['swapped at once', 'renamed twice'])
def test_a_reader_gets_one_stage_while_the_memory_is_replaced(distilled, tmp_path, at_once):
    stages, memory, read_whole = [distilled / 'history' / f'0000{t}' for t in (3, 4)], tmp_path / 'memory', _recipe()
    whole = [{name: data for name, data in contents(stage).items() if name != 'README.md'} for stage in stages]
    shutil.copytree(stages[1], memory)
    program = SWAPPING if at_once else SWAPPING.replace('memory,', 'atomic._exchanged = lambda *_: False\nmemory,', 1)
    words = [sys.executable, '-c', program, memory, *stages]
    reads, refused, seen = 0, 0, set()
    with subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True) as writer:
        while writer.poll() is None:
            assert not at_once or (memory / 'manifest.json').exists(), 'it is never absent'
            try:
                seen.add(whole.index(read_whole(memory)))  # one of the two, or ValueError
                found = load_memory(memory)
                assert set(found.columns['stage']) <= set(range(1, found.manifest['stage'] + 1))
                reads += 1
            except (OSError, UserError):
                refused += 1
        swaps = int(writer.stdout.read())
    assert swaps > 20 and reads > 5 and seen == {0, 1}, (swaps, reads, refused)
    assert contents(memory) in map(contents, stages) and not list(tmp_path.glob('memory.*'))


def _read_back(workdir):
    """The files of a run that are read again, in some order that is always the same."""
    shown = ('.html', '.png', '.txt', '.md')
    files = [p.relative_to(workdir) for p in sorted(workdir.rglob('*')) if p.is_file()]
    return [p for p in files if p.parts[0] == 'checkpoint' or p.suffix not in shown]


def test_a_wrong_bit_is_found_and_put_right_or_named(distilled, three_days, tmp_path):
    """In every kind of file, a new day after it: the same bytes, or one line that names the file."""
    whole, draw, workdir = tiny.outcome(distilled), random.Random(1), tmp_path / 'run'
    files = _read_back(three_days)
    assert {found.state for found in verify(three_days)} == {'good'}
    assert {found.path.relative_to(three_days) for found in verify(three_days)} == set(files)
    ends = {'right': 0, 'named': 0}
    for name in draw.sample(files, 18):
        shutil.copytree(three_days, workdir)
        faults.flip(workdir / name, draw)
        bad = [found for found in verify(workdir) if found.state != 'good']
        assert bad and all(found.words for found in bad), name
        assert workdir / name in {found.path for found in bad} or name.name == 'sizes.json', name
        before = contents(workdir)
        try:
            tiny.distill(workdir)
            now = tiny.outcome(workdir)
            if {found.state for found in bad} == {'damaged'}:  # of an earlier stage, which distilling does not read
                assert name.parts[0] in ('history', 'twins'), name
                if name.parts[0] == 'history':  # twins that are no longer asked for go with the next stage
                    assert bad[0].path.read_bytes() == before[str(name)]
                    now[1][str(name.relative_to('history'))] = whole[1][str(name.relative_to('history'))]
            assert now == whole, name
            ends['right'] += 1
        except UserError as error:
            assert name.parts[0] == 'checkpoint' and 'restore it from a copy' in str(error), name
            assert all(contents(workdir)[path] == before[path] for path in before if not path.startswith('blocks'))
            ends['named'] += 1
        shutil.rmtree(workdir)
    assert min(ends.values()) > 3, ends


def test_a_wrong_bit_in_what_a_study_keeps_is_trained_again(tmp_path):
    shelf, digests = Shelf(tmp_path), {'memory': 'a'}
    logits = np.random.default_rng(0).normal(size=(1, 2, 50)).astype(np.float32)
    scores = {'auc': [0.5, 0.6], 'logloss': [0.6, 0.7], 'gauc': [0.5, None], 'seconds': 0.1}
    reading = Reading({'lr': 0.1}, scores, logits)
    shelf.put({'name': 'x', 'config': {}}, digests, {'memory': reading})
    assert set(shelf.kept('x', digests)) == {'memory'}
    for path in (tmp_path / 'candidates' / 'x.json', tmp_path / 'predictions' / 'x.npy'):
        before, draw = path.read_bytes(), random.Random(2)
        for _ in range(40):
            faults.flip(path, draw)
            said = []
            found = shelf.kept('x', digests, said.append)
            assert (
                found == {}
                and len(said) == 1
                and said[0].endswith('its candidate is trained again')
                or (
                    path.suffix == '.json' and found['memory'].scores == reading.scores  # of its layout
                )
            ), said
            path.write_bytes(before)


def _without_checksums(value, path):
    gone = {'checksum', *(['files'] if path.name == 'sizes.json' else ())}
    gone |= {'checksums'} if 'blocks' in path.parts[-3:] else set()
    return json.dumps({key: item for key, item in value.items() if key not in gone})


def test_what_an_earlier_version_wrote_has_no_checksums_and_passes(distilled, three_days, tmp_path):
    """Said where it is taken up; the next stage has them."""
    workdir = tmp_path / 'run'
    shutil.copytree(three_days, workdir)
    for path in (*workdir.rglob('*.json'), *workdir.rglob('metrics.jsonl')):
        lines = path.read_text().splitlines() if path.suffix == '.jsonl' else [path.read_text()]
        path.write_text('\n'.join(_without_checksums(json.loads(line), path) for line in lines) + '\n')
    assert {found.state for found in verify(workdir)} == {'good', 'no checksum'}
    tiny.distill(workdir, emit=(said := []).append)
    assert sum('which noted no checksums' in line or 'without checksums' in line for line in said) == 2, said
    assert tiny.outcome(workdir)[2] == tiny.outcome(distilled)[2]
    assert load_memory(workdir / 'memory').rows.equals(load_memory(distilled / 'memory').rows)
    assert {found.state for found in verify(workdir) if 'history' not in found.path.parts} == {'good'}


def test_a_home_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update('jax_compilation_cache_dir', None)
    try:
        with pytest.raises(UserError, match='file/diet-jax: Not a directory: compiled programs are kept there; name'):
            keep_compiled()
    finally:
        jax.config.update('jax_compilation_cache_dir', before)


def test_compiled_programs_that_were_cut_short_or_long_unused_go(tmp_path):
    packed = zlib.compress(os.urandom(1000))
    for age, name in enumerate(('new', 'old', 'older', 'oldest')):
        (tmp_path / f'{name}-cache').write_bytes(packed)
        os.utime(tmp_path / f'{name}-cache', (1e9 - age, 1e9 - age))
    (tmp_path / 'cut-cache').write_bytes(packed[:-1])
    (tmp_path / 'empty-cache').write_bytes(b'')
    (tmp_path / 'other').write_bytes(packed)
    tidy(tmp_path, most=3 * len(packed))
    kept = {'new-cache', 'old-cache', 'older-cache', 'other', 'looked'}
    assert {p.name for p in tmp_path.iterdir()} == kept
    (tmp_path / 'new-cache').write_bytes(packed[:500])
    tidy(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == kept - {'new-cache'}


@pytest.mark.parametrize(
    'code, words',
    [(errno.ENOSPC, 'No space left on device: make room'), (errno.EROFS, 'Read-only file system: it may only be read')],
)
def test_what_the_system_refuses_is_one_line(code, words, capsys):
    def refused(_):
        with atomic.named(Path('run/x')):
            raise OSError(code, os.strerror(code))

    with pytest.raises(SystemExit, match='2'):
        launch._guarded(refused, False)([''])
    assert capsys.readouterr().err.startswith(f'error: run/x: {words}')


def test_a_damaged_block_is_prepared_again_from_the_log_if_all_of_it_is_there(tmp_path):
    data, draw = quirky.healthy_log(tmp_path / 'log'), random.Random(3)
    whole = quirky.bytes_of(tmp_path / 'w') if open_stream(data, tmp_path / 'w', lambda line: None) else None
    for name in ('rows/00001.parquet', 'vocabulary-*.parquet', 'manifest.json'):
        (path,) = (tmp_path / 'w').glob(f'blocks/*/{name}')
        faults.flip(path, draw)
        with pytest.raises(checksums.Damaged) as found:
            stream = open_stream(data, tmp_path / 'w', lambda line: None)
            stream.load(1)
            stream.values(np.array([stream.num_slots - 1]))
        prepare_again(data, tmp_path / 'w', found.value, (said := []).append)
        assert said == [f'{path} is damaged or gone: the log is prepared again']
        assert quirky.bytes_of(tmp_path / 'w') == whole
    (path,) = (tmp_path / 'w').glob('blocks/*/rows/00001.parquet')
    faults.flip(path, draw)
    damaged = quirky.bytes_of(tmp_path / 'w')
    (tmp_path / 'log' / 'day0.csv').unlink()
    gone = checksums.Damaged(path, 'damaged', 'delete it')
    with pytest.raises(UserError, match='preparing it again came to nothing: the log has other rows now'):
        prepare_again(data, tmp_path / 'w', gone, lambda line: None)
    assert quirky.bytes_of(tmp_path / 'w') == damaged


def test_what_a_killed_process_left_goes_when_the_file_is_written_again(tmp_path):
    child = subprocess.Popen([sys.executable, '-c', 'pass'])
    child.wait()
    mine, host = tmp_path / 'x.json', socket.gethostname()
    dead, other, living = (
        f'x.json.{of}.part' for of in (f'{host}-{child.pid}', 'elsewhere-7', f'{host}-{os.getppid()}')
    )
    (tmp_path / dead).mkdir()
    for name in (other, living, 'x.json.part'):
        (tmp_path / name).write_text('')
    atomic.write_json(mine, {})
    assert {p.name for p in tmp_path.iterdir()} == {mine.name, other, living, 'x.json.part'}
    os.utime(tmp_path / other, (0, 0))
    atomic.write_json(mine, {})
    assert {p.name for p in tmp_path.iterdir()} == {mine.name, living, 'x.json.part'}
