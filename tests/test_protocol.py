"""The protocol of stage t on rows: what each side visits and is charged for, and a pool whose order is known."""

import gc
import weakref

import jax
import numpy as np
import pytest
import tiny
from tiny import DAYS, ROWS

from diet_jax.base.errors import UserError
from diet_jax.base.layout import flat
from diet_jax.data.stream import open_stream
from diet_jax.device.programs import PROGRAMS_KEPT
from diet_jax.models import candidates
from diet_jax.models.recipes import DEFAULT
from diet_jax.stats import ranking
from diet_jax.stats.retention import retention
from diet_jax.study import cheap_passes, protocol
from diet_jax.study.cheap_passes import cheap_reading
from diet_jax.study.distillations import ONE_SHOT, Distillation, TrainingSet, distillations, memory_of_stage
from diet_jax.training.batches import shard_block
from diet_jax.training.passes import StreamState, init_stream
from diet_jax.trials import full_pass, students
from diet_jax.trials.log import EvaluationLog, read_blocks
from diet_jax.trials.rows import padded
from diet_jax.trials.students import compiled_grid

T = 2  # the stage: memory of D_1, D_2, chosen on the third day, scored on the fourth


def seeded(seed):
    config = tiny.get_config()
    config.seed = seed
    return config


@pytest.fixture(scope='module')
def runs(distilled, tmp_path_factory):
    other = tmp_path_factory.mktemp('seed') / 'run'
    tiny.distill(other, seeded(1))
    return [tiny.opened(distilled), tiny.opened(other, seeded(1))]


@pytest.fixture(scope='module')
def log(runs) -> EvaluationLog:
    return read_blocks(runs[0].stream, 64, runs[0].slots)


@pytest.fixture(scope='module')
def sides(runs, log):
    return distillations(runs, [1, T], log)


def candidate(model='fm', **options):
    return candidates.candidate({'model': model, **options}, 4, ['user', 'item', 'tab', 'price', 'hour'])


# What a memory must be.


def test_a_memory_that_has_seen_the_tuning_block_is_refused(runs):
    for t, seen in ((1, 'history/00002'), (T, 'history/00003'), (T, 'memory'), (T, 'history/00001')):
        folder = runs[0].workdir / seen
        with pytest.raises(UserError) as error:
            memory_of_stage(folder, t, runs[0].stream)
        last = {'1': DAYS[0], '2': DAYS[1], '3': DAYS[2], 'y': DAYS[3]}[seen[-1]]
        assert f'{folder} has seen block {last}, the protocol of stage {t} allows {DAYS[t - 1]}' in str(error.value)
        assert '\n' not in str(error.value)
    assert memory_of_stage(runs[0].workdir / 'history' / '00002', T, runs[0].stream).manifest['stage'] == T


def test_a_memory_of_another_log_or_of_another_config_is_refused(runs, log, tmp_path):
    folder = runs[0].workdir / 'history' / '00002'

    def opened(change):
        data = tiny.get_config().data
        change(data)
        return open_stream(data, tmp_path, lambda line: None)

    with pytest.raises(UserError, match='has the fields user, item, tab, price, hour, the log has user, tab, price'):
        memory_of_stage(folder, T, opened(lambda data: data.update(fields=('user', 'tab'))))
    with pytest.raises(UserError, match=f'has seen 640 rows up to block {DAYS[1]}, the log has 600: distill this log'):
        memory_of_stage(folder, T, opened(lambda data: data.simulated.update(rows_per_block=300)))
    artifact, config = memory_of_stage(folder, T, runs[0].stream), tiny.get_config()
    config.codebook.codes = 6
    with pytest.raises(UserError, match='stage 2 .seed 0. has up to 12 codes a field and codebook.codes is 6:'):
        Distillation(config, runs[0].reference, {T: artifact}, runs[0].stream, log, 64)


# Rows.


def test_a_row_of_the_memory_is_encoded_as_the_log_is(sides, log):
    """What students train on is what the same row of the log would be to them: with the codebook and without."""
    for side in sides:
        slots = side.artifacts[T].slots(side.stream)
        for rows in (side.memory(T, 'soft'), side.memory(T, 'soft').by_ids):
            n = int(rows.data.rows)
            assert n == len(slots) == side.size(T)
            np.testing.assert_array_equal(rows.data.ids[:n], rows.encode(slots))
            assert rows.encode(log.ids(T + 1, log.num_slots[T - 1])).max() < rows.num_codes
        targets = [side.memory(T, view).data.target[:n] for view in ('soft', 'mean', 'hard', 'blend')]
        assert not np.array_equal(targets[0], targets[1]) and set(np.unique(targets[2])) <= {0, 1}
        np.testing.assert_allclose(targets[3], (targets[0] + targets[1]) / 2, atol=1e-7)


def test_a_long_study_does_not_keep_the_programs_of_candidates_long_done():
    """A process may hold 65,530 memory maps on Linux, a compiled program takes hundreds; a study has hundreds."""
    for functions in (
        lambda model: compiled_grid(model, 128, 16, (1,), DEFAULT, False),
        lambda model: full_pass.compiled_pass(model, DEFAULT),
    ):
        first = weakref.ref(functions(candidate(dim=2).model)[0])
        assert functions(candidate(dim=2).model)[0] is first()
        for dim in range(3, 3 + PROGRAMS_KEPT):
            functions(candidate(dim=dim).model)
        gc.collect()
        assert first() is None


def test_one_compilation_trains_memory_rivals_with_our_labels_and_all_distillations(sides, log, monkeypatch):
    used, functions = [], compiled_grid
    monkeypatch.setattr(students, 'compiled_grid', lambda *args: used.append(functions(*args)) or used[-1])
    fm, grid = candidate(dim=3), protocol.Grid((1, 2), (3e-3, 1e-2), 16, (0, 1), 1, 0.0)
    rows = [[side.memory(T, view) for side in sides] for view in ('soft', 'mean')]
    rows += [[side.rival(f'{name}_rows_our_labels', T) for side in sides] for name in ('random', 'recent', 'el2n')]
    rows += [[side.memory(1) for side in sides]]
    scores = [protocol.row_reading(fm, log, each, T, grid).scores['auc'] for each in rows]
    train, predict = used[0]
    assert len(used) == 2 * len(rows) and all(functions == used[0] for functions in used)
    assert train.compiles == 1 and predict.compiles == 1
    assert len({str(auc) for auc in scores}) == len(rows), 'and yet they are different rows'


def test_a_memory_distilled_afresh_has_as_many_rows_and_a_codebook_of_its_own(sides, log):
    first = sides[0].rival(ONE_SHOT, T)
    n, memory = int(first.data.rows), sides[0].memory(T)
    assert n == sides[0].size(T) and first.num_codes == memory.num_codes
    target = first.data.target[:n]
    assert (first.data.ids[:n] < first.num_codes).all() and ((target > 0) & (target < 1)).all()
    seen = log.until(T)[0]
    rows = {tuple(row) for row in first.encode(seen)}
    assert {tuple(row) for row in np.asarray(first.data.ids[:n])} <= rows, 'its entries are rows of all days seen'
    assert not np.array_equal(first.encode(seen), memory.encode(seen))


# Visits: full training made as cheap as training on a memory.


def section(**options):
    config = tiny.get_config().trends
    config.update({'visit_batch': 16, 'visit_learning_rates': (3e-3, 3e-2), **options})
    return config


@pytest.fixture(scope='module')
def numbered(log):
    """The log with the number of the row, over all blocks, in place of its user."""
    batches = []
    for t, batch in enumerate(log.batches):
        ids = batch.ids.copy()
        ids[..., 0] = t * ROWS + np.arange(ROWS).reshape(ids.shape[:2])
        batches.append(batch._replace(ids=ids))
    return log._replace(batches=batches, capacity=2048, num_slots=[2048] * 4)


@pytest.fixture
def laid(monkeypatch):
    """[(row numbers, labels, steps)] of every pass, as it is laid out."""
    seen, shard = [], shard_block

    def noted(ids, label, held, *, steps, **options):
        seen.append((ids[:, 0].copy(), label.copy(), steps))
        return shard(ids, label, held, steps=steps, **options)

    monkeypatch.setattr(cheap_passes, 'shard_block', noted)
    return seen


def test_early_stop_visits_the_first_rows_and_subsample_rows_of_all_blocks_in_time_order(numbered, laid):
    visits, total, label = (40, 100, 5000), T * ROWS, np.concatenate(numbered.labels[:T])
    lr = candidate('lr')
    before = full_pass.compiled_pass(lr.model, DEFAULT)[0].compiles
    cheap_reading('early_stop', lr, numbered, T, visits=visits, section=section(), seeds=1, tables=[None] * 2)
    assert len(laid) == 3 * 2  # every number of visits, every replicate; learning rates and seeds share the rows
    for (rows, _, _), n in zip(laid, [40, 100, total] * 2):
        np.testing.assert_array_equal(rows, np.arange(n))
    early = len(laid)
    cheap_reading('subsample', lr, numbered, T, visits=visits, section=section(), seeds=1, tables=[None] * 2)
    for (rows, _, _), n in zip(laid[early:], [40, 100, total] * 2):
        assert len(rows) == n and (np.diff(rows) > 0).all() and 0 <= rows[0] and rows[-1] < total
        assert n == total or (rows[0] < ROWS / 4 and rows[-1] > total - ROWS / 4), 'the first block to the last'
    assert not np.array_equal(laid[early][0], laid[early + 3][0]), 'a replicate is a draw'
    for rows, labels, steps in laid:
        np.testing.assert_array_equal(labels, label[rows])
        assert steps == total // 16, 'one shape for all, so compiled once'
    assert full_pass.compiled_pass(lr.model, DEFAULT)[0].compiles <= before + 1


def test_subsample_takes_every_row_of_the_stages_blocks_equally_often(numbered, laid, monkeypatch):
    class Step:  # trains nothing
        compile_seconds = 0.0

        def __call__(self, state, *_):
            return state

    monkeypatch.setattr(
        full_pass, 'compiled_pass', lambda *_: (Step(), lambda state, lr: state, lambda params, ids: np.zeros(len(ids)))
    )
    monkeypatch.setattr(cheap_passes, 'init_stream', lambda *_: StreamState({}, *[None] * 6))
    draws, n = 150, 64
    cheap_reading(
        'subsample', candidate('lr'), numbered, T, visits=[n], section=section(), seeds=1, tables=[None] * draws
    )
    counts = np.bincount(np.concatenate([rows for rows, _, _ in laid]), minlength=T * ROWS)
    p = n / (T * ROWS)
    assert len(counts) == T * ROWS and abs(counts - draws * p).max() < 5.5 * np.sqrt(draws * p * (1 - p))
    assert counts[:ROWS].sum() == pytest.approx(draws * n / 2, rel=0.03)


def test_the_cost_of_visits_is_their_number(log):
    side = cheap_reading(
        'subsample', candidate('lr'), log, T, visits=[32, 64, 5000], section=section(), seeds=2, tables=[None] * 2
    )
    points = side.scores['frontier']
    assert [p['row_visits'] for p in points] == [32, 64, T * ROWS]
    assert [p['cost_ratio'] for p in points] == [20.0, 10.0, 1.0]
    assert [p['chosen']['visits'] for p in points] == [32, 64, T * ROWS]
    best = max(points, key=lambda p: p['chosen']['tuning_auc'])
    assert side.chosen == best['chosen'] and side.scores['auc'] == best['auc'] and side.logits.shape == (2, 2, ROWS)
    assert min(p['seconds'] for p in points) > 0


def test_a_warm_start_begins_at_the_tables_of_another_model(log):
    """At a vanishing rate a linear model says what the other model's weights add up to."""
    table = np.random.default_rng(0).normal(size=(log.capacity, 5)).astype(np.float32)
    options = dict(visits=[64], section=section(visit_learning_rates=(1e-9,)), seeds=2, tables=[lambda: table])
    for kind, visits in (('warm_random_rows', 64), ('warm_recent_rows', 64), ('warm_last_block', ROWS)):
        side = cheap_reading(kind, candidate('lr'), log, T, **options)
        rows = log.ids(T + 1, log.num_slots[T - 1])[:ROWS]
        np.testing.assert_allclose(side.logits[0, 1], table[rows, 0].sum(1), atol=1e-5)
        assert side.scores['row_visits'] == visits
    cold = cheap_reading('subsample', candidate('lr'), log, T, **options)
    np.testing.assert_allclose(cold.logits, 0.0, atol=1e-5)


def test_which_rows_a_warm_start_sees(numbered, laid):
    def seen(kind):
        table = np.zeros((numbered.capacity, 5), np.float32)
        laid.clear()
        options = dict(visits=[40], section=section(), seeds=1, tables=[lambda: table])
        cheap_reading(kind, candidate('lr'), numbered, T, **options)
        return laid[0][0]

    np.testing.assert_array_equal(seen('warm_recent_rows'), np.arange(T * ROWS - 40, T * ROWS))
    np.testing.assert_array_equal(seen('warm_last_block'), np.arange((T - 1) * ROWS, T * ROWS))
    drawn = seen('warm_random_rows')
    assert len(set(drawn)) == 40 and (np.diff(drawn) > 0).all()


def test_a_table_of_another_width_keeps_its_principal_directions():
    table = np.random.default_rng(1).normal(size=(50, 7)).astype(np.float32) * np.arange(7, 0, -1, dtype=np.float32)
    np.testing.assert_array_equal(cheap_passes.projected(table, 9), table)
    small = cheap_passes.projected(table, 3)
    u, s, vt = np.linalg.svd(table[:, 1:], full_matrices=False)
    np.testing.assert_array_equal(small[:, 0], table[:, 0])
    np.testing.assert_allclose(
        small[:, 1:] @ small[:, 1:].T, (u[:, :3] * s[:3] ** 2) @ u[:, :3].T, rtol=1e-3, atol=1e-3
    )


def test_the_cost_of_rows_is_their_number_times_the_epochs(sides, log):
    grid, rows = protocol.Grid((1, 2, 5), (3e-3, 1e-2), 16, (0, 1), 1, 0.0), [side.memory(T) for side in sides]
    side = protocol.row_reading(candidate(), log, rows, T, grid, frontier=True)
    points, n = side.scores['frontier'], sides[0].size(T)
    assert n == 32 and [p['chosen']['epochs'] for p in points] == [1, 2, 5]
    assert [p['row_visits'] for p in points] == [n, 2 * n, 5 * n]
    assert [p['cost_ratio'] for p in points] == [T * ROWS / n, T * ROWS / (2 * n), T * ROWS / (5 * n)]
    best = max(points, key=lambda p: p['chosen']['tuning_auc'])
    assert side.chosen == best['chosen'] and all(side.scores[k] == best[k] for k in best if k != 'chosen')
    alone = protocol.row_reading(candidate(), log, rows, T, grid)
    assert 'frontier' not in alone.scores and alone.chosen == side.chosen and alone.scores['auc'] == side.scores['auc']
    np.testing.assert_array_equal(side.predict(T + 1), side.logits[0])


def test_students_on_ids_stand_beside_those_on_codes_and_cost_what_they_cost(sides, log):
    grid, rows = protocol.Grid((1, 2), (3e-3, 1e-2), 16, (0, 1), 3, 0.25), [side.memory(T) for side in sides]
    codes = protocol.row_reading(candidate(), log, rows, T, grid._replace(by_ids=0.0), frontier=True)
    both = protocol.row_reading(candidate(), log, rows, T, grid, frontier=True)
    n, ids = sides[0].size(T), grid._replace(epochs=(3,), by_ids=0.0)
    alone = protocol.row_reading(candidate(), log, [each.by_ids for each in rows], T, ids)
    assert 'by_ids' not in codes.scores and both.scores['auc'] == codes.scores['auc']
    assert both.scores['by_ids']['auc'] == alone.scores['auc'] and both.chosen['by_ids'] == alone.chosen
    np.testing.assert_array_equal(both.logits, codes.logits)
    assert [p['row_visits'] for p in both.scores['frontier']] == [4 * n, 5 * n]
    assert both.scores['cost_ratio'] == T * ROWS / both.scores['row_visits']
    mixed = ranking.ordering(both.scores)
    np.testing.assert_allclose(
        mixed, 0.75 * np.array(codes.scores['auc']) + 0.25 * np.array(alone.scores['auc']), atol=1e-12
    )
    assert ranking.ordering(codes.scores) == codes.scores['auc']
    own = protocol.row_reading(
        candidate(), log, [side.rival('random_rows', T) for side in sides], T, grid, frontier=True
    )
    assert [p['row_visits'] for p in own.scores['frontier']] == [4 * n, 5 * n], 'as much as both, at the same rows'


def test_nothing_is_chosen_on_the_scored_block(sides, log):
    """Its clicks turned round: the same choices at every point of the frontier, and every AUC one minus what it was."""
    turned = log._replace(labels=[1 - y if t == T + 1 else y for t, y in enumerate(log.labels)])
    grid, fm = protocol.Grid((1, 2, 5), (3e-3, 1e-2), 16, (0, 1), 1, 0.2), candidate()
    for side in (
        lambda log: protocol.row_reading(fm, log, [s.memory(T) for s in sides], T, grid, frontier=True),
        lambda log: cheap_reading(
            'early_stop', candidate('lr'), log, T, visits=[32, 64], section=section(), seeds=2, tables=[None] * 2
        ),
    ):
        for a, b in zip(*(side(each).scores['frontier'] for each in (log, turned))):
            assert a['chosen'] == b['chosen']
            np.testing.assert_allclose(b['auc'], 1 - np.array(a['auc']), atol=1e-12)
            if 'by_ids' in a:
                np.testing.assert_allclose(b['by_ids']['auc'], 1 - np.array(a['by_ids']['auc']), atol=1e-12)


# A pool whose order is known, and a memory that gives the teacher away.

FIELDS, VALUES, PER_BLOCK, STRONG_LRS = 9, 6, 2000, (1e-2, 3e-2)


def planted():
    """A log: nine fields of equal weight, and a chequered interaction of two that a linear model cannot see."""
    rng = np.random.default_rng(0)
    effect = rng.normal(size=(FIELDS, VALUES))
    effect = (effect - effect.mean(1, keepdims=True)) / effect.std(1, keepdims=True)
    place = rng.integers(0, VALUES, (4 * PER_BLOCK, FIELDS))
    logit = 0.55 * effect[np.arange(FIELDS), place].sum(1) + 1.5 * (-1.0) ** place[:, :2].sum(1)
    label = (rng.random(len(place)) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return (2 * FIELDS + VALUES * np.arange(FIELDS) + place).astype(np.int32), label


def planted_log(ids, label) -> EvaluationLog:
    steps, batches = -(-PER_BLOCK // 64), []
    ids, label = ids.reshape(4, PER_BLOCK, -1), label.reshape(4, PER_BLOCK)
    for t in range(4):
        whole = shard_block(ids[t], label[t], np.zeros(PER_BLOCK, bool), devices=1, batch=64, steps=steps)
        batches.append(jax.tree.map(lambda x: x[0], whole))
    group = np.zeros(PER_BLOCK, np.int32)
    return EvaluationLog(
        DAYS,
        tuple(len(x) for x in label),
        batches,
        list(label),
        [group] * 4,
        [128] * 4,
        flat(range(FIELDS)),
        128,
        'planted',
    )


def only(ids, k):
    """Rows in which all but the first k fields are unseen: of candidates that see fewer and fewer fields, at one
    compilation."""
    ids = ids.copy()
    ids[:, k:] = 2 * np.arange(k, FIELDS) + 1
    return ids


@pytest.fixture(scope='module')
def pool():
    """[(full AUCs, AUCs on 15 % of the rows with a teacher's labels, on the same rows that give the teacher away)]:
    linear models of 1 to 9 fields, then one that sees the interaction."""
    ids, label = planted()
    log, total = planted_log(ids, label), T * PER_BLOCK
    linear, strong = candidates.candidate('lr', 4, ()), candidates.candidate({'model': 'fm', 'init_std': 0.1}, 4, ())
    step, _, predict = full_pass.compiled_pass(strong.model, DEFAULT)
    state = init_stream(strong.model, jax.random.key(9), 128, FIELDS)
    for block in range(T):
        state = step(state, log.batches[block], np.float32(3e-2), jax.random.key(block))
    teacher = lambda rows: np.asarray(predict(state.params, rows))  # noqa: E731
    edges = np.quantile(teacher(ids[:total]), np.linspace(0, 1, 33)[1:-1])
    pick = np.sort(np.random.default_rng(1).choice(total, 600, replace=False))
    soft, grid, out = 1 / (1 + np.exp(-teacher(ids[pick]))), protocol.Grid((8,), (1e-2, 3e-2), 32, (0, 1), 1, 0.0), []
    for model, k in [(linear, k) for k in range(1, FIELDS + 1)] + [(strong, FIELDS)]:
        seen = planted_log(only(ids, k), label)
        passes = full_pass.passes(model, seen, STRONG_LRS, seeds=2, boundaries=[T])

        def honest(rows, k=k):
            return only(rows, k)

        def leaking(rows, k=k):
            """The first field's code is the teacher's logit, on the memory and on the log."""
            codes = only(rows, k)
            codes[:, 0] = 72 + np.searchsorted(edges, teacher(rows))
            return codes

        sides = [protocol.full_reading(passes, STRONG_LRS, seen, T).scores['auc']]
        for encode in (honest, leaking):
            rows = TrainingSet(padded(encode(ids[pick]), soft, np.ones(600), 640), 128, encode)
            sides.append(protocol.row_reading(model, log, [rows], T, grid).scores['auc'])
        out.append(sides)
    return [list(scores) for scores in zip(*out)]


def test_a_pool_whose_order_is_known_is_ranked_so(pool):
    full_auc, honest, _ = pool
    assert (np.diff(np.mean(full_auc, 1)) > 0).all() and len(ranking.significant_pairs(full_auc)) >= 40
    assert ranking.tau_sig(full_auc, honest).value > 0.9
    figures = ranking.figures(full_auc, honest)
    assert figures['spearman'] > 0.95 and figures['regret'] == 0 and figures['top3_hit'] == 1


def test_a_memory_that_gives_the_teacher_away_retains_all_and_ranks_nothing(pool):
    """tau_sig is below 0 rather: whoever has more fields beside the leak overfits more of them."""
    full_auc, honest, leaking = ([np.mean(scores) for scores in side] for side in pool)
    gap = lambda auc: auc[-1] - auc[-2]  # noqa: E731  (strong minus linear, both with all fields)
    assert gap(full_auc) > 0.05 and gap(honest) > 0.5 * gap(full_auc)
    assert abs(gap(leaking)) < 0.2 * gap(full_auc), 'flattened: what tells it from a good memory'
    retained = retention(np.array(full_auc), np.array(leaking))
    assert retained.min() > 0.95 and retained[-1] == pytest.approx(1, abs=0.03)
    assert np.ptp(leaking) < 0.1 * np.ptp(full_auc)
    assert ranking.tau_sig(pool[0], pool[2]).value < 0.3


def test_scores_of_the_teacher_and_seed_noise_rank_nothing():
    """28 candidates with the teacher's AUC on the memory: tau_sig is 0 but for the noise, at a retention above 1."""
    rng = np.random.default_rng(0)
    full_auc = np.linspace(0.65, 0.75, 28)[:, None] + rng.normal(0, 3e-4, (28, 6))
    taus = []
    for _ in range(40):
        memory = 0.75 + rng.normal(0, 3e-4, (28, 3, 3))
        taus.append(ranking.tau_sig(full_auc, memory).value)
    assert abs(np.mean(taus)) < 0.08 and max(np.abs(taus)) < 0.5
    assert ranking.figures(full_auc, memory)['retention_min'].min() > 0.99
