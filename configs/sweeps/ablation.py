"""What does each mechanism bring? The trend study of configs/trends/kuairand.py with one off in turn.

    python scripts/sweep.py --config=configs/sweeps/ablation.py --workdir=runs/sweep-ablation

`:arg` is passed on to configs/trends/kuairand.py.
"""

from pathlib import Path

from diet_jax.base.loading import load_module

STUDY = load_module(Path(__file__).parents[1] / 'trends' / 'kuairand.py')


def get_config(arg: str = ''):
    return STUDY.get_config(f'alone,{arg}')


def sweep(add):
    add('all mechanisms')
    add('no addressing', **{'addressing.replace': 0.0})  # nothing gives way: the memory only grows and absorbs
    add('no influence', **{'addressing.influence_power': 0.0})  # new entries by coverage alone
    add('no refinement', **{'refine.label_lr': 0.0})  # outer steps that move nothing
    add('soft labels', **{'trends.view': 'soft'})
    add('mean labels', **{'trends.view': 'mean'})
    add('own labels', **{'trends.view': 'hard'})
    add('codes alone', **{'evaluate.by_ids': 0.0})
    add('ids alone', **{'evaluate.by_ids': 1.0})
