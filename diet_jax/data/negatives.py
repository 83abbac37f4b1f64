"""Negatives for a log of clicks only: each click's item redrawn from the items clicked just before it.

The pool of a click at time s is the set of distinct items clicked at a time in [s - window, s), less the items that
its user clicked in there, less its own. Nothing at or after s is looked at. A draw is uniform over the pool ('items'),
or over the window's clicks on items of the pool ('clicks'). The negatives of one click are drawn one after the other,
each from what the ones before it have left. The draw is a function of the seed, of the click's time, user and item, and
of its rank among clicks equal in all three: neither the order of the files nor how many days are prepared together
changes it.
"""

from functools import cached_property
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_jax.base import arrow
from diet_jax.base.errors import UserError
from diet_jax.data import tables, times
from diet_jax.data.hashing import hash_values, mix

ATTEMPTS = 64  # at drawing one item that is not excluded, before all that are left are listed
PAIRS = 1_000_000  # of a click and an item, listed at once
LIKELY = {'items': 'uniform over those clicked', 'clicks': 'in proportion to its clicks'}
STEP = np.uint64(0x9E3779B97F4A7C15)  # odd: successive words of a click's own random sequence


class Clicks(NamedTuple):
    """Clicks that may be in a later click's window: what preparation needs of blocks whose files may be gone."""

    time: np.ndarray  # int64 [K]
    user: pa.Array  # int64 or string [K], null where unknown
    columns: dict[str, pa.Array]  # each [K]: the item first, then the columns that go with it

    def write(self, file: BinaryIO) -> None:
        table = pa.table({'__time': self.time, '__user': self.user, **self.columns})
        pq.write_table(table, file, compression='zstd')

    @classmethod
    def read(cls, data: bytes) -> 'Clicks':
        """Reads what `write` wrote."""
        table = pq.read_table(arrow.source(data))
        time, user, *rest = (tables.one_array(column) for column in table.columns)
        return cls(time.to_numpy(), user, dict(zip(table.column_names[2:], rest, strict=True)))

    def types(self, user: str) -> dict[str, str]:
        """'int64' or 'string' of the columns that hold a category; `user` names the user's."""
        held = {**self.columns, user: self.user}
        filled = {name: column for name, column in held.items() if column.null_count < len(column)}
        return {name: str(column.type) for name, column in filled.items() if column.type != pa.float64()}


class Drawn(NamedTuple):
    """A block with its negatives."""

    rows: np.ndarray  # int64 [N]: the row of the block that each row is, or is a copy of
    negative: np.ndarray  # bool [N]
    columns: dict[str, pa.Array]  # the item and what goes with it, each [N]
    recent: Clicks  # for the next block
    facts: dict  # clicks, drawn, lacking (clicks with fewer negatives than wanted), pool (its mean size)


def window_ticks(data: dict) -> int:
    """The window in ticks of the log's time; UserError where it is shorter than one."""
    hours = data['negatives']['window_hours']
    ticks = round(hours * 3600 * times.time_ticks(data['time']))
    if ticks < 1:
        raise UserError(f'data.negatives.window_hours {hours} is shorter than data.time.unit: make it longer')
    return ticks


def names(data: dict) -> list[str]:
    """The item's column, and those that go with it."""
    return [data['negatives']['item'], *data['negatives']['item_columns']]


def names_of_log(data: dict) -> list[str]:
    """Columns of the log that draws look at."""
    return list(dict.fromkeys([*names(data), data['negatives']['user']]))


def clicks_of(columns: dict[str, pa.Array], time: np.ndarray, label: np.ndarray, data: dict, where: str) -> Clicks:
    """The clicks among some rows of the log, in their order; UserError where one has no item."""
    rows = np.flatnonzero(label > 0)
    index = pa.array(rows)
    taken = {name: columns[name].take(index) for name in names(data)}
    item = data['negatives']['item']
    if taken[item].null_count:
        raise UserError(
            f"{where}: column '{item}' is null in {taken[item].null_count} clicks, but data.negatives.item redraws "
            'it: drop those rows, or fill it in'
        )
    return Clicks(time[rows], columns[data['negatives']['user']].take(index), taken)


def join_clicks(earlier: Clicks | None, later: Clicks) -> Clicks:
    """Earlier clicks and then later ones; the later ones take the earlier ones' types."""
    if earlier is None:
        return later

    def joined(a, b):
        kind = b.type if a.null_count == len(a) else a.type
        return pa.concat_arrays([a.cast(kind), b.cast(kind)])

    columns = {name: joined(column, later.columns[name]) for name, column in earlier.columns.items()}
    return Clicks(np.concatenate([earlier.time, later.time]), joined(earlier.user, later.user), columns)


def keep_recent(clicks: Clicks, window: int) -> Clicks:
    """Those within a window of the last one: a later block's pools never reach further back."""
    if not len(clicks.time):
        return clicks
    index = pa.array(np.flatnonzero(clicks.time >= clicks.time.max() - window))
    columns = {name: column.take(index) for name, column in clicks.columns.items()}
    return Clicks(clicks.time[index.to_numpy()], clicks.user.take(index), columns)


def draw(columns: dict[str, pa.Array], time: np.ndarray, label: np.ndarray, recent, data: dict, where: str) -> Drawn:
    """Puts behind every click of a block its negatives, drawn from the clicks before it.

    Args:
      columns: the log's own columns of the block, each [B].
      time: int64 [B], ascending.
      label: float32 [B]; the rows with label 1 are the clicks, the others stay as they are.
      recent: `Clicks` of the blocks before, or None.
      data: checked `config.data`, with negatives.per_click >= 1.
      where: names the block in messages.
    Raises:
      UserError: a click without an item.
    """
    per_click, window = data['negatives']['per_click'], window_ticks(data)
    fresh = clicks_of(columns, time, label, data, where)
    clicks = join_clicks(recent, fresh)
    old, new = len(clicks.time) - len(fresh.time), len(fresh.time)
    pools = Pools(clicks, np.arange(old, old + new), window, data['negatives']['by'])
    picked = pools.sample(per_click, data['negatives']['seed'])  # int64 [new, per_click], -1: none
    click_rows = np.flatnonzero(label > 0)
    click, rank = np.nonzero(picked >= 0)
    size = len(time)
    rows = np.concatenate([np.arange(size), click_rows[click]])
    source = np.concatenate([np.arange(size), size + picked[click, rank]])
    order = np.lexsort((np.concatenate([np.zeros(size, np.int64), rank + 1]), rows))
    index = pa.array(source[order])
    drawn = {}
    for name in names(data):
        column = clicks.columns[name]
        drawn[name] = pa.concat_arrays([columns[name].cast(column.type), column]).take(index)
    facts = dict(
        clicks=new,
        drawn=len(click),
        lacking=int((picked[:, -1] < 0).sum()),
        pool=float(pools.free.mean()) if new else 0.0,
    )
    return Drawn(rows[order], source[order] >= size, drawn, keep_recent(clicks, window), facts)


def notes(data: dict, blocks: list[dict]) -> list[str]:
    """How the negatives of some prepared blocks were drawn, in words."""
    facts = [block['negatives'] for block in blocks]
    clicks, drawn, lacking = (sum(fact[key] for fact in facts) for key in ('clicks', 'drawn', 'lacking'))
    pool = sum(fact['clicks'] * fact['pool'] for fact in facts) / max(clicks, 1)
    how = data['negatives']
    lines = [
        f'{drawn} negatives drawn for {clicks} clicks ({how["per_click"]} a click, seed {how["seed"]}): another '
        f"'{how['item']}', {LIKELY[how['by']]} in the {how['window_hours']:g} h before, less those of the same "
        f"'{how['user']}'; {pool:.0f} to draw from on average"
    ]
    if lacking:
        lines.append(f'{lacking} clicks had no recently active item to draw from, or fewer than {how["per_click"]}')
    return lines


class Pools:
    """The pools of some clicks, none of them ever written out.

    Of an item's clicks before s only the last one matters: click j stands for its item for s in (time_j, end_j],
    end_j being the item's next click or time_j + window, whichever is earlier. So the pool's size at s is (clicks
    before s) - (ends before s), and its members are, in order of time, the first so many of the clicks whose end is
    not before s. A user's own items are counted in the same way.

    Args:
      clicks: the K clicks that a pool may hold.
      queries: int64 [Q], places in `clicks`: those whose pools are wanted.
      window: ticks.
      by: 'items' or 'clicks', what is drawn uniformly.
    """

    def __init__(self, clicks: Clicks, queries: np.ndarray, window: int, by: str):
        n = len(clicks.time)
        self.by = by
        user_hash, item_hash = (hash_values(x) for x in (clicks.user, clicks.columns[next(iter(clicks.columns))]))
        order = np.lexsort((user_hash, item_hash, clicks.time))  # of the values only: no trace of the files' order
        place = np.empty(n, np.int64)
        place[order] = np.arange(n)
        time = clicks.time[order]
        self.position = order  # sorted click -> its place in `clicks`
        self.item = np.unique(item_hash[order], return_inverse=True)[1]
        known = clicks.user.is_valid().to_numpy(zero_copy_only=False)[order]
        user = np.where(known, np.unique(user_hash[order], return_inverse=True)[1], -1)  # unknown: nobody's own clicks
        codes = user * (self.item.max(initial=0) + 1) + self.item
        codes[~known] = -1
        self.pair_codes, pair = np.unique(codes, return_inverse=True)

        self.q = place[queries]
        s = time[self.q]
        self.before = np.searchsorted(time, s)  # clicks before s
        self.start = np.searchsorted(time, s - window)  # clicks before the window
        self.by_item, self.by_pair = Counter(self.item, np.arange(n)), Counter(pair, np.arange(n))
        end = _ends(self.item, time, window)
        self.by_end = np.argsort(end, kind='stable')
        self.ended = np.searchsorted(end[self.by_end], s)
        self.size = self.before - self.ended
        # The free ones: less the user's own items, less the click's own if it is in the pool and not among those.
        pair_end = _ends(pair, time, window)
        sorted_end = np.sort(pair_end)
        q_user, zero = user[self.q], np.zeros(len(s), np.int64)
        born = Counter(user, np.arange(n)).between(q_user, zero, self.before)
        died = Counter(user, np.searchsorted(sorted_end, pair_end)).between(
            q_user, zero, np.searchsorted(sorted_end, s)
        )
        own = np.where(q_user >= 0, born - died, 0)
        listed = self.by_item.between(self.item[self.q], self.start, self.before) > 0
        self.user = q_user
        self.free = self.size - own - (listed & ~self._own(np.arange(len(s)), self.item[self.q]))
        # Equal clicks draw different items: their rank tells them apart.
        key = mix(mix(item_hash[order] * np.uint64(3) ^ user_hash[order]) ^ time.view(np.uint64))[self.q]
        self.key = mix(key ^ mix(_rank_among_equals(key)))

    def _own(self, rows: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Whether the users of some queries clicked these items in their windows."""
        codes = self.user[rows] * (self.item.max(initial=0) + 1) + item
        pair = np.minimum(np.searchsorted(self.pair_codes, codes), len(self.pair_codes) - 1)
        seen = self.by_pair.between(pair, self.start[rows], self.before[rows]) > 0
        return seen & (self.pair_codes[pair] == codes) & (self.user[rows] >= 0)

    def sample(self, per_click: int, seed: int) -> np.ndarray:
        """Distinct members of every pool: int64 [Q, per_click], places in the `Clicks` given, -1 where none is left."""
        keys = mix(self.key ^ mix(np.full(len(self.key), seed, np.int64).view(np.uint64)))
        taken = np.full((len(keys), per_click), -1, np.int64)  # sorted clicks
        for k in range(per_click):
            rows, words = np.flatnonzero(self.free > k), k * (ATTEMPTS + 1)  # words used by the draws before
            for attempt in range(ATTEMPTS):
                found = self._any(rows, _word(keys[rows], words + attempt))
                bad = self._excluded(rows, found, taken[rows, :k])
                taken[rows[~bad], k] = found[~bad]
                rows = rows[bad]
                if not len(rows):
                    break
            else:
                for part in np.split(rows, np.flatnonzero(np.diff(np.cumsum(self.size[rows]) // PAIRS)) + 1):
                    taken[part, k] = self._listed(part, _word(keys[part], words + ATTEMPTS), taken[part, :k])
        return np.where(taken >= 0, self.position[taken], -1)

    @cached_property
    def _selector(self) -> 'Selector':
        return Selector(self.by_end)

    def _any(self, rows: np.ndarray, word: np.ndarray) -> np.ndarray:
        """A click out of each window, or for one of its items the last click on it: some may be excluded."""
        if self.by == 'clicks':
            return self.start[rows] + _below(word, self.before[rows] - self.start[rows])
        return self._selector.select(self.ended[rows], _below(word, self.size[rows]))

    def _excluded(self, rows: np.ndarray, found: np.ndarray, taken: np.ndarray) -> np.ndarray:
        item = self.item[found]
        repeated = (self.item[taken] == item[:, None]).any(axis=1)
        return repeated | (item == self.item[self.q[rows]]) | self._own(rows, item)

    def _listed(self, rows: np.ndarray, word: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """As `_any`, but none excluded: all items of each pool are listed, at least one of them free."""
        size = self.size[rows]
        query = np.repeat(np.arange(len(rows)), size)
        r = np.arange(len(query)) - np.repeat(np.cumsum(size) - size, size)
        found = self._selector.select(self.ended[rows][query], r)
        free = ~self._excluded(rows[query], found, taken[query])
        query, found = query[free], found[free]
        weight = np.ones(len(query), np.int64)
        if self.by == 'clicks':
            weight = self.by_item.between(self.item[found], self.start[rows][query], self.before[rows][query])
        total = np.cumsum(weight)
        end = total[np.searchsorted(query, np.arange(len(rows)), side='right') - 1]
        begin = np.concatenate([[0], end])[:-1]
        target = begin + _below(word, end - begin)
        place = np.searchsorted(total, target, side='right')
        if self.by == 'clicks':
            nth = target - (total[place] - weight[place])
            return self.by_item.nth(self.item[found[place]], self.start[rows], nth)
        return found[place]


class Counter:
    """How many of the events with code c have a position in [a, b)? Where is the r-th (from 0) of them?"""

    def __init__(self, code: np.ndarray, position: np.ndarray):
        self.width = len(code) + 1  # positions are 0 .. len(code)
        self.sorted = np.sort(code * self.width + position)

    def between(self, code: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        code = code * self.width
        return np.searchsorted(self.sorted, code + b) - np.searchsorted(self.sorted, code + a)

    def nth(self, code: np.ndarray, a: np.ndarray, r: np.ndarray) -> np.ndarray:
        return self.sorted[np.searchsorted(self.sorted, code * self.width + a) + r] % self.width


class Selector:
    """The r-th smallest of the tail of a permutation: a wavelet matrix (Claude, Navarro, Ordonez, 2015).

    Holds 4 bytes a bit and an element: 80 bytes a click for a million clicks.
    """

    def __init__(self, permutation: np.ndarray):
        sequence = permutation.astype(np.int32)
        self.size = len(sequence)
        self.zeros = []  # per bit, the highest first: int32 [n + 1], zero bits among the first i elements
        for bit in reversed(range(max(self.size - 1, 1).bit_length())):
            one = (sequence >> bit & 1).astype(bool)
            self.zeros.append(np.concatenate([[0], np.cumsum(~one)]).astype(np.int32))
            sequence = np.concatenate([sequence[~one], sequence[one]])

    def select(self, start: np.ndarray, r: np.ndarray) -> np.ndarray:
        """int64 [Q]: the r-th (from 0) smallest of permutation[start:], for each query."""
        a, b, r = start.astype(np.int32), np.full(len(start), self.size, np.int32), r.astype(np.int32)
        value = np.zeros(len(start), np.int64)
        for zeros in self.zeros:
            za, zb = zeros[a], zeros[b]
            one = r >= zb - za
            value = value << 1 | one
            r = np.where(one, r - (zb - za), r)
            a, b = np.where(one, zeros[-1] + a - za, za), np.where(one, zeros[-1] + b - zb, zb)
        return value


def _word(keys: np.ndarray, n: int) -> np.ndarray:
    """uint64 [Q]: the n-th word of each key's random sequence."""
    return mix(keys + np.full(len(keys), n, np.uint64) * STEP)


def _below(word: np.ndarray, size: np.ndarray) -> np.ndarray:
    """int64 [Q]: uniform in 0 .. size - 1."""
    return (word % size.astype(np.uint64)).astype(np.int64)


def _ends(code: np.ndarray, time: np.ndarray, window: int) -> np.ndarray:
    """int64 [n]: the time until which a click is the last one of its code in the window; times ascend."""
    order = np.argsort(code, kind='stable')
    follows = code[order[1:]] == code[order[:-1]]
    end = time + window
    earlier = order[:-1][follows]
    end[earlier] = np.minimum(end[earlier], time[order[1:][follows]])
    return end


def _rank_among_equals(key: np.ndarray) -> np.ndarray:
    """uint64 [n]: how many equal keys come before."""
    order = np.argsort(key, kind='stable')
    first = np.diff(key[order], prepend=key[order[:1]] + np.uint64(1)) != 0
    place = np.arange(len(key))
    rank = np.empty(len(key), np.uint64)
    rank[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    return rank
