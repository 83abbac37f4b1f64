"""The contract every click model fulfils, and the registry of their names.

A model is split in two where the cost is split: a *table* with one row per slot of the vocabulary (the
first-order weight in column 0, the embedding in the others), and a *head* that turns the B x F gathered rows
into B logits. The head never sees an id and its parameters never depend on the vocabulary, so a caller may
gather rows its own way: through a codebook, or from the small sub-table a batch touches.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from diet_jax.errors import UserError

_REGISTRY: dict[str, type[nn.Module]] = {}


class Model(NamedTuple):
    """A click model as pure functions. Hashable, so it may be a static argument of `jax.jit`.

    Two calls of `build` with equal arguments return the same object: what was compiled for one serves the
    other.
    """

    name: str
    dim: int  # embedding width; a row of the table is 1 + dim wide
    init: Callable[..., dict[str, Any]]  # (key, num_slots: int, num_fields: int) -> {'table', 'head'}
    rows: Callable[..., jax.Array]  # (head, f32[B, F, 1 + dim], *, dropout_key=None) -> f32[B] logits

    def apply(self, params: dict[str, Any], ids: jax.Array, *, dropout_key: jax.Array | None = None) -> jax.Array:
        """Logits of encoded rows.

        Args:
            params: `{'table': f32[V, 1 + dim], 'head': pytree}`, as from `init`.
            ids: i32[B, F], slots in [0, V); under jit JAX clamps what lies outside.
            dropout_key: draws the dropout masks; without it there is no dropout.

        Returns:
            f32[B], before the sigmoid; the same as `rows(params['head'], params['table'][ids])`.
        """
        return self.rows(params['head'], params['table'][ids], dropout_key=dropout_key)


def register(name: str) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Class decorator that gives a Flax module a name `build` knows.

    The module is called with `(embeddings f32[B, F, dim], first_order f32[B, F], *, deterministic: bool)` and
    returns logits f32[B]; its dataclass fields are the options of `build`. Parameters only: no batch
    statistics.

    Raises:
        UserError: the name belongs to another class, or the class is not a Flax module.
    """

    def decorate(cls: type[nn.Module]) -> type[nn.Module]:
        if not (inspect.isclass(cls) and issubclass(cls, nn.Module)):
            raise UserError(f'model {name!r}: {cls!r} is not a flax.linen.Module class; derive it from one')
        old = _REGISTRY.get(name)
        # The same class defined again (a notebook cell run twice) replaces itself.
        if old is not None and (old.__module__, old.__qualname__) != (cls.__module__, cls.__qualname__):
            raise UserError(f'model {name!r} is already {old.__module__}.{old.__qualname__}; take another')
        _REGISTRY[name] = cls
        return cls

    return decorate


def names() -> list[str]:
    """Registered names, sorted."""
    return sorted(_REGISTRY)


def build(
    name: str, *, dim: int = 8, keep: tuple[int, ...] | None = None, init_std: float = 0.01, **options: Any
) -> Model:
    """Makes the model registered under `name`.

    Args:
        name: one of `names()`.
        dim: embedding width.
        keep: positions of the fields the model sees, in that order; None for all. The others are dropped.
        init_std: standard deviation of the embeddings at the start; first-order weights start at 0.
        **options: the module's own fields, e.g. `hidden=(64, 32)`, `dropout=0.1`. Lists are read as tuples.

    Returns:
        A Model; the same object for equal arguments.

    Raises:
        UserError: unknown name or option, an empty, negative or repeated `keep`, `dim` below 1.
    """
    cls = _REGISTRY.get(name)
    if cls is None:
        raise UserError(f'no model is named {name!r}{_hint(name, names())}; registered: {", ".join(names())}')
    known = [f for f in cls.__dataclass_fields__ if f not in ('parent', 'name')]
    for option in options:
        if option not in known:
            takes = f'it takes: {", ".join(sorted(known))}' if known else 'it takes none'
            raise UserError(f'model {name!r} has no option {option!r}{_hint(option, known)}; {takes}')
    if dim < 1:
        raise UserError(f'model {name!r}: dim={dim} is below 1')
    if keep is not None:
        keep = tuple(int(f) for f in keep)
        if not keep or min(keep) < 0 or len(set(keep)) < len(keep):
            raise UserError(f'model {name!r}: keep={keep} must list at least one position, none twice')
    frozen = tuple(sorted((k, _tupled(v)) for k, v in options.items()))
    return _build(name, cls, int(dim), keep, float(init_std), frozen)


def of(spec: str | Mapping[str, Any], dim: int) -> Model:
    """The model of a config: a registry name, or a dict of `model` and options of `build`, e.g. `hidden`.

    Raises:
        UserError: as `build`; a dict without `model`.
    """
    options = {'model': spec} if isinstance(spec, str) else dict(spec)
    if 'model' not in options:
        raise UserError(f'{options} names no model: add model=, one of {", ".join(names())}')
    return build(options.pop('model'), **{'dim': dim, **options})


@functools.lru_cache(maxsize=1024)
def _build(name, cls, dim, keep, init_std, options) -> Model:
    module = cls(**dict(options))

    @functools.partial(jax.jit, static_argnums=1)  # so that the forward pass is traced, and never run
    def init_head(key: jax.Array, seen: int) -> Any:
        inputs = jnp.zeros((1, seen, dim)), jnp.zeros((1, seen))
        variables = dict(module.init(key, *inputs, deterministic=True))
        head = variables.pop('params', {})
        if variables:
            raise UserError(f'model {name!r} keeps state in {sorted(variables)}; use parameters only')
        return head

    def init(key: jax.Array, num_slots: int, num_fields: int) -> dict[str, Any]:
        table_key, head_key = jax.random.split(key)
        embeddings = init_std * jax.random.normal(table_key, (num_slots, dim))
        table = jnp.pad(embeddings, ((0, 0), (1, 0)))
        return {'table': table, 'head': init_head(head_key, _seen(name, keep, num_fields))}

    def rows(head: Any, rows: jax.Array, *, dropout_key: jax.Array | None = None) -> jax.Array:
        if rows.ndim != 3 or rows.shape[2] != 1 + dim:
            raise ValueError(f'model {name!r} takes rows of shape [B, F, {1 + dim}], not {rows.shape}')
        if keep is not None:
            _seen(name, keep, rows.shape[1])
            rows = rows[:, np.asarray(keep)]
        rngs = None if dropout_key is None else {'dropout': dropout_key}
        logits = module.apply(
            {'params': head}, rows[..., 1:], rows[..., 0], deterministic=dropout_key is None, rngs=rngs
        )
        if logits.shape != rows.shape[:1]:
            raise UserError(f'model {name!r} returned shape {logits.shape}; it must be {rows.shape[:1]}')
        return logits

    return Model(name, dim, init, rows)


def _seen(name: str, keep: tuple[int, ...] | None, num_fields: int) -> int:
    """How many of the log's fields the model sees."""
    if keep is None:
        return num_fields
    if max(keep) >= num_fields:
        raise UserError(f'model {name!r}: keep={keep} names field {max(keep)}, but there are {num_fields}')
    return len(keep)


def _hint(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f', did you mean {close[0]!r}?' if close else ''


def _tupled(value: Any) -> Any:
    return tuple(_tupled(v) for v in value) if isinstance(value, (list, tuple)) else value
