"""A memory from elsewhere: whatever its manifest says, it is read right or refused in one line."""

import contextlib
import copy
import hashlib
import json
import shutil

import faults
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diet_jax.artifact.read import load_memory
from diet_jax.base.errors import UserError

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [-1, 0, 1, 7, 10**13, 2**80, 0.5, float('nan'), float('inf'), '', '..', '../../x', 'user', 'x\x00']
    ),
    st.lists(st.sampled_from([0, 'a', None]), max_size=2),
    st.dictionaries(
        st.sampled_from(['../../x', 'rows.parquet', 'user']), st.sampled_from(['', 0, 'a' * 64]), max_size=2
    ),
)


@pytest.fixture(scope='module')
def copied(distilled, tmp_path_factory):
    """A copy of a memory to be doctored, and its manifest."""
    folder = tmp_path_factory.mktemp('elsewhere') / 'memory'
    shutil.copytree(distilled / 'memory', folder)
    manifest = json.loads((folder / 'manifest.json').read_text())
    del manifest['checksum']  # of itself: one that is doctored has none, as of an earlier version
    return folder, manifest


@contextlib.contextmanager
def doctored(folder, manifest):
    path = folder / 'manifest.json'
    before = path.read_text()
    path.write_text(json.dumps(manifest))
    try:
        yield
    finally:
        path.write_text(before)


def put(manifest, at, value=None, gone=False):
    manifest = copy.deepcopy(manifest)
    *before, last = at
    section = manifest
    for key in before:
        section = section[key]
    if gone:
        del section[last]
    else:
        section[last] = value
    return manifest


@settings(max_examples=100 * faults.MANY, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_value_at_any_place_is_read_or_refused(copied, data):
    folder, manifest = copied
    at = data.draw(st.sampled_from(list(faults.places(manifest))))
    value, gone = data.draw(ODD), data.draw(st.booleans())
    with doctored(folder, put(manifest, at, value, gone)):
        try:
            memory = load_memory(folder)
            assert memory.codes.shape == (manifest['rows'], len(memory.fields))
            assert memory.table_rows.min() >= 0 and memory.table_rows.max() < memory.num_codes < 10_000
            assert memory.ids.max() < memory.num_ids and np.isfinite(memory.label()).all() and repr(memory)
        except UserError as error:
            assert '\n' not in str(error) and 'manifest' in str(error) or 'distill' in str(error)


@pytest.mark.parametrize(
    ('at', 'value', 'words'),
    [
        (('fields', 0, 'codes'), -3, r'manifest.json is damaged: Expected `int` >= 1 - at `\$.fields\[0\].codes`'),
        (('fields', 0, 'codes'), 2**31 - 1, 'codes of user: distill again'),
        (('fields', 0, 'name'), '../../../x', "field '../../../x' holds a character that no file name can have"),
        (('fields', 1, 'name'), 'user', "field 'user' is there twice"),
        (('checksums',), {}, 'checksums lack codebook/hour.parquet'),
        (('stage',), '4', r'Expected `int`, got `str` - at `\$.stage`'),
        (('rows',), 3, 'rows.parquet has 64 rows, and its manifest says 3'),
        (('data', 'time', 'column'), 3, 'data.time.column is 3: it must be a string'),
        (('outcomes',), ['label', 'like'], "column 'soft_label_like' is missing"),
    ],
)
def test_what_is_wrong_is_said(copied, at, value, words):
    folder, manifest = copied
    with doctored(folder, put(manifest, at, value)), pytest.raises(UserError, match=words):
        load_memory(folder)


def test_a_file_outside_of_the_folder_is_never_read(copied):
    folder, manifest = copied
    outside = folder.parent / 'secret'
    outside.write_text('x')
    sums = {**manifest['checksums'], '../secret': hashlib.sha256(b'x').hexdigest()}
    with doctored(folder, {**manifest, 'checksums': sums}), pytest.raises(UserError, match='is no file of a memory'):
        load_memory(folder)


def test_what_a_newer_version_adds_passes(copied):
    folder, manifest = copied
    field = {**manifest['fields'][0], 'colour': 'red'}
    with doctored(folder, {**manifest, 'fields': [field, *manifest['fields'][1:]], 'signed_by': [1]}):
        assert load_memory(folder).fields[0].name == 'user'


def test_codes_that_a_field_does_not_have_are_refused(copied):
    folder, manifest = copied
    path = folder / 'rows.parquet'
    before, table = path.read_bytes(), pq.read_table(path)
    codes = table['item__code'].to_numpy().copy()
    codes[3] = -1
    at = table.column_names.index('item__code')
    pq.write_table(table.set_column(at, 'item__code', pa.array(codes, pa.int32())), path)
    sums = {**manifest['checksums'], 'rows.parquet': hashlib.sha256(path.read_bytes()).hexdigest()}
    try:
        with doctored(folder, {**manifest, 'checksums': sums}), pytest.raises(UserError, match='has codes -1 to'):
            load_memory(folder)
    finally:
        path.write_bytes(before)
