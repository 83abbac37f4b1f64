"""The trend instrument's figures: independent implementations, closed cases, invariances, hand-worked examples."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from diet_jax.stats import ranking
from diet_jax.stats.resampling import auc_user_bootstrap, bootstrap, holm, interval, paired_differences
from diet_jax.stats.retention import retention
from diet_jax.stats.summaries import summary


def pool(candidates=14, seeds=6, step=0.004, noise=0.0003, seed=0):
    """f64[C, n]: candidate k is better than k - 1 by `step`."""
    rng = np.random.default_rng(seed)
    return 0.7 + step * np.arange(candidates)[:, None] + rng.normal(0, noise, (candidates, seeds))


def memory_of(full, noise, distillations=3, students=2, seed=1, keep=0.9):
    """f64[C, R, S]: keeps `keep` of what is above chance, with noise."""
    rng = np.random.default_rng(seed)
    shape = (len(full), distillations, students)
    return 0.5 + keep * (np.mean(full, axis=1) - 0.5)[:, None, None] + rng.normal(0, noise, shape)


def naive_tau(full, memory, below=np.inf, floor=0.001):
    """By the words of docs/concepts.md, with loops."""
    c, n = np.shape(full)
    s = np.sqrt(sum(np.var(row, ddof=1) for row in full) / c)
    agree = pairs = 0
    for a, b in itertools.combinations(range(c), 2):
        gap = np.mean(full[a]) - np.mean(full[b])
        if max(2 * s * np.sqrt(2 / n), floor) < abs(gap) < below:
            pairs += 1
            other = np.mean(memory[a]) - np.mean(memory[b])
            agree += 0 if other == 0 else 1 if (other > 0) == (gap > 0) else -1
    return agree / pairs, pairs


def as_candidates(full, memory, metric='auc', **rivals):
    listed = [np.asarray(x).tolist() for x in (full, memory)]
    return [
        {
            'name': f'c{k}',
            'full': {metric: listed[0][k]},
            'memory': {metric: listed[1][k]},
            'rivals': {name: {metric: np.asarray(scores[k]).tolist()} for name, scores in rivals.items()},
        }
        for k in range(len(full))
    ]


def test_pooled_sd_threshold_and_pairs_by_hand():
    full = [[0.700, 0.704], [0.706, 0.710], [0.720, 0.724]]
    s = np.sqrt(0.002**2 * 2)  # two seeds 0.004 apart: variance 2 * 0.002**2
    assert ranking.pooled_sd(full) == pytest.approx(s, rel=1e-9)
    assert ranking.threshold(full) == pytest.approx(2 * s)  # 0.00566
    assert [(p.i, p.j, p.gap, p.hard) for p in ranking.significant_pairs(full)] == [
        (0, 1, -0.006, False),
        (0, 2, -0.02, False),
        (1, 2, -0.014, False),
    ]
    # Without seed noise the floor decides: 0.001 is not more than 0.001, 0.005 not less than 0.005.
    quiet = np.repeat([[0.7], [0.701], [0.705], [0.7065]], 2, axis=1)
    assert [(p.i, p.j, p.hard) for p in ranking.significant_pairs(quiet)] == [
        (0, 2, False),
        (0, 3, False),
        (1, 2, True),
        (1, 3, False),
        (2, 3, True),
    ]
    assert len(ranking.significant_pairs(quiet, floor=0.0045)) == 3


@pytest.mark.parametrize('seed', range(4))
def test_tau_is_the_words_of_the_design(seed):
    full = pool(20, 6, 0.0012, 0.0006, seed)
    memory = memory_of(full, 0.004, seed=seed)
    for hard, below in ((False, np.inf), (True, 0.005)):
        tau = ranking.tau_sig(full, memory, hard)
        expected, pairs = naive_tau(full, memory.mean((1, 2))[:, None], below)
        assert (tau.value, tau.pairs) == (pytest.approx(expected, abs=1e-12), pairs)
        assert 30 <= pairs < 190 and tau.text.startswith(f'{expected:.3f} over {pairs} ')
        flags = ranking.significant_pairs(full)
        assert pairs == (sum(p.hard for p in flags) if hard else len(flags))


def test_with_every_pair_significant_and_no_ties_tau_is_kendalls():
    full = pool(12, 4, 0.01)
    memory = memory_of(full, 0.02)
    tau = ranking.tau_sig(full, memory)
    assert tau.pairs == 66
    assert tau.value == pytest.approx(stats.kendalltau(full.mean(1), memory.mean((1, 2))).statistic, abs=1e-12)


def test_known_order_reversed_copied_and_identical():
    full = pool(step=0.0012)
    for hard in (False, True):
        assert ranking.tau_sig(full, memory_of(full, 0.0), hard).value == 1.0
        assert ranking.tau_sig(full, 1 - memory_of(full, 0.0), hard).value == -1.0
    # The teacher's logit copied into every candidate: all score alike, each student seed its own way.
    copied = np.broadcast_to(np.random.default_rng(0).normal(0.75, 0.01, (1, 3, 2)), (14, 3, 2))
    shuffled = np.stack(
        [np.random.default_rng(k).permutation(row.ravel()).reshape(3, 2) for k, row in enumerate(copied)]
    )
    for memory in (copied, shuffled, [0.3] * 14):
        assert ranking.tau_sig(full, memory).value == 0.0
    same = np.full((14, 6), 0.73)
    tau = ranking.tau_sig(same, memory_of(full, 0.001))
    assert tau == (None, 0, 'undefined: 0 significant pairs, 30 needed')
    assert ranking.tau_sig(same, memory_of(full, 0.001), hard=True).text == 'undefined: 0 hard pairs, 30 needed'
    assert ranking.ceiling(same).value is None and ranking.ceiling(same).text.startswith(
        'undefined: 0 significant pairs'
    )


def test_a_tie_counts_zero_and_stays_and_thirty_pairs_are_enough():
    full = np.repeat(0.7 + 0.01 * np.arange(9)[:, None], 2, axis=1)  # 36 pairs
    memory = [0, 0, 2, 3, 4, 5, 6, 7, 8]
    assert ranking.tau_sig(full, memory) == (35 / 36, 36, '0.972 over 36 significant pairs')
    assert ranking.tau_sig(full, [1, 0, 2, 3, 4, 5, 6, 7, 8]).value == 34 / 36
    assert ranking.tau_sig(full[:8], memory[:8]) == (None, 28, 'undefined: 28 significant pairs, 30 needed')
    # Ties that float arithmetic would miss: (0.1 + 0.2) / 2 against 0.15.
    assert ranking.tau_sig(full, [[[0.1, 0.2]], [[0.15, 0.15]], *([[k]] for k in range(2, 9))]).value == 35 / 36


def test_ceiling_is_the_mean_over_all_splits():
    full = pool(16, 6, 0.0008, 0.0012)
    for hard, below in ((False, np.inf), (True, 0.005)):
        values, counts = [], []
        for half in itertools.combinations(range(6), 3):
            rest = [k for k in range(6) if k not in half]
            value, pairs = naive_tau(full[:, half], full[:, rest], below)
            counts.append(pairs)
            values += [value] if pairs >= 30 else []
        tau = ranking.ceiling(full, hard)
        assert 10 < len(values) and min(values) < 1
        assert tau.value == pytest.approx(np.mean(values), abs=1e-12) and tau.pairs == round(np.mean(counts))
        assert f'over {len(values)} of 20 splits' in tau.text
    assert ranking.ceiling(full[:, :5]) == (None, 0, 'undefined: 5 full-log seeds, 6 needed')
    assert ranking.ceiling(pool(14, 7)).value == 1.0
    assert 'of 70 splits' in ranking.ceiling(pool(14, 7)).text  # 35 halves of three seeds, either way round
    assert ranking.ceiling(pool(8)).text == 'undefined: 28 significant pairs in the mean split, 30 needed'


def test_spearman_is_scipys_with_ties():
    rng = np.random.default_rng(0)
    full, memory = rng.integers(0, 6, (20, 15)), rng.integers(0, 6, (20, 15))
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(full, memory)]
    np.testing.assert_allclose(ranking.spearman(full, memory), expected, atol=1e-12)
    assert np.isnan(ranking.spearman(np.arange(4), np.ones(4)))


def test_regret_and_top3_by_hand():
    full = np.array([0.70, 0.74, 0.73, 0.72, 0.71])
    memory = np.array([[0, 5, 4, 3, 2], [0, 1, 4, 3, 2], [5, 2, 4, 1, 3], [5, 2, 4, 1, 2], [1, 1, 1, 1, 1]])
    np.testing.assert_allclose(ranking.regret(full, memory), [0, 0.01, 0.04, 0.04, 0.02], atol=1e-12)
    # In the fourth row the best ties with one other for third place, in the last all five tie for three places.
    np.testing.assert_allclose(ranking.top3_hit(full, memory), [1, 0, 0, 0.5, 0.6])


def test_retention_and_the_side_of_chance():
    np.testing.assert_allclose(retention(np.array([0.7, 0.6]), np.array([0.6, 0.6])), [0.5, 1.0])
    assert np.isnan(retention(np.array([0.49]), np.array([0.6]))).all()
    full = np.full((3, 2), [[0.7], [0.6], [0.5]])
    found = ranking.figures(full, [[0.6, 0.7], [0.6, 0.55], [0.9, 0.9]])
    np.testing.assert_allclose(found['retention_mean'], [0.75, 0.75])
    np.testing.assert_allclose(found['retention_min'], [0.5, 0.5])


def test_logloss_is_ranked_from_below():
    full = pool(step=0.002)
    memory = memory_of(full, 0.002)
    auc, loss = ranking.figures(full, memory), ranking.figures(1 - full, 1 - memory, 'logloss')
    for name in ranking.FIGURES[:5]:
        np.testing.assert_allclose(auc[name], loss[name], atol=1e-11)
    assert np.isnan(loss['retention_mean']).all()
    found = summary(as_candidates(1 - full, 1 - memory, 'logloss'), 'logloss', 20)
    assert found['memory']['retention_min']['text'] == 'undefined: logloss has no chance level'
    assert found['memory']['retention_min']['mean'] is None and found['better'] == 'lower'


def test_figures_are_those_of_each_distillation_by_itself():
    full = pool(step=0.001)
    memory = memory_of(full, 0.003)
    found = ranking.figures(full, memory)
    for r in range(3):
        alone = memory[:, r].mean(1)
        assert found['tau_sig'][r] == ranking.tau_sig(full, alone).value
        assert found['tau_sig_hard'][r] == ranking.tau_sig(full, alone, hard=True).value
        assert found['spearman'][r] == pytest.approx(stats.spearmanr(full.mean(1), alone).statistic)
        assert found['regret'][r] == pytest.approx(full.mean(1).max() - full.mean(1)[alone.argmax()])
        kept = (alone - 0.5) / (full.mean(1) - 0.5)
        assert found['retention_mean'][r] == pytest.approx(kept.mean())
        assert found['retention_min'][r] == pytest.approx(kept.min())


def test_order_of_candidates_seeds_and_distillations_is_nothing():
    full = pool(step=0.0006, noise=0.0008)
    memory = memory_of(full, 0.004)
    before = ranking.figures(full, memory)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        order, runs = rng.permutation(14), rng.permutation(3)
        mixed = rng.permuted(full[order], axis=1), rng.permuted(memory[order][:, runs], axis=2)
        assert ranking.pooled_sd(mixed[0]) == pytest.approx(ranking.pooled_sd(full), rel=1e-12)
        for name, values in ranking.figures(*mixed).items():
            np.testing.assert_allclose(values, before[name][runs], atol=1e-11)
        assert ranking.tau_sig(*mixed) == ranking.tau_sig(full, memory)
        seeds = rng.permutation(6)  # splits of the ceiling pair the seeds of all candidates
        assert ranking.ceiling(full[order][:, seeds]).value == pytest.approx(ranking.ceiling(full).value, abs=1e-12)


def test_bootstrap_is_the_naive_loop():
    full = pool(10, 4, 0.003, 0.002)
    memory = memory_of(full, 0.003)
    draws = bootstrap(full, memory, resamples=300, seed=5)
    rng = np.random.default_rng(5)
    seeds, runs = rng.integers(4, size=(300, 10, 4)), rng.integers(3, size=(300, 1, 3))
    for b in (0, 199, 200, 299):
        again = full[np.arange(10)[:, None], seeds[b]]
        gap = np.subtract.outer(again.mean(1), again.mean(1))[np.triu_indices(10, 1)]
        counts = np.abs(gap) > ranking.threshold(full)
        taus = []
        for r in runs[b, 0]:
            other = memory[:, r].mean(1)
            taus.append((np.sign(gap * np.subtract.outer(other, other)[np.triu_indices(10, 1)]) * counts).sum())
        expected = np.mean(taus) / counts.sum() if counts.sum() >= 30 else np.nan
        np.testing.assert_allclose(draws['tau_sig'][b], expected, atol=1e-12)
        picks = [again.mean(1).max() - again.mean(1)[memory[:, r].mean(1).argmax()] for r in runs[b, 0]]
        assert draws['regret'][b] == pytest.approx(np.mean(picks))
    kept = ranking.figures(full, memory)['retention_mean'].mean()
    low, high = interval(draws['retention_mean'], kept)
    assert low < kept < high and (low + high) / 2 == pytest.approx(kept, abs=(high - low) / 4)
    assert interval(np.array([1.0, np.nan, np.nan]), 1.0) is None and interval(np.ones(3), np.nan) is None
    assert interval(np.array([1.0, 2.0, 3.0]), 5.0) == pytest.approx([4.05, 5.95]), 'moved to the figure'


def test_bootstrap_without_noise_is_a_point_and_users_widen_it():
    full = np.repeat(pool(noise=0)[:, :1], 6, axis=1)
    memory = np.repeat(memory_of(full, 0.0)[:, :1], 3, axis=1)
    for name, values in bootstrap(full, memory, resamples=50).items():
        np.testing.assert_allclose(values, values[0], atol=1e-11, err_msg=name)
    shift = np.random.default_rng(0).normal(0, 0.01, (50, 14))
    users = full + shift[:, :, None], memory + shift[:, :, None, None]
    draws = bootstrap(full, memory, users=users)
    assert draws['regret'].shape == (50,) and draws['retention_mean'].std() > 0
    means = users[0].mean(2), users[1].mean((2, 3))
    np.testing.assert_allclose(draws['retention_min'], retention(*means).min(1), atol=1e-9)
    with pytest.raises(ValueError, match=r'not \(50, 14, 6\)'):
        bootstrap(full, memory, users=(users[0][:, :3], users[1]))


@pytest.mark.parametrize('decimals', [None, 0])
def test_auc_under_redrawn_users_is_scikit_learns_on_copied_rows(decimals):
    rng = np.random.default_rng(2)
    n, labels = 400, rng.random(400) < 0.3
    groups = rng.integers(100, 140, n) * 7
    logits = rng.normal(size=(3, n)) + labels
    logits = logits if decimals is None else logits.round(decimals)
    users = np.unique(groups)
    picks = rng.integers(users.size, size=(12, users.size))
    counts = np.stack([np.bincount(p, minlength=users.size) for p in picks])
    area = auc_user_bootstrap(logits.astype(np.float32), labels, groups, counts)
    assert area.shape == (12, 3)
    for b, pick in enumerate(picks):
        rows = np.concatenate([np.flatnonzero(groups == users[u]) for u in pick])
        for r in range(3):
            expected = roc_auc_score(labels[rows], logits[r, rows].astype(np.float32))
            assert area[b, r] == pytest.approx(expected, abs=1e-12)
    once = auc_user_bootstrap(logits, labels, groups, np.ones((1, users.size)))[0]
    np.testing.assert_allclose(once, [roc_auc_score(labels, z) for z in logits], atol=1e-12)


def test_redrawn_users_are_the_same_in_every_call_and_have_the_right_spread():
    rng = np.random.default_rng(3)
    labels, groups = rng.random(4000) < 0.5, np.arange(4000)  # a row a user: the ordinary bootstrap
    logits = rng.normal(size=(2, 4000)) + labels
    both = auc_user_bootstrap(logits, labels, groups, resamples=300, seed=1)
    np.testing.assert_array_equal(both[:, :1], auc_user_bootstrap(logits[:1], labels, groups, None, 300, 1))
    # Standard error of AUC by DeLong, on the same rows.
    p, q = logits[0][labels], logits[0][~labels]
    wins = p[:, None] > q
    error = np.sqrt(wins.mean(1).var(ddof=1) / p.size + wins.mean(0).var(ddof=1) / q.size)
    assert both[:, 0].std() == pytest.approx(error, rel=0.15)
    one_class = auc_user_bootstrap(logits[:, :2], [0, 1], [0, 1], [[1, 0], [1, 1]])
    assert np.isnan(one_class[0]).all() and np.isfinite(one_class[1]).all()
    for bad in (logits[:, :5], np.full((1, 4000), np.nan)):
        with pytest.raises(ValueError, match='NaN logits, lengths'):
            auc_user_bootstrap(bad, labels, groups, resamples=1)


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04, times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, made monotone.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


def test_paired_differences():
    ours = [0.90, 0.92, 0.88]
    rivals = {'far': [0.40, 0.44, 0.39], 'near': [0.89, 0.93, 0.86], 'same': ours}
    noise = np.linspace(-0.1, 0.1, 201)
    draws = {'far': 0.1 + noise, 'near': 0.5 + noise, 'same': noise}  # their means are off: moved to the difference
    rows = {row['rival']: row for row in paired_differences(ours, rivals, draws)}
    assert rows['far']['difference'] == pytest.approx(0.49) and rows['near']['sd'] == pytest.approx(0.01527525)
    assert rows['far']['interval'] == pytest.approx([0.49 - 0.095, 0.49 + 0.095])
    assert rows['far']['p'] == pytest.approx(2 / 201) and rows['far']['p_holm'] == pytest.approx(3 * 2 / 201)
    # 0.02 / 3 + noise, steps of 0.001: at or below 0 are -0.1 .. -0.007, 94 of 201.
    assert rows['near']['p'] == pytest.approx(2 * 94 / 201) and rows['same']['p'] > 0.99
    for row in rows.values():
        low, high = row['interval']
        assert (row['p'] < 0.05) == (low > 0 or high < 0), 'an interval and a p never contradict each other'
    odd = {'none': [None, 0.3], 'more': [1, 2, 3], 'ok': [0.1, 0.2]}
    undefined = paired_differences([0.9, 0.8], odd, dict.fromkeys(odd, noise))
    assert [row['p'] is None for row in undefined] == [True, True, False]
    assert undefined[0]['text'].startswith('undefined') and undefined[2]['p_holm'] == undefined[2]['p']
    assert paired_differences([0.9], {'one': [0.3]}, {'one': noise})[0]['p'] is None
    lost = paired_differences([0.9, 0.8], {'lost': [0.1, 0.2]}, {'lost': np.full(9, np.nan)})
    assert lost[0]['p'] is None and lost[0]['interval'] is None


def test_summary_is_json_recomputable_and_says_what_it_cannot():
    full = pool(step=0.00135, noise=0.0001)
    memory, random = memory_of(full, 0.002), memory_of(full, 0.02, seed=9)
    copied = np.full((14, 3, 2), 0.75)
    candidates = as_candidates(full, memory, random=random, copied=copied, early=memory[:, :, 0])
    candidates[3]['rivals']['some'] = {'auc': [[0.7]]}
    found = summary(candidates, resamples=200)
    text = json.dumps(found, allow_nan=False)
    assert json.dumps(summary(json.loads(json.dumps(candidates)), resamples=200)) == text
    side = found['memory']
    expected = ranking.figures(full, memory)
    for name in ranking.FIGURES:
        assert side[name]['mean'] == pytest.approx(expected[name].mean())
        assert side[name]['sd'] == pytest.approx(expected[name].std(ddof=1))
        np.testing.assert_allclose(side[name]['replicates'], expected[name])
    assert side['tau_sig']['of_mean'] == ranking.tau_sig(full, memory).value
    assert side['tau_sig']['text'] == '91 significant pairs'
    assert found['ceiling']['tau_sig']['value'] == ranking.ceiling(full).value
    assert found['pairs'] == {'all': 91, 'significant': 91, 'hard': 36} and found['full_seeds'] == 6
    assert found['rivals']['copied']['tau_sig']['mean'] == 0.0
    assert found['rivals']['copied']['spearman']['mean'] is None
    assert 'equal' in found['rivals']['copied']['spearman']['text']
    assert found['rivals']['some'] == {'text': 'undefined: scores of 1 of 14 candidates'}
    assert found['rivals']['early']['distillations'] == 3
    rows = {row['rival']: row for row in found['paired']['tau_sig']}
    assert set(rows) == {'random', 'copied', 'early'}
    low, high = rows['copied']['interval']
    assert 0 < low <= rows['copied']['difference'] <= high and rows['copied']['p_holm'] >= rows['copied']['p']
    assert found['memory']['retention']['c0'] == pytest.approx(0.9, abs=0.02)


def test_one_distillation_and_ragged_students():
    full = pool(step=0.002)
    memory = [[[m, m + 0.002], [m]] for m in full.mean(1)]
    assert ranking.tau_sig(full, memory).value == 1.0
    single = summary(as_candidates(full, memory_of(full, 0.0001, distillations=1)), resamples=20)['memory']
    assert single['distillations'] == 1 and single['tau_sig']['sd'] is None and single['tau_sig']['mean'] == 1.0


def test_bad_scores_are_refused():
    full = pool()
    for bad, words in ((full[:, :1], r'\[1\] seeds'), ([[0.7, 0.8], [0.7]], r'\[1, 2\] seeds')):
        with pytest.raises(ValueError, match=words):
            ranking.pooled_sd(bad)
    with pytest.raises(ValueError, match='finite'):
        ranking.pooled_sd([[0.7, np.nan], [0.7, 0.8]])
    for bad in ([0.5] * 13, [[0.5]] * 13 + [[0.5, 0.6]], [[0.5]] * 13 + [[None]], [[]] * 14):
        with pytest.raises(ValueError, match='memory scores'):
            ranking.tau_sig(full, bad)
    with pytest.raises(KeyError):
        ranking.figures(full, [0.5] * 14, 'f1')


def test_what_orders_candidates_may_be_another_score_than_what_says_their_level():
    full = [[0.6 + 0.01 * c + 0.0001 * s for s in range(2)] for c in range(10)]
    codes = [[[0.7 - 0.001 * c] * 2, [0.7 + 0.001 * c] * 2] for c in range(10)]  # the first turned round
    ids = [[[0.5 + 0.02 * c] * 2] * 2 for c in range(10)]
    sides = [{'auc': a, 'by_ids': {'weight': 0.2, 'auc': b}} for a, b in zip(codes, ids)]
    order = [ranking.ordering(side) for side in sides]
    each, level = ranking.figures(full, codes, order=order), ranking.figures(full, codes)
    assert each['tau_sig'].tolist() == [1.0, 1.0] and level['tau_sig'].tolist() == [-1.0, 1.0]
    np.testing.assert_array_equal(each['retention_mean'], level['retention_mean'])
    found = ranking.orderings(sides)
    assert found.shape == (10, 2, 2)
    np.testing.assert_allclose(found.mean((0, 2)), np.mean(codes, (0, 2)))
    np.testing.assert_allclose(found - found[0], np.array(order) - np.array(order)[0], atol=1e-12)
    named = [{'name': str(c), 'full': {'auc': full[c]}, 'memory': sides[c]} for c in range(10)]
    side = summary(named, resamples=20)['memory']
    assert side['tau_sig']['mean'] == 1.0 and side['tau_sig']['of_mean'] == 1.0 and side['tau_sig']['interval'][0] > 0.9
    users = np.repeat(np.array(full)[None], 20, 0), np.repeat(np.array(codes)[None], 20, 0)
    draws = bootstrap(full, codes, users=users, order=order)
    assert draws['tau_sig'].min() > 0.9 and np.allclose(
        draws['retention_mean'], level['retention_mean'].mean(), atol=0.05
    )
