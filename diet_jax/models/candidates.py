"""Candidates: a model idea as a line of a config, and how it is to be trained."""

from __future__ import annotations

from typing import NamedTuple

from diet_jax.base.errors import UserError, closest
from diet_jax.models import registry
from diet_jax.models.recipes import Recipe, recipe_of


class Candidate(NamedTuple):
    name: str
    config: dict  # as it was written, roles by their fields: a model, its options, what is said of its training
    model: registry.Model
    recipe: Recipe  # how it is trained, on the log and on a memory

    def inputs(self) -> list:
        """What decides how it trains, as JSON: what kept results of it are kept under (`base.keep`)."""
        return [dict(self.config), registry.source(self.model.name)]

    def program(self) -> list:
        """What decides what is compiled for it, beside shapes, as JSON: `inputs`, fields not seen by their places."""
        options = {key: value for key, value in self.config.items() if key != 'drop'}
        return [options, self.model.keep, registry.source(self.model.name)]


def candidate(spec, dim: int, fields, roles=None) -> Candidate:
    """From a config: a registry name, or a dict.

    Args:
      spec: keys `model`, options of `models.build`, and optionally `name`; `drop`, names of fields that the model does
        not see; `optimizer` and its options (`models.recipes`), `weight_decay` among them.
      fields: names of the log's fields, in order; roles: {name that may stand in `drop`: field of this log}.
    Raises:
      UserError: an unknown model, option or field.
    """
    config = {'model': spec} if isinstance(spec, str) else dict(spec)
    name = config.pop('name', config.get('model'))
    config = {'dim': dim, **config}
    options, fields, roles = dict(config), list(fields), roles or {}
    dropped = [roles.get(field, field) for field in options.pop('drop', ())]
    for field in dropped:
        if field not in fields:
            raise UserError(f"candidate {name} drops '{field}', which is no field of the log{closest(field, fields)}")
    if dropped:
        config['drop'] = dropped  # the same role is another field under other roles: another candidate
        options['keep'] = tuple(i for i, field in enumerate(fields) if field not in dropped)
    recipe = recipe_of(options, where=f'candidate {name}')
    options = {key: value for key, value in options.items() if key not in ('optimizer', *Recipe._fields)}
    return Candidate(name=name, config=config, model=registry.of(options, dim), recipe=recipe)
