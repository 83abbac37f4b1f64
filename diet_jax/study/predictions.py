"""Predictions of the scored block, kept beside trends.json: what figures need beyond scores.

predictions/<name>.npy    float16 [runs, N]: logits of a candidate's runs, in the order of protocol.predictions
predictions/block.npz     labels and users of the rows, and where the log has them their weights
"""

from __future__ import annotations

import numpy as np

from diet_jax.base.checksums import read_npz
from diet_jax.stats.resampling import auc_user_bootstrap
from diet_jax.study.readings import read_predictions

AGAIN = 'run the study again, which writes it again'


def index(kinds, full_seeds, distillations, student_seeds) -> list[dict]:
    """What every row of a candidate's predictions is."""
    runs = [{'side': 'full', 'seed': seed} for seed in range(full_seeds)]
    for kind in kinds:
        runs += [{'side': kind, 'distillation': d, 'seed': s} for d in distillations for s in range(student_seeds)]
    return runs


def mean_logits(result, workdir) -> dict:
    """{kind: f32[C, R, N]}, mean predictions of each distillation's students; {} without predictions."""
    found = {}
    for path, candidate in zip(_paths(result, workdir), result['candidates']):  # none where one is missing
        flat = read_predictions(path, candidate)
        for kind, (at, runs) in _of_kinds(result).items():
            if kind != 'full':
                logits = flat[at].astype(np.float32).reshape(runs, -1, flat.shape[1])
                found.setdefault(kind, []).append(logits.mean(1))
    return {kind: np.stack(x) for kind, x in found.items()}


def user_draws(result, workdir) -> dict | None:
    """AUCs under redraws of the test users, {kind: (full [B, C, n], [B, C, R, S])}; None without predictions."""
    block, paths = workdir / 'predictions' / 'block.npz', _paths(result, workdir)
    if not paths or not block.exists():
        return None
    found = read_npz(block, AGAIN)
    label, group, weight = found['label'], found['group'], found.get('weight')
    resamples, draws = result['config']['trends']['user_resamples'], []
    for path, candidate in zip(paths, result['candidates'], strict=True):
        logits = read_predictions(path, candidate).astype(np.float32)
        draws.append(auc_user_bootstrap(logits, label, group, resamples=resamples, weight=weight))
    draws, kinds = np.stack(draws, 1), _of_kinds(result)  # [B, C, runs]
    full = draws[:, :, kinds.pop('full')[0]]
    return {k: (full, draws[:, :, at].reshape(*draws.shape[:2], runs, -1)) for k, (at, runs) in kinds.items()}


def row_weight(workdir) -> np.ndarray | None:
    """f32[N], what the rows weigh; None where each weighs 1, or without predictions."""
    if not (block := workdir / 'predictions' / 'block.npz').exists():
        return None
    return read_npz(block, AGAIN).get('weight')


def _paths(result, workdir) -> list:
    """The candidates' files, in order; [] where one is missing."""
    paths = [workdir / 'predictions' / f'{candidate["name"]}.npy' for candidate in result['candidates']]
    return paths if all(path.exists() for path in paths) else []


def _of_kinds(result) -> dict:
    """{kind: (its rows, distillations)} of every candidate's predictions, the full side among the kinds."""
    runs = result['protocol']['predictions']
    kinds = dict.fromkeys(run['side'] for run in runs)
    count = len(result['protocol']['distillation_seeds'])
    return {kind: ([i for i, run in enumerate(runs) if run['side'] == kind], count) for kind in kinds}
