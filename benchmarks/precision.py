"""bf16 compute with fp32 tables, sums and optimizer, against fp32: one pass of DCNv2 along the simulated stream."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import clock, problem
from diet_jax.config.data import Simulated, simulated_data
from diet_jax.data.simulated import simulate_block
from diet_jax.models import Model
from diet_jax.stats import metrics
from diet_jax.training.passes import init_stream, stream_pass

FIELDS = ('user', 'item', 'user_group', 'category', 'author', 'tab', 'device')


def in_bf16(model: Model) -> Model:
    """The same model, its head computed in bf16 from rows and parameters kept in fp32; logits in fp32."""

    def rows(head, rows, ids=None, *, dropout_key=None):
        half = lambda x: x.astype(jnp.bfloat16)  # noqa: E731
        return model.rows(jax.tree.map(half, head), half(rows), ids, dropout_key=dropout_key).astype(jnp.float32)

    return model._replace(name=f'{model.name}, bf16', rows=rows)


def case(sizes) -> dict:
    """`bf16_dcnv2_epoch` (ms, and how many times as fast as fp32); `bf16_dcnv2_auc`: progressive, less that of fp32."""
    ids, label = _stream(sizes)
    block = problem.batches(ids, sizes.batch)._replace(label=jnp.asarray(label.reshape(-1, sizes.batch)))
    model = problem.reference(sizes, 'dcnv2')
    state = init_stream(model, jax.random.key(0), int(ids.max()) + 1, ids.shape[1])
    passes = {
        name: jax.jit(lambda s, m=m: stream_pass(m, s, block, 2e-3)[1])
        for name, m in {'fp32': model, 'bf16': in_bf16(model)}.items()
    }
    seconds = clock.interleaved({name: lambda f=f: f(state) for name, f in passes.items()}, sizes.repeats)
    half = label.size // 2  # the second half: the first is where the model learns its scale
    auc = {name: metrics.auc(np.asarray(f(state)).reshape(-1)[half:], label[half:]) for name, f in passes.items()}
    ratio = seconds['fp32'].median / seconds['bf16'].median
    return {
        'bf16_dcnv2_epoch': clock.milliseconds(seconds['bf16'], 'fp32', ratio),
        'bf16_dcnv2_auc': clock.figure(auc['bf16'] - auc['fp32'], 'AUC less that of fp32'),
    }


def _stream(sizes):
    """(ids i32[n, F], label f32[n]) of the simulated stream, whole batches."""
    blocks, rows = sizes.simulated
    parameters = Simulated(**simulated_data(blocks=blocks, rows_per_block=rows).simulated)
    tables = [simulate_block(parameters, t) for t in range(blocks)]
    columns, offset = [], 0
    for name in FIELDS:
        column = np.concatenate([table[name].to_numpy() for table in tables])
        columns.append(column + offset)
        offset += int(column.max()) + 1
    label = np.concatenate([table['label'].to_numpy() for table in tables])
    n = label.size // sizes.batch * sizes.batch
    return np.stack(columns, 1)[:n].astype(np.int32), label[:n].astype(np.float32)
