"""Rows that hold lists: a layout, ids with every length of list, small models on them."""

import jax
import numpy as np

from diet_jax import models
from diet_jax.base.layout import PAD, Layout

B, DIM, L, SLOTS = 6, 3, 5, 12
NAMES = ('user', 'item', 'tab', 'clicked', 'kind', 'gap', 'words')
OWNERS, SEQUENCES = (0, 1, 2, 1, 2, 5, 6), ('', '', '', 'history', 'history', 'history', 'words')
READERS = ['bst', 'dien', 'din', 'sim']
OPTIONS = {name: {'sequence': 'history', 'hidden': (6, 5)} for name in READERS}
OPTIONS |= {name: OPTIONS[name] | {'heads': 2, 'attention_dim': 4} for name in ('bst', 'sim')}
OPTIONS['din'] |= {'unit': (7, 4)}


def layout_of(width=L):
    """Three fields, a sequence of items, their kinds (as `tab`) and gaps of time, and words of two columns more."""
    return Layout(NAMES, (1, 1, 1, width, width, width, width + 2), OWNERS, SEQUENCES)


LAYOUT = layout_of()


def built(name, layout=LAYOUT, **options):
    return models.build(name, dim=DIM, layout=layout, **{**OPTIONS.get(name, {}), **options})


def drawn(layout=LAYOUT, seed=0):
    """Ids i32[B, W]: row 0 has no event at all, row 1 all of them; a kind is missing of an event in row 1."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, SLOTS, (B, layout.columns)).astype(np.int32)
    length = np.array([0, L, 1, 2, 3, 4])
    for f in layout.lists:
        for b in range(B):
            ids[b, layout.at(f)][: layout.widths[f] - length[b]] = PAD
    ids[1, layout.at(4)][-2] = PAD
    ids[1, layout.at(3)][-1] = ids[1, 1]
    ids[3, layout.at(4)][-2:] = ids[3, 2]
    return ids


def table(seed=1):
    return np.random.default_rng(seed).normal(size=(SLOTS, 1 + DIM)).astype(np.float32)


def widened(ids, more):
    """The same rows with `more` columns of padding before every list of LAYOUT."""
    parts = []
    for f in range(len(NAMES)):
        part = ids[:, LAYOUT.at(f)]
        parts.append(np.pad(part, ((0, 0), (more if f in LAYOUT.lists else 0, 0)), constant_values=PAD))
    return np.concatenate(parts, 1)


def noisy_head(model, columns, seed=2):
    """Parameters none of which is 0."""
    head = jax.eval_shape(lambda key: model.init(key, 1, columns), jax.random.key(0))['head']
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: np.float32(rng.normal(size=p.shape) * 0.5), head)


def means(ids, rows):
    """f64[B, F, 1 + dim]: an entry a field, by loops."""
    out = np.zeros((B, len(NAMES), 1 + DIM))
    for f in range(len(NAMES)):
        for b in range(B):
            there = [rows[c] for c in ids[b, LAYOUT.at(f)] if c != PAD]
            out[b, f] = np.mean(there, 0) if there else 0
    return out
