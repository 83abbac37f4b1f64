"""The built-in simulated stream: sixteen days, a known best AUC, a season that returns every weekend.

    make demo

Expected: the table of candidates that README.md speaks of, and runs/demo/report.html. Under 3 minutes on 2 cores after
installation. `:smoke` is five small days and two candidates.
"""

from ml_collections import ConfigDict

from diet_jax.config import default_config, simulated_data


def get_config(arg: str = '') -> ConfigDict:
    config = default_config()
    config.data = simulated_data(blocks=16, rows_per_block=6000)
    config.roles = ConfigDict(dict(user='user', item='item', creator='author', context='tab'))
    config.memory.row_budget = 0.02
    config.evaluate.candidates = ('lr', 'deepfm', 'mlp')
    # Two weekends are behind the memory by then. Before, full training itself is at chance on a Saturday or Sunday that
    # it has not seen the like of, and retention says nothing.
    config.evaluate.first_stage = 13
    if arg == 'smoke':
        config.data.simulated.update(blocks=5, rows_per_block=1000)
        config.evaluate.update(candidates=('lr', 'mlp'), learning_rates=(2e-3, 1e-2), first_stage=3, seeds=2)
        config.evaluate.student_learning_rates = (4e-3, 2e-2)
    elif arg:
        raise ValueError(f"configs/demo.py takes no argument '{arg}': ':smoke'")
    return config
