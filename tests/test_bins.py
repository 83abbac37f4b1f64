"""Bins of numeric fields: what boundaries a block teaches, when, and that nothing earlier moves by it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from ml_collections import ConfigDict

from diet_jax.artifact.read import load_memory
from diet_jax.base.atomic import write_json
from diet_jax.base.errors import UserError
from diet_jax.config import default_data
from diet_jax.data import bins
from diet_jax.data.fields import Field
from diet_jax.data.stream import open_stream
from diet_jax.run.sizes import codes_of

DAY, START = 86_400, 1_650_844_800  # seconds; 2022-04-25 00:00 UTC
DAYS = [f'2022-04-{25 + day}' for day in range(5)]
INF = float('inf')


def bounds_of(values, number):
    return bins.block_bounds(np.sort(np.asarray(values, float)), number)[0]


def in_bins(values, bounds):
    return bins.bin_of(pa.array(np.asarray(values, float)), bounds)


def test_bounds_of_a_continuous_column_are_its_quantiles():
    """Heavy tails, too: every bin has as many rows."""
    for values in (np.random.default_rng(0).normal(size=800), np.random.default_rng(0).pareto(0.3, 800)):
        bounds = bounds_of(values, 8)
        np.testing.assert_array_equal(bounds, np.quantile(values, np.arange(1, 8) / 8))
        assert np.bincount(in_bins(values, bounds)).tolist() == [100] * 8


@pytest.mark.parametrize('heavy', [0.0, -1.5, 100.0, 1e6, -1e6])
def test_a_heavy_value_has_its_own_bin_and_the_others_share_the_rest(heavy):
    others = np.random.default_rng(1).normal(size=70)
    values = np.r_[np.full(930, heavy), others]
    bounds = bounds_of(values, 8)
    place = in_bins(values, bounds)
    assert len(bounds) == 7 and len(set(place[:930])) == 1 and place[0] not in place[930:]
    rows = np.bincount(place, minlength=8)
    for side in (rows[: place[0]], rows[place[0] + 1 :]):  # in quantiles, each as fine as its rows are many
        assert not len(side) or (np.ptp(side) <= 1 and abs(len(side) - 7 * side.sum() / 70) < 1)
    if heavy == 100.0:  # greater than all others, so they are cut as if they were alone
        np.testing.assert_allclose(bounds, [*np.quantile(others, np.arange(1, 7) / 7), heavy])


def test_only_the_value_itself_is_in_the_bin_of_a_heavy_value():
    bounds = bounds_of(np.r_[np.zeros(900), np.random.default_rng(2).uniform(-9, 9, 100)], 6)
    [zero] = in_bins([0.0], bounds)
    assert (in_bins([-1e-300, 1e-300, -0.0], bounds) == [zero - 1, zero + 1, zero]).all()


def test_counts_of_which_most_are_zero():
    """The case of a column that is 0 in 93 % of the rows: 0, and then 1, 2, ... apart."""
    counts = np.r_[np.zeros(930), np.tile(np.arange(1, 8), 10)]
    place = in_bins(counts, bounds_of(counts, 8))
    assert np.array_equal(place, counts)


@pytest.mark.parametrize('seed', range(30))
def test_values_that_differ_are_never_in_one_bin_and_bins_never_more_than_asked_for(seed):
    rng = np.random.default_rng(seed)
    number, rows = int(rng.integers(2, 12)), int(rng.integers(2, 300))
    values = rng.choice(rng.normal(size=6).round(1) * 10.0 ** rng.integers(-3, 300), rows, p=rng.dirichlet([0.3] * 6))
    bounds = bounds_of(values, number)
    place = in_bins(values, bounds)
    assert (len(set(place)) > 1) == (len(set(values)) > 1)
    assert len(bounds) < number and list(bounds) == sorted(set(bounds)) and np.isfinite(bounds).all()


def test_numbers_at_the_ends_of_what_there_is():
    bounds = bounds_of(np.r_[np.repeat([-1.7e308, 1.7e308], 50), np.zeros(900)], 4)
    assert np.isfinite(bounds).all() and len(set(in_bins([-1.7e308, 0, 1.7e308], bounds))) == 3


def test_infinite_values_lie_in_the_outermost_bins_and_teach_nothing():
    field, column = Field('x', 'numeric', 4, open=True), np.random.default_rng(3).normal(size=100)
    with_infinite = pa.array(np.r_[column, np.full(300, -INF), np.full(300, INF)])
    learned, count = bins.learn(field, 0, with_infinite, 0)
    np.testing.assert_array_equal(learned.bounds, np.quantile(column, [0.25, 0.5, 0.75]))
    assert count == 4 and not learned.open and in_bins([-INF, INF], learned.bounds).tolist() == [0, 3]
    later, _ = bins.learn(field, 2, with_infinite, 1)
    assert in_bins([-INF, INF], later.bounds).tolist() == [1, 4], 'bin 0 is of earlier blocks'


def test_little_to_learn_from_gives_three_bins_until_there_is_more():
    field, new = Field('x', 'numeric', 8, open=True), []
    rng, steps = np.random.default_rng(4), []
    blocks = [np.ones(600), np.r_[np.ones(597), 0, 2, 3], np.r_[np.ones(599), 5], rng.normal(size=600), rng.gamma(2.0)]
    for t, block in enumerate(blocks):
        field, count = bins.learn(field, t, pa.array(np.atleast_1d(block)), sum(new))
        new.append(count)
        steps.append(field)
    assert new == [1, 3, 0, 8, 0] and [step.open for step in steps] == [True, True, True, False, False]
    assert in_bins([0.5, 1, 2], steps[1].bounds).tolist() == [1, 2, 3]
    own = np.quantile(blocks[3], np.arange(1, 8) / 8)
    np.testing.assert_array_equal(field.bounds, [bins.LOWEST] * 4 + own.tolist())
    assert [field.after(t + 1).bounds for t in range(5)] == [step.bounds for step in steps]
    assert {step.most_bins for step in steps} == {12} and len(field.bounds) + 1 == 12
    assert Field.of(json.loads(json.dumps(field.plain()))) == field
    words = bins.names(field)
    assert words[:4] == ['any', 'below 1', '1', 'above 1'] and words[4] == f'below {own[0]:g}' and len(words) == 12


def test_a_field_never_has_more_bins_than_it_says():
    """Little to learn from is learned from once: one bin, then two or three, then all."""
    field, have = Field('x', 'numeric', 8, open=True), 0
    few = [np.r_[np.ones(600), others] for others in ([], [2], [0, 2], [0, 0, 2, 2], [0, 3, 2])]
    for t, block in enumerate([*few, np.arange(600), np.random.default_rng(0).normal(size=600)]):
        field, count = bins.learn(field, t, pa.array(block.astype(float)), have)
        have += count
    assert [step[0] for step in field.learned] == [1, 5] and have == 1 + 2 + 8 <= field.most_bins


def test_a_rare_flag_stays_what_it_is():
    field, new = Field('x', 'numeric', 8, open=True), 0
    for t in range(3):
        flags = np.arange(600) < (2, 3, 300)[t]
        field, count = bins.learn(field, t, pa.array(flags.astype(float)), new)
        new += count
    assert new == 2 and in_bins([0, 1], field.bounds).tolist() == [0, 1]


def a_day(day: int, rows: int = tiny.ROWS) -> pa.Table:
    """`buys` is 0 for 93 % of the rows, `late` null and `const` 1 until the third day; both decide the click then."""
    rng = np.random.default_rng(day)
    signal = rng.normal(size=rows)
    buys = np.where(rng.permutation(rows) < 0.07 * rows, rng.integers(1, 9, rows), 0)
    click = rng.random(rows) < 1 / (1 + np.exp(-2.5 * signal * (day >= 2) - np.where(buys, 4, -1)))
    return pa.table(
        {
            'user': rng.integers(0, 20, rows),
            'buys': buys,
            'late': pa.array(signal, mask=np.full(rows, day < 2)),
            'const': signal if day >= 2 else np.ones(rows),
            'ts': START + day * DAY + rng.permutation(rows) * DAY // rows,
            'click': click.astype(int),
        }
    )


def write_days(root, days) -> None:
    root.mkdir(exist_ok=True)
    for day in days:
        pq.write_table(a_day(day), root / f'{day}.parquet')


def a_config(root) -> ConfigDict:
    config = tiny.get_config()
    data = config.data = default_data()
    data.root, data.log, data.group = str(root), ('*.parquet',), 'user'
    data.time.column, data.time.unit, data.label.column = 'ts', 's', 'click'
    data.fields, data.time_fields = ('user',), ()
    data.numeric = ConfigDict({'buys': 8, 'const': 10, 'late': 8})  # const: with its earlier bin one too many for 12
    return config


def opened(root, workdir, said=None):
    return open_stream(a_config(root).data, workdir, emit=(said if said is not None else []).append)


def test_boundaries_come_with_the_block_that_has_something_to_teach(tmp_path):
    write_days(tmp_path / 'log', range(5))
    stream = opened(tmp_path / 'log', tmp_path / 'w', said := [])
    buys, const, late = stream.fields[1:]
    third = a_day(2)['late'].to_numpy()
    np.testing.assert_array_equal(late.bounds, np.quantile(third, np.arange(1, 8) / 8))
    np.testing.assert_array_equal(const.bounds, [bins.LOWEST, *np.quantile(third, np.arange(1, 10) / 10)])
    assert buys.bounds[0] == bins.TINY and 5 <= len(buys.bounds) <= 7
    for t in range(5):
        day, ids = a_day(t).sort_by('ts'), stream.load(t).ids
        assert stream.values(ids[:, 3]).to_pylist() == (
            in_bins(day['late'].to_numpy(), late.bounds).tolist() if t >= 2 else [None] * tiny.ROWS
        )
        expected = in_bins(day['const'].to_numpy(), const.bounds) if t >= 2 else np.zeros(tiny.ROWS)
        assert stream.values(ids[:, 2]).to_pylist() == expected.tolist()
        np.testing.assert_array_equal(stream.values(ids[:, 1]).to_numpy() == 0, day['buys'].to_numpy() == 0)
        assert ids.max() < stream.blocks[t].num_slots
    late_in = [f"data: '{name}' has boundaries from block {DAYS[2]} on" for name in ('const', 'late')]
    assert [line.split(',')[0] for line in said if 'boundaries' in line] == late_in


def test_a_field_of_one_value_is_spoken_of(tmp_path):
    write_days(tmp_path / 'log', range(2))
    opened(tmp_path / 'log', tmp_path / 'w', said := [])
    assert [line.split(' so far')[0] for line in said if 'one bin' in line] == [
        "data: 'const' has one bin",
        "data: 'late' has one bin",
    ]


@pytest.mark.parametrize('first', [1, 2, 3])
def test_days_one_after_the_other_give_what_all_at_once_give(tmp_path, first):
    write_days(tmp_path / 'log', range(5))
    whole = opened(tmp_path / 'log', tmp_path / 'whole', all_said := [])
    write_days(tmp_path / 'grows', range(first))
    early = opened(tmp_path / 'grows', tmp_path / 'w')
    write_days(tmp_path / 'grows', range(first, 5))
    grown = opened(tmp_path / 'grows', tmp_path / 'w', said := [])  # looks at the earlier days' rows again
    assert tiny.contents(grown.folder / 'rows') == tiny.contents(whole.folder / 'rows')
    assert grown.fields == whole.fields and grown.vocabulary.growth == whole.vocabulary.growth
    assert early.fields == tuple(field.after(first) for field in whole.fields)
    assert [line for line in said if 'bound' in line] == [line for line in all_said if 'bound' in line]
    assert codes_of(0, early.fields) == codes_of(0, whole.fields), 'a codebook keeps its size'
    data = a_config(tmp_path / 'grows').data
    data.until = DAYS[first - 1]
    assert open_stream(data, tmp_path / 'w', emit=said.append).fields == early.fields
    changed = a_day(0)
    pq.write_table(changed.set_column(2, 'late', changed['const']), tmp_path / 'grows' / '0.parquet')
    with pytest.raises(UserError, match='goes back in time'):
        opened(tmp_path / 'grows', tmp_path / 'w')


def test_blocks_prepared_by_an_earlier_version_keep_their_bins(tmp_path):
    write_days(tmp_path / 'log', range(2))
    data = a_config(tmp_path / 'log').data
    data.numeric = ConfigDict({'buys': 8, 'const': 8})
    stream = open_stream(data, tmp_path / 'w', emit=lambda line: None)
    path = stream.folder / 'manifest.json'
    manifest = json.loads(path.read_text())
    for field in manifest['fields']:
        del field['bins'], field['learned'], field['open']
    write_json(path, manifest)
    write_days(tmp_path / 'log', range(2, 5))
    grown = open_stream(data, tmp_path / 'w', emit=(said := []).append)
    assert [field.bounds for field in grown.fields] == [field.bounds for field in stream.fields]
    assert set(grown.values(grown.load(4).ids[:, 2]).to_pylist()) == {0}
    assert ["'const'" in line for line in said if 'from an earlier version' in line] == [True]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The log, and a run that distilled two days and then all."""
    root, workdir = tmp_path_factory.mktemp('bins') / 'log', tmp_path_factory.mktemp('bins') / 'run'
    write_days(root, range(2))
    tiny.distill(workdir, a_config(root))
    write_days(root, range(2, 5))
    tiny.distill(workdir, a_config(root))
    return root, workdir


@pytest.mark.parametrize('stage', [1, 2, 3, 5])
def test_a_memory_has_the_boundaries_of_its_stage_and_encodes_by_them(run, stage):
    root, workdir = run
    memory, stream = load_memory(workdir / 'history' / f'{stage:05d}'), opened(root, workdir)
    for coded, field in zip(memory.fields, stream.fields):
        assert coded.bounds == field.after(stage).bounds
    assert (memory.fields[3].bounds == ()) == (stage < 3)
    day, code = a_day(stage - 1).sort_by('ts'), memory.code_of_slots(stream)
    found = memory.encode(day)
    np.testing.assert_array_equal(found.codes + memory.offsets(), code[stream.load(stage - 1).ids])
    assert (found.codes >= 0).all() and (found.codes < [f.codes for f in memory.fields]).all()
    for f, name in ((1, 'buys'), (3, 'late')):
        values, codes = memory.codebook[name]
        assert values.to_pylist() == codes.tolist(), 'a bin is its own code'
        known = in_bins(day[name].to_numpy(), memory.fields[f].bounds)
        known = np.where(np.isnan(day[name].to_numpy().astype(float)), memory.fields[f].missing_code, known)
        np.testing.assert_array_equal(found.codes[:, f], known)
    np.testing.assert_array_equal(memory.slots(stream) < stream.blocks[stage - 1].num_slots, True)


def test_days_one_after_the_other_give_the_memory_of_all_at_once(run, tmp_path):
    tiny.distill(tmp_path / 'run', a_config(run[0]))
    assert tiny.outcome(tmp_path / 'run') == tiny.outcome(run[1])
