"""Writes docs/reference/ from the code: config keys, files, the API.

make docs
"""

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import diet_jax
from diet_jax import elsewhere, models
from diet_jax.artifact import format as memory_format
from diet_jax.config import default_data, simulated_data
from diet_jax.config.defaults import KEYS
from diet_jax.config.keys import Section, flat
from diet_jax.data import prepared
from diet_jax.elsewhere import export as exported
from diet_jax.elsewhere import predictions as predicted
from diet_jax.run import checkpoint, overhead, record, sweep, twin_files
from diet_jax.study import compare, evaluate, objective, predictions, readings, trends

FOLDER = Path(__file__).resolve().parent.parent / 'docs' / 'reference'
SECTIONS = {
    '': 'The run',
    'data': 'The log',
    'roles': 'Which field plays what part',
    'reference': 'The model trained along the stream',
    'twins': 'Models beside it',
    'codebook': 'Codes',
    'memory': 'The memory',
    'history': 'Memories of earlier stages',
    'addressing': 'What enters and what gives way',
    'refine': 'The bi-level update, and its check',
    'evaluate': 'Candidates and their training',
    'trends': 'Studies',
}
# Modules whose docstrings say what a file holds.
FILES = (
    (memory_format, 'memory/, history/NNNNN/'),
    (record, 'metrics.jsonl'),
    (evaluate, 'evaluate.json'),
    (overhead, 'overhead.json'),
    (twin_files, 'twins/'),
    (checkpoint, 'checkpoint/'),
    (prepared, 'blocks/'),
    (compare, 'compare/'),
    (exported, 'an export'),
    (predicted, 'predictions/ of an export'),
    (objective, 'objective/'),
    (trends, 'the folder of a study'),
    (readings, 'candidates/, predictions/ of a study or of compare'),
    (predictions, 'predictions/ of a study'),
    (sweep, 'the folder of a sweep'),
)
API = (
    (
        'diet_jax',
        diet_jax,
        (
            'distill',
            'evaluate',
            'compare',
            'export',
            'objective',
            'load_memory',
            'default_config',
            'Artifact',
            'UserError',
        ),
    ),
    ('diet_jax.study.objective', objective, ('Objective', 'Score', 'Standing', 'FullRun')),
    ('diet_jax.elsewhere', elsewhere, tuple(elsewhere.__all__)),
    ('diet_jax.models', models, ('register', 'build', 'names', 'Model')),
)
NOTE = '*Made from the code by `make docs`; a test compares.*\n'


def config_page() -> str:
    """Every key, its default, its range and its sentence."""
    text = f'# Config keys\n\n{NOTE}\nAny key is a flag: `--config.memory.row_budget=0.002`. Keys marked * may change\n'
    text += 'between two runs over one workdir; a change of another needs a workdir of its own.\n'
    for name in ('', *(name for name in KEYS if name != 'seed')):
        title = SECTIONS[name]
        section: Section = {key: value for key, value in KEYS.items() if key == 'seed'} if not name else KEYS[name]
        prefix = f'{name}.' if name else ''
        text += f'\n## {title}{f" (`config.{name}`)" if name else ""}\n\n'
        text += '| key | default | range | what |\n|---|---|---|---|\n'
        for key, known in flat(section, prefix):
            shown = f'`{known.default!r}`'.replace('|', '\\|')
            if len(shown) > 60:
                shown = f'{len(known.default)} of them'
            said = known.text.replace('|', '\\|')
            text += f'| `{key}`{"*" if known.free else ""} | {shown} | {known.range()} | {said} |\n'
    return text


def files_page() -> str:
    """What every file holds."""
    text = (
        f'# Files\n\n{NOTE}\nA file is written beside its place and renamed: a reader finds it whole or not at all.\n'
    )
    text += 'Columns of `rows.parquet`, and how to read a memory elsewhere: [elsewhere.md](../elsewhere.md).\n'
    for module, what in FILES:
        text += f'\n## `{what}`\n\n{_quoted(inspect.getdoc(module))}\n'
    return text


def api_page() -> str:
    """What can be called."""
    text = (
        f'# The API\n\n{NOTE}\nConfigs: `from diet_jax.config import default_config, default_data, simulated_data`.\n'
    )
    for name, module, names in API:
        for one in names:
            text += f'\n## `{name}.{one}`\n\n' + _described(getattr(module, one), one)
    for function in (default_data, simulated_data):
        text += f'\n## `diet_jax.config.{function.__name__}`\n\n' + _described(function, function.__name__)
    return text


def _described(thing, name: str) -> str:
    text = f'```python\n{_signature(thing, name)}\n```\n\n{_quoted(inspect.getdoc(thing))}\n'
    for member, value in _members(thing):
        head = member if isinstance(value, property) else _signature(value, member)
        said = inspect.getdoc(value.fget if isinstance(value, property) else value)
        if said:
            text += f'\n### `{head}`\n\n{_quoted(said)}\n'
    return text


def _members(thing) -> Iterator[tuple[str, object]]:
    """Public methods and properties that a class itself defines."""
    if inspect.isclass(thing):
        for name, value in vars(thing).items():
            if not name.startswith('_') and (inspect.isfunction(value) or isinstance(value, property)):
                yield name, value


def _signature(thing, name: str) -> str:
    try:
        signature = inspect.signature(thing)
    except ValueError:
        return f'{name}(...)'
    words = re.sub(r"ForwardRef\(('[^']*')\)", r'\1', str(signature))  # fields of a NamedTuple
    words = re.sub(r"(: |-> )'([^']*)'", r'\1\2', words).replace('<built-in function print>', 'print')
    if len(words) < 100:
        return name + words
    inside, _, returned = words[1:].rpartition(')')
    parts = re.split(r', (?=\*?\w*(?::|,|$))', inside)
    return f'{name}(\n    ' + ',\n    '.join(parts) + f',\n){returned}'


def _quoted(text: str | None) -> str:
    return f'```text\n{textwrap.dedent(text or "").strip()}\n```'


PAGES = {'config.md': config_page, 'files.md': files_page, 'api.md': api_page}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
        print(FOLDER / name)


if __name__ == '__main__':
    main()
