"""Adam: its constants, and one step of a parameter along the direction that it gives."""

from __future__ import annotations

import optax

B1, B2, EPS = 0.9, 0.999, 1e-8
# sqrt at zero has an infinite derivative: without eps_root the meta-gradient of an embedding row that saw no
# gradient is NaN.
EPS_ROOT = 1e-12


def head_optimizer() -> optax.GradientTransformation:
    """Adam without its learning rate, of the dense part of a model along the stream."""
    return optax.scale_by_adam(B1, B2, EPS)


def stepped(param, direction, lr, decay: float):
    """A parameter after one step, with decoupled weight decay (AdamW, arXiv:1711.05101)."""
    return (1 - lr * decay) * param - lr * direction if decay else param - lr * direction


def student_optimizer() -> optax.GradientTransformation:
    """Adam without its learning rate, safe to differentiate through."""
    return optax.scale_by_adam(B1, B2, EPS, eps_root=EPS_ROOT)
