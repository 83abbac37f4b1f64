"""Rivals against their definitions, written once more in numpy; and labels that gradient matching finds again."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from core import CAPACITY, DEEP, FIELDS, OWNER, SLOTS, clicks, tiny_model

from diet_jax.base.errors import UserError
from diet_jax.study import rivals
from diet_jax.training.losses import row_losses

ROWS, N = 160, 12
CHOSEN = tuple(name for name in rivals.ROWS if name != 'cgm')  # its labels are learned


def params_of(model, seed, std=0.4):
    """Parameters far from an initialisation, where rows differ."""
    params = model.init(jax.random.key(seed), CAPACITY, FIELDS)
    return {**params, 'table': std * jax.random.normal(jax.random.key(seed + 1), params['table'].shape)}


@pytest.fixture(scope='module')
def seen() -> rivals.Seen:
    ids, label, _ = clicks(ROWS, seed=6)
    return rivals.Seen(ids, label, DEEP, params_of(DEEP, 0))


@pytest.fixture(scope='module')
def logits(seen):
    return np.asarray(DEEP.apply(seen.params, seen.ids), np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def largest(score, n):
    """By a sort of pairs: the earlier of equals first."""
    return sorted(i for _, i in sorted((-s, i) for i, s in enumerate(score))[:n])


# What every rule promises.


@pytest.mark.parametrize('name', rivals.ROWS)
def test_rows_are_different_and_in_time_order_and_the_seed_decides(seen, logits, name):
    one, again = (rivals.choose(name, seen, N, seed=3) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert [x.dtype for x in one] == [np.int64, np.float32, np.float32]
    assert len(one.index) == N and np.all(np.diff(one.index) > 0) and 0 <= one.index[0] and one.index[-1] < ROWS
    if name in CHOSEN:
        own = seen.label[one.index] if name != 'nacs' else rivals.corrected(seen.label[one.index], one.soft)
        np.testing.assert_array_equal(one.own, own)
        np.testing.assert_allclose(one.soft, sigmoid(logits)[one.index], rtol=1e-5)
    other = rivals.choose(name, seen, N, seed=4).index
    assert np.array_equal(one.index, other) == (name not in ('random', 'k_center', 'cgm', 'nacs'))


@pytest.mark.parametrize('name', CHOSEN)
def test_all_rows_are_all_rows(seen, name):
    np.testing.assert_array_equal(rivals.choose(name, seen, ROWS, seed=0).index, np.arange(ROWS))


@pytest.mark.parametrize(
    'name, n, code, says',
    [
        ('hearding', N, None, "no rival is named 'hearding' (did you mean 'herding'?); there are: random, recent, "),
        ('random', ROWS + 1, None, 'cannot choose n=161 of the 160 rows of the log; take 1 to 160'),
        ('k_center', 0, None, 'cannot choose n=0'),
        ('cgm', N, np.zeros(7, np.int32), 'code has 7 slots'),
    ],
)
def test_a_mistake_is_one_line(seen, name, n, code, says):
    with pytest.raises(UserError) as error:
        rivals.choose(name, seen, n, 0, code)
    assert says in str(error.value)


# Rules that look at time and chance alone.


def test_recent_is_the_end_of_the_log(seen):
    np.testing.assert_array_equal(rivals.choose('recent', seen, N, 0).index, np.arange(ROWS - N, ROWS))


def test_random_takes_every_row_equally_often(seen):
    drawn = np.concatenate([rivals.ROWS['random'](seen, 40, seed) for seed in range(400)])
    times = np.bincount(drawn, minlength=ROWS)  # 400 draws of a quarter: 100 +- 8.7
    assert abs(times - 100).max() < 5 * 8.7


# Rules that rank rows.


def test_el2n_is_its_formula_and_on_clicks_the_largest_loss(seen, logits):
    p = sigmoid(logits)
    error, loss = np.abs(p - seen.label), -np.log(np.where(seen.label > 0, p, 1 - p))
    np.testing.assert_array_equal(rivals.choose('el2n', seen, N, 0).index, largest(error, N))
    assert largest(error, N) == largest(loss, N)


@pytest.mark.parametrize('name', ['el2n', 'grand'])
def test_the_earlier_of_equals_wins(seen, logits, name):
    """One row 300 times, with random clicks: two scores, and the clicks that surprise more come first."""
    label = np.float32(np.random.default_rng(0).random(300) < 0.5)
    copies = seen._replace(ids=np.tile(seen.ids[:1], (300, 1)), label=label)
    surprising = np.flatnonzero(label == (logits[0] < 0))
    np.testing.assert_array_equal(rivals.choose(name, copies, 5, 0).index, surprising[:5])


def test_grand_is_the_norm_of_the_rows_own_gradient(seen):
    @jax.jit
    def dense(ids, label):
        """The gradient over the whole table."""
        grads = jax.grad(lambda p: row_losses(DEEP.apply(p, ids[None]), label[None])[0])(seen.params)
        return sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)) ** 0.5

    expected = np.array([dense(*row) for row in zip(seen.ids, seen.label)])
    for chunk in (7, 256):
        norms = rivals.gradient_norms(DEEP, seen.params, seen.ids, seen.label, chunk=chunk)
        np.testing.assert_allclose(norms, expected, rtol=1e-4)
    np.testing.assert_array_equal(rivals.choose('grand', seen, N, 0).index, largest(expected, N))


# Rules that cover a space.


def places(seen, logits):
    """The 16 principal components (of all rows: there are fewer than the basis takes) and twice the logit."""
    flat = np.asarray(seen.params['table'], np.float64)[seen.ids][..., 1:].reshape(len(seen.ids), -1)
    axes = np.linalg.svd(flat - flat.mean(0))[2][: rivals.COMPONENTS]
    return np.concatenate([flat @ axes.T, rivals.LOGIT_WEIGHT * logits[:, None]], 1)


def herded(points, count):
    """Greedy by brute force: each next point keeps the mean of the chosen nearest to the mean of all."""
    chosen = []
    for _ in range(count):
        rest = [i for i in range(len(points)) if i not in chosen]
        gap = [np.linalg.norm(points.mean(0) - points[[*chosen, i]].mean(0)) for i in rest]
        chosen.append(rest[int(np.argmin(gap))])
    return chosen


def test_herding_is_the_greedy_matching_of_the_mean():
    with jax.enable_x64(True):
        points = np.random.default_rng(0).normal(size=(40, 3)) + 5.0
        found = rivals.herd(points - points.mean(0), 40)
    np.testing.assert_array_equal(found, herded(points, 40))


def test_herding_goes_class_by_class_and_keeps_the_click_rate(seen, logits):
    points, clicked = places(seen, logits), np.flatnonzero(seen.label)
    rest = np.setdiff1d(np.arange(ROWS), clicked)
    clicks = round(N * len(clicked) / ROWS)
    expected = [*clicked[herded(points[clicked], clicks)], *rest[herded(points[rest], N - clicks)]]
    index = rivals.choose('herding', seen, N, 0).index
    np.testing.assert_array_equal(index, np.sort(expected))
    gap = lambda rows: np.linalg.norm(points[rows].mean(0) - points.mean(0))  # noqa: E731
    assert gap(index) < 0.5 * min(gap(rivals.choose('random', seen, N, seed).index) for seed in range(5))


def test_a_log_of_one_class_is_herded(seen):
    unclicked = seen._replace(label=np.zeros(ROWS, np.float32))
    assert len(rivals.choose('herding', unclicked, N, 0).index) == N


def farthest(points, count, first):
    chosen = [first]
    while len(chosen) < count:
        chosen.append(int(np.argmax([min(np.linalg.norm(p - points[c]) for c in chosen) for p in points])))
    return chosen


def test_k_center_goes_to_the_farthest_row(seen, logits):
    index = rivals.choose('k_center', seen, N, 7).index
    first = np.random.default_rng(7).integers(ROWS)
    np.testing.assert_array_equal(index, np.sort(farthest(places(seen, logits), N, first)))


@pytest.mark.parametrize('seed', range(4))
def test_k_center_covers_within_twice_the_best_radius(seed):
    points = np.random.default_rng(seed).normal(size=(11, 2)).astype(np.float32)
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    radius = lambda centers: distance[:, list(centers)].min(1).max()  # noqa: E731
    best = min(radius(centers) for centers in itertools.combinations(range(11), 3))
    assert radius(np.asarray(rivals.farthest_first(points, 3, seed))) <= 2 * best + 1e-6


def test_k_center_takes_no_row_twice_where_rows_are_copies():
    points = np.repeat(np.eye(3, dtype=np.float32), 3, axis=0)
    found = np.asarray(rivals.farthest_first(points, 7, 4))
    np.testing.assert_array_equal(found, [4, 0, 6, 1, 2, 3, 5])  # one of each, then copies by position


@pytest.mark.parametrize('seed', range(3))
def test_a_cover_of_a_line_is_greedy_facility_location(seed):
    x = np.random.default_rng(seed).normal(size=9)
    widest = np.ptp(x)
    worth = lambda chosen: sum(max(widest - abs(a - x[j]) for j in chosen) for a in x)  # noqa: E731
    chosen = []
    for _ in range(4):
        chosen.append(max((i for i in range(9) if i not in chosen), key=lambda i: worth([*chosen, i])))
    assert rivals.cover(x, 4).tolist() == chosen
    best = max(worth(some) for some in itertools.combinations(range(9), 4))
    assert worth(chosen) >= (1 - 1 / np.e) * best


def test_nacs_keeps_the_click_rate_and_leaves_out_what_even_a_corrected_label_does_not_explain(seen, logits):
    n = 60
    index, p = rivals.choose('nacs', seen, n, 0).index, sigmoid(logits)
    y = rivals.corrected(seen.label, p)
    loss = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert abs(seen.label[index].mean() - seen.label.mean()) < 0.12
    others = [rivals.choose('random', seen, n, seed).index for seed in range(20)]
    assert np.sort(loss[index])[-6:].mean() < np.mean([np.sort(loss[o])[-6:].mean() for o in others])


def test_labels_are_corrected_as_far_as_the_model_is_sure():
    y, p = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.5, 0.5, 1e-9, 0.9])
    trust = 1 + 0.9 * np.log2(0.9) + 0.1 * np.log2(0.1)
    np.testing.assert_allclose(rivals.corrected(y, p), [1, 0, 0, 0.9 * trust], atol=1e-6)


# Gradient matching.

distance = jax.jit(rivals.gradient_distance, static_argnums=0)


@pytest.fixture(scope='module')
def planted():
    """24 rows; a log in which each is there 40 times, clicked at its true rate; and labels of which 8 are flipped."""
    rows, _, logit = clicks(24, seed=8)
    truth = np.round(40 * sigmoid(logit)) / 40
    ids = np.repeat(rows, 40, axis=0)
    label = np.concatenate([np.arange(40) < round(40 * p) for p in truth]).astype(np.float32)
    start = (truth > 0.5).astype(np.float32)
    start[::3] = 1 - start[::3]
    return rows, truth, ids, label, start


def test_gradient_distance_is_the_sum_of_cosine_distances(planted):
    rows, truth, ids, label, start = planted
    params = params_of(DEEP, 5)
    few = rows[:5]

    mean = lambda p, ids, label: jnp.mean(row_losses(DEEP.apply(p, ids), label))  # noqa: E731
    dense = jax.jit(jax.grad(mean))

    def gradient(ids, label):
        grads = jax.tree.map(lambda x: np.asarray(x, np.float64), dense(params, ids, label))
        table = grads['table'][np.unique(few)]
        return [table[:, 0], table[:, 1:], *jax.tree.leaves(grads['head'])]

    cosine = lambda a, b: np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))  # noqa: E731
    expected = sum(1 - cosine(a, b) for a, b in zip(gradient(few, start[:5]), gradient(ids, label)))
    found = distance(DEEP, params, few, start[:5], ids, label)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    exact = distance(DEEP, params, rows, np.float32(truth), ids, label)
    np.testing.assert_allclose(exact, 0.0, atol=1e-5)  # the true rates have the log's gradient


def test_matching_finds_labels_again(planted):
    rows, truth, ids, label, start = planted
    model = tiny_model('fm')
    starts = jnp.asarray(np.stack([start, truth]), jnp.float32)
    labels, distances = rivals.match_gradients(model, rows, starts, ids, label, CAPACITY, jax.random.key(0))
    labels, distances = np.asarray(labels), np.asarray(distances)
    assert distances.shape == (rivals.STEPS, 2) and distances[-5:, 0].mean() < 0.2 * distances[:5, 0].mean()
    np.testing.assert_allclose(distances[:, 1], 0.0, atol=0.02)  # the truth stays where it is
    np.testing.assert_allclose(labels[1], truth, atol=0.05)
    assert np.all((labels >= 0) & (labels <= 1))
    before, after = (np.corrcoef(x, truth)[0, 1] for x in (start, labels[0]))
    assert before < 0.5 and after > 0.9
    # Measured on initialisations that it has not seen.
    params = [model.init(jax.random.key(100 + i), CAPACITY, FIELDS) for i in range(3)]
    far, near = (np.mean([distance(model, p, rows, x, ids, label) for p in params]) for x in (start, labels[0]))
    assert near < 0.2 * far


def test_a_tensor_without_gradient_gives_no_nan(planted):
    rows, _, ids, label, start = planted
    lr = tiny_model('lr')
    params = lr.init(jax.random.key(0), CAPACITY, FIELDS)
    value, grads = jax.value_and_grad(lambda y: distance(lr, params, rows, y, ids, label))(start)
    assert 1 <= value < 4 and np.isfinite(grads).all() and np.abs(grads).max() > 0


def test_codes_that_number_the_sub_table_change_nothing(seen):
    """Without a codebook, students read the rows' own slots in order, then one untrained row a field."""
    plain = rivals.choose('cgm', seen, 5, 1)
    slots = np.unique(seen.ids[plain.index])
    owner = np.concatenate([OWNER, np.full(CAPACITY - SLOTS, FIELDS - 1)])
    code = len(slots) + owner
    code[slots] = np.arange(len(slots))
    jax.tree.map(np.testing.assert_array_equal, plain, rivals.choose('cgm', seen, 5, 1, np.int32(code)))
    assert np.abs(plain.own - seen.label[plain.index]).max() > 0.05  # learned
    np.testing.assert_array_equal(plain.index, rivals.choose('random', seen, 5, 1).index)
