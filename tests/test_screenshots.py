"""scripts/screenshots.py, and what a reader of the pictures would stumble over."""

import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from diet_jax.report import compare, vector

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'scripts'))

import screenshots  # noqa: E402

ORANGE, NIGHT = (217, 115, 13), (22, 25, 29)


def test_what_is_missing_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    assert screenshots.main([str(tmp_path / 'report.html'), f'--to={tmp_path / "to"}']) == 1
    monkeypatch.setattr(screenshots.shutil, 'which', lambda name: None)
    assert screenshots.main([str(tmp_path / 'report.html')]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and not (tmp_path / 'to').exists() and 'apt install chromium' in lines[1]


@pytest.mark.skipif(not any(map(shutil.which, screenshots.BROWSERS)), reason='no Chromium: pictures of reports')
def test_pictures_are_as_wide_as_asked_and_keep_a_rare_colour(tmp_path):
    page = tmp_path / 'day.html'
    page.write_text(
        '<style>:root { color-scheme:light dark } body { margin:0 } i { display:block; width:9px; height:9px; '
        f'background:rgb{ORANGE} }} @media (prefers-color-scheme:dark) {{ '
        f'body {{ background:rgb{NIGHT} }} }}</style><i></i>'
    )
    assert screenshots.main([str(page), f'--to={tmp_path}', '--height=200']) == 0
    for kind, width in (('desktop', 1280), ('dark', 1280), ('phone', 390)):
        picture = Image.open(tmp_path / f'day-{kind}.png').convert('RGB')
        assert picture.size == (width, 200) and picture.getpixel((4, 4)) == ORANGE
        assert picture.getpixel((300, 150)) == (NIGHT if kind == 'dark' else (255, 255, 255))


def test_ticks_are_said_as_they_are():
    rows = [('a', 0.665, 0.63, 0.7, None), ('b', 0.66, 0.64, 0.69, 0.67)]
    ticks = [float(x.split('<')[0]) for x in vector.intervals(rows).split('class="tick">')[1:-1]]
    steps = {round(b - a, 6) for a, b in zip(ticks, ticks[1:])}
    assert len(ticks) > 3 and len(steps) == 1


def test_more_lines_than_colours_differ_all_the_same():
    drawn = vector.lines(['mon', 'tue'], {f'm{k}': [0.1, 0.2] for k in range(20)}, 'odds')
    strokes = {part.split('/>')[0] for part in drawn.split('<path d="M')[1:] if 'fill="none"' in part}
    assert len({stroke[stroke.index('stroke=') :] for stroke in strokes}) == 20


def test_a_model_from_elsewhere_differs_by_its_framework():
    ours = {'name': 'fm', 'config': {'model': 'fm', 'dim': 8}}
    other = {'name': 'mine', 'config': {}, 'framework': 'pytorch'}
    assert compare.differs_from(other, ours) == compare.differs_from(ours, other) == 'of pytorch'
    assert compare.differs_from({**ours, 'name': 'b', 'config': {'model': 'lr', 'dim': 8}}, ours) == 'model=lr'
