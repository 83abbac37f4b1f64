"""Does the memory rank the pool as the full log does? KuaiRand-Pure, 14 days, scored on the last.

    python scripts/trends.py --config=configs/trends/kuairand.py --workdir=runs/trends-kuairand

The pool's development set at 1 % of the rows, and every rival at the same rows. Arguments, joined by commas:
    cost60    at a cost ratio of 60 and more: 0.8 % of the rows
    frontier  at 1, 2, 5, 10 and 20 epochs: what more visits give
    rivals    all rivals, alone none, else the four strongest
    release   the confirmation set too
    smoke     five days, a few candidates and seeds: under a minute
"""

from pathlib import Path

from ml_collections import ConfigDict

from diet_jax.base.loading import load_module
from diet_jax.study.trends import RIVALS


def get_config(arg: str = '') -> ConfigDict:
    return study('kuairand', arg)


def study(log: str, arg: str) -> ConfigDict:
    """The study of the log of configs/<log>.py; arg: words as above."""
    words = set(filter(None, arg.split(',')))
    if unknown := words - {'cost60', 'frontier', 'rivals', 'alone', 'release', 'smoke'}:
        raise ValueError(f"there is no argument '{min(unknown)}': cost60, frontier, rivals, alone, release, smoke")
    config = load_module(Path(__file__).parents[1] / f'{log}.py').get_config('smoke' if 'smoke' in words else '')
    trends = config.trends
    trends.confirmation = 'release' in words
    if words & {'rivals', 'alone'}:
        trends.rivals = RIVALS if 'rivals' in words else ()
    if 'cost60' in words:
        config.memory.row_budget = 0.008
    if 'frontier' in words:
        config.evaluate.epochs = (1, 2, 5, 10, 20)
    if 'smoke' in words:
        config.evaluate.learning_rates, config.evaluate.student_learning_rates = (2e-3, 1e-2), (1e-2,)
        trends.only = ('lr', 'fm', 'mlp', 'deepfm')
        trends.full_seeds, trends.distillations, trends.rivals = 2, 1, ('random_rows_our_labels',)
    return config
