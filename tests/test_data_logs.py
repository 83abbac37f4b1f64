"""The public logs of the data folder, in the form in which they were published, are read as what they are."""

import gzip
import pathlib

import numpy as np
import pyarrow as pa
import pytest
from test_data import START, opened

from diet_jax.schema import default_data


def test_delimiters_of_several_characters_headerless_gzip_and_latin1(tmp_path):
    rows = "".join(f"{u}::{m}::{(u * m) % 5 + 1}::{START // 1000 + 60 * u}\n" for u in range(40) for m in range(1, 6))
    with gzip.open(tmp_path / "ratings.dat.gz", "wb") as file:
        file.write(rows.encode())
    movies = "".join(f'{m}::Am\u00e9lie, "{m}"::a|b\n' for m in range(1, 5))
    (tmp_path / "movies.dat").write_bytes(movies.encode("latin1"))
    stream = opened(_movielens(tmp_path, rows=50), tmp_path / "w")
    assert [block.rows for block in stream.blocks] == [50] * 4
    titles = stream.values(stream.load(0).ids[:, 2]).to_pylist()
    assert titles[:5] == [
        'Am\u00e9lie, "1"',
        'Am\u00e9lie, "2"',
        'Am\u00e9lie, "3"',
        'Am\u00e9lie, "4"',
        None,
    ]


def _movielens(root, rows):
    data = default_data()
    data.root, data.log = str(root), ("ratings.dat.gz",)
    data.csv.update(delimiter="::", column_names=("user", "movie", "rating", "second"), encoding="latin1")
    data.time.update(column="second", unit="s")
    data.block.update(by="rows", rows=rows)
    data.label.update(column="rating", threshold=4.0)
    data.fields = ("user", "movie", "title")
    table = dict(path="movies.dat", key="movie", csv=dict(column_names=("movie", "title", "genres")))
    data.side_tables = (table,)
    return data


def _need(root: pathlib.Path, name: str) -> pathlib.Path:
    if not (root / name).is_dir():
        pytest.skip(f"no {name} in {root}")
    return root / name


# Rows per `date`, 2022-04-25 to 05-08, as the data's README lists them.
KUAIRAND_ROWS = [
    14911,
    14530,
    14328,
    13972,
    15839,
    21204,
    20790,
    19554,
    18943,
    17600,
    13390,
    13834,
    13687,
    15747,
]


def test_kuairand_days_are_those_of_its_description(tmp_path, data_root):
    data = default_data()
    data.root, data.log = (
        str(_need(data_root, "kuairand")),
        ("log_standard_*_pure.parquet", "log_standard_*_pure.csv"),
    )
    data.time.update(column="time_ms", utc_offset_hours=8.0)
    data.block.update(by="column", column="date")
    data.label.column = "is_click"
    data.fields = ("user_id", "video_id", "tab", "author_id", "onehot_feat1", "onehot_feat12", "tag")
    data.numeric.video_duration = 8
    data.side_tables = (
        dict(path="user_features_pure.csv", key="user_id"),
        dict(path="video_features_basic_pure.csv", key="video_id"),
    )
    stream = opened(data, tmp_path / "w")
    assert [block.rows for block in stream.blocks] == KUAIRAND_ROWS
    assert sum(block.positives for block in stream.blocks) == 100_900
    videos = [stream.load(t).ids[:, 1] for t in range(2)]
    assert len(np.unique(videos[0])) == 3398
    assert np.mean(~np.isin(videos[1], videos[0])) == pytest.approx(0.096, abs=5e-4)
    assert stream.values(stream.load(0).ids[:, 5]).type == pa.int64()  # read as floats because of nulls
    data.duplicates = "drop"
    assert sum(block.rows for block in opened(data, tmp_path / "w").blocks) == 222_869


def test_movielens_and_taobao_are_read(tmp_path, data_root):
    stream = opened(_movielens(_need(data_root, "movielens-1m-half"), rows=100_000), tmp_path / "w")
    assert len(stream.blocks) == 4 and all(0 <= block.rows - 100_000 < 40 for block in stream.blocks)
    assert stream.values(stream.load(0).ids[:, 2]).null_count == 0
    data = default_data()
    data.root, data.log = str(_need(data_root, "taobao")), ("user_behavior*.parquet",)
    data.time.update(column="timestamp", unit="s", utc_offset_hours=8.0)
    data.label.update(column="behavior", positive=("cart", "fav", "buy"))
    data.fields = ("user_id", "item_id", "category_id")
    data.block.update(by="rows", rows=20_000)  # 35 stray rows lie weeks before the first day
    stream = opened(data, tmp_path / "w")
    positives = sum(stream.load(t).label.sum() for t in range(4))
    assert positives / 80_000 == pytest.approx(0.102, abs=0.002)


def test_globo_files_are_one_stream(tmp_path, data_root):
    data = default_data()
    data.root, data.log = str(_need(data_root, "globo")), ("clicks_2017-10-1[56].parquet",)
    data.time.update(column="click_timestamp")
    data.label.update(column="click_deviceGroup", positive=(1,))  # every row is a click: any column does to read it
    data.fields = ("user_id", "click_article_id", "click_region")
    stream = opened(data, tmp_path / "w")
    assert [(block.key, block.rows) for block in stream.blocks] == [
        ("2017-10-15", 92163),
        ("2017-10-16", 189779),
    ]
