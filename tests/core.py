"""What the tests of the core share: one tiny log with planted clicks, one tiny configuration."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diet_jax import models
from diet_jax.base.layout import flat
from diet_jax.config import default_config
from diet_jax.device.collectives import AXIS
from diet_jax.device.programs import Timed
from diet_jax.distillation import codebook, parallel
from diet_jax.distillation.spec import Spec, spec_of
from diet_jax.distillation.stage import init_state, make_stage_update
from diet_jax.distillation.state import Keys, Rows, StageState, Work
from diet_jax.models.recipes import Recipe
from diet_jax.training.batches import shard_block

SIZES = (6, 20, 12, 5)  # slots of each field; fields 0 and 3 have no more slots than codes
FIELDS, SLOTS, CAPACITY, CODES, DIM = len(SIZES), sum(SIZES), 48, 8, 4  # five slots of the table are padding
BATCH, STEPS = 32, 7  # rows of a step over all devices; batches of a padded block
OWNER = np.repeat(np.arange(FIELDS), SIZES)
START = np.concatenate([[0], np.cumsum(SIZES)[:-1]])
EFFECT = np.float32(np.random.default_rng(99).normal(size=SLOTS) * 1.5)  # of a slot on the logit of a click


def tiny_config() -> ConfigDict:
    c = default_config()
    c.codebook.update(codes=CODES)
    c.reference.update(dim=DIM, learning_rate=0.02, batch=32)
    c.memory.update(capacity=32, row_budget=0.04, max_new=16)
    c.addressing.update(replace=0.25, query_rows=64, components=3, basis_rows=1024)
    c.refine.update(pool=2, outer_steps=2, inner_steps=3, window=3, batch=8, outer_rows=32, past_rows=16)
    c.refine.update(check_rows=64, check_epochs=2, check_seeds=1)
    return c


def tiny_model(name: str = 'fm', **options):
    return models.build(name, dim=DIM, **options)


def clicks(rows: int, seed: int):
    """A log whose clicks are decided by one effect a slot. -> ids i32[n, F], label f32[n], true logit f32[n]."""
    rng = np.random.default_rng(seed)
    place = np.minimum(rng.geometric(0.25, (rows, FIELDS)) - 1, np.array(SIZES) - 1)
    ids = (START + place).astype(np.int32)
    logit = EFFECT[ids].sum(1)
    label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return ids, label, logit


def empty_book(capacity: int = CAPACITY, width: int = 1 + DIM) -> codebook.Codebook:
    """A codebook that knows the vocabulary and has seen nothing."""
    book = codebook.init_codebook(capacity, FIELDS, CODES, width)
    field, position = np.zeros(capacity, np.int32), np.full(capacity, -1, np.int32)
    field[:SLOTS], position[:SLOTS] = OWNER, np.arange(SLOTS) - START[OWNER]
    return book._replace(field_of_slot=jnp.asarray(field), position=jnp.asarray(position))


LAZY = Recipe('lazy_adam')  # untouched rows stand still
DEEP = tiny_model('deepfm', hidden=(6,))  # for tests of one part: a stage with it compiles for 3 s more
REFERENCE, STUDENTS, TWINS = tiny_model('fm'), (tiny_model('fm'),), ((tiny_model('lr'), LAZY, 0.01),)


def tiny_spec(config: ConfigDict | None = None, axis: str | None = None, **parts) -> Spec:
    """The tiny stage's. parts: other fields of a `Spec` than the tiny ones, e.g. reference."""
    config = config or tiny_config()
    spec = spec_of(config, REFERENCE, STUDENTS, layout=flat(range(FIELDS)), twins=TWINS, axis=axis)
    return spec._replace(**parts)


def initial_state(seed: int = 0) -> StageState:
    state = init_state(tiny_spec(), CAPACITY, jax.random.key_data(jax.random.key(seed)))
    return state._replace(codebook=empty_book(width=state.codebook.centroids.shape[-1]))


def work(rows: Rows, key: int = 0, **parts) -> Work:
    """What a part of a stage is given in the middle of one; parts: of its state, or of the work itself."""
    state = initial_state()
    of_state = {name: value for name, value in parts.items() if name in StageState._fields}
    rest = {name: value for name, value in parts.items() if name not in of_state}
    key = jax.random.key(key)
    return Work(state=state._replace(**of_state), block=None, rows=rows, keys=Keys(key, key, key), **rest)


def daily(day: int, devices: int = 1, steps: int = STEPS):
    """The block of a day, 130 to 190 rows of which a fifth is held out, laid out for `devices`."""
    rows = 130 + 20 * (day % 4)
    ids, label, _ = clicks(rows, seed=40 + day)
    return shard_block(ids, label, np.arange(rows) % 5 == 0, devices=devices, batch=BATCH, steps=steps), rows


def runner(devices: int, form=parallel.pmapped, steps: int = STEPS, split: bool = False) -> Timed:
    """The tiny stage on the first `devices`, compiled once for all tests; split: with tables split over them."""
    return _runner(devices, form, steps, split)


@functools.cache
def _runner(devices, form, steps, split):
    config, specs = tiny_config(), dict(specs=parallel.state_specs(len(TWINS))) if split else {}
    config.reference.shard_tables = split
    update = make_stage_update(tiny_spec(config, AXIS))
    return Timed(form(update, jax.devices()[:devices], **specs))


def run_days(run: Timed, devices: int, days: int = 4, seed: int = 0) -> list:
    """[(state before, metrics, state after, rows)] of consecutive stages, all but the first state on the host."""
    state, out = initial_state(seed), []
    for day in range(days):
        block, rows = daily(day, devices)
        after, metrics = jax.device_get(run(state, block))
        out.append((jax.device_get(state), metrics, after, rows))
        state = after
    return out


def assert_same(a, b):
    """Two pytrees are equal bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_near(a, b, tolerance=1e-5):
    """Two pytrees agree to `tolerance`, relative and absolute."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)
