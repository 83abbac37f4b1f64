"""The launchers as a user runs them: the main job, and one line for every mistake."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import one_device
from tiny import DAYS, contents

from diet_jax.base.atomic import write_json

REPO = Path(__file__).resolve().parent.parent
TINY = REPO / 'tests' / 'tiny.py'


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
    """One CPU device."""
    path = os.pathsep.join([str(REPO), *filter(None, [os.environ.get('PYTHONPATH')])])
    return one_device(XDG_CACHE_HOME=str(tmp_path_factory.mktemp('cache')), PYTHONPATH=path)


def _command(script, *flags):
    return [sys.executable, str(REPO / 'scripts' / f'{script}.py'), *map(str, flags)]


def _run(environment, script, *flags, cwd=REPO):
    return subprocess.run(
        _command(script, *flags), env=environment, cwd=cwd, capture_output=True, text=True, timeout=300
    )


def test_the_main_job(environment, tmp_path):
    """Interrupted, run again, run once more with nothing to do, evaluated."""
    flags = (f'--config={TINY}', f'--workdir={tmp_path / "run"}')
    with subprocess.Popen(
        _command('distill', *flags), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        said = next(line for line in process.stdout if 'stage 1/4' in line)  # seen at once, though a pipe
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert 'block 2024-01-01  AUC 0.' in said and said.startswith('distilling: ')
    assert process.returncode == 130 and err == 'interrupted: run the same command again to go on\n'

    result = _run(environment, 'distill', *flags)
    assert (result.returncode, result.stderr) == (0, '')
    lines = [json.loads(line) for line in (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()]
    assert [line['block'] for line in lines] == list(DAYS)
    overhead = json.loads((tmp_path / 'run' / 'overhead.json').read_text())
    assert overhead['block'] == DAYS[3] and overhead['peak_memory_bytes'] > 1e7
    parts = ['reference', 'twins', 'codebook', 'influence', 'addressing', 'refinement', 'check', 'stage']
    assert list(overhead['components']) == parts and min(overhead['components'].values()) > 0
    ratio = (overhead['distill_seconds'] - overhead['reference_seconds']) / overhead['reference_seconds']
    assert overhead['overhead'] == ratio
    assert overhead['distill_seconds'] == sum(x['seconds']['read'] + x['seconds']['stage'] for x in lines)
    assert (tmp_path / 'run' / 'report.html').stat().st_size > 10_000

    before = contents(tmp_path / 'run')
    result = _run(environment, 'distill', *flags)
    assert result.returncode == 0 and f'nothing left to do: all 4 blocks, up to {DAYS[3]}' in result.stdout
    assert contents(tmp_path / 'run') == before

    result = _run(environment, 'evaluate', *flags, "--config.evaluate.candidates=('lr',)")
    assert (result.returncode, result.stderr) == (0, '')
    assert 'Stage 2, tuned on 2024-01-03, scored once on 2024-01-04, 32 memory rows' in result.stdout
    evaluated = json.loads((tmp_path / 'run' / 'evaluate.json').read_text())
    assert [s['stage'] for s in evaluated['stages']] == [1, 2] and 'scripts/evaluate.py' in evaluated['command']
    after = contents(tmp_path / 'run')
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {'evaluate.json', 'report.html', 'log.txt'} and b'lr' in after['report.html']


# Runs many commands in one process that has imported everything: a fork for each, as quick as a command can be.
FORKS = """
import json, os, runpy, sys, warnings
warnings.simplefilter('ignore')
import diet_jax.commands.doors
results = []
for argv in json.load(sys.stdin):
    out, err = os.memfd_create('out'), os.memfd_create('err')
    if os.fork() == 0:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.argv = argv
        runpy.run_path(argv[0], run_name='__main__')
        sys.exit(0)
    code = os.waitstatus_to_exitcode(os.wait()[1])
    results.append([code, *(os.pread(f, 1 << 20, 0).decode() for f in (out, err))])
json.dump(results, sys.stdout)
"""


def _run_all(environment, commands, cwd):
    commands = json.dumps([_command(*command)[1:] for command in commands])
    done = subprocess.run(
        [sys.executable, '-c', FORKS], env=environment, cwd=cwd, input=commands, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


CONFIGS = {
    'raises.py': 'def get_config():\n    return 1 / 0\n',
    'broken.py': 'def get_config(:\n',
    'empty.py': 'x = 1\n',
    'number.py': 'def get_config():\n    return 3\n',
    'typo.py': 'config.memory.row_bugdet = 0.1',
    'type.py': 'config.memory.row_budget = "1 %"',
    'files.py': 'config.data.update(source="files", root="/no/such/folder", log=("log.csv",))',
}

IDEAS = """
from ml_collections import ConfigDict


def get_config():
    return ConfigDict(dict(dim=2))


def sweep(add):
    add('fm', model='fm')
"""


def test_one_line_for_every_mistake(environment, distilled, tmp_path):
    for name, text in CONFIGS.items():
        if not text.startswith(('def', 'x')):
            loader = f'from importlib.machinery import SourceFileLoader\ntiny = SourceFileLoader("tiny", {str(TINY)!r})'
            loader += '.load_module()\n\n\ndef get_config():\n    config = tiny.get_config()\n    '
            text = f'{loader}{text}\n    return config\n'
        (tmp_path / name).write_text(text)
    (tmp_path / 'file').write_text('')
    (tmp_path / 'ideas.py').write_text(IDEAS)
    run = shutil.copytree(distilled, tmp_path / 'run')
    for name, folder in (('old', 'history/00001'), ('older', 'memory')):
        path = Path(shutil.copytree(distilled, tmp_path / name)) / folder / 'manifest.json'
        write_json(path, {**json.loads(path.read_text()), 'format': 0})

    config, new = f'--config={TINY}', f'--workdir={tmp_path / "new"}'
    here = lambda name: f'--config={tmp_path / name}'  # noqa: E731
    asked = (f'--memory={run / "memory"}', f'--candidates={tmp_path / "ideas.py"}')
    cases = [
        # script, flags, what the line must name
        ('distill', (config, new, '--config.memory.row_bugdet=1'), "no key 'row_bugdet' (did you mean 'row_budget'?)"),
        ('distill', (config, new, '--config.memory.row_budget=abc'), '--config.memory.row_budget=abc'),
        ('distill', (config, new, '--config.evaluate.candidates=lr,mlp'), "('lr', 'mlp')"),
        ('distill', (config, new, '--config.reference.model=deepfn'), "no model is named 'deepfn'"),
        ('distill', (here('none.py'), new), 'none.py: there is no such file'),
        ('distill', (here('raises.py'), new), 'raises.py line 2: ZeroDivisionError: division by zero'),
        ('distill', (here('broken.py'), new), 'broken.py line 1: invalid syntax'),
        ('distill', (here('empty.py'), new), 'empty.py'),
        ('distill', (here('number.py'), new), 'number.py: its get_config() must return a ConfigDict'),
        ('distill', (here('typo.py'), new), "config.memory has no key 'row_bugdet' (did you mean 'row_budget'?)"),
        ('distill', (here('type.py'), new), 'type.py line 7: TypeError: '),
        ('distill', (here('files.py'), new), "'/no/such/folder' is not a folder: set data.root"),
        ('distill', (config,), '--workdir'),
        ('distill', (config, '--workdir='), '--workdir is empty'),
        ('distill', (new,), '--config'),
        ('distill', (config, new, 'again'), "'again' is not a flag"),
        ('distill', (config, new, '--confg.seed=1'), 'confg.seed'),
        ('distill', (config, new, '--processes=2'), '--coordinator=host:port, --processes and --process go together'),
        ('distill', (config, new, '--coordinator=here', '--processes=2', '--process=0'), 'here is not host:port'),
        ('distill', (config, f'--workdir={tmp_path / "file"}'), 'file is a file'),
        ('distill', (config, f'--workdir={run}', '--config.seed=7'), 'seed was 0 when this memory was begun and is 7'),
        ('distill', (config, f'--workdir={tmp_path / "older"}'), 'older/memory/manifest.json is of format 0'),
        ('evaluate', (config, new), 'new holds no memory: run scripts/distill.py'),
        ('evaluate', (config, f'--workdir={tmp_path / "old"}'), 'old/history/00001/manifest.json is of format 0'),
        ('evaluate', (config, f'--workdir={run}', f'--config.data.until={DAYS[1]}'), 'the log has 2 blocks'),
        ('evaluate', (config, f'--workdir={run}', f'--replicates={run}'), 'adds nothing'),
        ('compare', (*asked, '--fail_if=fm worse than lr'), "--fail_if='fm worse than lr' is not '<name> worse than"),
        ('compare', (*asked, '--fail_if=fn worse than lr with probability 0.9'), "'fn' is none of the candidates"),
        ('describe', (), '--root'),
        ('describe', ('--root=',), '--root is empty: name the folder of the log files'),
        ('describe', ('--root=none',), "'none' is not a folder: set --root to the folder of the log files"),
        ('describe', (f'--root={tmp_path}', '--out=mine.txt'), '--out=mine.txt: a config is a Python file'),
        ('compare', (*asked, '--margin=-1'), '--margin=-1.0: a difference in AUC'),
    ]
    before = contents(tmp_path)
    results = _run_all(environment, [(script, *flags) for script, flags, _ in cases], tmp_path)
    for (script, flags, culprit), (code, out, err) in zip(cases, results):
        said = f'{script} {flags}:\n{out}{err}'
        assert code == 2, said
        lines = err.splitlines()
        assert len(lines) == 1 and lines[0].startswith('error: ') and culprit in lines[0], said
        assert 'Traceback' not in out + err, said
    assert contents(tmp_path) == before and not (tmp_path / 'new').exists()


def test_a_rule_that_holds_is_an_exit_code_of_its_own(environment, distilled, tmp_path):
    """3 where a check fails, neither 0 nor the 2 of a mistake: CI can tell them apart."""
    run = shutil.copytree(distilled, tmp_path / 'run')
    (tmp_path / 'ideas.py').write_text(IDEAS)
    flags = (f'--memory={run / "memory"}', f'--candidates={tmp_path / "ideas.py"}')
    rules = [f'--fail_if=fm worse than lr{by} with probability 0.00001' for by in ('', ' by 0.9')]
    done = _run(environment, 'compare', *flags, *rules)
    assert (done.returncode, done.stderr) == (3, '')
    failed, passed = done.stdout.splitlines()[-2:]
    assert failed.startswith('check FAILED: fm is worse than lr on the full log with probability')
    assert passed.startswith('check passed: fm is worse than lr by more than 0.9 AUC on the full log with')
    kept = json.loads((run / 'compare' / 'ideas' / 'compare.json').read_text())
    assert [rule['fails'] for rule in kept['rules']] == [True, False]
