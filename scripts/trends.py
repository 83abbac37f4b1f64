"""Does the memory rank a pool of candidates as the full log does? The trend instrument.

    python scripts/trends.py --config=configs/trends/kuairand.py --workdir=runs/trends-kuairand

--memory=runs/a/history/00012,runs/b/history/00012 takes these memories, each a distillation with its own seed; without
it they are distilled in the workdir. --from_json=runs/trends-kuairand/trends.json computes summary and report again
from the raw scores. Run it again to go on: finished candidates are kept.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from diet_jax import cli

config_flags.DEFINE_config_file('config', None, 'The study: configs/trends/<log>.py.', lock_config=True)
flags.DEFINE_string('workdir', None, 'Folder of the study; made if absent.')
flags.DEFINE_list('memory', [], 'Folders of memories, one a distillation; empty = distil them.')
flags.DEFINE_string('from_json', None, 'A trends.json to summarise again, in place of --config and --workdir.')


def main(_):
    from diet_jax import report, trends
    from diet_jax.errors import UserError

    args = flags.FLAGS
    if args.from_json:
        folder = Path(args.from_json).parent
        result = trends.summarised(trends.read(args.from_json), folder)
    elif args.config is None or not args.workdir:
        raise UserError('--config and --workdir are needed, or --from_json')
    else:
        folder = Path(args.workdir)
        result = trends.trends(args.config, folder, args.memory, cli.command())
    print(report.trends_table(result))
    print(f'report: {report.write_trends(folder, result, cli.command())}')


if __name__ == '__main__':
    cli.run(main)
