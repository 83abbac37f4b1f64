"""One pass over the log's files, in pieces as at once, and whose local time it is."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from quirky import DAYS, ROWS, bytes_of, csv, data_of, days, healthy_log, parquet, refused

from diet_jax.base.errors import UserError
from diet_jax.config.data import check_data
from diet_jax.data import scan, tables
from diet_jax.data.stream import open_stream


@pytest.mark.parametrize('by', ['period', 'column', 'rows'])
@pytest.mark.parametrize('how', [csv, parquet], ids=['csv', 'parquet'])
def test_pieces_of_any_size_give_the_same_bytes(tmp_path, monkeypatch, how, by):
    for d, columns in enumerate(days()):
        how(tmp_path / 'log', d, {**columns, 'day': [f'd{d}'] * ROWS})
    data = data_of(tmp_path / 'log')
    data.block.update(by=by, column='day' if by == 'column' else '', rows=37 if by == 'rows' else 0)
    open_stream(data, tmp_path / 'w', lambda line: None)
    monkeypatch.setattr(tables, 'CSV_BLOCKS', (512, 1 << 20))
    monkeypatch.setattr(tables.batches, '__defaults__', (*tables.batches.__defaults__[:1], 7, lambda size: None))
    open_stream(data, tmp_path / 'v', lambda line: None)
    assert bytes_of(tmp_path / 'w') == bytes_of(tmp_path / 'v')


def test_nothing_is_left_of_a_pass_that_fails(tmp_path):
    data = healthy_log(tmp_path / 'log')
    csv(tmp_path / 'log', 7, {**days()[0], 'x': ['what'] * ROWS})
    refused(data, tmp_path / 'w', "day7.csv: column 'x' holds 'what', no number")
    assert not (tmp_path / 'w').exists()


def test_a_large_log_shows_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr('diet_jax.data.sources.LARGE', 1)
    monkeypatch.setattr('diet_jax.data.sources.STEP', 1)
    csv(tmp_path / 'odd', 0, {**days()[0], 'x': ['what'] * ROWS})
    refused(data_of(tmp_path / 'odd'), tmp_path / 'v', "holds 'what', no number")
    assert not (tmp_path / 'v').exists()
    data = healthy_log(tmp_path / 'log')
    open_stream(data, tmp_path / 'w', (said := []).append)
    size = sum(path.stat().st_size for path in (tmp_path / 'log').iterdir())
    lines = [line for line in said if 'reading the log' in line]
    assert len(lines) == DAYS and f'{size / 1e6:.0f} of {size / 1e6:.0f} MB' in lines[-1]
    assert 'reading the log' in (tmp_path / 'w' / 'log.txt').read_text()


def test_pieces_are_made_one_ahead_and_a_fault_comes_in_its_place():
    def numbers():
        yield 1
        yield 2
        raise ValueError('three')

    found = []
    with pytest.raises(ValueError, match='three'):
        for number in scan.ahead(numbers()):
            found.append(number)
    assert found == [1, 2]


# Zones: a column's own, unless an offset is given.


def zoned(root, zone):
    for d, columns in enumerate(days()):
        time = pa.array(np.array(columns['ts']) * 10**3, pa.timestamp('ms', zone))
        parquet(root, d, pa.table({**columns, 'ts': time}))
    data = data_of(root)
    data.time.unit, data.time_fields = 'ms', ('hour',)
    return data


@pytest.mark.parametrize('zone, hours', [('Asia/Shanghai', 8), ('+05:30', 5.5), ('America/New_York', -5), ('UTC', 0)])
def test_days_and_hours_are_of_the_columns_own_zone(tmp_path, zone, hours):
    data = zoned(tmp_path / 'log', zone)
    stream = open_stream(data, tmp_path / 'w', (said := []).append)
    given = zoned(tmp_path / 'log', zone)
    given.time.utc_offset_hours = float(hours)
    same_as = open_stream(given, tmp_path / 'v', lambda line: None)
    assert [block.key for block in stream.blocks] == [block.key for block in same_as.blocks]
    assert bytes_of(tmp_path / 'w') == bytes_of(tmp_path / 'v') and stream.utc_offset_hours == hours
    first = (np.array(days()[0]['ts'])[0] + hours * 3600) // 3600 % 24
    assert stream.values(stream.load(0).ids[:1, -1]).to_pylist() == [first]
    if hours:
        assert any(f"'ts' is in zone {zone}; days and hours are cut in UTC{hours:+g}" in line for line in said)


def test_a_zone_in_words_is_used(tmp_path):
    for d, columns in enumerate(days()):
        local = [datetime.datetime.fromtimestamp(t, datetime.UTC) + datetime.timedelta(hours=8) for t in columns['ts']]
        csv(tmp_path / 'log', d, {**columns, 'ts': [f'{t:%Y-%m-%dT%H:%M:%S}+08:00' for t in local]})
    data = data_of(tmp_path / 'log')
    data.time.unit = 'iso'
    assert open_stream(data, tmp_path / 'w', lambda line: None).utc_offset_hours == 8.0


def test_an_offset_that_blocks_were_not_cut_at_is_refused(tmp_path):
    data = zoned(tmp_path / 'log', 'Asia/Shanghai')
    open_stream(data, tmp_path / 'w', lambda line: None)
    data.time.utc_offset_hours = 0.0
    with pytest.raises(UserError, match="utc_offset_hours is 0, but the log's blocks were cut at 8"):
        open_stream(data, tmp_path / 'w', lambda line: None)
    data.time.utc_offset_hours = 8.0  # the way out
    open_stream(data, tmp_path / 'w', lambda line: None)
    with pytest.raises(UserError, match='data.time.utc_offset_hours is 80.0: it must be a number of hours'):
        check_data({'time': {'utc_offset_hours': 80.0, 'column': 't'}, 'label': {'column': 'y'}, 'fields': ['u']})


# Rows of other shapes.
