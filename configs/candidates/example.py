"""What runs today and a dozen ideas, compared on a memory in a minute, in two the first time:

    python scripts/compare.py --memory=runs/kuairand/memory --candidates=configs/candidates/example.py

A line an idea, as in configs/pools/ctr.py; the table holds the others against the first. `drop` names fields of the
log, or roles of config.roles.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """What a candidate has unless it says otherwise."""
    return ConfigDict(dict(dim=8))


def sweep(add):
    add('deepfm', model='deepfm')
    add('fm', model='fm')
    add('fwfm', model='fwfm')
    add('mlp-dropout', model='mlp', dropout=0.3)
    add('deepfm-dim4', model='deepfm', dim=4)
    add('deepfm-wide', model='deepfm', hidden=(128, 64))
    add('deepfm-no-item', model='deepfm', drop=('item',))
    add('deepfm-no-creator', model='deepfm', drop=('creator',))
    add('dcn', model='dcn')
    add('dcnv2', model='dcnv2')
    add('dlrm', model='dlrm')
    add('finalmlp', model='finalmlp')
    add('xdeepfm', model='xdeepfm', maps=(4, 4))
