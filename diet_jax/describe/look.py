"""Which files of a folder belong together: one name but for its numbers, one format, the same columns."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from diet_jax.base.errors import UserError
from diet_jax.data import files
from diet_jax.describe.formats import Format, recognised

LOOKED_AT = 12  # files of one name that are opened to see what they are
_UUID = r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'


class Group(NamedTuple):
    """Files that are one table."""

    patterns: tuple[str, ...]  # as `data.log` takes them
    files: tuple[files.LogFile, ...]
    format: Format  # columns: those that all of them have
    partly: tuple[str, ...] = ()  # columns that only some have
    bad: tuple[str, ...] = ()  # files that its patterns may take, and that are no table

    @property
    def name(self) -> str:
        return self.patterns[0] if len(self.files) > 1 else self.files[0].name


def groups(root: files.Root) -> tuple[list[Group], list[str]]:
    """The tables of a folder, and the names of files that are none or are not read.

    Raises:
      UserError: there is no file, or no table among them.
    """
    there, odd = _listing(root)
    tables: dict = {}
    for pattern, named in _by(there, lambda file: normal(file.name)).items():
        shown = named if len(named) <= LOOKED_AT else [named[round(i)] for i in _evenly(len(named), LOOKED_AT)]
        formats = {file: recognised(root, file) for file in shown}
        if not any(formats.values()):
            odd += [file.name for file in named]
            continue
        bad = [file for file, found in formats.items() if not found]
        clusters = _clusters([(file, found) for file, found in formats.items() if found])
        for one in clusters:
            key = (posixpath.dirname(pattern), _same(one[0][1], pattern))
            alone = [file for file in named if file not in bad]  # what is not looked at is as those that are
            whole = alone if len(clusters) == 1 else [file for file, _ in one]
            tables.setdefault(key, []).append((pattern, whole, [found for _, found in one]))
        odd += [file.name for file in bad]
    if not tables:
        shown = f': {", ".join(sorted(odd)[:3])}' if odd else ''
        raise UserError(
            f'{root.shown} holds no table ({len(there)} files{shown}): name a folder of Parquet or CSV files in --root'
        )
    found, copies = _without_copies([_group(parts, there, set(odd)) for parts in tables.values()])
    return found, sorted([*odd, *copies])


def _listing(root: files.Root) -> tuple[list[files.LogFile], list[str]]:
    """The files of a folder, and the names of those of a format that is not read."""
    found, odd = [], []
    for info in root.system.get_file_info(pa.fs.FileSelector(root.folder, recursive=True)):
        name = posixpath.relpath(info.path, root.folder)
        hidden = any(part.startswith(('.', '_')) for part in name.split('/'))
        if info.type == pa.fs.FileType.File and not hidden and info.size:
            try:
                found.append(files.known(root, name, info))
            except UserError:
                odd.append(name)
    if not found and not odd:
        raise UserError(f'{root.shown} holds no file: name the folder of the log files in --root')
    return sorted(found, key=lambda file: file.name), odd


def normal(name: str) -> str:
    """A file's name with a star for every number; of its folders only for those that are a date or a key=value.

    >>> normal('clicks_2017-10-01.parquet'), normal('ml-1m/date=2024-03-01/part-0.csv')
    ('clicks_*.parquet', 'ml-1m/date=*/part-*.csv')
    """
    *folders, last = name.replace('[', '[[]').split('/')
    folders = [re.sub(r'(?<==).*|^\d+([-_]\d+)*$', '*', part) for part in folders]
    stem, dot, ending = last.partition('.')
    while ending[:1].isdigit():  # a number after a point is no ending
        more, dot, ending = ending.partition('.')
        stem += f'.{more}'
    stem = re.sub(r'\d+([-_.:T]\d+)*', '*', re.sub(_UUID, '*', stem))
    return '/'.join([*folders, re.sub(r'\*([-_.]?\*)+', '*', stem) + dot + ending])


def _by(things, key) -> dict:
    found: dict = {}
    for thing in things:
        found.setdefault(key(thing), []).append(thing)
    return found


def _evenly(count: int, taken: int) -> list[float]:
    return [i * (count - 1) / (taken - 1) for i in range(taken)]


def _same(form: Format, pattern: str) -> tuple:
    """What tables that are one have in common; without a header the name must be one."""
    columns = tuple(sorted(form.columns)) if form.header else (pattern, len(form.columns))
    return form.kind, form.delimiter, form.header, columns


def _clusters(found: Sequence[tuple[files.LogFile, Format]]) -> list[list]:
    """Files of one name by what they hold: most columns in common."""
    clusters: list[list] = []
    for file, form in found:
        for cluster in clusters:
            other, mine = set(cluster[0][1].columns), set(form.columns)
            if form.kind == cluster[0][1].kind and len(other & mine) * 2 >= len(other | mine):
                cluster.append((file, form))
                break
        else:
            clusters.append([(file, form)])
    return clusters


def _group(parts: Sequence[tuple[str, list, list[Format]]], there: list[files.LogFile], odd: set[str]) -> Group:
    """One table of several names. odd: files that are no table; its patterns may take them, and reading tells them."""
    formats = [form for _, _, of_name in parts for form in of_name]
    every = list(dict.fromkeys(name for form in formats for name in form.columns))
    common = tuple(name for name in every if all(name in form.columns for form in formats))
    taken = sorted({file for _, named, _ in parts for file in named})
    encoding = 'latin1' if any(form.encoding == 'latin1' for form in formats) else 'utf8'
    names = {file.name for file in taken} | odd
    patterns: list[str] = []
    for pattern, named, _ in sorted(parts, key=lambda part: ('*' not in part[0], -len(part[1]), part[0])):
        if not patterns or not all(any(matches(file.name, p) for p in patterns) for file in named):
            patterns += _exact(pattern, [file.name for file in named], names, there)
    form = formats[0]._replace(columns=common, encoding=encoding)
    partly = tuple(name for name in every if name not in common)
    return Group(tuple(patterns), tuple(taken), form, partly, tuple(sorted(odd)))


def matches(name: str, pattern: str) -> bool:
    """Whether `data.log` takes a file of that name: part by part, as `files.find_files` does.

    >>> matches('a/day-1.csv', '*/day-*.csv'), matches('a/day-1.csv', '*.csv')
    (True, False)
    """
    parts, wanted = name.split('/'), pattern.split('/')
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _exact(pattern: str, named: list[str], group: set[str], there: list[files.LogFile]) -> list[str]:
    """The pattern, a narrower one where it takes files of other tables, the names where that does, too."""
    for one in (pattern, pattern.replace('*', '[0-9]*')):
        found = {file.name for file in there if matches(file.name, one)}
        if set(named) <= found <= group:
            return [one]
    return [name.replace('[', '[[]') for name in named]


def stem(name: str) -> str:
    """A file's name without the endings of tables: files of one stem are one table in several formats."""
    return re.sub(r'(\.(parquet|pq|csv|tsv|txt|dat|gz|bz2|zst))+$', '', name)


def _without_copies(found: list[Group]) -> tuple[list[Group], list[str]]:
    """Of tables whose files are those of another but for their ending: Parquet, else the first."""
    kept: list[Group] = []
    copies: list[str] = []
    for group in sorted(found, key=lambda g: (g.format.kind != 'parquet', g.patterns)):
        stems = {stem(file.name) for file in group.files}
        if any(stems <= {stem(file.name) for file in other.files} for other in kept):
            copies += [file.name for file in group.files]
        else:
            kept.append(group)
    return kept, copies
