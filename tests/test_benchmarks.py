"""The benchmarks: every case runs on tiny shapes, PyTorch computes the same, targets are read off the right key."""

import importlib.util
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from benchmarks import (
    against_torch,
    clock,
    gpu,
    influence,
    long,
    precision,
    problem,
    profile,
    reading,
    runner,
    trace,
    unrolling,
    vocabulary,
)
from benchmarks.clock import Seconds
from benchmarks.sizes import FULL, SMOKE
from diet_jax import models
from diet_jax.base.atomic import read_json
from diet_jax.base.errors import UserError
from diet_jax.base.layout import flat
from diet_jax.config.checks import check_config
from diet_jax.data import generated
from diet_jax.distillation.spec import spec_of
from diet_jax.distillation.stage import make_stage_update
from diet_jax.models.recipes import DEFAULT

needs_torch = pytest.mark.skipif(importlib.util.find_spec('torch') is None, reason='PyTorch is an extra: torch')


@pytest.mark.parametrize('module', [influence, vocabulary, unrolling, precision])
def test_a_case_gives_figures(module):
    found = module.case(SMOKE)
    assert found
    for name, figure in found.items():
        assert {'value', 'unit', 'ratio_to', 'ratio'} <= figure.keys(), name
        assert math.isfinite(figure['value']), name
        assert figure['ratio'] is None or figure['ratio'] > 0, name
    if module is vocabulary:  # memory of an outer step does not know the vocabulary; time is another day's
        assert found['outer_step_memory_600_vs_60_ids']['ratio'] <= 1.3


def test_keys_of_the_full_sizes_are_those_with_targets():
    """The names that others read, made from the sizes, are the names that the targets are kept under."""
    large, small = (vocabulary._short(v) for v in reversed(FULL.vocabularies))
    names = {
        f'{part}_{large}_vs_{small}_ids' for part in ('reference_step_time', 'outer_step_time', 'outer_step_memory')
    }
    names.add(f'unroll_memory_t{FULL.unrolls[-1]}_vs_t{FULL.unrolls[0]}')
    names |= {'adam_pass_vs_lazy', f'adam_pass_vs_lazy_{FULL.vocabularies[-1]}_ids'}
    names |= {f'read_second_day_{kind}' for kind in reading.KINDS}
    blocks = FULL.long[0]
    names |= {f'{what}_block_{blocks}_vs_{blocks // 10}' for what in ('stage_time', 'peak_memory')}
    assert names == runner.AT_MOST.keys()
    meta = {f'vs_torch_meta_gradient_t{t}{end}' for t in FULL.unrolls[:2] for end in ('', '_subtable')}
    assert meta | {f'vs_torch_deepfm_epoch_{FULL.many_ids}_ids'} < runner.AT_LEAST.keys()
    assert sum(FULL.fields) == 45_560 and len(FULL.fields) == 30


def test_a_long_stream_is_read_after_every_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(long, 'config', lambda sizes: tiny.get_config())  # its stage is compiled once for all tests

    def driver(config, folder, after_stage):
        return tiny.distill(folder, config, after_stage=after_stage)

    monkeypatch.setattr(long, 'distill', driver)
    readings = long.run(SMOKE._replace(long=(4, tiny.ROWS)), tmp_path / 'long')
    assert len(readings.seconds) == len(readings.total) == len(readings.peak_bytes) == 4
    assert all(0 < a < b for a, b in zip(readings.seconds, readings.total))
    assert readings.peak_bytes == sorted(readings.peak_bytes)


def test_a_long_stream_is_never_stored_and_grows_within_its_capacity():
    c, (blocks, rows) = long.config(FULL), FULL.long
    assert blocks * rows == 100_000_000 and rows >= generated.ROWS
    assert 1 <= c.memory.row_budget * rows and c.memory.row_budget * rows * blocks < c.memory.capacity
    check_config(c, 1)
    check_config(long.config(SMOKE), 1)


def test_late_blocks_are_compared_with_early_ones():
    made = long.Readings([9.0] * 2 + [2.0, 4.0] + [9.0] * 14 + [6.0, 6.0], [1.0] * 20, [*range(1, 21)], 50, 1)
    found = long.figures(made)
    assert found['stage_time_block_20_vs_2']['ratio'] == 2.0  # blocks 19 and 20 against 3 and 4
    assert found['peak_memory_block_20_vs_2']['ratio'] == 10.0
    assert found['long_stream_rows']['value'] == 50.0


def test_an_event_within_another_is_not_counted_twice():
    of, e = {'loop': 'a', 'dot': 'b'}, trace.Event
    events = [e(0, 10e9, ''), e(1e9, 6e9, 'loop'), e(2e9, 1e9, 'dot'), e(3e9, 2e9, 'copy'), e(8e9, 1e9, 'dot')]
    assert trace.by_scope(events[::-1], of) == {trace.REST: 3.0, 'a': 5.0, 'b': 2.0}


def test_kernels_side_by_side_count_each():
    e = trace.Event
    events = [e(0, 2e9, 'dot_1'), e(1e9, 2e9, 'dot_1'), e(1e9, 1e9, 'memcpy')]
    assert trace.by_kernel(events, {trace._kernel('dot.1'): 'b'}) == {'b': 4.0, trace.REST: 1.0}


def test_time_without_an_event_is_idle():
    e = trace.Event
    assert trace.span([e(9e9, 1e9, 'c'), e(1e9, 4e9, 'a'), e(2e9, 1e9, 'b')]) == (9.0, 4.0)


def test_a_trace_gives_every_scope_its_time():
    @jax.jit
    def work(x):
        with jax.named_scope('long'):
            y = jax.lax.fori_loop(0, 2000, lambda _, a: jnp.tanh(a @ x), x)  # other work may interrupt either
        with jax.named_scope('short'):
            return jnp.sort(y, 0)

    x = jnp.ones((200, 200)) / 200
    compiled = work.lower(x).compile()
    jax.block_until_ready(compiled(x))
    seconds = trace.measure(lambda: compiled(x), compiled.as_text(), ('long', 'short', 'none'))
    assert seconds['long'] > 5 * seconds['short'] > 0 == seconds['none']
    assert seconds['long'] > seconds[trace.REST] and 0 < seconds[trace.BUSY] <= 1


def test_a_stage_names_its_parts():
    c, model = problem.config(SMOKE), problem.reference(SMOKE)
    layout, twins = flat(range(len(SMOKE.fields))), [(model, DEFAULT, 1e-3)]
    spec = spec_of(c, model, [problem.reference(SMOKE, 'fm')], layout=layout, twins=twins)
    state = problem.first_state(spec, SMOKE.fields)
    rows = problem.batches(problem.draw_ids(SMOKE.fields, 2 * SMOKE.batch, 0), SMOKE.batch)
    text = jax.jit(make_stage_update(spec)).lower(state, rows).as_text(debug_info=True)
    assert all(f'/{name}/' in text for name in profile.SCOPES)


def test_a_stage_is_drawn_by_part(tmp_path, monkeypatch):
    parts = {name: float(i + 1) for i, name in enumerate(profile.WORDS)}
    found = {'log': 'a log', 'rows': 1000, 'device': 'one core', 'plain': 36.0, 'parts': parts, 'busy': 0.9}
    monkeypatch.setattr(runner.child, 'run', lambda what, sizes, threads, folder: found)
    figures = profile.case('smoke', tmp_path)
    assert (tmp_path / 'stage.png').read_bytes().startswith(b'\x89PNG')
    assert sum(figures[f'stage_part_{name}']['ratio'] for name in parts) == pytest.approx(1)
    assert figures['stage_traced']['ratio'] == 1.0  # without reading and saving
    assert figures['stage_busy']['value'] == 0.9


def test_both_sides_take_their_better_number_of_threads():
    one = {'x': (Seconds(2.0, 1.9, 2.1), Seconds(9.0, 9.0, 9.0), 'ms')}
    two = {'x': (Seconds(1.0, 0.9, 1.3), Seconds(12.0, 11.0, 13.0), 'ms')}
    figure = runner.best_of_threads({1: one, 2: two})['x']
    assert (figure['value'], figure['threads'], figure['torch_threads'], figure['ratio']) == (1000.0, 2, 1, 9.0)
    assert figure['spread'] == pytest.approx(0.2)
    rows = {'x': (Seconds(0.5, 0.5, 0.5), Seconds(1.0, 1.0, 1.0), 'rows/s')}
    assert runner.best_of_threads({1: rows})['x']['value'] == 2.0  # seconds a row


def test_turns_alternate_and_the_first_is_not_counted():
    order = []
    seconds = clock.interleaved({'a': lambda: order.append('a'), 'b': lambda: order.append('b')}, 3)
    assert order == ['a', 'b'] * 4
    assert all(s.low <= s.median <= s.high for s in seconds.values())


def test_the_subtable_is_exact():
    """Dense Adam from zero moments on the touched rows gives what it gives on the whole table."""
    inner = problem.inner_problem(SMOKE, 3, codes=False)
    model = models.of(problem.STUDENT, SMOKE.dim)
    params = model.init(jax.random.key(0), sum(SMOKE.fields), len(SMOKE.fields))
    touched = np.unique(np.concatenate([inner.ids, inner.outer_ids])).size
    small, table = against_torch.remapped(inner, params['table'], touched + 2)
    assert table.shape[0] == touched + 2 and int(jnp.abs(table[touched:]).sum()) == 0
    whole = jax.jit(unrolling.meta(model, inner))(params, inner.learnable)
    of_touched = jax.jit(unrolling.meta(model, small))({**params, 'table': table}, inner.learnable)
    for a, b in zip(jax.tree.leaves((whole[0], whole[2])), jax.tree.leaves((of_touched[0], of_touched[2]))):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_bf16_is_near_and_not_equal():
    model = problem.reference(SMOKE, 'dcnv2')
    params = model.init(jax.random.key(0), 50, 3)
    ids = jnp.asarray(problem.draw_ids((20, 20, 10), 40, 0))
    exact, half = model.apply(params, ids), precision.in_bf16(model).apply(params, ids)
    assert half.dtype == exact.dtype == jnp.float32
    error = float(jnp.abs(exact - half).max() / jnp.abs(exact).max())
    assert 0 < error < 0.02  # 8 bits of mantissa


def test_a_run_writes_bench_json_and_keeps_what_it_did_not_measure(tmp_path, monkeypatch, capsys):
    found = {'influence_vs_forward_rate': clock.figure(1.0, 'rows/s', 'forward pass', 0.4)}
    monkeypatch.setitem(runner.CASES, 'influence', lambda sizes, workdir: found)
    (tmp_path / 'bench.json').write_text(json.dumps({'old': clock.figure(3.0, 'ms')}))
    result = runner.bench(tmp_path, ['influence'], 'smoke')
    assert read_json(tmp_path / 'bench.json') == result
    assert set(result) == {'old', 'influence_vs_forward_rate'}
    lines = {line.split()[0]: line for line in runner.table(result).splitlines()}
    assert lines['influence_vs_forward_rate'].endswith('>= 0.33  met')
    result['influence_vs_forward_rate']['ratio'] = 0.3
    assert runner.table(result).splitlines()[-1].endswith('missed')


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(UserError, match="no case 'unrol' .did you mean 'unroll'"):
        runner.bench(tmp_path, ['unrol'])
    if jax.default_backend() != 'gpu':
        with pytest.raises(UserError, match="--gpu: JAX runs on 'cpu' here"):
            runner.bench(tmp_path, on_gpu=True)
    assert not (tmp_path / 'bench.json').exists()
    (tmp_path / 'bench.json').write_text('{')
    with pytest.raises(UserError, match='bench.json does not parse'):
        runner.bench(tmp_path, ['influence'], 'smoke')


def test_the_roofline_runs_anywhere():
    """On a CPU its bandwidths mean nothing, but the command that waits for a GPU is not broken."""
    found = gpu.case(SMOKE)
    parts = {f'reference_training_b{batch}' for batch in SMOKE.batches} | {'copy', 'influence', 'outer_step'}
    assert set(found) == {f'gpu_{part}' for part in parts}
    assert all(f['value'] > 0 for f in found.values())


@needs_torch
def test_pytorch_computes_the_same(monkeypatch):
    seen = {}

    def kept(ours, theirs, repeats, unit='ms', rows=(1, 1)):
        seen[len(seen)] = ours(), theirs()

    monkeypatch.setattr(against_torch, '_pair', kept)
    against_torch.meta_gradients(SMOKE)
    for ours, theirs in seen.values():
        for key in ours:
            np.testing.assert_allclose(ours[key], theirs[key].numpy(), rtol=1e-3, atol=5e-6)
    seen.clear()
    against_torch.influences(SMOKE)
    for ours, theirs in seen.values():
        np.testing.assert_allclose(ours[: len(theirs)], theirs.numpy(), rtol=1e-3, atol=1e-8)
    seen.clear()
    # From the same weights: the loss of every step. Later on rounding grows: PyTorch leaves its own float64.
    against_torch.epochs(SMOKE._replace(steps=100, batch=512))
    assert len(seen) == 4
    for ours, theirs in seen.values():
        assert len(ours) == 100 and abs(float(ours[-20:].mean() - ours[:20].mean())) > 1e-3, 'it learns'
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


@pytest.mark.parametrize('kind', reading.KINDS)
def test_reading_prepares_every_row_and_one_more_day(tmp_path, kind):
    found = reading.run(SMOKE, f'{tmp_path}:{kind}:2')
    days, rows = SMOKE.read
    assert found['rows'] == 2 * days * rows and found['days'] == 2 * days
    assert min(found['seconds'], found['second_day'], found['peak']) > 0 and not list(tmp_path.iterdir())
