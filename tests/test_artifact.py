"""The memory on disk, read with pyarrow and json alone, as docs/elsewhere.md has it."""

import hashlib
import inspect
import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from tiny import DAYS, ROWS

from diet_jax import models
from diet_jax.artifact.read import load_memory
from diet_jax.artifact.write import _meant, write_artifact
from diet_jax.base.atomic import put_folder, read_json, recover_folder, write_json
from diet_jax.base.errors import UserError
from diet_jax.config.data import check_data
from diet_jax.data.stream import open_stream
from diet_jax.distillation import codebook
from diet_jax.distillation.memory import init_memory

FIELDS = ['user', 'item', 'tab', 'price', 'hour']
LEARNED = ['soft_label', 'mean_label', 'hard_label', 'count', 'weight', 'influence']
FILES = ['rows.parquet', *(f'codebook/{f}.parquet' for f in FIELDS)]


@pytest.fixture(scope='module')
def memory(distilled):
    return distilled / 'memory'


@pytest.fixture(scope='module')
def manifest(memory):
    return read_json(memory / 'manifest.json')


@pytest.fixture(scope='module')
def rows(memory):
    return pq.read_table(memory / 'rows.parquet')


@pytest.fixture(scope='module')
def books(memory):
    return {f: pq.read_table(memory / 'codebook' / f'{f}.parquet').to_pydict() for f in FIELDS}


@pytest.fixture(scope='module')
def stream(distilled):
    return open_stream(tiny.get_config().data, distilled, emit=lambda line: None)


def test_files_and_checksums(memory, manifest):
    found = sorted(str(p.relative_to(memory)) for p in memory.rglob('*') if p.is_file())
    assert found == sorted([*FILES, 'README.md', 'manifest.json'])
    assert manifest['checksums'] == {f: hashlib.sha256((memory / f).read_bytes()).hexdigest() for f in FILES}


def test_columns_and_types(rows, memory):
    assert rows.column_names == [name for f in FIELDS for name in (f, f'{f}__code')] + [*LEARNED, 'stage']
    for field in FIELDS:
        assert rows.schema.field(f'{field}__code').type == pa.int32() and rows[f'{field}__code'].null_count == 0
        book = pq.read_table(memory / 'codebook' / f'{field}.parquet')
        assert book.schema.names == ['value', 'code'] and book.schema.field('code').type == pa.int32()
        assert book.schema.field('value').type == rows.schema.field(field).type == pa.int64()
    assert {rows.schema.field(name).type for name in LEARNED} == {pa.float32()}
    assert rows.schema.field('stage').type == pa.int32()
    for path in FILES:
        assert pq.ParquetFile(memory / path).metadata.row_group(0).column(0).compression == 'ZSTD'


def test_manifest_numbers(manifest, rows, memory, stream):
    size = sum((memory / f).stat().st_size for f in FILES)
    encoded = sum(b.encoded_bytes for b in stream.blocks)
    raw = sum(b.raw_bytes for b in stream.blocks)
    assert manifest['format'] == 3 and manifest['seed'] == 0
    assert (manifest['stage'], manifest['last_block']) == (4, DAYS[3])
    assert manifest['rows'] == rows.num_rows == int(0.05 * 4 * ROWS) and manifest['rows_seen'] == 4 * ROWS
    assert manifest['label'] == 'label' and manifest['group'] == 'user'
    assert manifest['budgets'] == {
        'rows': 0.05,
        'bytes': size,
        'encoded_bytes': encoded,
        'raw_bytes': raw,
        'bytes_of_encoded': size / encoded,
        'bytes_of_raw': size / raw,
    }
    assert [f['name'] for f in manifest['fields']] == FIELDS
    assert [f['kind'] for f in manifest['fields']] == ['categorical'] * 3 + ['numeric', 'time']
    assert {'python', 'diet-jax', 'jax', 'pyarrow'} <= manifest['versions'].keys()


def test_manifest_says_how_a_log_is_encoded_and_a_student_trained(manifest):
    config = tiny.get_config()
    data = check_data(config.data)
    said = {**manifest['data'], 'root': data['root']}
    data['time']['utc_offset_hours'] = 0.0  # of the stream's times
    assert said == {key: data[key] for key in said} and list(said['numeric']) == list(config.data.numeric)
    left_out = {'log', 'duplicates', 'since', 'until', 'simulated', 'impressions'}  # choose, change none
    left_out |= {'first_value', 'lists', 'histories', 'weight'}  # there is none
    assert said.keys() == data.keys() - left_out and manifest['weekday'] == 'Monday is 0'
    assert manifest['roles'] == config.roles.to_dict()
    built = inspect.signature(models.build).parameters
    assert manifest['students'] == {
        'batch': 16,
        'epochs': [1, 2],
        'learning_rates': [3e-3, 1e-2],
        'id_epochs': 1,
        'by_ids': 0.1,
        'init_std': built['init_std'].default,
        'optimizer': 'adam',
        'label': 'blend',
    }


def test_the_root_of_the_log_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny.get_config()
    for root, kept in (('logs', str(tmp_path / 'logs')), ('s3://bucket/logs', 's3://bucket/logs')):
        config.data.update(source='files', root=root, log=('a.parquet',))
        assert _meant(config, 0.0)['data']['root'] == kept


def test_what_the_reader_gives(memory, rows, manifest):
    artifact = load_memory(memory)
    assert artifact.rows.equals(rows) and artifact.manifest == manifest
    c = {name: rows[name].to_numpy() for name in LEARNED}
    by_hand = {
        'blend': (c['soft_label'] + c['mean_label']) / 2,
        'soft': c['soft_label'],
        'mean': c['mean_label'],
        'hard': c['hard_label'],
    }
    for view, label in by_hand.items():
        assert artifact.label(view).dtype == np.float32
        np.testing.assert_allclose(artifact.label(view), label, rtol=1e-6)
    np.testing.assert_array_equal(artifact.label(), artifact.label('blend'))
    with pytest.raises(UserError, match="no view 'softly' .did you mean 'soft'"):
        artifact.label('softly')
    for f, name in enumerate(FIELDS):
        values, codes = artifact.codebook[name]
        assert artifact.codes[:, f].tolist() == rows[f'{name}__code'].to_pylist()
        assert values.take(pa.array(artifact.ids[:, f])).to_pylist() == rows[name].to_pylist()
        assert codes[artifact.ids[:, f]].tolist() == artifact.codes[:, f].tolist()
    assert artifact.ids.dtype == artifact.codes.dtype == np.int32
    sizes = [len(artifact.codebook[name][0]) + 2 for name in FIELDS]
    assert artifact.num_ids == sum(sizes) and artifact.id_offsets().tolist() == np.cumsum([0, *sizes[:-1]]).tolist()


def test_reading_a_memory_starts_no_jax(memory):
    """A memory is read where no JAX is installed, or where it would take the only accelerator."""
    code = (
        'import sys; sys.modules.update(jax=None, flax=None, optax=None); import diet_jax; '
        f'memory = diet_jax.load_memory({str(memory)!r}); '
        "memory.encode({**{f: [1] for f in ('user', 'item', 'tab', 'time')}, 'price': [1.0]})"
    )
    subprocess.run([sys.executable, '-c', code], check=True, timeout=120)


def test_values_and_codes_agree_with_the_codebook(manifest, rows, books):
    for field in manifest['fields']:
        name, codes = field['name'], field['codes']
        book = dict(zip(books[name]['value'], books[name]['code']))
        assert len(book) == len(books[name]['value']), 'a value has one code'
        assert book[None] == field['unseen_code'], 'the row with a null value is the code of unseen values'
        assert set(book.values()) <= set(range(codes)) and 0 <= field['missing_code'] < codes <= 12
        value, code = rows[name].to_pylist(), rows[f'{name}__code'].to_pylist()
        assert code == [book[v] for v in value]


def test_learned_columns_are_what_their_names_say(rows):
    c = {name: rows[name].to_numpy().astype(np.float64) for name in LEARNED}
    assert ((c['soft_label'] > 0) & (c['soft_label'] < 1)).all()
    assert ((c['mean_label'] >= 0) & (c['mean_label'] <= 1)).all() and set(c['hard_label']) == {0.0, 1.0}
    assert (c['count'] >= 0).all() and c['count'].sum() == 4 * ROWS
    entries = list(zip(*(rows[f].to_pylist() for f in FIELDS)))
    repeated = [entries.count(entry) > 1 for entry in entries]
    assert all(repeated[i] for i in np.flatnonzero(c['count'] < 1)), 'all rows of two alike go to one of them'
    np.testing.assert_allclose(c['weight'].mean(), 1.0, rtol=1e-6)
    clicks = c['count'] * c['mean_label']
    np.testing.assert_allclose(clicks, np.round(clicks), atol=1e-3, err_msg='a mean of that many clicks')
    assert set(rows['stage'].to_pylist()) <= {1, 2, 3, 4}


def test_means_add_up_to_the_clicks_of_the_log(rows, stream):
    clicks = sum(b.positives for b in stream.blocks)
    assert (rows['count'].to_numpy() * rows['mean_label'].to_numpy()).sum() == pytest.approx(clicks, rel=1e-5)


def test_entries_are_rows_of_the_log(rows, stream):
    """Every entry is a row that the log has, with its own click, from the stage that the entry names."""
    log = {}
    for t in range(4):
        block = stream.load(t)
        columns = [stream.values(block.ids[:, f]).to_pylist() for f in range(len(FIELDS))]
        log[t + 1] = set(zip(*columns, block.label.tolist()))
    entries = list(zip(*(rows[f].to_pylist() for f in FIELDS), rows['hard_label'].to_pylist()))
    for entry, stage in zip(entries, rows['stage'].to_pylist()):
        assert entry in log[stage]


def test_a_numeric_code_is_its_bin(manifest, rows, books):
    price = manifest['fields'][3]
    bins = len(price['bounds']) + 1  # up to the 4 asked for: boundaries that coincide are one
    assert 2 <= bins <= 4 and price['bounds'] == sorted(set(price['bounds']))
    assert rows['price'].to_pylist() == rows['price__code'].to_pylist()
    known = [(v, c) for v, c in zip(books['price']['value'], books['price']['code']) if v is not None]
    assert known == [(b, b) for b in range(bins)] and price['codes'] == bins + 1 and price['missing_code'] == bins


def test_code_of_slots_is_the_map_of_the_files(distilled, stream):
    """Whatever the stage: the log's rows, coded value by value from the files, are those of `code_of_slots`."""
    for stage in (1, 4):
        folder = distilled / 'history' / f'{stage:05d}'
        artifact = load_memory(folder)
        table, offsets = artifact.code_of_slots(stream), artifact.offsets()
        manifest = json.loads((folder / 'manifest.json').read_text())
        assert artifact.num_codes == sum(f['codes'] for f in manifest['fields'])
        block, unseen = stream.load(3), 0
        for f, field in enumerate(manifest['fields']):
            book = pq.read_table(folder / 'codebook' / f'{field["name"]}.parquet').to_pydict()
            book = dict(zip(book['value'], book['code']))
            values = stream.values(block.ids[:, f]).to_pylist()
            unseen += sum(v not in book for v in values)
            by_hand = [book.get(v, book[None]) + offsets[f] for v in values]
            assert table[block.ids[:, f]].tolist() == by_hand
            assert table[2 * f] - offsets[f] == field['missing_code']
            assert table[2 * f + 1] - offsets[f] == field['unseen_code']
        assert (unseen > 0) == (stage == 1), 'the fourth day brings values that the first did not know'
        stored = np.stack([artifact.codes[:, f] for f in range(len(FIELDS))], 1)
        assert (stored >= 0).all() and (stored < [f.codes for f in artifact.fields]).all()


def test_missing_values_have_a_code_and_null_in_rows(tmp_path):
    """A log in which a field's value is sometimes missing and a memory entry stands for such a row."""

    data = tiny.get_config().data
    log = pa.table({'user': [1, None, 2, 1], 'time': [1, 2, 3, 4], 'label': [0, 1, 1, 0]})
    pq.write_table(log, tmp_path / 'log.parquet')
    data.update(source='files', root=str(tmp_path), log=('log.parquet',), fields=('user',), time_fields=(), group='')
    data.numeric = {}
    stream = open_stream(data, tmp_path / 'run', emit=lambda line: None)
    ids = stream.load(0).ids
    book = codebook.init_codebook(8, 1, 4, 3)
    frequency = np.bincount(ids[:, 0], minlength=8).astype(np.float32)
    code = np.array([0, 3, 1, 2, 0, 0, 0, 0], np.int32)  # missing, unseen, 1, 2, padding
    book = book._replace(code=code, frequency=frequency)
    old = init_memory(4, 1)
    memory = old._replace(
        ids=np.array([[0], [2], [0], [0]], np.int32), count=np.float32([1, 3, 0, 0]), valid=np.arange(4) < 2
    )
    sizes = dict(encoded_bytes=1, raw_bytes=1, rows_seen=4)
    config = tiny.get_config()
    config.data = data
    write_artifact(tmp_path / 'memory', memory, book, stream, source=config, stage=1, seed=0, **sizes)
    rows = pq.read_table(tmp_path / 'memory' / 'rows.parquet').to_pydict()
    table = pq.read_table(tmp_path / 'memory' / 'codebook' / 'user.parquet').to_pydict()
    field = json.loads((tmp_path / 'memory' / 'manifest.json').read_text())['fields'][0]
    assert rows['user'] == [None, 1] and rows['user__code'] == [field['missing_code'], 1]
    assert table['value'] == [1, 2, None] and table['code'] == [1, 2, field['unseen_code']]
    np.testing.assert_array_equal(rows['weight'], [1, 1])
    artifact = load_memory(tmp_path / 'memory')
    assert artifact.code_of_slots(stream).tolist() == [field['missing_code'], 2, 1, 2]
    encoded = artifact.encode({'user': [2, None, 1, 3]})
    assert artifact.ids.tolist() == [[2], [0]] and encoded.ids.tolist() == [[1], [2], [0], [3]]
    assert encoded.codes.tolist() == [[2], [field['missing_code']], [1], [field['unseen_code']]]


@pytest.mark.parametrize('name', FILES)
def test_a_flipped_byte_is_caught(memory, tmp_path, name):
    folder = shutil.copytree(memory, tmp_path / 'memory')
    damaged = bytearray((folder / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / name).write_bytes(bytes(damaged))
    with pytest.raises(UserError, match=f'{name} is missing or not as it was written .checksum.'):
        load_memory(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f'{name} is missing'):
        load_memory(folder)


def test_other_formats_and_no_memory_at_all(memory, tmp_path):
    with pytest.raises(UserError, match='manifest.json is missing: .* is not a memory; scripts/distill.py writes one'):
        load_memory(tmp_path / 'nothing')
    folder = shutil.copytree(memory, tmp_path / 'memory')
    with pytest.raises(UserError, match=f'is not a memory; did you mean {folder}?'):
        load_memory(tmp_path)
    (tmp_path / 'export').mkdir()
    (tmp_path / 'export' / 'export.json').write_text('{}')
    with pytest.raises(UserError, match='it is an export: name the memory that it was made of'):
        load_memory(tmp_path / 'export')
    path = folder / 'manifest.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'format': 4}))
    wanted = 'manifest.json is of format 4, this version reads 2 and 3: distill again'
    with pytest.raises(UserError, match=wanted) as caught:
        load_memory(folder)
    assert '\n' not in str(caught.value)
    for text in ('{"format"', '[1]'):
        path.write_text(text)
        with pytest.raises(UserError, match='manifest.json does not parse'):
            load_memory(folder)


def test_half_a_folder_is_never_in_place(memory, distilled, stream, tmp_path, monkeypatch):
    """Whatever file the writing stops at, the place holds nothing, or the older artifact whole."""
    from diet_jax.artifact import write as writing

    state = tiny.opened(distilled).state
    sizes = dict(encoded_bytes=1, raw_bytes=1, rows_seen=4 * ROWS)
    write = lambda: write_artifact(  # noqa: E731
        tmp_path / 'm', state.memory, state.codebook, stream, source=tiny.get_config(), stage=4, seed=0, **sizes
    )
    real = writing._write_parquet

    class Stop(Exception):
        pass

    def stop_at(n):
        def parquet(table, path):
            parquet.calls += 1
            if parquet.calls == n:
                path.write_bytes(b'PAR1 half')
                raise Stop
            real(table, path)

        parquet.calls = 0
        return parquet

    for older in (False, True):
        for n in range(1, len(FILES) + 1):
            monkeypatch.setattr(writing, '_write_parquet', stop_at(n))
            with pytest.raises(Stop):
                write()
            assert (tmp_path / 'm').exists() == older
            if older:
                load_memory(tmp_path / 'm')
        monkeypatch.setattr(writing, '_write_parquet', real)
        write()
    assert [p.name for p in tmp_path.iterdir()] == ['m']
    for name in FILES:
        assert (tmp_path / 'm' / name).read_bytes() == (memory / name).read_bytes(), 'the same state, the same bytes'


def test_replacing_and_recovering_a_folder(tmp_path):
    def make(name, text):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'file').write_text(text)

    place = tmp_path / 'memory'
    read = lambda: (place / 'file').read_text()  # noqa: E731
    make('part', 'one')
    put_folder(tmp_path / 'part', place)
    make('part', 'two')
    put_folder(tmp_path / 'part', place)
    assert read() == 'two' and [p.name for p in tmp_path.iterdir()] == ['memory']
    recover_folder(place)
    assert read() == 'two', 'nothing to recover'
    place.rename(tmp_path / 'memory.old')  # a crash between the two renames
    recover_folder(place)
    assert read() == 'two' and not (tmp_path / 'memory.old').exists()
    make('memory.old', 'one')  # a crash after them
    recover_folder(place)
    assert read() == 'two'
    make('part', 'three')
    place.rename(tmp_path / 'gone')
    put_folder(tmp_path / 'part', place)
    assert read() == 'three' and not (tmp_path / 'memory.old').exists()


def test_json_that_any_program_can_read(tmp_path):
    write_json(tmp_path / 'x.json', {'auc': float('nan'), 'list': [1.5, float('inf'), (2, 'a')]})
    assert read_json(tmp_path / 'x.json') == {'auc': None, 'list': [1.5, None, [2, 'a']]}
    assert list(json.loads((tmp_path / 'x.json').read_text())) == ['auc', 'list', 'checksum']
    assert [p.name for p in tmp_path.iterdir()] == ['x.json']
