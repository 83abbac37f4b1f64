"""The answer by slice: where a candidate is ahead and where it is behind, from predictions that are kept.

A slicing is asked for by a word:

    <field>        rows by the field's value: the ten most frequent on the scored block, and 'other'
    new:<field>    rows whose value no memory has seen ('new': first seen on the block that learning rates are chosen
                   on, or on the scored one) against those whose value it has ('seen')

A role of `config.roles` stands for its field. On the memory a slice has AUC, GAUC, LogLoss and calibration, by
the weights of its rows, means over students. What training on the log would come to is foretold as for the whole block
(`correction`), from the students' AUCs in the slice and from those of the twins there, which are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from diet_jax.base.errors import UserError, closest
from diet_jax.data import bins
from diet_jax.stats import correction, metrics, ranking

MOST = 10  # values of a field that are slices of their own
LEAST = 30  # rows with a click, and without, that a foretold AUC needs


class Slice(NamedTuple):
    """Rows of the scored block that share a value."""

    value: str  # as the log spells it
    rows: np.ndarray  # bool[N]


class Slicing(NamedTuple):
    """The scored block, cut by one word."""

    word: str  # as it was typed
    name: str  # the field, or 'new <field>'
    slices: list[Slice]


class Predictions(NamedTuple):
    """What is known of the N rows of the scored block, and what is predicted of them."""

    label: np.ndarray  # f32[N], 0 or 1
    group: np.ndarray  # i32[N], as for GAUC
    students: list[np.ndarray]  # a candidate each: f16[V, R, S, N], logits by codes and, where V = 2, by own ids
    weight: float  # of the latter in what orders
    twins: dict[int, np.ndarray]  # candidate -> f32[R, N], logits of the same model trained on the log
    row_weight: np.ndarray | None = None  # f32[N], None: 1 each
    frameworks: Sequence[str] | None = None  # of every candidate, as for `correction.correct`


def check_words(words: Sequence[str], fields: Sequence[str], roles: Mapping[str, str]) -> list[tuple[str, str, bool]]:
    """(word, its field, whether it asks for new values) of every word, each once.

    Args: fields: of the log; roles: {role: field, '' if the log has none}.
    Raises:
      UserError: a word that names neither.

    >>> check_words(['tab', 'new:item'], ['tab', 'video_id'], {'item': 'video_id'})
    [('tab', 'tab', False), ('new:item', 'video_id', True)]
    """
    known, found = {role: field for role, field in roles.items() if field} | {f: f for f in fields}, {}
    for word in (word.strip() for word in words):
        kind, colon, name = word.rpartition(':')
        if (colon and kind != 'new') or name not in known:
            wanted = name if kind in ('', 'new') else word
            raise UserError(
                f"--slices: '{word}' names no field and no role{closest(wanted, known)}; a slicing is a name, or "
                'new:<name>'
            )
        found.setdefault((known[name], bool(colon)), word)
    return [(word, field, new) for (field, new), word in found.items()]


def cut(
    words: Sequence[tuple[str, str, bool]],
    stream,
    ids: np.ndarray,
    known: int,
    label: np.ndarray,
    weight: np.ndarray | None = None,
) -> list[Slicing]:
    """The scored block, cut by every word.

    Args:
      words: of `check_words`; stream: the `EncodedStream`; ids: i32[N, F], slots of the block; known: slots there were
        when the memory was made; label: f32[N]; weight: f32[N], None: 1 each, and rows of weight 0 are in no slice.
    Raises:
      UserError: no slice of a word has rows with a click and rows without.
    """
    names, slicings = [field.name for field in stream.fields], []
    for word, field, new in words:
        f = names.index(field)
        slices = _by_newness(ids[:, f], f, known) if new else _by_value(ids[:, f], f, stream)
        if weight is not None:
            slices = [one._replace(rows=one.rows & (weight > 0)) for one in slices]
        if not any(_both(label[one.rows]) for one in slices):
            raise UserError(
                f'--slices: of {word} no slice has rows with a click and rows without: no AUC; leave it out'
            )
        slicings.append(Slicing(word, f'new {field}' if new else field, slices))
    return slicings


def by_slice(slicings: Sequence[Slicing], predictions: Predictions, leader: int, margin: float) -> list[dict]:
    """The answer in every slice, plain JSON, as in compare.json.

    Args: leader: the candidate that the others are set against; margin: of the odds, in AUC.
    Returns: [{'slices', 'name', 'values': [{'value', 'rows', 'clicks', 'candidates': [a dict each, in order]}]}].
    """
    return [
        {
            'slices': slicing.word,
            'name': slicing.name,
            'values': [_answered(one, predictions, leader, margin) for one in slicing.slices],
        }
        for slicing in slicings
    ]


def _by_value(slots: np.ndarray, f: int, stream) -> list[Slice]:
    """The most frequent values, those of a numeric field or a clock in their order; then all others."""
    values, counts = np.unique(slots, return_counts=True)
    first = values[np.lexsort((values, -counts))][:MOST]
    if stream.fields[f].kind != 'categorical':
        spelt = stream.values(first).to_pylist()
        first = first[sorted(range(len(first)), key=lambda i: (spelt[i] is None, spelt[i]))]
    slices = [Slice(name, slots == slot) for slot, name in zip(first, _spelt(first, f, stream), strict=True)]
    others = ~np.isin(slots, first)
    return [*slices, Slice('other', others)] if others.any() else slices


def _by_newness(slots: np.ndarray, f: int, known: int) -> list[Slice]:
    """Values first seen after the memory was made, the others, and rows without a value."""
    missing = slots == 2 * f
    slices = [Slice('new', slots >= known), Slice('seen', (slots < known) & ~missing)]
    return [*slices, Slice('missing', missing)] if missing.any() else slices


def _spelt(slots: np.ndarray, f: int, stream) -> list[str]:
    """Slots of a field as the log has them; bins as their range."""
    field, values = stream.fields[f], stream.values(slots).to_pylist()
    if field.kind != 'numeric':
        return ['missing' if value is None else str(value) for value in values]
    ranges = bins.names(field)
    return ['missing' if value is None else ranges[value] for value in values]


def _both(label: np.ndarray) -> bool:
    return 0 < label.sum() < len(label)


def _answered(one: Slice, predictions: Predictions, leader: int, margin: float) -> dict:
    """One slice: its size, and every candidate in it."""
    part = Predictions(
        label=predictions.label[one.rows],
        group=predictions.group[one.rows],
        students=[logits[..., one.rows].astype(np.float32) for logits in predictions.students],
        weight=predictions.weight,
        twins={i: logits[:, one.rows] for i, logits in predictions.twins.items()},
        row_weight=None if predictions.row_weight is None else predictions.row_weight[one.rows],
        frameworks=predictions.frameworks,
    )
    clicks = int(part.label.sum())
    found = [_on_memory(logits, part) for logits in part.students]
    if part.twins and min(clicks, len(part.label) - clicks) >= LEAST:
        answer = _foretold(part)
        found = [{**one, **said} for one, said in zip(found, _against(answer, leader, margin), strict=True)]
    return {'value': one.value, 'rows': len(part.label), 'clicks': clicks, 'candidates': found}


def _on_memory(logits: np.ndarray, part: Predictions) -> dict:
    """Means over students on codes: f32[V, R, S, n]. None where there is none."""
    label, group, weight = part.label, part.group, part.row_weight
    if not len(label):
        return dict.fromkeys(('auc', 'gauc', 'logloss', 'calibration'))
    students = logits[0].reshape(-1, len(label))
    click = np.exp(-np.logaddexp(0, -students.astype(np.float64)))
    scores = {
        'auc': [metrics.auc(z, label, weight=weight) for z in students],
        'gauc': [metrics.gauc(z, label, group, weight=weight) for z in students],
        'logloss': [metrics.logloss(z, label, weight=weight) for z in students],
        # predicted / clicked
        'calibration': np.average(click, 1, weight) / np.average(label, weights=weight) if label.any() else [np.nan],
    }
    return {name: ranking.number(np.mean(values)) for name, values in scores.items()}


def _foretold(part: Predictions) -> correction.Answer:
    """What training on the log would come to in a slice, from what its students and the twins come to there."""

    def aucs(logits):  # f32[R, S, n] -> [[per seed] per distillation]
        return [[metrics.auc(z, part.label, weight=part.row_weight) for z in run] for run in logits]

    sides = []
    for logits in part.students:
        beside = {'by_ids': {'weight': part.weight, 'auc': aucs(logits[1])}} if len(logits) > 1 else {}
        sides.append({'auc': aucs(logits[0]), **beside})
    means = np.stack([logits[0].mean((0, 1)) for logits in part.students])
    known = {i: float(np.mean(aucs(logits[None]))) for i, logits in part.twins.items()}
    return correction.correct(ranking.orderings(sides), means, known, part.row_weight, part.frameworks)


def _against(answer: correction.Answer, leader: int, margin: float) -> list[dict]:
    """Every candidate: what is expected of it, and its difference to the leader."""
    mean, sd = correction.differences(answer)
    better = correction.beats(answer, margin)
    return [
        {
            'expected_auc': float(answer.mean[i]),
            'sd': float(np.sqrt(answer.cov[i, i])),
            'difference': float(mean[i, leader]),
            'interval': [float(mean[i, leader] + side * 1.645 * sd[i, leader]) for side in (-1, 1)],
            'better': float(better[i, leader]),
            'worse': float(better[leader, i]),
        }
        for i in range(len(mean))
    ]
