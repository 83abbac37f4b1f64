"""JSON that somebody has edited: whoever reads it takes it as it is, or says in one line what is wrong with it."""

import random
import shutil

import faults
import pytest
import tiny

import diet_jax
from diet_jax import elsewhere, report
from diet_jax.base.atomic import write_json
from diet_jax.base.errors import UserError
from diet_jax.commands.report import comparisons
from diet_jax.data.stream import open_stream
from diet_jax.run import checkpoint
from diet_jax.stats.costs import read_overhead
from diet_jax.study.readings import Shelf

TRIALS = 50 * faults.MANY
OF_A_PAGE = 5 * faults.MANY  # its pictures are drawn each time


@pytest.fixture(scope='module')
def folder(distilled, tmp_path_factory):
    """A run that was evaluated and compared, and an export of it."""
    workdir = tmp_path_factory.mktemp('doctored') / 'run'
    shutil.copytree(distilled, workdir)
    quiet, config = dict(emit=lambda line: None), tiny.get_config()
    config.evaluate.update(candidates=('lr',), learning_rates=(1e-2,), first_stage=2)
    clock = dict(block=tiny.DAYS[-1], rows=tiny.ROWS, reference_seconds=1.0, distill_seconds=6.0, overhead=5.0)
    clock |= dict(components=dict(reference=0.1, twins=0.2, stage=0.5), save_seconds=0.1, compile_seconds=9.0)
    write_json(workdir / 'overhead.json', {**clock, 'peak_memory_bytes': 10**9, 'device': 'cpu', 'devices': 1})
    diet_jax.evaluate(config, workdir, **quiet)
    diet_jax.compare(workdir / 'memory', {'wide': dict(model='lr', dim=1)}, **quiet)
    diet_jax.export(workdir / 'memory', workdir.with_name('export'), **quiet)
    return workdir


def _prepared(workdir):
    stream = open_stream(tiny.get_config().data, workdir, lambda line: None)
    stream.vocabulary, stream.layout, stream.load(0)  # noqa: B018


def _kept(workdir):
    for name in ('wide', 'deepfm'):
        for reading in Shelf(workdir / 'compare' / 'candidates').kept(name, {}, lambda line: None).values():
            assert reading.scores


def _exported(workdir):
    export = elsewhere.open_export(workdir.with_name('export'))
    for view in export.asked:
        export.rows(view, 'train')


def _shown(workdir):
    report.write_report(workdir, '')


def _side_by_side(workdir):
    named = comparisons([str(workdir / 'compare' / 'candidates')])
    report.write_days(workdir / 'days.html', named, '', '')


@pytest.mark.filterwarnings('ignore:Glyph')
@pytest.mark.parametrize(
    ('pattern', 'read'),
    [
        ('blocks/*/manifest.json', _prepared),
        ('checkpoint/*/sizes.json', lambda workdir: checkpoint.last(workdir)),
        ('overhead.json', _shown),
        ('overhead.json', read_overhead),
        ('evaluate.json', _shown),
        ('metrics.jsonl', _shown),
        ('compare/*/candidates/*.json', _kept),
        ('compare/*/compare.json', _side_by_side),
        ('../export/export.json', _exported),
    ],
)
def test_a_doctored_file_is_read_or_refused_in_one_line(folder, pattern, read):
    draw, ends = random.Random(0), {'read': 0, 'refused': 0}
    read(folder)
    for _ in range(OF_A_PAGE if read is _shown else TRIALS):
        path = draw.choice(sorted(folder.glob(pattern)))
        before = path.read_bytes()
        where = faults.doctor(path, draw)
        try:
            read(folder)
            ends['read'] += 1
        except UserError:
            ends['refused'] += 1
        except Exception as error:
            pytest.fail(f'{where}: {error!r}')
        finally:
            path.write_bytes(before)
    assert ends['read'], ends
