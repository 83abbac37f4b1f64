"""Did an answer hold? What `compare` foretold, beside the full runs that were made since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

APART = 0.003  # AUC: pairs of full runs that are closer are left to chance


def held(candidates: Sequence[Mapping], full: Mapping[str, float], apart: float = APART) -> dict:
    """Figures of the candidates whose full run the answer did not know.

    Args:
      candidates: of compare.json; full: {name: AUC of a full run}; apart: AUC, of pairs that are judged.
    Returns: plain JSON: 'candidates': [{name, framework, expected_auc, interval, full_auc, error, inside}], the best
      full run first; 'error', 'bias': means of |foretold - full| and of foretold - full; 'worst'; 'covered': share
      inside the 90 % interval; 'pairs', 'ordered': pairs further apart than `apart`, and the share in order, None
      without a pair. {} where nothing is left to judge.

    >>> two = [{'name': n, 'expected_auc': e, 'interval': [e - 0.01, e + 0.01]} for n, e in (('a', 0.7), ('b', 0.71))]
    >>> figures = held(two, {'a': 0.701, 'b': 0.708})
    >>> figures['ordered'], figures['covered'], round(figures['error'], 4)
    (1.0, 1.0, 0.0015)
    """
    rows = []
    for c in candidates:
        if c.get('known_auc') is None and c['name'] in full:
            error, (low, high) = c['expected_auc'] - full[c['name']], c['interval']
            row = {'name': c['name'], 'framework': c.get('framework', ''), 'expected_auc': c['expected_auc']}
            row |= {'interval': [low, high], 'full_auc': full[c['name']], 'error': error}
            rows.append({**row, 'inside': low <= full[c['name']] <= high})
    if not rows:
        return {}
    rows.sort(key=lambda row: -row['full_auc'])
    errors = np.array([row['error'] for row in rows])
    pairs = [(a, b) for a, b in combinations(rows, 2) if a['full_auc'] - b['full_auc'] > apart]
    right = [a['expected_auc'] > b['expected_auc'] for a, b in pairs]
    return {
        'candidates': rows,
        'error': float(np.abs(errors).mean()),
        'bias': float(errors.mean()),
        'worst': float(np.abs(errors).max()),
        'covered': float(np.mean([row['inside'] for row in rows])),
        'apart': apart,
        'pairs': len(pairs),
        'ordered': float(np.mean(right)) if right else None,
    }
