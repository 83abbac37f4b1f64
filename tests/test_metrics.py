"""The metrics against scikit-learn and against their definitions; invariances; closed cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from diet_jax.stats import metrics


def click_log(n, rate=0.3, seed=0, decimals=None):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=n)
    labels = (rng.random(n) < rate * 2 / (1 + np.exp(-logits))).astype(np.float32)
    labels[:2] = 0, 1
    logits = logits if decimals is None else logits.round(decimals)
    return logits.astype(np.float32), labels


def defined_auc(logits, labels):
    """Every pair, counted by hand."""
    difference = logits[labels == 1][:, None] - logits[labels == 0][None, :]
    return ((difference > 0).sum() + 0.5 * (difference == 0).sum()) / difference.size


@pytest.mark.parametrize('decimals', [None, 1, 0])
@pytest.mark.parametrize('n', [2, 37, 4096, 4097, 30_000])
def test_auc_is_scikit_learns(n, decimals):
    logits, labels = click_log(n, decimals=decimals)
    assert metrics.auc(logits, labels) == pytest.approx(roc_auc_score(labels, logits), abs=1e-12)


def test_auc_of_a_million_rows_under_extreme_imbalance():
    logits, labels = click_log(1_000_000, rate=2e-5, decimals=3)
    assert 5 < labels.sum() < 60
    assert metrics.auc(logits, labels) == pytest.approx(roc_auc_score(labels, logits), abs=1e-12)


def test_auc_counts_pairs_beyond_32_bits_exactly():
    # Two values only, so that the answer is a fraction of integers: 3.6e11 pairs, past 2**32 and float32.
    n = 600_000
    logits = np.repeat([0, 1, 0, 1], [n - 200_001, 200_001, 123_456, n - 123_456]).astype(np.float32)
    labels = np.repeat([0, 1], [n, n])
    right = (n - 200_001) * (n - 123_456)
    tied = (n - 200_001) * 123_456 + 200_001 * (n - 123_456)
    assert metrics.auc(logits, labels) == (2 * right + tied) / (2 * n * n)


def test_auc_closed_cases():
    assert metrics.auc([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]) == 1.0
    assert metrics.auc([0.1, 0.2, 0.3, 0.4], [1, 1, 0, 0]) == 0.0
    assert metrics.auc(np.zeros(7), [0, 1, 0, 1, 1, 1, 0]) == 0.5
    assert metrics.auc([-np.inf, 0.0, np.inf, -0.0], [0, 0, 1, 1]) == 0.875
    for labels in ([0, 0, 0], [1, 1, 1]):
        assert np.isnan(metrics.auc([1.0, 2.0, 3.0], labels))
    assert np.isnan(metrics.auc([], []))


def test_auc_tells_float64_scores_apart():
    logits = np.array([1.0, 1.0 + 1e-12])
    assert np.float32(logits[0]) == np.float32(logits[1])
    assert metrics.auc(logits, [0, 1]) == 1.0


def test_auc_ignores_order_and_monotone_maps():
    logits, labels = click_log(5_000, decimals=2)
    expected = metrics.auc(logits, labels)
    order = np.random.default_rng(1).permutation(logits.size)
    assert metrics.auc(logits[order], labels[order]) == expected
    assert metrics.auc(8 * logits - 4, labels) == expected
    assert metrics.auc(-logits, 1 - labels) == expected
    assert metrics.auc(-logits, labels) == pytest.approx(1 - expected, abs=1e-12)


def test_arrays_on_the_device_and_bool_labels_give_the_same():
    logits, labels = click_log(5_000, decimals=2)
    groups = np.arange(5_000) % 100
    for metric, more in ((metrics.auc, ()), (metrics.logloss, ()), (metrics.gauc, (groups,))):
        expected = metric(logits, labels, *more)
        assert metric(jnp.asarray(logits), jnp.asarray(labels), *map(jnp.asarray, more)) == expected
        assert metric(logits, labels.astype(bool), *more) == expected
    assert metrics.auc(jnp.asarray(logits, jnp.bfloat16), labels) == metrics.auc(
        np.asarray(jnp.asarray(logits, jnp.bfloat16), np.float32), labels
    )


def test_the_masked_part_never_leaks():
    logits, labels = click_log(3_000, decimals=1)
    groups = (np.arange(3_000) % 50).astype(np.int32)
    mask = np.random.default_rng(2).random(3_000) < 0.6
    hidden = np.where(mask, logits, np.nan), np.where(mask, labels, 7), np.where(mask, groups, -1)
    counted = logits[mask], labels[mask], groups[mask]
    for device in (np.asarray, jnp.asarray):
        z, y, g, m = map(device, (*hidden, mask))
        assert metrics.auc(z, y, m) == metrics.auc(*counted[:2])
        assert metrics.logloss(z, y, m) == metrics.logloss(*counted[:2])
        assert metrics.gauc(z, y, g, m) == metrics.gauc(*counted)
        bins = metrics.calibration_bins(z, y, 5, m)
        for ours, expected in zip(bins, metrics.calibration_bins(*counted[:2], 5), strict=True):
            np.testing.assert_array_equal(ours, expected)
    assert np.isnan(metrics.auc(logits, labels, np.zeros(3_000, bool)))


def test_padding_a_block_costs_no_compilation():
    count = metrics._twice_pairs._cache_size
    metrics.auc(*click_log(9_000))
    before = count()
    for n in (8_500, 10_000, 12_288):
        metrics.auc(*click_log(n))
    assert count() == before


@pytest.mark.parametrize('metric', ['auc', 'logloss', 'gauc', 'calibration_bins'])
def test_bad_input_is_a_clear_error(metric):
    call = getattr(metrics, metric)
    more = (np.zeros(3, int),) if metric == 'gauc' else ()
    for floats in (np.float32, np.float64):
        with pytest.raises(ValueError, match='1 logits are NaN'):
            call(np.array([0.0, np.nan, 1.0], floats), np.array([0, 1, 1]), *more)
    with pytest.raises(ValueError, match='2 labels are not'):
        call(np.zeros(3, np.float32), np.array([0, 2, -1]), *more)
    with pytest.raises(ValueError, match='one length'):
        call(np.zeros(3, np.float32), np.zeros(4), *more)


def test_logloss_is_scikit_learns_and_the_entropy_of_a_constant():
    logits, labels = click_log(20_000)
    probability = 1 / (1 + np.exp(-logits.astype(float)))
    assert metrics.logloss(logits, labels) == pytest.approx(log_loss(labels, probability), abs=1e-12)
    p = 0.3
    constant = np.full(10, np.log(p / (1 - p)))
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert metrics.logloss(constant, np.full(10, p)) == pytest.approx(entropy, abs=1e-15)
    assert metrics.logloss(constant, np.repeat([0, 1], [7, 3])) == pytest.approx(entropy, abs=1e-15)
    # Where the sigmoid of float32 is 0 or 1 already, the logarithm still is what it is.
    assert metrics.logloss([200.0, -200.0], [0, 1]) == pytest.approx(200.0)
    assert metrics.logloss([np.inf, -np.inf], [1, 0]) == 0.0
    assert metrics.logloss([np.inf, 0.0], [0, 1]) == np.inf
    assert np.isnan(metrics.logloss([], []))


@pytest.mark.parametrize('decimals', [None, 0])
def test_gauc_is_the_weighted_mean_of_the_groups_aucs(decimals):
    logits, labels = click_log(2_000, decimals=decimals)
    groups = np.random.default_rng(3).integers(-5, 400, 2_000)
    areas, weights = [], []
    for group in np.unique(groups[groups >= 0]):  # below 0 is no group
        rows = groups == group
        if 0 < labels[rows].sum() < rows.sum():
            areas.append(defined_auc(logits[rows], labels[rows]))
            weights.append(rows.sum())
    assert len(areas) < np.unique(groups).size  # some groups have one class: they count for nothing
    expected = np.average(areas, weights=weights)
    assert metrics.gauc(logits, labels, groups) == pytest.approx(expected, abs=1e-12)
    order = np.random.default_rng(4).permutation(2_000)
    assert metrics.gauc(logits[order], labels[order], groups[order]) == pytest.approx(expected, abs=1e-12)


def test_gauc_closed_cases():
    logits, labels = click_log(3_000, decimals=1)
    one_group = metrics.gauc(logits, labels, np.full(3_000, 9))
    assert one_group == pytest.approx(metrics.auc(logits, labels), abs=1e-12)
    # A score that only knows the user ranks nothing within a user.
    users = np.arange(3_000) % 7
    assert metrics.gauc(users.astype(np.float32), labels, users) == 0.5
    assert metrics.gauc([0, 1, 5, 4, 3], [0, 1, 0, 1, 1], [1, 1, 2, 2, 2]) == pytest.approx(2 / 5)
    assert np.isnan(metrics.gauc([0.0, 1.0], [0, 1], [1, 2]))
    assert np.isnan(metrics.gauc([], [], []))


def test_calibration_bins():
    logits, labels = click_log(10_000)
    predicted, observed, count = metrics.calibration_bins(logits, labels, 10)
    np.testing.assert_array_equal(count, 1_000)
    assert (np.diff(predicted) > 0).all()
    assert (predicted * count).sum() == pytest.approx((1 / (1 + np.exp(-logits.astype(float)))).sum())
    assert (observed * count).sum() == pytest.approx(labels.sum())
    # A model that says the truth lies on the diagonal.
    truth = np.random.default_rng(5).normal(size=200_000)
    clicks = np.random.default_rng(6).random(200_000) < 1 / (1 + np.exp(-truth))
    predicted, observed, count = metrics.calibration_bins(truth, clicks, 20)
    assert (np.abs(predicted - observed) < 4 * np.sqrt(predicted * (1 - predicted) / count)).all()


def test_calibration_keeps_ties_together_whatever_the_order():
    logits, labels = click_log(4_000, decimals=0)
    bins = metrics.calibration_bins(logits, labels, 50)
    # Eight values; the rarest share a bin, and none is split.
    counts = np.unique(logits, return_counts=True)[1]
    assert bins[2].size < counts.size == 8
    assert set(np.cumsum(bins[2])) < set(np.cumsum(counts))
    order = np.random.default_rng(7).permutation(4_000)
    for ours, again in zip(bins, metrics.calibration_bins(logits[order], labels[order], 50), strict=True):
        np.testing.assert_allclose(ours, again, rtol=1e-12)
    assert [x.size for x in metrics.calibration_bins([], [], 10)] == [0, 0, 0]


def test_auc_on_the_device_traces_under_the_strictest_rules():
    logits, labels = click_log(50)
    with jax.numpy_rank_promotion('raise'), jax.numpy_dtype_promotion('strict'):
        assert metrics.auc(logits, labels) == pytest.approx(roc_auc_score(labels, logits), abs=1e-12)
