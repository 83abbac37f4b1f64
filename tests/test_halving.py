"""Successive halving: who is dropped when, what a race costs, and slices weighed as they will be."""

from typing import NamedTuple

import numpy as np
import pytest

from diet_jax.stats import costs, metrics, races
from diet_jax.study import halving, protocol

N = 400


class Log(NamedTuple):
    """A log of blocks of one field, its slices."""

    labels: list
    slices: list

    def rows(self, t):
        return self.slices[t][:, None]

    def weight(self, t):
        return None

    def rows_of_pass(self, t):
        return N * t


class Passes(NamedTuple):
    logits: dict


@pytest.fixture(scope='module')
def log() -> Log:
    """Nine blocks; two slices, of which the second has a fifth of the rows, and nine tenths of the last block's."""
    rng = np.random.default_rng(0)
    labels = [np.float32(rng.random(N) < 0.5) for _ in range(10)]
    slices = [np.int32(rng.random(N) < (0.9 if t == 8 else 0.2)) for t in range(10)]
    return Log(labels, slices)


def passes(log, strength) -> Passes:
    """Predictions that know the label by a strength, which slice and stage may decide; one rate, one seed."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=N)
    know = lambda s: strength(s, log.slices[s]) * (2 * log.labels[s] - 1) + noise  # noqa: E731
    return Passes({(s, s): know(s)[None, None] for s in range(1, 9)})


def test_a_race_drops_the_worse_half_and_is_paid_by_the_rows_of_those_left():
    assert races.rungs(8) == [1, 2, 4, 8] and races.rungs(1) == [1]
    rows = [100, 200, 400, 800]
    ranked = np.array([[[0.6], [0.7], [0.8], [0.5]]] * 4)  # [rungs, 4 candidates, 1 rate]
    race = races.halve(ranked, rows)
    assert np.argsort(race.order).tolist() == [3, 0, 1, 2]
    # 4 over 100 rows, 2 over the next 100, 1 over the next 200, 1 over the last 400
    assert race.full_passes == pytest.approx((4 * 100 + 2 * 100 + 200 + 400) / 800)


def test_who_is_late_is_dropped_early():
    """The best at the end is the worst at the first rung: that is the price of halving."""
    ranked = np.array([[[0.5], [0.6]], [[0.9], [0.6]], [[0.9], [0.6]]])
    assert np.argmax(races.halve(ranked, [1, 2, 4]).order) == 1
    two_rates = np.array([[[0.5, 0.7], [0.6, 0.1]], [[0.9, 0.7], [0.6, 0.1]], [[0.9, 0.7], [0.6, 0.1]]])
    assert np.argmax(races.halve(two_rates, [1, 2, 4]).order) == 0, 'its other rate is early enough'


def test_scores_are_of_the_block_that_follows(log):
    one = passes(log, lambda s, slices: 1.0)
    found = halving.scores('halving', one, log, 8, None)
    assert found.shape == (4, 1, 1)
    for rung, s in enumerate((1, 2, 4, 8)):
        assert found[rung, 0, 0] == metrics.auc(one.logits[s, s][0, 0], log.labels[s])
    one.logits[2, 2][0, 0, 0] = np.nan
    assert halving.scores('halving', one, log, 8, None)[1, 0, 0] == protocol.DIVERGED


def test_slices_are_weighed_as_the_last_block_has_them(log):
    """One candidate is good where most rows are, the other where they will be."""
    now, then = (passes(log, lambda s, slices, k=k: 0.2 + 1.0 * (slices == k)) for k in (0, 1))
    plain = [halving.scores('halving', p, log, 8, None)[0, 0, 0] for p in (now, then)]
    by_slice = [halving.scores(halving.BY_SLICE, p, log, 8, 0)[0, 0, 0] for p in (now, then)]
    assert plain[0] > plain[1] and by_slice[0] < by_slice[1]
    share, z, y = log.slices[8].mean(), now.logits[1, 1][0, 0].astype(np.float64), log.labels[1]
    loss = np.logaddexp(0, z) - y * z
    of = [loss[log.slices[1] == k].mean() for k in (0, 1)]
    assert by_slice[0] == pytest.approx(1 / (1 + (1 - share) * of[0] + share * of[1]), rel=1e-9)


def test_halvings_stand_in_the_cost_picture():
    full = [[0.6 + 0.01 * c + 0.0001 * s for s in range(4)] for c in range(12)]
    raced = [np.tile(np.array(of)[None, None], (4, 2, 1)).tolist() for of in full]  # [rungs, 2 rates, 4 seeds]
    candidates = [{'full': {'auc': f, 'raced': {'halving': r}}} for f, r in zip(full, raced)]
    (way,) = costs.halvings({'protocol': {'rows_of_rungs': [100, 200, 400, 800]}}, candidates)
    assert (way.name, way.fixed) == ('halving', 0.0) and way.figures['tau_sig'] == (1.0, 0.0)
    # of 24 configurations: all over an eighth, half over the next, a quarter over the next quarter, an eighth
    assert way.total(12) == pytest.approx(24 / 8 + 12 / 8 + 6 / 4 + 3 / 2)
    assert costs.halvings({'protocol': {}}, [{'full': {'auc': [0.5, 0.6]}}]) == []
