"""Several comparisons side by side: an idea's odds over a week, or over several logs.

    python scripts/report.py runs/*/compare/ideas --out=week.html
    diet-report runs/kuairand/compare/* --out=week.html --baseline=production

Each is a folder that scripts/compare.py wrote. The page is one file, with no server and no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from diet_jax.base.atomic import read_json
from diet_jax.base.errors import UserError
from diet_jax.commands import launch


def define() -> None:
    flags.DEFINE_string('out', 'report.html', 'The page, an HTML file.')
    flags.DEFINE_string('baseline', '', 'The candidate that others are held against; the first that all have.')


def comparisons(folders: Sequence[str]) -> dict[str, dict]:
    """{folder: what its compare.json holds}.

    Raises:
      UserError: no folder, one without a comparison, or one written by an earlier version.
    """
    if not folders:
        raise UserError('name the folders of comparisons, as runs/*/compare/ideas')
    found = {}
    for folder in folders:
        result = read_json(Path(folder) / 'compare.json')
        if result is None:
            inner = sorted(str(path.parent) for path in Path(folder).glob('**/compare.json'))
            hint = f'did you mean {", ".join(inner)}?' if inner else 'scripts/compare.py writes one'
            raise UserError(f'{folder}: no compare.json there; {hint}')
        if not isinstance(result, dict) or {'candidates', 'beats', 'scored_on', 'command'} - set(result):
            raise UserError(f'{folder}/compare.json: written by another version: run scripts/compare.py again')
        found[str(folder)] = result
    return found


def main(argv: list[str]) -> None:
    from diet_jax import report

    args = flags.FLAGS
    if not args.out.endswith('.html'):
        raise UserError(f'--out={args.out}: name an HTML file, as week.html')
    named = comparisons(argv[1:])
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    baseline = report.write_days(args.out, named, args.baseline, launch.command())
    print(f'{len(named)} comparisons against {baseline}: {args.out}')


def start() -> None:
    """The command, in a process of its own."""
    launch.start(main, define, __doc__, words=True)


if __name__ == '__main__':
    start()
