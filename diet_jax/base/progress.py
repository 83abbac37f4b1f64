"""What long work shows: a bar with rate and time left on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from diet_jax.base.atomic import appended, named


class Progress:
    """`with Progress('distilling', rows, workdir / 'log.txt', log) as p: p.advance(rows, 'stage 1/14 ...')`."""

    def __init__(self, what: str, total: int, path: Path, log: Callable[[str], None] = print):
        self.what, self.total, self.done, self.log, self.path = what, total, 0, log, path
        self.terminal = sys.stdout.isatty()
        self.bar = (
            Bar(
                TextColumn('{task.description}'),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn('{task.fields[rate]}'),
                TimeRemainingColumn(),
                transient=True,
            )
            if self.terminal
            else None
        )

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = appended(self.path)
        self.begin = time.perf_counter()
        if self.bar:
            self.bar.start()
            self.task = self.bar.add_task(self.what, total=self.total, rate='')
        return self

    def advance(self, amount: int, line: str, apart: float = 0.0) -> None:
        """Counts `amount` as done and says `line`, with the time left; seconds `apart` (compiling) happen once."""
        self.done += amount
        self.begin += apart
        passed = time.perf_counter() - self.begin
        left = passed / max(self.done, 1) * (self.total - self.done)
        text = f'{line}  {left:.0f} s left'
        with named(self.path):
            self.file.write(f'{time.strftime("%Y-%m-%d %H:%M:%S")} {self.what}: {text}\n')
            self.file.flush()
        if self.bar:
            self.bar.console.print(line, highlight=False, markup=False)
            self.bar.update(self.task, advance=amount, rate=f'{self.done / max(passed, 1e-9):,.0f}/s')
        else:
            self.log(f'{self.what}: {text}')

    def __exit__(self, *_):
        if self.bar:
            self.bar.stop()
        self.file.close()
