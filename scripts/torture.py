"""What a daily job meets in a year, in half an hour: kills, signals, full disks, wrong bits, doctored files, readers.

    python scripts/torture.py --minutes=30

A tiny run distils a new day, evaluates, compares and exports, in a process of its own that something happens to. It is
run again: the same bytes must come out, with nothing left over, or one line must say what is wrong. A table counts how
trials ended. Of a checkout: it uses tests/. Disks of a few megabytes are mounted where that is allowed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPO), str(REPO / 'tests')]
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'  # here and in the jobs: else the same days are other bytes

import faults  # noqa: E402
import tiny  # noqa: E402

from diet_jax.artifact.read import load_memory  # noqa: E402
from diet_jax.base.errors import UserError  # noqa: E402
from diet_jax.run.verify import verify  # noqa: E402

ENDS = ('right', 'one line', 'traceback', 'silently wrong')
CLOCKS = ('rows_per_second', 'checksum', 'cost_ratio', 'distilling', 'command', 'gain_per_second', 'full_runs_a_second')
IDEAS = """
from ml_collections import ConfigDict


def get_config():
    return ConfigDict(dict(dim=2))


def sweep(add):
    add('wide', model='lr', dim=1)
"""
NOTHING = ('-1', 'none')


class Torture:
    """Trials on copies of a run that has three of its four days."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.draw, self.table = folder, random.Random(seed), {}
        kept = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
        path = os.pathsep.join([str(REPO), str(REPO / 'tests')])
        self.environment = kept | {'XDG_CACHE_HOME': str(folder / 'cache'), 'PYTHONPATH': path, 'DIET_FSYNC': '0'}
        self.environment |= {'JAX_PLATFORMS': 'cpu'}
        config = tiny.get_config()
        config.data.until = tiny.DAYS[2]
        self.before = folder / 'before' / 'run'
        tiny.distill(self.before, config)
        self.job(self.fresh('whole'))  # and compiles: only the next one does what all others will
        start = time.perf_counter()
        done = self.job(self.fresh('again'))
        self.operations = int(done.stdout.split()[-1])
        self.seconds, self.whole = time.perf_counter() - start, said(folder / 'whole' / 'run')
        print(f'{self.operations} operations on the disk, {self.seconds:.0f} s a day', flush=True)

    def fresh(self, name: str) -> Path:
        """A copy of the run before its last day."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return shutil.copytree(self.before, self.folder / name / 'run')

    def start(self, workdir: Path, n, kind) -> subprocess.Popen:
        words = [sys.executable, str(REPO / 'tests' / 'faults.py'), str(n), kind, str(workdir)]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return subprocess.Popen(words, env=self.environment, **pipes)

    def job(self, workdir: Path, n='-1', kind='none') -> subprocess.CompletedProcess:
        process = self.start(workdir, n, kind)
        out, err = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def note(self, what: str, end: str, where: str) -> None:
        self.table.setdefault(what, Counter())[end] += 1
        if end not in ('right', 'one line'):
            print(f'{what}: {end}: {where}', flush=True)

    def judged(self, what: str, workdir: Path, where: str, lines: bool = False) -> None:
        """Runs it again, undisturbed: lines: whether one line is a good end of that."""
        done = self.job(workdir)
        if 'Traceback' in done.stderr:
            end = 'traceback'
        elif done.returncode:
            end = 'one line' if lines and done.stderr.count('\n') == 1 else 'traceback'
        else:
            wrong = difference(said(workdir), self.whole) or leftovers(workdir.parent)
            end, where = ('silently wrong', f'{where}: {wrong}') if wrong else ('right', where)
        self.note(what, end, f'{where}: {done.stderr.strip()[-300:]}')

    def stopped(self, kind: str) -> None:
        """Ended at some operation, by a signal or since the disk is full."""
        workdir, n = self.fresh('run'), self.draw.randrange(self.operations)
        done = self.job(workdir, n, kind)
        if kind != 'kill' and (done.stderr.count('\n') != 1 or done.returncode not in (2, 143)):
            self.note(f'{kind} at an operation', 'traceback', f'{n}: {done.stderr[-300:]}')
            return
        self.judged(f'{kind} at an operation', workdir, f'operation {n}')

    def at_some_time(self, number: signal.Signals) -> None:
        workdir, after = self.fresh('run'), self.draw.uniform(0, self.seconds)
        with self.start(workdir, *NOTHING) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(after)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        what = f'{number.name} at some time'
        good = process.returncode in (0, -number, 128 + number) and err.count('\n') <= 1
        if not good:
            self.note(what, 'traceback', f'after {after:.1f} s: exit {process.returncode}: {err[-300:]}')
            return
        self.judged(what, workdir, f'after {after:.1f} s')

    def small_disk(self) -> None:
        """A disk that is full before the day is done, and has room afterwards."""
        place = self.folder / 'disk'
        place.mkdir(exist_ok=True)
        size = self.draw.randrange(self.size, 2 * self.size)
        if subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(place)], capture_output=True
        ).returncode:
            return
        try:
            workdir = shutil.copytree(self.before, place / 'run')
            done = self.job(workdir)
            if done.returncode and (done.stderr.count('\n') != 1 or done.returncode != 2):
                self.note('small disk', 'traceback', f'{size} bytes: {done.stderr[-400:]}')
                return
            subprocess.run(['mount', '-o', 'remount,size=1g', str(place)], check=True)
            self.judged('small disk', workdir, f'{size} bytes')
        finally:
            subprocess.run(['umount', str(place)], check=True)

    @property
    def size(self) -> int:
        return sum(p.stat().st_size for p in self.before.rglob('*') if p.is_file()) + (1 << 18)

    def read_only(self) -> None:
        """A run that may only be read: it is not written in one line, and serves a comparison elsewhere."""
        place, run = self.folder / 'still', self.folder / 'whole' / 'run'
        place.mkdir(exist_ok=True)
        if subprocess.run(['mount', '--bind', str(run), str(place)], capture_output=True).returncode:
            return
        try:
            subprocess.run(['mount', '-o', 'remount,bind,ro', str(place)], check=True)
            done = self.job(place)
            end = 'one line' if done.returncode == 2 and done.stderr.count('\n') == 1 else 'traceback'
            self.note('read-only workdir', end, done.stderr[-400:])
            elsewhere = self.folder / 'elsewhere'
            shutil.rmtree(elsewhere, ignore_errors=True)
            ideas = self.folder / 'ideas.py'
            ideas.write_text(IDEAS)
            words = [
                REPO / 'scripts/compare.py',
                f'--memory={place / "memory"}',
                f'--candidates={ideas}',
                f'--workdir={elsewhere}',
            ]
            words = [sys.executable, *map(str, words)]
            done = subprocess.run(words, env=self.environment, capture_output=True, text=True)
            end = 'right' if done.returncode == 0 and (elsewhere / 'report.html').exists() else 'traceback'
            self.note('compare of a read-only run', end, done.stderr[-400:])
        finally:
            subprocess.run(['umount', str(place)], check=True)

    def wrong_bit(self) -> None:
        """In one of the files that are read back, of a finished day; the next morning everything is asked again."""
        shutil.rmtree(self.folder / 'run', ignore_errors=True)
        shutil.copytree(self.folder / 'whole', self.folder / 'run')
        workdir = self.folder / 'run' / 'run'
        path = self.draw.choice([found.path for found in verify(workdir)])
        faults.flip(path, self.draw)
        name = path.relative_to(workdir)
        if all(found.state == 'good' for found in verify(workdir)) and not same_json(
            path, self.folder / 'whole' / 'run' / name
        ):
            self.note('wrong bit', 'silently wrong', f'{name}: diet-check finds it good')
            return
        keep = name.parts[0] in ('history', 'twins') and name.parts[1][:5] not in ('00004',)
        whole = path.read_bytes() if keep else None
        self.judged('wrong bit', workdir, str(name), lines=True) if whole is None else self.of_earlier(
            workdir, path, name
        )

    def doctored(self) -> None:
        """Somebody's value in a JSON file of a finished day; the next morning everything is asked again."""
        shutil.rmtree(self.folder / 'run', ignore_errors=True)
        shutil.copytree(self.folder / 'whole', self.folder / 'run')
        workdir = self.folder / 'run' / 'run'
        files = sorted(p for p in workdir.rglob('*.json*') if p.parent.parent.name != 'history')
        where = faults.doctor(self.draw.choice(files), self.draw)
        done = self.job(workdir)
        good = done.returncode in (0, 2) and done.stderr.count('\n') <= 1
        end = 'traceback' if not good else 'one line' if done.returncode else 'right'
        changed = difference({'history': tiny.outcome(workdir)[1]}, {'history': self.whole['history']})
        end = 'silently wrong' if end == 'right' and changed else end
        self.note('doctored JSON', end, f'{where}: {changed} {done.stderr.strip()[-300:]}')

    def of_earlier(self, workdir: Path, path: Path, name: Path) -> None:
        """Of an earlier stage: nothing can write it again, and who reads it is told."""
        damaged = path.read_bytes()
        done = self.job(workdir)
        good = done.returncode in (0, 2) and done.stderr.count('\n') <= 1 and path.read_bytes() == damaged
        path.write_bytes((self.folder / 'whole' / 'run' / name).read_bytes())
        wrong = not done.returncode and difference(said(workdir), self.whole)
        end = 'silently wrong' if wrong else ('one line' if done.returncode else 'right') if good else 'traceback'
        self.note('wrong bit', end, f'{name}: {wrong} {done.stderr[-300:]}')

    def two_writers(self) -> None:
        workdir = self.fresh('run')
        both = [self.start(workdir, *NOTHING) for _ in range(2)]
        errors = [process.communicate(timeout=600)[1] for process in both]
        codes = [process.returncode for process in both]
        clear = all(not code or (code == 2 and err.count('\n') == 1) for code, err in zip(codes, errors, strict=True))
        if not clear or 0 not in codes:
            self.note('two writers', 'traceback', f'{codes} {errors}')
            return
        self.judged('two writers', workdir, f'exit codes {codes}')

    def reader(self) -> None:
        """Polls while a whole log is distilled."""
        workdir = self.folder / 'run' / 'run'
        shutil.rmtree(workdir.parent, ignore_errors=True)
        reads, mixed, other = Counter(), 0, []
        with self.start(workdir, *NOTHING) as process:
            while process.poll() is None:
                time.sleep(0.002)
                try:
                    found = load_memory(workdir / 'memory')
                    reads[found.manifest['stage']] += 1
                    mixed += found.rows['stage'].to_numpy().max() > found.manifest['stage']
                except UserError as error:
                    reads['refused'] += 'is missing' not in str(error)
                except Exception as error:  # whatever it is, it is counted
                    other.append(repr(error))
        for end, n in (('right', sum(reads.values()) - reads['refused']), ('one line', reads['refused'])):
            self.table.setdefault('reads meanwhile', Counter())[end] += n
        if mixed or other:
            self.note('reads meanwhile', 'silently wrong' if mixed else 'traceback', str(other[:1]))
        self.judged('a day after a reader', workdir, '')

    def run(self, minutes: float) -> bool:
        """All kinds in turn until the time is up. Whether nothing was wrong."""
        end, turns = time.time() + 60 * minutes, 0
        kinds = [
            *(lambda kind=kind: self.stopped(kind) for kind in ('kill', 'full', 'term')),
            self.wrong_bit,
            *(lambda number=number: self.at_some_time(number) for number in (signal.SIGKILL, signal.SIGTERM)),
            self.wrong_bit,
            self.doctored,
            self.small_disk,
            self.two_writers,
            self.wrong_bit,
            self.doctored,
            self.reader,
            self.read_only,
        ]
        while time.time() < end:
            kinds[turns % len(kinds)]()
            turns += 1
        print(f'\n{"":28}' + ''.join(f'{head:>16}' for head in ('tried', *ENDS)))
        for what, counts in self.table.items():
            print(f'{what:28}' + ''.join(f'{n:16}' for n in (sum(counts.values()), *(counts[end] for end in ENDS))))
        return not any(counts[end] for counts in self.table.values() for end in ENDS[2:])


def said(workdir: Path) -> dict:
    """What must come out: every byte of the memories, of the export, and of the answers but for seconds."""
    found = dict(zip(('memory', 'history', 'metrics'), tiny.outcome(workdir), strict=True))
    found['export'] = {
        k: v for k, v in tiny.contents(workdir.with_name('run-export')).items() if k.endswith('.parquet')
    }
    for path in sorted(workdir.rglob('*.json')):
        if path.name in ('evaluate.json', 'compare.json') or path.parent.name == 'candidates':
            found[str(path.relative_to(workdir))] = timeless(json.loads(path.read_text()))
    return found


def timeless(tree):
    if isinstance(tree, dict):
        return {
            k: timeless(v)
            for k, v in tree.items()
            if k not in CLOCKS and 'seconds' not in k and not str(v).startswith('/')
        }
    return [timeless(x) for x in tree] if isinstance(tree, list) else None if str(tree).startswith('/') else tree


def difference(found: dict, wanted: dict) -> str:
    return ', '.join(key for key in wanted if found.get(key) != wanted[key])


def leftovers(folder: Path) -> str:
    return ', '.join(str(p) for p in folder.rglob('*') if p.suffix in ('.part', '.old') or p.name in ('part', 'lock'))


def same_json(path: Path, other: Path) -> bool:
    """Whether a wrong bit is in the layout of a file only."""
    try:
        return path.suffix == '.json' and json.loads(path.read_text()) == json.loads(other.read_text())
    except ValueError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=30.0)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    os.environ['DIET_FSYNC'] = '0'
    with tempfile.TemporaryDirectory(prefix='torture-') as folder:
        sys.exit(not Torture(Path(folder), args.seed).run(args.minutes))


if __name__ == '__main__':
    main()
