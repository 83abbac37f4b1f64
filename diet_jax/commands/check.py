"""Is a workdir, or a memory, as it was written? Says it file by file; the exit code is 1 where something is not.

    python scripts/check.py --workdir=runs/kuairand
    diet-check --workdir=runs/kuairand/memory

A file is good, damaged, or rebuildable: damaged or gone, and written again by a command that is named. What an earlier
version wrote has no checksums, and is said to have none. Nothing is changed, and no log is read.

    --all                           good files too, a line each
"""

from __future__ import annotations

from collections import Counter

from absl import flags

from diet_jax.commands import launch


def define() -> None:
    flags.DEFINE_string('workdir', None, 'Folder of a run, of a study or comparison, or of a memory.')
    flags.DEFINE_bool('all', False, 'Good files too, a line each.')
    flags.mark_flag_as_required('workdir')


def main(_) -> int:
    from diet_jax.run import verify  # starts JAX: not for --help

    found = verify.verify(flags.FLAGS.workdir)
    for one in found:
        if flags.FLAGS.all or one.state not in (verify.GOOD, verify.UNKNOWN):
            print(f'{one.state}: {one.path}{f": {one.words}" if one.words else ""}')
    counts = Counter(one.state for one in found)
    print(f'{len(found)} files: ' + ', '.join(f'{n} {state}' for state, n in sorted(counts.items())))
    return int(bool(counts[verify.DAMAGED] + counts[verify.REBUILDABLE]))


def start() -> None:
    """The command, in a process of its own."""
    launch.start(main, define, __doc__)


if __name__ == '__main__':
    start()
