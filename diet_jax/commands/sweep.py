"""A study over config keys: one run a point, then one table and one picture of them all.

    python scripts/sweep.py --config=configs/sweeps/budget.py --workdir=runs/sweep-budget
    diet-sweep --config=configs/sweeps/budget.py --workdir=runs/sweep-budget

Run it again to go on: finished points are kept. --config.<key>= sets a key for all points. On a cluster,
--print_commands > jobs.txt gives one line a point, e.g. for a SLURM array; when they are done, run it without.
"""

from __future__ import annotations

import sys

from absl import flags
from ml_collections import config_flags

from diet_jax.commands import launch


def define() -> None:
    config_flags.DEFINE_config_file(
        'config', None, 'The study: configs/sweeps/<study>.py, a config file with sweep(add).', lock_config=True
    )
    flags.DEFINE_string('workdir', None, 'Folder of the study, a folder a point in it; made if absent.')
    flags.DEFINE_integer(
        'processes', 1, 'Points run at a time. On one GPU also set XLA_PYTHON_CLIENT_MEM_FRACTION.', lower_bound=1
    )
    flags.DEFINE_bool('print_commands', False, 'Print the commands of unfinished points, and run nothing.')
    flags.mark_flags_as_required(['config', 'workdir'])


def main(_) -> None:
    from diet_jax.report import sweep as report  # matplotlib: not for --help
    from diet_jax.run import sweep

    args, config = flags.FLAGS, flags.FLAGS['config']
    common = config_flags.get_override_values(config)
    study = sweep.read(config.config_filename, common, args.workdir)
    if args.print_commands:
        for command in sweep.commands(study):
            print(command)
        return
    failed = sweep.run(study, args.processes, write=lambda s: report.write(s.workdir, sweep.results(s)))
    print(report.table(report.rows_of(sweep.results(study))))
    for kind, name in zip(('data', 'table', 'picture'), sweep.FILES, strict=False):
        print(f'{kind}: {study.workdir / name}')
    for name, words in failed.items():
        print(f'failed: {name}: {words}', file=sys.stderr)
    if failed:
        sys.exit(1)


def start() -> None:
    """The command, in a process of its own."""
    launch.start(main, define, __doc__)


if __name__ == '__main__':
    start()
