"""A tiny run on the simulated stream: four days of 320 rows. Also a config file: `--config=tests/tiny.py`."""

import json
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from diet_jax.base import atomic, checksums
from diet_jax.config import default_config, simulated_data
from diet_jax.device.programs import Timed
from diet_jax.distillation import parallel
from diet_jax.distillation.stage import make_stage_update
from diet_jax.run import driver
from diet_jax.run.run import Run

DAYS = ('2024-01-01', '2024-01-02', '2024-01-03', '2024-01-04')
ROWS = 320


def get_config() -> ConfigDict:
    c = default_config()
    c.data = simulated_data(blocks=4, rows_per_block=ROWS, users=40, items=30, new_items_per_block=2, authors=6)
    c.data.fields = ('user', 'item', 'tab')
    c.data.numeric = ConfigDict({'price': 4})
    c.data.time_fields = ('hour',)
    c.reference.update(dim=4, batch=64)
    c.codebook.codes = 12
    c.twins.models = (dict(name='lr', model='lr', dim=1, learning_rate=1e-2),)
    c.memory.row_budget = 0.05
    c.addressing.update(components=4, query_rows=128, basis_rows=128)
    c.refine.update(pool=2, outer_steps=2, inner_steps=2, window=2, batch=16, outer_rows=64, past_rows=32)
    c.refine.update(check_rows=64, check_epochs=1)
    c.refine.models = (dict(model='fm'),)  # of what a stage compiles for, an MLP's second derivatives are a third
    c.evaluate.update(candidates=('lr', 'mlp'), dim=4, batch=64, learning_rates=(2e-3, 1e-2), student_batch=16)
    c.evaluate.update(student_learning_rates=(3e-3, 1e-2), epochs=(1, 2), seeds=2, first_stage=1)
    return c


_COMPILED = {}


def distill(workdir, config=None, emit=lambda line: None, after_stage=None):
    """The driver on one device; runs whose stages are the same function share its compiled form."""

    def share(spec):
        if spec not in _COMPILED:
            _COMPILED[spec] = Timed(parallel.pmapped(make_stage_update(spec), jax.devices()[:1], donate=True))
        return _COMPILED[spec]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, 'make_stage_update', share)
        patch.setattr(driver, 'over_devices', lambda update, run: update)
        return driver.distill(config or get_config(), workdir, emit, jax.devices()[:1], after_stage)


def opened(workdir, config=None):
    """The finished run of a workdir."""
    return Run(config or get_config(), workdir, lambda line: None, jax.devices()[:1])


def contents(folder) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    folder = Path(folder)
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()}


def outcome(workdir) -> tuple[dict, dict, list]:
    """What a run must give byte for byte: the memory, every stage's memory, and the metrics apart from seconds."""
    lines = [json.loads(line) for line in (Path(workdir) / 'metrics.jsonl').read_text().splitlines()]
    timings = ('seconds', 'rows_per_second', 'checksum')  # which is of the seconds too
    lines = [json.dumps({k: v for k, v in line.items() if k not in timings}) for line in lines]
    return contents(Path(workdir) / 'memory'), contents(Path(workdir) / 'history'), lines


def sealed(workdir) -> None:
    """Notes the checksums of prepared blocks as they are now: for tests that give them other rows."""
    for path in Path(workdir).glob('blocks/*/manifest.json'):
        manifest = atomic.read_json(path)
        manifest['checksums'] = {name: checksums.of_file(path.parent / name) for name in manifest['checksums']}
        atomic.write_json(path, manifest, indent=None)
