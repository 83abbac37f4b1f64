"""Several outcomes of a row: click, like, long view. They share the memory's rows, its codes and its addressing.

What depends on a label is kept of each: the entries' soft, mean and hard labels, a reference model with its twins, and
the students that refine. Influence is that of the main outcome, so it decides which rows the memory holds. Each outcome
is a `Work` of its own, in which its labels and models stand where the main one's stand, so that a part of a stage need
not know which outcome it works for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from diet_jax.distillation.spec import Spec
from diet_jax.distillation.state import Memory, Outcome, StageState, Work

LABELS = ('soft_logit', 'mean_label', 'hard_label')  # of the entries
MODELS = ('reference', 'twins', 'pools', 'outer')  # of the state


def of_every_outcome(part: Callable[[Spec, Work], Work]) -> Callable[[Spec, Work], Work]:
    """A part of a stage that is done for the main outcome, then for each of the others."""

    @functools.wraps(part)
    def parts(spec: Spec, work: Work) -> Work:
        done = part(spec, work)
        return done._replace(others=tuple(part(spec, _beside(done, other)) for other in work.others))

    return parts


def begun(work: Work) -> Work:
    """The work of a stage with that of its other outcomes."""
    state = work.state
    others = []
    for outcome, label in zip(state.others, work.rows.others, strict=True):
        models = {name: getattr(outcome, name) for name in MODELS}
        memory = labelled(state.memory, outcome)
        own = work._replace(
            state=state._replace(memory=memory, others=(), **models), rows=work.rows._replace(label=label, others=())
        )
        if work.block is not None:
            at = len(others)
            own = own._replace(block=work.block._replace(label=work.block.others[at], others=()))
        others.append(own)
    return work._replace(others=tuple(others))


def labelled(memory: Memory, labels: Outcome | Memory) -> Memory:
    """The memory with the labels of another outcome."""
    return memory._replace(**{name: getattr(labels, name) for name in LABELS})


def ended(work: Work) -> StageState:
    """The state of a stage that is done, with all of its outcomes."""
    return work.state._replace(others=tuple(outcome_of(other.state) for other in work.others))


def outcome_of(state: StageState) -> Outcome:
    """What a state keeps of the outcome that stands in it."""
    labels = {name: getattr(state.memory, name) for name in LABELS}
    return Outcome(**labels, **{name: getattr(state, name) for name in MODELS})


def _beside(main: Work, other: Work) -> Work:
    """Another outcome's work with what the main one's has found for all: codes, and which entries were addressed."""
    state = other.state._replace(codebook=main.state.codebook)
    return other._replace(state=state, moved=main.moved, addressed=main.addressed)
