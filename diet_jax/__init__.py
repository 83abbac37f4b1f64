"""A distilled memory of a click log that evolves with the stream: DIET (arXiv 2603.24958) in JAX.

>>> import diet_jax
>>> config = diet_jax.default_config()
>>> config.data.root, config.data.log = 'logs', ('day-*.parquet',)

Then `diet_jax.distill(config, 'runs/mine')` distills, `diet_jax.compare('runs/mine/memory', 'ideas.py')` says which of
the ideas would win on the whole log, and `diet_jax.load_memory('runs/mine/memory')` gives the rows to anything else.
Everything is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diet_jax import models
    from diet_jax.artifact.read import Artifact, load_memory
    from diet_jax.base.errors import UserError
    from diet_jax.commands.doors import compare, distill, evaluate, export, objective
    from diet_jax.config import default_config

__version__ = '0.2.0'
__all__ = [
    'Artifact',
    'UserError',
    '__version__',
    'compare',
    'default_config',
    'distill',
    'evaluate',
    'export',
    'load_memory',
    'models',
    'objective',
]

_WHERE = {
    'Artifact': 'artifact.read',
    'UserError': 'base.errors',
    'compare': 'commands.doors',
    'default_config': 'config',
    'distill': 'commands.doors',
    'evaluate': 'commands.doors',
    'export': 'commands.doors',
    'load_memory': 'artifact.read',
    'objective': 'commands.doors',
}


def __getattr__(name: str) -> Any:
    if name == 'models':
        return importlib.import_module('diet_jax.models')
    if name not in _WHERE:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'diet_jax.{_WHERE[name]}'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
