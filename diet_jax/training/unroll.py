"""Meta-gradients through an unrolled inner loop, several ways behind one call.

    meta_gradient: d outer_loss(state_end) / d learnable,   state_{k+1} = inner_step(learnable, state_k, batch_k)

Which steps are differentiated:

* all T of them (`window` None);
* *truncated*: the first T - window steps run without a tape, the last `window` are differentiated;
* *random window*: the same, but the unroll ends at step `end`, drawn by the caller in [window, T] (RaT-BPTT; Feng et
  al. 2024, arXiv:2310.04895, for data distillation). `stage.refine` needs no draw: its pool holds students of
  staggered ages, so its windows already begin anywhere in a training.

And how, which the caller never sees:

* *plain*: the tape of every step is kept. For states that fit a cache;
* *rematerialised*: two nested scans of about sqrt(window) steps, of which only first states are kept; groups and steps
  are run again on the way back. Memory is O(sqrt(window)) states.

Mixed mode (forward over reverse, MixFlow-MG, arXiv:2505.00793) needs nothing here: an inner step may bring its own
derivative, as one in the tests does. On these shapes it gained 4 % of the time, so the library's step has none.
"""

from __future__ import annotations

from collections.abc import Callable

import jax

# Bytes of inner states, window times one, up to which the unroll is plain: what else fits the caches. Students of the
# default configuration (0.15 MB): T = 60 takes 28 ms plain, 34 ms rematerialised, T = 200 127 and 101 ms; a table of
# 7,168 rows (0.8 MB): T = 20 takes 41 and 24 ms (docs/performance.md).
PLAIN = 12 << 20


def meta_gradient(
    outer_loss: Callable,
    inner_step: Callable,
    learnable,
    state,
    batches,
    *,
    window: int | None = None,
    end: jax.Array | None = None,
    remat: bool | None = None,
):
    """Value, final inner state and meta-gradient of one unroll.

    Args:
      outer_loss: (state, learnable) -> scalar; inner_step: (learnable, state, batch) -> state, both pure.
      learnable: pytree that the outer loop changes; state: inner state at step 0 (no gradient flows into it).
      batches: pytree with leading axis T.
      window: how many steps, the last ones, are differentiated; None or more than T: all.
      end: i32[], may be traced, in [window, T]: the step after which the unroll ends; None: T.
      remat: rematerialised or plain; None: by the bytes of the window's states.
    Returns: (loss, state after `end` steps, gradient like `learnable`).
    """
    steps = jax.tree.leaves(batches)[0].shape[0]
    window = steps if window is None else min(window, steps)
    if window < steps:
        start = (steps if end is None else end) - window
        at = lambda i: jax.tree.map(lambda x: x[i], batches)  # noqa: E731
        state = jax.lax.fori_loop(0, start, lambda i, s: inner_step(learnable, s, at(i)), state)
        batches = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, window), batches)
    state = jax.lax.stop_gradient(state)
    remat = remat if remat is not None else not is_plain(state, window)

    def unrolled(learnable):
        def step(s, b):
            return inner_step(learnable, s, b), None

        final, _ = _nested(step, state, batches, window) if remat else jax.lax.scan(step, state, batches)
        return outer_loss(final, learnable), final

    (loss, final), grads = jax.value_and_grad(unrolled, has_aux=True)(learnable)
    return loss, jax.lax.stop_gradient(final), grads


def is_plain(state, window: int) -> bool:
    """Whether so many steps from such a state are unrolled with the whole tape."""
    return window * sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) <= PLAIN


def _nested(step: Callable, state, batches, steps: int):
    """A scan in groups, of which only the first states are kept; what fills no group goes before them."""
    size = _group(steps)
    rest = steps % size
    step = jax.checkpoint(step)
    group = jax.checkpoint(lambda s, b: jax.lax.scan(step, s, b))
    if rest:
        state, _ = group(state, jax.tree.map(lambda x: x[:rest], batches))
    groups = jax.tree.map(lambda x: x[rest:].reshape(-1, size, *x.shape[1:]), batches)
    return jax.lax.scan(group, state, groups)


def _group(steps: int) -> int:
    """Steps of a group: near the square root, and dividing `steps` where a number near it does."""
    root = steps**0.5
    return min(range(max(1, int(root / 2)), int(2 * root) + 1), key=lambda k: (steps % k, abs(k - root)))
