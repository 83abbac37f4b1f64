"""An export of a memory, opened: rows as arrays, in batches, with all that training takes.

    export.json                     what it was made of, how to train on it; checksums
    codes/, ids/                    a *view* each: train.parquet (the memory), valid.parquet, test.parquet (two blocks
                                    of the log that it has not seen), feature_map.json (FuxiCTR's)
    log/                            with --with_log: the log itself up to the memory's last block, by its own ids:
                                    train/00000.parquet, ... in time order; valid/ and test/ of one file each
    predictions/<name>.parquet      what a model of yours predicts of valid and test
    fuxictr/, README.md             configs of FuxiCTR; the card of a Hugging Face data set

A column a field, i32, codes from `Field.first` on; a list has as many as it is wide, 0 before its first value, and
where its values have weights (`Field.weights`) a column of these, f32; then `__label` and `__weight`, f32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diet_jax.base.atomic import read_json, typed
from diet_jax.base.errors import UserError, closest

FORMAT = 1
LABEL, WEIGHT = '__label', '__weight'
SPLITS = ('train', 'valid', 'test')
PADDING = 0  # in lists, before the first value
LOG = 'log'  # the view that is the log itself


Whole = Annotated[int, msgspec.Meta(ge=0, lt=2**48)]
Positive = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
Above = Annotated[float, msgspec.Meta(gt=0)]


class Field(NamedTuple):
    """A field of a view: its column, and the embedding table it is a number in."""

    name: str
    kind: str  # 'categorical' | 'numeric' | 'time' | 'list'
    size: int  # rows of its table, padding included
    first: int  # its least code: 1 where 0 is the padding of lists that share its table, else 0
    unseen: int  # the code of values that the memory, or the log up to it, has not
    shares: str = ''  # list: the field whose table its own is; '' where it has its own
    width: int = 1  # list: values at most
    sequence: str = ''  # list: what it is a column of; lists of one sequence are aligned
    weights: str = ''  # list: the column of what its values weigh; '' where each weighs 1


@dataclasses.dataclass(frozen=True)
class View:
    """How rows of a view are numbered, and trained on."""

    name: str  # 'codes', 'ids' or 'log'
    fields: tuple[Field, ...]  # lists among them
    passes: int  # over the training rows, shuffled; of the log one, in time order
    batch: int
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    init_std: float  # of embeddings at the start; first-order weights are 0 there

    @property
    def flat(self) -> tuple[Field, ...]:
        """The fields that are no lists, in the order of the columns of `Rows.codes`."""
        return tuple(f for f in self.fields if f.kind != 'list')

    @property
    def lists(self) -> tuple[Field, ...]:
        """Those that are."""
        return tuple(f for f in self.fields if f.kind == 'list')

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Where the table of a field begins in one table of all, `num_codes` rows; a shared one is there once."""
        own = [f for f in self.fields if not f.shares]
        starts = dict(zip((f.name for f in own), np.cumsum([0, *(f.size for f in own)]).tolist()))
        return {f.name: starts[f.shares or f.name] for f in self.fields}

    @property
    def num_codes(self) -> int:
        """Rows of one table for all fields."""
        return sum(f.size for f in self.fields if not f.shares)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of a view, as numbers in one embedding table of `view.num_codes` rows."""

    view: View
    codes: np.ndarray  # i32[N, F], of the fields that are no lists
    lists: dict[str, np.ndarray]  # i32[N, width] each; the row of padding where there is nothing
    target: np.ndarray  # f32[N] in [0, 1]: learned labels of the memory, clicks of valid and test
    weight: np.ndarray  # f32[N] >= 0
    list_weights: dict[str, np.ndarray]  # f32[N, width] of each list: what its values weigh, 0 where there is nothing

    def __len__(self) -> int:
        return len(self.target)

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """List -> bool[N, width]: where it has a value."""
        return {name: x != self.view.offsets[name] + PADDING for name, x in self.lists.items()}

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Field -> i32[N], list -> i32[N, width]: numbers within its own table, as in the files."""
        by_name = {f.name: self.codes[:, i] for i, f in enumerate(self.view.flat)} | self.lists
        return {f.name: by_name[f.name] - self.view.offsets[f.name] for f in self.view.fields}

    def take(self, index) -> Rows:
        """Some of the rows, in that order."""
        lists = {name: x[index] for name, x in self.lists.items()}
        heavy = {name: x[index] for name, x in self.list_weights.items()}
        return Rows(self.view, self.codes[index], lists, self.target[index], self.weight[index], heavy)

    def batches(self, seed: int) -> Iterator[Rows]:
        """What a training goes through: `view.passes` over the rows, `view.batch` at a time, shuffled by the seed; the
        log's in time order."""
        rng = np.random.default_rng(seed)
        for _ in range(self.view.passes):
            order = np.arange(len(self)) if self.view.name == LOG else rng.permutation(len(self))
            for begin in range(0, len(order), self.view.batch):
                yield self.take(order[begin : begin + self.view.batch])


class FieldOfExport(TypedDict):
    name: str
    kind: Literal['categorical', 'numeric', 'time', 'list']
    size: Positive
    first: Whole
    unseen: Whole
    shares: NotRequired[str]
    width: NotRequired[Positive]
    sequence: NotRequired[str]
    weights: NotRequired[str]


class ViewOfExport(TypedDict):
    fields: Annotated[list[FieldOfExport], msgspec.Meta(min_length=1)]
    passes: Positive
    batch: Positive
    learning_rates: Annotated[list[Above], msgspec.Meta(min_length=1)]


class RowsOfExport(TypedDict):
    train: Whole
    valid: Whole
    test: Whole
    log: NotRequired[Whole]


class About(TypedDict):
    """What is read of export.json."""

    digest: str
    stage: Positive
    rows: RowsOfExport
    seeds: Annotated[list[Whole], msgspec.Meta(min_length=1)]
    init_std: Above
    views: dict[str, ViewOfExport]


class Export:
    """An export, opened by `open_export`.

    Attributes:
      folder: where it is; about: what export.json holds; digest: of what it was made of; views: {name: `View`}.
    """

    def __init__(self, folder: Path, about: dict):
        self.folder, self.about, self.digest = folder, about, about['digest']
        self.views = {name: _view(name, about) for name in about['views']}

    def __repr__(self) -> str:
        return f'<export of stage {self.about["stage"]}: {", ".join(self.views)}>'

    @property
    def asked(self) -> tuple[str, ...]:
        """The views whose predictions are asked for."""
        return tuple(name for name in self.views if name != LOG)

    @property
    def sizes(self) -> dict[str, int]:
        """{'valid', 'test': rows}, the same in every view."""
        return {split: self.about['rows'][split] for split in SPLITS[1:]}

    def rows(self, view: str, split: str) -> Rows:
        """All rows of a view's split.

        Args: view: 'codes', 'ids', or 'log' of an export with the log; split: 'train', 'valid' or 'test'.
        Raises:
          UserError: no such view or split, or its file is gone.
        """
        return self._rows(pa.concat_tables(pq.read_table(path) for path in self.paths(view, split)), view)

    def batches(self, view: str, split: str, size: int) -> Iterator[Rows]:
        """The rows of a split in the order of its files, `size` at a time at most, never all of them in memory: the log
        in time order, for a full run, or a block to be predicted. Raises UserError as `rows` does."""
        for path in self.paths(view, split):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(size):
                    yield self._rows(pa.Table.from_batches([batch]), view)

    def paths(self, view: str, split: str) -> list[Path]:
        """The files of a view's split, in time order. Raises UserError as `rows` does."""
        for what, name, known in (('view', view, self.views), ('split', split, SPLITS)):
            if name not in known:
                raise UserError(f"{self.folder} has no {what} '{name}'{closest(name, known)}")
        many, one = self.folder / view / split, self.folder / view / f'{split}.parquet'
        paths = sorted(many.glob('*.parquet')) if many.is_dir() else [one]
        if not all(path.exists() for path in paths) or not paths:
            raise UserError(f'{one} is missing: export again (scripts/export.py)')
        return paths

    def _rows(self, table: pa.Table, name: str) -> Rows:
        view = self.views[name]
        named = {name for f in view.fields for name in (f.name, f.weights) if name}
        if gone := named - set(table.column_names):
            raise UserError(f'{self.folder / name} has no column {min(gone)!r}, which export.json names: export again')
        flat = [table[f.name].to_numpy() + view.offsets[f.name] for f in view.flat]
        lists = {f.name: _matrix(table[f.name], f.width) for f in view.lists}
        return Rows(
            view=view,
            codes=np.stack(flat, 1).astype(np.int32) if flat else np.zeros((table.num_rows, 0), np.int32),
            lists={name: x + np.int32(view.offsets[name]) for name, x in lists.items()},
            list_weights={
                f.name: _matrix(table[f.weights], f.width, np.float32)
                if f.weights
                else (lists[f.name] != PADDING).astype(np.float32)
                for f in view.lists
            },
            target=table[LABEL].to_numpy(),
            weight=table[WEIGHT].to_numpy(),
        )


def open_export(folder) -> Export:
    """Opens a folder that `scripts/export.py` wrote.

    Raises:
      UserError: no export there, or one of another format.

    >>> export = open_export('exports/kuairand')  # doctest: +SKIP
    >>> export.rows('codes', 'train').codes.shape  # doctest: +SKIP
    (1988, 30)
    """
    path = Path(folder) / 'export.json'
    if (about := read_json(path, 'export again')) is None:
        raise UserError(f'{path} is missing: {folder} is not an export; scripts/export.py writes one')
    if isinstance(about, dict) and about.get('format', FORMAT) != FORMAT:
        raise UserError(f'{path} is of format {about["format"]}, this version reads {FORMAT}: export again')
    typed(path, about, 'export again', About)
    for view in about['views'].values():
        shared, names = ({field.get(key, '') for field in view['fields']} for key in ('shares', 'name'))
        if gone := shared - names - {''}:
            raise UserError(f'{path} is damaged (a list shares the table of {min(gone)!r}): export again')
    return Export(Path(folder), about)


def auc(score, click, weight=None) -> float:
    """The share of the pairs of a click and no click that a score puts in order; ties count half.

    Args: score: f32[N]; click: [N], 0 or 1; weight: f32[N], of rows, None: 1 each.

    >>> auc([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
    0.875
    """
    score, click = np.asarray(score), np.asarray(click, np.float64)
    weight = np.ones(len(click)) if weight is None else np.asarray(weight, np.float64)
    _, place = np.unique(score, return_inverse=True)
    clicks, others = (np.bincount(place, weight * part) for part in (click, 1 - click))
    below = np.cumsum(others) - others / 2
    return float(clicks @ below / (clicks.sum() * others.sum()))


@dataclasses.dataclass(frozen=True)
class Log:
    """The log itself, as a full run trains on it: in time order, never all of it in memory."""

    export: Export

    @property
    def view(self) -> View:
        return self.export.views[LOG]

    def __len__(self) -> int:
        return self.export.about['rows'][LOG]

    def __getattr__(self, name: str):
        raise AttributeError(f"the log has no '{name}': it is streamed, `batches(seed)` has its rows")

    def batches(self, seed: int) -> Iterator[Rows]:
        """As those of `Rows`: `view.batch` rows at a time, the same for every seed."""
        for _ in range(self.view.passes):
            yield from self.export.batches(LOG, SPLITS[0], self.view.batch)


def _view(name: str, about: dict) -> View:
    said = about['views'][name]
    return View(
        name=name,
        fields=tuple(Field(**field) for field in said['fields']),
        passes=said['passes'],
        batch=said['batch'],
        learning_rates=tuple(said['learning_rates']),
        seeds=tuple(about['seeds']),
        init_std=about['init_std'],
    )


def _matrix(column: pa.ChunkedArray, width: int, dtype=np.int32) -> np.ndarray:
    """[N, width] of a column of lists of one width."""
    chunks = [chunk.flatten().to_numpy() for chunk in column.chunks]
    return np.concatenate([*chunks, np.zeros(0, dtype)]).reshape(-1, width).astype(dtype)
