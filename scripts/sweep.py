"""A study over config keys: one run a point, then one table and one picture of them all.

    python scripts/sweep.py --config=configs/sweeps/budget.py --workdir=runs/sweep-budget
    diet-sweep --config=configs/sweeps/budget.py --workdir=runs/sweep-budget

Run it again to go on: finished points are kept. --config.<key>= sets a key for all points. On a cluster,
--print_commands > jobs.txt gives one line a point, e.g. for a SLURM array; when they are done, run it without.
"""

from diet_jax.commands.entry import sweep

if __name__ == '__main__':
    sweep()
