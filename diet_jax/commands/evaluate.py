"""Students on the memory beside full training, by the protocol of stage t, for every stage from the third on.

    python scripts/evaluate.py --config=configs/kuairand.py --workdir=runs/kuairand
    diet-evaluate --config=configs/kuairand.py --workdir=runs/kuairand

--replicates=runs/a,runs/b adds memories of the same log that were distilled with other seeds (--config.seed=).
"""

from __future__ import annotations

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from diet_jax.commands import launch
from diet_jax.stats.costs import read_overhead


def define() -> None:
    config_flags.DEFINE_config_file('config', None, 'The config that the memory was distilled with.', lock_config=True)
    flags.DEFINE_string('workdir', None, 'Folder of the run, as given to scripts/distill.py.')
    flags.DEFINE_list('replicates', [], 'Workdirs of further distillations of the same log with other seeds.')
    flags.DEFINE_bool('tensorboard', False, launch.TENSORBOARD)
    flags.mark_flags_as_required(['config', 'workdir'])


def main(_) -> None:
    from diet_jax import report
    from diet_jax.commands import doors  # starts JAX: not for --help

    args = flags.FLAGS
    said = dict(replicates=args.replicates, tensorboard=args.tensorboard, command=launch.command())
    result = doors.evaluate(args.config, args.workdir, **said)
    print(report.summary_table(result, read_overhead(args.workdir)))
    print(f'report: {Path(args.workdir) / "report.html"}')


def start() -> None:
    """The command, in a process of its own."""
    launch.start(main, define, __doc__)


if __name__ == '__main__':
    start()
