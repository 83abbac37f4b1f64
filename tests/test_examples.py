"""The examples do what they say, on the tiny run."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from sklearn.metrics import roc_auc_score

from diet_jax.config.data import Simulated
from diet_jax.data.simulated import simulate_block
from diet_jax.data.stream import open_stream

torch = pytest.importorskip('torch', reason='torch is not installed: examples/pytorch.py trains with it')
PATH = pathlib.Path(__file__).resolve().parent.parent / 'examples' / 'pytorch.py'


@pytest.fixture(scope='module')
def example():
    spec = importlib.util.spec_from_file_location('pytorch_example', PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def log(tmp_path_factory) -> pathlib.Path:
    """The simulated log of the tiny run as one file."""
    parameters = Simulated(**tiny.get_config().data.simulated)
    path = tmp_path_factory.mktemp('log') / 'log.parquet'
    pq.write_table(pa.concat_tables([simulate_block(parameters, t) for t in range(4)]), path)
    return path


def test_the_memory_has_not_seen_what_it_is_tuned_and_scored_on(example, distilled):
    memory, tuned_on, scored_on = example.honest(distilled / 'memory')
    assert (memory.manifest['last_block'], tuned_on, scored_on) == tiny.DAYS[1:]


def test_too_short_a_history_is_refused(example, distilled, tmp_path):
    for stage in (1, 2):
        (tmp_path / 'history' / f'{stage:05d}').mkdir(parents=True)
    with pytest.raises(SystemExit, match='is of stage 2: it takes three'):
        example.honest(tmp_path / 'memory')


def test_blocks_and_clicks_are_those_of_the_run(example, distilled, log):
    stream = open_stream(tiny.get_config().data, distilled, emit=lambda line: None)
    click, block = example.outcomes(pq.read_table(log), example.honest(distilled / 'memory')[0].manifest['data'])
    for info in stream.blocks:
        assert (block == info.key).sum() == info.rows and click[block == info.key].sum() == info.positives


def test_blocks_by_a_column_a_threshold_and_local_days(example):
    label, time = {'column': 'stars', 'threshold': 4}, {'column': 's', 'unit': 's', 'utc_offset_hours': 8.0}
    table = pa.table({'stars': [3, 4, 5], 'day': [20220425, 20220425, 20220426], 's': [57_599, 57_600, 0]})
    data = {'label': label, 'time': time, 'block': {'by': 'column', 'column': 'day'}}
    click, block = example.outcomes(table, data)
    assert click.tolist() == [False, True, True] and block.tolist() == ['20220425', '20220425', '20220426']
    block = example.outcomes(table, {**data, 'block': {'by': 'period'}})[1]
    assert block.tolist() == ['1970-01-01', '1970-01-02', '1970-01-01']


def test_auc_is_that_of_scikit_learn(example):
    rng = np.random.default_rng(0)
    for levels in (3, 10**6):
        score, click = rng.integers(0, levels, 500), rng.random(500) < 0.3
        assert example.auc(score, click) == pytest.approx(roc_auc_score(click, score))


def test_the_model_is_a_deepfm(example):
    """b + sum_i w_i + sum_{i<j} <e_i, e_j> + tower: written out, pair by pair."""
    torch.manual_seed(0)
    model, codes = example.DeepFM(codes=9, fields=3, std=0.01), torch.tensor([[0, 3, 6], [1, 5, 8]])
    assert 0.005 < model.table.weight.std().item() < 0.015 and not model.first.weight.any()
    torch.nn.init.normal_(model.first.weight)
    e, w = model.table.weight[codes], model.first.weight[codes]
    pairs = sum((e[:, i] * e[:, j]).sum(1) for i in range(3) for j in range(i))
    expected = w.sum((1, 2)) + pairs + model.deep(e.reshape(2, -1))[:, 0]
    torch.testing.assert_close(model(codes), expected)


def test_a_seed_is_a_training(example, distilled):
    memory = example.honest(distilled / 'memory')[0]
    first, again, other = (example.train(memory, 1e-2, seed).table.weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_scored_block_is_looked_at_once(example, distilled, log, monkeypatch, capsys):
    """Models of the best rate on one block are scored on the next; no other block is looked at."""
    seen, real = [], example.aucs
    monkeypatch.setattr(
        example, 'aucs', lambda models, codes, click: (seen.append((models, codes)), real(models, codes, click))[1]
    )
    example.main(distilled / 'memory', log, seeds=2)
    memory, table = example.honest(distilled / 'memory')[0], pq.read_table(log)
    codes, day = memory.encode(table).codes + memory.offsets(), np.repeat(np.arange(4), tiny.ROWS)
    tried = len(tiny.get_config().evaluate.student_learning_rates)
    assert len(seen) == tried + 1 and all(np.array_equal(c, codes[day == 2]) for _, c in seen[:-1])
    assert np.array_equal(seen[-1][1], codes[day == 3]) and any(seen[-1][0] is models for models, _ in seen[:-1])
    assert f'on {tiny.DAYS[3]}, 2 seeds' in capsys.readouterr().out


def test_as_the_page_shows_it(distilled, log):
    command = [sys.executable, str(PATH), f'--memory={distilled / "memory"}', f'--log={log}']
    paths = [str(PATH.parent.parent), *filter(None, [os.environ.get('PYTHONPATH')])]
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    assert re.search(rf'AUC 0\.\d{{4}} \+- 0\.\d{{4}} on {tiny.DAYS[3]}, 3 seeds', done.stdout)
