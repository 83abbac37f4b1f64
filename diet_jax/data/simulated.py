"""A click log with a known truth, made block by block on the fly.

Block t depends on the seed and t alone: any block can be made without the others, on any machine, and a
stream of any length is never stored (with `behaviour`, the blocks before are made on the way). Its rows carry the true
logit, hence the best AUC there can be.

    logit = bias + first_order * (user + item + group + category + author + tab + hour + price)
                 + interaction * (group x category + device x tab)
                 + season      * (category + tab, other values on weekends than on working days)
                 + low_rank    * <user factors, item factors>
                 + behaviour   * (+1 or -1, by category and the category that its user clicked last)

Items appear as time goes on and lose popularity with age; user and item terms wander slowly. What holds on
weekends does not hold on working days and comes back on the next weekend, so a memory that keeps only recent
rows forgets it. What the last click says averages out over a user's clicks: it shows in their order alone.
"""

import functools

import numpy as np
import pyarrow as pa

from diet_jax.config.data import Simulated

DAY = 86_400_000  # milliseconds
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC, a Monday
TABS, DEVICES = 5, 4


def block_key(t: int) -> str:
    """The day of block t, e.g. '2024-01-01'."""
    return str(np.datetime64('2024-01-01') + np.timedelta64(t, 'D'))


def value_counts(p: Simulated, t: int) -> dict[str, int]:
    """How many values each categorical column may hold up to block t: it holds 0, 1, ... in any order."""
    return dict(
        user=p.users,
        item=p.items + p.new_items_per_block * t,
        user_group=p.user_groups,
        category=p.categories,
        author=p.authors,
        tab=TABS,
        device=DEVICES,
        hour=24,
        weekday=7,
    )


def _draw(p: Simulated, name: str, count: int, width: int = 1) -> np.ndarray:
    """float64 [count, width], standard normal; a longer draw begins with the shorter one."""
    words = [p.seed, *name.encode()]
    return np.random.default_rng(words).standard_normal((count, width))


def _uniform(p: Simulated, name: str, count: int) -> np.ndarray:
    words = [p.seed, *name.encode()]
    return np.random.default_rng(words).random(count)


def _wander(p: Simulated, name: str, count: int, width: int, t: int) -> np.ndarray:
    """A standard normal that wanders with t: share `drift` of its variance is a slow wave of random phase."""
    base = _draw(p, name, count, width)
    phase = 2 * np.pi * t / (14 + 42 * _uniform(p, name + ' period', count))[:, None]
    wave = _draw(p, name + ' cos', count, width) * np.cos(phase) + _draw(p, name + ' sin', count, width) * np.sin(phase)
    return np.sqrt(1 - p.drift) * base + np.sqrt(p.drift) * wave


def _popularity(p: Simulated, t: int) -> np.ndarray:
    """float64 [items there at t], sums to 1."""
    count = p.items + p.new_items_per_block * t
    born = np.concatenate(
        [
            -4 * p.half_life * _uniform(p, 'item age', p.items),
            1 + np.arange(count - p.items) // max(p.new_items_per_block, 1),
        ]
    )
    weight = np.maximum(_uniform(p, 'item popularity', count), 1 / p.items) ** -p.zipf
    weight *= 0.1 + 0.5 ** ((t - born) / p.half_life)
    return weight / weight.sum()


def simulate_block(p: Simulated, t: int) -> pa.Table:
    """Block t, a day: rows in no particular order.

    Args:
      p: parameters.
      t: 0-based; 0 is a Monday.
    Returns:
      Columns user, item, user_group, category, author, tab, device (int64), price (float64), time (int64,
      ms, UTC), label (int64, Bernoulli of the logit), bayes_logit (float64: the truth, no feature).
    """
    rng = np.random.default_rng([p.seed, 1 << 20, t])
    n = p.rows_per_block
    popularity = _popularity(p, t)
    items, weekend = len(popularity), int(t % 7 >= 5)
    activity = np.maximum(_uniform(p, 'user activity', p.users), 1 / p.users) ** -p.zipf
    user = rng.choice(p.users, n, p=activity / activity.sum())
    item = rng.choice(items, n, p=popularity)
    hour = np.clip(np.where(rng.random(n) < 0.4, rng.normal(12, 2.5, n), rng.normal(20, 2, n)), 0, 23.999)
    tab = rng.choice(TABS, n, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    group = (_uniform(p, 'user group', p.users) * p.user_groups).astype(int)[user]
    device = (_uniform(p, 'user device', p.users) ** 2 * DEVICES).astype(int)[user]
    category = (_uniform(p, 'item category', items) ** 1.5 * p.categories).astype(int)[item]
    author = (_uniform(p, 'item author', items) ** 1.5 * p.authors).astype(int)[item]
    price = np.exp(1.5 + 0.8 * _draw(p, 'item price', items)[:, 0])[item]

    def effect(name, index, count):
        return _draw(p, name, count)[index, 0]

    first = (
        0.6 * _wander(p, 'user', p.users, 1, t)[user, 0]
        + 0.5 * _wander(p, 'item', items, 1, t)[item, 0]
        + 0.2 * effect('group', group, p.user_groups)
        + 0.3 * effect('category', category, p.categories)
        + 0.3 * effect('author', author, p.authors)
        + 0.4 * effect('tab', tab, TABS)
        + 0.2 * np.cos((hour - 21) * np.pi / 12)
        - 0.3 * (np.log(price) - 1.5) / 0.8
    )
    cells = _draw(p, 'group x category', p.user_groups, p.categories)[group, category]
    pairs = _draw(p, 'device x tab', DEVICES, TABS)[device, tab]
    sign = 1 if weekend else -1
    season = sign * (0.9 * effect('season category', category, p.categories) + 0.4 * effect('season tab', tab, TABS))
    factors = _wander(p, 'user factors', p.users, p.rank, t)[user] * _wander(p, 'item factors', items, p.rank, t)[item]
    logit = (
        p.bias
        + p.first_order * first
        + p.interaction * (0.9 * cells + 0.3 * pairs)
        + p.season * season
        + p.low_rank * factors.sum(axis=1) / np.sqrt(p.rank)
    )
    luck, time = rng.random(n), START + t * DAY + (hour * 3_600_000).astype(np.int64)
    if p.behaviour:
        logit = logit + p.behaviour * _last_click(p, t, user, category, time, logit, luck)
    label = luck < 1 / (1 + np.exp(-logit))
    columns = dict(user=user, item=item, user_group=group, category=category, author=author, tab=tab, device=device)
    table = {name: column.astype(np.int64) for name, column in columns.items()}
    table |= dict(price=np.round(price, 2), time=time)
    return pa.table({**table, 'label': label.astype(np.int64), 'bayes_logit': logit})


def _last_click(p: Simulated, t: int, user, category, time, logit, luck) -> np.ndarray:
    """What every row's last click says of it: float64 [n], +1 or -1, 0 where its user has clicked nothing before.

    Args: of the rows: user, category, time: int64 [n]; logit: without the last click; luck: in [0, 1), decides the
      click.
    """
    says = np.sign(_draw(p, 'last category x category', p.categories, p.categories))
    order, last, found = np.lexsort((time, user)), _clicked_before(p, t).copy(), np.zeros(len(user))
    nth = np.arange(len(order)) - np.searchsorted(user[order], user[order])  # of its user's rows
    for turn in range(nth.max() + 1):  # of every user the next row
        rows = order[nth == turn]
        before = last[user[rows]]
        found[rows] = np.where(before >= 0, says[before, category[rows]], 0.0)
        clicked = rows[luck[rows] < 1 / (1 + np.exp(-logit[rows] - p.behaviour * found[rows]))]
        last[user[clicked]] = category[clicked]
    return found


@functools.lru_cache(maxsize=64)
def _clicked_before(p: Simulated, t: int) -> np.ndarray:
    """int64 [users]: the category of every user's last click before block t, -1 for none."""
    if t == 0:
        return np.full(p.users, -1)
    last, rows = _clicked_before(p, t - 1).copy(), simulate_block(p, t - 1).sort_by('time').to_pydict()
    clicked = np.flatnonzero(rows['label'])
    last[np.array(rows['user'])[clicked]] = np.array(rows['category'])[clicked]  # of equals the last one stays
    return last
