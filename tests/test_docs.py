"""What the docs say is what the code does: the reference is made from it, links lead somewhere, snippets run."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md')])
sys.path.insert(0, str(ROOT / 'scripts'))

import reference  # noqa: E402


@pytest.mark.parametrize('name', reference.PAGES)
def test_the_reference_is_that_of_the_code(name):
    assert (ROOT / 'docs' / 'reference' / name).read_text() == reference.PAGES[name](), 'run make docs'


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere_and_lines_wrap(page):
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.S)
    for target in re.findall(r'\]\(([^)#:]*)(?:#[^)]*)?\)', text):
        assert not target or (page.parent / target).exists(), f'{page}: {target}'
    if 'reference' not in page.parts:
        long = [line for line in text.splitlines() if len(line) > 120 and not line.startswith('|')]
        assert not long, f'{page}: {long[0][:80]}'


def test_every_script_config_and_flag_that_the_readme_names_is_there():
    text = (ROOT / 'README.md').read_text()
    for name in re.findall(r'(?:scripts|configs)/[\w/-]+\.py', text):
        assert (ROOT / name).exists(), name
    assert len(text.splitlines()) <= 90


@pytest.mark.parametrize('page', ['your-log.md', 'your-model.md'])
def test_the_config_files_that_a_page_shows_load(page, tmp_path):
    """Blocks that define get_config or register a model run as they stand."""
    found = 0
    for number, code in enumerate(re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / page).read_text(), re.S)):
        if 'def get_config' in code or '@models.register' in code:
            names = {'__name__': f'page_{number}'}
            exec(compile(code, f'{page} block {number}', 'exec'), names)
            if 'get_config' in names:
                names['get_config']()
            found += 1
    assert found
