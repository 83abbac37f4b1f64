"""What a codebook promises, against an independent k-means and against plain counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from core import CAPACITY, CODES, DIM, FIELDS, OWNER, SIZES, SLOTS, START, assert_near, assert_same, clicks, empty_book

from diet_jax.device.tiling import CPU
from diet_jax.distillation import codebook

SMALL, LARGE = [f for f in range(FIELDS) if SIZES[f] <= CODES], [f for f in range(FIELDS) if SIZES[f] > CODES]
extend = jax.jit(codebook.extend)


def extended(book, table, ids, weight=None, times=1):
    """The next codebook, and the share of the block's occurrences that changed code.

    times: a stage is one step of k-means; those after the first bring no rows.
    """
    share = np.ones(ids.shape) if weight is None else np.repeat(np.asarray(weight)[:, None], ids.shape[1], 1)
    out = extend(book, table, ids, jnp.asarray(share, jnp.float32))
    for _ in range(times - 1):
        out = extend(out[0], table, ids, jnp.zeros(ids.shape))
    return out


def embeddings(seed=0, capacity=CAPACITY):
    return np.random.default_rng(seed).normal(size=(capacity, 1 + DIM)).astype(np.float32)


def everything(rows=300, seed=0):
    """A block in which every slot occurs."""
    ids = clicks(rows, seed)[0]
    for field, size in enumerate(SIZES):
        ids[:size, field] = START[field] + np.arange(size)
    return ids


def occurrences(ids):
    return np.bincount(ids.reshape(-1), minlength=CAPACITY)


def lloyd_by_hand(points, mass, seeds, steps):
    """Weighted k-means from the points `seeds`; an empty cluster is out for good. -> (code, centroids, counts)."""
    points, centroids = points.astype(float), points[seeds].astype(float)
    live = np.ones(len(seeds), bool)

    def assign():
        square = ((points[:, None] - centroids[None]) ** 2).sum(-1)
        return np.where(live, square, np.inf).argmin(1)

    def update(code):
        counts = np.bincount(code, mass, len(seeds))
        for k in np.flatnonzero(counts):
            centroids[k] = np.average(points[code == k], axis=0, weights=mass[code == k])
        return counts

    for _ in range(steps):
        live = update(assign()) > 0
    code = assign()
    return code, centroids, update(code)


@pytest.mark.parametrize('seed', range(5))
def test_an_independent_lloyd_finds_the_same_codes(seed):
    table, ids = embeddings(seed), everything(seed=seed)
    book, _ = extended(empty_book(), table, ids, times=4)
    for field in LARGE:
        slots = START[field] + np.arange(SIZES[field])
        mass = occurrences(ids)[slots].astype(float)
        seeds = np.argsort(-mass, kind='stable')[:CODES]  # nothing is known: the most frequent ids
        code, centroids, counts = lloyd_by_hand(table[slots], mass, seeds, 3)
        np.testing.assert_array_equal(np.asarray(book.code)[slots] - field * CODES, code)
        np.testing.assert_allclose(book.centroids[field][counts > 0], centroids[counts > 0], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(book.counts[field], counts)


def test_a_small_field_keeps_its_ids_apart_and_their_codes_never_move():
    book = empty_book()
    for stage in range(4):
        book, _ = extended(book, embeddings(stage), everything(seed=stage))  # the embeddings change altogether
        for field in SMALL:
            slots = START[field] + np.arange(SIZES[field])
            np.testing.assert_array_equal(np.asarray(book.code)[slots], field * CODES + np.arange(SIZES[field]))


def test_ids_of_a_small_field_stay_where_they_were_when_others_come_later():
    ids = everything()
    late = START[0] + 4
    ids[ids == late] = START[0]
    book, _ = extended(empty_book(), embeddings(), ids)
    newer, _ = extended(book, embeddings(1), everything())
    early = np.setdiff1d(START[0] + np.arange(SIZES[0]), [late])
    assert_same(book.code[early], newer.code[early])
    assert len(np.unique(newer.code[START[0] : START[0] + SIZES[0]])) == SIZES[0]


def test_counts_are_occurrences_of_all_blocks():
    book, seen = empty_book(), np.zeros(CAPACITY)
    for stage in range(3):
        ids = clicks(200, stage)[0]
        seen += occurrences(ids)
        book, _ = extended(book, embeddings(stage), ids)
        np.testing.assert_array_equal(book.frequency, seen)
        np.testing.assert_array_equal(book.counts.sum(1), np.full(FIELDS, 200 * (stage + 1)))
        expected = np.bincount(np.asarray(book.code), seen, FIELDS * CODES).reshape(FIELDS, CODES)
        np.testing.assert_array_equal(book.counts, expected)


def test_every_code_belongs_to_the_slots_own_field():
    book, _ = extended(empty_book(), embeddings(), clicks(50, 1)[0])
    np.testing.assert_array_equal(np.asarray(book.code)[:SLOTS] // CODES, OWNER)


def test_centroids_are_the_weighted_means_of_their_ids():
    table, ids = embeddings(), clicks(200, 2)[0]
    book, _ = extended(empty_book(), table, ids)
    for code in np.flatnonzero(np.asarray(book.counts).reshape(-1)):
        mine = np.asarray(book.code) == code
        mean = np.average(table[mine], axis=0, weights=occurrences(ids)[mine])
        np.testing.assert_allclose(book.centroids.reshape(-1, 1 + DIM)[code], mean, rtol=1e-4, atol=1e-5)


def test_a_slot_never_seen_has_the_code_nearest_to_zero():
    ids = everything()
    unseen = START + np.array([5, 19, 3, 0])
    for field, slot in enumerate(unseen):
        ids[ids[:, field] == slot, field] = START[field] + 1
    table = embeddings()
    table[unseen] += 50.0  # whatever its own row says
    book, _ = extended(empty_book(), table, ids, times=20)  # converged: the centroids are those of the assignment
    square = np.where(np.asarray(book.counts) > 0, (np.asarray(book.centroids) ** 2).sum(-1), np.inf)
    np.testing.assert_array_equal(np.asarray(book.code)[unseen], np.arange(FIELDS) * CODES + square.argmin(1))


def test_a_drift_moves_the_centroids_and_no_code():
    """k-means commutes with a translation."""
    ids, table, drift = everything(), embeddings(), np.float32(np.linspace(-3, 3, 1 + DIM))
    book, _ = extended(empty_book(), table, ids, times=20)
    again, moved = extended(book, table + drift, ids, times=20)
    assert moved == 0
    assert_same(book.code[:SLOTS], again.code[:SLOTS])
    live = np.asarray(book.counts) > 0
    np.testing.assert_allclose(again.centroids[live], book.centroids[live] + drift, rtol=1e-4, atol=1e-4)


def test_an_id_first_seen_joins_the_code_it_is_nearest_to():
    field, new = 1, START[1] + 7
    ids = everything()
    ids[ids == new] = START[field]
    table = embeddings()
    book, _ = extended(empty_book(), table, ids, times=20)
    assert (book.counts[field] > 0).all()  # no code is free
    for code in range(CODES):
        table[new] = np.asarray(book.centroids[field, code]) + 0.01
        block = everything()
        after, _ = extended(book, table, block, times=20)
        assert after.code[new] == field * CODES + code


def test_free_codes_go_to_the_ids_described_worst():
    """Three ids took three codes; of the twelve that come, the five with most frequency x distance^2 get the rest."""
    field, slots = 2, START[2] + np.arange(12)
    ids = everything()
    ids[:, field] = slots[np.arange(len(ids)) % 3]
    table = np.zeros((CAPACITY, 1 + DIM), np.float32)
    table[slots, 0] = [0, 10, 20, 0.1, 10.1, 20.1, 0.2, 43, 55, 67, 80, 95]
    book, _ = extended(empty_book(), table, ids)
    assert (np.asarray(book.counts[field]) > 0).sum() == 3
    ids[:, field] = slots[np.arange(len(ids)) % 12]
    after, _ = extended(book, table, ids)
    code = np.asarray(after.code)[slots]
    assert len(set(code[7:])) == 5 and not set(code[7:]) & set(code[:7])
    np.testing.assert_array_equal(code[[3, 4, 5, 6]], code[[0, 1, 2, 0]])
    np.testing.assert_array_equal(code[:3], np.asarray(book.code)[slots[:3]])


def test_moved_is_the_share_of_occurrences_whose_code_changed():
    book, first = extended(empty_book(), embeddings(), everything())
    ids = clicks(100, 5)[0]
    after, moved = extended(book, embeddings(7), ids)
    changed = np.asarray(after.code) != np.asarray(book.code)
    np.testing.assert_allclose(moved, changed[ids].mean(), rtol=1e-6)
    assert 0 < moved < 1


def test_rows_of_padding_and_their_order_do_not_matter():
    ids = everything()
    weight = (np.arange(300) < 220).astype(np.float32)
    one = extended(empty_book(), embeddings(), ids, weight)
    junk = np.where(weight[:, None] > 0, ids, START.astype(np.int32))
    assert_same(one, extended(empty_book(), embeddings(), junk, weight))
    order = np.random.default_rng(0).permutation(300)
    assert_same(one, extended(empty_book(), embeddings(), ids[order], weight[order]))


def test_slots_of_padding_do_not_matter():
    ids, more = everything(), 17
    table = embeddings()
    book, moved = extended(empty_book(), table, ids)
    wide = np.concatenate([table, np.full((more, 1 + DIM), 99.0, np.float32)])
    other, other_moved = extended(empty_book(CAPACITY + more), wide, ids)
    assert_same(
        (book.code[:SLOTS], book.counts, book.frequency[:SLOTS]),
        (other.code[:SLOTS], other.counts, other.frequency[:SLOTS]),
    )
    assert_near(book.centroids, other.centroids, 1e-6)
    assert moved == other_moved


@pytest.mark.parametrize('slots, first', [(5, 0), (7, 11), (8192, 0)])
def test_assign_is_a_brute_force_search_among_live_codes(slots, first, monkeypatch):
    monkeypatch.setattr(codebook, 'tiling', lambda: CPU._replace(slots=slots))
    rng = np.random.default_rng(3)
    points, centroids = embeddings(), rng.normal(size=(FIELDS, CODES, 1 + DIM)).astype(np.float32)
    fields, live = rng.integers(0, FIELDS, CAPACITY), rng.random((FIELDS, CODES)) < 0.6
    position = np.array([first + np.sum(fields[:k] == fields[k]) for k in range(CAPACITY)])  # a share may begin later
    position[-4:], points[-4:] = -1, 0.0
    code, distance = codebook.assign(*map(jnp.asarray, (points, fields, position, centroids, live)))
    square = ((points[:, None].astype(float) - centroids[fields]) ** 2).sum(-1)
    square = np.where(live[fields], square, np.inf)
    np.testing.assert_array_equal(code, fields * CODES + square.argmin(1))
    np.testing.assert_allclose(distance, square.min(1), rtol=1e-4, atol=1e-5)
