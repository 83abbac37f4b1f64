"""The front matter of a Hugging Face data set's card: what `datasets.load_dataset(folder)` finds in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping

TAGS = ('tabular', 'recommendation', 'click-through-rate', 'dataset-distillation', 'diet-jax')


def front_matter(title: str, configs: Mapping[str, Mapping[str, str]]) -> str:
    """The top of a README.md. configs: {name: {split: path}}; the first is what is loaded where none is named.

    >>> print(front_matter('A log', {'rows': {'train': 'rows.parquet'}}).split('configs:')[1].strip())
    - config_name: "rows"
      default: true
      data_files:
      - split: train
        path: "rows.parquet"
    ---
    """
    lines = ['---', 'license: unknown', f'pretty_name: {json.dumps(title)}', 'tags:', *(f'- {tag}' for tag in TAGS)]
    lines += ['configs:']
    for i, (name, files) in enumerate(configs.items()):
        lines += [f'- config_name: {json.dumps(name)}', *([] if i else ['  default: true']), '  data_files:']
        for split, path in files.items():
            lines += [f'  - split: {split}', f'    path: {json.dumps(path)}']
    return '\n'.join([*lines, '---', ''])
