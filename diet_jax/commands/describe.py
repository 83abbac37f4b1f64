"""From a folder of log files to a config that runs: what the columns are, and what they may be.

    python scripts/describe.py --root=FOLDER --out=configs/mine.py
    diet-describe --root=FOLDER --out=configs/mine.py

Prints what it found, with a question mark at every guess; without --out it prints the config, too, and writes nothing.

    --log='ratings*.csv'    which files are the log, where there are several
    --hours=1               length of a block, where a day is too long
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from diet_jax.commands import launch


def define() -> None:
    flags.DEFINE_string('root', None, "Folder of the log's files, or a URI: s3://bucket/path.")
    flags.DEFINE_list('log', [], 'Glob patterns of the files that are the log; by default those with a time.')
    flags.DEFINE_float('hours', 0.0, 'Hours of a block; by default a day, or less where days are few.', lower_bound=0.0)
    flags.DEFINE_string('out', None, 'Where the config is written, as configs/mine.py.')
    flags.DEFINE_bool('overwrite', False, 'Write over a file that is there.')
    flags.mark_flags_as_required(['root'])


def main(_) -> None:
    from diet_jax import report
    from diet_jax.commands import doors  # starts JAX: not for --help

    args = flags.FLAGS
    text, found = doors.describe(args.root, args.out, log=args.log, hours=args.hours, overwrite=args.overwrite)
    print(report.describe_table(found))
    if not args.out:
        print(text)
        return
    print(f'config: {args.out}')
    print(f'next: python scripts/distill.py --config={args.out} --workdir=runs/{Path(args.out).stem}')


def start() -> None:
    """The command, in a process of its own."""
    launch.start(main, define, __doc__)


if __name__ == '__main__':
    start()
