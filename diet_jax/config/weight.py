"""`config.data.weight`: how many rows of the whole log a row stands for."""

from collections.abc import Mapping, Sequence

from diet_jax.base.errors import UserError
from diet_jax.config import lists
from diet_jax.config.keys import Key

WEIGHT = Key('', "a column of the log, a number >= 0: how many rows a row stands for; '': every row for one")


def check_weight(full: Mapping, single: Sequence[str]) -> None:
    """Raises UserError where `data.weight` names a column that has another part in the log.

    Args: full: all of `config.data`, else checked; single: the fields that hold one value in a row.
    """
    name = full['weight']
    if not isinstance(name, str):
        raise UserError(f"data.weight is {name!r}: it must be the name of a column of the log, or ''")
    if not name:
        return
    if full['source'] != 'files':
        raise UserError('data.weight is for log files, and rows of a simulated stream weigh the same: leave it out')
    shown = full['impressions']
    parts = {
        'also a field': [*single, *lists.names_of(full)],
        'also data.time.column': [full['time']['column']],
        'also data.label.column': [full['label']['column']],
        'also data.block.column': [full['block']['column']] if full['block']['by'] == 'column' else [],
        'among the lists of data.impressions': [shown['items'], shown['clicked']] if shown['items'] else [],
        'also in data.first_value': list(full['first_value']),
        'also data.negatives.user': [full['negatives']['user']] if full['negatives']['per_click'] else [],
        'also the key of a side table': [
            t.get('on') or t.get('key') for t in full['side_tables'] if isinstance(t, dict)
        ],
    }
    for part, columns in parts.items():
        if name in columns:
            raise UserError(f"data.weight '{name}' is {part}, and says what a row weighs: take it out of one of them")
