"""AUC, LogLoss, GAUC and calibration of click models, exact for logs of many million rows.

All take logits (before the sigmoid) as NumPy or JAX arrays. `mask` marks the rows that count: callers pad to
a fixed capacity and leave the padding out of the result. `weight` says how many rows each stands for (`data.weight`):
a row of weight 3 counts as three equal rows do, one of weight 0 as none. The arithmetic that decides a result is
integer or float64.
"""

import jax
import jax.numpy as jnp
import numpy as np

_CHUNK = 4096  # rows whose 16-bit limbs are added up in one uint32: 4096 * 65535 < 2**32


def auc(logits, labels, mask=None, weight=None) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order.

    A tie is half a pair.

    Sorted on the device, one compilation for each padded length (lengths grow by less than a quarter, so
    that an octave holds four, and to 4096 at least). Pairs are counted in integers, so the result is exact
    to the last division.

    Args:
        logits: float[N], any monotone score; float64 is compared as float64.
        labels: 0/1 or bool[N].
        mask: bool[N], rows to count; None for all.
        weight: float[N], >= 0; a pair then weighs w_i w_j, and sums are of float64 on the host. None: 1 each.

    Returns:
        A float in [0, 1]; nan where only one class is present.

    Raises:
        ValueError: lengths differ, a counted logit is NaN, or a counted label is neither 0 nor 1.

    References:
        Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve" (the Mann-Whitney form).
    """
    _check_lengths(logits, labels, mask, weight)
    if weight is not None:
        z, y, w = _counted(logits, labels, mask, weight=weight)
        return _area(z, y, w, np.zeros(z.size, np.int64))
    if not isinstance(logits, jax.Array) or logits.dtype == jnp.float64:
        logits = _sortable(np.asarray(logits), mask)
    logits, labels, mask = _padded(logits, labels, mask)
    low, high, positives, negatives, nans, odd = jax.device_get(_twice_pairs(logits, labels, mask))
    _raise_for(nans, odd)
    pairs = int(positives) * int(negatives)
    twice = int(low.sum(dtype=np.int64)) + (int(high.sum(dtype=np.int64)) << 16)
    return twice / (2 * pairs) if pairs else float('nan')


def logloss(logits, labels, mask=None, weight=None) -> float:
    """Mean cross-entropy in nats: mean of y log(1 + e^-z) + (1 - y) log(1 + e^z), in float64 on the host.

    Args:
        logits: float[N]. An infinite logit costs 0 or infinity.
        labels: float[N] in [0, 1]; probabilities are allowed.
        mask: bool[N], rows to count; None for all.
        weight: float[N], >= 0, of the mean; None: 1 each.

    Returns:
        A float, never negative; nan where no row counts.

    Raises:
        ValueError: lengths differ, a counted logit is NaN, or a counted label lies outside [0, 1].
    """
    z, y, w = _counted(logits, labels, mask, weight=weight, soft=True)
    if not z.size:
        return float('nan')
    # Not y * f(-z) + (1 - y) * f(z): 0 times the infinite cost of the other class would be nan.
    losses = np.where(y > 0, y * _softplus(-z, y > 0), 0) + np.where(y < 1, (1 - y) * _softplus(z, y < 1), 0)
    return float(losses.mean() if w is None else (w * losses).sum() / w.sum())


def gauc(logits, labels, groups, mask=None, weight=None) -> float:
    """Group AUC: the mean of the groups' AUCs, weighted by their rows (impressions), over groups with both
    classes.

    One lexsort, O(N log N), on the host.

    Args:
        logits: float[N].
        labels: 0/1 or bool[N].
        groups: int[N], usually the user; below 0: a row without one, which does not count.
        mask: bool[N], rows to count; None for all.
        weight: float[N], >= 0: groups' AUCs are `auc`'s then, their weight is their rows' sum. None: 1 each.

    Returns:
        A float in [0, 1]; nan where no group has both classes.

    Raises:
        ValueError: as for `auc`.

    References:
        Zhou et al. 2018, "Deep Interest Network", section 5.3, https://arxiv.org/abs/1706.06978.
    """
    groups = np.asarray(groups)
    mask = groups >= 0 if mask is None else np.asarray(mask) & (groups >= 0)
    z, y, w, g = _counted(logits, labels, mask, groups, weight=weight)
    if not z.size:
        return float('nan')
    if w is not None:
        return _area(z, y, w, g)
    order = np.lexsort((z, g))
    z, y, g = z[order], y[order] > 0, g[order]
    group_start = np.flatnonzero(np.r_[True, g[1:] != g[:-1]])
    tie_start = np.flatnonzero(np.r_[True, (g[1:] != g[:-1]) | (z[1:] != z[:-1])])
    # Within a run of equal logits of one group: positives p, negatives n, negatives of the group below the
    # run b.
    p = np.add.reduceat(y, tie_start, dtype=np.int64)
    n = np.diff(np.r_[tie_start, z.size]) - p
    run_group = np.searchsorted(group_start, tie_start, side='right') - 1
    first_run = np.searchsorted(tie_start, group_start)
    below = np.cumsum(n) - n
    below -= below[first_run][run_group]
    twice = np.add.reduceat(p * (2 * below + n), first_run)
    positives, negatives = np.add.reduceat(p, first_run), np.add.reduceat(n, first_run)
    both = (positives > 0) & (negatives > 0)
    if not both.any():
        return float('nan')
    weight = (positives + negatives)[both]
    area = twice[both] / (2.0 * positives[both] * negatives[both])
    return float((weight * area).sum() / weight.sum())


def calibration_bins(
    logits, labels, bins: int = 10, mask=None, weight=None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted against observed click rate over bins of about equally many rows, in order of the prediction.

    Rows with equal logits share a bin, whatever the order of the rows; a bin that gets no row is left out.

    Args:
        logits: float[N].
        labels: float[N] in [0, 1].
        bins: how many at most.
        mask: bool[N], rows to count; None for all.
        weight: float[N], >= 0: bins are of about equal weight then, and the rows of a bin their sum. None: 1 each.

    Returns:
        (mean predicted probability float64[b], mean label float64[b], rows int64[b] or weight float64[b]), b <= bins.

    Raises:
        ValueError: as for `logloss`; or `bins` below 1.
    """
    if bins < 1:
        raise ValueError(f'calibration_bins: bins={bins} is below 1')
    z, y, w = _counted(logits, labels, mask, weight=weight, soft=True)
    if not z.size:
        return np.empty(0), np.empty(0), np.empty(0, np.int64)
    order = np.argsort(z)
    z, y = z[order], y[order]
    if w is not None:
        return _weighted_bins(z, y, w[order], bins)
    start = np.maximum.accumulate(np.where(np.r_[True, z[1:] != z[:-1]], np.arange(z.size), 0))
    bin_ = start * bins // z.size
    first = np.flatnonzero(np.r_[True, bin_[1:] != bin_[:-1]])
    count = np.diff(np.r_[first, z.size])
    predicted = np.exp(-np.logaddexp(0, -z))
    return np.add.reduceat(predicted, first) / count, np.add.reduceat(y, first) / count, count


@jax.jit
def _twice_pairs(logits: jax.Array, labels: jax.Array, mask: jax.Array):
    """Counts over one padded array of N rows.

    Returns:
        (low u32[N / 4096], high u32[N / 4096], positives, negatives, NaN logits, labels neither 0 nor 1).
        sum(low) + 2**16 sum(high) is twice the number of rightly ordered pairs: it outgrows 32 bits, so each
        positive row's share, below 2**32, is added up in two 16-bit limbs.
    """
    nans = jnp.sum(mask & jnp.isnan(logits))
    odd = jnp.sum(mask & (labels != 0) & (labels != 1))
    # What does not count is neither positive nor negative; where it lands in the order is of no matter.
    kind = jnp.where(mask, jnp.where(labels > 0, jnp.int8(1), jnp.int8(0)), jnp.int8(2))
    key, kind = jax.lax.sort((jnp.where(mask, logits, 0), kind), num_keys=1, is_stable=False)
    positive, negative = kind == 1, (kind == 0).astype(jnp.uint32)
    upto = jnp.cumsum(negative)
    step = key[1:] != key[:-1]
    edge = jnp.ones(1, bool)
    # Negatives below a run of ties, and up to its end: both monotone, so running extremes spread them.
    under = jnp.where(jnp.concatenate([edge, step]), upto - negative, jnp.uint32(0))
    through = jnp.where(jnp.concatenate([step, edge]), upto, jnp.uint32(2**32 - 1))
    share = jax.lax.cummax(under) + jax.lax.cummin(through, reverse=True)
    share = jnp.where(positive, share, jnp.uint32(0)).reshape(-1, _CHUNK)
    low = jnp.sum(share & 0xFFFF, axis=1, dtype=jnp.uint32)
    high = jnp.sum(share >> 16, axis=1, dtype=jnp.uint32)
    return low, high, positive.sum(), negative.sum(), nans, odd


def _sortable(logits: np.ndarray, mask) -> np.ndarray:
    """Scores in a type that the device keeps: what float32 would round is replaced by its rank, int32."""
    if logits.dtype in (np.float32, np.float16):
        return logits
    _raise_for(np.isnan(logits if mask is None else logits[np.asarray(mask, bool)]).sum(), 0)
    return np.unique(logits, return_inverse=True)[1].reshape(logits.shape).astype(np.int32)


def _padded(logits, labels, mask):
    """The arrays at a bucketed length, a multiple of 4096; the padding is masked."""
    size = logits.shape[0]
    chunks = max(1, -(-size // _CHUNK))
    step = 1 << max(0, (chunks - 1).bit_length() - 3)
    extra = -(-chunks // step) * step * _CHUNK - size
    if mask is None:
        mask = np.ones(size, bool)
    if extra == 0:
        return jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(mask, bool)
    mask = np.asarray(mask, bool)
    return tuple(jnp.asarray(np.pad(np.asarray(x), (0, extra))) for x in (logits, labels, mask))


def _area(z: np.ndarray, y: np.ndarray, w: np.ndarray, g: np.ndarray) -> float:
    """Mean of the groups' weighted AUCs, by the groups' weight, over those with both classes; nan where none has both.

    Args: of the rows that count, float64 each and the groups int[N]: `auc` is that of one group.
    """
    if not z.size:
        return float('nan')
    order = np.lexsort((z, g))
    z, g, w, y = z[order], g[order], w[order], y[order] > 0
    new = g[1:] != g[:-1]
    group_start, tie_start = (np.flatnonzero(np.r_[True, x]) for x in (new, new | (z[1:] != z[:-1])))
    p, n = (np.add.reduceat(np.where(of, w, 0.0), tie_start) for of in (y, ~y))  # of a run of ties
    first_run = np.searchsorted(tie_start, group_start)
    lengths = np.diff(np.r_[first_run, tie_start.size])
    below = np.cumsum(n) - n  # negatives of the group below a run
    below -= np.repeat(below[first_run], lengths)
    positives, negatives = np.add.reduceat(p, first_run), np.add.reduceat(n, first_run)
    both = (positives > 0) & (negatives > 0)
    if not both.any():
        return float('nan')
    area = np.add.reduceat(p * (below + n / 2), first_run)[both] / (positives * negatives)[both]
    weight = (positives + negatives)[both]
    return float((weight * area).sum() / weight.sum())


def _weighted_bins(z: np.ndarray, y: np.ndarray, w: np.ndarray, bins: int):
    """`calibration_bins` of rows in order of their logits: a run of equal ones lies where its first row does."""
    before = np.cumsum(w) - w
    start = np.maximum.accumulate(np.where(np.r_[True, z[1:] != z[:-1]], before, 0.0))
    bin_ = np.minimum(start * bins / w.sum(), bins - 1).astype(np.int64)
    first = np.flatnonzero(np.r_[True, bin_[1:] != bin_[:-1]])
    weight = np.add.reduceat(w, first)
    predicted, label = (np.add.reduceat(w * x, first) / weight for x in (np.exp(-np.logaddexp(0, -z)), y))
    return predicted, label, weight


def _counted(logits, labels, mask, *more, weight=None, soft: bool = False) -> list:
    """The rows that count: logits, labels and weights (or None) as float64 on the host, checked; then `more`."""
    _check_lengths(logits, labels, mask, weight, *more)
    z, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    w = None if weight is None else np.asarray(weight, np.float64)
    if w is not None:
        if not (w >= 0).all():
            raise ValueError(f'{int((~(w >= 0)).sum())} weights are negative or NaN')
        mask = w > 0 if mask is None else np.asarray(mask, bool) & (w > 0)
    if mask is not None:
        keep = np.asarray(mask, bool)
        z, y, *more = (np.asarray(x)[keep] for x in (z, y, *more))
        w = None if w is None else w[keep]
    bad = ~((y >= 0) & (y <= 1)) if soft else (y != 0) & (y != 1)
    _raise_for(np.isnan(z).sum(), bad.sum(), 'in [0, 1]' if soft else '0 or 1')
    return [z, y, w, *more]


def _softplus(z: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, z, where=where, out=np.zeros_like(z))


def _check_lengths(logits, labels, mask, *more) -> None:
    shapes = [np.shape(x) for x in (logits, labels, mask, *more) if x is not None]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise ValueError(f'metrics take one-dimensional arrays of one length, not {shapes}')


def _raise_for(nans, bad_labels, wanted: str = '0 or 1') -> None:
    if nans:
        raise ValueError(f'{int(nans)} logits are NaN: the model diverged, lower its learning rate')
    if bad_labels:
        raise ValueError(f'{int(bad_labels)} labels are not {wanted}')
