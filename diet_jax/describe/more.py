"""What a log could have besides: histories of its users, other outcomes. Lines of the config with a # before them."""

from __future__ import annotations

from diet_jax.describe import words
from diet_jax.describe.survey import Survey

MAX_LEN = 50  # of a history
RARE = 0.01  # share of the rows: an outcome that is rarer is hard to learn on a day, and harder on a memory


def lines(found: Survey) -> list[str]:
    """Comments of two kinds: sentences, and lines that run when `# ` is taken away."""
    parts = [_histories(found), _outcomes(found)]
    return [line for part in parts if part for line in ['', *(f'# {text}' for text in part)]]


def _histories(found: Survey) -> list[str]:
    """What a user did before, for models that read it."""
    user, item, creator = found.roles[:3]
    if not user or not item or found.shown:
        return []
    of = (item, creator) if creator else item
    text = ["What a user did before, for models that read it (docs/histories.md). For it, take the '# ' away:"]
    text += ['data.histories = ConfigDict(dict(', f'    clicked=dict(of={of!r}, max_len={MAX_LEN}),']
    if found.label.column:
        text.append(f"    skipped=dict(of={item!r}, where='not label', max_len={MAX_LEN}),")
    return [*text, '))']


def _outcomes(found: Survey) -> list[str]:
    """Columns of 0 and 1 that come after the row, beside the label."""
    if not found.label.column or found.shown:
        return []
    columns = [c.name for c, guess in found.columns if guess.taken == 'outcome' and not c.table and _binary(c)]
    main = words.snake(found.label.column).removeprefix('is_')
    named = {words.snake(name).removeprefix('is_'): name for name in columns}
    named.pop(main, None)
    if not named:
        return []
    text = ["Other outcomes, which the memory can learn and answer for as well (docs/reading.md). Take the '# ' away:"]
    text.append(f'data.label.name, data.label.others = {main!r}, ConfigDict(dict(')
    return [*text, *(f'    {name}={column!r},' for name, column in named.items()), '))']


def _binary(column) -> bool:
    """Whether a column is of 0 and 1, neither of them rare."""
    two = column.values == 2 and (column.kind == 'bool' or (column.low, column.high) == (0, 1))
    return two and column.most <= 1 - RARE
