"""The nearest entry is the one that a search through all pairs finds, whatever the search leaves out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diet_jax.distillation.nearest import nearest, tiles

N, M, Z = 90, 40, 3


@jax.jit
def search(points, live, entries, there, bound):
    return nearest(tiles(points, live, 16), tiles(entries, there, 4), bound)


def brute(points, live, entries, there, bound):
    """The first of the nearest, over all pairs, in the same order of additions."""
    square = np.zeros((N, M), np.float32)
    for z in range(Z):
        square = square + (points[:, None, z] - entries[None, :, z]) ** 2
    square = np.where(there, square, np.inf)
    best, least = square.argmin(1), square.min(1)
    found = live & (least < bound)
    return np.where(found, best, -1), np.where(found, least, bound)


def grid(rng, shape):
    """Whole numbers: many points at one place, and many entries equally far from each."""
    return rng.integers(0, 3, shape).astype(np.float32)


def spread(rng, shape):
    """As places are: the last coordinate says most."""
    return (rng.normal(size=shape) * [0.2, 0.1, 3.0]).astype(np.float32)


def flat(rng, shape):
    """The last coordinate says nothing: every tile has to be looked at."""
    return (rng.normal(size=shape) * [1.0, 1.0, 0.0]).astype(np.float32)


@pytest.mark.parametrize('make', [grid, spread, flat])
@pytest.mark.parametrize('share', [0.0, 0.3, 1.0])
def test_it_is_a_search_through_all_pairs_and_the_first_of_equals_wins(make, share):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        points, entries = make(rng, (N, Z)), make(rng, (M, Z))
        live, there = rng.random(N) < 0.8, rng.random(M) < share
        for bound in (np.full(N, np.inf, np.float32), rng.random(N).astype(np.float32) * 2):
            found, distance = search(points, live, entries, there, bound)
            best, least = brute(points, live, entries, there, bound)
            np.testing.assert_array_equal(found, best)
            np.testing.assert_allclose(distance, least, rtol=1e-6)  # XLA may fuse the multiplication with the sum


def test_what_is_far_in_the_last_coordinate_is_not_looked_at():
    """Entries that would poison every sum they came into stand far away, and do not."""
    rng = np.random.default_rng(0)
    points, entries = spread(rng, (N, Z)), spread(rng, (M, Z))
    entries[:8] = np.nan, np.nan, 1e6
    everything = np.ones(N, bool), np.ones(M, bool)
    found, distance = search(points, everything[0], entries, everything[1], np.full(N, np.inf, np.float32))
    assert np.isfinite(distance).all() and (np.asarray(found) >= 8).all()


def test_the_padding_of_the_tiles_holds_nothing():
    points = jnp.asarray(spread(np.random.default_rng(1), (N, Z)))
    cut = tiles(points, jnp.arange(N) < 70, 32)
    inside = np.asarray(cut.index).ravel()[:70]
    assert cut.used == 3 and sorted(inside) == list(range(70))
    assert (np.diff(np.asarray(cut.lead).ravel()[:70]) >= 0).all()
    assert np.isinf(np.asarray(cut.lead).ravel()[70:]).all()
