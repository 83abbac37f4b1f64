"""Click models: one registry, one contract, thirteen heads.

>>> from diet_jax import models
>>> model = models.build('deepfm', dim=8, hidden=(64, 32))
>>> params = model.init(jax.random.key(0), num_slots=1000, num_fields=30)
>>> logits = model.apply(params, ids)                       # i32[B, 30] -> f32[B]

A model of your own is a Flax module and one line:

>>> @models.register('mine')
... class Mine(nn.Module):
...     @nn.compact
...     def __call__(self, embeddings, first_order, *, deterministic):
...         return nn.Dense(1)(embeddings.mean(1))[:, 0] + first_order.sum(1)
"""

from diet_jax.models import crosses, heads
from diet_jax.models.layers import MLP
from diet_jax.models.registry import Model, build, names, register

__all__ = ['MLP', 'Model', 'build', 'crosses', 'heads', 'names', 'register']
