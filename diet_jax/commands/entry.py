"""What the console commands and scripts/ start: a signal ends a command in one line from here on, so before it imports
what takes seconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from diet_jax.base import signals


def _command(name: str) -> Callable[[], None]:
    def start() -> None:
        signals.end_at_once()
        importlib.import_module(f'diet_jax.commands.{name}').start()

    return start


check, compare, describe, distill = map(_command, ('check', 'compare', 'describe', 'distill'))
evaluate, export, judge = map(_command, ('evaluate', 'export', 'judge'))
report, sweep, trends = map(_command, ('report', 'sweep', 'trends'))
