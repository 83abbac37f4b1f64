"""The report says what the raw scores say, recomputed here by other means; what is missing is named."""

import base64
import html
import json
import math
import random
import re
import statistics

import pytest

from diet_jax import report
from diet_jax.base.atomic import read_json
from diet_jax.base.errors import UserError
from diet_jax.report import days
from diet_jax.stats import scores
from diet_jax.stats.retention import retention

COMMAND = 'python scripts/distill.py --config=configs/kuairand.py --workdir=runs/x'
CANDIDATES = ('lr', 'fm', 'deepfm', 'dcnv2')
FLOORS = ('random_rows_our_labels', 'random_rows')
DAYS = [f'2022-04-{day}' for day in range(21, 30)]


def _metrics(stage: int) -> dict:
    rng = random.Random(stage)
    seen, rows = 15_000 * stage, 150 * stage
    replaced, modified = rng.randrange(1, 20), rng.randrange(40, 90)
    before = 0.6 + 0.1 * rng.random()
    return {
        'stage': stage,
        'block': DAYS[stage - 1],
        'rows': 15_000,
        'rows_seen': seen,
        'rows_per_second': 21_000.0 + stage,
        'seconds': {'read': 0.1, 'stage': 0.9, 'compile': 0.0, 'save': 0.05, 'total': 1.05},
        'reference': {'auc': 0.69 + 0.04 * rng.random(), 'logloss': 0.61, 'gauc': 0.62, 'train_loss': 0.6},
        'codebook': {'slots': 30_000 + stage, 'new_slots': 1_200, 'moved': 0.031},
        'influence': {
            'rows_mean': 0.01,
            'rows_abs_mean': 0.9,
            'memory_mean': 0.2,
            'positive_share': 0.55,
        },
        'addressing': {
            'kept': rows - 150 - replaced - modified if stage > 1 else 0,
            'modified': modified if stage > 1 else 0,
            'replaced': replaced if stage > 1 else 0,
            'admitted': 150,
        },
        'refinement': {
            'proposed': 8,
            'accepted': stage % 3 > 0,
            'loss_before': before,
            'loss_after': before + (-0.004 if stage % 3 else 0.002) * rng.random(),
            'meta_gradient_norm': 0.02,
        },
        'memory': {
            'rows': rows,
            'row_budget': 0.01,
            'bytes': 40_000 * stage,
            'byte_budget': 0.0871,
            'byte_budget_raw': 0.0412,
            'mass': float(seen),
        },
    }


def _scores(rng: random.Random, auc: float, distillations: int = 0) -> dict:
    """Three seeds around an AUC; on the memory, three for each distillation."""

    def draws(middle: float) -> list:
        per = [[rng.gauss(middle, 0.001) for _ in range(3)] for _ in range(max(distillations, 1))]
        return per if distillations else per[0]

    found = {'auc': draws(auc), 'logloss': draws(1.3 - auc), 'gauc': draws(auc - 0.08)}
    return {**found, 'row_visits': 9_000 if distillations else 120_000, 'seconds': 0.71}


def _stage(stage: int, distillations: int) -> dict:
    rng = random.Random(100 + stage)
    candidates = []
    for i, name in enumerate(CANDIDATES):
        full = 0.715 + 0.006 * i + 0.001 * stage
        chosen = {'lr': 0.003, 'epochs': 20, 'tuning_auc': 0.72}
        lost = {'memory': 0.006, FLOORS[0]: 0.011, FLOORS[1]: 0.08}
        trained = {kind: _scores(rng, full - by - 0.001 * i, distillations) for kind, by in lost.items()}
        trained['memory'] |= {'retention': -1.0, 'cost_ratio': 10.0 + i}
        candidates.append(
            {
                'name': name,
                'config': {},
                'chosen': {'full': {'lr': 0.001, 'tuning_auc': 0.73}, 'memory': chosen},
                'full': _scores(rng, full),
                'memory': trained['memory'],
                'rivals': {kind: {**trained[kind], 'chosen': chosen} for kind in FLOORS},
            }
        )
    return {
        'stage': stage,
        'tuned_on': DAYS[stage],
        'scored_on': DAYS[stage + 1],
        'memory_rows': 150 * stage,
        'candidates': candidates,
    }


def _workdir(folder, distillations: int = 1):
    (folder / 'memory').mkdir(parents=True)
    stages = [_stage(t, distillations) for t in range(3, 8)]
    stages[-1]['forgetting'] = [
        {'block': DAYS[t], 'candidate': name, 'full': 0.74 - 0.002 * t, 'memory': 0.73 - 0.002 * t}
        for t in range(7)
        for name in ('lr', 'deepfm')
    ]
    bins = [[0.05 + 0.1 * i, min(0.04 + 0.105 * i, 1.0), 900 - 80 * i] for i in range(10)]
    empty = [float('nan'), float('nan'), 0]
    stages[-1]['calibration'] = {'candidate': 'deepfm', 'full': bins, 'memory': [*bins[:8], empty, empty]}
    evaluate = {
        'command': COMMAND.replace('distill', 'evaluate'),
        'config': {'evaluate': {'learning_rates': [0.001, 0.01, 0.1]}},
        'data': {
            'label': 'is_click',
            'fields': ['user_id', 'tab'],
            'blocks': [[day, 15_000] for day in DAYS],
        },
        'full_pass_rows': {'7': 105_000},
        'stages': stages,
    }
    seconds = {'reference': 0.5, 'twins': 1.1, 'codebook': 0.2, 'influence': 0.3, 'addressing': 0.15, 'refinement': 0.9}
    overhead = {
        'block': DAYS[-1],
        'rows': 15_000,
        'components': {**seconds, 'check': 0.25, 'stage': 2.2},
        'reference_seconds': 4.0,
        'distill_seconds': 17.5,
        'overhead': -1.0,
        'compile_seconds': 31.0,
        'peak_memory_bytes': 3 * 2**29,
        'device': 'cpu',
    }
    manifest = {'format': 1, 'versions': {'jax': '0.10.2'}}
    config = {'data': {'label': {'column': 'is_click'}}, 'note': '<b>5 & 6</b>'}
    lines = ''.join(json.dumps(_metrics(t)) + '\n' for t in range(1, 10))
    (folder / 'metrics.jsonl').write_text(lines, encoding='utf-8')
    for name, value in (('evaluate', evaluate), ('overhead', overhead), ('config', config)):
        (folder / f'{name}.json').write_text(json.dumps(value), encoding='utf-8')
    (folder / 'memory' / 'manifest.json').write_text(json.dumps(manifest), encoding='utf-8')
    return evaluate


def _text(path: str) -> str:
    with open(path, encoding='utf-8') as f:
        return f.read()


def _rows(markup: str, under: str, table: int = 0) -> list[list[str]]:
    """Cells of the body of a table that follows a heading."""
    body = markup.split(f'<h2>{under}</h2>')[1].split('<tbody>')[table + 1].split('</tbody>')[0]
    return [re.findall(r'<td>(.*?)</td>', row, re.S) for row in body.split('</tr>') if '<td>' in row]


def _mean(nested: list) -> float:
    return statistics.fmean(statistics.fmean(x) if isinstance(x, list) else x for x in nested)


def _retention(candidate: dict, kind: str) -> float:
    trained = candidate['memory'] if kind == 'memory' else candidate['rivals'][kind]
    return (_mean(trained['auc']) - 0.5) / (_mean(candidate['full']['auc']) - 0.5)


@pytest.fixture(scope='module', params=[1, 3], ids=['one distillation', 'three distillations'])
def written(request, tmp_path_factory):
    """(distillations, the stages of evaluate.json, the page) of a complete workdir."""
    folder = tmp_path_factory.mktemp('report') / 'x'
    stages = _workdir(folder, request.param)['stages']
    return request.param, stages, _text(report.write_report(folder, COMMAND))


def test_candidate_table_equals_the_raw_scores(written):
    distillations, stages, markup = written
    rows, last = _rows(markup, 'Candidates'), stages[-1]['candidates']
    assert [row[0] for row in rows] == list(CANDIDATES)
    for row, candidate in zip(rows, last, strict=True):
        full, memory = candidate['full']['auc'], candidate['memory']['auc']
        runs = memory[0] if distillations == 1 else [statistics.fmean(seeds) for seeds in memory]
        assert row[1] == f'{_mean(full):.4f} ± {statistics.stdev(full):.4f}'
        assert row[2] == f'{_mean(memory):.4f} ± {statistics.stdev(runs):.4f}'
        assert row[3:6] == [f'{_retention(candidate, kind):.3f}' for kind in ('memory', *FLOORS)]
        means = [_mean(candidate[side][metric]) for metric in ('logloss', 'gauc') for side in ('full', 'memory')]
        assert row[6:10] == [f'{mean:.4f}' for mean in means]
        assert row[10:] == [f'{candidate["memory"]["cost_ratio"]:.1f}']
    for row in _rows(markup, 'Candidates', table=1):
        assert row[1:5] == ['0.001', '0.7300', '120,000', '0.71']
        assert row[5:] == ['0.003', '20', '0.7200', '9,000', '0.71']


def test_headline_numbers_equal_the_raw_scores(written):
    _, stages, markup = written
    last = stages[-1]['candidates']
    tiles = dict(re.findall(r'<span class="k">(.*?)</span><b>(.*?)</b>', markup))
    kept = [_retention(candidate, 'memory') for candidate in last]
    assert tiles['Memory rows'] == '1,350' and tiles['Row budget'] == '1 %' and tiles['Byte budget'] == '8.71 %'
    assert tiles['Mean retention'] == f'{statistics.fmean(kept):.3f}'
    assert tiles['Least retention'] == f'{min(kept):.3f}'
    assert tiles['Cost ratio'] == '10–13'
    assert tiles['Overhead'] == f'{(17.5 - 4.0) / 4.0:.2f}'
    floor = statistics.fmean(_retention(candidate, FLOORS[0]) for candidate in last)
    assert f'our labels and codebook keep {floor:.3f}' in markup


def test_every_component_of_the_overhead_is_shown(written):
    rows = _rows(written[2], 'Distilling overhead')
    names = ['reference model', 'twins', 'codebook', 'influence', 'addressing', 'refinement', 'do-no-harm check']
    assert [row[0] for row in rows] == [*names, 'the whole stage, in one call']
    assert rows[1] == ['twins', '1.100', '2.20']


def test_gap_between_lr_and_deepfm(tmp_path):
    stages = _workdir(tmp_path / 'x')['stages']
    rows = _rows(_text(report.write_report(tmp_path / 'x', COMMAND)), 'Does the gap between LR and DeepFM survive?')
    for row, stage in zip(rows, stages, strict=True):
        lr, deepfm = (stage['candidates'][CANDIDATES.index(name)] for name in ('lr', 'deepfm'))
        full, memory = (_mean(deepfm[side]['auc']) - _mean(lr[side]['auc']) for side in ('full', 'memory'))
        assert row[:2] == [str(stage['stage']), stage['scored_on']]
        assert row[2:4] == [f'{full:+.4f}', f'{memory:+.4f}'] and row[-1] == f'{memory / full:.2f}'


def test_text_tables_agree_with_the_raw_scores(tmp_path):
    evaluate = _workdir(tmp_path / 'x')
    text = report.summary_table(evaluate, read_json(tmp_path / 'x' / 'overhead.json'))
    for candidate in evaluate['stages'][-1]['candidates']:
        line = next(row for row in text.splitlines() if re.match(rf'\W*{candidate["name"]} ', row))
        assert f'{_mean(candidate["full"]["auc"]):.4f} ±' in line
        assert all(f'{_retention(candidate, kind):.3f}' in line for kind in ('memory', *FLOORS))
    for stage in evaluate['stages']:
        line = next(r for r in text.splitlines() if stage['scored_on'] in r and 'scored once' not in r)
        assert f'{statistics.fmean(_retention(c, "memory") for c in stage["candidates"]):.3f}' in line
    assert 'Distilling cost 4.4 passes of the reference model over the log' in text
    assert 'Distilling cost' not in report.summary_table(evaluate)
    assert report.summary_table({'stages': []}).strip() == ''


def test_page_stands_alone_and_is_reproducible(tmp_path):
    _workdir(tmp_path / 'x')
    path = report.write_report(tmp_path / 'x', COMMAND + " --config.note='<b>'")
    markup = _text(path)
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', markup)
    assert len(pictures) == 8 == markup.count('<img')
    assert all(base64.b64decode(data).startswith(b'\x89PNG') for data in pictures)
    assert not re.search(r'<script|<link|src=\"http|url\(', markup)
    assert '<b>5 & 6</b>' not in markup and html.escape('<b>5 & 6</b>') in markup
    report.write_report(tmp_path / 'x', COMMAND + " --config.note='<b>'")
    assert _text(path) == markup
    assert not list((tmp_path / 'x').glob('*.tmp'))


FILES = ('evaluate.json', 'overhead.json', 'metrics.jsonl', 'config.json', 'memory/manifest.json')


@pytest.mark.parametrize('gone', [FILES[:1], FILES[1:], FILES])
def test_a_missing_file_is_named_with_the_command_that_writes_it(tmp_path, gone):
    _workdir(tmp_path / 'x')
    for file in gone:
        (tmp_path / 'x' / file).unlink()
    markup = _text(report.write_report(tmp_path / 'x', COMMAND))
    notices = re.findall(r'<div class="missing">(.*?)</div>', markup)
    assert len(notices) == len(gone)
    for file in gone:
        script = 'evaluate.py' if file == 'evaluate.json' else 'distill.py'
        said = next(notice for notice in notices if f'{file} is not in this workdir' in notice)
        assert f'<code>{COMMAND.replace("distill.py", script)}</code>' in said


def test_what_is_missing_inside_evaluate_is_said(tmp_path):
    evaluate = _workdir(tmp_path / 'x')
    last = evaluate['stages'][-1]
    del last['forgetting'], last['calibration']
    for stage in evaluate['stages']:
        stage['candidates'] = stage['candidates'][1:]  # no lr
        for candidate in stage['candidates']:
            candidate['rivals'] = {}
    last['candidates'][0]['full']['auc'] = [None, None, None]  # a block with a single class
    (tmp_path / 'x' / 'evaluate.json').write_text(json.dumps(evaluate))
    markup = _text(report.write_report(tmp_path / 'x', COMMAND))
    assert 'no calibration' in markup and 'no scores on old blocks' in markup and 'needs both lr and deepfm' in markup
    assert _rows(markup, 'Candidates')[0][1] == '–'
    assert 'nan' not in re.sub(r'base64,[^"]+', '', markup)


def test_a_stage_run_again_counts_once(tmp_path):
    _workdir(tmp_path / 'x')
    with open(tmp_path / 'x' / 'metrics.jsonl', 'a', encoding='utf-8') as f:
        f.write(json.dumps({**_metrics(9), 'rows': 14_321}) + '\n')
    markup = _text(report.write_report(tmp_path / 'x', COMMAND))
    table = markup.split('Every stage in numbers')[1].split('</table>')[0]
    assert '9 stages' in markup and table.count(f'<td>{DAYS[8]}</td>') == 1 and '<td>14,321</td>' in table


def test_bad_files_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match='no such workdir'):
        report.write_report(tmp_path / 'nowhere', COMMAND)
    _workdir(tmp_path / 'x')
    before = _text(report.write_report(tmp_path / 'x', COMMAND))
    with open(tmp_path / 'x' / 'metrics.jsonl', 'a') as f:
        f.write('{"stage": 10, "blo')
    with pytest.raises(UserError, match=r'metrics\.jsonl: line 10 '):
        report.write_report(tmp_path / 'x', COMMAND)
    assert _text(tmp_path / 'x' / 'report.html') == before


@pytest.mark.parametrize(('seconds', 'said'), [(0.4, 'about 86 s on the log itself: no longer'), (2.0, 'about 432 s')])
def test_a_small_log_is_better_trained_on_itself(seconds, said):
    """12 candidates, 6 rates, 3 seeds: 216 passes; compiling a dozen takes 96 s."""
    text = scores.advice(seconds, 6, 3)
    assert said in text and text.endswith('Train on the log.') == (seconds < 1)


@pytest.mark.parametrize(
    'cost_ratio, rates, distillations, said',
    [
        (50.0, 6, 1, 'after 5 trainings on the memory, or 1 candidate tuned on 6 learning rates.'),
        (10.0, 1, 5, 'after 25 trainings on the memories, or 25 candidates tuned on 1 learning rate.'),
        (0.9, 6, 1, 'it never pays for itself'),
    ],
)
def test_from_which_candidate_on_distilling_has_paid_for_itself(cost_ratio, rates, distillations, said):
    """By counting: what n trainings cost on the log, and n on the memory with the distilling before them."""
    overhead = {'distill_seconds': 17.5, 'reference_seconds': 4.0}
    assert said in scores.paid(overhead, cost_ratio, rates, distillations)
    if cost_ratio > 1:
        spent = 17.5 / 4.0 * distillations
        first = next(n for n in range(1, 100) if n >= spent + n / cost_ratio)
        assert f'after {first} trainings' in scores.paid(overhead, cost_ratio, rates, distillations)


def test_runs_are_distillations_where_there_are_several():
    found = scores.score([[0.5, 0.7], [0.8, 0.8], [0.6, 0.9]])
    assert found == pytest.approx((statistics.fmean([0.6, 0.8, 0.75]), statistics.stdev([0.6, 0.8, 0.75]), 3))
    assert scores.score([[0.5, 0.7]]) == scores.score([0.5, 0.7])  # else its student seeds are


def test_retention_of_a_useless_full_model_is_not_a_number():
    assert retention(0.75, 0.6) == pytest.approx(0.4)
    assert math.isnan(retention(0.5, 0.6))


def test_comparisons_stand_side_by_side_with_the_odds_of_each(tmp_path):
    def result(block, better, expected):
        names = list(expected)
        beats = [[0.5 if a == b else better if a < b else 1 - better for b in names] for a in names]
        one = lambda name: dict(  # noqa: E731
            name=name, expected_auc=expected[name], best=0.5, of_the_library=name == 'lr', config={'model': name}
        )
        return dict(scored_on=block, command='made', beats=beats, candidates=[one(name) for name in names])

    week = {
        'runs/b': result('20220502', 0.8, {'a': 0.71, 'b': 0.7, 'lr': 0.69}),
        'runs/a': result('20220501', 0.6, {'a': 0.72, 'b': 0.73}),
    }
    named = days.in_order(week)
    assert list(named) == ['runs/a', 'runs/b'] and days.baseline_of(named) == 'a'
    assert days.odds(named['runs/b'], 'b', 'a') == pytest.approx(0.2) and days.odds(named['runs/b'], 'lr', 'a') is None
    header, rows = days.table(named, 'a')
    assert header[1:3] == ['20220501\nexpected AUC', '20220501\nbeats a']
    assert rows == [['a', '0.7200', '–', '0.7100', '–'], ['b', '0.7300', '0.40', '0.7000', '0.20']]
    markup = (tmp_path / 'week.html', report.write_days(tmp_path / 'week.html', week, 'b', 'command'))[0].read_text()
    assert '<title>a, 20220502: 0.80</title>' in markup and 'http' not in markup and '<link' not in markup
    with pytest.raises(UserError, match=r'--baseline=c: no comparison has it'):
        report.write_days(tmp_path / 'x.html', week, 'c', 'command')
    assert not (tmp_path / 'x.html').exists()
