"""What a file is, by what is in it: Parquet, or text with a delimiter, with or without a header."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from diet_jax.data import files

HEAD = 1 << 18  # bytes of a text that are looked at
DELIMITERS = ('::', '\t', ',', ';', '|')
ALIKE = 0.95  # share of the lines that must have one number of values
NO_TABLE = ('.md', '.py', '.json', '.jsonl', '.html', '.xml', '.yaml', '.yml', '.ipynb', '.sh', '.crc')


class Format(NamedTuple):
    """How a file is read."""

    kind: str  # 'parquet' or 'csv'
    columns: tuple[str, ...]  # c0, c1, ... where there is no header
    delimiter: str = ','
    encoding: str = 'utf8'
    header: bool = True


def recognised(root: files.Root, file: files.LogFile) -> Format | None:
    """The format of a file; None where it is no table, or cannot be read."""
    if file.name.endswith(NO_TABLE):
        return None
    try:
        with root.system.open_input_stream(file.path, compression=file.packed) as stream:
            head = stream.read(HEAD)
        if not file.is_csv:
            with root.system.open_input_file(file.path) as source:
                return Format('parquet', tuple(pq.read_schema(source).names))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError):
        return None
    return of_text(head, whole=len(head) < HEAD)


def of_text(head: bytes, whole: bool = True) -> Format | None:
    r"""The format of a text by its first bytes; None where it has no columns.

    Args: whole: whether the text ends with them; else the last line is a part of one.

    >>> of_text(b'1::Toy Story (1995)::Animation|Comedy\n2::Jumanji (1995)::Adventure\n')
    Format(kind='csv', columns=('c0', 'c1', 'c2'), delimiter='::', encoding='utf8', header=False)
    >>> of_text(b'user;item\n1;2\n3;4\n').columns
    ('user', 'item')
    """
    if not head or b'\0' in head or head.lstrip()[:1] in (b'{', b'[', b'<'):
        return None
    text, encoding = decoded(head, whole)
    lines = text.splitlines() if whole else text.splitlines()[:-1]
    lines = [line for line in lines[:200] if line.strip()]
    counted = [(*_consistency(lines, delimiter), delimiter) for delimiter in DELIMITERS]
    good = [(share, count, delimiter) for share, count, delimiter in counted if count > 1 and share >= ALIKE]
    if len(lines) < 2 or not good:
        return None
    _, count, delimiter = max(good, key=lambda found: found[:2])
    rows = [row for row in split(lines, delimiter) if len(row) == count]
    header = _has_header(rows)
    columns = tuple(rows[0]) if header else tuple(f'c{i}' for i in range(count))
    return Format('csv', columns, delimiter, encoding, header)


def decoded(head: bytes, whole: bool = True) -> tuple[str, str]:
    """The text of some bytes and its encoding: what is no UTF-8 is taken for Latin-1.

    >>> decoded('Amélie'.encode('latin1'))
    ('Amélie', 'latin1')
    """
    try:
        return codecs.getincrementaldecoder('utf-8-sig')().decode(head, whole), 'utf8'
    except UnicodeDecodeError:
        return head.decode('latin1'), 'latin1'


def split(lines: list[str], delimiter: str) -> list[list[str]]:
    """Lines as values; quotes count where the delimiter is one character."""
    if len(delimiter) > 1:
        return [line.split(delimiter) for line in lines]
    try:
        return list(csv.reader(lines, delimiter=delimiter))
    except csv.Error:
        return [line.split(delimiter) for line in lines]


def _consistency(lines: list[str], delimiter: str) -> tuple[float, int]:
    """(share of the lines that have the most frequent number of values, that number)."""
    counts = Counter(len(row) for row in split(lines, delimiter) if row)
    if not counts:
        return 0.0, 0
    count, often = counts.most_common(1)[0]
    return often / sum(counts.values()), count


_VALUE = re.compile(r'\s*([-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|\d{4}-\d\d-\d\d.*)\s*')


def _has_header(rows: list[list[str]]) -> bool:
    first, rest = rows[0], rows[1:]
    if any(_VALUE.fullmatch(cell) for cell in first) or not all(first[1:]) or len(set(first)) < len(first):
        return False
    for name, column in zip(first, zip(*rest, strict=True)):
        filled = [cell for cell in column if cell]
        if filled and all(_VALUE.fullmatch(cell) for cell in filled):
            return True
        if name in column:
            return False
    return all(re.fullmatch(r'[^\W\d][\w .:/#-]*', name) for name in first)
