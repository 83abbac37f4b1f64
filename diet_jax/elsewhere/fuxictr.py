"""What FuxiCTR (github.com/reczoo/FuxiCTR, 2.3) reads beside the rows: `feature_map.json` of a view, and its configs.

Its data folder is `data_root/dataset_id`, so a view is a data set. A table has a row of padding, 0, where a list is
numbered in it: FuxiCTR masks lists by zeros, and keeps that row at zero by `padding_idx`. No other field gets one: code
0 would never train.

A list has a table of its own, though its numbers are those of the field that it shares them with: FuxiCTR leaves the
first-order weights of whatever has `share_embedding` at N(0, 1), and sums them over the list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from diet_jax.elsewhere.export import LABEL, LOG, PADDING, SPLITS, Field

MODEL = 'DeepFM'


def feature_map(view: str, fields: Sequence[Field]) -> dict:
    """feature_map.json of a view: fields come before lists, which may be made to share their tables."""
    ordered = [*(f for f in fields if f.kind != 'list'), *(f for f in fields if f.kind == 'list')]
    return {
        'dataset_id': view,
        'num_fields': len(ordered),
        'total_features': sum(f.size for f in ordered),
        'input_length': sum(f.width for f in ordered),
        'labels': [LABEL],
        'features': [{f.name: _feature(f)} for f in ordered],
    }


def configs(about: Mapping, folder: Path) -> dict[str, str]:
    """{path: text} of dataset_config.yaml and model_config.yaml, an experiment a view.

    Args: about: what export.json holds; folder: of the export, absolute: FuxiCTR runs elsewhere.
    """
    data, models = ['# data_root is where the export was written: change it with the place.'], [_BASE]
    for name, view in about['views'].items():
        log = name == LOG
        files = {f'{split}_data': str(folder / name / (split if log else f'{split}.parquet')) for split in SPLITS}
        data += _section(name, {'data_root': f'{folder}/', 'data_format': 'parquet', **files, 'streaming': log})
        models += _section(f'{MODEL}_{name}', {
            'model': MODEL,
            'dataset_id': name,
            'learning_rate': view['learning_rates'][len(view['learning_rates']) // 2],
            'batch_size': view['batch'],
            'epochs': view['passes'],
            'shuffle': not log,
            'embedding_dim': about['dim'],
        })  # fmt: skip
    return {
        'fuxictr/dataset_config.yaml': '\n'.join(data) + '\n',
        'fuxictr/model_config.yaml': '\n'.join(models) + '\n',
    }


def _feature(field: Field) -> dict:
    if field.kind != 'list':
        padding = {'padding_idx': PADDING} if field.first else {}
        return {'source': '', 'type': 'categorical', **padding, 'vocab_size': field.size}
    return {
        'source': '',
        'type': 'sequence',
        'feature_encoder': 'layers.MaskedAveragePooling()',
        'padding_idx': PADDING,
        'max_len': field.width,
        'vocab_size': field.size,
    }


def _section(name: str, values: Mapping) -> list[str]:
    return ['', f'{json.dumps(name)}:', *(f'    {key}: {_yaml(value)}' for key, value in values.items())]


def _yaml(value) -> str:
    """A value as YAML 1.1 reads it: 1e-05 alone would be text there."""
    return f'{value:.8f}'.rstrip('0') if isinstance(value, float) else json.dumps(value)


_BASE = """# Experiments that train as the memory's own students do: one pass, small batches, no regularisation. For
# every model of yours try the learning rates of export.json in turn (learning_rate), and its seeds (seed). A model that
# reads lists itself, as DIN, wants them unpooled, in the table of the field that export.json says a list shares:
# feature_specs: [{name: <list>, feature_encoder: null, share_embedding: <field>}]. No model with first-order weights
# (LR, FM, DeepFM, ...) does: FuxiCTR would start those of the list at N(0, 1).
Base:
    model_root: './checkpoints/'
    num_workers: 0
    verbose: 0
    early_stop_patience: 2
    pickle_feature_encoder: False
    save_best_only: True
    eval_steps: null
    debug_mode: False
    group_id: null
    use_features: null
    feature_specs: null
    feature_config: null
    loss: 'binary_crossentropy'
    metrics: ['logloss', 'AUC']
    task: binary_classification
    optimizer: adam
    hidden_units: [64, 32]
    hidden_activations: relu
    net_regularizer: 0
    embedding_regularizer: 0
    batch_norm: False
    net_dropout: 0
    seed: 0
    monitor: 'AUC'
    monitor_mode: 'max'"""
