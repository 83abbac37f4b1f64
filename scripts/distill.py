"""Brings the memory of a workdir up to the last block of a log.

    python scripts/distill.py --config=configs/kuairand.py --workdir=runs/kuairand

Run it again when the log has grown: only the new blocks are processed.

On several hosts the same command runs on each, with `--distributed` where a cluster says who is who, or with
`--coordinator=host:port --processes=N --process=0` .. N - 1 (docs/scaling.md).
"""

from absl import flags
from ml_collections import config_flags

from diet_jax import cli

config_flags.DEFINE_config_file(
    'config', None, 'The run: configs/<dataset>.py; any key can be set by --config.<key>=.', lock_config=True
)
flags.DEFINE_string('workdir', None, 'Folder of the run; made if absent.')
flags.DEFINE_bool('distributed', False, 'One of several processes; SLURM, Kubernetes, a TPU pod or MPI says which.')
flags.DEFINE_string('coordinator', None, 'host:port of the first of several processes.')
flags.DEFINE_integer('processes', None, 'How many processes there are.')
flags.DEFINE_integer('process', None, 'Which of them this is: 0, 1, ...')
flags.mark_flags_as_required(['config', 'workdir'])


def main(_):
    from diet_jax import hosts, stream

    args = flags.FLAGS
    given = (args.coordinator, args.processes, args.process)
    if args.distributed or any(x is not None for x in given):
        hosts.join(*given)
    run = stream.distill(args.config, args.workdir)
    if not hosts.first():
        return
    from diet_jax import overhead, report  # pictures and tables take a third of a second to import

    if not hosts.several() and overhead.outdated(run):  # the components are timed on one host
        overhead.measure(run)
    path = report.write_report(args.workdir, cli.command())
    print(f'memory: {run.workdir / "memory"}\nreport: {path}')


if __name__ == '__main__':
    cli.run(main)
