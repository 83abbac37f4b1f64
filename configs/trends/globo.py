"""Does the memory rank the pool as the full log does? Globo.com, six days, one negative a click (configs/globo.py).

    python scripts/trends.py --config=configs/trends/globo.py --workdir=runs/trends-globo

Arguments as in configs/trends/kuairand.py.
"""

from pathlib import Path

from diet_jax.base.loading import load_module

STUDY = load_module(Path(__file__).parent / 'kuairand.py')


def get_config(arg: str = ''):
    return STUDY.study('globo', arg)
