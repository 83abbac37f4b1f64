"""Brings the memory of a workdir up to the last block of a log.

    python scripts/distill.py --config=configs/kuairand.py --workdir=runs/kuairand

Run it again when the log has grown: only the new blocks are processed.
"""

from absl import flags
from ml_collections import config_flags

from diet_jax import cli

config_flags.DEFINE_config_file(
    'config', None, 'The run: configs/<dataset>.py; any key can be set by --config.<key>=.', lock_config=True
)
flags.DEFINE_string('workdir', None, 'Folder of the run; made if absent.')
flags.mark_flags_as_required(['config', 'workdir'])


def main(_):
    from diet_jax import overhead, report, stream

    args = flags.FLAGS
    run = stream.distill(args.config, args.workdir)
    if overhead.outdated(run):
        overhead.measure(run)
    path = report.write_report(args.workdir, cli.command())
    print(f'memory: {run.workdir / "memory"}\nreport: {path}')


if __name__ == '__main__':
    cli.run(main)
