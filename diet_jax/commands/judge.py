"""Did an answer hold? What a comparison foretold, beside full runs that were made since.

    python scripts/judge.py runs/kuairand/compare/example --full=exports/kuairand/anchors.jsonl
    diet-judge runs/kuairand/compare/* --full=past.jsonl

--full has a line a run, {"name": "deepfm-wide", "auc": 0.7351}, as --anchors of compare has. Candidates whose score the
comparison knew are left out. What is printed is kept as judged.json beside compare.json.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from diet_jax.base.atomic import write_json
from diet_jax.base.errors import UserError
from diet_jax.commands import launch
from diet_jax.commands.report import comparisons
from diet_jax.stats.held import held
from diet_jax.study import anchors


def define() -> None:
    flags.DEFINE_string('full', None, 'JSON lines of full runs: name, auc on the block that the comparison scored.')
    flags.mark_flag_as_required('full')


def main(argv: list[str]) -> None:
    from diet_jax import report

    full = anchors.read(flags.FLAGS.full, flag='--full')
    for folder, result in comparisons(argv[1:]).items():
        found = held(result['candidates'], full)
        if not found:
            told = [c['name'] for c in result['candidates'] if c['name'] in full and c.get('known_auc') is not None]
            if told:
                raise UserError(
                    f'{folder} was told the full run of {", ".join(told)}, so it foretold nothing of it: judge what '
                    'compare says without --anchors, in another --workdir'
                )
            raise UserError(
                f'--full={flags.FLAGS.full}: no full run of a candidate that {folder} did not know: make one of '
                f'{", ".join(c["name"] for c in result["candidates"] if c.get("known_auc") is None)}'
            )
        write_json(Path(folder) / 'judged.json', found)
        print(report.held_table(found, folder))


def start() -> None:
    """The command, in a process of its own."""
    launch.start(main, define, __doc__, words=True)


if __name__ == '__main__':
    start()
