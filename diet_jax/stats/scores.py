"""What the raw scores of evaluate.json come to: means, retention, gaps, cost ratios. Arithmetic only.

A *stage* is one object of `evaluate["stages"]`, a *candidate* one of its `candidates`. A *kind* is what a
candidate was trained on beside the log: "memory", or the name of a rival (a floor such as random rows).
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from diet_jax.stats import ranking
from diet_jax.stats.retention import retention

# The floors every evaluation has, in the order in which they are shown, in words.
KINDS = {
    'memory': 'memory',
    'random_rows_our_labels': 'random rows, our labels and codebook',
    'random_rows': 'random rows, own labels',
}


class Score(NamedTuple):
    """A metric over the runs of one candidate."""

    mean: float
    sd: float  # over the runs, with n - 1; nan for a single run
    runs: int


class Retention(NamedTuple):
    """Retention of one kind of training rows over the candidates of one stage."""

    by_candidate: dict[str, float]
    mean: float
    least: float
    least_name: str
    sd: float  # of `mean`, over the runs (paired by their position); nan where candidates differ in runs


def runs(values: Sequence) -> np.ndarray:
    """f64[R], one value per run: a seed of full training, else a distillation (their mean over student
    seeds).

    With a single distillation its student seeds are the runs: there is nothing else to vary.

    >>> runs([0.7, 0.8]).tolist(), runs([[0.7, 0.8]]).tolist()
    ([0.7, 0.8], [0.7, 0.8])
    >>> runs([[0.5, 0.7], [0.8, 0.8]]).tolist()
    [0.6, 0.8]
    """
    if len(values) == 0 or not isinstance(values[0], list | tuple):
        return np.asarray(values, np.float64)
    per_distillation = [np.asarray(seeds, np.float64) for seeds in values]
    if len(per_distillation) == 1:
        return per_distillation[0]
    return np.asarray([seeds.mean() for seeds in per_distillation])


def score(values: Sequence) -> Score:
    """Mean and standard deviation over `runs(values)`; nan where there is no value."""
    x = runs(values)
    return Score(
        float(x.mean()) if x.size else float('nan'),
        float(x.std(ddof=1)) if x.size > 1 else float('nan'),
        x.size,
    )


def trained_on(candidate: Mapping) -> dict[str, Mapping]:
    """Kind -> its scores, the memory first, the known floors next, any further rival last."""
    found = {'memory': candidate['memory'], **candidate.get('rivals', {})}
    return {kind: found[kind] for kind in [*KINDS, *(k for k in found if k not in KINDS)] if kind in found}


def retentions(candidate: Mapping, of: Sequence[str]) -> list[float]:
    """Retention of one candidate for each kind in `of`, nan where it was not trained on that kind."""
    full, found = score(candidate['full']['auc']).mean, trained_on(candidate)
    kept = {kind: float(retention(full, score(found[kind]['auc']).mean)) for kind in of if kind in found}
    return [kept.get(kind, float('nan')) for kind in of]


def kinds(stages: Sequence[Mapping]) -> dict[str, str]:
    """Every kind that any candidate of `stages` has -> its name in words, in the order of `trained_on`."""
    found = {kind for stage in stages for candidate in stage['candidates'] for kind in trained_on(candidate)}
    ordered = [kind for kind in KINDS if kind in found] + sorted(found - set(KINDS))
    return {kind: KINDS.get(kind, kind.replace('_', ' ')) for kind in ordered}


def stage_retention(stage: Mapping, kind: str) -> Retention | None:
    """Retention of `kind` over a stage's candidates, from the raw AUCs; None where none has that kind."""
    by_run = {}
    for candidate in stage['candidates']:
        found = trained_on(candidate)
        if kind in found:
            full = score(candidate['full']['auc']).mean
            by_run[candidate['name']] = np.atleast_1d(retention(full, runs(found[kind]['auc'])))
    if not by_run:
        return None
    each = {name: float(values.mean()) if values.size else float('nan') for name, values in by_run.items()}
    known = {name: value for name, value in each.items() if np.isfinite(value)}
    least = min(known, key=known.get) if known else ''
    lengths = {values.size for values in by_run.values()}
    paired = np.mean(list(by_run.values()), axis=0) if len(lengths) == 1 else np.empty(0)
    return Retention(
        by_candidate=each,
        mean=float(np.mean(list(known.values()))) if known else float('nan'),
        least=known.get(least, float('nan')),
        least_name=least,
        sd=float(paired.std(ddof=1)) if paired.size > 1 else float('nan'),
    )


def stage_order(stage: Mapping, kind: str) -> Score | None:
    """tau_sig (`ranking`) of `kind` over a stage's candidates and distillations; None where it is undefined: fewer
    than 30 significant pairs, a single full seed, or a candidate without that kind."""
    full = [candidate['full']['auc'] for candidate in stage['candidates']]
    found = [trained_on(candidate).get(kind) for candidate in stage['candidates']]
    if not all(found) or min(map(len, full)) < 2:
        return None
    raw = [side['auc'] for side in found]
    if any(value is None for scores in (*full, *raw) for value in np.ravel(np.asarray(scores, object))):
        return None  # a block with a single class has no AUC
    tau = ranking.figures(full, raw, order=[ranking.ordering(side) for side in found])['tau_sig']
    return score(tau.tolist()) if np.isfinite(tau).all() else None


def gaps(stage: Mapping, weak: str = 'lr', strong: str = 'deepfm') -> dict[str, float] | None:
    """What orders `strong` minus what orders `weak` (`ranking.ordering`) on "full" and on every kind that both have;
    None without the two candidates.

    A memory that lifts the weak model to the strong one has a fine retention and no order.
    """
    named = {candidate['name']: candidate for candidate in stage['candidates']}
    if weak not in named or strong not in named:
        return None
    low, high = trained_on(named[weak]), trained_on(named[strong])
    result = {'full': score(named[strong]['full']['auc']).mean - score(named[weak]['full']['auc']).mean}
    for kind in high:
        if kind in low:
            result[kind] = score(ranking.ordering(high[kind])).mean - score(ranking.ordering(low[kind])).mean
    return result


def paid(overhead: Mapping, cost_ratio: float, rates: int, distillations: int = 1) -> str:
    """From which candidate on distilling was cheaper than training on the log, in a sentence.

    Args:
      overhead: what overhead.json holds; cost_ratio: of a candidate on the memory; rates: learning rates it is
        tuned on; distillations: memories that are asked. Passes are those of the reference model.
    """
    passes = distillations * overhead['distill_seconds'] / overhead['reference_seconds']
    cost = f'Distilling cost {passes:.1f} passes of the reference model over the log: '
    if cost_ratio <= 1:
        return cost + 'it never pays for itself, for training on the memory costs as much as a pass.'
    trainings = passes / (1 - 1 / cost_ratio)
    counts = [(math.ceil(trainings), 'training'), (math.ceil(trainings / rates), 'candidate'), (rates, 'learning rate')]
    many, candidates, tuned = (f'{n} {name}{"s" * (n > 1)}' for n, name in counts)
    where = 'the memory' if distillations == 1 else 'the memories'
    return f'{cost}it has paid for itself after {many} on {where}, or {candidates} tuned on {tuned}.'


# Of a pass on two CPU cores: KuaiRand's 198,895 rows of 30 fields take 0.57 s (README.md), Taobao's 84,274 of 5 fields
# 0.15 s (the last line of scripts/distill.py).
ROWS_A_SECOND = 400_000
DISTILLING = 8  # passes that distilling costs (docs/performance.md)
DOZEN = 12
COMPILING = 8.0  # seconds a candidate that is new to the program cache, on two CPU cores; 0.2 to 2 afterwards


ON_THE_LOG = 'Train on the log.'  # ends an advice


def advice(one: float, rates: int, seeds: int, candidates: int = DOZEN) -> str:
    """What comparing on the log itself would take, and whether the log is so small that it is the better way.

    Args: one: seconds of a pass of the reference model; rates, seeds: of every candidate; candidates: how many.
    """
    log = candidates * rates * seeds * one
    text = (
        f'One pass of the reference model over this log takes {one:.2g} s, so {candidates} candidates on {rates} '
        f'learning rates and {seeds} seeds would take about {log:.0f} s on the log itself'
    )
    if log < candidates * COMPILING:
        return f'{text}: no longer than the answer from the memory, most of which is compiling. {ON_THE_LOG}'
    return f'{text}.'


def quicker_on_the_log(what: str, seconds: float, compiling: float, log: float, candidates: int = DOZEN) -> str:
    """That candidates are trained on the log sooner than the memory answers; '' where they are not.

    Args: what: begins the sentence; seconds: that it will take, `compiling` of them on that; log: those on the log.

    >>> quicker_on_the_log('Distilling', 60.0, 40.0, 51.0)[:82]
    'Distilling will take about 60 s, 40 s of them compiling; training 12 candidates on'
    """
    if seconds <= log:
        return ''
    return (
        f'{what} will take about {seconds:.0f} s, {compiling:.0f} s of them compiling; training {candidates} '
        f'candidates on the same grid on the log itself would take about {log:.0f} s. {ON_THE_LOG}'
    )


def pass_seconds(rows: int) -> float:
    """Seconds that a pass of the reference model over a log takes two CPU cores, about."""
    return rows / ROWS_A_SECOND


def cost_ratios(stage: Mapping) -> list[float]:
    """The candidates' cost ratios on the memory, sorted."""
    ratios = (candidate['memory'].get('cost_ratio') for candidate in stage['candidates'])
    return sorted(float(ratio) for ratio in ratios if ratio is not None)


def left_out(candidates: Mapping[str, str], what: str = '') -> str:
    """Who is left out, and why. candidates: {name: the role that it drops and the log has not}; what: they are.

    >>> left_out({'mlp-no-context': 'context'})
    'left out: mlp-no-context (drops the context, and roles.context names no field)'
    >>> left_out({'deepfm-no-user': 'user'}, 'twins')
    'twins left out: deepfm-no-user (drops the user, and roles.user names no field)'
    """
    each = [f'{name} (drops the {role}, and roles.{role} names no field)' for name, role in candidates.items()]
    return f'{what} left out: {", ".join(each)}'.lstrip() if each else ''
