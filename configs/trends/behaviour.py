"""Does the memory keep the order of models that read behaviour, beside those that do not? On one log.

    python scripts/trends.py --config=configs/trends/behaviour.py:simulated --workdir=runs/trends-behaviour

`:kuairand`, `:movielens` and `:taobao` are real logs with histories; `:simulated` is a stream of which what a user
clicked last, and nothing but the order of the clicks, says something of the next row. Candidates: twelve of
configs/pools/behaviour.py, and seven without a sequence, the twins among them. Behind a comma `smoke`: a few candidates
and seeds on five days, under three minutes.
"""

from pathlib import Path

from ml_collections import ConfigDict

from diet_jax.base.loading import load_module
from diet_jax.config import default_config, simulated_data

CANDIDATES = (
    *('lr', 'fm', 'mlp', 'deepfm', 'dcnv2', 'deepfm-no-user', 'mlp-no-context'),
    *('deepfm-no-lists', 'deepfm-no-skipped', 'din', 'din-10', 'sim', 'bst'),
    *('mlp-no-lists', 'din-no-creator', 'din-no-skipped', 'sim-10', 'bst-5', 'dien-20'),
)
LOGS = ('simulated', 'kuairand', 'movielens', 'taobao')


def get_config(arg: str = 'simulated') -> ConfigDict:
    log, *words = arg.split(',')
    if log not in LOGS or set(words) - {'smoke'}:
        raise ValueError(f"configs/trends/behaviour.py: ':{arg}' is none of {', '.join(LOGS)}, then smoke")
    smoke = 'smoke' in words
    if log == 'simulated':
        config = simulated(smoke)
    else:
        module = load_module(Path(__file__).parents[1] / f'{log}.py')
        config = module.get_config('smoke,histories' if smoke else 'histories')
    trends = config.trends
    trends.pool, trends.only = 'configs/pools/behaviour.py', CANDIDATES
    trends.rivals = ('random_rows_our_labels', 'recent_rows_our_labels')
    if smoke:
        config.evaluate.learning_rates, config.evaluate.student_learning_rates = (2e-3, 1e-2), (1e-2,)
        trends.only = ('deepfm-no-lists', 'deepfm', 'din', 'bst')
        trends.full_seeds, trends.distillations, trends.rivals = 2, 1, ('random_rows_our_labels',)
    return config


def simulated(smoke: bool) -> ConfigDict:
    """Sixteen days of 500 users, about 30 rows a user and day."""
    config = default_config()
    config.data = simulated_data(blocks=5 if smoke else 16, rows_per_block=1000 if smoke else 15_000, users=500)
    config.data.simulated.update(behaviour=1.5, season=0.0, categories=8)
    config.reference.of_lists, config.reference.learning_rate = 'bst', 8e-3  # it must see the order
    clicked = dict(of=('item', 'category'), max_len=50)
    skipped = dict(of='item', where='not label', max_len=50)
    config.data.histories = ConfigDict(dict(clicked=clicked, skipped=skipped))
    config.roles = ConfigDict(dict(user='user', item='item', creator='category', context='tab'))
    return config
