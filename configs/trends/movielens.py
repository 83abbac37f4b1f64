"""Does the memory rank the pool as the full log does? Half of MovieLens-1M, blocks of 30,000 ratings.

    python scripts/trends.py --config=configs/trends/movielens.py --workdir=runs/trends-movielens

Arguments as in configs/trends/kuairand.py.
"""

from pathlib import Path

from ml_collections import ConfigDict

from diet_jax.sweep import load

KUAIRAND = load(Path(__file__).parent / 'kuairand.py')
BASE = load(Path(__file__).parents[1] / 'movielens.py')


def get_config(arg: str = '') -> ConfigDict:
    roles = dict(user='user', item='movie', creator='genres', context='occupation')
    return KUAIRAND.study(BASE, arg, roles)
