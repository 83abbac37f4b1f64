"""Twins: other architectures trained along the stream beside the reference model.

The memory gets every candidate a little wrong, and candidates that compute nearly the same get nearly the same error. A
twin has seen the whole stream, so its score there is known; trained on the memory too, it shows the error
(`correction`). The reference model is a twin that costs nothing.

    twins/<stage>.npz    the reference model and the twins as they stood after that stage: predictions of the blocks
                         that follow come from here, for no stage keeps an older block

A candidate's learning rate is tuned, a twin's is fixed, and where a log gives few steps, or changes much, the fixed one
can be too low by far. Then all known scores are too low alike, which no held-out twin shows. So twins may be trained at
several rates (`twins.other_rates`), of which the block that candidates choose on chooses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from diet_jax.base.errors import UserError
from diet_jax.base.layout import Layout, flat
from diet_jax.base.plain import plain
from diet_jax.models.candidates import Candidate, candidate, drops
from diet_jax.models.recipes import DEFAULT


class Twin(NamedTuple):
    candidate: Candidate
    lr: float  # of its pass along the stream
    times: float = 1.0  # of these the usual rate

    @property
    def name(self) -> str:
        return self.candidate.name if self.times == 1 else f'{self.candidate.name} x{self.times:g}'


def reference_of(config, layout: Layout) -> str:
    """The name of a run's reference model: one that reads sequences, where lists share what a field holds."""
    return config.reference.of_lists if layout.targets() else config.reference.model


def twins_of(config, fields: Sequence[str] | Layout) -> tuple[Twin, ...]:
    """All of a run whose score on the log is known: the reference model, then its twins.

    Twins that drop a role the log does not have are left out (`left_out`).

    Args: config: a run's; `twins.models` are candidates (`candidates.candidate`) with a `learning_rate`, and of a log
      with histories `twins.of_lists` too; fields: as there.
    Raises:
      UserError: a twin without a learning rate, or a name twice; an unknown model, option or field.
    """
    dim, roles = config.reference.dim, plain(config.roles)
    layout = fields if isinstance(fields, Layout) else flat(fields)
    recipe = {key: config.reference[key] for key in ('optimizer', 'weight_decay')}
    reference = candidate({'model': reference_of(config, layout), 'dim': dim, **recipe}, dim, layout)
    rate = config.reference.rate
    found = [Twin(reference, float(config.reference.learning_rate * rate))]
    for spec in map(plain, (*config.twins.models, *(config.twins.of_lists if layout.targets() else ()))):
        lr = spec.pop('learning_rate', None) if isinstance(spec, dict) else None
        if isinstance(lr, bool) or not isinstance(lr, (int, float)) or not 0 < lr < math.inf:
            raise UserError(f'config.twins holds {spec!r}: a twin is dict(model=, learning_rate=, ...)')
        if _absent(spec, roles):
            continue
        if config.reference.optimizer != DEFAULT.optimizer:
            spec = {'optimizer': config.reference.optimizer, **spec}  # of twins that name none, the reference's
        twin = Twin(candidate(spec, dim, layout, roles), float(lr * rate))
        if twin.name in [other.name for other in found]:
            raise UserError(f"config.twins: '{twin.name}' is a name that another one has")
        found.append(twin)
    return tuple(found)


def tracks_of(config, fields: Sequence[str] | Layout) -> tuple[Twin, ...]:
    """All models along the stream: those of `twins_of`, and behind them the same at `twins.other_rates`, rate by rate.

    Raises:
      UserError: as there; a rate that is there twice.
    """
    usual, others = twins_of(config, fields), [float(times) for times in config.twins.other_rates]
    if len({1.0, *others}) <= len(others):
        raise UserError(f'twins.other_rates is {others}: every rate once, and 1, the usual one, is trained anyway')
    return (*usual, *(Twin(twin.candidate, twin.lr * times, times) for times in others for twin in usual))


def left_out(config) -> dict[str, str]:
    """{name: the role that it drops and the log does not have} of the twins that a run cannot have for want of it."""
    specs, roles = [plain(spec) for spec in config.twins.models], plain(config.roles)
    return {spec.get('name', spec['model']): absent[0] for spec in specs if (absent := _absent(spec, roles))}


def _absent(spec: dict, roles: dict) -> list[str]:
    """The roles that a twin drops and that name no field."""
    return [field for field in drops(spec, f'config.twins: {spec}') if roles.get(field) == '']
