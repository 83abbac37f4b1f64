"""Rows that hold lists: what a head is given of them, and that padding never leaks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from listed import (
    DIM,
    LAYOUT,
    NAMES,
    READERS,
    SLOTS,
    B,
    L,
    built,
    drawn,
    layout_of,
    means,
    noisy_head,
    table,
    widened,
)

from diet_jax import models
from diet_jax.base.errors import UserError
from diet_jax.base.layout import PAD, flat
from diet_jax.models import candidates, lists

FLAT = ['lr', 'fm', 'deepfm', 'dcnv2', 'autoint', 'masknet']


@models.register('all_of_the_test')
class All(nn.Module):
    """Gives back what it was given, times a kernel."""

    @nn.compact
    def __call__(self, embeddings, first_order, *, deterministic, sequences):
        parts = [embeddings.reshape(len(embeddings), -1), first_order]
        for seen in sequences.values():
            same = seen.same.sum(1).astype(jnp.float32)
            parts += [seen.values.sum(1), seen.mask.sum(1, keepdims=True).astype(jnp.float32), seen.target, same]
        return nn.Dense(1)(jnp.concatenate(parts, 1))[:, 0]


def test_a_list_is_one_entry_its_mean_and_an_empty_one_is_nothing():
    ids, rows = drawn(), table()
    found = lists.by_field(LAYOUT, None, jnp.asarray(rows[ids]), jnp.asarray(ids))
    np.testing.assert_allclose(found, means(ids, rows), rtol=1e-5, atol=1e-6)
    assert (found[0, 3:] == 0).all()
    kept = (5, 1, 0, 6, 2)
    np.testing.assert_array_equal(lists.by_field(LAYOUT, kept, rows[ids], ids), found[:, kept])


def test_events_are_aligned_columns_with_what_of_the_row_they_are_compared_with():
    ids, rows = drawn(), table()
    found = lists.events(LAYOUT, None, jnp.asarray(rows[ids]), jnp.asarray(ids))
    assert list(found) == ['history', 'words'] and found['history'].shares == (0, 1) and found['words'].shares == ()
    seen = found['history']
    assert seen.values.shape == (B, L, 3 * DIM) and seen.same.shape == (B, L, 3)
    for b in range(B):
        np.testing.assert_array_equal(seen.target[b], [*rows[ids[b, 1], 1:], *rows[ids[b, 2], 1:], *np.zeros(DIM)])
        for t in range(L):
            event = [ids[b, LAYOUT.at(f)][t] for f in (3, 4, 5)]
            there = event[0] != PAD
            assert seen.mask[b, t] == there
            for k, own in enumerate((ids[b, 1], ids[b, 2], None)):
                expected = rows[event[k], 1:] if there and event[k] != PAD else np.zeros(DIM)
                np.testing.assert_array_equal(seen.values[b, t, k * DIM : (k + 1) * DIM], expected)
                assert seen.same[b, t, k] == (there and event[k] == own)
    assert seen.same[1, -1, 0] and seen.same[3, -2:, 1].all() and not found['words'].target.any()
    # Without the item nothing is compared with it; without its list an event is where the next list has one.
    without = lists.events(LAYOUT, (0, 2, 3, 4, 5), rows[ids], ids)['history']
    assert not without.target[:, :DIM].any() and not without.same[..., 0].any() and without.shares == (1,)
    np.testing.assert_array_equal(without.values, seen.values)
    kinds = lists.events(LAYOUT, (2, 4), rows[ids], ids)['history']
    np.testing.assert_array_equal(kinds.mask, ids[:, LAYOUT.at(4)] != PAD)


@pytest.mark.parametrize('name', ['all_of_the_test', *FLAT, *READERS])
def test_padding_is_never_read_and_has_no_derivative_however_wide(name):
    model, wider = built(name), built(name, layout_of(L + 4))
    ids, rows = drawn(), table()
    head = noisy_head(model, LAYOUT.columns)

    @jax.jit
    def both(rows):
        def loss(rows):
            logits = model.rows(head, rows, ids)
            return logits.sum(), logits

        return jax.grad(loss, has_aux=True)(rows)

    gradient, logits = both(rows[ids])
    assert np.isfinite(logits).all() and (np.abs(gradient).sum(-1) > 0).sum() > B
    for junk in (np.nan, np.inf, -1e30):
        spoilt = both(np.where((ids == PAD)[..., None], np.float32(junk), rows[ids]))
        np.testing.assert_array_equal(spoilt[1], logits)
        np.testing.assert_array_equal(spoilt[0], gradient)
        assert (np.asarray(spoilt[0])[ids == PAD] == 0).all()
    wide_ids = widened(ids, 4)
    np.testing.assert_allclose(jax.jit(wider.rows)(head, rows[wide_ids], wide_ids), logits, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize('name', FLAT)
def test_a_head_of_before_sees_the_means(name):
    model, of_means = models.build(name, dim=DIM, layout=LAYOUT), models.build(name, dim=DIM)
    ids, rows = drawn(), table()
    params = model.init(jax.random.key(0), SLOTS, LAYOUT.columns)
    jax.tree.map(np.testing.assert_array_equal, params, of_means.init(jax.random.key(0), SLOTS, len(NAMES)))
    head = noisy_head(model, LAYOUT.columns)
    expected = of_means.rows(head, means(ids, rows).astype(np.float32))
    np.testing.assert_allclose(model.apply({'table': rows, 'head': head}, ids), expected, rtol=1e-5, atol=1e-5)


def test_a_layout_without_lists_is_the_model_of_before():
    assert models.build('fm', layout=flat(NAMES)) is models.build('fm')
    assert models.of('fm', 4, flat(NAMES)) is models.of('fm', 4)
    assert models.build('fm', layout=LAYOUT) is models.build('fm', layout=layout_of())
    assert models.build('fm', layout=LAYOUT) is not models.build('fm')
    assert models.build('fm', layout=LAYOUT).layout == LAYOUT and models.build('fm').layout is None


def test_candidates_drop_fields_lists_and_whole_sequences():
    def kept(*drop, model='fm'):
        found = candidates.candidate(dict(model=model, drop=drop), 4, LAYOUT, {'creator': 'tab'})
        return [NAMES[f] for f in found.model.keep]

    assert kept('user', 'creator') == ['item', 'clicked', 'kind', 'gap', 'words']
    assert kept('gap') == ['user', 'item', 'tab', 'clicked', 'kind', 'words']
    assert kept('history') == ['user', 'item', 'tab', 'words']
    assert kept('words') == ['user', 'item', 'tab', 'clicked', 'kind', 'gap']
    with pytest.raises(UserError, match=r"drops 'histori', which is no field of the log \(did you mean 'history'\?\)"):
        kept('histori')
    one, wide = (candidates.candidate('fm', 4, layout) for layout in (LAYOUT, layout_of(L + 1)))
    assert one.program() != wide.program() and one.inputs() == wide.inputs()
    old = candidates.candidate('fm', 4, ['user', 'item'])
    assert old.program() == [{'model': 'fm', 'dim': 4}, None, '']


def test_mistakes_are_one_clear_line():
    with pytest.raises(ValueError, match='has lists: it takes ids'):
        models.build('fm', dim=DIM, layout=LAYOUT).rows({}, table()[drawn()])
    with pytest.raises(ValueError, match=f'layout of {LAYOUT.columns} columns, and was given 7'):
        models.build('fm', dim=DIM, layout=LAYOUT).init(jax.random.key(0), SLOTS, 7)
    with pytest.raises(UserError, match='field 9, but there are 7'):
        models.build('fm', layout=LAYOUT, keep=(9,))
    for layout in (None, flat(NAMES)):
        with pytest.raises(UserError, match="'all_of_the_test' reads a sequence, and the log has none: add data.hist"):
            models.build('all_of_the_test', layout=layout)
    with pytest.raises(UserError, match='reads a sequence, and sees none'):
        models.build('all_of_the_test', layout=LAYOUT, keep=(0, 1))
    with pytest.raises(UserError, match=r"'din': sequence='histori' is none that it sees \(did you mean 'history'\?\)"):
        built('din', sequence='histori')
    with pytest.raises(UserError, match=r"sequence='words' is none that it sees \(there are: history\)"):
        built('din', sequence='words', keep=(0, 3))
    for options, words in (
        (dict(name='sim', sequence='words'), 'search=-1, but of the sequence 0 columns share a field'),
        (dict(name='sim', search=2), 'search=2, but of the sequence 2 columns'),
        (dict(name='sim', heads=3), 'sim: attention_dim=4 is not a multiple of heads=3'),
        (dict(name='bst', heads=3), 'bst: attention_dim=4 is not a multiple of heads=3'),
        (dict(name='din', max_len=0), 'max_len=0 is below 1'),
    ):
        with pytest.raises(UserError, match=words):
            built(**options).init(jax.random.key(0), SLOTS, LAYOUT.columns)


class Recent(nnx.Module):
    """A head in NNX that reads the history's last event."""

    def __init__(self, num_fields: int, dim: int, *, sequences: dict, rngs: nnx.Rngs):
        assert sequences == {'history': 3 * dim, 'words': dim}
        self.last = nnx.Linear(num_fields + sequences['history'], 1, rngs=rngs)

    def __call__(self, embeddings, first_order, *, deterministic, sequences):
        return self.last(jnp.concatenate([first_order, sequences['history'].values[:, -1]], 1))[:, 0]


def test_an_nnx_module_reads_sequences_as_a_linen_one_does():
    models.register('nnx_recent')(Recent)
    model = models.build('nnx_recent', dim=DIM, layout=LAYOUT)
    ids, rows = drawn(), table()
    params = model.init(jax.random.key(0), SLOTS, LAYOUT.columns)
    last = [
        rows[ids[:, LAYOUT.at(f).stop - 1], 1:] * (ids[:, LAYOUT.at(f).stop - 1] != PAD)[:, None] for f in (3, 4, 5)
    ]
    x = np.concatenate([means(ids, rows)[..., 0], *last], 1)
    expected = x @ np.asarray(params['head']['last']['kernel'])[:, 0]
    np.testing.assert_allclose(model.apply({**params, 'table': rows}, ids), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="no option 'sequences'.*it takes none"):
        models.build('nnx_recent', dim=DIM, layout=LAYOUT, sequences={})
