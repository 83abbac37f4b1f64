"""Does the memory rank the pool as the full log does? Half of MovieLens-1M, blocks of 30,000 ratings.

    python scripts/trends.py --config=configs/trends/movielens.py --workdir=runs/trends-movielens

Arguments as in configs/trends/kuairand.py.
"""

from pathlib import Path

from diet_jax.base.loading import load_module

STUDY = load_module(Path(__file__).parent / 'kuairand.py')


def get_config(arg: str = ''):
    return STUDY.study('movielens', arg)
