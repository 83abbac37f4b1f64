"""Candidates: a model idea as a line of a config, and how it is to be trained."""

from __future__ import annotations

from typing import NamedTuple

from diet_jax.base.errors import UserError, closest
from diet_jax.base.layout import Layout, flat
from diet_jax.models import registry
from diet_jax.models.recipes import Recipe, recipe_of


class Candidate(NamedTuple):
    name: str
    config: dict  # as it was written, roles by their fields: a model, its options, what is said of its training
    model: registry.Model
    recipe: Recipe  # how it is trained, on the log and on a memory
    outcomes: tuple[str, ...] = ()  # what it predicts at once, the one that is asked first; (): that one alone

    def inputs(self) -> list:
        """What decides how it trains, as JSON: what kept results of it are kept under (`base.keep`)."""
        return [dict(self.config), registry.source(self.model.name)]

    def program(self) -> list:
        """What decides what is compiled for it, beside shapes, as JSON: `inputs`, fields not seen by their places."""
        options = {key: value for key, value in self.config.items() if key != 'drop'}
        layout = [] if self.model.layout is None else [list(self.model.layout)]
        return [options, self.model.keep, registry.source(self.model.name), *layout]


def candidate(spec, dim: int, fields, roles=None, outcomes=()) -> Candidate:
    """From a config: a registry name, or a dict.

    Args:
      spec: keys `model`, options of `models.build`, and optionally `name`; `drop`, names of fields that the model does
        not see, or of sequences, for all of their lists; `optimizer` and its options (`models.recipes`),
        `weight_decay` among them; `outcomes`, names of those that it predicts at once.
      fields: the log's, a `Layout` or, none of them being a list, names in order; roles: {name that may stand in
        `drop`: field of this log}; `<sequence>_<role>` is the list that shares its field; outcomes: of the log, the one
        that is asked first.
    Raises:
      UserError: an unknown model, option, field or outcome; it does not predict the outcome that is asked.
    """
    config = {'model': spec} if isinstance(spec, str) else dict(spec)
    name = config.pop('name', config.get('model'))
    config = {'dim': dim, **config}
    layout, options, roles = fields if isinstance(fields, Layout) else flat(fields), dict(config), roles or {}
    names = {**roles, **_lists_of(layout, roles)}
    for key in ('keep', 'layout'):
        if key in options:
            raise UserError(f"candidate {name} has no option '{key}': drop= names what it does not see")
    dropped = [names.get(field, field) for field in drops(config, f'candidate {name}')]
    options.pop('drop', None)
    known = dict.fromkeys((*layout.names, *filter(None, layout.sequences)))
    for field in dropped:
        if field not in known:
            raise UserError(f"candidate {name} drops '{field}', which is no field of the log{closest(field, known)}")
    if dropped:
        config['drop'] = dropped  # the same role is another field under other roles: another candidate
        named = zip(layout.names, layout.sequences, strict=True)
        options['keep'] = tuple(i for i, each in enumerate(named) if not set(each) & set(dropped))
    predicted = _outcomes(name, options.pop('outcomes', ()), tuple(outcomes))
    recipe = recipe_of(options, where=f'candidate {name}')
    options = {key: value for key, value in options.items() if key not in ('optimizer', *Recipe._fields)}
    model = registry.of(options, dim, layout, max(len(predicted), 1))
    return Candidate(name=name, config=config, model=model, recipe=recipe, outcomes=predicted)


def drops(config, where: str) -> list[str]:
    """The names that a config does not see, before roles are looked up. Raises UserError where they are no names."""
    found = config.get('drop', ())
    if not isinstance(found, (list, tuple)) or not all(isinstance(field, str) for field in found):
        raise UserError(f"{where}: drop={found!r} is no tuple of names: write drop=('user',)")
    return list(found)


def _outcomes(name: str, wanted, there: tuple[str, ...]) -> tuple[str, ...]:
    """What a candidate predicts, the first of `there` first."""
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(wanted, (list, tuple)):
        raise UserError(f"candidate {name}: outcomes={wanted!r} are no names: write outcomes=('click', 'like')")
    for outcome in wanted:
        if outcome not in there:
            of_log = f'it has {", ".join(there)}' if there else 'it has one'
            raise UserError(
                f"candidate {name} predicts '{outcome}', which is no outcome of the log{closest(str(outcome), there)}: "
                f'{of_log}'
            )
    if wanted and there[0] not in wanted:
        raise UserError(f'candidate {name} predicts {", ".join(wanted)}, and {there[0]} is asked: --label={wanted[0]}')
    return (there[0], *(outcome for outcome in there[1:] if outcome in wanted)) if wanted else ()


def _lists_of(layout: Layout, roles) -> dict[str, str]:
    """{'clicked_item': the list of sequence 'clicked' that shares the item's field}, of every sequence and role."""
    shared = [(layout.names[f], layout.sequences[f], layout.names[owner]) for f, owner in layout.targets().items()]
    return {f'{sequence}_{role}': name for name, sequence, of in shared for role, field in roles.items() if field == of}
