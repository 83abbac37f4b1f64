"""Which of these ideas would win on the full log, and how sure is that? Answered from a memory.

    python scripts/compare.py --memory=runs/kuairand/memory --candidates=configs/candidates/example.py
    diet-compare --memory=runs/kuairand/memory --candidates=configs/candidates/example.py

Several distillations, --memory=runs/a/memory,runs/b/memory, are averaged, which orders better (docs/answer.md).
--anchors=past.jsonl adds scores of past full runs, a line each: {"name": "deepfm-wide", "auc": 0.7351}. Run it again to
go on, or after adding a candidate: finished ones are kept.

    --label=like                    of another outcome than the main one, where the log has several
    --margin=0.001                  odds of better by more than 0.001 AUC, within it, worse by more
    --slices=context,new:item       the answer by value of a field or role, and for values that are new
    --predictions=exports/k/predictions
                                    models that live elsewhere beside them, or alone (docs/elsewhere.md)
    --fail_if='wide worse than production by 0.001 with probability 0.9'
                                    a check for CI: the exit code is 3 where that is likelier
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from diet_jax.commands import launch


def define() -> None:
    flags.DEFINE_list(
        'memory',
        None,
        'Folder of a memory in its run, runs/<run>/memory; or several of one log, each with its own seed.',
    )
    flags.DEFINE_string('candidates', None, 'A file with sweep(add), a line a candidate.')
    flags.DEFINE_string('predictions', None, 'Folder of predictions of models that live elsewhere.')
    flags.DEFINE_string('anchors', None, 'JSON lines of past full runs: name, auc on the block scored here.')
    flags.DEFINE_string(
        'workdir', None, 'Where to write; by default compare/<file of candidates>[-<n>-memories] in the (first) run.'
    )
    flags.DEFINE_string('label', '', 'The outcome that is asked, of data.label.name and data.label.others.')
    flags.DEFINE_float('margin', 0.0, 'The least difference in AUC that matters: odds are of better by more than that.')
    flags.DEFINE_multi_string(
        'fail_if',
        [],
        "A rule, '<name> worse than <name> by <margin> with probability <p>': where that is likelier the exit code is "
        f'{launch.FAILED}. May be given several times.',
    )
    flags.DEFINE_list(
        'slices', [], 'Slices of the scored block: fields or roles, by value; new:<field or role>, unseen or seen.'
    )
    flags.DEFINE_bool('tensorboard', False, launch.TENSORBOARD)
    flags.mark_flag_as_required('memory')


def main(_) -> int:
    from diet_jax import report
    from diet_jax.commands import doors  # starts JAX: not for --help

    args = flags.FLAGS
    result = doors.compare(
        args.memory,
        args.candidates or {},
        anchors=args.anchors,
        workdir=args.workdir,
        label=args.label,
        predictions=args.predictions,
        margin=args.margin,
        fail_if=args.fail_if,
        slices=args.slices,
        tensorboard=args.tensorboard,
        command=launch.command(),
    )
    print(report.compare_table(result))
    print(f'report: {Path(result["workdir"]) / "report.html"}')
    for line in report.compare_checks(result):
        print(line)
    return launch.FAILED if any(rule['fails'] for rule in result['rules']) else 0


def start() -> None:
    """The command, in a process of its own."""
    launch.start(main, define, __doc__)


if __name__ == '__main__':
    start()
