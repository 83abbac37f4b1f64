"""How small may the memory be? The trend study of configs/trends/kuairand.py at five row budgets.

    python scripts/sweep.py --config=configs/sweeps/budget.py --workdir=runs/sweep-budget

All at a cost ratio of 50 but the largest, which costs twice as much. `:arg` is passed on to configs/trends/kuairand.py.
"""

from pathlib import Path

from diet_jax.base.loading import load_module

STUDY = load_module(Path(__file__).parents[1] / 'trends' / 'kuairand.py')


def get_config(arg: str = ''):
    return STUDY.get_config(f'alone,{arg}')


def sweep(add):
    for budget, epochs in ((0.001, 10), (0.002, 5), (0.005, 2), (0.01, 1), (0.02, 1)):
        visits = {'evaluate.epochs': (epochs,), 'evaluate.id_epochs': epochs}
        add(f'row_budget={budget:g}', **{'memory.row_budget': budget, **visits})
