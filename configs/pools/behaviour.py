"""The pool of configs/pools/ctr.py, and twelve candidates more that read what a user did before, or do not.

For logs whose config has the histories `clicked` and `skipped`. Lines as in configs/pools/ctr.py; `drop` may name a
sequence (all of its lists), or a list by the role of the field that it shares: clicked_creator. A model that reads no
sequence sees the mean of each list as one more field.
"""

from pathlib import Path

from ml_collections import ConfigDict

from diet_jax.base.loading import load_module

CTR = load_module(Path(__file__).parent / 'ctr.py')


def get_config(arg: str = '') -> ConfigDict:
    """What a candidate has unless it says otherwise."""
    if arg:
        raise ValueError(f"configs/pools/behaviour.py takes no argument '{arg}'")
    return CTR.get_config()


def sweep(add):
    CTR.sweep(add)
    add('deepfm-no-lists', model='deepfm', drop=('clicked', 'skipped'))
    add('deepfm-no-skipped', model='deepfm', drop=('skipped',))
    add('din', model='din')
    add('din-10', model='din', max_len=10)
    add('sim', model='sim', sequence='clicked')
    add('bst', model='bst', sequence='clicked')

    def confirm(name, **options):
        add(name, confirmation=True, **options)

    confirm('mlp-no-lists', model='mlp', drop=('clicked', 'skipped'))
    confirm('din-no-creator', model='din', drop=('clicked_creator',))
    confirm('din-no-skipped', model='din', drop=('skipped',))
    confirm('sim-10', model='sim', sequence='clicked', max_len=10)
    confirm('bst-5', model='bst', sequence='clicked', max_len=5)
    confirm('dien-20', model='dien', sequence='clicked', max_len=20)
