"""Metrics of weighted rows: against scikit-learn, against rows written out as often as they weigh, and at the edges."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from diet_jax.stats import correction, metrics
from diet_jax.stats.resampling import auc_user_bootstrap
from diet_jax.study import halving


def scored(rows: int = 500, seed: int = 0, whole: bool = False):
    """(logits with ties, labels, groups of which some are nobody's, weights of which some are 0)."""
    rng = np.random.default_rng(seed)
    z = np.round(rng.normal(size=rows), 1).astype(np.float32)
    y = (rng.random(rows) < 1 / (1 + np.exp(-z))).astype(np.float32)
    w = rng.integers(0, 4, rows) if whole else rng.choice([0.0, 0.3, 1.0, 10.0, 1e-3], rows)
    return z, y, rng.integers(-1, 30, rows), w.astype(np.float32)


def test_auc_and_logloss_are_those_of_scikit_learn():
    for seed in range(5):
        z, y, _, w = scored(seed=seed)
        assert metrics.auc(z, y, weight=w) == pytest.approx(roc_auc_score(y, z, sample_weight=w), abs=1e-12)
        p = 1 / (1 + np.exp(-z.astype(np.float64)))
        assert metrics.logloss(z, y, weight=w) == pytest.approx(log_loss(y, p, sample_weight=w), abs=1e-12)


def test_whole_weights_are_rows_written_out():
    z, y, g, w = scored(whole=True)
    many = [np.repeat(x, w.astype(int)) for x in (z, y, g)]
    assert metrics.auc(z, y, weight=w) == pytest.approx(metrics.auc(*many[:2]), abs=1e-12)
    assert metrics.logloss(z, y, weight=w) == pytest.approx(metrics.logloss(*many[:2]), abs=1e-12)
    assert metrics.gauc(z, y, g, weight=w) == pytest.approx(metrics.gauc(*many), abs=1e-12)
    mask = np.arange(len(z)) % 3 > 0
    part = [np.repeat(x[mask], w[mask].astype(int)) for x in (z, y, g)]
    assert metrics.auc(z, y, mask, weight=w) == pytest.approx(metrics.auc(*part[:2]), abs=1e-12)
    assert metrics.gauc(z, y, g, mask, weight=w) == pytest.approx(metrics.gauc(*part), abs=1e-12)


def test_ones_are_no_weights():
    z, y, g, _ = scored()
    for metric, rest in ((metrics.auc, ()), (metrics.logloss, ()), (metrics.gauc, (g,))):
        assert metric(z, y, *rest, weight=np.ones(len(z))) == pytest.approx(metric(z, y, *rest), abs=1e-12)
    for ours, theirs in zip(metrics.calibration_bins(z, y, weight=np.ones(len(z))), metrics.calibration_bins(z, y)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_gauc_is_the_mean_of_users_by_their_weight():
    z, y, g, w = scored()
    found = []
    for user in range(30):
        at = (g == user) & (w > 0)
        if 0 < y[at].sum() < at.sum():
            found.append((roc_auc_score(y[at], z[at], sample_weight=w[at]), w[at].sum(dtype=np.float64)))
    areas, weights = np.array(found).T
    assert metrics.gauc(z, y, g, weight=w) == pytest.approx((areas * weights).sum() / weights.sum(), abs=1e-12)


def test_bins_hold_about_the_same_weight_and_their_own_means():
    z, y, _, w = scored(4000)
    predicted, label, weight = metrics.calibration_bins(z, y, weight=w)
    assert weight.sum() == pytest.approx(w.sum(dtype=np.float64)) and (np.diff(predicted) > 0).all()
    assert len(weight) == 10 and weight.max() < 2 * weight.min()
    p = 1 / (1 + np.exp(-z.astype(np.float64)))
    assert predicted @ weight == pytest.approx(p @ w) and label @ weight == pytest.approx(y @ w.astype(np.float64))


def test_rows_of_weight_nothing_do_not_count_whatever_they_hold():
    z, y, g, w = scored()
    z, y = np.where(w == 0, np.nan, z), np.where(w == 0, 7, y)
    at = w > 0
    assert metrics.auc(z, y, weight=w) == metrics.auc(z[at], y[at], weight=w[at])
    assert metrics.gauc(z, y, g, weight=w) == metrics.gauc(z[at], y[at], g[at], weight=w[at])
    assert metrics.logloss(z, y, weight=w) == metrics.logloss(z[at], y[at], weight=w[at])
    assert np.isnan(metrics.auc(z, y, weight=np.where(y == 1, w, 0))), 'one class alone weighs'
    assert np.isnan(metrics.auc(z, y, weight=np.zeros(len(z)))) and np.isnan(metrics.logloss(z, y, weight=0 * w))


def test_weights_that_are_none_are_refused():
    z, y, _, w = scored()
    for bad in (-w, np.where(w == 1, np.nan, w)):
        with pytest.raises(ValueError, match='weights are negative or NaN'):
            metrics.auc(z, y, weight=bad)
    with pytest.raises(ValueError, match='one length'):
        metrics.auc(z, y, weight=w[1:])


def test_the_user_bootstrap_multiplies_counts_and_weights():
    z, y, g, w = scored(200)
    counts = np.random.default_rng(1).integers(0, 3, (4, len(np.unique(g[g >= 0])) + (g < 0).sum()))
    users = np.where(g < 0, g.max() + np.cumsum(g < 0), g)
    place = np.unique(users, return_inverse=True)[1]
    found = auc_user_bootstrap(np.stack([z, -z]), y, g, counts, weight=w)
    for b, count in enumerate(counts):
        both = count[place] * w
        assert found[b, 0] == pytest.approx(roc_auc_score(y, z, sample_weight=both), abs=1e-9)
        assert found[b, 1] == pytest.approx(roc_auc_score(y, -z, sample_weight=both), abs=1e-9)


def test_functions_are_as_alike_as_on_rows_written_out():
    w = np.random.default_rng(0).integers(0, 4, 300)
    logits = np.random.default_rng(1).normal(size=(4, 300)).astype(np.float32)
    np.testing.assert_allclose(
        correction.function_distance(logits, w), correction.function_distance(np.repeat(logits, w, 1)), atol=1e-12
    )


def test_slices_of_halving_have_the_shares_of_rows_written_out():
    rng = np.random.default_rng(0)
    here, there = rng.integers(0, 6, 200), rng.integers(1, 5, 150)
    w, v = rng.integers(0, 4, 200), rng.integers(0, 3, 150)
    losses = rng.random(200)
    weighted = halving._shares(here, there, w.astype(np.float32), v.astype(np.float32))
    assert weighted.sum() == pytest.approx(1)
    assert weighted @ losses == pytest.approx(
        halving._shares(np.repeat(here, w), np.repeat(there, v)) @ np.repeat(losses, w)
    )
