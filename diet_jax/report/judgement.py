"""The answer with twins (`stats.judgement`) in the report of the trend instrument: its table and its odds."""

from __future__ import annotations

from collections.abc import Mapping

from diet_jax.report import page
from diet_jax.report.page import number

FIGURES = (('tau_sig', '.3f'), ('tau_sig_hard', '.3f'), ('error', '.4f'))


def tables(found: Mapping, names: Mapping[str, str], of: str) -> list[tuple]:
    """(caption, header, rows, lines below) of the distillations one by one, and of all asked together.

    found: kind -> figures; names: kind -> words, in order; of: which set.
    """
    rows, together = [], []
    for kind, name in names.items():
        cells, joint = [], found[kind]['together']
        for figure, form in FIGURES:
            for entry in (found[kind][f'plain_{figure}'], found[kind][figure]):
                spread = [format(entry[part], form) for part in ('mean', 'sd') if entry[part] is not None]
                cells.append(' ± '.join(spread) or 'undefined')
        rows.append([name, *cells, number(found[kind]['covered']['mean'], '.2f')])
        forms = [(key, form) for figure, form in FIGURES for key in (f'plain_{figure}', figure)]
        cells = ['undefined' if joint[key] is None else format(joint[key], form) for key, form in forms]
        together.append([name, *cells, number(joint['covered'], '.2f')])
    memory = found['memory']
    first = memory['replicates'][0]
    caption = (
        f'AUC, {of}: the answer with the twins {", ".join(memory["twins"])}, for all kinds alike. Pairs with a '
        f'candidate that is no twin: {first["pairs"]} significant, {first["hard"]} hard'
    )
    header = ['trained on', 'tau_sig without', 'with twins', 'hard, without', 'hard, with twins', 'error without']
    notes = [
        'error: mean absolute error of the AUC foretold for the full log; covered: share of candidates in their 90 % '
        'interval',
        *_decided(memory['replicates']),
    ]
    header, count = [*header, 'error with twins', 'covered'], len(memory['replicates'])
    several = f'AUC, {of}: the same, all {count} distillations asked together (their scores averaged)'
    return [(caption, header, rows, notes), *([(several, header, together, [])] * (count > 1))]


def _decided(replicates) -> list[str]:
    """What the check on held-out twins came to, and the answer's own words for the first distillation."""
    by_functions = sum(replicate.get('by_functions', True) for replicate in replicates)
    count = f'{by_functions} of {len(replicates)} distillation{"s" * (len(replicates) > 1)}'
    return [f'corrected by functions in {count}, else by the shift common to all', f'first: {replicates[0]["said"]}']


def section(images: Mapping[str, bytes], margin: float, of: str) -> list[str]:
    """The markup of the pictures of the odds; nothing without them.

    images: 'reliability' and 'reliability_margin'; margin: of the second, in AUC; of: which set.
    """
    if 'reliability' not in images:
        return []
    parts = [
        page.picture(
            images[name],
            f'Stated probability that a candidate beats another{words} against how often it does',
            f'That A beats B{words}: {of}, all pairs with a candidate that is no twin, all distillations. Above the '
            'diagonal: truer than stated.',
        )
        for name, words in (('reliability', ''), ('reliability_margin', f' by more than {margin:g} AUC'))
    ]
    return [page.heading('Is a stated probability true?'), page.pair(parts)]
