"""The trend report shows what `stats.summaries` says of the raw scores; what is undefined says why."""

import base64
import copy
import html
import itertools
import json
import re
import struct

import numpy as np
import pytest
from matplotlib.figure import Figure

from diet_jax import report
from diet_jax.base.errors import UserError
from diet_jax.report import trends
from diet_jax.stats import ranking, summaries
from diet_jax.stats.judgement import judged

COMMAND = 'python scripts/trends.py --config=configs/trends/kuairand.py --workdir=runs/x'
NAMES = (
    *('lr', 'fm', 'fwfm', 'mlp', 'wide_deep', 'deepfm', 'dcn', 'dcnv2', 'dlrm', 'finalmlp', 'masknet', 'xdeepfm'),
    *('autoint', 'deepfm-dim2', 'deepfm-no-user', 'mlp-no-context', 'lr-no-item', 'fm-dim16', 'fwfm-no-user'),
    *('mlp-dropout', 'wide_deep-no-context', 'deepfm-deep', 'deepfm-no-item', 'dcnv2-no-user', 'dcnv2-full-rank'),
    *('dlrm-dim4', 'finalmlp-decay', 'masknet-wide'),
)
RIVALS = {  # how much of what is above chance each keeps, and its noise
    'random_rows_our_labels': (0.93, 0.004),
    'random_rows': (0.55, 0.02),
    'herding_rows_our_labels': (0.92, 0.004),
    'k_center_rows_our_labels': (0.88, 0.006),
    'el2n_rows': (0.1, 0.02),
    'recent_rows_our_labels': (0.91, 0.005),
    'cgm_rows_our_labels': (0.90, 0.005),
    'static': (0.90, 0.003),
    'early_stop': (0.60, 0.015),
    'subsample': (0.70, 0.012),
}


def pool(candidates=28, rivals=tuple(RIVALS), distillations=3, full_seeds=6, resamples=20):
    """A trends.json as the instrument writes it, of made-up scores."""
    rng = np.random.default_rng(0)
    levels = np.concatenate([rng.normal(0.7400, 0.0025, 18), rng.uniform(0.7, 0.74, len(NAMES) - 18)])
    entries = []
    for i, name in enumerate(NAMES[:candidates]):
        entry = {'name': name, 'config': {'model': name}, 'confirmation': i >= 16, 'rivals': {}}
        entry['chosen'] = {'full': {'lr': 0.01, 'tuning_auc': 0.73}}
        entry['full'] = _scores(rng.normal(levels[i], 0.0004, full_seeds), 200_000, 2.5)
        for kind, (kept, noise) in {'memory': (0.95, 0.001), **{rival: RIVALS[rival] for rival in rivals}}.items():
            spread = rng.normal(0, noise)
            readings = []
            for epochs, share in ((6, 0.97), (20, 1.0)):
                auc = 0.5 + share * kept * (levels[i] - 0.5) + spread + rng.normal(0, noise / 2, (distillations, 3))
                reading = {'chosen': {'lr': 0.003, 'epochs': epochs, 'tuning_auc': 0.72}}
                readings.append(reading | _scores(auc, 2_000 * epochs, 0.01 * epochs))
                readings[-1]['cost_ratio'] = 200_000 / (2_000 * epochs)
            best = {k: v for k, v in readings[1].items() if k != 'chosen'} | {'frontier': readings}
            if kind == 'memory':
                entry['memory'], entry['chosen']['memory'] = best, readings[1]['chosen']
            else:
                entry['rivals'][kind] = {**best, 'chosen': readings[1]['chosen']}
        entries.append(entry)
    sets = {'development': list(NAMES[: min(candidates, 16)])}
    if candidates > 16:
        sets |= {'confirmation': list(NAMES[16:candidates]), 'all': list(NAMES[:candidates])}
    summary = {
        of: {
            metric: summaries.summary([e for e in entries if e['name'] in members], metric, resamples)
            for metric in ranking.METRICS
        }
        for of, members in sets.items()
    }
    result = {
        'command': COMMAND,
        'config': {'seed': 0, 'note': '<b>5 & 6</b>', 'trends': {}},
        'pool': {'file': 'configs/pools/ctr.py', 'digest': '0677947d78834dc1', 'candidates': list(NAMES), 'sets': sets},
        'protocol': {
            'stage': 12,
            'tuned_on': '20220428',
            'scored_on': '20220429',
            'scored_rows': 15_839,
            'log_digest': '512781bfce965550',
            'full_pass_rows': 200_000,
            'memory_rows': [2_000] * distillations,
            'row_budget': 0.01,
            'full_seeds': full_seeds,
            'student_seeds': 3,
            'distillation_seeds': list(range(distillations)),
            'grid': {'full': {'lr': [0.002, 0.01]}, 'memory': {'lr': [0.003], 'epochs': [6, 20]}},
            'tuning_row_visits': {'full': 2_400_000, 'memory': 360_000},
            'evaluation_row_visits': 29_811,
            'versions': {'jax': '0.10.2'},
            'cost_ratio': 5.0,
        },
        'candidates': entries,
        'summary': summary,
    }
    return json.loads(json.dumps(result))


def _scores(auc, row_visits, seconds):
    found = {'auc': auc.tolist(), 'logloss': (1.3 - auc).tolist(), 'gauc': (auc - 0.08).tolist()}
    return {**found, 'row_visits': row_visits, 'seconds': seconds}


@pytest.fixture(scope='module')
def result():
    return pool()


@pytest.fixture(scope='module')
def markup(result, tmp_path_factory):
    return _read(report.write_trends(tmp_path_factory.mktemp('trends'), result, COMMAND))


def _read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def _rows(markup, under, table=0):
    """Cells of the body of a table that follows a heading."""
    body = markup.split(f'<h2>{under}</h2>')[1].split('<tbody>')[table + 1].split('</tbody>')[0]
    return [[html.unescape(cell) for cell in re.findall(r'<td>(.*?)</td>', row, re.S)] for row in body.split('</tr>')]


def _cells(text, first):
    """Tables of a text, each {first cell of a line: its other cells}, by the first cell of their header."""
    tables = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r' *\| *| {2,}', line.strip('| '))]
        if cells[0] == first:
            tables.append({})
        elif len(cells) > 2 and tables and cells[0].strip('-'):
            tables[-1].setdefault(cells[0], cells[1:])
    return tables


def _shown(entry, form='.3f'):
    return f'{entry["mean"]:{form}} ± {entry["sd"]:{form}}'


def test_tables_say_what_the_summary_says(result, markup):
    """Terminal and page, every set; the best rival first; one line a kind."""
    forms = {'retention_mean': '.3f', 'retention_min': '.3f', 'tau_sig': '.3f', 'tau_sig_hard': '.3f'}
    forms |= {'spearman': '.3f', 'regret': '.4f', 'top3_hit': '.2f'}
    text = report.trends_table(result)
    sets = list(result['summary'])
    assert sets == ['development', 'confirmation', 'all']
    shown = [_cells(text, 'trained on')]
    heading = 'Does the memory rank as the full log does?'
    shown.append([{row[0]: row[1:] for row in _rows(markup, heading, 3 * i) if row} for i in range(len(sets))])
    for found in shown:
        assert len(found) == len(sets)
        for name, table in zip(sets, found, strict=True):
            # Not what the file says: the figures of the raw scores, again.
            members = [c for c in result['candidates'] if c['name'] in result['pool']['sets'][name]]
            again = summaries.summary(members, resamples=2)
            sides = {'memory': again['memory'], **again['rivals']}
            for kind, side in sides.items():
                cells = table[trends.named(kind)]
                for figure, cell in zip(forms, cells):
                    known = side[figure]['mean'] is not None
                    assert cell == (_shown(side[figure], forms[figure]) if known else 'undefined'), (kind, figure)
                assert cells[7] == '5.0'
            order = [kind for kind in table if kind != 'ceiling'][: len(sides)]
            assert order[0] == 'memory'
            by_name = {trends.named(kind): side['tau_sig']['mean'] for kind, side in sides.items()}
            assert [by_name[kind] for kind in order[1:]] == sorted((by_name[k] for k in order[1:]), reverse=True)
            assert table['ceiling'][2] == f'{again["ceiling"]["tau_sig"]["value"]:.3f}'
            pairs = again['pairs']
            said = f'{pairs["significant"]} of {pairs["all"]} pairs are significant, {pairs["hard"]} hard'
            assert said in ' '.join(text.split()) and said in markup
    # 7 hard pairs in the confirmation set: too few, which is said in words and once.
    assert text.count('\ntau_sig hard undefined: 7 hard pairs, 30 needed\n') == 1
    assert 'Stage 12, tuned on 20220428, scored once on 20220429; 16 candidates, 6 full seeds' in text


def test_differences_are_paired_and_corrected(result):
    """Ours minus rival over the distillations, computed again from the replicates; interval and p of the summary."""
    for table, name in zip(_cells(report.trends_table(result), 'ours minus'), result['summary'], strict=True):
        summary = result['summary'][name]['auc']
        assert len(table) >= len(RIVALS)
        for at, figure in ((0, 'tau_sig'), (3, 'retention_mean')):
            values = {kind: side[figure]['replicates'] for kind, side in summary['rivals'].items()}
            ours = np.array(summary['memory'][figure]['replicates'])
            for row in summary['paired'][figure]:
                d = ours - values[row['rival']]
                cells = table[trends.named(row['rival'])]
                assert cells[at] == f'{d.mean():+.3f} ± {d.std(ddof=1):.3f}'
                assert cells[at + 1] == ' to '.join(f'{end:+.3f}' for end in row['interval'])
                assert cells[at + 2] == (f'{row["p_holm"]:.3f}' if row['p_holm'] >= 0.001 else '< 0.001')


def test_the_page_holds_the_raw_scores_and_where_they_come_from(result, markup):
    for row, c in zip(_rows(markup, 'Candidate by candidate'), result['candidates']):
        full, memory = np.array(c['full']['auc']), np.mean(c['memory']['auc'], 1)
        assert row[:2] == [c['name'], 'conf.' if c['confirmation'] else 'dev.']
        assert row[2] == f'{full.mean():.4f} ± {full.std(ddof=1):.4f}'
        assert row[3] == f'{memory.mean():.4f} ± {memory.std(ddof=1):.4f}'
        assert row[4] == f'{(memory.mean() - 0.5) / (full.mean() - 0.5):.3f}'
        assert row[5:] == ['0.01', '0.003', '20', '2.5', '0.2', '12.5', '5.0']
    costs = [row[1:] for row in _rows(markup, 'Agreement against cost') if row]
    assert costs[:2] == [['200,000', '40,000', '5.0'], ['2,400,000', '360,000', '6.7']]
    assert costs[2:] == [['29,811', '29,811', '1.0'], ['2.5', '0.2', '12.5']]
    auc = {c['name']: [np.mean(c[side]['auc']) for side in ('full', 'memory')] for c in result['candidates']}
    gaps = [f'{strong - weak:+.4f}' for strong, weak in zip(auc['deepfm'], auc['lr'])]
    assert [row[1] for row in _rows(markup, 'Does the gap between LR and DeepFM survive?')[:2]] == gaps
    logloss = result['summary']['development']['logloss']['memory']
    rows = _rows(markup, 'GAUC and LogLoss', 1)
    assert rows[0][1:4] == ['undefined', 'undefined', _shown(logloss['tau_sig'])]
    assert 'retention mean, retention min undefined: logloss has no chance level' in markup
    for said in ('0677947d78834dc1', '512781bfce965550', COMMAND, html.escape('<b>5 & 6</b>')):
        assert said in markup
    assert '<b>5 & 6</b>' not in markup and not re.search(r'<script|<link|src="http|url\(', markup)


def test_the_memory_at_each_number_of_epochs_is_of_the_raw_scores(result):
    for table, members in zip(
        _cells(report.trends_table(result), 'epochs'), result['pool']['sets'].values(), strict=True
    ):
        chosen = [c for c in result['candidates'] if c['name'] in members]
        full = [c['full']['auc'] for c in chosen]
        auc = {c['name']: np.mean(c['full']['auc']) for c in chosen}
        for k, point in enumerate(chosen[0]['memory']['frontier']):
            each = ranking.figures(full, [c['memory']['frontier'][k]['auc'] for c in chosen])
            cells = table[str(point['chosen']['epochs'])]
            for cell, figure in zip(cells, ('retention_mean', 'retention_min', 'tau_sig')):
                x = each[figure]
                assert cell == ('undefined' if np.isnan(x).any() else f'{x.mean():.3f} ± {x.std(ddof=1):.3f}')
            if {'lr', 'deepfm'} <= auc.keys():
                at = {c['name']: np.mean(c['memory']['frontier'][k]['auc']) for c in chosen}
                assert cells[3] == f'{(at["deepfm"] - at["lr"]) / (auc["deepfm"] - auc["lr"]):.2f}'


def test_the_frontier_is_of_the_raw_scores(result):
    """First what was chosen, then every number of epochs; here the choice is the last of them, 20."""
    candidates = result['candidates']
    found = trends._readings(candidates, 'memory')
    again = summaries.summary(candidates, resamples=2)['memory']
    for figure in ('retention_mean', 'tau_sig'):
        assert found[figure].shape == (3, 3)
        assert found[figure][0] == pytest.approx([5.0, again[figure]['mean'], again[figure]['sd']])
        assert found[figure][2] == pytest.approx(found[figure][0])
        assert found[figure][1, 0] == pytest.approx(200_000 / 12_000)
    kept = [(np.mean(c['memory']['frontier'][0]['auc']) - 0.5) / (np.mean(c['full']['auc']) - 0.5) for c in candidates]
    assert found['retention_mean'][1, 1] == pytest.approx(np.mean(kept))


def test_same_result_same_bytes(result, markup, tmp_path):
    """Three files, 1200 pixels wide, no other; the page holds the very pictures beside it."""
    path = report.write_trends(tmp_path, copy.deepcopy(result), COMMAND)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['frontier.png', 'report.html', 'scatter.png']
    assert path == str(tmp_path / 'report.html') and _read(path) == markup.replace('trends0', tmp_path.name)
    for name, height in (('scatter', 1680), ('frontier', 870)):
        png = (tmp_path / f'{name}.png').read_bytes()
        assert png[:8] == b'\x89PNG\r\n\x1a\n' and struct.unpack('>II', png[16:24]) == (1200, height)
        assert base64.b64encode(png).decode() in markup
    with pytest.raises(UserError, match='nowhere: no such folder'):
        report.write_trends(tmp_path / 'nowhere', result, COMMAND)


def answered(result, kinds=('memory', 'early_stop')):
    """The result with three twins: candidates along a line in function space, a twin's score that of its candidate."""
    result, angle = copy.deepcopy(result), np.linspace(0, 1, len(result['candidates']))
    base, other = np.random.default_rng(1).normal(size=(2, 200))
    logits = np.cos(angle)[:, None] * base + np.sin(angle)[:, None] * other
    for of, members in result['pool']['sets'].items():
        keep = [i for i, c in enumerate(result['candidates']) if c['name'] in members]
        chosen = [result['candidates'][i] for i in keep]
        level = {c['name']: np.mean(c['full']['auc']) for c in chosen}
        known = {twin: {'auc': [level[twin]] * 3} for twin in ('lr', 'fm', 'mlp') if twin in level}
        told = judged(chosen, known, {kind: logits[keep][:, None].repeat(3, 1) for kind in kinds})
        result['summary'][of]['answer'] = json.loads(json.dumps(told))
    return result


def test_the_answer_with_twins_is_shown_beside_the_memory_alone(result, markup, tmp_path, monkeypatch):
    """Two tables a set that has twins, one by one and together, the picture of the widest; without twins neither."""
    told = answered(result)
    assert told['summary']['confirmation']['answer'] == {}
    tables = {of: trends.answer_table(told, of) for of in told['summary']}
    assert [len(found) for found in tables.values()] == [2, 0, 2]
    for of in ('development', 'all'):
        (table, together), found = tables[of], told['summary'][of]['answer']
        assert together.header == table.header and 'all 3 distillations asked together' in together.caption
        assert [row[0] for row in table.rows] == ['memory', 'early stop']
        for row, of_kind in zip(table.rows, found.values()):
            for cell, figure in zip(row[1:7:2], ('tau_sig', 'tau_sig_hard', 'error')):
                assert cell == _shown(of_kind[f'plain_{figure}'], '.4f' if figure == 'error' else '.3f')
            for cell, figure in zip(row[2:7:2], ('tau_sig', 'tau_sig_hard', 'error')):
                assert cell == _shown(of_kind[figure], '.4f' if figure == 'error' else '.3f')
            assert row[7] == f'{of_kind["covered"]["mean"]:.2f}'
        for row, of_kind in zip(together.rows, found.values()):
            joint = of_kind['together']
            assert row[5:] == [f'{joint["plain_error"]:.4f}', f'{joint["error"]:.4f}', f'{joint["covered"]:.2f}']
        said = found['memory']['replicates'][0]
        assert 'the twins lr, fm, mlp, ' in table.caption and f'first: {said["said"]}' in table.notes
        assert 'corrected by functions in 3 of 3 distillations, else by the shift common to all' in table.notes
        assert f'{said["pairs"]} significant, {said["hard"]} hard' in table.caption
    for picture in ('scatter', 'frontier'):  # as without twins, and slow
        monkeypatch.setattr(trends, picture, lambda _: b'picture')
    text, page = report.trends_table(told), _read(report.write_trends(tmp_path, told, COMMAND))
    assert ' '.join(text.split()).count('the answer with the twins lr, fm, mlp') == 2
    pictures = [(tmp_path / f'{name}.png').read_bytes() for name in ('reliability', 'reliability_margin')]
    assert all(base64.b64encode(png).decode() in page for png in pictures) and pictures[0] != pictures[1]
    assert page.count('<img') == 4 and 'That A beats B by more than 0.001 AUC: both sets' in page
    assert 'the answer with the twins' not in report.trends_table(result) + markup and markup.count('<img') == 2
    assert trends.reliability(result) == {}


def test_what_a_comparison_costs_in_all(result, tmp_path, monkeypatch):
    """By hand: 2 rates on the log; 1 rate x 3 seeds x 40,000 of 200,000 visits, 12.5 passes to distil, 3 of twins."""
    assert trends.cost_table(result, 'all') == [] and trends.cost_picture(result) is None, 'no twins'
    told = answered(result)
    assert trends.cost_table(told, 'all') == [], 'no clock'
    told['protocol']['distilling_passes'], told['twins'] = 12.5, {'lr': {}, 'fm': {}, 'mlp': {}}
    [table] = trends.cost_table(told, 'all')
    assert [row[:5] for row in table.rows] == [
        ['the full log, one seed', '2.0', '20.0', '60.0', '200.0'],
        ['memory', '13.1', '18.5', '30.5', '72.5'],
        ['3 memories together', '39.3', '55.5', '91.5', '217.5'],
        ['early stop', '3.6', '9.0', '21.0', '63.0'],
    ]
    [twice] = trends.cost_table({**told, 'config': {**told['config'], 'twins': {'other_rates': [4.0]}}}, 'all')
    assert [row[1] for row in twice.rows] == ['2.0', '13.1', '39.3', '6.6'], (
        'twins at two rates, which distilling holds'
    )
    memory = told['summary']['all']['answer']['memory']
    assert table.rows[1][5:] == [
        _shown(memory['tau_sig']),
        _shown(memory['tau_sig_hard']),
        _shown(memory['regret'], '.4f'),
    ]
    assert table.rows[2][7] == f'{memory["together"]["regret"]:.4f}'
    full = np.array([c['full']['auc'] for c in told['candidates']])
    lost = [m.max() - m[full[:, s].argmax()] for s in range(6) for m in [np.delete(full, s, 1).mean(1)]]
    assert table.rows[0][7] == f'{np.mean(lost):.4f} ± {np.std(lost, ddof=1):.4f}'
    for picture in ('scatter', 'frontier'):  # as without twins, and slow
        monkeypatch.setattr(trends, picture, lambda _: b'picture')
    markup = _read(report.write_trends(tmp_path, told, COMMAND))
    assert base64.b64encode((tmp_path / 'costs.png').read_bytes()).decode() in markup
    assert 'What is a comparison worth its cost?' in markup


def test_names_stand_apart(monkeypatch, result):
    """No two names of the picture overlap, and all 28 are inside it, twice."""
    figures = []
    monkeypatch.setattr(report.figures, 'png', lambda draw, size: figures.append((draw, size)))
    trends.scatter(result)
    fig = Figure(figsize=figures[0][1], layout='constrained', dpi=150)
    figures[0][0](fig)
    assert len(fig.axes) == 2
    for ax in fig.axes:
        boxes = [text.get_window_extent() for text in ax.texts]
        assert [text.get_text() for text in ax.texts] == list(NAMES)
        frame = ax.get_window_extent()
        assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in boxes)
        for a, b in itertools.combinations(boxes, 2):
            wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(wide, high) <= 2  # pixels: extents leave room below letters without descenders


def test_a_small_pool_is_undefined_in_words(tmp_path):
    """Four candidates, two seeds, one distillation, a rival: nothing to test, and every reason is said."""
    small = pool(candidates=4, rivals=('random_rows',), distillations=1, full_seeds=2)
    pairs = small['summary']['development']['auc']['pairs']
    text = report.trends_table(small)
    table = _cells(text, 'trained on')[0]
    assert table['memory'][2:4] == ['undefined', 'undefined'] and ' ± ' not in ''.join(table['memory'])
    assert f'tau_sig undefined: {pairs["significant"]} significant pairs, 30 needed' in text
    assert 'ceiling: tau_sig, tau_sig hard undefined: 2 full-log seeds, 6 needed' in text
    assert 'One distillation: no sd' in text and 'undefined: needs 2 replicates at least' in text
    page = _read(report.write_trends(tmp_path, small, COMMAND))
    words = re.sub(r'base64,[^"]+', '', page)
    assert 'tau_sig undefined' in words and 'The gap needs both' in words
    assert not re.search(r'\bnan\b|None', words)


def test_rivals_and_frontiers_may_be_missing(tmp_path):
    """No rival at all; then a rival of some candidates only, and no frontier anywhere."""
    alone = pool(candidates=9, rivals=())
    for c in alone['candidates']:
        del c['memory']['frontier']
    text = report.trends_table(alone)
    assert 'ours minus' not in text and list(_cells(text, 'trained on')[0])[:2] == ['memory', 'ceiling']
    words = _read(report.write_trends(tmp_path, alone, COMMAND))
    assert 'memory and 0 rivals' in words and words.count('<img') == 2
    assert struct.unpack('>II', (tmp_path / 'scatter.png').read_bytes()[16:24]) == (1200, 840)  # one panel

    some = pool(candidates=9, rivals=('static', 'random_rows'))
    for c in some['candidates'][:4]:
        del c['rivals']['static'], c['rivals']['random_rows']['frontier']
    summary = {metric: summaries.summary(some['candidates'], metric, 5) for metric in ranking.METRICS}
    some['summary'] = {'development': json.loads(json.dumps(summary))}
    text = report.trends_table(some)
    assert '\nstatic: undefined: scores of 5 of 9 candidates\n' in text
    table = _cells(text, 'trained on')[0]
    assert table['static'] == [*7 * ['undefined'], '5.0'] and table['random rows'][0] != 'undefined'
    assert 'ours minus' in text and _read(report.write_trends(tmp_path, some, COMMAND)).count('<img') == 2
