"""What is written is a data set of Hugging Face: `datasets.load_dataset(folder)`, offline."""

import importlib.util
import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from diet_jax import elsewhere
from diet_jax.study.export import export

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('datasets') is None, reason='datasets is not installed: it reads exports and memories'
)
CODE = """
import json, sys
from datasets import load_dataset
found = {}
for name in sys.argv[2:]:
    for split, rows in load_dataset(sys.argv[1], name or None).items():
        found[f'{name} {split}'] = rows.to_pandas().to_json(orient='split', date_format='iso', double_precision=15)
print(json.dumps(found))
"""


def loaded(folder, tmp_path, *names) -> dict:
    """{'configuration split': rows as pandas writes JSON} of a folder, '' for the configuration that is the default."""
    env = {**os.environ, 'HF_DATASETS_OFFLINE': '1', 'HF_HUB_OFFLINE': '1', 'HF_HOME': str(tmp_path / 'hf')}
    done = subprocess.run(
        [sys.executable, '-c', CODE, str(folder), *names], capture_output=True, text=True, timeout=300, env=env
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def written(*paths) -> str:
    """Files of Parquet, as `loaded` gives them."""
    import pandas as pd

    table = pd.concat([pq.read_table(path).to_pandas() for path in paths], ignore_index=True)
    return table.to_json(orient='split', date_format='iso', double_precision=15)


def test_an_export_is_a_data_set(distilled, tmp_path):
    folder = export(distilled / 'memory', tmp_path / 'exports', with_log=True, emit=lambda line: None)
    found, opened = loaded(folder, tmp_path, 'codes', 'ids', 'log'), elsewhere.open_export(folder)
    assert len(found) == 9
    for key, rows in found.items():
        assert rows == written(*opened.paths(*key.split())), key


def test_a_memory_is_a_data_set(distilled, tmp_path):
    """As it lies in its run: its rows by default, and every codebook."""
    memory = distilled / 'memory'
    books = [path.stem for path in sorted((memory / 'codebook').iterdir())]
    found = loaded(memory, tmp_path, '', *(f'codebook_{name}' for name in books))
    assert found.pop(' train') == written(memory / 'rows.parquet')
    assert books and {f'codebook_{name} train' for name in books} == found.keys()
    for name in books:
        assert found[f'codebook_{name} train'] == written(memory / 'codebook' / f'{name}.parquet')
