"""The memory on disk: plain Parquet and JSON that any program can read (format: docs/elsewhere.md).

    rows.parquet            one row an entry: the log's own values, codes, labels, weight; lists as lists
    codebook/<field>.parquet    value -> code; the row with a null value is the code of unseen values; none of a list
                            that shares the vocabulary of a field
    manifest.json           fields, how a log is encoded and students are trained, budgets, seed, versions, checksums
    README.md               card of a Hugging Face data set: rows, and a configuration a codebook

A folder is written beside its place and renamed, so a reader sees a whole artifact or none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from diet_jax.artifact.schema import check_manifest
from diet_jax.base.checksums import opened
from diet_jax.base.errors import UserError

FORMAT = 3  # of a memory with lists; one of format 2 has none, and is read as well
# What a student may train on: the mean of these columns. The teacher's label keeps the level, the mean click of the log
# rows an entry stands for keeps the order (docs/results/choices.md).
VIEWS = {
    'blend': ('soft_label', 'mean_label'),
    'soft': ('soft_label',),
    'mean': ('mean_label',),
    'hard': ('hard_label',),
}
DEFAULT_VIEW = 'blend'
LABELS = VIEWS['soft'] + VIEWS['mean'] + VIEWS['hard']  # columns that are of an outcome
INIT_STD = 0.01  # of a student's embeddings at the start, as `models.build` has it
WEEKDAY = 'Monday is 0'
# The part of `config.data` that the manifest carries: what it takes to encode a log, and to know its labels and blocks.
ENCODING = (
    'source',
    'root',
    'csv',
    'time',
    'block',
    'label',
    'negatives',
    'null_words',
    'rename',
    'fields',
    'numeric',
    'time_fields',
    'side_tables',
    'group',
)


class OtherFormat(UserError):
    """A memory that another version wrote: whole, maybe, and not for this one to replace."""


class CodedField(NamedTuple):
    name: str
    kind: str  # 'categorical' | 'numeric' | 'time' | 'list'
    codes: int  # codes are 0 .. codes - 1
    bounds: tuple[float, ...]  # numeric: bin b holds bounds[b-1] <= x < bounds[b]
    missing_code: int  # of rows in which the log has no value
    unseen_code: int  # of values that are not in the codebook
    width: int = 1  # list: values at most
    shares: str = ''  # list: the field whose codes its own are; '' where it has its own
    sequence: str = ''  # list: what it is a column of; lists of one sequence are aligned
    weights: str = ''  # list: the column of rows.parquet that says what its values weigh; '' where each weighs 1


def label_column(name: str, outcome: str = '') -> str:
    """The column of rows.parquet that holds a label of another outcome than the main one, which '' is.

    >>> label_column('soft_label'), label_column('soft_label', 'like')
    ('soft_label', 'soft_label_like')
    """
    return f'{name}_{outcome}' if outcome else name


def _instead(folder: Path) -> str:
    """What was meant by a folder that is no memory."""
    if (folder / 'memory' / 'manifest.json').exists():
        return f'did you mean {folder / "memory"}?'
    if (folder / 'export.json').exists():
        return 'it is an export: name the memory that it was made of'
    return 'scripts/distill.py writes one'


def read_manifest(folder) -> dict:
    """Reads the manifest of an artifact.

    Raises:
      UserError: no artifact there, another format version, or a key that is not as the schema has it.
    """
    path = Path(folder) / 'manifest.json'
    if not path.exists():
        raise UserError(f'{path} is missing: {folder} is not a memory; {_instead(Path(folder))}')
    try:
        manifest = json.loads(path.read_text(encoding='utf-8'), parse_constant=_no_number)
        version_ = manifest.get('format')
    except FileNotFoundError as error:
        raise UserError(f'{path} has just gone: is another process writing there?') from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(f'{path} does not parse ({error}): copy or distill it again') from error
    if version_ not in (2, FORMAT):
        raise OtherFormat(
            f'{path} is of format {version_}, this version reads 2 and {FORMAT}: distill again in another --workdir, '
            'or read it with the version of diet-jax that wrote it'
        )
    try:
        manifest = opened(manifest)
    except ValueError as error:
        raise UserError(f'{path} is damaged, or was changed by hand ({error}): copy or distill it again') from error
    check_manifest(manifest, path)
    return manifest


def _no_number(word: str) -> None:
    raise ValueError(f'{word} is no number of JSON')
