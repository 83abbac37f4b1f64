"""Does the memory rank the pool as the full log does? Globo.com, six days, one negative a click (configs/globo.py).

    python scripts/trends.py --config=configs/trends/globo.py --workdir=runs/trends-globo

Arguments as in configs/trends/kuairand.py.
"""

from pathlib import Path

from ml_collections import ConfigDict

from diet_jax.sweep import load

KUAIRAND = load(Path(__file__).parent / 'kuairand.py')
BASE = load(Path(__file__).parents[1] / 'globo.py')


def get_config(arg: str = '') -> ConfigDict:
    roles = dict(user='user_id', item='click_article_id', creator='click_region', context='click_referrer_type')
    return KUAIRAND.study(BASE, arg, roles)
