"""The simulated stream is what it says: reproducible, block by block, with a known truth and a season."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from diet_jax.base.errors import UserError
from diet_jax.config.data import Simulated, check_data, simulated_data
from diet_jax.data import generated
from diet_jax.data.simulated import simulate_block
from diet_jax.data.stream import open_stream

SMALL = Simulated(**simulated_data(rows_per_block=3000, users=300, items=200).simulated)


def test_a_block_depends_on_seed_and_index_alone():
    again = simulate_block(SMALL, 9)
    simulate_block(SMALL, 3)
    assert simulate_block(SMALL, 9).equals(again)
    assert simulate_block(SMALL._replace(blocks=500), 9).equals(again)
    assert not simulate_block(SMALL._replace(seed=1), 9).equals(again)
    assert not simulate_block(SMALL, 10)['label'].equals(again['label'])


def test_labels_are_bernoulli_draws_of_the_true_logit():
    blocks = pa.concat_tables([simulate_block(SMALL, t) for t in range(14)])
    label, logit = blocks['label'].to_numpy(), blocks['bayes_logit'].to_numpy()
    probability = 1 / (1 + np.exp(-logit))
    for low in np.arange(0.1, 0.9, 0.2):
        inside = (probability >= low) & (probability < low + 0.2)
        deviation = np.sqrt((probability * (1 - probability))[inside].mean() / inside.sum())
        assert abs(label[inside].mean() - probability[inside].mean()) < 4 * deviation
    assert 0.75 < roc_auc_score(label, logit) < 0.85


def test_items_appear_over_time_and_fade():
    first, late = simulate_block(SMALL, 0)['item'].to_numpy(), simulate_block(SMALL, 20)['item'].to_numpy()
    assert first.max() < SMALL.items
    assert SMALL.items < late.max() < SMALL.items + 20 * SMALL.new_items_per_block
    assert np.mean(late < SMALL.items) < 0.6


def _rates(t: int, column: str) -> np.ndarray:
    """Mean probability by value of a column of a block, less the block's."""
    table = simulate_block(SMALL._replace(rows_per_block=20_000, drift=0.0), t)
    index, probability = table[column].to_numpy(), 1 / (1 + np.exp(-table['bayes_logit'].to_numpy()))
    return np.bincount(index, probability) / np.bincount(index) - probability.mean()


def test_what_holds_on_weekends_comes_back_next_weekend_and_not_in_between():
    saturday, monday, next_saturday = (_rates(t, 'category') for t in (5, 7, 12))
    assert np.corrcoef(saturday, next_saturday)[0, 1] > 0.8
    assert np.corrcoef(saturday, monday)[0, 1] < 0.3


def test_stream_carries_the_truth_beside_the_features(tmp_path):
    data = simulated_data(blocks=8, rows_per_block=500, users=50, items=40)
    stream = open_stream(data, tmp_path, emit=lambda line: None)
    assert [block.key for block in stream.blocks][:2] == ['2024-01-01', '2024-01-02']
    assert 'bayes_logit' not in [field.name for field in stream.fields]
    weekday = [field.name for field in stream.fields].index('weekday')
    for t in (0, 7):
        block, table = stream.load(t), simulate_block(Simulated(**data.simulated), t)
        order = np.argsort(table['time'].to_numpy(), kind='stable')
        np.testing.assert_allclose(block.bayes, table['bayes_logit'].to_numpy()[order], rtol=1e-6)
        assert stream.values(block.ids[:, 0]).equals(table['user'].combine_chunks().take(pa.array(order)))
        assert set(stream.values(block.ids[:, weekday]).to_pylist()) == {0}  # both are Mondays


def test_a_longer_stream_appends_to_a_shorter_one(tmp_path):
    small = dict(rows_per_block=300, users=50, items=40)
    short = open_stream(simulated_data(blocks=2, **small), tmp_path / 'a', emit=lambda line: None)
    grown = open_stream(simulated_data(blocks=4, **small), tmp_path / 'a', emit=lambda line: None)
    whole = open_stream(simulated_data(blocks=4, **small), tmp_path / 'b', emit=lambda line: None)
    assert short.folder == grown.folder and len(grown.blocks) == 4
    assert len(open_stream(simulated_data(blocks=2, **small), tmp_path / 'a', emit=lambda line: None).blocks) == 2
    for t in range(4):
        assert open(grown.blocks[t].path, 'rb').read() == open(whole.blocks[t].path, 'rb').read()


def test_unknown_parameters_and_fields_are_named(tmp_path):
    with pytest.raises(UserError, match="no parameter 'user' .did you mean 'users'"):
        simulated_data(user=3)
    data = simulated_data(blocks=1)
    data.fields = ('user', 'bayes_logit')
    with pytest.raises(UserError, match="no field 'bayes_logit'"):
        open_stream(data, tmp_path)


def test_a_stream_made_when_read_holds_what_the_stored_one_does(tmp_path):
    data = simulated_data(blocks=3, rows_per_block=400, users=50, items=40)
    stored, made = open_stream(data, tmp_path, emit=lambda line: None), generated.GeneratedStream(check_data(data))
    assert made.fields == stored.fields and made.label == stored.label and made.group_field == stored.group_field
    assert [b.key for b in made.blocks] == [b.key for b in stored.blocks]
    for t in (2, 0):  # in any order: a block needs none before it
        one, other = made.load(t), stored.load(t)
        np.testing.assert_array_equal(one.time, other.time)
        np.testing.assert_array_equal(one.label, other.label)
        np.testing.assert_array_equal(one.bayes, other.bayes)
        for f in range(len(made.fields)):
            assert made.values(one.ids[:, f]).equals(stored.values(other.ids[:, f]))
        assert one.ids.max() < made.blocks[t].num_slots
        part = made.load(t, 100, 250)
        np.testing.assert_array_equal(part.ids, one.ids[100:250])
        np.testing.assert_array_equal(made.outcomes(t)[1], one.group)


def test_a_stream_made_when_read_leaves_no_file_and_its_slots_never_move(tmp_path):
    small = dict(rows_per_block=generated.ROWS, users=50, items=40)
    workdir = tmp_path / 'run'
    stream = open_stream(simulated_data(blocks=2, **small), workdir, emit=lambda line: None)
    assert isinstance(stream, generated.GeneratedStream) and workdir.is_dir() and not list(workdir.iterdir())
    longer = generated.GeneratedStream(check_data(simulated_data(blocks=30, **small)))
    assert [b.num_slots for b in longer.blocks[:2]] == [b.num_slots for b in stream.blocks]
    np.testing.assert_array_equal(longer.load(1).ids, stream.load(1).ids)
    with pytest.raises(UserError, match='price'):
        data = simulated_data(blocks=1, **small)
        data.fields = ('user', 'price')
        open_stream(data, tmp_path)


def test_the_last_click_says_something_and_only_in_order():
    parameters = SMALL._replace(behaviour=1.5, season=0.0, drift=0.0, interaction=0.0, first_order=0.0, low_rank=0.0)
    last, found = {}, []
    for t in range(6):
        for row in sorted(simulate_block(parameters, t).to_pylist(), key=lambda row: row['time']):
            if row['user'] in last:
                found.append((last[row['user']], row['category'], row['bayes_logit'] - parameters.bias))
            if row['label']:
                last[row['user']] = row['category']
    says = {}
    for before, category, term in found:
        says.setdefault((before, category), set()).add(round(term, 6))
    assert len(found) > 15_000
    assert all(len(terms) == 1 for terms in says.values())  # of the two categories alone
    assert {abs(term) for terms in says.values() for term in terms} == {1.5}
    alone = np.array([np.mean([term for b, _, term in found if b == before]) for before in range(8)])
    assert np.abs(alone).max() < 0.9  # it is the pair that says it


def test_a_stream_without_behaviour_is_as_it_was():
    assert simulate_block(SMALL, 9)['label'].to_numpy() @ (np.arange(SMALL.rows_per_block) % 97) == 61652
