"""Test, then train: the reference model and its twins in one pass over the block (mechanism 2, the part before fusion).

Each batch is scored before it is trained on, so the progressive validation costs nothing.
"""

from __future__ import annotations

import jax

from diet_jax.device import tables
from diet_jax.distillation.outcomes import of_every_outcome
from diet_jax.distillation.spec import Spec
from diet_jax.distillation.state import Memory, Work
from diet_jax.training.passes import StreamState, settled, stream_passes


@of_every_outcome
def train_along_the_stream(spec: Spec, work: Work) -> Work:
    """The part of a stage: `logits` of every row before it was trained on, and the models after the block."""
    state = work.state
    # Names are those in a profile (python -m benchmarks --only=profile).
    models = (
        (spec.reference, spec.recipe, spec.learning_rate, 'reference'),
        *((*twin, 'twins') for twin in spec.twins),
    )
    before = entry_logits(spec, state.reference, state.memory)
    (reference, *twins), logits = stream_passes(
        models, (state.reference, *state.twins), work.block, spec.axis, spec.shards
    )
    reference, *twins = (
        settled(recipe, one, rate)  # what follows looks at tables whole
        for (_, recipe, rate, _), one in zip(models, (reference, *twins), strict=True)
    )
    return work._replace(
        state=state._replace(reference=reference, twins=tuple(twins)), before=before, logits=tuple(logits)
    )


def entry_logits(spec: Spec, reference: StreamState, memory: Memory) -> jax.Array:
    """Logits of the entries by the reference model as it stands. -> f32[M]."""
    rows = tables.gather_common(reference.params['table'], memory.ids, spec.shards)
    return spec.reference.rows(reference.params['head'], rows, memory.ids)


def teacher_logits(spec: Spec, reference: StreamState, ids: jax.Array) -> jax.Array:
    """Logits of each device's own rows by the reference model. ids: i32[n, W] -> f32[n]."""
    rows = tables.gather(reference.params['table'], ids, spec.shards)
    return spec.reference.rows(reference.params['head'], rows, ids)
