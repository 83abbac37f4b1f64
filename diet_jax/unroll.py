"""Meta-gradients through an unrolled inner loop, several ways behind one call.

    meta_gradient: d outer_loss(state_T) / d learnable,   state_{k+1} = inner_step(learnable, state_k, batch_k)

* plain: `lax.scan` over the T steps, every state kept;
* `remat`: two nested scans of about sqrt(T) steps, the inner one recomputed on the way back (memory O(sqrt T));
* `window < T`: the first T - window steps run without a tape, only the last `window` are differentiated
  (truncated back-propagation through time; Feng et al. 2024, arXiv:2310.04895, for data distillation).
"""

from __future__ import annotations

from collections.abc import Callable

import jax


def meta_gradient(
    outer_loss: Callable,
    inner_step: Callable,
    learnable,
    state,
    batches,
    *,
    window: int | None = None,
    remat: bool = False,
):
    """Value, final inner state and meta-gradient of one unroll.

    Args:
      outer_loss: (state, learnable) -> scalar; inner_step: (learnable, state, batch) -> state, both pure.
      learnable: pytree that the outer loop changes; state: inner state at step 0 (no gradient flows into it).
      batches: pytree with leading axis T.
    Returns: (loss, state_T, gradient like `learnable`).
    """
    steps = jax.tree.leaves(batches)[0].shape[0]
    window = steps if window is None else min(window, steps)
    head = jax.tree.map(lambda x: x[: steps - window], batches)
    tail = jax.tree.map(lambda x: x[steps - window :], batches)
    if window < steps:
        state, _ = jax.lax.scan(lambda s, b: (inner_step(learnable, s, b), None), state, head)
    state = jax.lax.stop_gradient(state)

    def unrolled(learnable):
        def step(s, b):
            return inner_step(learnable, s, b), None

        if remat:
            inner = _divisor(window)
            groups = jax.tree.map(lambda x: x.reshape(-1, inner, *x.shape[1:]), tail)

            @jax.checkpoint
            def group(s, g):
                return jax.lax.scan(step, s, g)

            final, _ = jax.lax.scan(group, state, groups)
        else:
            final, _ = jax.lax.scan(step, state, tail)
        return outer_loss(final, learnable), final

    (loss, final), grads = jax.value_and_grad(unrolled, has_aux=True)(learnable)
    return loss, jax.lax.stop_gradient(final), grads


def _divisor(n: int) -> int:
    """The divisor of n nearest to its square root."""
    return min((k for k in range(1, n + 1) if n % k == 0), key=lambda k: abs(k - n**0.5))
