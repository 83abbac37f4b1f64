"""What rows weigh: `data.weight`, a column of the log. A row of weight 10 counts as ten rows, one of 0 nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError
from diet_jax.data import values

LARGEST = float(np.finfo(np.float32).max)


def weights(array: pa.Array, labelled: pa.Array, where: str, csv: Mapping, nulls: Iterable[str]) -> pa.Array:
    """The weights of a file's rows: float32 [N], 0 in rows that lack a label, which are dropped.

    Args: labelled: bool [N]; where: "file: column 'x'", for messages; csv, nulls: as of `values.numbers`.
    Raises:
      UserError: a weight that is no number, missing, negative or infinite.

    >>> weights(pa.array([10, 0.5, None]), pa.array([True, True, False]), '', {}, ()).to_pylist()
    [10.0, 0.5, 0.0]
    """
    found = values.numbers(array, where, 'data.weight', csv, nulls)
    found = pc.if_else(labelled, found, 0.0)
    if found.null_count:
        raise UserError(
            f'{where} is null in {found.null_count} rows, but says what a row weighs (data.weight): fill it in, 1 for '
            'a row that stands for itself'
        )
    odd = found.filter(pc.or_(pc.less(found, 0.0), pc.greater(found, LARGEST)))
    if len(odd):
        raise UserError(
            f'{where} holds {odd[0].as_py():g}, which no row can weigh (data.weight): write a finite number, 0 or more'
        )
    return found.cast(pa.float32())


def check(weight: np.ndarray, name: str, where: str, held_back: bool) -> None:
    """Raises UserError for a block none of whose rows weighs anything.

    Args: weight: float32 [N]; where: names the block; held_back: whether blocks before it are prepared.
    """
    if not weight.any():
        way_out = 'hold the block back with data.until' if held_back else 'leave the block out with data.since'
        raise UserError(
            f"{where}: column '{name}' is 0 in all {len(weight)} rows (data.weight): correct it, or {way_out}"
        )


def notes(name: str, blocks: Sequence[Mapping]) -> list[str]:
    """What is said of prepared blocks' weights.

    >>> notes('w', [{'rows': 3, 'weight': 12.0}, {'rows': 2, 'weight': 2.5}])
    ["5 rows weigh 14.5 by column 'w'"]
    """
    return [f"{sum(b['rows'] for b in blocks)} rows weigh {sum(b['weight'] for b in blocks):.10g} by column '{name}'"]
