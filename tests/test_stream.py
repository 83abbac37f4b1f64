"""The driver: what a day costs, what a crash leaves, what may be deleted, and what comes out is always the same."""

import json
import re
import shutil
import threading
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from tiny import DAYS, ROWS, contents, distill, outcome

from diet_jax.artifact.read import load_memory
from diet_jax.base.errors import UserError
from diet_jax.data import sources
from diet_jax.data.prepared import EncodedStream
from diet_jax.run import driver
from diet_jax.run.record import read_metrics
from diet_jax.run.run import Run, replicate

KEYS = {
    'stage': (),
    'block': (),
    'rows': (),
    'rows_seen': (),
    'rows_per_second': (),
    'seconds': ('read', 'stage', 'compile', 'save', 'total'),
    'reference': ('auc', 'logloss', 'gauc', 'train_loss'),
    'codebook': ('slots', 'new_slots', 'moved'),
    'influence': ('rows_mean', 'memory_mean', 'positive_share'),
    'addressing': ('kept', 'modified', 'replaced', 'admitted'),
    'refinement': ('proposed', 'accepted', 'loss_before', 'loss_after', 'meta_gradient_norm'),
    'memory': ('rows', 'row_budget', 'bytes', 'byte_budget', 'byte_budget_raw', 'mass'),
}


@pytest.fixture(scope='module')
def three_days(tmp_path_factory) -> Path:
    """The tiny run as it stood a day earlier; to be copied."""
    workdir = tmp_path_factory.mktemp('three') / 'run'
    distill(workdir, _until(DAYS[2]))
    return workdir


@pytest.fixture
def loaded(monkeypatch) -> list[int]:
    """The blocks opened from here on, 0-based."""
    seen, load = [], EncodedStream.load
    monkeypatch.setattr(EncodedStream, 'load', lambda self, t: (seen.append(t), load(self, t))[1])
    return seen


def _until(day):
    config = tiny.get_config()
    config.data.until = day
    return config


def _blocks(count):
    config = tiny.get_config()
    config.data.simulated.blocks = count
    return config


def _copy(workdir, tmp_path) -> Path:
    return Path(shutil.copytree(workdir, tmp_path / 'run'))


def test_metrics_have_every_number_and_they_add_up(distilled):
    lines = read_metrics(distilled)
    assert [line['block'] for line in lines] == list(DAYS) and [line['stage'] for line in lines] == [1, 2, 3, 4]
    entries = slots = 0
    for t, line in enumerate(lines, 1):
        for key, inner in KEYS.items():
            for name in inner:
                assert isinstance(line[key][name], (int, float)), f'{key}.{name}'
        a, m = line['addressing'], line['memory']
        assert (line['rows'], line['rows_seen']) == (ROWS, t * ROWS)
        assert a['kept'] + a['modified'] + a['replaced'] == entries
        assert entries + a['admitted'] == m['rows'] == int(0.05 * t * ROWS)
        assert m['mass'] == t * ROWS, 'every row of the stream is absorbed by exactly one entry'
        assert m['row_budget'] == m['rows'] / (t * ROWS)
        manifest = json.loads((distilled / 'history' / f'{t:05d}' / 'manifest.json').read_text())
        assert m['bytes'] == manifest['budgets']['bytes']
        assert line['codebook']['slots'] == slots + line['codebook']['new_slots']
        assert line['refinement']['proposed'] == 2 and line['refinement']['accepted'] in (0, 1)
        better = line['refinement']['loss_after'] < line['refinement']['loss_before']
        assert line['refinement']['accepted'] == better, 'a refinement that does harm is dropped'
        s = line['seconds']
        assert s['total'] >= s['read'] + s['stage'] + s['compile'] > 0
        entries, slots = m['rows'], line['codebook']['slots']
    assert lines[-1]['addressing']['replaced'] > 0 and lines[-1]['addressing']['modified'] > 0


def test_a_second_run_says_so_and_touches_nothing(distilled, loaded):
    stamps = lambda: {p: p.stat().st_mtime_ns for p in distilled.rglob('*')}  # noqa: E731
    before, times, said = contents(distilled), stamps(), []
    run = distill(distilled, emit=said.append)
    assert said[-1] == f'nothing left to do: all 4 blocks, up to {DAYS[3]}, are in {distilled / "memory"}'
    assert contents(distilled) == before and stamps() == times and loaded == []
    assert run.done == 4 and int(run.state.stage) == 4


def test_a_stage_needs_no_past_block(distilled, tmp_path, loaded):
    def forget(stage):
        done = list((tmp_path / 'run' / 'blocks').glob(f'*/rows/{stage - 1:05d}.parquet'))
        assert len(done) == 1
        done[0].unlink()

    distill(tmp_path / 'run', after_stage=forget)
    assert not list(tmp_path.rglob('rows/*.parquet')) and loaded == [0, 1, 2, 3]
    assert outcome(tmp_path / 'run') == outcome(distilled)


@pytest.mark.parametrize('first', [_blocks(2), _until(DAYS[1])], ids=['log', 'until'])
def test_a_log_that_grew_gives_what_the_whole_log_gives(distilled, tmp_path, loaded, first):
    distill(tmp_path / 'run', first)
    early = contents(tmp_path / 'run' / 'history')
    assert {Path(p).parts[0] for p in early} == {'00001', '00002'}
    assert early.items() <= contents(distilled / 'history').items(), 'a stage knows nothing of later blocks'
    for old in (tmp_path / 'run').glob('blocks/*/rows/*'):
        old.unlink()
    loaded.clear()
    said = []
    distill(tmp_path / 'run', emit=said.append)
    assert loaded == [2, 3] and any('2 new blocks' in line for line in said)
    assert outcome(tmp_path / 'run') == outcome(distilled)


def test_capacities_grow_with_the_log(distilled, tmp_path):
    """21 days need more entries than the 256 that 4 days were sized for, and more slots: the old state lies in it."""
    workdir = _copy(distilled, tmp_path)
    old = tiny.opened(distilled).state
    config = _blocks(21)

    class Enough(Exception):
        pass

    def stop(stage):
        raise Enough

    run = tiny.opened(workdir, config)
    assert run.state.memory.count.shape == (512,) and old.memory.count.shape == (256,)
    for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(run.state)):
        np.testing.assert_array_equal(a, np.asarray(b)[tuple(slice(n) for n in a.shape)])
    fresh = run.initial()
    np.testing.assert_array_equal(run.state.memory.valid[256:], fresh.memory.valid[256:])
    assert not run.state.memory.valid[256:].any()
    with pytest.raises(Enough):
        distill(workdir, config, after_stage=stop)
    line = read_metrics(workdir)[-1]
    assert (line['stage'], line['memory']['mass'], line['memory']['rows']) == (5, 5 * ROWS, 80)
    assert contents(distilled / 'history').items() <= contents(workdir / 'history').items()


def test_another_seed_is_another_memory(distilled, tmp_path):
    config = tiny.get_config()
    config.seed = 1
    distill(tmp_path / 'run', config)
    assert (tmp_path / 'run' / 'memory' / 'rows.parquet').read_bytes() != (
        distilled / 'memory' / 'rows.parquet'
    ).read_bytes()
    run = tiny.opened(distilled)
    assert replicate(run, tmp_path / 'run').config.seed == 1
    with pytest.raises(UserError, match='was distilled with seed 0.*adds nothing'):
        replicate(run, distilled)


class Crash(BaseException):
    """As Ctrl-C or a lost machine: nothing catches it."""


def test_a_crash_after_a_stage_goes_on_from_it(distilled, tmp_path, loaded):
    def stop(stage):
        if stage == 2:
            raise Crash

    with pytest.raises(Crash):
        distill(tmp_path / 'run', after_stage=stop)
    assert loaded == [0, 1, 2], 'the third was read ahead'
    loaded.clear()
    distill(tmp_path / 'run')
    assert loaded == [2, 3] and outcome(tmp_path / 'run') == outcome(distilled)


def test_a_stage_runs_while_the_next_block_is_read_and_no_further_one(distilled, tmp_path, monkeypatch):
    """Reading of block t + 1 begins before the stage of block t, and ends, if it likes, after it."""
    begun, saved = [threading.Event() for _ in DAYS], [threading.Event() for _ in DAYS]
    read, late = Run.read, []

    def slow(self, t):
        begun[t].set()
        if t:
            late.append(saved[t - 1].wait(60) and not (t + 1 < len(DAYS) and begun[t + 1].is_set()))
        return read(self, t)

    monkeypatch.setattr(Run, 'read', slow)
    distill(tmp_path / 'run', after_stage=lambda stage: saved[stage - 1].set())
    assert late == [True] * 3, 'a stage was done, saved and reported while the next block was not there yet'
    assert outcome(tmp_path / 'run') == outcome(distilled)


def test_a_block_that_cannot_be_read_stops_the_run_when_its_turn_comes(distilled, tmp_path, monkeypatch):
    def raised(data, workdir, damage, emit):
        raise damage

    def damage(stage):
        if stage == 1:
            _truncate(next((tmp_path / 'run').glob('blocks/*/rows/00002.parquet')))

    with monkeypatch.context() as patch, pytest.raises(UserError, match='00002.parquet is damaged'):
        patch.setattr(driver, 'prepare_again', raised)  # the log is gone
        distill(tmp_path / 'run', after_stage=damage)
    assert len(read_metrics(tmp_path / 'run')) == 2, 'the two before it are done and saved'
    distill(tmp_path / 'run', emit=(said := []).append)
    assert any(line.endswith('00002.parquet is damaged or gone: the log is prepared again') for line in said)
    assert outcome(tmp_path / 'run') == outcome(distilled) and not list((tmp_path / 'run').rglob('*.part'))


def _truncate(path: Path):
    path.write_bytes(path.read_bytes()[:-40])


def _leftovers(workdir: Path):
    for name in ('checkpoint/part', 'memory.part', 'memory.old', 'history/00004.part'):
        (workdir / name).mkdir()
        (workdir / name / 'half').write_text('{')
    (workdir / 'checkpoint' / '.DS_Store').write_text('')
    (workdir / 'metrics.jsonl.part').write_text('{')


@pytest.mark.parametrize(
    'hand',
    [
        lambda w: shutil.rmtree(w / 'memory'),
        lambda w: (w / 'memory').rename(w / 'memory.old'),
        lambda w: (w / 'memory' / 'manifest.json').unlink(),
        lambda w: _truncate(w / 'metrics.jsonl'),
        lambda w: (w / 'metrics.jsonl').unlink(),
        lambda w: (w / 'log.txt').unlink(),
        _leftovers,
    ],
    ids=['memory gone', 'memory moved', 'manifest gone', 'metrics cut', 'metrics gone', 'log gone', 'leftovers'],
)
@pytest.mark.parametrize('when', ['finished', 'with a new day'])
def test_the_checkpoint_puts_the_rest_right(distilled, three_days, tmp_path, hand, when):
    workdir = _copy(distilled if when == 'finished' else three_days, tmp_path)
    hand(workdir)
    distill(workdir)
    assert outcome(workdir)[0] == outcome(distilled)[0] and outcome(workdir)[2] == outcome(distilled)[2]


def _fails(workdir, match, config=None):
    """The run stops with one line, and the workdir stays as it was."""
    before = contents(workdir)
    with pytest.raises(UserError, match=match) as caught:
        distill(workdir, config)
    assert contents(workdir) == before and '\n' not in str(caught.value)


def test_a_memory_goes_on_with_the_config_it_was_begun_with(distilled, tmp_path):
    for key, value in (('memory.row_budget', 0.1), ('seed', 3), ('data.simulated.users', 41)):
        config = tiny.get_config()
        config.update_from_flattened_dict({key: value})
        _fails(distilled, rf'00004/sizes.json: {key} was .* when this memory was begun and is {value} now', config)
    config = tiny.get_config()
    config.evaluate.seeds = 5
    assert distill(distilled, config).done == 4, 'how it is evaluated is free'
    workdir = _copy(distilled, tmp_path)
    before = contents(workdir)
    (workdir / 'config.json').unlink()
    distill(workdir)
    assert contents(workdir) == before, 'the checkpoint has it too'


def test_a_log_of_fewer_days_than_the_memory_has_seen(distilled):
    said = []
    run = distill(distilled, _until(DAYS[1]), said.append)
    assert run.done == 4 and re.search('has seen 4 blocks, more than the 2 up to 2024-01-02', said[-1])


def test_ids_that_would_mean_something_else_are_refused(distilled, tmp_path, monkeypatch):
    """The prepared blocks are deleted and the log has lost its first day: slots would be other ids than before."""
    workdir = _copy(distilled, tmp_path)
    shutil.rmtree(workdir / 'blocks')
    make, key = sources.simulate_block, sources.block_key
    monkeypatch.setattr(sources, 'simulate_block', lambda p, t: make(p, t + 1))
    monkeypatch.setattr(sources, 'block_key', lambda t: key(t + 1))
    with pytest.raises(UserError, match=f'block {DAYS[1]} .* is where the memory has seen block {DAYS[0]}'):
        distill(workdir)
    assert outcome(workdir) == outcome(distilled)


def test_a_checkpoint_of_an_earlier_version_goes_on_as_it_was_begun(tmp_path):
    """tests/earlier/version-0.1.zip: the tiny run's first two days, by the version and the Orbax calls of before.

    Its prepared blocks, bins among them, are of then, too.
    """
    workdir = tmp_path / 'run'
    with zipfile.ZipFile(Path(__file__).parent / 'earlier' / 'version-0.1.zip') as kept:
        kept.extractall(workdir)
    shutil.copytree(workdir / 'blocks', tmp_path / 'now' / 'blocks')
    said, config = [], tiny.get_config()
    config.reference.learning_rate = 2e-3  # as then
    config.refine.models = (dict(model='deepfm', hidden=(16,)),)
    with pytest.raises(UserError, match="reference.optimizer was 'lazy_adam' when this memory was begun and is 'adam'"):
        distill(workdir, config)
    config.reference.optimizer = 'lazy_adam'
    run, now = distill(workdir, config, emit=said.append), distill(tmp_path / 'now', config).workdir
    assert run.done == 4 and not any('damaged' in line for line in said)
    assert [line['block'] for line in read_metrics(workdir)] == list(DAYS)
    old, new = (load_memory(folder / 'memory') for folder in (now, workdir))
    assert old.manifest['rows_seen'] == new.manifest['rows_seen'] == 4 * ROWS
    # Another processor rounds otherwise, and a draw may flip: entries admitted by then are the same, nearly all.
    same = [a == b for a, b in zip(old.codes.tolist(), new.codes.tolist(), strict=True)]
    assert np.mean(same) > 0.9


def test_a_damaged_checkpoint_is_named(distilled, tmp_path):
    workdir = _copy(distilled, tmp_path)
    for path in (workdir / 'checkpoint' / '00004' / 'state').rglob('*'):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    _fails(workdir, r'checkpoint/00004/state/.* is damaged .checksum.: .*delete .*checkpoint to distill again')
    (workdir / 'checkpoint' / '00004' / 'sizes.json').unlink()
    _fails(workdir, 'sizes.json is missing')
    shutil.rmtree(workdir / 'checkpoint')
    distill(workdir)  # the way out that the message names
    assert outcome(workdir) == outcome(distilled)


def test_a_loss_that_is_not_finite_stops_loudly_and_binds_nothing(tmp_path, monkeypatch):
    finite = np.isfinite
    monkeypatch.setattr(driver.np, 'isfinite', lambda x: np.zeros_like(x, bool))
    with pytest.raises(UserError, match=f'block {DAYS[0]}: a loss .* is not finite; lower config.reference.learning'):
        distill(tmp_path / 'run')
    monkeypatch.setattr(driver.np, 'isfinite', finite)
    assert not (tmp_path / 'run' / 'memory').exists() and not (tmp_path / 'run' / 'checkpoint').exists()
    config = tiny.get_config()
    config.reference.learning_rate = 1e-4
    assert tiny.opened(tmp_path / 'run', config).done == 0, 'the advice of the message can be followed at once'


@pytest.mark.parametrize(
    'key, value, match',
    [
        ('memory.row_budget', 0.0, 'memory.row_budget is 0: it is a share of the rows, 0.01 for 1 %'),
        ('memory.row_budget', 0.001, r'memory.row_budget 0.001 of the 320 rows .* is not one row: set it to 0.0032'),
        ('reference.batch', 0, 'reference.batch is 0: it must be 1 or more'),
        ('reference.learning_rate', float('nan'), 'reference.learning_rate is nan'),
        ('reference.model', 'deepfn', "no model is named 'deepfn'"),
        ('refine.models', (), 'refine.models is empty'),
        ('codebook.codes', 5, r"data.numeric\['price'\] has 4 bins and codebook.codes is 5: .* to 6 or more, or to 0"),
        ('evaluate.epochs', (30, 10), r'evaluate.epochs \(30, 10\) do not increase: write \(10, 30\)'),
        ('evaluate.candidates', ('lr,mlp',), 'evaluate.candidates holds .* several are written'),
        ('data.fields', ('user', 'itm'), "no field 'itm'"),
    ],
)
def test_bad_values_leave_no_workdir(tmp_path, key, value, match):
    config = tiny.get_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=match):
        distill(tmp_path / 'run', config)
    left = contents(tmp_path)
    assert not left or all(p.startswith('run/blocks/') for p in left) and 'is not one row' in match


def test_unknown_and_missing_keys(tmp_path):
    config = tiny.get_config()
    config.memory.row_bugdet = 0.1
    with pytest.raises(UserError, match=r"config.memory has no key 'row_bugdet' \(did you mean 'row_budget'\?\)"):
        distill(tmp_path / 'run', config)
    config = tiny.get_config()
    del config.refine
    with pytest.raises(UserError, match="config lacks 'refine': begin with"):
        distill(tmp_path / 'run', config)
    assert not list(tmp_path.iterdir())


def test_roles_that_no_twin_depends_on_may_be_corrected_later(distilled, tmp_path):
    """Nothing is distilled again; config and manifests say the new ones. A role that a twin drops may not change."""
    run = tmp_path / 'run'
    shutil.copytree(distilled, run)
    rows, config = (run / 'memory' / 'rows.parquet').read_bytes(), tiny.get_config()
    config.roles.creator = 'tab'
    said = []
    tiny.distill(run, config, said.append)
    assert json.loads((run / 'config.json').read_text())['roles']['creator'] == 'tab'
    for manifest in (run / 'memory' / 'manifest.json', *run.glob('history/*/manifest.json')):
        assert json.loads(manifest.read_text())['roles']['creator'] == 'tab'
    assert (run / 'memory' / 'rows.parquet').read_bytes() == rows
    assert any("creator 'tab'" in line for line in said)
    config.roles.context = 'item'
    config.twins.models = (dict(name='lr-no-context', model='lr', drop=('context',), learning_rate=0.01),)
    with pytest.raises(UserError, match='roles.context was .* when this memory was begun|twins.models was'):
        tiny.distill(run, config)
