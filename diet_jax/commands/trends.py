"""Does the memory rank a pool of candidates as the full log does? The trend instrument.

    python scripts/trends.py --config=configs/trends/kuairand.py --workdir=runs/trends-kuairand
    diet-trends --config=configs/trends/kuairand.py --workdir=runs/trends-kuairand

--memory=runs/a/history/00012,runs/b/history/00012 takes these memories, each a distillation with its own seed; without
it they are distilled in the workdir. --from_json=runs/trends-kuairand/trends.json computes summary and report again
from the raw scores. Run it again to go on: finished candidates are kept.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from diet_jax.commands import launch


def define() -> None:
    config_flags.DEFINE_config_file('config', None, 'The study: configs/trends/<log>.py.', lock_config=True)
    flags.DEFINE_string('workdir', None, 'Folder of the study; made if absent.')
    flags.DEFINE_list('memory', [], 'Folders of memories, one a distillation; empty = distil them.')
    flags.DEFINE_bool('tensorboard', False, launch.TENSORBOARD)
    flags.DEFINE_string('from_json', None, 'A trends.json to summarise again, in place of --config and --workdir.')


def main(_) -> None:
    from diet_jax import report
    from diet_jax.commands import doors  # starts JAX: not for --help

    args = flags.FLAGS
    result = doors.trends(
        args.config,
        args.workdir,
        memories=args.memory,
        from_json=args.from_json,
        tensorboard=args.tensorboard,
        command=launch.command(),
    )
    print(report.trends_table(result))
    folder = Path(args.from_json).parent if args.from_json else Path(args.workdir)
    print(f'report: {folder / "report.html"}')


def start() -> None:
    """The command, in a process of its own."""
    launch.start(main, define, __doc__)


if __name__ == '__main__':
    start()
