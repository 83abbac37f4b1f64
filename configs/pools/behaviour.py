"""Candidates that read what a user did before, beside one that does not: for logs whose config has `histories`.

Lines as in configs/pools/ctr.py. `drop` may name a sequence (all of its lists), or a list by the role of the field that
it shares: clicked_creator. Every model that reads no sequence sees the mean of each list as one more field.
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """What a candidate has unless it says otherwise."""
    if arg:
        raise ValueError(f"configs/pools/behaviour.py takes no argument '{arg}'")
    return ConfigDict(dict(model='', dim=8, drop=(), weight_decay=0.0, confirmation=False))


def sweep(add):
    add('deepfm-no-lists', model='deepfm', drop=('clicked', 'skipped'))
    add('deepfm-lists', model='deepfm')
    add('din', model='din')
    add('din-10', model='din', max_len=10)
    add('sim', model='sim', sequence='clicked')
    add('bst', model='bst', sequence='clicked')

    def confirm(name, **options):
        add(name, confirmation=True, **options)

    confirm('mlp-lists', model='mlp')
    confirm('din-no-creator', model='din', drop=('clicked_creator',))
    confirm('din-no-skipped', model='din', drop=('skipped',))
    confirm('sim-10', model='sim', sequence='clicked', max_len=10)
    confirm('bst-10', model='bst', sequence='clicked', max_len=10)
    confirm('dien', model='dien', sequence='clicked')
