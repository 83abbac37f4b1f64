"""The protocol of stage t: what is seen, chosen and scored where; and the two sides of the comparison by hand."""

import json
import shutil

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from sklearn.metrics import roc_auc_score
from tiny import DAYS, ROWS, contents

from diet_jax import models
from diet_jax.base.atomic import read_json
from diet_jax.base.errors import UserError
from diet_jax.models import candidates
from diet_jax.models.recipes import DEFAULT
from diet_jax.run.run import opened
from diet_jax.stats.scores import stage_order
from diet_jax.study import evaluate as ev
from diet_jax.study import rivals
from diet_jax.study.distillations import distillations
from diet_jax.training.passes import init_stream, predict, settled, stream_pass, stream_step
from diet_jax.training.students import init_student, student_epochs
from diet_jax.trials.log import read_blocks
from diet_jax.trials.rows import compact, padded, renumber
from diet_jax.trials.students import train_grid

SIDES = ('full', 'memory', *ev.FLOORS)


def _evaluate(workdir, replicates=(), **section):
    config = tiny.get_config()
    config.evaluate.update(section)
    said = []
    run = tiny.opened(workdir)
    return ev.evaluate(config, run, [tiny.opened(w, _seed(1)) for w in replicates], 'command', said.append)


def _seed(seed):
    config = tiny.get_config()
    config.seed = seed
    return config


def _side(candidate, side):
    """(chosen, scores) of one side of one candidate."""
    if side in ('full', 'memory'):
        return candidate['chosen'][side], candidate[side]
    return candidate['rivals'][side]['chosen'], candidate['rivals'][side]


def _timeless(tree):
    if isinstance(tree, dict):
        return {k: _timeless(v) for k, v in tree.items() if k != 'seconds'}
    return [_timeless(x) for x in tree] if isinstance(tree, list) else tree


def _relabel(workdir, block, change):
    """Rewrites the labels of one prepared block (0-based)."""
    (path,) = workdir.glob(f'blocks/*/rows/{block:05d}.parquet')
    table = pq.read_table(path)
    label = change(table['__label'].to_numpy()).astype(np.int8)
    pq.write_table(table.set_column(table.column_names.index('__label'), '__label', pa.array(label)), path)
    tiny.sealed(workdir)


@pytest.fixture(scope='module')
def workdir(distilled, tmp_path_factory):
    return shutil.copytree(distilled, tmp_path_factory.mktemp('evaluated') / 'run')


@pytest.fixture(scope='module')
def evaluated(workdir):
    return _evaluate(workdir)


@pytest.fixture(scope='module')
def other_seed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('seed') / 'run'
    tiny.distill(workdir, _seed(1))
    return workdir


def test_stages_and_what_they_may_see(evaluated, workdir):
    assert read_json(workdir / 'evaluate.json') == json.loads(json.dumps(evaluated))
    assert [(s['stage'], s['tuned_on'], s['scored_on']) for s in evaluated['stages']] == [
        (1, DAYS[1], DAYS[2]),
        (2, DAYS[2], DAYS[3]),
    ]
    for s in evaluated['stages']:
        manifest = json.loads((workdir / 'history' / f'{s["stage"]:05d}' / 'manifest.json').read_text())
        assert manifest['last_block'] == DAYS[s['stage'] - 1] < s['tuned_on'] < s['scored_on']
        assert manifest['rows'] == s['memory_rows']
        assert [c['name'] for c in s['candidates']] == ['lr', 'mlp']
        assert [c['config'] for c in s['candidates']] == [{'model': 'lr', 'dim': 4}, {'model': 'mlp', 'dim': 4}]
    assert evaluated['data']['blocks'] == [[day, ROWS] for day in DAYS] and evaluated['command'] == 'command'
    last = evaluated['stages'][-1]
    assert [f['block'] for f in last['forgetting']] == list(DAYS[:2]) and last['calibration']['candidate'] == 'mlp'


def test_numbers_follow_from_the_raw_values(evaluated):
    e = tiny.get_config().evaluate
    for s in evaluated['stages']:
        for candidate in s['candidates']:
            for side in SIDES:
                chosen, scores = _side(candidate, side)
                values = scores['auc'] if side == 'full' else scores['auc'][0]
                assert len(values) == e.seeds and all(0 <= v <= 1 for v in values)
                assert chosen['lr'] in (e.learning_rates if side == 'full' else e.student_learning_rates)
                if side == 'full':
                    assert scores['row_visits'] == s['stage'] * ROWS
                else:
                    on_codes = side != 'random_rows'
                    assert ('by_ids' in scores) == on_codes and len(scores['auc']) == 1
                    assert chosen['epochs'] - (0 if on_codes else e.id_epochs) in e.epochs
                    epochs = chosen['epochs'] + (e.id_epochs if on_codes else 0)
                    assert scores['row_visits'] == s['memory_rows'] * epochs
                    assert scores['cost_ratio'] == s['stage'] * ROWS / scores['row_visits']


def test_the_choice_is_made_before_the_scored_block_is_looked_at(evaluated, workdir, tmp_path, monkeypatch):
    """The fourth day's clicks turned into non-clicks: the same choices, and each AUC is one minus what it was."""
    flipped = shutil.copytree(workdir, tmp_path / 'run')
    _relabel(flipped, 3, lambda label: 1 - label)
    scored, auc = [], ev.metrics.auc
    target = 1 - tiny.opened(workdir).stream.load(3).label

    def counted(logits, labels, weight=None):
        scored.append(np.array_equal(labels, target))
        return auc(logits, labels, weight=weight)

    monkeypatch.setattr(ev.metrics, 'auc', counted)
    again = _evaluate(flipped)
    assert _timeless(again['stages'][0]) == _timeless(evaluated['stages'][0]), 'no part in stage 1'
    for old, new in zip(evaluated['stages'][1]['candidates'], again['stages'][1]['candidates']):
        for side in SIDES:
            (chosen, scores), (chosen2, scores2) = _side(old, side), _side(new, side)
            assert chosen == chosen2
            np.testing.assert_allclose(np.array(scores2['auc']), 1 - np.array(scores['auc']), atol=1e-12)
    # the chosen ones only: 2 candidates x (4 sides, two of them on ids too) x 2 seeds, and the truth of the simulation
    assert sum(scored) == 2 * (4 + 2) * 2 + 1


def test_the_choice_is_the_best_on_the_tuning_block(evaluated, workdir, tmp_path):
    """On flipped labels of the third day, stage 2 chooses what was worst there."""
    flipped = shutil.copytree(workdir, tmp_path / 'run')
    e = tiny.get_config().evaluate
    one_by_one = {lr: _evaluate(workdir, learning_rates=(lr,))['stages'][1]['candidates'] for lr in e.learning_rates}
    for i, candidate in enumerate(evaluated['stages'][1]['candidates']):
        tuning = {lr: c[i]['chosen']['full']['tuning_auc'] for lr, c in one_by_one.items()}
        best = max(tuning, key=tuning.get)
        assert candidate['chosen']['full'] == {'lr': best, 'tuning_auc': tuning[best]}
        assert candidate['full']['auc'] == one_by_one[best][i]['full']['auc']
    _relabel(flipped, 2, lambda label: 1 - label)
    again = _evaluate(flipped)['stages'][1]['candidates']
    for old, new in zip(evaluated['stages'][1]['candidates'], again):
        assert new['chosen']['memory']['tuning_auc'] >= 1 - old['chosen']['memory']['tuning_auc']
        assert new['chosen']['full']['tuning_auc'] >= 1 - old['chosen']['full']['tuning_auc']


def test_the_full_side_knows_nothing_of_the_memory(evaluated, workdir, other_seed):
    result = _evaluate(workdir, [other_seed])
    assert result['distillation_seeds'] == [0, 1]
    for old, new in zip(evaluated['stages'], result['stages']):
        for a, b in zip(old['candidates'], new['candidates']):
            assert _timeless(a['full']) == _timeless(b['full']) and a['chosen']['full'] == b['chosen']['full']
            assert len(b['memory']['auc']) == 2 and b['memory']['auc'][0] != b['memory']['auc'][1]
            same = a['chosen']['memory']['lr'] == b['chosen']['memory']['lr']
            if same and a['chosen']['memory']['epochs'] == b['chosen']['memory']['epochs']:
                assert b['memory']['auc'][0] == a['memory']['auc'][0]


def test_a_memory_that_has_seen_too_much_is_refused(workdir, tmp_path):
    cheat = shutil.copytree(workdir, tmp_path / 'run')
    shutil.rmtree(cheat / 'history' / '00001')
    shutil.copytree(cheat / 'history' / '00002', cheat / 'history' / '00001')
    before = contents(cheat)
    with pytest.raises(UserError, match=f'history/00001 has seen block {DAYS[1]}, .* stage 1 allows {DAYS[0]}'):
        _evaluate(cheat)
    shutil.rmtree(cheat / 'history' / '00001')
    with pytest.raises(UserError, match='history/00001, the memory of stage 1, is gone: restore it'):
        _evaluate(cheat)
    assert contents(cheat) == {k: v for k, v in before.items() if not k.startswith('history/00001')}


def test_what_cannot_be_evaluated_is_said_before_any_work(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(ev, 'read_blocks', lambda *_, **__: pytest.fail('a block was opened'))
    with pytest.raises(UserError, match="no model is named 'deepfn'"):
        _evaluate(workdir, candidates=('lr', 'deepfn'))
    config = tiny.get_config()
    config.data.until = DAYS[1]
    with pytest.raises(UserError, match='the log has 2 blocks: the protocol needs 3 at least'):
        ev.evaluate(config, tiny.opened(workdir, config))
    with pytest.raises(UserError, match='holds no memory: run scripts/distill.py'):
        opened(config, tmp_path / 'nothing')
    assert not (tmp_path / 'nothing').exists()


def test_the_memory_side_by_hand(evaluated, workdir):
    """A student trained on the files, scored on rows coded value by value: the AUC that evaluate.json says."""
    s, t = evaluated['stages'][1], 2
    folder = workdir / 'history' / f'{t:05d}'
    manifest = json.loads((folder / 'manifest.json').read_text())
    rows, log = pq.read_table(folder / 'rows.parquet'), tiny.opened(workdir).stream
    block, offset, codes, scored = log.load(t + 1), 0, [], []
    for f, field in enumerate(manifest['fields']):
        book = pq.read_table(folder / 'codebook' / f'{field["name"]}.parquet').to_pydict()
        book = dict(zip(book['value'], book['code']))
        codes.append(rows[f'{field["name"]}__code'].to_numpy() + offset)
        scored.append([book.get(v, book[None]) + offset for v in log.values(block.ids[:, f]).to_pylist()])
        offset += field['codes']
    codes, scored = np.stack(codes, 1).astype(np.int32), np.stack(scored, 1).astype(np.int32)
    label = np.mean([rows[name].to_numpy() for name in manifest['views']['blend']], 0)
    data = padded(codes, label, rows['weight'].to_numpy(), 64)
    for candidate in s['candidates']:
        built, chosen = candidates.candidate(candidate['name'], 4, ()), candidate['chosen']['memory']
        model, grid = (
            built.model,
            train_grid(built, data, 5 * 12, batch=16, epochs=(1, 2), lrs=(3e-3, 1e-2), seeds=(0, 1)),
        )
        at = (1, 2).index(chosen['epochs']), (3e-3, 1e-2).index(chosen['lr'])
        for seed in range(2):
            params = jax.tree.map(lambda x, at=at, seed=seed: x[at][seed], grid.params)
            auc = roc_auc_score(block.label, np.asarray(model.apply(params, scored)))
            assert candidate['memory']['auc'][0][seed] == pytest.approx(auc, abs=1e-4)


def test_the_full_side_by_hand(evaluated, workdir):
    """One pass over D_1, D_2 in order; what the log brings later is read as unseen."""
    log = tiny.opened(workdir).stream
    s, known = evaluated['stages'][1], log.blocks[1].num_slots
    candidate = s['candidates'][0]
    model, chosen = models.build('lr', dim=4), candidate['chosen']['full']
    state = init_stream(model, jax.random.key(1), 1024, 5)
    for t in range(2):
        block = log.load(t)
        for k in range(0, ROWS, 64):
            part = slice(k, k + 64)
            ones = np.ones(64, np.float32)
            state, _ = stream_step(model, state, block.ids[part], block.label[part], ones, chosen['lr'])
    state = settled(DEFAULT, state, chosen['lr'])
    block = log.load(3)
    assert (block.ids >= known).any()
    ids = np.where(block.ids < known, block.ids, 2 * np.arange(5) + 1)
    auc = roc_auc_score(block.label, np.asarray(model.apply(state.params, ids)))
    assert candidate['full']['auc'][1] == pytest.approx(auc, abs=1e-4)


def test_the_floors_come_from_the_rows_seen_and_the_streams_own_reference_model(workdir):
    run = tiny.opened(workdir)
    data = read_blocks(run.stream, 64, run.slots)
    (source,) = distillations([run], [1, 4], data)
    for t in (1, 4):
        seen, own, ours = source.seen(t), source.rival('random_rows', t), source.rival('random_rows_our_labels', t)
        rows = np.concatenate([np.c_[b.ids, b.label] for b in map(run.stream.load, range(t))])
        np.testing.assert_array_equal(np.c_[seen.ids, seen.label], rows)
        n = int(own.data.rows)
        assert n == ours.data.rows == source.size(t) == int(0.05 * t * ROWS)
        index = rivals.choose('random', seen, n, 0).index
        np.testing.assert_array_equal(own.data.ids[:n], own.encode(seen.ids[index]))
        np.testing.assert_array_equal(own.data.target[:n], seen.label[index])
        np.testing.assert_array_equal(ours.data.ids[:n], ours.encode(seen.ids[index]))
    predicted = np.asarray(predict(run.reference, run.state.reference.params, seen.ids[index]), np.float64)
    np.testing.assert_allclose(ours.data.target[:n], 1 / (1 + np.exp(-predicted)), rtol=1e-6)


def test_the_reference_model_is_replayed_to_rounding(workdir):
    """What evaluation trains again, block by block, are the parameters of the stream.

    Not bit for bit: the stage is one compiled program and the replay another, and XLA rounds them differently (by
    up to 4e-9 where this was measured). A batch left out, repeated or out of order would show as 1e-4 and more.
    """
    run = tiny.opened(workdir)
    data, state = read_blocks(run.stream, 64, run.slots), run.initial().reference
    rate = run.config.reference.learning_rate
    teach = jax.jit(lambda s, b: settled(DEFAULT, stream_pass(run.reference, s, b, rate)[0], rate))
    for batches in data.batches:
        state = teach(state, batches)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(run.state.reference.params)):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('name', ['lr', 'mlp'])
def test_a_compact_table_trains_as_the_whole_one(name):
    """Rows that no training row touches do not matter: leaving them out changes no prediction."""
    rng = np.random.default_rng(0)
    slots, fields = 40, 3
    ids = (rng.integers(0, 5, (24, fields)) * 2 + np.array([0, 11, 25])).astype(np.int32)
    target, ones = rng.random(24), np.ones(24)
    model = models.build(name, dim=4)
    whole = init_student(model, jax.random.key(0), slots, fields)
    touched, renumbered = compact(ids)
    np.testing.assert_array_equal(touched[renumbered], ids)
    assert list(touched) == sorted(set(ids.ravel()))
    spare = np.setdiff1d(np.arange(slots), touched)[:fields]  # one row a field that nobody trains
    table = whole.params['table'][np.r_[touched, spare]]
    small = init_student(model, jax.random.key(0), len(table), fields)
    small = small._replace(params={'table': table, 'head': whole.params['head']})
    train = lambda state, x: student_epochs(  # noqa: E731
        model, state, padded(x, target, ones, 32), jax.random.key(1), 1e-2, 3, batch=8
    )
    trained_whole, trained_small = train(whole, ids).params, train(small, renumbered).params
    new = np.concatenate([ids[:5], np.tile(ids[:1], (3, 1))])
    new[5, 0], new[6, 1], new[7, 2] = 1, 12, 38  # values that the rows do not have: the untrained row of their field
    as_spare = new.copy()
    as_spare[5, 0], as_spare[6, 1], as_spare[7, 2] = spare
    np.testing.assert_allclose(
        model.apply(trained_small, renumber(touched, new, np.arange(ids.shape[1]))),
        model.apply(trained_whole, as_spare),
        rtol=1e-5,
        atol=1e-6,
    )


def test_padding_and_unseen_values_of_the_log(workdir):
    log = tiny.opened(workdir).stream
    data = read_blocks(log, 96, 1024)  # 320 rows are not a multiple: the last batch is padded
    block, known = log.load(3), log.blocks[0].num_slots
    ids = data.ids(3, known)
    assert ids.shape == (384, 5) and not ids[ROWS:, :].any()
    for f in range(5):
        expected = np.where(block.ids[:, f] < known, block.ids[:, f], 2 * f + 1)
        np.testing.assert_array_equal(ids[:ROWS, f], expected)
    assert data.capacity == 1024 and data.keys == DAYS


def test_tau_sig_of_a_stage_is_that_of_the_trend_instrument_and_undefined_with_few_pairs():
    full = [[0.70 + 0.002 * i, 0.7001 + 0.002 * i] for i in range(10)]
    memory = [[[0.6 + 0.001 * i] * 2, [0.6 + 0.001 * (i if i < 8 else 17 - i)] * 2] for i in range(10)]
    stage = {
        'candidates': [
            {'name': f'c{i}', 'full': {'auc': f}, 'memory': {'auc': m}, 'rivals': {'flat': {'auc': [[0.6], [0.6]]}}}
            for i, (f, m) in enumerate(zip(full, memory))
        ]
    }
    both = stage_order(stage, 'memory')  # the second distillation has the last two the wrong way round
    assert (both.mean, both.runs) == (pytest.approx(1 - 1 / 45), 2)
    assert stage_order(stage, 'flat').mean == 0 and stage_order(stage, 'absent') is None
    assert stage_order({'candidates': stage['candidates'][:8]}, 'memory') is None
