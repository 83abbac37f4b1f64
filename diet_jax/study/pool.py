"""A pool of candidates is a file: `get_config()`, what a candidate has unless it says otherwise, and `sweep(add)`."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from diet_jax.base.errors import UserError, closest
from diet_jax.base.layout import Layout
from diet_jax.base.loading import found, load_module
from diet_jax.base.plain import plain
from diet_jax.models.candidates import candidate as candidate_of
from diet_jax.models.candidates import drops
from diet_jax.stats import scores


class CandidatePool:
    """The candidates of a pool, in its order, and which are of the confirmation set.

    Args:
      source: a file, or {name: options} of candidates; roles: {role: field of this log, '' if it has none}: candidates
        that drop one it has not are left out; dim: embedding size of candidates that say none; fields: of the
        log.
      only: names of those wanted, () for all; confirmation: the confirmation set too; outcomes: of the log,
        the one that is asked first.
    Raises:
      UserError: the file is not there or does not run; a name that is twice, no file name, or not in it; none is left.
    """

    def __init__(
        self,
        source: str | os.PathLike | Mapping[str, Mapping],
        roles: Mapping,
        dim: int,
        fields: Layout,
        *,
        only: Sequence[str] = (),
        confirmation: bool = True,
        outcomes: Sequence[str] = (),
    ):
        named = isinstance(source, Mapping)
        path, specs = 'candidates' if named else str(source), {}

        def add(name, **options):
            if not isinstance(name, str) or not re.fullmatch(r'[^\s./\\-][^/\\\n\r\0]*', name):
                raise UserError(f'{path}: candidate {name!r}: it becomes a file: no / or \\, a letter or digit first')
            if name in specs:
                raise UserError(f"{path}: candidate '{name}' is added twice")
            specs[name] = plain(options)

        if named:
            for name, options in source.items():
                if not isinstance(options, Mapping) or 'name' in options:
                    raise UserError(
                        f'candidate {name!r} is {options!r}: give it options, as dict(model=...), and no name'
                    )
                add(name, **options)
        else:
            _run(path, add, specs)
        self.digest = hashlib.sha256(_written(specs, path).encode()).hexdigest()[:16]
        self.confirmation = [name for name, options in specs.items() if options.pop('confirmation', False)]
        for name in only:
            if name not in specs:
                raise UserError(f"trends.only names '{name}', which is not in {path}{closest(name, specs)}")
        wanted = only or [n for n in specs if confirmation or n not in self.confirmation]
        without = {role for role in roles if not roles[role]}
        absent = {n: sorted(without & set(drops(specs[n], f'{path}: candidate {n}'))) for n in wanted}
        self.left_out = {n: roles_[0] for n, roles_ in absent.items() if roles_}
        wanted = [n for n in wanted if n not in self.left_out]
        if not wanted and (specs or not named):
            raise UserError(f'{path}: no candidate is left: {self.without() or "trends.only names none"}')
        self.candidates = [candidate_of({**specs[n], 'name': n}, dim, fields, roles, outcomes) for n in wanted]
        self.path, self.all = path, list(specs)

    def without(self) -> str:
        """Who is left out, and why; '' where nobody is."""
        return scores.left_out(self.left_out)

    def sets(self) -> dict[str, list[str]]:
        """Names by set; a set without candidates is left out."""
        names = [c.name for c in self.candidates]
        found = {
            'development': [n for n in names if n not in self.confirmation],
            'confirmation': [n for n in names if n in self.confirmation],
        }
        if all(found.values()):
            found['all'] = names
        return {key: value for key, value in found.items() if value}


def _written(specs: dict[str, dict], path: str) -> str:
    """The candidates as JSON, which kept results are kept under."""
    try:
        return json.dumps(specs, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise UserError(f'{path}: an option of a candidate is no number, word or tuple of them: {error}') from error


def _run(path: str, add: Callable, specs: dict[str, dict]) -> None:
    """Adds the candidates of a file, and to each what all of that file have unless they say otherwise."""
    if not Path(found(path)).is_file():
        raise UserError(f'{path}: there is no such file of candidates (paths are relative to {Path.cwd()})')
    try:
        module = load_module(path)
        if not (hasattr(module, 'get_config') and hasattr(module, 'sweep')):
            raise UserError(f'{path} has no get_config() and sweep(add): configs/candidates/example.py shows both')
        base = plain(module.get_config())
        module.sweep(add)
    except UserError:
        raise
    except Exception as error:  # a pool file is a program: whatever it raises is the user's to see, in one line
        raise UserError(f'{path}: {type(error).__name__}: {error}') from error
    for options in specs.values():
        for key in ('optimizer', 'weight_decay', 'drop', 'dim'):
            if key in base:
                options.setdefault(key, base[key])
