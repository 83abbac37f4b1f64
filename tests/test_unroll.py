"""Meta-gradients against closed forms and finite differences, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from core import CAPACITY, FIELDS, SLOTS, clicks, tiny_model

from diet_jax.models.recipes import DEFAULT
from diet_jax.training.losses import row_losses, weighted_loss
from diet_jax.training.optimizers import EPS_ROOT, dense_init, dense_step
from diet_jax.training.students import StudentState, inner_step
from diet_jax.training.unroll import PLAIN, is_plain, meta_gradient

STEPS, RATE = 12, 0.3
CURVATURE = np.array([0.2, 1.0, 2.5])
GOAL = np.array([1.0, -2.0, 0.5])
WAYS = {
    'by length': {},
    'plain': {'remat': False},
    'remat': {'remat': True},
    'window = T': {'window': STEPS},
    'window > T': {'window': STEPS + 5},
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def quadratic_step(center, x, _):
    """Gradient descent on CURVATURE / 2 (x - center)^2."""
    return x - RATE * CURVATURE * (x - center)


def quadratic_outer(x, center):
    return 0.5 * jnp.sum((x - GOAL) ** 2)


def quadratic(center, start, outer=quadratic_outer, **way):
    return meta_gradient(outer, quadratic_step, jnp.asarray(center), jnp.asarray(start), jnp.arange(STEPS), **way)


CENTER, BEGIN = np.array([0.3, 0.7, -1.1]), np.array([2.0, 0.0, 1.0])
SHRINK = 1 - RATE * CURVATURE  # x_T = center + SHRINK^T (x_0 - center)
FINAL = CENTER + SHRINK**STEPS * (BEGIN - CENTER)


@pytest.mark.parametrize('way', WAYS)
def test_quadratic_inner_problem_has_its_closed_form(way):
    loss, final, grad = quadratic(CENTER, BEGIN, **WAYS[way])
    np.testing.assert_allclose(final, FINAL, rtol=1e-12)
    np.testing.assert_allclose(loss, 0.5 * np.sum((FINAL - GOAL) ** 2), rtol=1e-12)
    np.testing.assert_allclose(grad, (FINAL - GOAL) * (1 - SHRINK**STEPS), rtol=1e-12)


@pytest.mark.parametrize('remat', [False, True])
@pytest.mark.parametrize('window', [1, 4, 7])
def test_a_window_forgets_what_the_center_did_before_it(window, remat):
    loss, final, grad = quadratic(CENTER, BEGIN, window=window, remat=remat)
    np.testing.assert_allclose(final, FINAL, rtol=1e-12)  # the forward pass is whole
    np.testing.assert_allclose(grad, (FINAL - GOAL) * (1 - SHRINK**window), rtol=1e-12)


@pytest.mark.parametrize('remat', [False, True])
def test_a_random_window_is_a_training_that_ends_there(remat):
    """One compiled call for every end: x_end in closed form, and the gradient of its last `window` steps."""
    window = 5
    call = jax.jit(lambda end: quadratic(CENTER, BEGIN, window=window, end=end, remat=remat))
    for end in range(window, STEPS + 1):
        loss, final, grad = call(end)
        there = CENTER + SHRINK**end * (BEGIN - CENTER)
        np.testing.assert_allclose(final, there, rtol=1e-12)
        np.testing.assert_allclose(loss, 0.5 * np.sum((there - GOAL) ** 2), rtol=1e-12)
        np.testing.assert_allclose(grad, (there - GOAL) * (1 - SHRINK**window), rtol=1e-12)
    assert call._cache_size() == 1


@pytest.mark.parametrize('steps', [1, 7, 67, 200])  # primes divide into no equal groups
def test_groups_of_any_length_keep_the_closed_form(steps):
    def unroll(center, **way):
        return meta_gradient(quadratic_outer, quadratic_step, center, jnp.asarray(BEGIN), jnp.arange(steps), **way)[2]

    final = CENTER + SHRINK**steps * (BEGIN - CENTER)
    np.testing.assert_allclose(unroll(CENTER, remat=True), (final - GOAL) * (1 - SHRINK**steps), rtol=1e-12)


def test_states_too_large_for_a_cache_are_not_all_kept():
    """The choice is by bytes; and what the rematerialised unroll allocates grows as the root of the steps."""
    rows, steps = 1 << 14, 64
    state, picks = jnp.zeros(rows), jnp.arange(steps)
    assert is_plain(state, PLAIN // state.nbytes) and not is_plain(state, PLAIN // state.nbytes + 1)
    step = lambda center, x, _: x - jnp.sin(x - center)  # noqa: E731

    def allocated(steps, remat):
        call = lambda c: meta_gradient(lambda x, _: jnp.sum(x**2), step, c, state, picks[:steps], remat=remat)[2]  # noqa: E731
        return jax.jit(call).lower(state).compile().memory_analysis().temp_size_in_bytes / state.nbytes

    assert allocated(steps, remat=False) > steps
    assert allocated(steps, remat=True) < 3 * steps**0.5


def test_the_outer_loss_may_depend_on_the_learnable_itself():
    outer = lambda x, center: quadratic_outer(x, center) + jnp.sum(center**3)  # noqa: E731
    grad = quadratic(CENTER, BEGIN, outer)[2]
    np.testing.assert_allclose(grad, (FINAL - GOAL) * (1 - SHRINK**STEPS) + 3 * CENTER**2, rtol=1e-12)


# The real inner loop: Adam on a click model, learnable soft labels and weights, table rows without gradient.
MODEL, ROWS, BATCH = tiny_model('fm'), 10, 4


@pytest.fixture(scope='module')
def problem():
    with jax.enable_x64(True):
        ids, _, logit = clicks(ROWS, seed=4)
        # The last row has no weight and four slots of its own: they are read, and their gradient is exactly 0.
        ids = jnp.asarray(ids).at[-1].set(np.arange(SLOTS, SLOTS + FIELDS, dtype=np.int32))
        base = jnp.ones(ROWS).at[-1].set(0.0)
        outer_ids, label, _ = clicks(30, seed=5)
        outer_ids[0] = ids[-1]
        params = MODEL.init(jax.random.key(0), CAPACITY, FIELDS)
        params = jax.tree.map(lambda x: x.astype(jnp.float64), params)
        state = StudentState(params, dense_init(DEFAULT, params))
        learnable = {'logit': jnp.asarray(0.3 * logit, jnp.float64), 'weight': jnp.zeros(ROWS)}
        picks = jax.random.randint(jax.random.key(1), (STEPS, BATCH), 0, ROWS)

        def inner(learnable, state, pick, update=inner_step):
            target, weight = jax.nn.sigmoid(learnable['logit'][pick]), base[pick] * jnp.exp(learnable['weight'][pick])
            return update(MODEL, state, ids[pick], target, weight, 0.05)

        def outer(state, _):
            return jnp.mean(row_losses(MODEL.apply(state.params, outer_ids), label))

        return outer, inner, learnable, state, picks


@pytest.fixture(scope='module')
def whole(problem):
    """The meta-gradient through all steps: (loss, final state, gradient)."""
    outer, inner, learnable, state, picks = problem
    with jax.enable_x64(True):
        return jax.jit(lambda x: meta_gradient(outer, inner, x, state, picks))(learnable)


def test_is_the_finite_difference(problem, whole):
    outer, inner, learnable, state, picks = problem
    grads = whole[2]

    @jax.jit
    def loss(learnable):
        return outer(jax.lax.fori_loop(0, STEPS, lambda i, s: inner(learnable, s, picks[i]), state), None)

    step = 1e-5
    for name in learnable:
        for row in (0, 3, 8):
            ahead, back = (loss({**learnable, name: learnable[name].at[row].add(sign * step)}) for sign in (1, -1))
            np.testing.assert_allclose(grads[name][row], (ahead - back) / (2 * step), rtol=1e-5, atol=1e-9)
    assert np.abs(grads['logit']).max() > 1e-4


def test_every_way_gives_the_same(problem, whole):
    outer, inner, learnable, state, picks = problem
    results = [
        jax.jit(lambda x, way=way: meta_gradient(outer, inner, x, state, picks, **way))(learnable)
        for way in ({'remat': True}, {'window': STEPS})
    ]
    for other in results:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14), whole, other)


def test_an_inner_step_may_bring_its_own_derivative(problem, whole):
    """Mixed mode (MixFlow-MG, arXiv:2505.00793): the adjoint of a step's gradient is a direction, and one `jvp` of the
    gradient along it, forward over reverse, is the Hessian's product and the mixed derivative in one."""
    outer, inner, learnable, state, picks = problem
    loss = lambda params, rows, ids: weighted_loss(MODEL, params, ids, *rows)  # noqa: E731

    @jax.custom_vjp
    def gradient(params, rows, ids):
        return jax.grad(loss)(params, rows, ids)

    def back(saved, adjoint):
        params, rows, ids = saved
        return *jax.jvp(lambda p: jax.grad(loss, (0, 1))(p, rows, ids), (params,), (adjoint,))[1], None

    gradient.defvjp(lambda *args: (gradient(*args), args), back)

    def step(model, state, ids, target, weight, lr):
        grads = gradient(state.params, (target, weight), ids)
        return StudentState(*dense_step(DEFAULT, state.params, grads, state.opt, lr, EPS_ROOT))

    mixed = lambda x, s, pick: inner(x, s, pick, step)  # noqa: E731
    other = jax.jit(lambda x: meta_gradient(outer, mixed, x, state, picks))(learnable)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14), whole, other)


def test_a_window_is_the_same_as_starting_later(problem):
    outer, inner, learnable, state, picks = problem
    late = jax.jit(lambda x: meta_gradient(outer, inner, x, state, picks, window=5))(learnable)
    middle = jax.lax.fori_loop(0, STEPS - 5, lambda i, s: inner(learnable, s, picks[i]), state)
    short = jax.jit(lambda x: meta_gradient(outer, inner, x, middle, picks[STEPS - 5 :]))(learnable)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14), late, short)


def test_rows_without_gradient_give_no_nan_and_would_without_eps_root(problem, whole):
    outer, inner, learnable, state, picks = problem
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(whole[2]))
    plain = optax.scale_by_adam(DEFAULT.b1, DEFAULT.b2, DEFAULT.eps)  # the trap itself: the square root of zero

    def careless(model, state, ids, target, weight, lr):
        grads = jax.grad(lambda p: weighted_loss(model, p, ids, target, weight))(state.params)
        move, opt = plain.update(grads, state.opt)
        return StudentState(jax.tree.map(lambda p, u: p - lr * u, state.params, move), opt)

    trap = lambda x, s, pick: inner(x, s, pick, careless)  # noqa: E731
    grads = jax.jit(lambda x: meta_gradient(outer, trap, x, state, picks)[2])(learnable)
    assert np.isnan(grads['logit']).any()
