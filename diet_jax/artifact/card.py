"""The card of a memory as a Hugging Face data set: README.md."""

from __future__ import annotations

import re
from collections.abc import Mapping

from diet_jax.base.hugging_face import front_matter


def text(manifest: Mapping) -> str:
    """README.md of a memory, of its manifest alone: the rows are the default, a codebook is loaded by its name."""
    last, seen = manifest['last_block'], manifest['rows_seen']
    title = f'Distilled memory of a click log, up to {last}'
    share = f'{100 * manifest["rows"] / seen:.2f} %'
    return f"""{front_matter(title, _configs(manifest))}
# {title}

{manifest['rows']:,} rows that stand for {seen:,} of a log ({share}), distilled by diet-jax (DIET, arXiv 2603.24958),
stage {manifest['stage']}. Train on the mean of `soft_label` and `mean_label`: probabilities of `{manifest['label']}`.

```python
datasets.load_dataset('this folder')  # rows.parquet; 'codebook_<field>' beside it: value -> code
diet_jax.load_memory('this folder')  # as arrays, and encodes a log
```

`manifest.json` says how a log is encoded, and how to train. A memory is for comparing ideas, not for training what is
served, and not for scoring a day up to {last}: it has seen it. Its values come from a log of people's behaviour: what
holds for sharing that holds here. The licence is that of the log: put it into `license:` above before you share this.
"""


def _configs(manifest: Mapping) -> dict[str, dict[str, str]]:
    """What can be loaded. A codebook whose field has a name that no configuration may have is left out."""
    found = {'rows': {'train': 'rows.parquet'}}
    for path in sorted(manifest['checksums']):
        if one := re.fullmatch(r'codebook/([\w-]+)\.parquet', path):
            found[f'codebook_{one[1]}'] = {'train': path}
    return found
