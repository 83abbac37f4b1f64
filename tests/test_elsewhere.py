"""Models that live elsewhere: what an export holds is what the library's own students train on, and predictions come
back whole or not at all."""

import functools
import json
import subprocess
import sys
from types import SimpleNamespace

import listed
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from sklearn.metrics import roc_auc_score

from diet_jax import elsewhere
from diet_jax.base.errors import UserError
from diet_jax.elsewhere import fuxictr
from diet_jax.elsewhere.export import LABEL, WEIGHT, View, _view
from diet_jax.elsewhere.predictions import read_predictions, write_predictions
from diet_jax.elsewhere.trainings import source_of
from diet_jax.models.candidates import candidate
from diet_jax.study import export as exporting
from diet_jax.study import outside, protocol
from diet_jax.study.asked import opened
from diet_jax.trials.students import laid_out, train_grid

QUIET = {'emit': lambda line: None}


@pytest.fixture(scope='module')
def folder(distilled, tmp_path_factory):
    return exporting.export(distilled / 'memory', tmp_path_factory.mktemp('to') / 'exports', with_log=True, **QUIET)


@pytest.fixture(scope='module')
def export(folder):
    return elsewhere.open_export(folder)


@pytest.fixture(scope='module')
def asked(distilled):
    return opened([distilled / 'memory'], lambda line: None)


def clicks(train, lr, seed):
    """A model that needs no learning: the click rate of the first field's codes, a little noise by the seed."""
    size, code = train.view.fields[0].size, train.codes[:, 0]
    noise = np.random.default_rng(seed).normal(0, 1e-3, size)
    rate = (np.bincount(code, train.target, size) + lr) / (np.bincount(code, minlength=size) + 1)
    return lambda rows: np.clip(rate + noise, 0, 1)[rows.codes[:, 0]]


def test_nothing_leaks(export, distilled):
    """The memory of the stage that compare asks, and the two blocks after it."""
    about = export.about
    assert (about['stage'], about['last_block'], about['tuned_on'], about['scored_on']) == (2, *tiny.DAYS[1:])
    assert about['memory'].endswith('history/00002') and about['rows']['log'] == 2 * tiny.ROWS


def test_codes_are_those_that_students_train_on(export, asked):
    memory, rows = asked.artifacts[0], export.rows('codes', 'train')
    np.testing.assert_array_equal(rows.codes, memory.table_rows)
    np.testing.assert_array_equal(rows.target, memory.label())
    assert rows.view.num_codes == memory.num_codes and (rows.weight == 1).all()
    for split, block in (('valid', 2), ('test', 3)):
        ids = asked.log.ids(block, asked.log.num_slots[1])[: tiny.ROWS]
        np.testing.assert_array_equal(export.rows('codes', split).codes, memory.code_of_slots(asked.stream)[ids])
        np.testing.assert_array_equal(export.rows('codes', split).target, asked.log.labels[block])


def test_ids_are_those_that_students_train_on_up_to_their_names(export, asked):
    """The same rows have the same number, field by field, and what no training row has shares one number."""
    theirs = asked.rows[0].by_ids
    train, test = export.rows('ids', 'train'), export.rows('ids', 'test')
    np.testing.assert_array_equal(train.target, asked.artifacts[0].label('soft'))
    known = np.asarray(theirs.data.ids)[: len(train)]
    rows = theirs.encode(asked.log.ids(3, asked.log.num_slots[1]))[: tiny.ROWS]
    for f, field in enumerate(train.view.flat):
        both = np.concatenate([train.codes[:, f], test.codes[:, f]])
        ours = np.concatenate([known[:, f], rows[:, f]])
        pairs = set(zip(both.tolist(), ours.tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert field.unseen not in train.columns[field.name]


def test_the_log_comes_in_time_order_without_what_came_later(export, asked):
    found = list(export.batches('log', 'train', 100))
    assert max(map(len, found)) == 100 and sum(map(len, found)) == 2 * tiny.ROWS
    labels = np.concatenate([asked.stream.load(block).label for block in (0, 1)])
    np.testing.assert_array_equal(np.concatenate([rows.target for rows in found]), labels)
    test, known = export.rows('log', 'test'), asked.log.num_slots[1]
    new = asked.log.rows(3) >= known
    assert new.any()
    for f, field in enumerate(test.view.flat):
        assert (test.columns[field.name][new[:, f]] == field.unseen).all() and field.size <= known


def test_batches_are_passes_over_all_rows(export):
    rows = export.rows('codes', 'train')
    batches = list(rows.batches(seed=1))
    assert rows.view.passes == 2 and len(batches) == 2 * -(-len(rows) // 16)
    for half in (batches[: len(batches) // 2], batches[len(batches) // 2 :]):
        assert sorted(np.concatenate([b.target for b in half])) == sorted(rows.target)
    assert (batches[0].codes == next(rows.batches(seed=1)).codes).all()


def test_lists_are_padded_with_a_row_of_their_own():
    """Fields that lists share begin at 1, in every view, and FuxiCTR masks by zeros."""
    layout, ids = listed.layout_of(), listed.drawn()
    slots = listed.SLOTS
    stream = SimpleNamespace(
        layout=layout,
        num_slots=2 * 7 + slots,
        field_of_slot=lambda n: np.concatenate([np.repeat(np.arange(7), 2), np.arange(slots) % 7]),
        fields=[
            SimpleNamespace(name=n, kind='list' if s else 'categorical', weights='')
            for n, s in zip(layout.names, layout.sequences)
        ],
    )
    owner, asked = layout.owner_of_column(), SimpleNamespace(stream=stream)
    ids = np.where(ids >= 0, 2 * owner + 1, -1)
    numbering = exporting.by_ids(asked, ids)
    table = exporting._table(asked, numbering, ids, np.zeros(len(ids)), None)
    about = {'views': {'ids': {'passes': 1, 'batch': 2, 'learning_rates': [1], **exporting._view(asked, numbering)}}}
    view = _view('ids', {**about, 'seeds': [0], 'init_std': 0.1})
    assert [f.first for f in view.fields] == [0, 1, 1, 1, 1, 1, 1] and isinstance(view, View)
    assert view.num_codes == sum(f.size for f in view.fields if not f.shares)
    shut = elsewhere.Export.__new__(elsewhere.Export)
    shut.views = {'ids': view}
    rows = shut._rows(table, 'ids')
    for name, mask in rows.masks.items():
        np.testing.assert_array_equal(mask, ids[:, layout.at(layout.names.index(name))] >= 0)
    at = view.offsets['item']
    assert set(rows.lists['clicked'][rows.masks['clicked']]) == {at + 1} and (rows.codes[:, 1] == at + 1).all()
    features = {name: f for one in fuxictr.feature_map('ids', view.fields)['features'] for name, f in one.items()}
    assert 'padding_idx' not in features['user'] and features['item']['padding_idx'] == 0
    assert features['clicked']['padding_idx'] == 0 and features['clicked']['max_len'] == listed.L
    assert features['clicked']['vocab_size'] == features['item']['vocab_size']
    # FuxiCTR would leave its first-order weights at N(0, 1): 0.61 instead of 0.71 on KuaiRand with histories.
    assert not any('share_embedding' in feature for feature in features.values())


def test_the_files_are_what_the_card_and_fuxictr_say(export, folder):
    front = (folder / 'README.md').read_text().split('---')[1]
    for view in ('codes', 'ids', 'log'):
        features = json.loads((folder / view / 'feature_map.json').read_text())
        names = [name for one in features['features'] for name in one]
        assert {*names, LABEL, WEIGHT} == set(pq.read_schema(export.paths(view, 'test')[0]).names)
        assert f'config_name: "{view}"' in front and f'path: "{view}/valid' in front
        assert all('padding_idx' not in f for one in features['features'] for f in one.values())
    assert f'data_root: "{folder.absolute()}/"' in (folder / 'fuxictr' / 'dataset_config.yaml').read_text()


def test_an_export_is_written_once_and_whole(folder, distilled, tmp_path, monkeypatch):
    with pytest.raises(UserError, match='is there already.*name another folder in --to, or delete it'):
        exporting.export(distilled / 'memory', folder, **QUIET)

    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr(exporting, '_write_blocks', fail)
    with pytest.raises(OSError, match='disk full'):
        exporting.export(distilled / 'memory', tmp_path / 'new', **QUIET)
    assert not list(tmp_path.iterdir())


def test_it_starts_without_jax(folder):
    """A PyTorch user's process: the import of anything of JAX fails."""
    code = (
        'import sys\n'
        "for name in ('jax', 'jaxlib', 'flax', 'optax', 'ml_collections', 'absl', 'rich'): sys.modules[name] = None\n"
        'from diet_jax import elsewhere\n'
        'import numpy as np\n'
        f"elsewhere.grid(lambda train, lr, seed: lambda rows: np.full(len(rows), 0.5), {str(folder)!r}, 'half')\n"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'half: 8/8 ids, lr 0.01, seed 1: AUC on valid 0.5000' in done.stdout


def test_a_grid_that_was_stopped_goes_on(export):
    asked, lines = [], []

    def fit(train, lr, seed):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append((train.view.name, lr, seed))
        return clicks(train, lr, seed)

    with pytest.raises(KeyboardInterrupt):
        elsewhere.grid(fit, export, 'stopped', **QUIET)
    first = asked.copy()
    asked.clear()
    path = elsewhere.grid(
        lambda *a: asked.append((a[0].view.name, *a[1:])) or clicks(*a), export, 'stopped', emit=lines.append
    )
    assert len(first) == 3 and not set(first) & set(asked) and len(asked) == 5
    assert lines[0] == 'stopped: 3 of 8 trainings are there already' and not path.with_suffix('.part').exists()
    assert pq.read_schema(path).metadata[b'digest'].decode() == export.digest
    elsewhere.grid(clicks, export, 'stopped', emit=lines.append)
    assert 'is there already, and whole: delete it to train stopped again' in lines[-1]
    with pytest.raises(UserError, match='was written by another program: delete it, or give the candidate another'):
        elsewhere.grid(eval('lambda train, lr, seed: None'), export, 'stopped', **QUIET)
    found = read_predictions(path, export.asked, export.sizes, export.digest, seeds=2)
    assert found.lrs == {'codes': (0.003, 0.01), 'ids': (0.003, 0.01)}
    rows = export.rows('ids', 'test')
    expected = clicks(export.rows('ids', 'train'), 0.01, 1)(rows)
    np.testing.assert_allclose(found.by_split['ids', 'test'][1, 1], expected, rtol=1e-6)


def test_a_full_run_goes_over_the_log_in_time_order_and_is_an_anchor(export, distilled, tmp_path):
    """Tuned on valid and scored on test, once more by scikit-learn; stopped, it goes on."""
    asked, lines = [], []

    def fit(train, lr, seed):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append((lr, seed))
        seen = list(train.batches(seed))
        assert len(train) == sum(map(len, seen)) == 2 * tiny.ROWS and train.view.name == 'log'
        rows = export.rows('log', 'train')
        again = np.concatenate([batch.codes for batch in rows.batches(seed)])
        np.testing.assert_array_equal(np.concatenate([one.codes for one in seen]), again)
        np.testing.assert_array_equal(again, rows.codes)
        return clicks(rows, 300 * lr, seed)

    with pytest.raises(KeyboardInterrupt):
        elsewhere.full_run(fit, export, 'known', **QUIET)
    first = asked.copy()
    asked.clear()
    path = elsewhere.full_run(fit, export, 'known', framework='numpy', emit=lines.append)
    assert len(first) == 3 and sorted(first + asked) == [(lr, s) for lr in (0.002, 0.01) for s in (0, 1)]
    assert path == export.folder / 'anchors.jsonl' and not (export.folder / 'full' / 'known.part').exists()
    [line] = [json.loads(line) for line in path.read_text().splitlines()]
    train, score = export.rows('log', 'train'), {}
    for split in ('valid', 'test'):
        rows = export.rows('log', split)
        for lr in (0.002, 0.01):
            predicted = [np.float32(clicks(train, 300 * lr, seed)(rows)) for seed in (0, 1)]
            score[lr, split] = [roc_auc_score(rows.target, p) for p in predicted]
    assert line['lr'] == max((0.002, 0.01), key=lambda lr: np.mean(score[lr, 'valid']))
    np.testing.assert_allclose(line['aucs'], score[line['lr'], 'test'], atol=1e-9)
    assert line['auc'] == pytest.approx(np.mean(line['aucs'])) and line['framework'] == 'numpy'
    assert elsewhere.full_run(fit, export, 'known', emit=lines.append) == path
    assert 'has known already' in lines[-1] and len(path.read_text().splitlines()) == 1
    with pytest.raises(UserError, match="has a 'known' of another program: delete its line, or choose another name"):
        elsewhere.full_run(eval('lambda train, lr, seed: None'), export, 'known', **QUIET)
    bare = exporting.export(distilled / 'memory', tmp_path / 'bare', **QUIET)
    with pytest.raises(UserError, match='has no log to train on: export again, with --with_log, to another folder'):
        elsewhere.full_run(fit, bare, 'known', **QUIET)


def test_what_a_partial_binds_is_of_the_program():
    """One file, several models: trainings of one are not taken for another's."""
    bound = [functools.partial(clicks, seed=seed) for seed in (0, 1, 1)]
    first, other, again = map(source_of, bound)
    assert other == again and len({first, other, source_of(clicks)}) == 3
    assert source_of(SimpleNamespace()) != source_of(clicks)


def test_a_learning_rate_that_diverges_is_left_out(export):
    def fit(train, lr, seed):
        return clicks(train, lr, seed) if lr < 0.01 or seed else lambda rows: np.full(len(rows), np.nan)

    path = elsewhere.grid(fit, export, 'wild', **QUIET)
    assert read_predictions(path, export.asked, export.sizes, export.digest, seeds=2).lrs['codes'] == (0.003,)
    with pytest.raises(UserError, match='never: training on codes diverged at every learning rate'):
        elsewhere.grid(lambda *a: lambda rows: np.full(len(rows), np.nan), export, 'never', **QUIET)


@pytest.mark.parametrize(
    'predict, said',
    [
        (lambda rows: np.full(len(rows), 1.5), 'predict gave 1.5 for row 0: no probability.*apply the sigmoid'),
        (lambda rows: np.zeros((len(rows), 2)), r'predict gave an array of shape \(320, 2\), 320 probabilities'),
    ],
)
def test_what_is_no_probability_is_told_at_once(export, predict, said):
    with pytest.raises(UserError, match=f'codes, lr 0.003, seed 0: {said}'):
        elsewhere.grid(lambda *a: predict, export, 'odd', **QUIET)


def test_a_fit_that_gives_no_function_or_wants_all_of_the_log_is_told(export):
    with pytest.raises(UserError, match='codes, lr 0.003, seed 0: fit gave ndarray: give a function'):
        elsewhere.grid(lambda *a: np.zeros(320), export, 'odd', **QUIET)
    with pytest.raises(AttributeError, match=r"the log has no 'codes': it is streamed, `batches\(seed\)` has its rows"):
        elsewhere.full_run(clicks, export, 'odd', **QUIET)


def test_predictions_that_are_not_whole_are_refused(export, tmp_path):
    def written(drop=lambda t: t, **said):
        table = pq.read_table(elsewhere.grid(clicks, export, 'whole', **QUIET))
        whole = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        path = tmp_path / 'mine.parquet'
        pq.write_table(drop(table).replace_schema_metadata({**whole, **said}), path)
        return lambda: read_predictions(path, export.asked, export.sizes, export.digest, seeds=2)

    def where(column, value):
        return lambda t: t.filter(pa.compute.not_equal(t[column].cast(pa.string()), str(value)))

    def put(column, change):
        return lambda t: t.set_column(t.schema.get_field_index(column), column, change(t[column].to_numpy().copy()))

    def set_first(value):
        return lambda x: pa.array(np.concatenate([[value], x[1:]]).astype(x.dtype))

    assert written()().name == 'whole'
    for drop, said in (
        (where('view', 'ids'), "has codes, and no predictions of 'ids': train on both views"),
        (where('seed', 1), r'has 1 seeds \(\[0\]\), 2 are needed'),
        (where('row', 7), 'valid of codes at lr 0.003, seed 0 must have 320 rows, no more or less'),
        (lambda t: pa.concat_tables([t, t.slice(0, 1)]), 'must have 320 rows'),
        (put('prediction', set_first(1.5)), 'prediction 1.5 of row 0 is no probability'),
        (put('prediction', set_first(np.nan)), 'prediction nan of row 0 is no probability'),
        (put('prediction', lambda x: pa.array(x.round())), 'every prediction is 0 or 1, a class'),
        (put('row', set_first(1)), 'row 0 of valid is missing in codes, and another is there twice'),
        (put('row', set_first(320)), 'rows of valid are 0 to 319, here is 320'),
        (lambda t: t.drop_columns('lr'), 'no column lr; it needs view, split'),
    ):
        with pytest.raises(UserError, match=said):
            written(drop)()
    with pytest.raises(UserError, match=rf'is of another export \(0, this is {export.digest}\)'):
        written(digest='0')()


def test_auc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    for levels in (3, 10**6):
        score, click, weight = rng.integers(0, levels, 500), rng.random(500) < 0.3, rng.random(500)
        assert elsewhere.auc(score, click, weight) == pytest.approx(roc_auc_score(click, score, sample_weight=weight))
        assert elsewhere.auc(score, click) == pytest.approx(roc_auc_score(click, score))


def test_what_the_librarys_own_students_predict_reads_as_they_do(export, asked, tmp_path):
    fm, grid, (rows,) = candidate('fm', 4, asked.stream.layout), protocol.grid_of(asked.config.evaluate), asked.rows
    own, known, predicted = protocol.row_reading(fm, asked.log, [rows], asked.t, grid), asked.log.num_slots, {}
    for view, seen, epochs in (('codes', rows, grid.epochs), ('ids', rows.by_ids, (grid.id_epochs,))):
        how = dict(batch=grid.batch, epochs=epochs, lrs=grid.lrs, seeds=grid.seeds, lazy=seen.lazy)
        trained = train_grid(fm, seen.data, seen.num_codes, **how)
        for split, block in (('valid', asked.t), ('test', asked.t + 1)):
            parts, n = laid_out(seen.encode(asked.log.ids(block, known[asked.t - 1]))), asked.log.sizes[block]
            for j, lr in enumerate(grid.lrs):
                logits = trained.logits(parts, 0, j)[:, :n].astype(np.float64)
                predicted |= {(view, split, lr, s): 1 / (1 + np.exp(-logits[i])) for i, s in enumerate(grid.seeds)}
    write_predictions(export, 'the-same-fm', predicted, framework='flax', seconds=1.5)
    [one] = [one for one in outside.read(export.folder / 'predictions', asked, []) if one.name == 'the-same-fm']
    assert one.entry['chosen']['lr'] == own.chosen['lr'] and one.entry['training_seconds'] == 1.5
    np.testing.assert_allclose(one.entry['auc'], own.scores['auc'], atol=1e-5)
    np.testing.assert_allclose(one.entry['by_ids']['auc'], own.scores['by_ids']['auc'], atol=1e-5)
    np.testing.assert_allclose(one.students[0], own.logits, atol=1e-4)
    with pytest.raises(UserError, match="'the-same-fm' is another candidate's name too"):
        outside.read(export.folder / 'predictions', asked, ['the-same-fm'])
    with pytest.raises(UserError, match='there is no file of predictions'):
        outside.read(tmp_path, asked, [])
