"""The contract every click model fulfils, and the registry of their names.

A model is split in two where the cost is split: a *table* with one row per slot of the vocabulary (the
first-order weight in column 0, the embedding in the others), and a *head* that turns the B x F gathered rows
into B logits. The head never sees an id and its parameters never depend on the vocabulary, so a caller may
gather rows its own way: through a codebook, or from the small sub-table a batch touches.
"""

import difflib
import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from diet_jax.base.errors import UserError
from diet_jax.base.keep import meaning

Module = nn.Module | nnx.Module
NNX_OWN = ('self', 'num_fields', 'dim', 'rngs')  # arguments of an NNX module that are no options
_REGISTRY: dict[str, type[Module]] = {}


class Model(NamedTuple):
    """A click model as pure functions. Hashable, so it may be a static argument of `jax.jit`.

    Two calls of `build` with equal arguments return the same object: what was compiled for one serves the
    other.
    """

    name: str
    dim: int  # embedding width; a row of the table is 1 + dim wide
    init: Callable[..., dict[str, Any]]  # (key, num_slots: int, num_fields: int) -> {'table', 'head'}
    rows: Callable[..., jax.Array]  # (head, f32[B, F, 1 + dim], *, dropout_key=None) -> f32[B] logits
    keep: tuple[int, ...] | None = None  # positions of the fields that it sees, None for all

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


def register(name: str) -> Callable[[type[Module]], type[Module]]:
    """Class decorator that gives a Flax module a name `build` knows.

    The module is called with `(embeddings f32[B, F, dim], first_order f32[B, F], *, deterministic: bool)` and
    returns logits f32[B]. Parameters only: no batch statistics. The options of `build` are the dataclass fields of
    a Linen module; an NNX module is made as `cls(num_fields, dim, *, <options>, rngs=)`.

    Raises:
        UserError: the name belongs to another class, or the class is not a Flax module.
    """

    def decorate(cls: type[Module]) -> type[Module]:
        if not (inspect.isclass(cls) and issubclass(cls, Module)):
            raise UserError(
                f'model {name!r}: {cls!r} is no flax.linen.Module or flax.nnx.Module class; derive it from one'
            )
        old = _REGISTRY.get(name)
        # The same class defined again (a notebook cell run twice) replaces itself.
        if old is not None and (old.__module__, old.__qualname__) != (cls.__module__, cls.__qualname__):
            raise UserError(f'model {name!r} is already {old.__module__}.{old.__qualname__}; take another')
        _REGISTRY[name] = cls
        return cls

    return decorate


def source(name: str) -> str:
    """Digest of the file that a model of the user's own is written in, '' for one of the library's.

    Kept results of a candidate are good for the code that it was when they were made.
    """
    cls = _REGISTRY[name]
    if cls.__module__.startswith('diet_jax.'):
        return ''
    try:
        text = meaning(Path(inspect.getsourcefile(cls)).read_text(encoding='utf-8'))
    except (OSError, TypeError, SyntaxError):  # typed in at a prompt: what it does, as compiled
        text = repr(
            [
                f.__code__.co_code + repr(f.__code__.co_consts).encode()
                for f in vars(cls).values()
                if inspect.isfunction(f)
            ]
        )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
    known = _options(cls)
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
    name, options = options.pop('model'), {'dim': dim, **options}
    if not getattr(_REGISTRY.get(name), 'reads_embeddings', True):
        options['dim'] = min(options['dim'], 1)  # of any width it is the same model
    return build(name, **options)


def _options(cls: type[Module]) -> list[str]:
    """What `build` may be given for a module."""
    if issubclass(cls, nnx.Module):
        return [name for name in inspect.signature(cls.__init__).parameters if name not in NNX_OWN]
    return [field for field in cls.__dataclass_fields__ if field not in ('parent', 'name')]


@functools.lru_cache(maxsize=1024)
def _build(name, cls, dim, keep, init_std, options) -> Model:
    make = _nnx_head if issubclass(cls, nnx.Module) else _linen_head
    head_params, head_logits = make(name, cls, dim, dict(options))
    init_head = jax.jit(head_params, static_argnums=1)  # so that the forward pass is traced, and never run

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
        logits = head_logits(head, rows[..., 1:], rows[..., 0], dropout_key)
        if logits.shape != rows.shape[:1]:
            raise UserError(f'model {name!r} returned shape {logits.shape}; it must be {rows.shape[:1]}')
        return logits

    return Model(name, dim, init, rows, keep)


def _linen_head(name: str, cls: type[nn.Module], dim: int, options: dict):
    """((key, fields seen) -> params, (params, embeddings, first order, dropout key or None) -> logits)."""
    module = cls(**options)

    def params(key: jax.Array, seen: int) -> Any:
        inputs = jnp.zeros((1, seen, dim)), jnp.zeros((1, seen))
        variables = dict(module.init(key, *inputs, deterministic=True))
        head = variables.pop('params', {})
        _check_stateless(name, sorted(variables))
        return head

    def logits(head, embeddings, first_order, dropout_key) -> jax.Array:
        rngs = None if dropout_key is None else {'dropout': dropout_key}
        return module.apply({'params': head}, embeddings, first_order, deterministic=dropout_key is None, rngs=rngs)

    return params, logits


def _nnx_head(name: str, cls: type[nnx.Module], dim: int, options: dict):
    """The same of an NNX module, which is made anew where it is traced and then given its parameters."""

    def made(seen: int, key: jax.Array, dropout_key: jax.Array | None = None) -> nnx.Module:
        return cls(seen, dim, **options, rngs=nnx.Rngs(params=key, dropout=key if dropout_key is None else dropout_key))

    def params(key: jax.Array, seen: int) -> Any:
        module = made(seen, key)
        state = nnx.state(module, nnx.Not(nnx.Any(nnx.Param, nnx.RngState)))
        _check_stateless(name, sorted(map(str, nnx.to_pure_dict(state))))
        return nnx.to_pure_dict(nnx.state(module, nnx.Param))

    def logits(head, embeddings, first_order, dropout_key) -> jax.Array:
        module = made(embeddings.shape[1], jax.random.key(0), dropout_key)  # its own parameters are not computed
        state = nnx.state(module, nnx.Param)
        nnx.replace_by_pure_dict(state, head)
        nnx.update(module, state)
        return module(embeddings, first_order, deterministic=dropout_key is None)

    return params, logits


def _check_stateless(name: str, state: list[str]) -> None:
    if state:
        raise UserError(f'model {name!r} keeps state in {state}; use parameters only')


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
