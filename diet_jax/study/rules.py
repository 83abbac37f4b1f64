"""Rules that an answer is held to, so that a comparison can fail a build.

    <name> worse than <name> by <margin> with probability <p>

'worse' or 'better'; 'by <margin>', in AUC, may be left out. The rule holds, and the check fails, where the probability
of what it says is above <p>. Names may be quoted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from diet_jax.base.errors import UserError, closest
from diet_jax.stats import correction

FORM = '<name> worse than <name> by <margin> with probability <p>'
_RULE = re.compile(
    r'(?P<first>"[^"]+"|\'[^\']+\'|.+?)\s+(?P<word>worse|better)\s+than\s+(?P<second>"[^"]+"|\'[^\']+\'|.+?)'
    r'(?:\s+by\s+(?P<margin>\S+))?\s+with\s+probability\s+(?P<limit>\S+)'
)


class Rule(NamedTuple):
    """What must not be likely: that one candidate is worse, or better, than another by more than a margin."""

    text: str  # as it was typed
    first: str
    worse: bool  # or better
    second: str
    margin: float  # AUC, 0 or more
    limit: float  # in (0, 1): the check fails above it


def parse(text: str) -> Rule:
    """A rule as it is typed.

    Raises:
      UserError: it has not the form; a margin or a probability that is none.

    >>> parse('wide worse than production by 0.001 with probability 0.9')[1:]
    ('wide', True, 'production', 0.001, 0.9)
    """
    found = _RULE.fullmatch(text.strip())
    if not found:
        raise UserError(f"--fail_if='{text}' is not '{FORM}', or 'better than'; 'by <margin>' may be left out")
    margin, limit = _number(text, 'margin', found['margin'] or '0'), _number(text, 'probability', found['limit'])
    if not 0 <= margin < 1:
        raise UserError(f"--fail_if='{text}': the margin {margin:g} is a difference in AUC, from 0 to below 1")
    if not 0 < limit < 1:
        raise UserError(f"--fail_if='{text}': the probability {limit:g} must lie between 0 and 1, e.g. 0.9")
    first, second = _unquoted(found['first']), _unquoted(found['second'])
    return Rule(text=text, first=first, worse=found['word'] == 'worse', second=second, margin=margin, limit=limit)


def check_names(rules: Sequence[Rule], names: Sequence[str]) -> None:
    """Raises UserError unless every rule is about two of these candidates."""
    for rule in rules:
        for name in (rule.first, rule.second):
            if name not in names:
                raise UserError(f"--fail_if='{rule.text}': '{name}' is none of the candidates{closest(name, names)}")
        if rule.first == rule.second:
            raise UserError(f"--fail_if='{rule.text}': '{rule.first}' is compared with itself")


def verdict(rule: Rule, answer: correction.Answer, names: Sequence[str]) -> dict:
    """What an answer says of a rule, plain JSON: the rule, the probability of what it says, whether the check fails.

    Args: names: of the candidates of the answer, in order.
    """
    i, j = names.index(rule.first), names.index(rule.second)
    better, worse = (i, j) if not rule.worse else (j, i)
    probability = float(correction.beats(answer, rule.margin)[better, worse])
    return {**rule._asdict(), 'probability': probability, 'fails': probability > rule.limit}


def _unquoted(name: str) -> str:
    return name[1:-1] if name[0] in '"\'' and name[-1] == name[0] else name


def _number(text: str, what: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"--fail_if='{text}': the {what} '{value}' is no number") from None
