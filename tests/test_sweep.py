"""scripts/sweep.py as a user runs it, over fake runs that take no time."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import contents

from diet_jax.base.errors import UserError
from diet_jax.config.defaults import default_config
from diet_jax.report import sweep as report
from diet_jax.run import sweep
from diet_jax.stats.summaries import summary

REPO = Path(__file__).resolve().parent.parent

# A run: prints, fails, sleeps as its config says; else writes the summary of scores that a fixed rule gives.
RUN = f"""
import json, os, signal, sys, time
from absl import app, flags
from ml_collections import config_flags
sys.path.insert(0, {str(REPO)!r})
from diet_jax.stats.summaries import summary
config_flags.DEFINE_config_file('config')
flags.DEFINE_string('workdir', None, '')

def main(_):
    c, workdir = flags.FLAGS.config, flags.FLAGS.workdir
    with open(os.path.join(workdir, 'ran.txt'), 'a') as f:
        print(c.memory.row_budget, c.names, c.word, c.trends.confirmation, c.steps, file=f)
    if c.fail:
        print('first line')
        sys.exit('error: the log lies elsewhere')
    if c.nap:
        print('asleep', flush=True)
        time.sleep(c.nap)
    n = c.pool
    full = [[0.6 + 0.01 * i, 0.6 + 0.01 * i + 0.0002] for i in range(n)]
    kept = 1 - 0.1 / (1 + 1000 * c.memory.row_budget)
    memory = [[[0.5 + kept * (f[0] - 0.5) + 0.001 * d] for d in range(2)] for f in full]
    rows = [dict(name=str(i), full=dict(auc=full[i]), memory=dict(auc=memory[i])) for i in range(n)]
    result = dict(
        candidates=rows,
        summary=dict(development=dict(auc=summary(rows, resamples=20))),
        protocol=dict(cost_ratio=60.0, row_budget=c.memory.row_budget),
    )
    with open(os.path.join(workdir, 'trends.json'), 'w') as f:
        json.dump(result, f)

app.run(main)
"""
STUDY = """
from ml_collections import ConfigDict

SCRIPT = {script!r}

def get_config(arg=''):
    c = ConfigDict(dict(fail=False, nap=0.0, pool=9, steps=3, word='w', names=('lr', 'fm'), data=dict(root='here')))
    c.memory = ConfigDict(dict(row_budget=0.01, capacity=0))
    c.trends = ConfigDict(dict(confirmation=True))
    c.pool = 3 if arg == 'smoke' else 9
    return c

def sweep(add):
{body}
"""
BUDGET = "    for b in (0.02, 0.001, 0.005):\n        add(f'budget={b}', **{'memory.row_budget': b})"
MIXED = """    add('all of it')
    add('names', **{'names': ('lr',), 'word': "it's $HOME", 'trends.confirmation': False, 'steps': 0})
    add('small|pool', pool=3)"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Writes a sweep file with this body of sweep(add), and gives its path."""
    monkeypatch.setattr(sys, 'dont_write_bytecode', True)  # which a file rewritten within a second would be taken for
    (tmp_path / 'run.py').write_text(RUN)

    def write(body, name='study.py', script=None):
        path = tmp_path / name
        path.write_text(STUDY.format(script=script or str(tmp_path / 'run.py'), body=body))
        return path

    return write


def _command(config, workdir, *more):
    return [sys.executable, str(REPO / 'scripts' / 'sweep.py'), f'--config={config}', f'--workdir={workdir}', *more]


def _sweep(config, workdir, *more):
    return subprocess.run(_command(config, workdir, *more), cwd=REPO, capture_output=True, text=True, timeout=120)


def _run(study, processes=1):
    """As the command does, and says nothing."""
    write = lambda study: report.write(study.workdir, sweep.results(study))  # noqa: E731
    return sweep.run(study, processes, write=write, emit=lambda line: None)


def _ran(folder):
    return (folder / 'ran.txt').read_text().splitlines()


def test_a_budget_sweep_runs_once_and_only_once(study, tmp_path):
    """All points run, two at a time; the table and the picture hold what the summaries say; a second call adds none."""
    config, out = study(BUDGET), tmp_path / 'out'
    result = _sweep(config, out, '--processes=2', '--config.steps=7', '--config.data.root=there')
    assert (result.returncode, result.stderr) == (0, '')
    for budget in ('0.02', '0.001', '0.005'):
        assert _ran(out / f'budget={budget}') == [f"{budget} ('lr', 'fm') w True 7"]
        assert f'budget={budget} done in ' in result.stdout
    assert '3/3 budget=' in result.stdout

    rows = json.loads((out / 'sweep.json').read_text())
    assert rows['set'] == 'development' and [row['row_budget'] for row in rows['points']] == [0.02, 0.001, 0.005]
    lines = [line.strip('| ').split('|') for line in (out / 'sweep.md').read_text().splitlines() if line[:1] == '|']
    table = [dict(zip(map(str.strip, lines[0]), map(str.strip, line))) for line in lines[2:]]
    assert [row['point'] for row in table] == ['budget=0.02', 'budget=0.001', 'budget=0.005']
    for row, cells in zip(rows['points'], table):
        found = json.loads((Path(row['folder']) / 'trends.json').read_text())
        side = summary(found['candidates'], resamples=20)['memory']
        assert row['sets']['development'] == json.loads(json.dumps(side)) and row['cost_ratio'] == 60.0
        kept, lost = side['retention_mean'], side['regret']
        assert cells['retention_mean'] == f'{kept["mean"]:.3f} ± {kept["sd"]:.3f}' and kept['sd'] > 0.001
        assert cells['regret'] == f'{lost["mean"]:.4f} ± {lost["sd"]:.4f}'
        assert cells['tau_sig'] == '1.000 ± 0.000' and cells['tau_sig_hard'] == 'undefined: 0 hard pairs, 30 needed'
        assert cells['row_budget'] == f'{row["row_budget"]:g}'
        assert (cells['cost_ratio'], cells['distillations']) == ('60', '2')
    assert (out / 'sweep.png').read_bytes().startswith(b'\x89PNG')

    before = contents(out)
    again = _sweep(config, out, '--config.steps=7', '--config.data.root=elsewhere')  # the log may have moved
    assert again.returncode == 0 and '3 of 3 points are finished' in again.stdout
    assert contents(out) == before

    (out / 'budget=0.001' / 'trends.json').unlink()
    assert _run(sweep.read(str(config), {'steps': 7}, out)) == {}
    assert [len(_ran(out / f'budget={b}')) for b in ('0.02', '0.001', '0.005')] == [1, 2, 1]


def test_values_arrive_as_they_are_meant(study, tmp_path):
    """Tuples, quotes, booleans and zeros reach the run; `:arg` reaches get_config; missing figures are dashes."""
    config, out = study(MIXED), tmp_path / 'out'
    read = lambda: sweep.read(f'{config}:smoke', {}, out)  # noqa: E731
    assert _run(read(), 3) == {}
    assert _ran(out / 'all of it') == ["0.01 ('lr', 'fm') w True 3"]
    assert _ran(out / 'names') == ["0.01 ('lr',) it's $HOME False 0"]
    page = (out / 'sweep.md').read_text()
    assert 'small\\|pool' in page and page.count('undefined: 3 significant pairs, 30 needed') == 3
    (out / 'names' / 'trends.json').write_text('{}')
    assert _run(read()) == {}
    line = next(line for line in (out / 'sweep.md').read_text().splitlines() if '| names' in line)
    assert [cell.strip() for cell in line.strip('| ').split('|')] == ['names', *9 * '-']


def test_printed_commands_run_as_they_stand(study, tmp_path):
    """Every line is a command of a shell; what they did is known to the sweep afterwards, which runs the rest."""
    config, out = study(MIXED), tmp_path / 'out'
    result = _sweep(config, out, '--print_commands')
    assert (result.returncode, result.stderr) == (0, '') and not list(out.glob('*/*.txt'))
    lines = result.stdout.splitlines()
    assert len(lines) == 3 and all(shlex.split(line)[0] == sys.executable for line in lines)
    for line in lines[:2]:
        subprocess.run(line, shell=True, cwd=REPO, check=True)
    assert _sweep(config, out, '--print_commands').stdout.splitlines() == lines[2:]
    result = _sweep(config, out)
    assert result.returncode == 0 and '2 of 3 points are finished\nsweep: 3/3 small|pool done in ' in result.stdout
    assert [len(_ran(out / name)) for name in ('all of it', 'names', 'small|pool')] == [1, 1, 1]
    assert _ran(out / 'names') == ["0.01 ('lr',) it's $HOME False 0"]


def test_a_failing_point_stops_no_other(study, tmp_path):
    """Its exit code and last line are said; run again it is tried again; mended in the file, it is a point as any."""
    body = "    add('good')\n    add('bad', fail={})\n    add('late')"
    config, out = study(body.format(True)), tmp_path / 'out'
    read = lambda fail: sweep.read(str(study(body.format(fail))), {}, out)  # noqa: E731
    result, words = _sweep(config, out), 'exit code 1: error: the log lies elsewhere'
    assert (result.returncode, result.stderr) == (1, f'failed: bad: {words}\n')
    assert _run(read(True)) == {'bad': words}
    assert [len(_ran(out / name)) for name in ('good', 'bad', 'late')] == [1, 2, 1]
    assert '/3 bad failed after ' in result.stdout and '3/3 ' in result.stdout
    assert '- bad: exit code 1\n' in (out / 'sweep.md').read_text()
    (out / 'bad' / 'ran.txt').unlink()  # a run that left nothing binds nothing
    assert _run(read(False)) == {}


def test_an_interrupt_stops_the_points_too(study, tmp_path):
    """Ctrl-C and kill: a line and a code of their own, no run survives, and the same command goes on."""
    config, out = study("    add('quick')\n    add('nap', nap=60.0)"), tmp_path / 'out'
    for sent, said in ((signal.SIGINT, 'interrupted'), (signal.SIGTERM, 'ended by SIGTERM')):
        with subprocess.Popen(_command(config, out), cwd=REPO, stderr=subprocess.PIPE, text=True) as process:
            end, log = time.monotonic() + 60, out / 'nap' / 'sweep-log.txt'
            while not (log.exists() and log.read_text().splitlines()[-1:] == ['asleep']):
                assert time.monotonic() < end
                time.sleep(0.05)
            process.send_signal(sent)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + sent and err == f'{said}: run the same command again to go on\n'
        text = log.read_text()
        assert 'KeyboardInterrupt' in text.splitlines()[-1]  # the run ended before the sweep did
        log.write_text('')
    assert not (out / 'nap' / 'trends.json').exists() and len(_ran(out / 'quick')) == 1
    assert json.loads((out / 'nap' / 'point.json').read_text())['exit_code'] is None


CASES = [
    # body of sweep(add), what the line must name
    ("    add('a', **{'memory.row_bugdet': 1})", "the config has no key 'memory.row_bugdet' (did you mean"),
    ("    add('ok')\n    add('a', memory=1)", "point 'a': 'memory' is a section of the config (there are: "),
    ("    add('a', **{'steps.more': 1})", "no key 'steps.more'"),
    ("    add('a', steps=0.5)", "point 'a': steps cannot be 0.5 (float): the config has 3 (int) there"),
    ("    add('a', **{'memory.row_budget': '1 %'})", "memory.row_budget cannot be '1 %' (str)"),
    ("    add('a', **{'memory.row_budget': '0.1'})", "memory.row_budget cannot be '0.1' (str)"),
    ("    add('a', names='lr')", "names cannot be 'lr' (str): the config has ('lr', 'fm') (tuple)"),
    ("    add('a', word=None)", 'word cannot be None'),
    ("    add('a', **{'trends.confirmation': 'maybe'})", "trends.confirmation cannot be 'maybe'"),
    ("    add('a')\n    add('a', steps=1)", "'a' is named twice"),
    ("    add('../a')", "point '../a': a name becomes a folder"),
    ('    add(steps=1)', 'study.py line 14: TypeError: '),
    ('    1 / 0', 'study.py line 14: ZeroDivisionError'),
    ('    pass', 'adds no point'),
]


def test_mistakes_are_found_before_anything_runs(study, tmp_path):
    for body, culprit in CASES:
        with pytest.raises(UserError) as error:
            sweep.read(str(study(body)), {}, tmp_path / 'out')
        assert culprit in str(error.value) and str(tmp_path / 'study.py') in str(error.value), error.value
    with pytest.raises(
        UserError, match=f'SCRIPT is scripts/nothing.py: .* there is no file {tmp_path}/scripts/nothing.py'
    ):
        sweep.read(str(study('    pass', script='scripts/nothing.py')), {}, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    result = _sweep(study(CASES[0][0]), tmp_path / 'out', '--processes=2')
    lines = result.stderr.splitlines()
    assert result.returncode == 2 and len(lines) == 1 and lines[0].startswith('error: ') and 'row_bugdet' in lines[0]


def test_a_point_is_run_by_a_command_of_the_library_or_by_a_script_beside_the_study(study, tmp_path):
    def command(script):
        config = str(study("    add('a')", script=script))
        return sweep.read(config, {}, tmp_path / 'out').points[0].command

    for name in ('trends', 'distill', 'evaluate'):
        assert command(name)[:3] == [sys.executable, '-m', f'diet_jax.commands.{name}']
    assert command('run.py')[:2] == command(str(tmp_path / 'run.py'))[:2] == [sys.executable, str(tmp_path / 'run.py')]


def test_the_folder_of_another_run_is_refused(study, tmp_path):
    """Other overrides, another base config, another script, or no sweep at all."""
    body = "    add('a', steps={})"
    first = sweep.read(str(study(body.format(1))), {}, tmp_path / 'out')
    sweep.note(first, first.points[0])
    read = lambda config, **common: sweep.read(str(config), common, tmp_path / 'out')  # noqa: E731
    read(study(body.format(2)))  # nothing has run yet
    (tmp_path / 'out' / 'a' / 'trends.json').write_text('{}')
    assert sweep.unfinished(read(study(body.format(1)))) == []
    sweep.note(first, first.points[0], exit_code=1)  # a run that ended badly after it wrote its result
    assert sweep.outcome(first, first.points[0]) == 'exit code 1'
    assert len(sweep.commands(first)) == len(sweep.commands(first)) == 1
    with pytest.raises(UserError, match="a/point.json: steps was 1 when point 'a' was begun and is 2 now"):
        read(study(body.format(2)))
    with pytest.raises(UserError, match='a/point.json: word was .w. when .* and is .v. now'):
        read(study(body.format(1)), word='v')
    (tmp_path / 'other.py').write_text('')
    with pytest.raises(UserError, match='SCRIPT was'):
        read(study(body.format(1), script=str(tmp_path / 'other.py')))
    (tmp_path / 'out' / 'a' / 'point.json').unlink()
    with pytest.raises(UserError, match='a holds trends.json and no point.json'):
        read(study(body.format(1)))


def test_one_numeric_key_is_an_axis(study, tmp_path):
    """A point without the override stands at the base's value; two keys, or words, or a zero, are bars."""

    def axis(body):
        found = sweep.results(sweep.read(str(study(body)), {}, tmp_path / 'out'))
        return report._numeric_key(report.rows_of(found))

    assert axis(f"    add('base')\n{BUDGET}") == ('memory.row_budget', [0.01, 0.02, 0.001, 0.005])
    for body in (MIXED, "    add('a')\n    add('b', word='v')", "    add('a')\n    add('b', steps=0)", "    add('a')"):
        assert axis(body) == ('', [])


def _points(name):
    """name -> overrides, of a study of the repository, without its base config."""
    source, points, scope = (REPO / 'configs' / 'sweeps' / f'{name}.py').read_text(), {}, {}
    exec(source[source.index('def sweep(') :], scope)
    scope['sweep'](lambda name, /, **overrides: points.update({name: overrides}))
    return points


def test_the_studies_of_the_repository():
    """Their points, of whatever base config: names and keys."""
    for name in ('budget', 'ablation'):
        points = _points(name)
        assert len(points) == {'budget': 5, 'ablation': 9}[name]
        for key in {key for overrides in points.values() for key in overrides if not key.startswith('trends.')}:
            section, _, last = key.partition('.')
            assert last in default_config()[section], key
