"""Does the memory rank the pool as the full log does? A piece of Taobao: 814 users, tiny and sparse.

    python scripts/trends.py --config=configs/trends/taobao.py --workdir=runs/trends-taobao

Arguments as in configs/trends/kuairand.py.
"""

from pathlib import Path

from diet_jax.base.loading import load_module

STUDY = load_module(Path(__file__).parent / 'kuairand.py')


def get_config(arg: str = ''):
    return STUDY.study('taobao', arg)
