"""Students on the memory beside full training, by the protocol of stage t, for every stage from the third on.

    python scripts/evaluate.py --config=configs/kuairand.py --workdir=runs/kuairand

--replicates=runs/a,runs/b adds memories of the same log that were distilled with other seeds (--config.seed=).
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from diet_jax import cli

config_flags.DEFINE_config_file('config', None, 'The config that the memory was distilled with.', lock_config=True)
flags.DEFINE_string('workdir', None, 'Folder of the run, as given to scripts/distill.py.')
flags.DEFINE_list('replicates', [], 'Workdirs of further distillations of the same log with other seeds.')
flags.mark_flags_as_required(['config', 'workdir'])


def main(_):
    from diet_jax import report, stream
    from diet_jax.disk import read_json
    from diet_jax.evaluate import evaluate

    args = flags.FLAGS
    run = stream.opened(args.config, args.workdir)
    result = evaluate(args.config, run, [stream.replicate(run, w) for w in args.replicates], cli.command())
    print(report.summary_table(result, read_json(Path(args.workdir) / 'overhead.json')))
    print(f'report: {report.write_report(args.workdir, cli.command())}')


if __name__ == '__main__':
    cli.run(main)
