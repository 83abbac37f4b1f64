"""Rivals: other ways to choose, or to learn, n rows of the log, which a distilled memory must beat.

`choose(name, seen, n, seed)` picks n of the rows of D_1..D_t, each rule having the log and the reference model:

* `random`, `recent`: uniform without replacement; the last n.
* `el2n`, `grand` (Paul et al. 2021, arXiv:2107.07075): largest |sigmoid(z) - y|; largest norm of the row's loss
  gradient. Theirs are means over young models; these take the one model at hand, the trained reference.
  Largest LogLoss picks the rows of `el2n`: on clicks it is -log(1 - EL2N).
* `herding` (Welling 2009, doi:10.1145/1553374.1553517): greedy matching of the mean, per class, as iCaRL does.
* `k_center` (Sener & Savarese 2018, arXiv:1708.00489): farthest-first traversal, a 2-approximation of the cover.
* `cgm`: the rows of `random`, their labels learned by gradient matching (`match_gradients`).
* `nacs`: NaCS's noise-aware coreset (Tran et al. 2026, arXiv:2601.10067): labels corrected as far as the model is sure
  (`corrected`), rows that cover the gradients of each class (`cover`), the noisiest tenth left out.

Rules choose among the rows as they stand in the log, and students train on what they choose with its weights
(`data.weight`); the gradients that `cgm` matches are weighted means.

Herding and k_center work where the memory's addressing works (`memory.places`): 16 principal components of the row's
embeddings in the reference model, and its weighted logit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diet_jax import models
from diet_jax.base.errors import UserError, closest
from diet_jax.base.layout import Layout, flat, renamed
from diet_jax.device.tiling import chunked
from diet_jax.distillation.address import places, principal_basis
from diet_jax.models.lists import by_field
from diet_jax.training.losses import row_losses, weighted_loss
from diet_jax.training.passes import predict
from diet_jax.trials.rows import compact, renumber

# Where a row stands: the defaults of config.addressing, so that a rival differs by its rule, not by its space.
COMPONENTS, LOGIT_WEIGHT, BASIS_ROWS = 16, 2.0, 2048
# Gradient matching: Adam steps, first learning rate, real rows a step. Rate: a planted log, 600 rows of 60,000, DeepFM
# trained on the learned clicks: AUC 0.638 unlearned, 0.639, 0.669, 0.704 at 0.001, 0.005, 0.02. Probabilities of the
# reference are better left alone: 0.767 unlearned, 0.756, 0.715, 0.700.
STEPS, RATE, REAL_ROWS = 200, 0.02, 4096
COVERED, NOISY = 2048, 0.1  # NaCS: rows among which it covers at a time; share left out


class Seen(NamedTuple):
    """The log of D_1..D_t in time order, and the reference model after it."""

    ids: np.ndarray  # i32[N, W]  global slots; a field's slots are its own; PAD in lists
    label: np.ndarray  # f32[N]     clicks, 0 or 1
    model: models.Model  # the reference
    params: Any  # {'table': f32[V, 1+d], 'head': ...} after the pass over D_1..D_t
    weight: np.ndarray | None = None  # f32[N]  of the rows; None: 1 each

    @property
    def layout(self) -> Layout:
        return self.model.layout or flat(range(self.ids.shape[1]))


class Chosen(NamedTuple):
    """Rows of the log and the labels to train on."""

    index: np.ndarray  # i64[n]  rows of Seen, ascending
    own: np.ndarray  # f32[n]  the log's own clicks; cgm: learned, starting there; nacs: corrected
    soft: np.ndarray  # f32[n]  the reference model's probabilities; cgm: learned, starting there


def choose(name: str, seen: Seen, n: int, seed: int, code: np.ndarray | None = None) -> Chosen:
    """n rows of the log by the rule `name` (a key of ROWS). Deterministic for a seed; the earlier of equals wins.

    Args:
      n: rows, 1 <= n <= N; seed: of the random part of a rule (`random`, `cgm`, the first row of `k_center`).
      code: i32[V], slot -> row of a student's table. Read by `cgm` alone: its labels are learned for students over
        codes, or without it for students over the sub-table that the n rows touch.
    Returns:
      Chosen(index i64[n] ascending, own f32[n] in [0, 1], soft f32[n] in [0, 1]).
    Raises:
      UserError: an unknown name; n below 1 or above N; a code that does not cover the log's slots.
    """
    rows = len(seen.label)
    if name not in ROWS:
        raise UserError(f'no rival is named {name!r}{closest(name, ROWS)}; there are: {", ".join(ROWS)}')
    if not 1 <= n <= rows:
        raise UserError(f'rival {name!r}: cannot choose n={n} of the {rows} rows of the log; take 1 to {rows}')
    if code is not None and len(code) <= np.max(seen.ids):
        raise UserError(
            f'rival {name!r}: code has {len(code)} slots and the log names slot {np.max(seen.ids)}; pass the codebook '
            'of the same log'
        )
    index = np.sort(np.asarray(ROWS[name](seen, n, seed), np.int64))
    chosen = labelled(name, seen, index)
    if name == 'cgm':
        own, soft = _learned(seen, index, np.stack([chosen.own, chosen.soft]), seed, code)
        chosen = Chosen(index, own, soft)
    return chosen


def labelled(name: str, seen: Seen, index: np.ndarray) -> Chosen:
    """Rows that a rule chose, with the labels of a log and of its model: `seen` may be of another outcome."""
    own = np.asarray(seen.label[index], np.float32)
    soft = _probability(_logits(seen.model, seen.params, seen.ids[index])).astype(np.float32)
    if name == 'nacs':
        own = corrected(own, soft).astype(np.float32)
    return Chosen(index, own, soft)


# Rules: (seen, n, seed) -> n different rows of the log, in any order.


def _random(seen: Seen, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(len(seen.label), n, replace=False)


def _recent(seen: Seen, n: int, seed: int) -> np.ndarray:
    return np.arange(len(seen.label) - n, len(seen.label))


def _el2n(seen: Seen, n: int, seed: int) -> np.ndarray:
    return _largest(np.abs(_probability(_logits(seen.model, seen.params, seen.ids)) - seen.label), n)


def _grand(seen: Seen, n: int, seed: int) -> np.ndarray:
    return _largest(np.asarray(gradient_norms(seen.model, seen.params, seen.ids, seen.label)), n)


def _herding(seen: Seen, n: int, seed: int) -> np.ndarray:
    """Each class is herded apart, with its share of n: the rows keep the log's click rate."""
    points, clicked = np.asarray(_places(seen)), seen.label > 0.5
    clicks = round(n * float(np.mean(clicked)))
    chosen = []
    for members, count in ((np.flatnonzero(clicked), clicks), (np.flatnonzero(~clicked), n - clicks)):
        if count:
            of_class = points[members]
            of_class = of_class - of_class.mean(0, dtype=np.float64).astype(of_class.dtype)
            chosen.append(members[np.asarray(herd(of_class, count))])
    return np.concatenate(chosen)


CENTRES = 200_000  # rows that k_center chooses among, drawn at random from a longer log: its cost is rows x chosen


def _k_center(seen: Seen, n: int, seed: int) -> np.ndarray:
    rng, places = np.random.default_rng(seed), _places(seen)
    if len(seen.label) <= max(CENTRES, n):
        return np.asarray(farthest_first(places, n, rng.integers(len(seen.label))))
    sample = np.sort(rng.choice(len(seen.label), max(CENTRES, n), replace=False))
    return sample[np.asarray(farthest_first(places[sample], n, rng.integers(len(sample))))]


def _nacs(seen: Seen, n: int, seed: int) -> np.ndarray:
    """Each class apart, with its share of n, in random parts of COVERED rows; 1 / (1 - NOISY) times as many rows are
    covered, and those of the largest loss by their corrected label are left out."""
    rng, p = np.random.default_rng(seed), _probability(_logits(seen.model, seen.params, seen.ids))
    label = corrected(seen.label.astype(np.float64), p)
    wanted = min(len(p), round(n / (1 - NOISY)))
    clicks, chosen = round(wanted * float(np.mean(seen.label))), []
    for members, count in (
        (np.flatnonzero(seen.label > 0.5), clicks),
        (np.flatnonzero(seen.label <= 0.5), wanted - clicks),
    ):
        parts = np.array_split(rng.permutation(members), max(1, -(-len(members) // COVERED)))
        due = np.diff(np.round(np.linspace(0, count, len(parts) + 1)).astype(int))
        for part, k in zip(parts, due, strict=True):
            chosen.append(part[cover((p - label)[part], min(k, len(part)))])
    chosen = np.concatenate(chosen)
    loss = -(label * np.log(np.maximum(p, 1e-12)) + (1 - label) * np.log(np.maximum(1 - p, 1e-12)))[chosen]
    kept = chosen[np.argsort(loss, kind='stable')[:n]]
    if len(kept) < n:  # a class had fewer rows than its due
        rest = np.setdiff1d(np.arange(len(p)), kept)
        kept = np.concatenate([kept, rng.choice(rest, n - len(kept), replace=False)])
    return kept


def corrected(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Labels drawn towards what a trained model says, as far as it is sure: f[N] twice -> f[N].

    ProSelfLC (Wang et al. 2021, arXiv:2005.03788) at the end of training: trust e = 1 - entropy / log 2, the label
    (1 - e) y + e p.

    >>> corrected(np.array([1.0, 1.0]), np.array([0.5, 0.0])).round(6).tolist()
    [1.0, 0.0]
    """
    p = np.clip(probability, 1e-12, 1 - 1e-12)
    trust = 1 + (p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return np.clip((1 - trust) * label + trust * probability, 0.0, 1.0)


def cover(points: np.ndarray, count: int) -> np.ndarray:
    """Greedy facility location on a line: i64[count] of f[N].

    Each next point raises sum_i max_j (D - |x_i - x_j|) most, D the largest distance. The sum is
    submodular, so greedy comes to 1 - 1/e of the best. O(count N^2).
    """
    near = np.abs(np.subtract.outer(points, points))
    near = near.max() - near
    best, chosen = np.zeros(len(points)), []
    for _ in range(count):
        gain = np.maximum(near - best, 0.0).sum(1)
        gain[chosen] = -1.0
        chosen.append(int(np.argmax(gain)))
        best = np.maximum(best, near[chosen[-1]])
    return np.array(chosen, np.int64)


ROWS: dict[str, Callable[[Seen, int, int], np.ndarray]] = {
    'random': _random,
    'recent': _recent,
    'el2n': _el2n,
    'grand': _grand,
    'herding': _herding,
    'k_center': _k_center,
    'cgm': _random,
    'nacs': _nacs,
}


@functools.partial(jax.jit, static_argnames=('model', 'chunk'))
def gradient_norms(model, params, ids, label, chunk: int = 256) -> jax.Array:
    """Norm of the gradient of every row's LogLoss by the parameters that it has: its table rows, and the head.

    Exact, at a cost per row that does not depend on the vocabulary: the gradient is taken of the gathered rows, which
    is the table's own as long as a row names no slot twice. Args: ids i32[N, W]; label f32[N]. Returns: f32[N].
    """

    def norm(rows, ids, label):
        loss = lambda rows, head: row_losses(model.rows(head, rows[None], ids[None]), label[None])[0]  # noqa: E731
        return optax.tree.norm(jax.grad(loss, (0, 1))(rows, params['head']))

    return chunked(lambda part: jax.vmap(norm)(params['table'][part[0]], *part), (ids, label), chunk)


@functools.partial(jax.jit, static_argnames='count')
def herd(points: jax.Array, count: int) -> jax.Array:
    """Herding, without replacement: each next point brings the sum of the chosen nearest to its due.

    x_k = argmin |k * mean - (x_1 + .. + x_{k-1}) - x|. Args: points f32[N, Z] *centred*, so that the due is 0;
    count <= N. Returns: i32[count] in the order of choice; O(count N Z).
    """

    def add(k, carry):
        chosen, owed, norm = carry
        index = _first_least(norm - 2.0 * points @ owed)
        return chosen.at[k].set(index), owed - points[index], norm.at[index].set(jnp.inf)

    start = jnp.zeros(count, jnp.int32), jnp.zeros_like(points[0]), jnp.sum(points**2, 1)
    return jax.lax.fori_loop(0, count, add, start)[0]


@functools.partial(jax.jit, static_argnames='count')
def farthest_first(points: jax.Array, count: int, first) -> jax.Array:
    """Farthest-first traversal (Gonzalez 1985): each next point is the farthest from those chosen.

    Its covering radius is at most twice the least of any `count` points. Args: points f32[N, Z]; count <= N; first:
    i32[] where to start. Returns: i32[count] in the order of choice; O(count N Z).
    """

    def add(k, carry):
        chosen, distance = carry
        last = chosen[k - 1]
        distance = jnp.minimum(distance, jnp.sum((points - points[last]) ** 2, 1)).at[last].set(-1.0)
        return chosen.at[k].set(_first_least(-distance)), distance  # the chosen are below its copies at distance 0

    start = jnp.zeros(count, jnp.int32).at[0].set(first), jnp.full(points.shape[0], jnp.inf, points.dtype)
    return jax.lax.fori_loop(1, count, add, start)[0]


@functools.partial(jax.jit, static_argnames=('model', 'num_codes'))
def match_gradients(model, ids, starts, real_ids, real_label, num_codes: int, key, *, weight=None, real_weight=None):
    """Learns labels of some rows so that an untrained model's gradient on them points where the real rows' does.

    Our form of one-step gradient matching, in the spirit of CGM (Wang et al., RecSys 2023,
    doi:10.1145/3604915.3608769; its formulas were not at hand). CGM relaxes the ids to dense vectors, which cannot be
    written down as rows of a log: here ids stay, only labels are learned. Each of STEPS Adam steps draws a fresh
    initialisation of the model, no inner training, and REAL_ROWS real rows (all of them where the log has no more),
    and lowers `gradient_distance`; labels are put back into [0, 1] after every step, and the learning rate falls
    linearly to 0. A cosine does not see the length of a gradient, so labels are found up to their distance from 1/2.

    Args:
      ids: i32[n, W] in [0, num_codes), PAD in lists; starts: f32[K, n], K sets of labels, learned apart from the same
        draws.
      real_ids: i32[N, W] in [0, num_codes); real_label: f32[N]; key: PRNG key.
      weight: f32[n], real_weight: f32[N], of the rows; None: 1 each.
    Returns:
      (labels f32[K, n], distances f32[STEPS, K], each of its own draw).
    """
    rows, columns = real_ids.shape
    adam = optax.adam(optax.linear_schedule(RATE, 0.0, STEPS))

    def step(carry, key):
        labels, opt = carry
        init_key, draw_key = jax.random.split(key)
        params = model.init(init_key, num_codes, columns)
        real, of_real = (real_ids, real_label), real_weight
        if rows > REAL_ROWS:
            pick = jax.random.randint(draw_key, (REAL_ROWS,), 0, rows)
            real, of_real = (real_ids[pick], real_label[pick]), None if real_weight is None else real_weight[pick]
        weights = dict(weight=weight, real_weight=of_real)
        distance = lambda label: gradient_distance(model, params, ids, label, *real, **weights)  # noqa: E731
        values, grads = jax.vmap(jax.value_and_grad(distance))(labels)
        move, opt = adam.update(grads, opt)
        return (jnp.clip(labels + move, 0.0, 1.0), opt), values

    (labels, _), values = jax.lax.scan(step, (starts, adam.init(starts)), jax.random.split(key, STEPS))
    return labels, values


def gradient_distance(model, params, ids, label, real_ids, real_label, *, weight=None, real_weight=None) -> jax.Array:
    """Sum over the model's tensors of 1 - cos(gradient on the rows, gradient on the real rows). -> f32[].

    First-order weights and embeddings are two tensors, as they are two scales: at an initialisation the gradient of
    the embeddings is a hundredth of the other. Only table rows that `ids` names count; the rest no label can move. A
    tensor without gradient (embeddings of a linear model) counts 1 whatever the labels.

    Args: ids i32[n, W], label f32[n]; real_ids i32[N, W], real_label f32[N]; weight f32[n], real_weight f32[N], of the
      rows, None: 1 each.
    """
    size = params['table'].shape[0]
    named = jnp.zeros(size).at[jnp.where(ids < 0, size, ids)].set(1.0, mode='drop')[:, None]

    def tensors(ids, label, weight):
        weight = jnp.ones(len(label)) if weight is None else weight
        grads = jax.grad(lambda p: weighted_loss(model, p, ids, label, weight))(params)
        table = named * grads['table']
        return [table[:, 0], table[:, 1:], *jax.tree.leaves(grads['head'])]

    unit = lambda x: x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x), 1e-24))  # noqa: E731  (no root at 0)
    pairs = zip(tensors(ids, label, weight), tensors(real_ids, real_label, real_weight))
    return sum(1.0 - jnp.sum(unit(a) * unit(b)) for a, b in pairs)


def _learned(seen: Seen, index, starts, seed: int, code) -> np.ndarray:
    """f32[K, n]: labels of the rows `index`, in the numbering in which students will read them."""
    if code is None:
        slots, ids = compact(seen.ids[index])
        owner, fields = seen.layout.owner_of_column(), len(seen.layout.names)
        real, num_codes = renumber(slots, seen.ids, owner), len(slots) + fields
    else:
        real = renamed(seen.ids, code)
        num_codes = int(np.max(code)) + 1
        ids = real[index]
    weights = {} if seen.weight is None else dict(weight=seen.weight[index], real_weight=seen.weight)
    key = jax.random.key(seed)
    return np.asarray(match_gradients(seen.model, ids, starts, real, seen.label, num_codes, key, **weights)[0])


def _places(seen: Seen) -> jax.Array:
    """f32[N, COMPONENTS + 1]: where the rows stand; the basis is of rows spread evenly over the log."""
    rows = len(seen.label)
    spread = np.arange(min(rows, BASIS_ROWS)) * rows // min(rows, BASIS_ROWS)
    return _places_of(seen.model, seen.params, seen.ids, seen.ids[spread])


@functools.partial(jax.jit, static_argnames='model')
def _places_of(model, params, ids, basis_ids):
    layout = model.layout or flat(range(ids.shape[1]))
    embedded = lambda rows, ids: by_field(layout, None, rows[..., 1:], ids)  # noqa: E731
    of_basis = embedded(params['table'][basis_ids], basis_ids)
    basis = principal_basis(of_basis, jnp.ones(len(basis_ids)), COMPONENTS)

    def place(part):
        rows = params['table'][part[0]]
        return places(embedded(rows, part[0]), model.rows(params['head'], rows, part[0]), basis, LOGIT_WEIGHT)

    return chunked(place, (ids,))


_logits = jax.jit(predict, static_argnums=0)


def _probability(logits) -> np.ndarray:
    """f64[N], in twice the precision of the logits: far out, float32 would make ties of different rows."""
    return 1.0 / (1.0 + np.exp(-np.asarray(logits, np.float64)))


def _largest(score: np.ndarray, n: int) -> np.ndarray:
    return np.argsort(-score, kind='stable')[:n]


def _first_least(x: jax.Array) -> jax.Array:
    """argmin as two plain minima, which XLA vectorises on a CPU."""
    index = jnp.arange(x.shape[0], dtype=jnp.int32)
    return jnp.min(jnp.where(x <= jnp.min(x), index, index[-1]))
