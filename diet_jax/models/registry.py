"""The contract every click model fulfils, and the registry of their names.

A model is split in two where the cost is split: a *table* with one row per slot of the vocabulary (the
first-order weight in column 0, the embedding in the others), and a *head* that turns the B x F gathered rows
into B logits. The head never sees an id and its parameters never depend on the vocabulary, so a caller may
gather rows its own way: through a codebook, or from the small sub-table a batch touches.

Where a field is a list, ids have W columns for F fields (`base.layout`), and a head sees an entry a field all the
same: of a list the mean. One that declares `sequences` sees the events themselves too (`models.lists`).
"""

import dataclasses
import difflib
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from diet_jax.base.errors import UserError, closest
from diet_jax.base.keep import source_digest
from diet_jax.base.layout import Layout
from diet_jax.models import lists

Module = nn.Module | nnx.Module
NNX_OWN = ('self', 'num_fields', 'dim', 'sequences', 'outcomes', 'rngs')  # of an NNX module: no options
_REGISTRY: dict[str, type[Module]] = {}


class Model(NamedTuple):
    """A click model as pure functions. Hashable, so it may be a static argument of `jax.jit`.

    Two calls of `build` with equal arguments return the same object: what was compiled for one serves the
    other.
    """

    name: str
    dim: int  # embedding width; a row of the table is 1 + dim wide
    init: Callable[..., dict[str, Any]]  # (key, num_slots: int, columns W of ids: int) -> {'table', 'head'}
    rows: Callable[..., jax.Array]  # (head, f32[B, W, 1 + dim], ids i32[B, W], *, dropout_key=None) -> f32[B] logits;
    # ids say what is PAD and which values are equal: needed with a layout, not read without
    keep: tuple[int, ...] | None = None  # positions of the fields that it sees, None for all
    layout: Layout | None = None  # where fields lie among the columns; None where each is one, no field being a list
    outcomes: int = 1  # K: of several, logits are f32[B, K]

    def apply(self, params: dict[str, Any], ids: jax.Array, *, dropout_key: jax.Array | None = None) -> jax.Array:
        """Logits of encoded rows.

        Args:
            params: `{'table': f32[V, 1 + dim], 'head': pytree}`, as from `init`.
            ids: i32[B, W], slots in [0, V), or PAD in a list; under jit JAX clamps what lies outside.
            dropout_key: draws the dropout masks; without it there is no dropout.

        Returns:
            f32[B], before the sigmoid; the same as `rows(params['head'], params['table'][ids], ids)`.
        """
        return self.rows(params['head'], params['table'][ids], ids, dropout_key=dropout_key)  # PAD: any row, masked


def register(name: str) -> Callable[[type[Module]], type[Module]]:
    """Class decorator that gives a Flax module a name `build` knows.

    The module is called with `(embeddings f32[B, F, dim], first_order f32[B, F], *, deterministic: bool)` and
    returns logits f32[B]. Parameters only: no batch statistics. The options of `build` are the dataclass fields of
    a Linen module; an NNX module is made as `cls(num_fields, dim, *, <options>, rngs=)`.

    The entry of a field that is a list is the mean of its values. A module that declares a keyword `sequences` is given
    `{sequence: lists.Events}` as well, and built for a log that has one only; an NNX module that declares it in
    `__init__` gets `{sequence: width of its values}` there. One that has an option `outcomes`, how many outcomes of a
    row it predicts, returns f32[B, outcomes]; candidates say which they are.

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
    return source_digest(cls, [f.__code__ for f in vars(cls).values() if inspect.isfunction(f)])


def names() -> list[str]:
    """Registered names, sorted."""
    return sorted(_REGISTRY)


def build(
    name: str,
    *,
    dim: int = 8,
    keep: tuple[int, ...] | None = None,
    init_std: float = 0.01,
    layout: Layout | None = None,
    outcomes: int = 1,
    **options: Any,
) -> Model:
    """Makes the model registered under `name`.

    Args:
        name: one of `names()`.
        dim: embedding width.
        keep: positions of the fields the model sees, in that order; None for all. The others are dropped.
        init_std: standard deviation of the embeddings at the start; first-order weights start at 0.
        layout: where fields lie among the columns of ids; one without lists is None, and each field is a column.
        outcomes: how many outcomes of a row it predicts.
        **options: the module's own fields, e.g. `hidden=(64, 32)`, `dropout=0.1`. Lists are read as tuples.

    Returns:
        A Model; the same object for equal arguments.

    Raises:
        UserError: unknown name or option, an empty, negative or repeated `keep`, `dim` below 1; a model that reads a
            sequence where there is none, or not the one that its option `sequence` names; several outcomes of a model
            that predicts one.
    """
    cls = _REGISTRY.get(name) if isinstance(name, str) else None
    if cls is None:
        raise UserError(f'no model is named {name!r}{_hint(str(name), names())}; registered: {", ".join(names())}')
    known = _options(cls)
    for option in options:
        if option not in known:
            takes = f'it takes: {", ".join(sorted(known))}' if known else 'it takes none'
            raise UserError(f'model {name!r} has no option {option!r}{_hint(option, known)}; {takes}')
    if not _whole(dim) or dim < 1:
        raise UserError(f'model {name!r}: dim={dim!r} is no whole number, 1 or more')
    if not _real(init_std) or init_std < 0:
        raise UserError(f'model {name!r}: init_std={init_std!r} is no number, 0 or more')
    _check_options(name, cls, options)
    if keep is not None:
        keep = tuple(int(f) for f in keep)
        if not keep or min(keep) < 0 or len(set(keep)) < len(keep):
            raise UserError(f'model {name!r}: keep={keep} must list at least one position, none twice')
    if layout is not None:
        _seen(name, keep, len(layout.names))
        layout = layout if layout.lists else None
    if _reads_sequences(cls):
        _check_sequences(name, keep, layout, options.get('sequence', getattr(cls, 'sequence', '')))
    if outcomes > 1 and not _takes_outcomes(cls):
        several = [other for other in names() if _takes_outcomes(_REGISTRY[other])]
        raise UserError(f'model {name!r} predicts one outcome, not {outcomes}; of several: {", ".join(several)}')
    frozen = tuple(sorted((k, _tupled(v)) for k, v in options.items()))
    try:
        hash(frozen)
    except TypeError:
        raise UserError(f'model {name!r}: {options} holds what is no number, word or tuple of them') from None
    return _build(name, cls, int(dim), keep, float(init_std), layout=layout, outcomes=outcomes, options=frozen)


def of(spec: str | Mapping[str, Any], dim: int, layout: Layout | None = None, outcomes: int = 1) -> Model:
    """The model of a config: a registry name, or a dict of `model` and options of `build`, e.g. `hidden`.

    Raises:
        UserError: as `build`; a dict without `model`.
    """
    options = {'model': spec} if isinstance(spec, str) else dict(spec)
    if 'model' not in options:
        raise UserError(f'{options} names no model: add model=, one of {", ".join(names())}')
    if 'outcomes' in options:
        raise UserError(f'{options} names outcomes: candidates do, and a model of the run itself is of each by itself')
    name, options = options.pop('model'), {'dim': dim, **options}
    if isinstance(name, str) and not getattr(_REGISTRY.get(name), 'reads_embeddings', True) and _whole(options['dim']):
        options['dim'] = min(options['dim'], 1)  # of any width it is the same model
    return build(name, layout=layout, outcomes=outcomes, **options)


def _options(cls: type[Module]) -> list[str]:
    """What `build` may be given for a module."""
    if issubclass(cls, nnx.Module):
        return [name for name in inspect.signature(cls.__init__).parameters if name not in NNX_OWN]
    return [field for field in cls.__dataclass_fields__ if field not in ('parent', 'name', 'outcomes')]


def _check_options(name: str, cls: type[Module], options: Mapping[str, Any]) -> None:
    """Raises UserError for a value that is not like the default of its option: what a width, a rate, a word may be."""
    for option, value in options.items():
        usual = _default(cls, option)
        if option == 'dropout' and not (_real(value) and 0 <= value < 1):
            raise UserError(f'model {name!r}: dropout={value!r} is no share in [0, 1)')
        if isinstance(usual, bool) or usual is None or usual is inspect.Parameter.empty:
            continue
        least = min(usual, 1) if type(usual) is int else 1
        like = {int: f'a whole number, {least} or more', float: 'a number', str: 'a word'}
        like[tuple] = 'whole numbers, 1 or more, as (64, 32)'
        if type(usual) in like and not _like(usual, value):
            raise UserError(f'model {name!r}: {option}={value!r} is not {like[type(usual)]}')


def _default(cls: type[Module], option: str) -> Any:
    if issubclass(cls, nnx.Module):
        return inspect.signature(cls.__init__).parameters[option].default
    field = cls.__dataclass_fields__[option]
    return None if field.default is dataclasses.MISSING else field.default


def _like(usual: Any, value: Any) -> bool:
    if isinstance(usual, tuple):
        widths = all(map(_whole, usual))
        return isinstance(value, (list, tuple)) and (not widths or all(_whole(v) and v >= 1 for v in value))
    if isinstance(usual, int):
        return (_whole(value) and value >= min(usual, 1)) or value is None
    return _real(value) if isinstance(usual, float) else isinstance(value, str)


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and abs(value) < 2**31


def _real(value: Any) -> bool:
    return _whole(value) or (isinstance(value, (float, np.floating)) and math.isfinite(value))


def _takes_outcomes(cls: type[Module]) -> bool:
    linen = getattr(cls, '__dataclass_fields__', ())
    return 'outcomes' in (inspect.signature(cls.__init__).parameters if issubclass(cls, nnx.Module) else linen)


def _reads_sequences(cls: type[Module]) -> bool:
    return 'sequences' in inspect.signature(cls.__call__).parameters


def _check_sequences(name: str, keep: tuple[int, ...] | None, layout: Layout | None, wanted: Any) -> None:
    """That there is what a model reads."""
    if layout is None:
        raise UserError(
            f'model {name!r} reads a sequence, and the log has none: add data.histories, or take a model without'
        )
    there = lists.sequences_kept(layout, keep)
    if not there:
        raise UserError(f'model {name!r} reads a sequence, and sees none: keep or do not drop a list of the log')
    if wanted and wanted not in there:
        raise UserError(f'model {name!r}: sequence={wanted!r} is none that it sees{closest(wanted, there)}')


@functools.lru_cache(maxsize=1024)
def _build(name, cls, dim, keep, init_std, *, layout, outcomes, options) -> Model:
    make = _nnx_head if issubclass(cls, nnx.Module) else _linen_head
    reads, of_several = _reads_sequences(cls), _takes_outcomes(cls)
    options = {**dict(options), **({'outcomes': outcomes} if of_several else {})}

    def given(rows: jax.Array, ids: jax.Array | None) -> tuple[tuple[jax.Array, jax.Array], dict]:
        """What the head is called with: ((embeddings, first order), further keywords)."""
        more = {'sequences': lists.events(layout, keep, rows, ids)} if reads else {}
        if layout is not None:
            rows = lists.by_field(layout, keep, rows, ids)
        elif keep is not None:
            _seen(name, keep, rows.shape[1])
            rows = rows[:, np.asarray(keep)]
        return (rows[..., 1:], rows[..., 0]), more

    def blank(columns: int) -> tuple[tuple[jax.Array, jax.Array], dict]:
        """The same of one row of zeros."""
        return given(jnp.zeros((1, columns, 1 + dim)), jnp.zeros((1, columns), jnp.int32))

    head_params, head_logits = make(name, cls, dim, options, blank)
    init_head = jax.jit(head_params, static_argnums=1)  # so that the forward pass is traced, and never run

    def init(key: jax.Array, num_slots: int, num_fields: int) -> dict[str, Any]:
        _check_columns(name, layout, num_fields)
        if layout is None:
            _seen(name, keep, num_fields)
        table_key, head_key = jax.random.split(key)
        embeddings = init_std * jax.random.normal(table_key, (num_slots, dim))
        table = jnp.pad(embeddings, ((0, 0), (1, 0)))
        return {'table': table, 'head': init_head(head_key, num_fields)}

    def rows(
        head: Any, rows: jax.Array, ids: jax.Array | None = None, *, dropout_key: jax.Array | None = None
    ) -> jax.Array:
        if rows.ndim != 3 or rows.shape[2] != 1 + dim:
            raise ValueError(f'model {name!r} takes rows of shape [B, W, {1 + dim}], not {rows.shape}')
        if layout is not None:
            _check_columns(name, layout, rows.shape[1])
            if ids is None or ids.shape != rows.shape[:2]:
                found = None if ids is None else ids.shape
                raise ValueError(f'model {name!r} has lists: it takes ids of shape {rows.shape[:2]}, not {found}')
        inputs, more = given(rows, ids)
        logits = head_logits(head, inputs, more, dropout_key)
        shape = rows.shape[:1] + (outcomes,) * of_several
        if logits.shape != shape:
            raise UserError(f'model {name!r} returned shape {logits.shape}; it must be {shape}')
        return logits[:, 0] if of_several and outcomes == 1 else logits

    return Model(name, dim, init, rows, keep, layout, outcomes)


def _linen_head(name: str, cls: type[nn.Module], dim: int, options: dict, blank: Callable):
    """((key, columns) -> params, (params, (embeddings, first order), keywords, dropout key or None) -> logits)."""
    module = cls(**options)

    def params(key: jax.Array, columns: int) -> Any:
        inputs, more = blank(columns)
        variables = dict(module.init(key, *inputs, **more, deterministic=True))
        head = variables.pop('params', {})
        _check_stateless(name, sorted(variables))
        return head

    def logits(head, inputs, more, dropout_key) -> jax.Array:
        rngs = None if dropout_key is None else {'dropout': dropout_key}
        return module.apply({'params': head}, *inputs, **more, deterministic=dropout_key is None, rngs=rngs)

    return params, logits


def _nnx_head(name: str, cls: type[nnx.Module], dim: int, options: dict, blank: Callable):
    """The same of an NNX module, which is made anew where it is traced and then given its parameters."""
    told = 'sequences' in inspect.signature(cls.__init__).parameters

    def made(inputs, more, key: jax.Array, dropout_key: jax.Array | None = None) -> nnx.Module:
        rngs = nnx.Rngs(params=key, dropout=key if dropout_key is None else dropout_key)
        widths = {s: found.values.shape[-1] for s, found in more.get('sequences', {}).items()}
        return cls(inputs[0].shape[1], dim, **options, **({'sequences': widths} if told else {}), rngs=rngs)

    def params(key: jax.Array, columns: int) -> Any:
        module = made(*blank(columns), key)
        state = nnx.state(module, nnx.Not(nnx.Any(nnx.Param, nnx.RngState)))
        _check_stateless(name, sorted(map(str, nnx.to_pure_dict(state))))
        return nnx.to_pure_dict(nnx.state(module, nnx.Param))

    def logits(head, inputs, more, dropout_key) -> jax.Array:
        module = made(inputs, more, jax.random.key(0), dropout_key)  # its own parameters are not computed
        state = nnx.state(module, nnx.Param)
        nnx.replace_by_pure_dict(state, head)
        nnx.update(module, state)
        return module(*inputs, **more, deterministic=dropout_key is None)

    return params, logits


def _check_columns(name: str, layout: Layout | None, columns: int) -> None:
    if layout is not None and columns != layout.columns:
        raise ValueError(f'model {name!r} has a layout of {layout.columns} columns, and was given {columns}')


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
