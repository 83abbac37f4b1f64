"""Does the memory rank the pool as the full log does? KuaiRand-Pure, 14 days, scored on the last.

    python scripts/trends.py --config=configs/trends/kuairand.py --workdir=runs/trends-kuairand

The pool's development set at 1 % of the rows, and every rival at the same rows. Arguments, joined by commas:
    cost60    at a cost ratio of 60 and more: 0.2 % of the rows and 8 epochs at most
    rivals    all rivals, else the four strongest
    release   the confirmation set too
    smoke     five days, a few candidates and seeds: under a minute
"""

from pathlib import Path

from ml_collections import ConfigDict

from diet_jax.config import RIVALS
from diet_jax.sweep import load

BASE = load(Path(__file__).parents[1] / 'kuairand.py')


def get_config(arg: str = '') -> ConfigDict:
    return study(BASE, arg, dict(user='user_id', item='video_id', creator='author_id', context='tab'))


def study(base, arg: str, roles: dict) -> ConfigDict:
    """The study of a log: its config file, the words of the argument, and what the pool's roles are called there."""
    words = set(filter(None, arg.split(',')))
    if unknown := words - {'cost60', 'rivals', 'release', 'smoke'}:
        raise ValueError(f"there is no argument '{min(unknown)}': cost60, rivals, release, smoke")
    config = base.get_config('smoke' if 'smoke' in words else '')
    trends = config.trends
    # Few epochs: with 20, weak students catch up with the teacher and the order is gone (docs/results/trends.md).
    config.evaluate.epochs = (2, 4)
    trends.roles = ConfigDict(roles)
    trends.confirmation = 'release' in words
    if 'rivals' in words:
        trends.rivals = RIVALS
    if 'cost60' in words:
        config.memory.row_budget, config.evaluate.epochs = 0.002, (4, 8)
    if 'smoke' in words:
        config.evaluate.learning_rates, config.evaluate.student_learning_rates = (2e-3, 1e-2), (1e-2,)
        trends.only = ('lr', 'fm', 'mlp', 'deepfm')
        trends.full_seeds, trends.distillations, trends.rivals = 2, 1, ('random_rows_our_labels',)
    return config
