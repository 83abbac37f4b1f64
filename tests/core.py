"""What the tests of the core share: one tiny log with planted clicks, one tiny configuration."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diet_jax import codebook, models
from diet_jax.config import default_config

SIZES = (6, 20, 12, 5)  # slots of each field; fields 0 and 3 have no more slots than codes
FIELDS, SLOTS, CAPACITY, CODES, DIM = len(SIZES), sum(SIZES), 48, 8, 4  # five slots of the table are padding
OWNER = np.repeat(np.arange(FIELDS), SIZES)
START = np.concatenate([[0], np.cumsum(SIZES)[:-1]])


def tiny_config() -> ConfigDict:
    c = default_config()
    c.codebook.update(codes=CODES)
    c.reference.update(dim=DIM, learning_rate=0.02, batch=32)
    c.memory.update(capacity=32, row_budget=0.04, max_new=16)
    c.addressing.update(replace=0.25, query_rows=64, components=3, basis_rows=1024)
    c.refine.update(pool=2, outer_steps=2, inner_steps=3, window=3, batch=8, outer_rows=32, past_rows=16)
    c.refine.update(check_rows=64, check_epochs=2, check_seeds=1)
    return c


def tiny_model(name: str = 'deepfm', **options):
    return models.build(name, dim=DIM, **(options or {'hidden': (8,)}))


def clicks(rows: int, seed: int):
    """A log whose clicks are decided by one effect a slot. -> ids i32[n, F], label f32[n], true logit f32[n]."""
    rng = np.random.default_rng(seed)
    effect = np.random.default_rng(99).normal(size=SLOTS) * 1.5
    place = np.minimum(rng.geometric(0.25, (rows, FIELDS)) - 1, np.array(SIZES) - 1)
    ids = (START + place).astype(np.int32)
    logit = effect[ids].sum(1)
    label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return ids, label, logit.astype(np.float32)


def empty_book(capacity: int = CAPACITY) -> codebook.Codebook:
    """A codebook that knows the vocabulary and has seen nothing."""
    book = codebook.init_codebook(capacity, FIELDS, CODES, 1 + DIM)
    field, position = np.zeros(capacity, np.int32), np.full(capacity, -1, np.int32)
    field[:SLOTS], position[:SLOTS] = OWNER, np.arange(SLOTS) - START[OWNER]
    return book._replace(field_of_slot=jnp.asarray(field), position=jnp.asarray(position))


def assert_same(a, b):
    """Two pytrees are equal bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_near(a, b, tolerance=1e-5):
    """Two pytrees agree to `tolerance`, relative and absolute."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)
