"""Scores of full runs, as a file of JSON lines has them: {"name": ..., "auc": ...}, whatever else a line says."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from diet_jax.base.errors import UserError, closest


def read(path, names: Collection[str] | None = None, flag: str = '--anchors') -> dict[str, float]:
    """{name: AUC on the block that is scored}, in the order of the lines; of a name the last line counts.

    Args: names: of the candidates, None for any; flag: what named the file, for what is said of it.
    Raises:
      UserError: no file; a line that is no name and AUC; a name that is no candidate's; an AUC outside [0, 1].
    """
    found = {}
    try:
        lines = [line for line in Path(path).read_text(encoding='utf-8').splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f'{flag}={path}: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise UserError(f'{flag}={path} is no text ({error}): JSON lines are, {{"name": ..., "auc": ...}}') from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            name, auc = row['name'], float(row['auc'])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f'{path} line {number}: {line!r} is not {{"name": ..., "auc": ...}}') from error
        if names is not None and name not in names:
            raise UserError(f"{path} line {number}: '{name}' is none of the candidates{closest(name, names)}")
        if not 0 <= auc <= 1:
            raise UserError(f"{path} line {number}: auc {auc} of '{name}' is not between 0 and 1")
        found[name] = auc
    return found
