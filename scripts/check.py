"""Is a workdir, or a memory, as it was written? Says it file by file; the exit code is 1 where something is not.

    python scripts/check.py --workdir=runs/kuairand
    diet-check --workdir=runs/kuairand/memory

A file is good, damaged, or rebuildable: damaged or gone, and written again by a command that is named. What an earlier
version wrote has no checksums, and is said to have none. Nothing is changed, and no log is read.

    --all                           good files too, a line each
"""

from diet_jax.commands.entry import check

if __name__ == '__main__':
    check()
