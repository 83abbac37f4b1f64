"""Finds log files and side tables, on disks or object stores, and says what they are: by content, not by name."""

import fnmatch
import hashlib
import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs

from diet_jax.base.errors import UserError, closest

# What the first bytes of a file say: Parquet, or text that is compressed.
PACKED = {b'\x1f\x8b': 'gzip', b'BZh': 'bz2', b'\x28\xb5\x2f\xfd': 'zstd', b'\x04\x22\x4d\x18': 'lz4'}
REFUSED = {
    b'PK\x03\x04': 'a zip archive: unpack it',
    b'ORC': 'an ORC file: write it as Parquet or CSV',
    b'Obj\x01': 'an Avro file: write it as Parquet or CSV',
    b'ARROW1': 'an Arrow (Feather) file: write it as Parquet or CSV',
    b'\x89HDF': 'an HDF5 file: write it as Parquet or CSV',
    b'\x80\x04\x95': 'a pickle, which is never loaded: write it as Parquet or CSV',
    b'7z\xbc\xaf': 'a 7z archive: unpack it',
}
CHUNK = 1 << 22  # bytes read at a time
NO_VALUE = '__HIVE_DEFAULT_PARTITION__'  # a folder of rows without a value


class LogFile(NamedTuple):
    """A file below `data.root`."""

    name: str  # relative to the root
    path: str  # in the file system
    size: int  # bytes
    is_csv: bool  # or Parquet
    packed: str | None  # codec of compressed text
    digest: str = ''  # of its bytes, once they were read
    looked_for: str = ''  # a quote that was looked for in a text
    quoted: bool = False  # whether it is there

    @property
    def partitions(self) -> dict[str, str | None]:
        """Columns that the folders of its path say: {'date': '2024-03-01'} of date=2024-03-01/part-0.parquet."""
        pairs = [part.split('=', 1) for part in self.name.split('/')[:-1] if re.match('[^=]+=', part)]
        return {name: None if value == NO_VALUE else unquote(value) for name, value in pairs}


class Root(NamedTuple):
    """Where the files lie."""

    system: pa.fs.FileSystem
    folder: str
    shown: str  # as the user wrote it


def open_root(root: str) -> Root:
    """Opens a folder or a URI; raises UserError where it is not there."""
    try:
        if '://' in root:
            system, folder = pa.fs.FileSystem.from_uri(root)
        else:
            system, folder = pa.fs.LocalFileSystem(), posixpath.abspath(posixpath.expanduser(root))
        info = system.get_file_info(folder)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"data.root '{root}' cannot be opened: {error}") from error
    if info.type != pa.fs.FileType.Directory:
        raise UserError(f"data.root '{root}' is not a folder: set data.root to the folder of the log files")
    return Root(system, folder, root)


def find_files(root: Root, patterns: Iterable[str], key: str = 'data.log') -> list[LogFile]:
    """Files that match one of the patterns, in order of their names.

    Of files with one stem (`a.parquet` and `a.csv.gz`) only the one that the earlier pattern names is taken.

    Raises:
      UserError: no file matches, one is empty or of a format that is not read, or one pattern takes a file twice.
    """
    taken: dict[str, pa.fs.FileInfo] = {}
    for pattern in patterns:
        wanted = pattern.split('/')
        earlier = {_stem(name) for name in taken}
        selector = pa.fs.FileSelector(root.folder, recursive=len(wanted) > 1)
        for info in root.system.get_file_info(selector):
            name = posixpath.relpath(info.path, root.folder)
            parts = name.split('/')
            if info.type != pa.fs.FileType.File or len(parts) != len(wanted) or _stem(name) in earlier:
                continue
            if all(fnmatch.fnmatchcase(part, want) for part, want in zip(parts, wanted, strict=True)):
                taken[name] = info
    if not taken:
        there = {
            posixpath.relpath(i.path, root.folder): i.type
            for i in root.system.get_file_info(pa.fs.FileSelector(root.folder))
        }
        if folder := next((p for p in patterns if there.get(p) == pa.fs.FileType.Directory), ''):
            raise UserError(f"{root.shown}: {key} {folder} is a folder: name its files, '{folder}/*.parquet' for one")
        hint = closest(' '.join(patterns), sorted(there))
        raise UserError(f'{root.shown}: no file matches {key} {" ".join(patterns)}{hint}: correct data.root or {key}')
    by_stem: dict[str, str] = {}
    for name in sorted(taken):
        other = by_stem.setdefault(_stem(name), name)
        if other != name:
            raise UserError(
                f'{root.shown}: {other} and {name} look like one file twice, and {key} takes both: remove one of them, '
                f'or name the files closer in {key}'
            )
    return [known(root, name, taken[name]) for name in sorted(taken)]


def known(root: Root, name: str, info: pa.fs.FileInfo) -> LogFile:
    """A file by its first bytes; UserError where it is of a format that is not read."""
    if info.size == 0:
        raise UserError(f'{name} in {root.shown} is empty (0 bytes): remove it or fetch it again')
    try:
        with root.system.open_input_stream(info.path, compression=None) as stream:
            first = stream.read(16)
        packed = next((codec for magic, codec in PACKED.items() if first.startswith(magic)), None)
        if packed == 'bz2' and first[4:10] != b'1AY&SY':
            packed = None
        if packed:
            with root.system.open_input_stream(info.path, compression=packed) as stream:
                first = stream.read(16)
            if first.startswith(b'PAR1'):
                raise UserError(f'{name} is a Parquet file inside {packed}: unpack it, Parquet compresses by itself')
    except OSError as error:
        raise UserError(f'{name} in {root.shown} cannot be read ({error}): fetch it again') from error
    is_text = not name.endswith(('.parquet', '.pq')) and all(
        byte in b'\t\r\n' or 32 <= byte < 127 for byte in first
    )  # a header may begin as a format does
    for magic, what in REFUSED.items():
        if first.startswith(magic) and not is_text:
            raise UserError(f'{name} is {what}, or take it out of data.log')
    return LogFile(name, info.path, info.size, is_text or not first.startswith(b'PAR1'), packed)


def looked_through(root: Root, file: LogFile, quote: str = '') -> LogFile:
    """A file with the digest of its bytes: a changed one is noticed whatever its size and time stamp say.

    Args: quote: character that is looked for in a text on the way.
    """
    found, quoted = hashlib.blake2b(digest_size=16), False
    wanted = quote.encode() if file.is_csv else b''
    with root.system.open_input_stream(file.path, compression=None) as stream:
        while chunk := stream.read(CHUNK):
            found.update(chunk)
            quoted = quoted or bool(wanted and not file.packed and wanted in chunk)
    if wanted and file.packed:
        quoted = any(wanted in chunk for chunk in unpacked(root, file))
    return file._replace(digest=found.hexdigest(), looked_for=wanted.decode(), quoted=quoted)


def unpacked(root: Root, file: LogFile) -> Iterator[bytes]:
    """The bytes of a text, some at a time; UserError where it does not unpack, as after a download that broke off."""
    with root.system.open_input_stream(file.path, compression=file.packed) as stream:
        try:
            while chunk := stream.read(CHUNK):
                yield chunk
        except OSError as error:
            if not file.packed:
                raise
            raise UserError(f'{file.name} does not unpack as {file.packed} ({error}): fetch it again') from error


def find_file(root: Root, pattern: str, key: str) -> LogFile:
    """The one file that matches a pattern; UserError where there is none, or where there are several."""
    found = find_files(root, [pattern], key)
    if len(found) > 1:
        raise UserError(f'{root.shown}: {found[0].name} and {found[1].name} both match {key} {pattern}: name one file')
    return found[0]


def _stem(name: str) -> str:
    return re.sub(r'(\.(parquet|pq|csv|tsv|txt|dat|gz|gzip|bz2|zst|lz4))+$', '', name)
