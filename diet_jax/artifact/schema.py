"""What a manifest.json may say: types and ranges of its keys, for a memory may come from elsewhere.

Keys that are not here pass: a newer version may write more.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from diet_jax.base.errors import UserError
from diet_jax.config.data import DATA, name_fault
from diet_jax.config.keys import check_types

Whole = Annotated[int, Meta(ge=0, lt=2**31)]
Positive = Annotated[int, Meta(ge=1, lt=2**31)]
Digest = Annotated[str, Meta(pattern='^[0-9a-f]{64}$')]


class FieldOfManifest(msgspec.Struct):
    name: str
    kind: Literal['categorical', 'numeric', 'time', 'list']
    codes: Positive
    bounds: list[float]
    missing_code: Whole
    unseen_code: Whole
    width: Positive = 1
    shares: str = ''
    sequence: str = ''
    weights: str = ''


class Manifest(msgspec.Struct):
    stage: Positive
    last_block: str
    rows: Whole
    rows_seen: Whole
    label: str
    group: str
    fields: Annotated[list[FieldOfManifest], Meta(min_length=1)]
    seed: Annotated[int, Meta(ge=0)]
    budgets: dict[str, float | None]
    versions: dict[str, str]
    checksums: dict[str, Digest]
    outcomes: Annotated[list[str], Meta(min_length=1)] | UnsetType = UNSET  # these four: of earlier versions not there
    roles: dict[str, str] | UnsetType = UNSET
    data: dict | UnsetType = UNSET
    students: dict | UnsetType = UNSET


def check_manifest(manifest: Any, path) -> None:
    """Raises UserError for a parsed manifest that cannot be one: a key's type or range, or keys that do not fit.

    Args: path: of manifest.json, for the message.
    """
    try:
        said = msgspec.convert(manifest, Manifest)
        _check_fields(said.fields)
        _check_files(said)
        if said.data is not UNSET:
            check_types({name: key for name, key in DATA.items() if name != 'rename'}, said.data, 'data')
    except (msgspec.ValidationError, UserError) as error:
        raise UserError(f'{path} is damaged: {error}: copy or distill it again') from error


def files_of(fields) -> list[str]:
    """The files of a memory beside its manifest, by its fields.

    >>> files_of([])
    ['rows.parquet']
    """
    return ['rows.parquet', *(f'codebook/{f.name}.parquet' for f in fields if not f.shares)]


def _check_fields(fields: list[FieldOfManifest]) -> None:
    names = [f.name for f in fields]
    for f in fields:
        if fault := name_fault(f.name):
            raise UserError(f'field {f.name!r} {fault}')
        if names.count(f.name) > 1:
            raise UserError(f'field {f.name!r} is there twice')
        if f.shares and (f.kind != 'list' or f.shares not in names or f.shares == f.name):
            raise UserError(f'field {f.name!r} shares the codes of {f.shares!r}, which is no other field')
        if f.weights and (f.kind != 'list' or f.weights in names):
            raise UserError(f'field {f.name!r} has weights {f.weights!r}, which is no column beside the fields')
        if max(f.missing_code, f.unseen_code) >= f.codes:
            raise UserError(
                f'field {f.name!r} has a missing_code or unseen_code that is not below its codes, {f.codes}'
            )
        if f.bounds != sorted(f.bounds):
            raise UserError(f'bounds of field {f.name!r} do not increase')
    if all(f.kind == 'list' for f in fields):
        raise UserError('every field is a list')


def _check_files(said: Manifest) -> None:
    if missing := sorted(set(files_of(said.fields)) - set(said.checksums)):
        raise UserError(f'checksums lack {missing[0]}')
    if odd := sorted(set(said.checksums) - set(files_of(said.fields))):
        raise UserError(f'checksums name {odd[0]!r}, which is no file of a memory of these fields')
    if said.outcomes is not UNSET and len(set(said.outcomes)) < len(said.outcomes):
        raise UserError(f'outcomes {said.outcomes} name one twice')
