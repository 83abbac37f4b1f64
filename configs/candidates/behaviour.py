"""Seven ideas for a log with histories: what does reading the events bring, and which way of reading them?

python scripts/distill.py --config=configs/kuairand.py:histories --workdir=runs/kuairand-histories
python scripts/compare.py --memory=runs/kuairand-histories/memory --candidates=configs/candidates/behaviour.py
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    if arg:
        raise ValueError(f"configs/candidates/behaviour.py takes no argument '{arg}'")
    return ConfigDict(dict(model='', dim=8, drop=(), weight_decay=0.0))


def sweep(add):
    add('deepfm-no-lists', model='deepfm', drop=('clicked', 'skipped'))
    add('deepfm', model='deepfm')
    add('din', model='din')
    add('din-10', model='din', max_len=10)
    add('din-no-skipped', model='din', drop=('skipped',))
    add('sim', model='sim', sequence='clicked')
    add('dien-20', model='dien', sequence='clicked', max_len=20)
