"""Five ideas for a log with several outcomes: does predicting them at once help the one that is asked?

python scripts/distill.py --config=configs/kuairand.py:outcomes --workdir=runs/kuairand-outcomes
python scripts/compare.py --memory=runs/kuairand-outcomes/memory --candidates=configs/candidates/outcomes.py \\
    --label=like
"""

from ml_collections import ConfigDict

ALL = ('click', 'like', 'long_view')


def get_config(arg: str = '') -> ConfigDict:
    if arg:
        raise ValueError(f"configs/candidates/outcomes.py takes no argument '{arg}'")
    return ConfigDict(dict(model='', dim=8, drop=(), weight_decay=0.0))


def sweep(add):
    add('deepfm', model='deepfm')
    add('mlp', model='mlp')
    add('dcnv2', model='dcnv2')
    add('shared-bottom', model='shared_bottom', outcomes=ALL)
    add('mmoe', model='mmoe', outcomes=ALL)
