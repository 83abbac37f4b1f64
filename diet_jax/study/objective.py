"""A search asks: what one config after another is expected to come to on the full log, told by a memory.

What `compare` says of a pool, said of a candidate at a time, by the same readings and the same correction. A candidate
is named by its config, and finished ones are kept: the same config is trained once, whoever asks for it.

    candidates/<name>.json     one candidate, predictions/<name>.npy its predictions; the full side of those confirmed
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diet_jax.base.atomic import read_json
from diet_jax.base.errors import UserError
from diet_jax.base.plain import plain
from diet_jax.models.candidates import Candidate
from diet_jax.models.candidates import candidate as candidate_of
from diet_jax.run.sizes import table_capacity
from diet_jax.stats import correction
from diet_jax.study import protocol
from diet_jax.study.asked import opened, without_twins
from diet_jax.study.compare import (
    answered,
    beside,
    corrected,
    mean_logits,
    memory_digest,
    reading,
)
from diet_jax.study.readings import Reading, Shelf, digest
from diet_jax.trials import full_pass
from diet_jax.trials.log import EvaluationLog, read_blocks


class Score(NamedTuple):
    """What is expected of one candidate."""

    name: str
    expected_auc: float  # of training on the full log, mean over seeds
    sd: float  # of what is expected
    memory_auc: float  # mean over seeds
    known_auc: float | None  # on the log, of a twin or after `confirm`
    lr: float  # chosen on the memory
    seconds: float  # that it took when it was asked first, compilation included


class Standing(NamedTuple):
    """A candidate among all that were asked, by the joint of all."""

    name: str
    config: dict
    expected_auc: float
    sd: float
    known_auc: float | None
    best: float  # probability that no other is better on the log
    gain_of_a_run: float  # by how much a full run of it is expected to raise the best mean that is then known


class FullRun(NamedTuple):
    """What a candidate came to on the full log."""

    auc: tuple[float, ...]  # on the scored block, seed by seed
    lr: float  # chosen on the block before

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(self.auc))

    @property
    def sd(self) -> float:
        """Over seeds."""
        return float(np.std(self.auc, ddof=1))


class Objective:
    """Asked with a config, it says what that is expected to come to on the full log. `diet_jax.objective` makes one.

    A config is a dict as a line of a pool: `model`, its options, `dim`, `drop`, `optimizer`, `weight_decay`, ... Where
    it has a `name`, that is not looked at.

    Attributes: workdir, where readings are kept.
    """

    def __init__(self, memories: Sequence, workdir=None, emit: Callable[[str], None] = print, label: str = ''):
        self._log = opened([Path(memory) for memory in memories], emit, label)
        if not self._log.twins:
            raise UserError(
                f'{without_twins(self._log)}: without a score on the log there are no odds; distill again '
                '(config.twins.models, config.twins.keep)'
            )
        self.workdir = Path(workdir) if workdir else self._log.run / f'objective{self._log.which}'
        self._shelf = Shelf(self.workdir)
        self._own: dict[str, Candidate] = {}  # those asked, in this folder ever
        self._full: dict[str, float] = {}  # {name: AUC} of those confirmed
        self._readings: dict[str, tuple[dict, np.ndarray]] = {}  # of twins too
        self._remember(emit)

    def __call__(self, config: Mapping) -> Score:
        """The expected score of a config; what was asked before is not trained again.

        It depends on the config, on the twins, and on what was confirmed; on nothing else that was asked.

        Raises:
          UserError: an unknown model, option or field; training that diverges at every learning rate.
        """
        candidate = self._candidate(config)
        entries, answer, known = self._answer([candidate, *self._confirmed(candidate)])
        return Score(
            name=candidate.name,
            expected_auc=float(answer.mean[0]),
            sd=math.sqrt(answer.cov[0, 0]),
            memory_auc=float(np.mean(entries[0]['auc'])),
            known_auc=known.get(candidate.name),
            lr=entries[0]['chosen']['lr'],
            seconds=entries[0]['seconds'],
        )

    @property
    def asked(self) -> list[Standing]:
        """All that was asked in this folder, also before this process, best first."""
        if not self._own:
            return []
        own = list(self._own.values())
        entries, answer, known = self._answer(own)
        lines = answered(entries, answer, known, len(own), math.nan)[: len(own)]
        found = [Standing(**{key: line[key] for key in Standing._fields}) for line in lines]
        return sorted(found, key=lambda standing: -standing.expected_auc)

    def best(self) -> Standing:
        """Of all that was asked, the one that is expected to come to most."""
        return self._some()[0]

    def next_run(self) -> Standing:
        """Of all that was asked, the one whose full run is most worth doing (`gain_of_a_run`)."""
        return max(self._some(), key=lambda standing: standing.gain_of_a_run)

    def odds(self, config: Mapping, other: Mapping) -> float:
        """The probability that one config is better than another on the full log. Raises UserError as a call does."""
        pair = [self._candidate(config), self._candidate(other)]
        if pair[0].name == pair[1].name:
            return 0.5
        return float(correction.beats(self._answer([*pair, *self._confirmed(*pair)])[1])[0, 1])

    def confirm(self, config: Mapping) -> FullRun:
        """Trains a candidate on the full log: `evaluate.learning_rates`, `trends.full_seeds` of the run's config.

        The learning rate is chosen on the block after the memory's last, the choice scored once on the next. What it
        came to is known from then on, as a twin's score is. Passes are kept in `evaluate.full_cache`.
        """
        candidate = self._candidate(config)
        self(config)
        digests = self._digests(candidate)
        found = self._shelf.kept(candidate.name, digests)
        if 'full' not in found:
            found['full'] = self._trained(candidate)
            self._shelf.put({'name': candidate.name, 'config': candidate.config}, digests, found)
        full = found['full']
        self._full[candidate.name] = float(np.mean(full.scores['auc']))
        return FullRun(auc=tuple(full.scores['auc']), lr=full.chosen['lr'])

    def _candidate(self, config: Mapping) -> Candidate:
        if not isinstance(config, Mapping) and not hasattr(config, 'to_dict'):
            raise UserError(f"{config!r} is no candidate: give a dict, e.g. dict(model='deepfm', dim=4)")
        section, roles = self._log.config, plain(self._log.config.roles)
        there = {role: field for role, field in roles.items() if field}
        outcomes = self._log.log.outcomes
        found = candidate_of(plain(config), section.evaluate.dim, self._log.stream.layout, there, outcomes)
        text, model = json.dumps(found.config, sort_keys=True), re.sub(r'\W', '_', found.model.name)  # a file's name
        return found._replace(name=f'{model}-{hashlib.sha256(text.encode()).hexdigest()[:8]}')

    def _answer(self, own: Sequence[Candidate]) -> tuple[list[dict], correction.Answer, dict[str, float]]:
        """(entries, their answer, what is known) of some candidates, and behind them of the twins."""
        others, known = beside(self._log, own)
        known |= {candidate.name: self._full[candidate.name] for candidate in own if candidate.name in self._full}
        read = [self._reading(candidate) for candidate in (*own, *others)]
        self._own |= {candidate.name: candidate for candidate in own}
        entries = [entry for entry, _ in read]
        return entries, corrected(self._log, entries, [logits for _, logits in read], known), known

    def _reading(self, candidate: Candidate) -> tuple[dict, np.ndarray]:
        if candidate.name not in self._readings:
            entry, students = reading(self._log, candidate, self._shelf)
            self._readings[candidate.name] = entry, mean_logits(students)
        return self._readings[candidate.name]

    def _confirmed(self, *but: Candidate) -> list[Candidate]:
        """Candidates whose full run is known, those given apart."""
        names = [candidate.name for candidate in but]
        return [self._own[name] for name in self._full if name not in names]

    def _some(self) -> list[Standing]:
        if not (found := self.asked):
            raise UserError(f'{self.workdir}: nothing was asked yet')
        return found

    def _remember(self, emit) -> None:
        """Takes up what is on the shelf and still right."""
        for path in sorted((self.workdir / 'candidates').glob('*.json')):
            try:
                candidate = self._candidate(read_json(path)['config'])
            except UserError as error:
                emit(f'{path} is left out: {error}')
                continue
            found = self._shelf.kept(candidate.name, self._digests(candidate)) if candidate.name == path.stem else {}
            if 'memory' in found:  # and it is no twin, which has another name
                self._own[candidate.name] = candidate
                if 'full' in found:
                    self._full[candidate.name] = float(np.mean(found['full'].scores['auc']))

    def _digests(self, candidate: Candidate) -> dict[str, str]:
        """What the sides of a candidate are kept under."""
        e, memory = self._log.config.evaluate, memory_digest(self._log, candidate)
        full = [memory, list(e.learning_rates), self._log.config.trends.full_seeds, e.batch]
        return {'memory': memory, 'full': digest(full)}

    @functools.cached_property
    def _whole(self) -> EvaluationLog:
        """The log with the blocks that a full pass trains on."""
        stream = self._log.stream
        batch, outcome = self._log.config.evaluate.batch, self._log.log.outcome
        return read_blocks(stream, batch, table_capacity(stream.num_slots), outcome=outcome)

    def _trained(self, candidate: Candidate) -> Reading:
        """The full side of a candidate."""
        config, t = self._log.config, self._log.t
        lrs, seeds = candidate.recipe.rates(config.evaluate.learning_rates), config.trends.full_seeds
        cache = full_pass.cache_folder(config, self._log.run)
        passes = full_pass.passes(candidate, self._whole, lrs, seeds=seeds, boundaries=[t], cache=cache)
        return protocol.full_reading(passes, lrs, self._whole, t)
