"""Does the memory rank the pool as the full log does? A piece of Taobao: 814 users, tiny and sparse.

    python scripts/trends.py --config=configs/trends/taobao.py --workdir=runs/trends-taobao

Expect "undefined": seeds differ by more than candidates do. Arguments as in configs/trends/kuairand.py.
"""

from pathlib import Path

from ml_collections import ConfigDict

from diet_jax.sweep import load

KUAIRAND = load(Path(__file__).parent / 'kuairand.py')
BASE = load(Path(__file__).parents[1] / 'taobao.py')


def get_config(arg: str = '') -> ConfigDict:
    roles = dict(user='user_id', item='item_id', creator='category_id', context='hour')
    return KUAIRAND.study(BASE, arg, roles)
