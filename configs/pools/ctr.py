"""The pool of candidates: 13 architectures, embedding sizes, depths, dropout, weight decay, dropped fields.

A candidate is a line: a name, the options of its model, and
    drop           fields that the model does not see: fields of the log, or roles of config.roles
    weight_decay   decoupled, on both sides
    confirmation   of the confirmation set: written down before the first run, scored at a release only
The learning rate is tuned for every candidate on both sides, so it is none.
"""

from ml_collections import ConfigDict


def get_config(arg: str = '') -> ConfigDict:
    """What a candidate has unless it says otherwise."""
    if arg:
        raise ValueError(f"configs/pools/ctr.py takes no argument '{arg}'")
    return ConfigDict(dict(model='', dim=8, drop=(), weight_decay=0.0, confirmation=False))


def sweep(add):
    for model in ('lr', 'fm', 'fwfm', 'mlp', 'wide_deep', 'deepfm', 'dcn', 'dcnv2', 'dlrm', 'finalmlp', 'masknet'):
        add(model, model=model)
    add('xdeepfm', model='xdeepfm', maps=(4, 4))
    add('autoint', model='autoint', layers=1)
    add('deepfm-dim2', model='deepfm', dim=2)
    add('deepfm-no-user', model='deepfm', drop=('user',))
    add('mlp-no-context', model='mlp', drop=('context',))

    def confirm(name, **options):
        add(name, confirmation=True, **options)

    confirm('lr-no-item', model='lr', drop=('item',))
    confirm('fm-dim16', model='fm', dim=16)
    confirm('fwfm-no-user', model='fwfm', drop=('user',))
    confirm('mlp-dropout', model='mlp', dropout=0.3)
    confirm('wide_deep-no-context', model='wide_deep', drop=('context',))
    confirm('deepfm-deep', model='deepfm', hidden=(128, 64, 32))
    confirm('deepfm-no-item', model='deepfm', drop=('item', 'creator'))
    confirm('dcnv2-no-user', model='dcnv2', drop=('user',))
    confirm('dcnv2-full-rank', model='dcnv2', rank=None, layers=3)
    confirm('dlrm-dim4', model='dlrm', dim=4)
    confirm('finalmlp-decay', model='finalmlp', weight_decay=0.3)
    confirm('masknet-wide', model='masknet', blocks=3, block_width=64)
