"""Models that live elsewhere - PyTorch, Keras, FuxiCTR, anything - trained on an export of a memory, and asked about.

NumPy, pyarrow and msgspec alone; JAX is not started. `scripts/export.py` writes the export, `grid` trains a model of
yours on it and writes its predictions, `scripts/compare.py --predictions=` answers:

>>> from diet_jax import elsewhere  # doctest: +SKIP
>>> elsewhere.grid(fit, 'exports/kuairand', 'my-deepfm', framework='pytorch')  # doctest: +SKIP

`fit(train, lr, seed)` trains a model from scratch on `Rows`, and gives back a function from `Rows` to probabilities
(examples/pytorch.py). `full_run(fit, ...)` trains the same on the whole log, of an export with it.
"""

from diet_jax.elsewhere.export import Export, Field, Log, Rows, View, auc, open_export
from diet_jax.elsewhere.full_run import full_run
from diet_jax.elsewhere.grid import grid
from diet_jax.elsewhere.predictions import write_predictions

__all__ = ['Export', 'Field', 'Log', 'Rows', 'View', 'auc', 'full_run', 'grid', 'open_export', 'write_predictions']
