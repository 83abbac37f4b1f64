"""Time of a compiled function's run by the `jax.named_scope` that its operations were traced in.

XLA's profiler names every operation that the device runs, and the compiled text says in which scope each was traced. On
a GPU operations are kernels, named after the operation, and those that were recorded as one graph name the graph too.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import jax

REST = 'rest'  # operations that belong to no scope, and the time between operations
BUSY = 'busy'  # share of the time from the first operation to the last in which there was one
WAITS = 'wait for completion'  # in the name of what is no work
GPU, STREAM = '/device:GPU', 'Stream'  # planes of the profiler and their lines
_INSTRUCTION = re.compile(r'^ +(?:ROOT )?%?([\w.\-]+) = ')
_TRACED_IN = re.compile(r'op_name="([^"]*)"')


class Event(NamedTuple):
    """Something that a thread did; an event that lies within another is a part of it."""

    start: float  # nanoseconds
    duration: float
    name: str  # of the operation, '' if it is none


def scopes(compiled_text: str, names: Iterable[str]) -> dict[str, str]:
    """{operation: the outermost of `names` in which it was traced}.

    What the compiler made itself was traced nowhere: in the body of a loop or a fusion it counts as most of what is
    around it; in the main program it is left out.
    """
    names, found, without, entry = set(names), {}, [], False
    body: Counter[str] = Counter()
    for line in [*compiled_text.splitlines(), '}']:
        if line.startswith(('}', 'ENTRY')):
            if body and not entry:
                found |= dict.fromkeys(without, body.most_common(1)[0][0])
            body, without, entry = Counter(), [], line.startswith('ENTRY')
        elif operation := _INSTRUCTION.match(line):
            path = _TRACED_IN.search(line)
            scope = next((part for part in path[1].split('/') if part in names), '') if path else ''
            if scope:
                found[operation[1]] = scope
                body[scope] += 1
            else:
                without.append(operation[1])
    return found


def by_scope(events: Sequence[Event], scope_of: Mapping[str, str]) -> dict[str, float]:
    """Seconds of each scope on one thread. An event's time is its own less that of the events in it; one without a
    scope belongs to the scope of the event that it lies in, else to REST."""
    seconds: dict[str, float] = {}
    stack: list[tuple[float, str]] = []  # (end, scope) of the events around
    for event in sorted(events, key=lambda e: (e.start, -e.duration)):
        while stack and stack[-1][0] <= event.start:
            stack.pop()
        around = stack[-1][1] if stack else ''
        scope = scope_of.get(event.name) or around or REST
        if stack:  # what it takes, the event around it does not
            seconds[around] = seconds.get(around, 0.0) - event.duration / 1e9
        seconds[scope] = seconds.get(scope, 0.0) + event.duration / 1e9
        stack.append((event.start + event.duration, scope))
    return seconds


def by_kernel(events: Sequence[Event], scope_of: Mapping[str, str]) -> dict[str, float]:
    """Seconds of each scope on a GPU, where events side by side are work side by side: their own times, added up."""
    seconds: dict[str, float] = {}
    for event in events:
        scope = scope_of.get(event.name, REST)
        seconds[scope] = seconds.get(scope, 0.0) + event.duration / 1e9
    return seconds


def measure(call: Callable[[], object], compiled_text: str, names: Sequence[str]) -> dict[str, float]:
    """Seconds of one `call` of a function that has run before, by scope and REST, and BUSY; on one core or one GPU."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(call())
        (path,) = Path(folder).glob('**/*.xplane.pb')
        planes = jax.profiler.ProfileData.from_file(str(path)).planes
    scope_of, total = scopes(compiled_text, names), dict.fromkeys([*names, REST], 0.0)
    kernels = {_kernel(name): scope for name, scope in scope_of.items()}
    seen = []
    planes = list(planes)
    on_gpu = any(plane.name.startswith(GPU) for plane in planes)
    for plane in planes:
        if on_gpu and not plane.name.startswith(GPU):
            continue
        for line in plane.lines:
            if on_gpu and not line.name.startswith(STREAM):
                continue  # what the profiler made of the streams
            events = [
                Event(e.start_ns, e.duration_ns, e.name if on_gpu else dict(e.stats).get('hlo_op', ''))
                for e in line.events
                if WAITS not in e.name
            ]
            if any(event.name for event in events):
                seen += events
                found = by_kernel(events, kernels) if on_gpu else by_scope(events, scope_of)
                for scope, seconds in found.items():
                    total[scope] += seconds
    whole, idle = span(seen)
    if on_gpu:  # on a CPU the time between operations lies within the event around them
        total[REST] += idle
    return total | {BUSY: 1.0 - idle / whole}


def span(events: Sequence[Event]) -> tuple[float, float]:
    """Seconds from the first of the events to the end of the last, and those of them in which none ran."""
    events = sorted(events)
    ends = list(accumulate((e.start + e.duration for e in events), max))
    idle = sum(max(later.start - end, 0.0) for later, end in zip(events[1:], ends))
    return (ends[-1] - events[0].start) / 1e9, idle / 1e9


def _kernel(operation: str) -> str:
    """The name of an operation's kernel on a GPU."""
    return re.sub(r'\W', '_', operation)
