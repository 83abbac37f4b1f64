"""A memory of rows that hold lists: what it keeps of them, and that padding never trains, scores or counts."""

import dataclasses
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
from diet_jax.base.layout import PAD
from diet_jax.distillation.codebook import shares
from diet_jax.distillation.state import Rows
from diet_jax.models.twins import reference_of, twins_of
from diet_jax.run.record import read_metrics
from diet_jax.run.run import Run


def config(width: int = 6, of=('item', 'tab')) -> ConfigDict:
    c = tiny.get_config()
    c.data.histories = ConfigDict(dict(clicked=dict(of=of, max_len=width, gap=True)))
    return c


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('listed')
    tiny.distill(workdir, config())
    return Run(config(), workdir, lambda line: None)


def test_a_log_with_histories_is_read_by_a_reference_model_that_reads_them(run):
    assert reference_of(run.config, run.layout) == 'din' and run.reference.name == 'din'
    assert [twin.name for twin in run.beside] == ['din', 'lr', 'deepfm']
    plain = tiny.get_config()
    assert [twin.name for twin in twins_of(plain, ['user', 'item'])] == ['deepfm', 'lr']


def test_entries_keep_their_rows_lists_as_values_and_as_codes(run):
    memory = load_memory(run.workdir / 'memory')
    assert memory.manifest['format'] == 3 and memory.manifest['data']['histories']['clicked']['max_len'] == 6
    assert [f.name for f in memory.lists] == ['clicked_item', 'clicked_tab', 'clicked_gap']
    assert [f.name for f in memory.fields] == ['user', 'item', 'tab', 'price', 'hour']
    slots, names = memory.slots(run.stream), run.layout.names
    state = np.asarray(run.state.memory.ids)[: len(slots)]
    np.testing.assert_array_equal(slots, state)
    for name in ('clicked_item', 'clicked_tab'):
        of, f = name.removeprefix('clicked_'), names.index(name)
        values, at = memory.values[name].to_pylist(), run.layout.at(f)
        assert [len(x) for x in values] == (state[:, at] != PAD).sum(1).tolist()
        known, codes = memory.codebook[of]
        code = dict(zip(known.to_pylist(), codes.tolist(), strict=True))
        for row, kept in zip(values, memory.list_codes[name], strict=True):
            assert kept[kept != PAD].tolist() == [code[value] for value in row]
            assert (kept[: 6 - len(row)] == PAD).all()
    assert not (run.workdir / 'memory' / 'codebook' / 'clicked_item.parquet').exists()
    rows = memory.table_rows
    assert rows.shape == slots.shape and ((rows == PAD) == (slots == PAD)).all() and rows.max() < memory.num_codes
    code = memory.code_of_slots(run.stream)
    np.testing.assert_array_equal(rows, np.where(slots == PAD, PAD, code[slots]))


def test_rows_of_the_log_are_encoded_as_the_memory_is(run):
    memory = load_memory(run.workdir / 'memory')
    table = {name: memory.rows[name] for name in ('user', 'item', 'tab', 'clicked_item', 'clicked_tab', 'clicked_gap')}
    midday = 12 * 3_600_000
    table |= {'price': pa.array(np.full(memory.rows.num_rows, 5.0)), 'time': np.full(memory.rows.num_rows, midday)}
    found = memory.encode(table)
    for name in memory.list_ids:
        np.testing.assert_array_equal(found.list_ids[name], memory.list_ids[name])
        np.testing.assert_array_equal(found.list_codes[name], memory.list_codes[name])
    table['clicked_item'] = pa.array([[10**9]] * memory.rows.num_rows)  # never seen
    item = next(f for f in memory.fields if f.name == 'item')
    assert set(memory.encode(table).list_codes['clicked_item'][:, -1]) == {item.unseen_code}
    with pytest.raises(UserError, match="the table has no column 'clicked_item'"):
        memory.encode({name: column for name, column in table.items() if name != 'clicked_item'})
    with pytest.raises(UserError, match='give it as an Arrow list column'):
        memory.encode({**table, 'clicked_item': memory.rows['item']})


def test_a_memory_of_format_2_is_read(run, tmp_path):
    tiny.distill(tmp_path, tiny.get_config())
    path = tmp_path / 'memory' / 'manifest.json'
    manifest = json.loads(path.read_text()) | {'format': 2}
    for field in manifest['fields']:
        for key in ('width', 'shares', 'sequence'):
            field.pop(key)
    write_json(path, manifest)
    memory = load_memory(tmp_path / 'memory')
    assert memory.lists == () and memory.table_rows.shape == memory.codes.shape


def test_more_padding_changes_nothing(tmp_path):
    """No user has more than the events of four days: all that a wider list adds is padding, to DIN and to a mean."""
    found, scores = [], []
    for width in (60, 75):
        c = config(width, of='item')
        c.addressing.influence_power = 0.0  # the order of float sums is another one, and may turn a draw
        tiny.distill(tmp_path / str(width), c)
        found.append(load_memory(tmp_path / str(width) / 'memory'))
        lines = read_metrics(tmp_path / str(width))
        scores.append([[of['auc'] for of in (line['reference'], line['twins']['deepfm'])] for line in lines])
    narrow, wide = found
    assert max(len(x) for x in narrow.values['clicked'].to_pylist()) < 60
    for name in ('user', 'item', 'clicked', 'clicked_gap', 'count', 'clicked__code', 'item__code'):
        assert narrow.rows[name].equals(wide.rows[name]), name
    for name in ('soft_label', 'mean_label'):
        np.testing.assert_allclose(narrow.columns[name], wide.columns[name], atol=1e-4)
    np.testing.assert_allclose(*scores, atol=1e-3)


def test_a_list_counts_as_one_occurrence_spread_over_its_values(run):
    layout = run.layout
    ids = np.zeros((2, layout.columns), np.int32)
    at = layout.at(layout.names.index('clicked_item'))
    ids[:, at] = PAD
    ids[0, at.stop - 2 : at.stop] = 7
    rows = Rows(ids, np.zeros(2), np.array([1.0, 1.0]), np.zeros(2, bool))
    share = np.asarray(shares(layout, rows))
    assert share[0, at].tolist() == [0, 0, 0, 0, 0.5, 0.5] and share[1, at].sum() == 0
    assert (share[:, : at.start] == 1).all()


def test_lists_lie_behind_the_fields_and_are_lists_in_parquet(run):
    memory = load_memory(run.workdir / 'memory')
    assert dataclasses.replace(memory, lists=()).table_rows.shape[1] == len(memory.fields)
    assert pq.read_schema(run.workdir / 'memory' / 'rows.parquet').field('clicked_item').type == pa.list_(pa.int64())
