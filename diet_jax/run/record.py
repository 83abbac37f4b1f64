"""What a run leaves of a stage: its artifact, its twins, and its line of metrics.jsonl.

metrics.jsonl    one JSON object a stage:
    stage, block, rows, rows_seen, rows_per_second
    seconds        read, stage, compile, save, total
    reference      progressive validation of the reference model: auc, logloss, gauc; train_loss
    twins          {name: {auc, logloss}}
    codebook       slots, new_slots, moved (share of the block's ids whose code changed)
    influence      rows_mean, rows_abs_mean, positive_share, memory_mean
    addressing     entries kept, modified, replaced; admitted
    refinement     proposed outer steps, accepted (0 or 1), loss_before, loss_after, outer_loss, meta_gradient_norm
    memory         rows, row_budget, bytes, byte_budget, byte_budget_raw, mass (sum of counts)
    outcomes       where a row has several: {name of another than the main one: positives, reference, refinement}
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diet_jax.artifact.write import write_artifact
from diet_jax.base.atomic import copy_folder, put_folder, read_json_lines, remove
from diet_jax.distillation.state import StageMetrics, StageState
from diet_jax.run import twin_files
from diet_jax.run.run import Run
from diet_jax.stats import metrics
from diet_jax.training.batches import unshard


def export(run: Run, state: StageState, t: int) -> dict:
    """Writes the artifact of stage t + 1 to history/, puts a copy of it at memory/, and drops what `history.keep`
    says."""
    blocks = run.stream.blocks[: t + 1]
    kept = run.workdir / 'history' / f'{t + 1:05d}'
    kept.parent.mkdir(parents=True, exist_ok=True)
    manifest = write_artifact(
        kept,
        state.memory,
        state.codebook,
        run.stream,
        others=dict(zip(run.outcomes[1:], state.others, strict=True)),
        source=run.source_config,
        stage=t + 1,
        seed=run.config.seed,
        encoded_bytes=sum(b.encoded_bytes for b in blocks),
        raw_bytes=sum(b.raw_bytes for b in blocks),
        rows_seen=sum(b.rows for b in blocks),
    )
    part = run.workdir / 'memory.part'
    copy_folder(kept, part)
    put_folder(part, run.workdir / 'memory')
    if keep := run.config.history.keep:
        for folder in sorted(p for p in kept.parent.glob('[0-9]*') if int(p.name) <= t + 1 - keep):
            remove(folder)
    return manifest


def keep_twins(run: Run, state: StageState, t: int) -> None:
    """Writes the reference model and the twins as they stand after stage t + 1, and drops what `twins.keep` says."""
    for name, models in zip(run.outcomes, (state, *state.others), strict=True):
        folder = twin_files.folder(run.workdir, name if models is not state else '')
        params = [models.reference.params, *(s.params for s in models.twins)]
        twin_files.write(folder / f'{t + 1:05d}.npz', run.beside, params, run.stream.blocks[t].num_slots)
        if keep := run.config.twins.keep:
            for path in sorted(p for p in folder.glob('*.npz') if int(p.stem) <= t + 1 - keep):
                remove(path)


def damaged_twins(run: Run, done: int) -> list[Path]:
    """The files of twins of a stage that are gone, or not as they were written."""
    names = [twin_files.folder(run.workdir, name if i else '') for i, name in enumerate(run.outcomes)]
    return [path for folder in names if not twin_files.whole(path := folder / f'{done:05d}.npz')]


def metrics_line(run: Run, t: int, block, out: StageMetrics, manifest: dict) -> dict:
    logits = [unshard(x, len(block.label)) for x in np.moveaxis(np.asarray(out.logits), -1, 0)]
    label, weight = block.label, block.weight
    info, previous = run.stream.blocks[t], run.stream.blocks[t - 1].num_slots if t else 0
    number = lambda tree: {k: float(v) for k, v in tree.items()}  # noqa: E731
    budgets = manifest['budgets']
    return {
        'stage': t + 1,
        'block': block.key,
        'rows': info.rows,
        'rows_seen': manifest['rows_seen'],
        'rows_per_second': 0.0,
        'seconds': {},
        'reference': {
            'auc': metrics.auc(logits[0], label, weight=weight),
            'logloss': metrics.logloss(logits[0], label, weight=weight),
            'gauc': metrics.gauc(logits[0], label, block.group, weight=weight),
            'train_loss': float(out.train_loss),
        },
        'twins': {
            twin.name: {metric.__name__: metric(x, label, weight=weight) for metric in (metrics.auc, metrics.logloss)}
            for twin, x in zip(run.twins, logits[1:], strict=True)
        },
        'codebook': {'slots': info.num_slots, 'new_slots': info.num_slots - previous, 'moved': float(out.moved)},
        'influence': number(out.influence),
        'addressing': {k: int(v) for k, v in out.addressing._asdict().items()},
        'refinement': _refinement(run, out.refinement),
        'memory': {
            'rows': int(out.rows),
            'row_budget': budgets['rows'],
            'bytes': budgets['bytes'],
            'byte_budget': budgets['bytes_of_encoded'],
            'byte_budget_raw': budgets['bytes_of_raw'],
            'mass': float(out.mass),
        },
        **({'outcomes': _outcomes(run, block, out)} if block.others else {}),
    }


def _refinement(run: Run, said: dict) -> dict:
    said = {k: float(v) for k, v in said.items()}
    said.update(proposed=run.config.refine.outer_steps * len(run.students), accepted=int(said['accepted']))
    return said


def _outcomes(run: Run, block, out: StageMetrics) -> dict:
    """What is said of the other outcomes."""
    found, of_each = {}, zip(run.outcomes[1:], block.others, out.other_logits, out.other_refinement, strict=True)
    for name, label, logits, refinement in of_each:
        reference = unshard(np.asarray(logits)[..., 0], len(label))
        scores = {m.__name__: m(reference, label, weight=block.weight) for m in (metrics.auc, metrics.logloss)}
        found[name] = {
            'positives': float(label.mean()),
            'reference': scores,
            'refinement': _refinement(run, refinement),
        }
    return found


def read_metrics(workdir) -> list[dict]:
    path = Path(workdir) / 'metrics.jsonl'
    return read_json_lines(path, 'run scripts/distill.py again, which writes it again') if path.exists() else []
