"""Recipes: how a model is trained, apart from its learning rate. The same recipe on the log and on the memory.

Weight decay is decoupled in all of them: param *= 1 - lr * weight_decay at each step (AdamW, arXiv:1711.05101).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from diet_jax.base.errors import UserError, closest

# Options of each optimiser and their defaults, PyTorch's and Optax's where these agree.
OPTIMIZERS: dict[str, dict[str, float]] = {
    'adam': dict(b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0),
    'adamw': dict(b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-2),
    'lazy_adam': dict(b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0),
    'adagrad': dict(eps=1e-10, initial_accumulator=0.0, weight_decay=0.0),
    'sgd': dict(weight_decay=0.0),
}


# Learning rates are named on Adam's scale; the best ones of the others are about so many times as large
# (docs/results/choices.md).
RATE_SCALE = {'adagrad': 25.0, 'sgd': 200.0}


class Recipe(NamedTuple):
    """Static: what is compiled, is compiled for one."""

    optimizer: str = 'adam'
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    initial_accumulator: float = 0.0
    weight_decay: float = 0.0

    def rates(self, grid: Iterable[float]) -> tuple[float, ...]:
        """The learning rates that this optimiser tries, of a grid on Adam's scale.

        >>> Recipe('adagrad').rates((1e-3, 4e-3))
        (0.025, 0.1)
        """
        return tuple(lr * RATE_SCALE.get(self.optimizer, 1.0) for lr in grid)

    @property
    def adaptive(self) -> bool:
        """Whether there are two moments, as in all forms of Adam."""
        return self.optimizer in ('adam', 'adamw', 'lazy_adam')

    @property
    def drifts(self) -> bool:
        """Whether rows that a batch does not hold are stepped too."""
        return self.optimizer in ('adam', 'adamw') or (self.weight_decay > 0 and self.optimizer != 'lazy_adam')


DEFAULT = Recipe('adam')  # of whoever names no optimiser


def recipe_of(options: Mapping[str, Any], where: str = 'recipe') -> Recipe:
    """The recipe of a config: `optimizer` and its options; other keys are left alone.

    >>> recipe_of({'optimizer': 'adagrad', 'dim': 8})
    Recipe(optimizer='adagrad', b1=0.9, b2=0.999, eps=1e-10, initial_accumulator=0.0, weight_decay=0.0)

    Raises:
      UserError: an unknown optimiser, an option that it does not have, or a value out of range.
    """
    name = options.get('optimizer', DEFAULT.optimizer)
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise UserError(f'{where}: no optimizer is named {name!r}{closest(name, OPTIMIZERS)}')
    known, given = OPTIMIZERS[name], {key: options[key] for key in Recipe._fields[1:] if key in options}
    for key, value in given.items():
        if key not in known:
            raise UserError(f"{where}: optimizer '{name}' has no option '{key}'; it takes: {', '.join(known)}")
        below_one = key in ('b1', 'b2')
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not (0 <= value < 1 if below_one else value >= 0):
            raise UserError(f'{where}: {key}={value!r} is not {"in [0, 1)" if below_one else "0 or more"}')
    return Recipe(name, **{key: float(value) for key, value in {**known, **given}.items()})
