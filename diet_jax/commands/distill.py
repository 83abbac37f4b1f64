"""Brings the memory of a workdir up to the last block of a log.

    python scripts/distill.py --config=configs/kuairand.py --workdir=runs/kuairand
    diet-distill --config=configs/kuairand.py --workdir=runs/kuairand

Run it again when the log has grown: only the new blocks are processed.

On several hosts the same command runs on each, with `--distributed` where a cluster says who is who, or with
`--coordinator=host:port --processes=N --process=0` .. N - 1 (docs/scaling.md).
"""

from __future__ import annotations

from absl import flags
from ml_collections import config_flags

from diet_jax.commands import launch


def define() -> None:
    config_flags.DEFINE_config_file(
        'config', None, 'The run: configs/<dataset>.py; any key can be set by --config.<key>=.', lock_config=True
    )
    flags.DEFINE_string('workdir', None, 'Folder of the run; made if absent.')
    flags.DEFINE_bool('distributed', False, 'One of several processes; SLURM, Kubernetes, a TPU pod or MPI says which.')
    flags.DEFINE_string('coordinator', None, 'host:port of the first of several processes.')
    flags.DEFINE_integer('processes', None, 'How many processes there are.')
    flags.DEFINE_integer('process', None, 'Which of them this is: 0, 1, ...')
    flags.DEFINE_bool('tensorboard', False, launch.TENSORBOARD)
    flags.mark_flags_as_required(['config', 'workdir'])


def main(_) -> None:
    from diet_jax.commands import doors  # starts JAX: not for --help
    from diet_jax.run import processes

    args = flags.FLAGS
    given = (args.coordinator, args.processes, args.process)
    if args.distributed or any(x is not None for x in given):
        processes.join(*given)
    memory = doors.distill(args.config, args.workdir, tensorboard=args.tensorboard, command=launch.command())
    if processes.first():
        print(f'memory: {memory}\nreport: {memory.parent / "report.html"}')


def start() -> None:
    """The command, in a process of its own."""
    launch.start(main, define, __doc__)


if __name__ == '__main__':
    start()
