"""Models that DeepCTR-Torch has as well, to be held against those (docs/elsewhere.md). `deepfm` is a twin already:

    python scripts/compare.py --memory=runs/kuairand/memory --candidates=configs/candidates/elsewhere.py \
        --predictions=exports/kuairand/predictions
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """What a candidate has unless it says otherwise."""
    return ConfigDict(dict(dim=8))


def sweep(add):
    add('wide_deep', model='wide_deep')
    add('dcnv2', model='dcnv2')
    add('autoint', model='autoint')
    add('xdeepfm', model='xdeepfm', maps=(32, 16))
