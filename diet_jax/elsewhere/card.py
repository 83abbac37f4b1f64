"""The card of an export as a Hugging Face data set: README.md."""

from __future__ import annotations

from collections.abc import Mapping

from diet_jax.base.hugging_face import front_matter
from diet_jax.elsewhere.export import LABEL, LOG, SPLITS, WEIGHT


def text(about: Mapping) -> str:
    """README.md. about: what export.json holds."""
    return f'{front_matter(_title(about), {view: _files(view) for view in about["views"]})}\n{_body(about)}'


def _files(view: str) -> dict[str, str]:
    return {split: f'{view}/{split}{"/*" if view == LOG else ""}.parquet' for split in SPLITS}


def _title(about: Mapping) -> str:
    return f'Distilled memory of a click log, stage {about["stage"]}'


def _body(about: Mapping) -> str:
    rows, budgets = about['rows'], about['budgets']
    rates = ', '.join(f'{lr:g}' for lr in about['views']['codes']['learning_rates'])
    weights = ' and '.join(f'{w:g} of its AUC on `{view}`' for view, w in about['weights'].items())
    log = '' if LOG not in about['views'] else _LOG.format(**about['views'][LOG])
    train, valid, test = (f'{rows[split]:,}' for split in SPLITS)
    return f"""# {_title(about)}

{train} learned rows that stand for the {rows['log']:,} rows of a click log up to {about['last_block']}
({100 * budgets['rows']:.2f} % of them), distilled by diet-jax (DIET, arXiv 2603.24958).
A click model that is trained on them from scratch comes out close to where it would on the whole log, so ideas are
compared here first.

## What is here

| split | what | rows |
|---|---|---:|
| `train` | the memory; `{LABEL}` is learned, from 0 to 1: not for metrics that want 0 or 1 | {train} |
| `valid` | the log's block {about['tuned_on']}, unseen by the memory: choose the learning rate here | {valid} |
| `test` | the block {about['scored_on']}, which it has not seen either: score once | {test} |

`codes` are learned codes of every field, `ids` the values that the memory's rows have. A candidate is trained on both
and ordered by {weights}. A field's codes are below its `size` in
`export.json`; where lists share its table 0 is their padding. `{WEIGHT}` is what a row weighs.

## How to train on it

Binary cross-entropy, plain Adam, batch {about['views']['codes']['batch']}, {about['views']['codes']['passes']} pass,
embeddings from N(0, {about['init_std']:g}), first-order weights 0, no regularisation; learning rates
{rates}; seeds {', '.join(map(str, about['seeds']))}.

```python
from diet_jax import elsewhere  # without JAX

elsewhere.grid(fit, 'this folder', 'my-model')  # fit(train, lr, seed) -> predict; then compare --predictions=
datasets.load_dataset('this folder', 'codes')
```

FuxiCTR, as published: `run_expid.py --config <this folder>/fuxictr --expid DeepFM_codes`.
{log}
## When not to use it

- To train what is served: it is for comparing ideas. The full log trains the winner.
- To score a day up to {about['last_block']}: the memory has seen it.
- Labels, codes and values come from a log of people's behaviour: what holds for sharing that holds here. The licence is
  that of the log: put it into `license:` above before you share this.

Made from `{about['memory']}`, digest `{about['digest']}`, by diet-jax {about['versions'].get('diet-jax', '')}.
"""


_LOG = """
## The log itself

`log` is the whole log up to the same block, by its own ids, in time order: for a full run in your framework, {passes}
pass, not shuffled, batch {batch}. Score it on `test` for an anchor: {{"name": ..., "auc": ...}}.
"""
