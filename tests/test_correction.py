"""The twin correction against closed cases and independent arithmetic, and its odds."""

import numpy as np
import pytest
from scipy import stats

from diet_jax.stats import correction
from diet_jax.stats.judgement import judged, reliability


def pool(candidates: int = 8, seed: int = 0):
    """(scores f64[C, S], logits f32[C, N]): candidates along a line in function space, two students each."""
    rng = np.random.default_rng(seed)
    base, other = rng.normal(size=(2, 4000))
    angle = np.linspace(0, 0.6, candidates)
    logits = np.cos(angle)[:, None] * base + np.sin(angle)[:, None] * other
    scores = 0.7 + 0.0001 * np.arange(candidates)[:, None] + 0.0004 * np.array([-1.0, 1.0])
    return scores, logits.astype(np.float32)


def test_the_distance_is_one_minus_the_correlation():
    _, logits = pool()
    np.testing.assert_allclose(correction.function_distance(logits), 1 - np.corrcoef(logits), atol=1e-6)
    np.testing.assert_allclose(correction.function_distance(2 * logits[:1].repeat(3, 0) + 1), 0, atol=1e-12)


def test_the_answer_is_the_conditional_of_the_joint_normal():
    """By the whole joint precision instead of the twins' block: another way to the same conditional."""
    scores, logits = pool()
    known = {1: 0.706, 4: 0.703, 6: 0.708}
    answer = correction.correct(scores[:, None], logits, known)
    noise = np.mean([np.var(s, ddof=1) for s in scores])
    c, d, m = correction.CONSTANTS, 1 - np.corrcoef(logits), scores.mean(1)
    prior = c.shift**2 + c.scale**2 * np.exp(-d / (2 * c.width**2) - (m[:, None] - m) ** 2 / (2 * c.near**2))
    prior += np.eye(8) * c.own**2 * noise
    see = np.eye(8)[sorted(known)]  # delta is seen through see, with the noise of a run and of the students' mean
    delta = np.array([known[i] - scores[i].mean() for i in sorted(known)])
    expected = see @ prior @ see.T + 1.5 * noise * np.eye(3) + 1.0  # any shift is expected
    surprise = delta @ np.linalg.inv(expected) @ delta / 2
    assert surprise > 1, 'these twins are further apart than expected'
    precision = np.linalg.inv(surprise * prior) + see.T @ see / (noise + noise / 2)
    cov = np.linalg.inv(precision)
    mean = cov @ see.T @ delta / (noise + noise / 2)
    np.testing.assert_allclose(answer.mean, scores.mean(1) + mean, atol=1e-7)
    np.testing.assert_allclose(answer.cov, cov + np.eye(8) * noise / 2, atol=1e-9)
    assert answer.noise == pytest.approx(noise)


def test_equal_errors_are_a_shift_and_keep_the_order():
    scores, logits = pool()
    answer = correction.correct(scores[:, None], logits, {i: scores[i].mean() + 0.01 for i in (0, 3, 7)})
    np.testing.assert_allclose(answer.mean - scores.mean(1), 0.01, atol=5e-4)
    assert (np.argsort(answer.mean) == np.arange(8)).all()


def test_an_error_that_follows_the_function_is_found_where_a_shift_is_not():
    scores, logits = pool(12)
    error = np.linspace(-0.006, 0.006, 12)
    truth = scores.mean(1) + error
    twins = (0, 4, 7, 11)
    answer = correction.correct(scores[:, None], logits, {i: truth[i] for i in twins})
    others = [i for i in range(12) if i not in twins]
    shift = np.mean(error[list(twins)])
    assert np.abs(answer.mean - truth)[others].mean() < 0.4 * np.abs(error - shift)[others].mean()
    assert answer.by_functions and answer.held_out['functions'] < answer.held_out['shift']
    assert (np.abs(answer.mean - truth) < 1.645 * np.sqrt(np.diag(answer.cov))).all()


def test_where_held_out_twins_say_that_functions_tell_nothing_the_order_is_that_of_the_memory():
    """Neighbours err the opposite way: worse than a shift. Intervals are Student's t of the twins' own deltas."""
    scores, logits = pool(12)
    memory, delta = scores.mean(1), {0: 0.03, 1: -0.01, 10: 0.05, 11: 0.01}
    known = {i: memory[i] + d for i, d in delta.items()}
    answer = correction.correct(scores[:, None], logits, known)
    assert not answer.by_functions and answer.held_out['functions'] >= answer.held_out['shift']
    assert answer.text.endswith('the order of the others is that of the memory')
    others = [i for i in range(12) if i not in known]
    np.testing.assert_allclose((answer.mean - memory)[others], np.mean([*delta.values()]), atol=1e-5)
    assert np.abs(answer.mean - memory - [delta.get(i, 0.02) for i in range(12)]).max() < 1e-4, 'twins are known'
    noise = np.mean([np.var(s, ddof=1) for s in scores])
    foretold = np.var([*delta.values()], ddof=1) * stats.t(3).var()  # about their mean, itself uncertain by a quarter
    np.testing.assert_allclose(np.diag(answer.cov)[others], 1.25 * foretold + noise / 2, rtol=1e-3)
    assert np.diag(answer.cov)[sorted(known)].max() < 3 * noise, 'a known score is as sure as a run'
    odds = correction.beats(answer)[others[-1], others[0]]
    assert odds == pytest.approx(
        stats.norm.cdf((memory[others[-1]] - memory[others[0]]) / np.sqrt(2 * foretold)), abs=1e-3
    )


def test_deltas_of_another_size_have_intervals_of_that_size():
    """The same errors along functions, twenty times as large: intervals follow the twins, not the constants."""
    scores, logits = pool(12)
    error = np.linspace(-0.12, 0.12, 12)
    truth = scores.mean(1) + error
    answer = correction.correct(scores[:, None], logits, {i: truth[i] for i in (0, 4, 7, 11)})
    assert answer.held_out['functions'] < answer.held_out['shift']
    assert (np.abs(answer.mean - truth) < 1.645 * np.sqrt(np.diag(answer.cov))).all()


def test_what_was_foretold_of_held_out_scores_has_a_density():
    """Functions: the normal of the conditional, widened by the others' surprise; their mean: scipy's Student's t."""
    scores, logits = pool(12)
    memory, twins = scores.mean(1), [0, 3, 7, 11]
    delta = np.array([0.012, 0.004, -0.003, -0.009])
    answer = correction.correct(scores[:, None], logits, dict(zip(twins, memory[twins] + delta)))
    run = np.mean([np.var(s, ddof=1) for s in scores])
    noise, kernel = run * 1.5, correction.prior(memory, logits, run)
    functions, shift = [], []
    for i, twin in enumerate(twins):
        rest = [t for t in twins if t != twin]
        seen = np.delete(delta, i)
        white = np.linalg.inv(kernel[np.ix_(rest, rest)] + noise * np.eye(3) + 1.0)
        wide = kernel * max(seen @ white @ seen / 2, 1.0)
        gain = wide[twin, rest] @ np.linalg.inv(wide[np.ix_(rest, rest)] + noise * np.eye(3))
        variance = wide[twin, twin] - gain @ wide[rest, twin] + noise
        functions.append(stats.norm.logpdf(delta[i], gain @ seen, np.sqrt(variance)))
        shift.append(stats.t.logpdf(delta[i], 2, seen.mean(), seen.std(ddof=1) * np.sqrt(4 / 3)))
    assert answer.held_out['functions_density'] == pytest.approx(np.mean(functions))
    assert answer.held_out['shift_density'] == pytest.approx(np.mean(shift))
    assert answer.by_functions == (np.sum(functions) - np.sum(shift) > 1)


@pytest.mark.parametrize('jitter', [0.0, 1e-5])
def test_four_equal_errors_are_a_shift_however_large_and_noisy(jitter):
    scores, logits = pool()
    scores = scores + 0.002 * np.array([-1.0, 1.0])
    delta = 0.2 + jitter * np.array([1.0, -1.0, 1.0, -1.0])
    answer = correction.correct(scores[:, None], logits, {i: scores[i].mean() + d for i, d in zip((0, 2, 5, 7), delta)})
    assert not answer.by_functions and 'further apart' not in answer.text, 'what is common to all surprises nobody'
    np.testing.assert_allclose(answer.mean - scores.mean(1), 0.2, atol=1e-4)
    assert (np.diag(answer.cov) > np.var(scores[0], ddof=1)).all(), 'no surer than a run'


def test_with_few_known_scores_nothing_is_checked_and_intervals_are_wide_where_they_are_far_apart():
    scores, logits = pool(12)
    near, far = (
        {i: scores[i].mean() + d for i, d in zip((0, 5, 11), delta)}
        for delta in ((0.01, 0.012, 0.011), (0.006, 0.06, 0.114))
    )
    near, far = (correction.correct(scores[:, None], logits, known) for known in (near, far))
    assert near.by_functions and far.by_functions
    assert near.text.endswith('; 4 are needed to check by which to correct') and 'further apart' not in near.text
    assert 'further apart than expected, and intervals are wider for it by ' in far.text
    others = [i for i in range(12) if i not in (0, 5, 11)]
    assert (np.diag(far.cov)[others] > 10 * np.diag(near.cov)[others]).all()


def test_one_twin_and_no_spread():
    scores, logits = pool(3)
    answer = correction.correct(np.full((3, 1, 2), 0.7), logits, {0: 0.72})
    assert np.isnan(answer.held_out['shift']) and answer.text.startswith('1 known score: on the log it is +0.0200 AUC')
    np.testing.assert_allclose(answer.mean[0], 0.72, atol=1e-3)
    assert np.isfinite(answer.cov).all() and (np.diag(answer.cov) > 0).all()


def test_odds_are_those_of_the_joint():
    scores, logits = pool()
    answer = correction.correct(scores[:, None], logits, {0: 0.705, 7: 0.712})
    odds = correction.beats(answer)
    np.testing.assert_allclose(odds + odds.T, 1, atol=1e-12)
    drawn = np.random.default_rng(1).multivariate_normal(answer.mean, answer.cov, 40_000, method='eigh')
    np.testing.assert_allclose(odds[2], (drawn[:, [2]] > drawn).mean(0) + 0.5 * (np.arange(8) == 2), atol=0.01)
    best = correction.best(answer)
    np.testing.assert_allclose(best, np.bincount(drawn.argmax(1), minlength=8) / 40_000, atol=0.015)
    assert best.sum() == pytest.approx(1) and (correction.best(answer) == best).all()


def test_odds_with_a_margin_are_those_of_the_joint():
    """By scipy's normal, and by counting draws; the three odds of a pair make one."""
    scores, logits = pool()
    answer = correction.correct(scores[:, None], logits, {0: 0.705, 7: 0.712})
    better, within = correction.beats(answer, 0.002), correction.within(answer, 0.002)
    np.testing.assert_allclose(better + within + better.T, 1, atol=1e-12)
    sd = np.sqrt(answer.cov[2, 2] + answer.cov[5, 5] - 2 * answer.cov[2, 5])
    assert better[2, 5] == pytest.approx(stats.norm.sf(0.002, answer.mean[2] - answer.mean[5], sd))
    drawn = np.random.default_rng(1).multivariate_normal(answer.mean, answer.cov, 40_000, method='eigh')
    apart = drawn[:, :, None] - drawn[:, None]
    np.testing.assert_allclose(better, (apart > 0.002).mean(0), atol=0.01)
    np.testing.assert_allclose(within, (np.abs(apart) <= 0.002).mean(0), atol=0.01)
    off = ~np.eye(8, dtype=bool)
    assert (correction.beats(answer)[off] > better[off]).all() and correction.within(answer, 0.0)[off].max() < 1e-12


def test_whom_a_candidate_is_not_told_from():
    """Independent candidates, sd 0.001 each: told from one that is 0.9 of a normal or more behind the margin."""
    mean = 0.7 - np.array([0.0, 0.0005, 0.0020, 0.0035, 0.0050])
    answer = correction.Answer(mean, 1e-6 * np.eye(5), 1e-6, {}, True, '')
    behind = lambda margin: stats.norm.cdf((0.7 - mean - margin) / np.sqrt(2e-6))  # noqa: E731
    for margin in (0.0, 0.001, 0.002):
        expected = [i for i in range(1, 5) if behind(margin)[i] < 0.9]
        assert correction.not_told_from(answer, 0, margin) == expected
    assert [len(correction.not_told_from(answer, 0, margin)) for margin in (0.0, 0.002, 0.1)] == [1, 3, 4]


def test_a_run_is_worth_its_expected_gain():
    """Two candidates, one known for certain: E max(0, d) of a normal d has a closed form."""
    mean, sd, noise = np.array([0.7, 0.699]), 0.004, 0.001**2
    answer = correction.Answer(mean, np.diag([1e-18, sd**2]), noise, {}, True, '')
    slope = sd**2 / np.sqrt(sd**2 + noise)
    z = (mean[1] - mean[0]) / slope
    expected = slope * (stats.norm.pdf(z) + z * stats.norm.cdf(z))
    gain = correction.worth_running(answer, known=[0])
    assert gain[0] == 0 and gain[1] == pytest.approx(expected, rel=0.02)
    surer = answer._replace(cov=np.diag([1e-18, sd**2 / 4]))
    assert 0 <= correction.worth_running(surer, [0])[1] < gain[1]


def judged_pool(candidates: int = 12):
    """Candidates of trends.json, their memory wrong by an error along the line; logits; truth."""
    scores, logits = pool(candidates)
    error = np.linspace(-0.02, 0.02, candidates)
    truth = scores.mean(1) - error
    found = [
        {
            'name': f'c{i}',
            'full': {'auc': [truth[i] - 1e-4, truth[i] + 1e-4]},
            'memory': {'auc': [list(scores[i]), list(scores[i] + 1e-5)]},
            'rivals': {'flat': {'auc': [[0.7, 0.7001], [0.7, 0.7001]]}},
        }
        for i in range(candidates)
    ]
    both = np.stack([logits, logits], 1)
    return found, {'memory': both, 'flat': both}, truth


def test_the_judgement_counts_pairs_that_hold_a_candidate_that_is_no_twin():
    found, logits, truth = judged_pool()
    twins = {name: {'auc': [truth[i], truth[i]]} for name, i in (('c0', 0), ('c5', 5), ('c11', 11), ('absent', 0))}
    told = judged(found, twins, logits)
    memory = told['memory']
    pairs = [(i, j) for i in range(12) for j in range(i) if abs(truth[i] - truth[j]) > 0.001]
    open_pairs = [p for p in pairs if not set(p) <= {0, 5, 11}]
    assert memory['twins'] == ['c0', 'c5', 'c11'] and memory['replicates'][0]['pairs'] == len(open_pairs)
    means = np.array([np.mean(c['memory']['auc'][0]) for c in found])
    right = [np.sign(truth[i] - truth[j]) * np.sign(means[i] - means[j]) for i, j in open_pairs]
    assert memory['plain_tau_sig']['mean'] == pytest.approx(np.mean(right))
    assert memory['tau_sig']['mean'] > memory['plain_tau_sig']['mean'] + 0.5
    assert memory['error']['mean'] < memory['plain_error']['mean']
    assert sum(n for *_, n in memory['reliability']) == 2 * (66 - 3)
    assert memory['reliability_margin']['margin'] == 0.001
    assert sum(n for *_, n in memory['reliability_margin']['bins']) == 2 * (66 - 3)
    assert told['flat']['plain_tau_sig']['mean'] == 0  # ties stay in the denominator


@pytest.mark.parametrize('margin', [0.0, 0.001, 0.004])
def test_reliability_counts_what_came_true(margin):
    """Truth drawn from the answer itself: stated probabilities hold, bin by bin; and every pair is counted once."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(12, 12)) * 0.001
    answer = correction.Answer(rng.normal(0.7, 0.003, 12), root @ root.T, 0.0, {}, True, '')
    drawn = rng.multivariate_normal(answer.mean, answer.cov, 600, method='eigh')
    bins = [line for truth in drawn for line in reliability(truth, [answer], {0: '', 1: ''}, margin)]
    stated, true, pairs = np.array(bins).T
    assert pairs.sum() == 600 * (66 - 1) and (stated.min() >= 0.5 if margin == 0 else stated.min() < 0.5)
    for low in np.arange(0, 1, 0.1):
        at = (stated >= low) & (stated < low + 0.1)
        if pairs[at].sum() > 3000:
            assert np.average(true[at], weights=pairs[at]) == pytest.approx(
                np.average(stated[at], weights=pairs[at]), abs=0.03
            )


def test_a_pair_that_is_closer_than_the_margin_is_not_better_by_more():
    answer = correction.Answer(np.array([0.7, 0.7005, 0.71]), 1e-10 * np.eye(3), 0.0, {}, True, '')
    truth = np.array([0.7, 0.7005, 0.69])
    assert reliability(truth, [answer], {0: ''}) == [[pytest.approx(1), pytest.approx(1 / 3), 3]]  # 1 > 0 alone
    (never, _, one), (sure, none, two) = reliability(truth, [answer], {0: ''}, margin=0.001)
    assert (one, two, none) == (1, 2, 0) and never == pytest.approx(0) and sure == pytest.approx(1)


def test_no_judgement_without_twins_and_few_pairs_are_undefined():
    found, logits, truth = judged_pool()
    assert judged(found, {}, logits) == {}
    few = judged(found[:5], {'c0': {'auc': [truth[0]] * 2}}, {'memory': logits['memory'][:5]})
    assert few['memory']['tau_sig']['mean'] is None and few['memory']['error']['mean'] is not None


def test_candidates_that_are_one_function_share_the_error_of_their_twin():
    """All at distance 0: what the twin says of the shift, and of the function, in a closed form; no one is ahead."""
    scores, (logits, *_), c = np.tile([0.7, 0.7004], (4, 1)), pool()[1], correction.CONSTANTS
    noise, together = 8e-8, c.shift**2 + c.scale**2
    answer = correction.correct(scores[:, None], logits[None].repeat(4, 0), {0: 0.7102})
    share = together / (together + c.own**2 * noise + noise + noise / 2)
    np.testing.assert_allclose(answer.mean[1:], 0.7002 + 0.01 * share, atol=1e-12)
    assert answer.mean[0] > answer.mean[1]  # its own error is known too
    np.testing.assert_allclose(correction.beats(answer)[1:, 1:], 0.5, atol=1e-9)
    np.testing.assert_allclose(correction.best(answer)[1:], correction.best(answer)[1], atol=0.015)
    worth = correction.worth_running(answer, known=[0])
    assert worth[0] == 0 and worth[1] > 0
    np.testing.assert_allclose(worth[1:], worth[1], rtol=1e-9)


def test_a_candidate_that_scores_otherwise_on_the_memory_does_not_get_the_error_of_its_double():
    """One function, two scores far apart: only the shift is common."""
    scores, (logits, *_), c = np.array([[0.7, 0.7004], [0.72, 0.7204]]), pool()[1], correction.CONSTANTS
    answer = correction.correct(scores[:, None], logits[None].repeat(2, 0), {0: 0.7102})
    share = c.shift**2 / (c.shift**2 + c.scale**2 + (c.own**2 + 1.5) * 8e-8)
    np.testing.assert_allclose(answer.mean[1], 0.7202 + 0.01 * share, atol=1e-9)


def test_the_likelihood_is_the_density_of_the_others_given_the_twins():
    """By the joint of all and that of the twins: log p(others | twins) = log p(all) - log p(twins)."""
    scores, logits = pool()
    known, c = {0: 0.705, 5: 0.712}, correction.CONSTANTS
    full = scores.mean(1)[:, None] + np.linspace(0.003, 0.006, 8)[:, None] + np.array([-1e-4, 1e-4])
    run = np.mean([np.var(s, ddof=1) for s in scores])
    memory, twins = scores.mean(1), [0, 5]
    seen = np.where(np.isin(np.arange(8), twins), [known.get(i, 0) for i in range(8)], full.mean(1)) - memory
    noise = np.where(np.isin(np.arange(8), twins), run + run / 2, run / 2 + run / 2)
    kernel = correction.prior(memory, logits, run)
    expected_of_twins = kernel[np.ix_(twins, twins)] + (run + run / 2) * np.eye(2) + correction.ANYWHERE
    wider = seen[twins] @ np.linalg.solve(expected_of_twins, seen[twins])  # one degree of freedom: the shift is free
    assert wider > 1, 'these twins are further apart than expected, so the kernel is widened as in an answer'
    joint = wider * kernel + np.diag(noise)
    density = lambda at: stats.multivariate_normal.logpdf(seen[at], np.zeros(len(at)), joint[np.ix_(at, at)])  # noqa: E731
    expected = density(list(range(8))) - density(twins) + 6 * np.log(2 * np.pi) / 2
    assert correction.log_likelihood(scores, logits, known, full, c) == pytest.approx(expected, rel=1e-9)


def test_same_input_same_answer():
    (scores, logits), known = pool(), {0: 0.705, 5: 0.712}
    one, again = (correction.correct(scores[:, None], logits, dict(said)) for said in (known, [*known.items()][::-1]))
    np.testing.assert_array_equal(one.mean, again.mean)
    np.testing.assert_array_equal(one.cov, again.cov)
    assert one.text == again.text and one.held_out == again.held_out


def test_candidates_in_another_order_get_the_same_answer():
    (scores, logits), known = pool(), {0: 0.705, 5: 0.712}
    order = np.random.default_rng(3).permutation(8)
    one = correction.correct(scores[:, None], logits, known)
    other = correction.correct(
        scores[order][:, None], logits[order], {list(order).index(i): x for i, x in known.items()}
    )
    np.testing.assert_allclose(other.mean, one.mean[order], atol=1e-9)
    np.testing.assert_allclose(other.cov, one.cov[np.ix_(order, order)], atol=1e-12)


def test_worth_is_what_a_run_is_found_to_be_worth():
    """By drawing what is true, running a candidate with noise, and taking the best of what is then expected."""
    scores, logits = pool()
    answer = correction.correct(scores[:, None], logits, {0: 0.706, 7: 0.712})
    rng = np.random.default_rng(2)
    truth = rng.multivariate_normal(answer.mean, answer.cov, 100_000, method='eigh')
    worth = correction.worth_running(answer, known=[0, 7])
    assert (worth >= 0).all() and worth[0] == worth[7] == 0 and (worth[1:7] > 0).all()
    for i in (1, 5):
        seen = truth[:, i] + np.sqrt(answer.noise) * rng.normal(size=len(truth))
        slope = np.cov(truth.T, seen)[-1, :-1] / seen.var()  # regression on what was seen, found from the draws
        then = answer.mean + (seen - answer.mean[i])[:, None] * slope
        assert worth[i] == pytest.approx(then.max(1).mean() - answer.mean.max(), rel=0.05)


def test_what_a_distillation_adds_to_all_candidates_alike_is_no_doubt():
    rng = np.random.default_rng(0)
    scores, logits = 0.7 + 0.001 * rng.standard_normal((6, 3, 4)), rng.standard_normal((6, 50))
    shifted = scores + np.array([0.02, 0.0, -0.02])[:, None]
    one, other = (correction.correct(x, logits, {0: 0.71, 3: 0.71}) for x in (scores, shifted))
    np.testing.assert_allclose(other.mean, one.mean, atol=1e-12)
    np.testing.assert_allclose(other.cov, one.cov, atol=1e-12)
    apart = scores.copy()
    apart[1, 0] += 0.03  # of one candidate alone: in doubt
    assert (np.diag(correction.correct(apart, logits, {0: 0.71, 3: 0.71}).cov) > np.diag(one.cov)).all()


def of_frameworks(known, frameworks, candidates=8):
    scores, logits = pool(candidates)
    known = {i: scores[i].mean() + error for i, error in known.items()}
    return correction.correct(scores[:, None], logits, known, frameworks=frameworks)


HOME = {0: 0.005, 2: 0.0052, 3: 0.0049, 5: 0.0051}


def test_another_frameworks_candidate_is_as_sure_as_its_bias_is_small():
    """The variance of the bias is added to its own, and nothing else changes."""
    here, there = (of_frameworks(HOME, [''] * 7 + [name]) for name in ('', 'torch'))
    np.testing.assert_allclose(there.mean, here.mean, atol=1e-12)
    np.testing.assert_allclose(there.cov[:7, :7], here.cov[:7, :7], atol=1e-15)
    assert there.cov[7, 7] - here.cov[7, 7] == pytest.approx(0.003**2)
    assert 'of torch no full run is known (--anchors): its intervals allow for 0.003 AUC of its own' in there.text


@pytest.mark.parametrize('error', [0.0, 0.02, -0.03])
def test_one_known_run_elsewhere_widens_its_framework_and_not_the_others(error):
    frameworks = [''] * 6 + ['torch'] * 2
    without, one = of_frameworks(HOME, frameworks), of_frameworks({**HOME, 6: error}, frameworks)
    assert (one.by_functions, one.held_out) == (without.by_functions, without.held_out)
    np.testing.assert_allclose(one.mean[:6], without.mean[:6], atol=3e-4)
    np.testing.assert_allclose(np.diag(one.cov)[:6], np.diag(without.cov)[:6], rtol=0.02)
    sd = np.sqrt(one.cov[7, 7])
    assert sd > np.sqrt(one.cov[4, 4]) and abs(one.mean[7] - (0.7007 + error)) < 2 * sd


def test_two_known_runs_elsewhere_tell_the_bias_of_their_framework():
    two = of_frameworks({0: 0.005, 2: 0.0052, 3: 0.0049, 6: -0.02, 7: -0.0202}, [''] * 5 + ['torch'] * 3)
    assert two.mean[5] - 0.7005 == pytest.approx(-0.02, abs=5e-4) and np.sqrt(two.cov[5, 5]) < 0.002
    assert two.mean[1] - 0.7001 == pytest.approx(0.005, abs=5e-4)
    assert 'of torch 2 full runs are known' in two.text


def test_known_runs_elsewhere_alone_correct():
    answer = of_frameworks({6: 0.004, 7: 0.0041}, [''] * 5 + ['torch'] * 3)
    assert answer.mean[5] - 0.7005 == pytest.approx(0.004, abs=5e-4)
    assert answer.text.startswith('no full run of this library is known')
    assert np.sqrt(answer.cov[0, 0]) > 0.01 > np.sqrt(answer.cov[5, 5])
