"""The config of a run: keys, defaults, ranges; what a config file imports.

>>> from diet_jax.config import default_config
>>> config = default_config()
>>> config.memory.row_budget = 0.002
"""

from diet_jax.config.data import default_data, simulated_data
from diet_jax.config.defaults import default_config

__all__ = ['default_config', 'default_data', 'simulated_data']
