"""Rules that an answer is held to: how they are typed, what they say, and what a user can get wrong."""

import numpy as np
import pytest
from scipy import stats

from diet_jax.base.errors import UserError
from diet_jax.stats import correction
from diet_jax.study.rules import Rule, check_names, parse, verdict


@pytest.mark.parametrize(
    'text, rest',
    [
        ('a worse than b with probability 0.9', ('a', True, 'b', 0.0, 0.9)),
        ('a better than b by 1e-3 with probability .5', ('a', False, 'b', 0.001, 0.5)),
        ('  a   worse than  b by 0.002 with  probability 0.05 ', ('a', True, 'b', 0.002, 0.05)),
        (
            '"my idea" worse than \'lr (twin)\' by 0.001 with probability 0.9',
            ('my idea', True, 'lr (twin)', 0.001, 0.9),
        ),
        ('my idea worse than lr (twin) by 0.001 with probability 0.9', ('my idea', True, 'lr (twin)', 0.001, 0.9)),
        ('"a worse than b" better than \'by 3\' with probability 0.9', ('a worse than b', False, 'by 3', 0.0, 0.9)),
    ],
)
def test_a_rule_is_read_as_it_is_typed(text, rest):
    assert parse(text) == Rule(text, *rest)


@pytest.mark.parametrize(
    'text, words',
    [
        ('a wors than b with probability 0.9', r"--fail_if='a wors than b .*' is not '<name> worse than <name> by"),
        ('a worse than b', 'is not .<name> worse than <name> by <margin> with probability <p>'),
        ('worse than b with probability 0.9', 'is not .<name> worse than'),
        ('', 'is not .<name> worse than'),
        ('a worse than b by much with probability 0.9', "the margin 'much' is no number"),
        (
            'a worse than b by -0.001 with probability 0.9',
            'the margin -0.001 is a difference in AUC, from 0 to below 1',
        ),
        ('a worse than b by nan with probability 0.9', 'the margin nan is a difference in AUC'),
        ('a worse than b with probability 90%', "the probability '90%' is no number"),
        ('a worse than b with probability 1', 'the probability 1 must lie between 0 and 1'),
        ('a worse than b with probability 0', 'the probability 0 must lie between 0 and 1'),
    ],
)
def test_a_rule_that_is_none_is_one_line(text, words):
    with pytest.raises(UserError, match=words):
        parse(text)


def test_a_name_that_is_none_of_the_candidates():
    with pytest.raises(UserError, match="'dcn2' is none of the candidates .did you mean 'dcnv2'"):
        check_names([parse('dcn2 worse than fm with probability 0.9')], ['fm', 'dcnv2'])
    with pytest.raises(UserError, match="'fm' is compared with itself"):
        check_names([parse('fm worse than fm with probability 0.9')], ['fm', 'dcnv2'])
    check_names([parse('"fm" worse than dcnv2 with probability 0.9')], ['fm', 'dcnv2'])


def test_the_probability_is_that_of_the_difference_being_beyond_the_margin():
    """Two correlated candidates; by scipy's normal."""
    cov = 1e-6 * np.array([[4.0, 1.0], [1.0, 2.0]])
    answer = correction.Answer(np.array([0.70, 0.703]), cov, 0.0, {}, True, '')
    sd = np.sqrt(4e-6)  # 4 + 2 - 2
    for text, expected in (
        ('a worse than b by 0.001 with probability 0.8', stats.norm.sf(0.001, 0.003, sd)),
        ('b better than a by 0.001 with probability 0.8', stats.norm.sf(0.001, 0.003, sd)),
        ('a better than b by 0.001 with probability 0.8', stats.norm.sf(0.001, -0.003, sd)),
        ('b worse than a with probability 0.05', stats.norm.sf(0.0, -0.003, sd)),
    ):
        found = verdict(parse(text), answer, ['a', 'b'])
        assert found['probability'] == pytest.approx(expected, abs=1e-12) and found['text'] == text
        assert found['fails'] == (expected > parse(text).limit)
    assert verdict(parse('a worse than b by 0.001 with probability 0.84'), answer, ['a', 'b'])['fails']
    assert not verdict(parse('a worse than b by 0.001 with probability 0.85'), answer, ['a', 'b'])['fails']
