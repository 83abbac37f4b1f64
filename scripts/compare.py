"""Which of these ideas would win on the full log, and how sure is that? Answered from a memory.

    python scripts/compare.py --memory=runs/kuairand/memory --candidates=configs/candidates/example.py

Several distillations, --memory=runs/a/memory,runs/b/memory, are averaged, which orders better (docs/trust.md).
--anchors=past.jsonl adds scores of past full runs, a line each: {"name": "deepfm-wide", "auc": 0.7351}. Run it again to
go on, or after adding a candidate: finished ones are kept.
"""

from absl import flags

from diet_jax import cli

flags.DEFINE_list(
    'memory', None, 'Folder of a memory in its run, runs/<run>/memory; or several of one log, each with its own seed.'
)
flags.DEFINE_string('candidates', None, 'A file with sweep(add), a line a candidate.')
flags.DEFINE_string('anchors', None, 'JSON lines of past full runs: name, auc on the block scored here.')
flags.DEFINE_string(
    'workdir', None, 'Where to write; by default compare/<file of candidates>[-<n>-memories] in the (first) run.'
)
flags.mark_flags_as_required(['memory', 'candidates'])


def main(_):
    from diet_jax import compare, report

    args = flags.FLAGS
    result = compare.compare(args.memory, args.candidates, args.anchors, args.workdir, cli.command())
    print(report.compare_table(result))
    print(f'report: {report.write_compare(result["workdir"], result, cli.command())}')


if __name__ == '__main__':
    cli.run(main)
