"""The built-in simulated stream: four weeks of days, a known best AUC, a season that returns every weekend.

    make demo

Expected: README.md. Under 3 minutes on 2 cores after installation.
"""

from ml_collections import ConfigDict

from diet_jax.config import default_config
from diet_jax.schema import simulated_data


def get_config() -> ConfigDict:
    config = default_config()
    config.data = simulated_data(blocks=16, rows_per_block=6000)
    config.roles = ConfigDict(dict(user='user', item='item', creator='author', context='tab'))
    config.memory.row_budget = 0.02
    config.evaluate.candidates = ('lr', 'deepfm', 'mlp')
    # Two weekends are behind the memory by then. Before, full training itself is at chance on a Saturday or Sunday that
    # it has not seen the like of, and retention says nothing.
    config.evaluate.first_stage = 13
    return config
