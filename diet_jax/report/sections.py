"""The sections of the report about the stream and its cost.

Each takes what the workdir's files said and returns pieces of markup. `None` (or no stage) stands for a file
that is not there; the section then says so and names the command that writes it.
"""

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diet_jax.report import figures, page
from diet_jax.report.page import number, share, size, span
from diet_jax.stats import scores

_PACKAGES = ('diet-jax', 'jax', 'jaxlib', 'flax', 'optax', 'numpy', 'pyarrow', 'matplotlib')
_COMPONENTS = {'reference': 'reference model', 'check': 'do-no-harm check'}  # the others are named as they are


def subtitle(metrics: Sequence[Mapping], config: Any) -> str:
    """What was distilled, in one line."""
    if not metrics:
        return 'no stage has been run yet'
    last = metrics[-1]
    count = f'{len(metrics)} stage{"s" * (len(metrics) > 1)}'
    parts = [f'{count}, blocks {metrics[0]["block"]} to {last["block"]}', f'{last["rows_seen"]:,} log rows']
    if (label := _get(config, 'data', 'label', 'column')) is not None:
        parts.append(f'label {label}')
    return ', '.join(parts)


def summary(metrics: Sequence[Mapping], evaluate: Any, overhead: Any) -> list[str]:
    """The headline numbers, then the same in sentences."""
    tiles, text = [], []
    if metrics:
        last, memory = metrics[-1], metrics[-1]['memory']
        rows = share(memory['rows'] / last['rows_seen'])
        tiles += [
            ('Memory rows', f'{memory["rows"]:,}', f'for {last["rows_seen"]:,} log rows'),
            ('Row budget', rows, 'memory rows / log rows so far'),
            (
                'Byte budget',
                share(memory.get('byte_budget')),
                f'{size(memory.get("bytes"))} / joined, encoded stream',
            ),
        ]
        text.append(
            f'After stage {last["stage"]} (block {last["block"]}) the memory holds {memory["rows"]:,} rows '
            f'for the {last["rows_seen"]:,} rows of the log so far: {rows} of them. On disk, codebook '
            f'included, it weighs {size(memory.get("bytes"))}: {share(memory.get("byte_budget"))} of the '
            f'joined, encoded stream written the same way, {share(memory.get("byte_budget_raw"))} of the '
            'raw files.'
        )
    if evaluate is not None and evaluate['stages']:
        stage = evaluate['stages'][-1]
        kept, ratios = scores.stage_retention(stage, 'memory'), span(scores.cost_ratios(stage))
        count = len(kept.by_candidate)
        tiles += [
            (
                'Mean retention',
                number(kept.mean, '.3f'),
                f'{count} candidates, scored on {stage["scored_on"]}',
            ),
            ('Least retention', number(kept.least, '.3f'), kept.least_name),
            ('Cost ratio', ratios, 'rows of a full pass / rows visited on the memory'),
        ]
        text.append(
            f'Candidates trained from scratch on the memory of stage {stage["stage"]} keep '
            f'{number(kept.mean, ".3f")} of what full training reaches above chance (mean of {count}; the '
            f'least is {kept.least_name} with {number(kept.least, ".3f")}). Their hyper-parameters were '
            f'chosen on {stage["tuned_on"]} and they were scored once on {stage["scored_on"]}; neither the '
            f'memory nor the choice had seen that block. Rows visited: one pass over the log is {ratios} '
            'trainings on the memory.'
        )
        floors = []
        for kind, name in list(scores.kinds([stage]).items())[1:]:
            floor = scores.stage_retention(stage, kind)
            ahead = kept.mean - floor.mean
            floors.append(
                f'{name} keep {number(floor.mean, ".3f")}, so the memory is {number(abs(ahead), ".3f")} '
                f'{"ahead" if ahead >= 0 else "behind"} (sd of the two means over the runs: '
                f'{number(kept.sd, ".3f")} and {number(floor.sd, ".3f")})'
            )
        if floors:
            text.append(f'The floors, at the same number of rows: {"; ".join(floors)}.')
    if overhead is not None:
        ratio = _overhead_ratio(overhead)
        tiles.append(('Overhead', number(ratio, '.2f'), "of distilling, over the reference model's training"))
        text.append(
            f'Distilling took {overhead["distill_seconds"]:.1f} s where training the reference model alone '
            f'over the same blocks took {overhead["reference_seconds"]:.1f} s: an overhead of {ratio:.2f}, '
            'compile time apart.'
        )
        text += paid(evaluate, overhead)
    return [page.tiles(tiles), *(page.paragraph(sentence) for sentence in text)]


def paid(evaluate: Any, overhead: Any) -> list[str]:
    """From which candidate on the memory has paid for itself; nothing where nothing was evaluated or timed."""
    if overhead is None or evaluate is None or not evaluate['stages']:
        return []
    ratios, rates = scores.cost_ratios(evaluate['stages'][-1]), _get(evaluate, 'config', 'evaluate', 'learning_rates')
    return [scores.paid(overhead, ratios[0], len(rates))] if ratios and rates else []


def stages(metrics: Sequence[Mapping], command: str) -> list[str]:
    """What every stage did to the memory."""
    html = [page.heading('What each stage did')]
    if not metrics:
        return [
            *html,
            page.missing('metrics.jsonl', 'addressing, refinement and progressive validation', command),
        ]
    labels = [str(row['block']) for row in metrics]
    counts = {what: _column(metrics, 'addressing', what) for what in ('replaced', 'modified', 'admitted', 'kept')}
    before, after = (_column(metrics, 'refinement', f'loss_{when}') for when in ('before', 'after'))
    accepted = [bool(_get(row, 'refinement', 'accepted')) for row in metrics]
    steps = sum(_get(row, 'refinement', 'proposed') or 0 for row in metrics)
    addressed = figures.addressing(labels, counts)
    refined = figures.refinement(labels, np.subtract(after, before), accepted)
    validated = figures.reference(labels, _column(metrics, 'reference', 'auc'))
    last = metrics[-1]
    did = ', '.join(f'{number(per_stage[-1], ",.0f")} {what}' for what, per_stage in counts.items())
    state = [
        ['ids in the codebook', number(_get(last, 'codebook', 'slots'), ',.0f')],
        ['new in this block', number(_get(last, 'codebook', 'new_slots'), ',.0f')],
        ['id occurrences whose code moved', share(_get(last, 'codebook', 'moved'))],
        ["influence, mean of the block's rows", number(_get(last, 'influence', 'rows_mean'), '.3g')],
        ['influence, mean magnitude of its rows', number(_get(last, 'influence', 'rows_abs_mean'), '.3g')],
        ['influence, mean of the memory', number(_get(last, 'influence', 'memory_mean'), '.3g')],
        ['log rows the memory stands for', number(_get(last, 'memory', 'mass'), ',.0f')],
        ['log rows per second', number(last.get('rows_per_second'), ',.0f')],
    ]
    return [
        *html,
        page.pair(
            [
                page.picture(
                    addressed,
                    'Addressing per stage',
                    f'Influence-aware addressing (last stage: {did}): entries kept bit for bit, modified by '
                    'the rows they absorbed, replaced by more influential rows, or admitted because the '
                    'budget grew.',
                ),
                page.picture(
                    refined,
                    'Refinement per stage',
                    f'Bi-level refinement: {steps:,} outer steps proposed, accepted at {sum(accepted)} of '
                    f'{len(metrics)} stages. A refinement that does not lower the held-out loss is dropped.',
                ),
            ]
        ),
        page.pair(
            [
                page.picture(
                    validated,
                    'Progressive validation of the reference model',
                    'Progressive validation: AUC of the reference model on each block before it trains on it.',
                ),
                page.table([f'last stage ({last["block"]})', ''], state),
            ]
        ),
        page.details('Every stage in numbers', _stage_table(metrics)),
    ]


def overhead(found: Any, command: str) -> list[str]:
    """Where the time of distilling goes."""
    html = [page.heading('Distilling overhead')]
    if found is None:
        return [*html, page.missing('overhead.json', 'the cost of distilling by component', command)]
    parts = found['components']
    base = parts.get('reference') or math.nan
    named = {_COMPONENTS.get(name, name): seconds for name, seconds in parts.items() if name != 'stage'}
    rows = [[name, number(seconds, '.3f'), number(seconds / base, '.2f')] for name, seconds in named.items()]
    if 'stage' in parts:
        rows.append(
            [
                'the whole stage, in one call',
                number(parts['stage'], '.3f'),
                number(parts['stage'] / base, '.2f'),
            ]
        )
    total = [
        ['reference model alone, all blocks, s', number(found.get('reference_seconds'), '.2f')],
        ['distillation, all blocks, s', number(found.get('distill_seconds'), '.2f')],
        ['overhead', number(_overhead_ratio(found), '.2f')],
        ['compile time, apart, s', number(found.get('compile_seconds'), '.1f')],
        ['peak memory', size(found.get('peak_memory_bytes'))],
        ['device', str(found.get('device', page.DASH))],
    ]
    picture = page.picture(
        figures.overhead(named, _COMPONENTS['reference']),
        'Seconds by component',
        f'Each component timed alone on block {found["block"]} ({found["rows"]:,} rows).',
    )
    return [
        *html,
        page.paragraph(
            '(Seconds of distillation − seconds of training the reference model alone over the same '
            'blocks) / the latter.'
        ),
        page.pair(
            [
                picture,
                page.table(['component', 'seconds', '× reference'], rows) + page.table(['total', ''], total),
            ]
        ),
    ]


def origin(evaluate: Any, config: Any, manifest: Any, command: str) -> list[str]:
    """The commands, the versions, the config and the manifest."""
    html = [page.heading('How this was made'), page.pre(command)]
    if evaluate is not None and evaluate.get('command', command) != command:
        html.append(page.pre(evaluate['command']))
    made = _get(manifest, 'versions') or {}
    here = {'python': platform.python_version()}
    for package in _PACKAGES:
        try:
            here[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            here[package] = page.DASH  # running from a checkout that was not installed
    rows = [[name, str(made.get(name, page.DASH)), here.get(name, page.DASH)] for name in dict.fromkeys([*here, *made])]
    html.append(page.table(['version', 'of the memory', 'of this report'], rows))
    for file, found in (('config.json', config), ('memory/manifest.json', manifest)):
        if found is None:
            html.append(page.missing(file, 'it', command))
        else:
            html.append(page.details(file, page.pre(json.dumps(found, indent=2, ensure_ascii=False))))
    return html


def _stage_table(metrics: Sequence[Mapping]) -> str:
    columns = [
        ('seconds', ('seconds', 'total'), '.2f'),
        ('rows/s', ('rows_per_second',), ',.0f'),
        ('AUC', ('reference', 'auc'), '.4f'),
        ('LogLoss', ('reference', 'logloss'), '.4f'),
        ('GAUC', ('reference', 'gauc'), '.4f'),
        ('kept', ('addressing', 'kept'), ',.0f'),
        ('modified', ('addressing', 'modified'), ',.0f'),
        ('replaced', ('addressing', 'replaced'), ',.0f'),
        ('admitted', ('addressing', 'admitted'), ',.0f'),
        ('proposed', ('refinement', 'proposed'), ',.0f'),
        ('accepted', ('refinement', 'accepted'), '.0f'),
        ('before', ('refinement', 'loss_before'), '.5f'),
        ('after', ('refinement', 'loss_after'), '.5f'),
        ('|meta-gradient|', ('refinement', 'meta_gradient_norm'), '.3g'),
        ('rows', ('memory', 'rows'), ',.0f'),
        ('bytes', ('memory', 'bytes'), ',.0f'),
    ]
    groups = [
        ('', 3),
        ('speed', 2),
        ('reference model', 3),
        ('addressing', 4),
        ('refinement', 5),
        ('memory', 2),
    ]
    rows = [
        [
            str(row['stage']),
            str(row['block']),
            f'{row["rows"]:,}',
            *(number(_get(row, *keys), f) for _, keys, f in columns),
        ]
        for row in metrics
    ]
    return page.table(['stage', 'block', 'rows', *(name for name, _, _ in columns)], rows, groups)


def _overhead_ratio(found: Mapping) -> float:
    return (found['distill_seconds'] - found['reference_seconds']) / found['reference_seconds']


def _get(tree: Any, *keys: str) -> Any:
    """A value inside nested dicts, None where any of the keys is not there."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _column(rows: Sequence[Mapping], *keys: str) -> list[float]:
    """One number per stage, nan where it is not there."""
    return [math.nan if (value := _get(row, *keys)) is None else float(value) for row in rows]
