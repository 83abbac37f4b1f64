"""The trend instrument on a tiny pool: its files, what is done again and what is not, and what it refuses."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import test_scripts
import tiny
from sklearn.metrics import roc_auc_score
from test_scripts import TINY
from tiny import DAYS, ROWS, contents

from diet_jax import report
from diet_jax.base.atomic import read_json, write_json
from diet_jax.base.errors import UserError
from diet_jax.stats import ranking
from diet_jax.stats.judgement import judged
from diet_jax.stats.summaries import summary
from diet_jax.study import protocol, trends
from diet_jax.trials import full_pass

environment = test_scripts.environment  # a fixture
T = 2
NAMES = ['lr', 'lr-again', 'lr-no-user']
KINDS = ['memory', 'random_rows', 'random_rows_our_labels', 'static', 'early_stop', 'subsample']
POOL = """
from ml_collections import ConfigDict


def get_config():
    return ConfigDict(dict(dim=4, drop=(), weight_decay=0.0))


def sweep(add):
    add('lr', model='lr')
    add('lr-again', model='lr')
    add('lr-no-user', model='lr', drop=('item',), confirmation=True)
    add('mlp-no-place', model='mlp', drop=('context',))
"""
HEAD = POOL[: POOL.index("    add('lr',")]
SECTION = dict(confirmation=True, full_seeds=2, distillations=2, rivals=(*KINDS[1:], 'halving'), visit_batch=16)
SECTION |= dict(visit_learning_rates=(1e-1,), resamples=20, user_resamples=10)
# Rates at which a few steps are enough for logits that float16 tells apart.
EVALUATE = dict(learning_rates=(3e-2,), student_learning_rates=(3e-2, 1e-1))


def get_config(pool, **section):
    """The role 'item' is the field user, and there is no context: 'mlp-no-place' has nothing to leave out."""
    config = tiny.get_config()
    config.evaluate.update(EVALUATE)
    config.trends.update(pool=str(pool), **{**SECTION, **section})
    config.roles.item = 'user'
    return config


@pytest.fixture(scope='module')
def runs(distilled, tmp_path_factory):
    """Two distillations of the log, seeds 0 and 1."""
    other, config = tmp_path_factory.mktemp('seed') / 'run', tiny.get_config()
    config.seed = 1
    tiny.distill(other, config)
    return [distilled, other]


@pytest.fixture(scope='module')
def asked(runs):
    """Instead of distilling: the stages of the two runs that are there. [(config, folder)], what was asked for."""
    calls = []

    def distill(config, folder, emit):
        calls.append((config, folder))
        for kept in ('history', 'twins'):
            shutil.copytree(runs[config.seed] / kept, folder / kept, dirs_exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trends, 'distill', distill)
        patch.setattr(trends.overhead, 'outdated', lambda run: False)  # no clock
        yield calls


@pytest.fixture(scope='module')
def pool(tmp_path_factory):
    path = tmp_path_factory.mktemp('pool') / 'pool.py'
    path.write_text(POOL)
    return path


@pytest.fixture(scope='module')
def workdir(asked, pool, tmp_path_factory):
    """A finished study, to be read or copied."""
    workdir = tmp_path_factory.mktemp('study') / 'study'
    trends.trends(get_config(pool), workdir, (), 'command', lambda line: None)
    return workdir


@pytest.fixture(scope='module')
def result(workdir):
    return read_json(workdir / 'trends.json')


@pytest.fixture
def copy(workdir, tmp_path):
    """A copy of the study, with the passes that are kept beside it."""
    shutil.copytree(workdir.parent / 'full-side', tmp_path / 'full-side')
    return shutil.copytree(workdir, tmp_path / 'study')


def again(workdir, config, memories=()):
    return trends.trends(config, workdir, memories, 'command', lambda line: None)


class Trained(Exception):
    """Something was trained."""


@pytest.fixture
def idle(monkeypatch):
    """Whatever trains raises Trained; and rows to train on are not looked for."""

    def fail(*_, **__):
        raise Trained

    trains = ((full_pass, 'passes'), (protocol, 'row_reading'), (trends, 'cheap_reading'), (protocol, 'train_grid'))
    for place, name in trains:
        monkeypatch.setattr(place, name, fail)
    monkeypatch.setattr(trends, '_rows', lambda *_: [])


def outcome(workdir):
    """What a study must give byte for byte, apart from seconds and the lines of its log."""
    files = {k: v for k, v in contents(workdir).items() if k != 'log.txt'}
    return {k: timeless(json.loads(v)) if k.endswith('.json') else v for k, v in files.items()}


def timeless(tree):
    if isinstance(tree, dict):
        return {k: timeless(v) for k, v in tree.items() if k not in ('seconds', 'checksum')}
    return [timeless(x) for x in tree] if isinstance(tree, list) else tree


# What is written.


def test_the_files_and_what_they_say(workdir, result):
    files = [k for k in contents(workdir) if not k.startswith(('blocks/', 'distillations/'))]
    each = [f'candidates/{name}.json' for name in NAMES] + [f'predictions/{name}.npy' for name in NAMES]
    assert sorted(files) == sorted([*each, 'predictions/block.npz', 'log.txt', 'trends.json'])
    assert result['command'] == 'command' and result['pool']['candidates'] == [*NAMES, 'mlp-no-place']
    assert result['pool']['sets'] == {'development': NAMES[:2], 'confirmation': NAMES[2:], 'all': NAMES}
    said = result['protocol']
    assert (said['stage'], said['tuned_on'], said['scored_on']) == (T, DAYS[2], DAYS[3])
    assert (said['full_pass_rows'], said['memory_rows'], said['row_budget']) == (T * ROWS, [32, 32], 0.05)
    assert said['distillation_seeds'] == [0, 1] and (said['full_seeds'], said['student_seeds']) == (2, 2)
    # rows, epochs on codes and on ids, learning rates, seeds, memories
    visits = {'full': T * ROWS * 1 * 2, 'memory': 32 * (2 + 1) * 2 * 2 * 2}
    assert said['tuning_row_visits'] == visits and said['evaluation_row_visits'] == 2 * ROWS
    for candidate, name in zip(result['candidates'], NAMES, strict=True):
        assert candidate == read_json(workdir / 'candidates' / f'{name}.json')
        assert candidate['name'] == name and candidate['confirmation'] == (name == NAMES[2])
        assert list(candidate['rivals']) == KINDS[1:]
    raced = result['candidates'][0]['full']['raced']['halving']  # [rungs, learning rates, seeds]
    assert np.shape(raced) == (2, 1, 2) and said['rows_of_rungs'] == [ROWS, T * ROWS]
    assert result['candidates'][2]['config']['drop'] == ['user'], 'the field that the role names'
    ratios = [candidate['memory']['cost_ratio'] for candidate in result['candidates']]
    assert said['cost_ratio'] == pytest.approx(np.mean(ratios))
    for kind in ('early_stop', 'subsample'):
        for c in result['candidates']:
            assert [p['row_visits'] for p in c['rivals'][kind]['frontier']] == [64, 96]
            assert [p['cost_ratio'] for p in c['memory']['frontier']] == [10.0, 20 / 3]


def test_predictions_give_the_raw_scores_in_the_order_that_is_said(workdir, result, runs):
    with np.load(workdir / 'predictions' / 'block.npz', allow_pickle=False) as block:
        label, group = block['label'], block['group']
    scored = tiny.opened(runs[0]).stream.load(T + 1)
    np.testing.assert_array_equal(label, scored.label)
    np.testing.assert_array_equal(group, scored.group)
    index = result['protocol']['predictions']
    assert len(index) == 2 + len(KINDS) * 2 * 2 and [run['side'] for run in index[2::4]] == KINDS
    for candidate in result['candidates']:
        logits = np.load(workdir / 'predictions' / f'{candidate["name"]}.npy', allow_pickle=False)
        assert logits.dtype == np.float16 and logits.shape == (len(index), ROWS)
        for run, z in zip(index, logits):
            scores = candidate if run['side'] in ('full', 'memory') else candidate['rivals']
            auc = scores[run['side']]['auc']
            if run['side'] != 'full':
                auc = auc[result['protocol']['distillation_seeds'].index(run['distillation'])]
            # Rounding keeps the order, and makes ties: a score lies between all of them lost and all of them won.
            clicked, not_clicked = z[label == 1][:, None], z[label == 0][None]
            won, tied = (clicked > not_clicked).mean(), (clicked == not_clicked).mean()
            assert won - 1e-6 <= auc[run['seed']] <= won + tied + 1e-6
            # After few steps float16 ties; on the codes of one day's memory many rows are the same row.
            assert tied < (0.25 if run['side'] == 'static' else 0.2)


def test_the_memories_and_the_static_ones_are_asked_for_as_the_protocol_says(workdir, asked):
    said = [(c.seed, f.name, c.data.until, c.data.simulated.blocks) for c, f in asked[:4]]
    assert said == [
        (0, '0', DAYS[1], 2),
        (1, '1', DAYS[1], 2),
        (0, 'static-0', DAYS[0], 1),
        (1, 'static-1', DAYS[0], 1),
    ]
    assert [c.memory.row_budget for c, _ in asked[:2]] == [0.05, 0.05]
    assert [int(c.memory.row_budget * ROWS) for c, _ in asked[2:4]] == [32, 32], 'as many rows as the memory has'
    assert all(f.parent == workdir / 'distillations' for _, f in asked[:4])


def test_the_summary_is_computed_from_the_raw_scores_alone(copy, result):
    path, bytes_ = copy / 'trends.json', (copy / 'trends.json').read_bytes()
    write_json(path, {**result, 'summary': None})
    assert trends.summarised(trends.read_trends(path), copy)['summary'] == result['summary']
    assert path.read_bytes() == bytes_
    assert list(result['summary']) == ['development', 'confirmation', 'all']
    everything = result['summary']['all']['auc']
    assert everything['candidates'] == NAMES and 'test users' in everything['intervals']
    assert set(everything['rivals']) == set(KINDS[1:])
    plain = summary(result['candidates'], 'gauc', 20, 0)
    assert json.loads(json.dumps(plain)) == result['summary']['all']['gauc']
    # Two names of one model are one candidate to everything that trains.
    one, other = result['candidates'][:2]
    assert timeless(one) == timeless({**other, 'name': 'lr'})
    # Without predictions beside it users cannot be redrawn, nor functions compared, and it says so.
    shutil.rmtree(copy / 'predictions')
    alone = trends.summarised(trends.read_trends(path), copy)['summary']['all']
    assert 'test users' not in alone['auc']['intervals'] and alone['answer'] == {}


# Twins.


def test_twins_are_scored_on_the_block_that_candidates_are_scored_on(result, runs):
    """As they stood after stage T: values that the log had not shown by then are their field's unseen one."""
    assert list(result['twins']) == ['deepfm', 'lr']
    for r, folder in enumerate(runs):
        run = tiny.opened(runs[0])  # the log is the same
        block, known = run.stream.load(T + 1), run.stream.blocks[T - 1].num_slots
        ids = np.where(block.ids < known, block.ids, 2 * np.arange(run.layout.columns) + 1)
        assert (ids != block.ids).any()
        with np.load(folder / 'twins' / f'{T:05d}.npz') as kept:
            assert len(kept['1_table']) == known
            z = kept['1_table'][ids][..., 0].sum(1)  # of logistic regression: first order weights, a bias moves all
        assert result['twins']['lr']['auc'][r] == pytest.approx(roc_auc_score(block.label, z), abs=1e-6)
        for scores in result['twins'].values():
            assert {metric: len(x) for metric, x in scores.items()} == dict.fromkeys(ranking.METRICS, 2)


def test_the_answer_is_of_the_raw_scores_and_the_predictions_beside_them(result, workdir):
    assert {name: list(s['answer']) for name, s in result['summary'].items()} == {
        'development': KINDS,
        'confirmation': [],  # no twin among them
        'all': KINDS,
    }
    index, logits = result['protocol']['predictions'], {}
    for kind in KINDS:
        at = [[i for i, run in enumerate(index) if (run['side'], run.get('distillation')) == (kind, d)] for d in (0, 1)]
        flat = [np.load(workdir / 'predictions' / f'{name}.npy').astype(np.float32) for name in NAMES]
        logits[kind] = np.stack([[z[rows].mean(0) for rows in at] for z in flat])
    again = judged(result['candidates'], result['twins'], logits)
    assert json.loads(json.dumps(again)) == result['summary']['all']['answer']
    assert again['memory']['twins'] == ['lr']  # deepfm, the other, is not in the pool
    assert sum(pairs for *_, pairs in again['memory']['reliability']) == 2 * 3, 'distillations, pairs'
    assert 'with twins' in report.trends_table(result)


def test_memories_without_twins_give_no_answer(copy, pool, runs, result, idle, tmp_path):
    """Moved out of their runs; everything else is as it was."""
    moved = [shutil.copytree(run / 'history' / '00002', tmp_path / f'moved-{i}' / 'x') for i, run in enumerate(runs)]
    new = again(copy, get_config(pool), [str(folder) for folder in moved])
    assert new['twins'] == {} and all(s['answer'] == {} for s in new['summary'].values())
    assert new['candidates'] == result['candidates'] and 'with twins' not in report.trends_table(new)
    for name, s in new['summary'].items():
        assert json.loads(json.dumps(s['auc'])) == result['summary'][name]['auc']


# What is done again.


def test_a_second_run_does_nothing(copy, pool, runs, idle):
    before, said = contents(copy), outcome(copy)
    again(copy, get_config(pool))
    after = contents(copy)
    assert {k for k in after if after[k] != before.get(k)} == {'log.txt'} and after.keys() == before.keys()
    again(
        copy, get_config(pool), [str(run / 'history' / '00002') for run in runs]
    )  # the same memories, by their folders
    assert outcome(copy) == said


@pytest.mark.parametrize('lost', ['candidates/lr-again.json', 'predictions/lr-again.npy'])
def test_only_what_is_gone_is_done_again(copy, pool, lost, monkeypatch):
    before, done = outcome(copy), []
    row_reading = protocol.row_reading
    monkeypatch.setattr(protocol, 'row_reading', lambda c, *a, **k: done.append(c.name) or row_reading(c, *a, **k))
    monkeypatch.setattr(full_pass, 'one_pass', lambda *_, **__: pytest.fail('a pass over the log was trained again'))
    (copy / lost).unlink()
    again(copy, get_config(pool))
    assert set(done) == {'lr-again'} and outcome(copy) == before


def test_what_a_score_depends_on_is_done_again_and_nothing_else(copy, pool, result, idle):
    for section in (dict(resamples=30), dict(user_resamples=5), dict(confirmation=False), dict(only=('lr-no-user',))):
        new = again(copy, get_config(pool, **section))
        by_name = {c['name']: c for c in result['candidates']}
        assert all(c == by_name[c['name']] for c in new['candidates'])
    assert new['pool']['sets'] == {'confirmation': ['lr-no-user']}
    config = get_config(pool)
    config.evaluate.candidates, config.evaluate.first_stage = ('fm',), 9
    config.trends.rivals = ()
    again(copy, config)
    changes = [
        lambda c: c.trends.update(full_seeds=3),
        lambda c: c.trends.update(view='mean'),
        lambda c: c.evaluate.update(by_ids=0.5),
        lambda c: c.trends.update(visit_batch=32),
        lambda c: c.evaluate.update(seeds=3),
        lambda c: c.evaluate.update(epochs=(1, 3)),
        lambda c: c.evaluate.update(student_batch=8),
        lambda c: c.evaluate.update(learning_rates=(2e-3,)),
        lambda c: c.reference.update(learning_rate=1e-3),
        lambda c: c.data.update(group='item'),
        lambda c: c.codebook.update(codes=13),
    ]
    for change in changes:
        config = get_config(pool)
        change(config)
        with pytest.raises(Trained):
            again(copy, config)


# Orders that are known.


def test_a_pool_of_identical_candidates_is_undefined_in_words(asked, tmp_path):
    (tmp_path / 'pool.py').write_text(HEAD + "    for i in range(9):\n        add(f'lr-{i}', model='lr')\n")
    result = again(tmp_path / 'study', get_config(tmp_path / 'pool.py', rivals=()))
    auc = result['summary']['development']['auc']
    assert list(result['summary']) == ['development'] and auc['pairs'] == {'all': 36, 'significant': 0, 'hard': 0}
    assert auc['memory']['tau_sig']['mean'] is None
    assert auc['memory']['tau_sig']['text'].startswith('undefined: 0 significant pairs, 30 needed')
    assert auc['memory']['spearman']['text'] == 'undefined: all scores of one side are equal'
    assert auc['memory']['regret']['mean'] == 0 and auc['rivals'] == {}
    assert auc['ceiling']['tau_sig']['text'] == 'undefined: 2 full-log seeds, 6 needed'


def test_raw_scores_of_a_known_order_are_ranked_so(result, tmp_path):
    """Twelve candidates a hundredth apart: the memory keeps the order, one rival turns it round, one says nothing."""
    rng, seeds = np.random.default_rng(0), lambda mean, *shape: (mean + 1e-4 * rng.normal(size=shape)).tolist()  # noqa: E731
    scores = lambda auc, *shape: {m: seeds(auc, *shape) for m in ('auc', 'gauc')} | {'logloss': seeds(1 - auc, *shape)}  # noqa: E731
    candidates = [
        {
            'name': str(i),
            'full': scores(0.6 + 0.01 * i, 6),
            'memory': scores(0.55 + 0.01 * i, 3, 2),
            'rivals': {'turned': scores(0.7 - 0.01 * i, 3, 2), 'flat': scores(0.7, 3, 2)},
        }
        for i in range(12)
    ]
    sets = {'development': [str(i) for i in range(12)], 'confirmation': ['3', '5']}
    raw = {**result, 'candidates': candidates, 'pool': {**result['pool'], 'sets': sets}}
    made = trends.summarised(raw, tmp_path)['summary']
    assert json.loads((tmp_path / 'trends.json').read_text())['summary'] == json.loads(json.dumps(made))
    for metric in ranking.METRICS:
        side = made['development'][metric]
        assert side['memory']['tau_sig']['mean'] == side['memory']['top3_hit']['mean'] == 1
        assert side['rivals']['turned']['tau_sig']['mean'] == -1 and side['memory']['regret']['mean'] == 0
        assert abs(side['rivals']['flat']['tau_sig']['mean']) < 0.6
        assert side['ceiling']['tau_sig']['value'] == 1
        assert made['confirmation'][metric]['memory']['tau_sig']['mean'] is None
        assert made['confirmation'][metric]['candidates'] == ['3', '5']


# What is refused, in one line and before any work.


def test_memories_that_the_protocol_does_not_allow_are_refused(runs, pool, asked, tmp_path, idle):
    at = lambda run, stage: str(runs[run] / 'history' / f'{stage:05d}')  # noqa: E731
    config = get_config(pool, rivals=())
    other = get_config(pool, rivals=())
    other.data.simulated.rows_per_block = 300
    fields = get_config(pool, rivals=())
    fields.data.fields = ('user', 'tab')
    for config_, memories, said in (
        (config, [at(0, 3)], f'has seen block {DAYS[2]}, the protocol of stage 2 allows {DAYS[1]}'),
        (config, [str(runs[0] / 'memory')], f'memory has seen block {DAYS[3]}'),
        (config, [at(0, 2), at(1, 1)], f'has seen block {DAYS[0]}'),
        (config, [at(0, 2), at(0, 2)], 'distilled with seeds [0, 0]'),
        (config, [str(tmp_path)], 'is not a memory'),
        (other, [at(0, 2)], 'has seen 640 rows'),
        (fields, [at(0, 2)], 'has the fields user, item'),
    ):
        with pytest.raises(UserError) as error:
            again(tmp_path / 'study', config_, memories)
        assert said in str(error.value) and '\n' not in str(error.value)


def test_a_mistake_in_the_study_is_one_line(copy, pool, asked, tmp_path, idle):
    asked.clear()
    paths = {}
    for name, body in {
        'twice': "    add('a', model='lr')\n    add('a', model='fm')\n",
        'slash': "    add('a/b', model='lr')\n",
        'field': "    add('a', model='lr', drop=('usr',))\n",
        'option': "    add('a', model='mlp', hiden=(3,))\n",
        'model': "    add('a')\n",
        'raises': '    1 / 0\n',
        'none': "    add('a', model='lr', drop=('context',))\n",
    }.items():
        paths[name] = tmp_path / f'{name}.py'
        paths[name].write_text(HEAD + body)
    (tmp_path / 'empty.py').write_text('')
    for path, section, said in (
        (tmp_path / 'gone.py', {}, 'gone.py: there is no such file'),
        (tmp_path / 'empty.py', {}, 'empty.py has no get_config() and sweep(add)'),
        (paths['twice'], {}, "candidate 'a' is added twice"),
        (paths['slash'], {}, "candidate 'a/b': it becomes a file: no / or"),
        (paths['field'], {}, "candidate a drops 'usr', which is no field of the log (did you mean 'user'?)"),
        (paths['option'], {}, "no option 'hiden'"),
        (paths['model'], {}, 'names no model'),
        (paths['raises'], {}, 'raises.py: ZeroDivisionError: division by zero'),
        (paths['none'], {}, 'no candidate is left: left out: a (drops the context, and roles.context names no field)'),
        (pool, dict(only=('lr-agin',)), "trends.only names 'lr-agin', which is not in"),
        (
            pool,
            dict(rivals=('halving_by_slice',)),
            'halving_by_slice: its slices are of roles.context, which names no field',
        ),
        (pool, dict(rivals=('randm_rows',)), "trends.rivals holds 'randm_rows' (did you mean 'random_rows'?)"),
        (pool, dict(view='sof'), "trends.view is 'sof' (did you mean 'soft'?): it must be one of blend, soft"),
        (pool, dict(full_seeds=1), 'trends.full_seeds is 1'),
        (pool, dict(stage=3), 'trends.stage is 3, the log has 4 blocks'),
    ):
        with pytest.raises(UserError) as error:
            again(copy, get_config(path, **section))
        assert said in str(error.value) and '\n' not in str(error.value)
    config = get_config(pool)
    config.roles.creator = 'usr'
    paths['field'].write_text(HEAD + "    add('a', model='lr', drop=('creator',))\n")
    config.trends.pool = str(paths['field'])
    with pytest.raises(UserError, match="roles.creator is 'usr', which is no field of the log .did you mean 'user'"):
        again(copy, config)
    assert not asked, 'nothing is distilled for a study that cannot be made'
    for text in ('', '[]', '{"candidates": []}'):
        (tmp_path / 'trends.json').write_text(text)
        with pytest.raises(UserError, match='trends.json is not a trends.json .*: scripts/trends.py writes one'):
            trends.read_trends(tmp_path / 'trends.json')
    with pytest.raises(UserError, match='gone.json: there is no such file'):
        trends.read_trends(tmp_path / 'gone.json')


@pytest.mark.parametrize('block', [T, T + 1])
def test_blocks_of_one_class_cannot_be_ranked_on(copy, pool, block, idle):
    (path,) = copy.glob(f'blocks/*/rows/{block:05d}.parquet')
    table = pq.read_table(path)
    at = table.column_names.index('__label')
    pq.write_table(table.set_column(at, '__label', pa.array(np.zeros(ROWS, np.int8))), path)
    tiny.sealed(copy)
    with pytest.raises(UserError, match=f'block {DAYS[block]} has clicks only, or none: no AUC'):
        again(copy, get_config(pool))


def test_users_of_one_row_have_no_gauc(copy, pool, idle, monkeypatch):
    read_blocks = trends.read_blocks
    alone = lambda *args, **more: read_blocks(*args, **more)._replace(groups=[np.arange(ROWS)] * 4)  # noqa: E731
    monkeypatch.setattr(trends, 'read_blocks', alone)
    with pytest.raises(UserError, match=f"block {DAYS[3]}: no value of 'user' has rows with a click and without"):
        again(copy, get_config(pool))


# scripts/trends.py as a user runs it.


def test_the_launcher_says_every_mistake_in_one_line(environment, copy, pool, runs):
    flags = [f'--config={TINY}', f'--workdir={copy}', f'--config.trends.pool={pool}']
    cases = [
        ([*flags, '--config.trends.vew=soft'], "no key 'vew' (did you mean 'view'?)"),
        ([*flags, '--config.trends.rivals=random_rows,static'], "('random_rows', 'static')"),
        ([*flags, '--config.trends.view=sof'], "trends.view is 'sof'"),
        ([*flags, f'--memory={runs[0] / "memory"}'], f'has seen block {DAYS[3]}, the protocol of stage 2 allows'),
        ([*flags, '--memry=x'], 'memry'),
        ([*flags, 'again'], "'again' is not a flag"),
        ([flags[0]], '--config and --workdir are needed, or --from_json'),
        ([flags[0], '--workdir='], '--workdir is empty'),
        ([flags[0], f'--from_json={copy / "log.txt"}'], 'log.txt is not a trends.json'),
        ([flags[0], f'--from_json={copy / "gone.json"}'], 'gone.json: there is no such file'),
    ]
    before = contents(copy)
    done = test_scripts._run_all(environment, [('trends', *flags) for flags, _ in cases], copy)
    for (flags, said), (code, out, err) in zip(cases, done, strict=True):
        assert code == 2 and len(err.splitlines()) == 1 and err.startswith('error: ') and said in err, (flags, out, err)
    assert contents(copy) == before


def test_the_launcher_summarises_again(environment, copy, result):
    path = copy / 'trends.json'
    write_json(path, {**result, 'summary': None})
    ((code, out, err),) = test_scripts._run_all(environment, [('trends', f'--from_json={path}')], copy)
    assert (code, err) == (0, ''), out + err
    assert f'report: {copy / "report.html"}' in out and (copy / 'report.html').exists()
    assert read_json(path) == result
