"""The core with the screws turned: no silent promotion of dtype or rank, float64 for analytic truths, one trace."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from core import CAPACITY, DEEP, FIELDS, STUDENTS, clicks, daily, initial_state, tiny_spec

from diet_jax.distillation.memory import student_data
from diet_jax.distillation.stage import PARTS, begin, make_stage_update
from diet_jax.training.passes import init_stream, predict, stream_pass
from diet_jax.training.students import StudentData, init_student, inner_step, train_students
from diet_jax.training.unroll import meta_gradient


@pytest.fixture(scope='module')
def block():
    return jax.tree.map(lambda x: jnp.asarray(x[0]), daily(0)[0])


@pytest.fixture
def strict(monkeypatch):
    """Arrays of other dtypes, or of other ranks, do not meet without a word; but for one power inside Optax."""
    correct = optax.tree.bias_correction

    def corrected(*args):
        with jax.numpy_dtype_promotion('standard'):
            return correct(*args)

    monkeypatch.setattr(optax.tree, 'bias_correction', corrected)
    with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
        yield


def test_a_step_on_the_stream_and_one_of_a_student_promote_nothing(strict, block):
    state = init_stream(DEEP, jax.random.key(0), CAPACITY, FIELDS)
    after, logits = jax.jit(lambda s, b: stream_pass(DEEP, s, b, jnp.float32(0.01)))(state, block)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    chex.assert_tree_all_finite((after, logits))
    student = init_student(DEEP, jax.random.key(0), CAPACITY, FIELDS)
    ones = jnp.ones(8)
    stepped = inner_step(DEEP, student, block.ids[0, :8], 0.5 * ones, ones, jnp.float32(0.01))
    chex.assert_trees_all_equal_shapes_and_dtypes(student, stepped)


def test_every_part_of_a_stage_promotes_nothing(strict, block):
    spec = tiny_spec()
    work = begin(spec, initial_state(), block)
    for _, part in PARTS:
        work = jax.eval_shape(lambda w, part=part: part(spec, w), work)


def test_every_part_of_a_stage_keeps_its_shapes_and_stays_finite(block):
    """At the border of every mechanism: the state as it was but for its values, and no NaN handed on."""
    spec, state = tiny_spec(), initial_state()
    work = begin(spec, state, block)
    for _, part in PARTS:
        work = jax.jit(part, static_argnums=0)(spec, work)
        chex.assert_trees_all_equal_shapes_and_dtypes(state, work.state)
        chex.assert_tree_all_finite(
            jax.tree.map(lambda x: x, work._replace(keys=None, state=work.state._replace(key=0)))
        )
    memory = work.state.memory
    chex.assert_shape((memory.soft_logit, memory.count, memory.valid), (spec.memory.capacity,))
    chex.assert_shape(student_data(memory, work.state.codebook.code).ids, (spec.memory.capacity, FIELDS))


def test_two_stages_are_one_trace(block):
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(make_stage_update(tiny_spec()), n=1))
    state = initial_state()
    for day in (0, 1):
        state, metrics = update(state, jax.tree.map(lambda x: jnp.asarray(x[0]), daily(day)[0]))
    chex.assert_tree_all_finite(metrics)


def test_a_grid_of_students_is_one_trace_for_all_rates_and_seeds():
    ids, label, _ = clicks(16, seed=1)
    data = StudentData(jnp.asarray(ids), jnp.asarray(label), jnp.ones(16), jnp.int32(16))
    grid = train_students(STUDENTS[0], CAPACITY, batch=8, epochs=(1, 2))
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    for rates in ((0.01, 0.1), (0.02, 0.2)):
        params = grid(data, keys, jnp.asarray(rates))
    assert grid._cache_size() == 1
    chex.assert_tree_all_finite(params)
    chex.assert_shape(params['table'], (2, 2, 2, CAPACITY, None))


@pytest.mark.parametrize('remat', [False, True])
def test_the_meta_gradient_of_a_quadratic_is_its_closed_form_in_float64(remat):
    """w_{k+1} = w_k - a (w_k - theta): after T steps w = theta + (1 - a)^T (w_0 - theta), of loss (w - c)^2 / 2."""
    with jax.enable_x64(True):
        rate, steps, theta, start, goal = 0.3, 9, jnp.asarray([0.7, -1.1]), jnp.asarray([2.0, 0.5]), 0.25
        step = lambda theta, w, _: w - rate * (w - theta)  # noqa: E731
        loss = lambda w, _: 0.5 * jnp.sum((w - goal) ** 2)  # noqa: E731
        value, end, grad = meta_gradient(loss, step, theta, start, jnp.zeros(steps), remat=remat)
        left = (1 - rate) ** steps
        truth = theta + left * (start - theta)
        np.testing.assert_allclose(end, truth, rtol=1e-13)
        np.testing.assert_allclose(value, 0.5 * np.sum((truth - goal) ** 2), rtol=1e-13)
        np.testing.assert_allclose(grad, (truth - goal) * (1 - left), rtol=1e-12)


def test_predictions_do_not_depend_on_how_many_rows_are_taken_at_once():
    params, (ids, _, _) = DEEP.init(jax.random.key(0), CAPACITY, FIELDS), clicks(70, seed=2)
    whole, parts = (predict(DEEP, params, jnp.asarray(ids), chunk) for chunk in (70, 16))
    chex.assert_trees_all_close(whole, parts, rtol=1e-6)
