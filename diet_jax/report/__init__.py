"""The report of a workdir, or of the trend instrument: tables for the terminal and for Markdown, one HTML page.

Means, retentions, gaps and the overhead are computed here, from the raw scores and clocks in the workdir's
files. A file that is not there costs its sections of the page, and the page says which command writes it.
"""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import rich.box
import rich.console
import rich.table

from diet_jax.base.atomic import read_json, write_bytes, write_text
from diet_jax.base.checksums import opened
from diet_jax.base.errors import UserError
from diet_jax.report import compare, days, describe, evaluation, held, page, sections, trends, trends_page
from diet_jax.stats import scores
from diet_jax.stats.costs import read_overhead


def summary_table(evaluate: Mapping, overhead: Mapping | None = None) -> str:
    """The last stage's candidates and every stage's mean retention, as plain text for a terminal.

    Args:
        evaluate, overhead: what evaluate.json and overhead.json hold.
    """
    return _terminal(_text_tables(evaluate, overhead))


def trends_table(result: Mapping) -> str:
    """Figures of the memory and of every rival, set by set, and their paired differences, as text for a terminal.

    Args:
        result: what trends.json holds.
    """
    return _terminal(trends.tables(result))


def write_report(workdir: str, command: str) -> str:
    """Write `report.html` into a workdir from the files that are there, and return its path.

    The page holds its pictures and needs no server. It is written beside its final name and then renamed; the
    same files give the same bytes.

    Args:
        workdir: a folder with any of metrics.jsonl, evaluate.json, overhead.json, config.json,
            memory/manifest.json.
        command: the command line that made the workdir, shown in the page.

    Raises:
        UserError: the folder does not exist, or a file in it is not valid JSON.
    """
    if not os.path.isdir(workdir):
        raise UserError(f'{workdir}: no such workdir; scripts/distill.py makes it')
    evaluate = read_json(Path(workdir) / 'evaluate.json')
    overhead = read_overhead(workdir)
    config = read_json(Path(workdir) / 'config.json')
    manifest = read_json(Path(workdir) / 'memory' / 'manifest.json')
    name = os.path.basename(os.path.abspath(workdir))
    with _edited(f'{workdir}: evaluate.json, overhead.json or metrics.jsonl'):
        metrics = _read_lines(os.path.join(workdir, 'metrics.jsonl'))
        html = [
            page.title(f'Distilled memory: {name}', sections.subtitle(metrics, config)),
            *sections.summary(metrics, evaluate, overhead),
            *evaluation.evaluation(evaluate, command),
            *sections.stages(metrics, command),
            *sections.overhead(overhead, command),
            *sections.origin(evaluate, config, manifest, command),
        ]
    path = os.path.join(workdir, 'report.html')
    write_text(Path(path), page.document(f'diet-jax: {name}', html))
    return path


def write_trends(folder: str | Path, result: Mapping, command: str) -> str:
    """Write `report.html` of the trend instrument and its pictures, and return the page's path.

    The pictures are `scatter.png`, `frontier.png` and, with twins, `reliability.png` and `reliability_margin.png`.

    The page holds its pictures and needs no server; the same result and command give the same bytes.

    Args:
        folder: where they go, the study's workdir.
        result: what trends.json holds.
        command: the command line that wrote the report, shown in the page beside that of the study.

    Raises:
        UserError: the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder; scripts/trends.py makes it')
    images = {'scatter': trends.scatter(result), 'frontier': trends.frontier(result), **trends.reliability(result)}
    if costs := trends.cost_picture(result):
        images['costs'] = costs
    for name, png in images.items():
        write_bytes(folder / f'{name}.png', lambda file, png=png: file.write(png))
    html = page.document(f'diet-jax trends: {folder.resolve().name}', trends_page.sections(result, command, images))
    write_text(folder / 'report.html', html)
    return str(folder / 'report.html')


def compare_table(result: Mapping) -> str:
    """The answer of scripts/compare.py, as text for a terminal. result: what compare.json holds."""
    return _terminal(compare.tables(result))


def compare_checks(result: Mapping) -> list[str]:
    """A line for every rule of --fail_if: whether the check fails, and why. result: what compare.json holds."""
    return compare.checks(result)


def write_compare(folder: str | Path, result: Mapping, command: str) -> str:
    """Write `report.html` of scripts/compare.py into a folder that is there, and return its path."""
    path = Path(folder) / 'report.html'
    write_text(path, page.document('diet-jax: which idea wins?', compare.sections(result, command)))
    return str(path)


def write_days(path: str | Path, named: Mapping[str, Mapping], baseline: str, command: str) -> str:
    """Write a page of several comparisons side by side, and return which candidate the others are held against.

    Args: named: {folder: what its compare.json holds}; baseline: a candidate, '' to take the first that all have.

    Raises:
        UserError: there is no such candidate, or none that all have.
    """
    with _edited(f'compare.json in {", ".join(named)}'):
        named = days.in_order(named)
        baseline = days.baseline_of(named, baseline)
        html = page.document('diet-jax: comparisons', days.sections(named, baseline, command))
    write_text(Path(path), html)
    return baseline


def held_table(result: Mapping, folder: str) -> str:
    """What a comparison foretold beside full runs, as text for a terminal. result: of `stats.held`."""
    return _terminal(held.tables(result, folder))


def describe_table(result: Mapping) -> str:
    """The columns and days of a log, as text for a terminal. result: the summary of a survey."""
    return _terminal(describe.tables(result))


@contextlib.contextmanager
def _edited(what: str) -> Iterator[None]:
    """What does not hold what its page shows was edited, or written by another version: checksums find the rest."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f'{what} was edited, or written by another version ({type(error).__name__}: {error}): run its command again'
        ) from error


def _terminal(tables: Sequence[Sequence]) -> str:
    """(caption, header, rows, lines below) of each, as plain text."""
    out = io.StringIO()
    console = rich.console.Console(file=out, width=150, no_color=True, force_terminal=False)
    for caption, header, rows, *below in tables:
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for i, name in enumerate(header):
            table.add_column(name, justify='right' if i else 'left', no_wrap=i == 0, max_width=16 if i > 2 else None)
        for row in rows:
            table.add_row(*row)
        lines = [line for part in below for line in (*part, '')]
        console.print(caption, width=110, highlight=False, markup=False)  # prose, as wide as a narrow table
        console.print(table)
        console.print(*lines, sep='\n', width=110, highlight=False, markup=False)
    return '\n'.join(line.rstrip() for line in out.getvalue().splitlines()) + '\n'


def _text_tables(evaluate: Mapping, overhead: Mapping | None = None) -> list[tuple]:
    """(caption, header, rows, lines below) of the last stage's candidates and of every stage's retention."""
    stages = evaluate['stages']
    if not stages:
        return []
    names, last = scores.kinds(stages), stages[-1]
    header = [
        'candidate',
        'full AUC',
        'memory AUC',
        *(f'retention: {name}' for name in names.values()),
        'cost ratio',
    ]
    rows = []
    for candidate in last['candidates']:
        sides = [scores.score(candidate[side]['auc']) for side in ('full', 'memory')]
        row = [candidate['name'], *(page.spread(side.mean, side.sd) for side in sides)]
        row += [page.number(value, '.3f') for value in scores.retentions(candidate, names)]
        rows.append([*row, page.number(candidate['memory'].get('cost_ratio'), '.1f')])
    per_stage = []
    for stage in stages:
        found = [scores.stage_retention(stage, kind) for kind in names]
        means = [page.number(r.mean if r else None, '.3f') for r in found]
        least = f'{page.number(found[0].least, ".3f")} {found[0].least_name}'
        per_stage.append([str(stage['stage']), str(stage['scored_on']), f'{stage["memory_rows"]:,}', *means, least])
    stage_header = ['stage', 'scored on', 'memory rows', *(f'mean retention: {n}' for n in names.values())]
    return [
        (
            f'{evaluation.protocol(last)}, {last["memory_rows"]:,} memory rows',
            header,
            rows,
            sections.paid(evaluate, overhead),
        ),
        ('Retention, mean over the candidates', [*stage_header, 'least: memory'], per_stage),
        *evaluation.orders(stages),
    ]


def _read_lines(path: str) -> list[dict]:
    """The stages in metrics.jsonl in order, [] where there is no file.

    A stage that was run again after a crash stands there twice: the last one is the one that was kept.
    """
    if not os.path.exists(path):
        return []
    stages = {}
    with open(path, encoding='utf-8') as f:
        for number, line in enumerate(f, 1):
            if line.strip():
                try:
                    row = opened(json.loads(line))
                except ValueError as e:
                    raise UserError(
                        f'{path}: line {number} is not as it was written ({e}): run scripts/distill.py again, which '
                        'writes it again'
                    ) from e
                stages[row['stage']] = row
    return [stages[t] for t in sorted(stages)]
