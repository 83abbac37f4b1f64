"""A command ends at once, in one line, whatever it is doing when it is told to. Ctrl-C in a stage: test_scripts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
DISTILL = [sys.executable, str(REPO / 'scripts' / 'distill.py'), f'--config={REPO / "tests" / "tiny.py"}']


def _ends(process, number: int) -> str:
    """What is said on stderr of a process that is sent a signal; it has two seconds."""
    process.send_signal(number)
    start = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - start < 2 and process.returncode == 128 + number
    return err


def _started(workdir, number, **more) -> subprocess.Popen:
    """Distilling has begun, far enough to take a signal; one that the tests' own shell ignores is not ignored."""
    env = {**os.environ, 'XDG_CACHE_HOME': str(workdir / 'cache'), 'PYTHONPATH': str(REPO)}
    process = subprocess.Popen(
        [*DISTILL, f'--workdir={workdir / "run"}'],
        env={k: v for k, v in env.items() if k not in ('XLA_FLAGS', 'JAX_COMPILATION_CACHE_DIR')},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=more.get('before', lambda: signal.signal(number, signal.SIG_DFL)),
    )
    while not _takes(process.pid, signal.SIGTERM):
        time.sleep(0.005)
    return process


def _takes(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    status = Path(f'/proc/{pid}/status').read_text()
    caught = int(status.partition('SigCgt:')[2].split()[0], 16)
    return bool(caught >> (number - 1) & 1)


needs_proc = pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='asks /proc what a process handles')


@needs_proc
@pytest.mark.parametrize(
    'number, said',
    [(signal.SIGINT, 'interrupted'), (signal.SIGTERM, 'ended by SIGTERM'), (signal.SIGHUP, 'ended by SIGHUP')],
)
def test_during_the_imports(tmp_path, number, said):
    assert _ends(_started(tmp_path, number), number) == f'{said}: run the same command again to go on\n'
    assert not (tmp_path / 'run').exists()


@needs_proc
def test_while_xla_compiles_where_python_runs_no_handler(tmp_path):
    process = _started(tmp_path, signal.SIGINT)
    next(line for line in process.stdout if line.startswith('compiling'))
    time.sleep(1.5)
    assert _ends(process, signal.SIGINT) == 'interrupted: run the same command again to go on\n'
    assert not (tmp_path / 'run' / 'metrics.jsonl').exists()


@needs_proc
def test_a_signal_that_was_ignored_stays_ignored(tmp_path):
    """nohup: a closed terminal does not end the run."""
    process = _started(tmp_path, signal.SIGHUP, before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    assert _ends(process, signal.SIGTERM) == 'ended by SIGTERM: run the same command again to go on\n'
