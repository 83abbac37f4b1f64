"""Click models: one registry, one contract, nineteen heads.

>>> import jax, jax.numpy as jnp
>>> from diet_jax import models
>>> model = models.build('deepfm', dim=8, hidden=(64, 32))
>>> params = model.init(jax.random.key(0), num_slots=1000, num_fields=30)
>>> model.apply(params, jnp.zeros((4, 30), jnp.int32)).shape  # ids i32[B, F] -> logits f32[B]
(4,)

A model of your own is a Flax module and one line:

>>> import flax.linen as nn
>>> @models.register('mine')
... class Mine(nn.Module):
...     @nn.compact
...     def __call__(self, embeddings, first_order, *, deterministic):
...         return nn.Dense(1)(embeddings.mean(1))[:, 0] + first_order.sum(1)
>>> models.build('mine', keep=(0, 2, 5)).name
'mine'
"""

from diet_jax.models import behaviour, crosses, heads, several
from diet_jax.models.layers import MLP
from diet_jax.models.registry import Model, build, names, of, register

__all__ = ['MLP', 'Model', 'behaviour', 'build', 'crosses', 'heads', 'names', 'of', 'register', 'several']
