"""Side by side in time: what is compared is run in turn, so that a slow minute of the machine slows all of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np


class Seconds(NamedTuple):
    median: float
    low: float  # quartiles
    high: float


def interleaved(calls: Mapping[str, Callable], repeats: int) -> dict[str, Seconds]:
    """Seconds of each call, which takes nothing and may return arrays: a, b, a, b, ... after one of each unmeasured."""
    seconds = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: Seconds(*(float(np.quantile(s, q)) for q in (0.5, 0.25, 0.75))) for name, s in seconds.items()}


def figure(value: float, unit: str, ratio_to: str = '', ratio: float | None = None, **more) -> dict:
    """An entry of bench.json; `more` says how sure it is, or on how many threads."""
    return {'value': value, 'unit': unit, 'ratio_to': ratio_to, 'ratio': ratio, **more}


def spread(seconds: Seconds) -> float:
    """Half the distance of the quartiles, as a share of the median."""
    return (seconds.high - seconds.low) / 2 / seconds.median


def rate(rows: int, seconds: Seconds, ratio_to: str, ratio: float) -> dict:
    """A figure in rows/s."""
    return figure(rows / seconds.median, 'rows/s', ratio_to, ratio, spread=spread(seconds))


def milliseconds(seconds: Seconds, ratio_to: str = '', ratio: float | None = None, per: int = 1) -> dict:
    """A figure in ms; `per` calls' worth of work was done in one."""
    return figure(1e3 * seconds.median / per, 'ms', ratio_to, ratio, spread=spread(seconds))
