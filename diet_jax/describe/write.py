"""The config of a folder of log files, as a Python file whose comments say what is a guess and why."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from ml_collections import ConfigDict

from diet_jax.base.errors import UserError
from diet_jax.base.loading import absolute
from diet_jax.config.checks import check_config
from diet_jax.config.data import NULL_WORDS, check_data
from diet_jax.data import files
from diet_jax.describe import more, shown, words
from diet_jax.describe.kinds import BINS
from diet_jax.describe.sides import Side
from diet_jax.describe.survey import Survey

HEAD = '''"""{what}

    python scripts/distill.py  --config={path} --workdir=runs/{stem}
    python scripts/evaluate.py --config={path} --workdir=runs/{stem}

Written by scripts/describe.py from what the files look like. A line with a question mark is a guess: look at it.
"""

from ml_collections import ConfigDict

from diet_jax.config import default_config


def get_config() -> ConfigDict:
    config = default_config()
    data = config.data
'''


RATES = [
    '',
    '# Nobody knows yet whether the usual learning rates suit this log: twins at four times these, for scores alone',
    '# (docs/answer.md#twins-at-several-rates). It trains them once more: () when answers never take the other rate.',
    'config.twins.other_rates = (4.0,)',
]


def config_text(found: Survey, path: str) -> str:
    """The text of a config file that runs as it is. path: where it will lie, for the commands that it shows.

    Raises:
      UserError: the config would not be accepted.
    """
    stem = path.rpartition('/')[2].removesuffix('.py')
    what = f'{found.log.name}: {found.rows:,} rows{"" if found.whole else ", about"}, {_of_label(found)}.'
    head = HEAD.format(what=what.replace('\\', '/').replace('"""', "'''"), path=path, stem=stem)
    parts = [
        _files(found),
        _time(found),
        _label(found),
        _fields(found),
        _sides(found),
        _roles(found),
        RATES,
        more.lines(found),
    ]
    lines = [line for part in parts for line in part]
    text = head + ''.join(f'    {line}\n' if line else '\n' for line in [*lines, 'return config'])
    _check(text, found)
    return text


def _of_label(found: Survey) -> str:
    return f"label '{found.label.column}'" if found.label.column else 'clicks only'


def _check(text: str, found: Survey) -> None:
    """Raises UserError where the config is not one that a run takes, or its patterns take other files."""
    names: dict = {}
    exec(compile(text, 'config', 'exec'), names)
    config: ConfigDict = names['get_config']()
    check_config(config, 1)
    data = check_data(config.data)
    taken = {file.name for file in files.find_files(found.root, data['log'])} - set(found.log.bad)
    if taken != {file.name for file in found.log.files}:
        more = sorted(taken ^ {file.name for file in found.log.files})[0]
        raise UserError(f'{found.root.shown}: {" ".join(data["log"])} and {more} do not go together: name it in --log')


def _tuple(values: Sequence[str]) -> str:
    return '(' + ', '.join(map(repr, values)) + (',)' if len(values) == 1 else ')')


def _assigned(name: str, values: Sequence[str]) -> list[str]:
    """A tuple on one line, or one value a line."""
    line = f'{name} = {_tuple(values)}'
    return [line] if len(line) <= 110 else [f'{name} = (', *(f'    {value!r},' for value in values), ')']


def _files(found: Survey) -> list[str]:
    lines = [f'data.root = {absolute(found.root.shown)!r}']
    count = f'  # {len(found.log.files)} files' if len(found.log.files) > 1 else ''
    lines += [f'data.log = {_tuple(found.log.patterns)}{count}']
    form = found.log.format
    if form.kind == 'csv':
        if form.delimiter != ',':
            lines.append(f'data.csv.delimiter = {form.delimiter!r}')
        if form.encoding != 'utf8':
            lines.append(f'data.csv.encoding = {form.encoding!r}')
        if not form.header:
            lines.append('# ? There is no header: names by what the values look like.')
            lines += _assigned('data.csv.column_names', found.names)
    if found.rename:
        lines.append('# Names that no field can have.')
        lines.append(f'data.rename = {tuple(found.rename.items())!r}')
    if found.strings:
        lines.append('# 1 and 0 beside true and false and other words: taken as they are written.')
        lines += _assigned('data.csv.strings', found.strings)
    if words := found.missing():
        for word, names in words.items():
            lines += _comment(f'? {word!r} stands among the numbers of {", ".join(names)}: missing, in all text.')
        lines += _assigned('data.null_words', (*NULL_WORDS, *words))
    if found.shown:
        lines += _shown(found.shown)
    if found.first_value:
        lines.append('# ? Of several values the first; as whole: leave it out.')
        lines.append(f'data.first_value = ConfigDict({found.first_value!r})')
    return lines


def _shown(listed: shown.Shown) -> list[str]:
    mark = '' if listed.sure else '? '
    given = {
        key: value for key in ('items', 'clicked', 'separator', 'mark', 'parallel') if (value := listed._asdict()[key])
    }
    lines = _comment(f"{mark}Every item of '{listed.items}' is a row; position and list_length are made.")
    return [*lines, f'data.impressions = ConfigDict(dict({_keywords(given)}))']


def _time(found: Survey) -> list[str]:
    clock, cut = found.clock, found.blocks
    sure = '' if clock.sure else '  # ? by its name and size'
    lines = [f'data.time.column, data.time.unit = {clock.column!r}, {clock.unit!r}{sure}']
    if clock.formats:
        others = f'  # ? {" or ".join(map(repr, clock.formats[1:]))} would fit, too' if clock.formats[1:] else ''
        lines.append(f'data.time.format = {clock.formats[0]!r}{others}')
    lines.append(f'data.time.utc_offset_hours = {clock.offset}  # {" ".join(clock.why.split())}')
    if cut.by == 'rows':
        lines.append(f"data.block.by, data.block.rows = 'rows', {cut.rows}  # ? {cut.why}; about {cut.count} blocks")
    else:
        lines.append(
            f"data.block.by, data.block.hours = 'period', {cut.hours}  # ? {cut.why}; about {cut.count} blocks"
        )
    if cut.since:
        why = 'a few rows lie before' if found.label.column else 'rows before fill the first pools'
        lines.append(f'data.since = {cut.since!r}  # {why}')
    if cut.until:
        lines.append(f'data.until = {cut.until!r}  # only a few rows lie after; move it when new days come')
    return lines


def _label(found: Survey) -> list[str]:
    target, mark = found.label, '' if found.label.sure else '? '
    lines = [*_comment(mark + target.why), f'data.label.column = {target.column!r}']
    if target.threshold is not None:
        lines.append(f'data.label.threshold = {target.threshold}')
    if target.positive:
        lines += _assigned('data.label.positive', target.positive)
    if not target.column:
        lines.append(f'data.negatives.per_click, data.negatives.item = 1, {found.roles.item!r}  # docs/your-log.md')
        if found.item_columns:
            lines.append('# ? These have one value for an item.')
            lines += _assigned('data.negatives.item_columns', found.item_columns)
    return lines


def _fields(found: Survey) -> list[str]:
    lines = ['# Left out, and why:'] if any(_left_out(found)) else []
    for line in _left_out(found):
        lines += _comment(line)
    fields = found.fields('field')
    apart = {*found.first_value, *((shown.POSITION,) if found.shown else ())}
    doubted = [c.name for c, guess in found.columns if guess.seen and not guess.sure and c.name not in apart]
    if doubted:
        lines += _comment(f'? Categories or numbers, by their values: {", ".join(doubted)}.')
    if found.shown and shown.POSITION in fields:
        lines += _comment(f"? '{shown.POSITION}' is known when a list is shown, and not when one is made.")
    lines += _assigned('data.fields', fields)
    if numeric := found.fields('numeric'):
        lines += _numeric(numeric)
    lines += _assigned('data.time_fields', ('weekday',) if found.clock.of_days else ('hour', 'weekday'))
    if found.roles.user:
        lines.append(f'data.group = {found.roles.user!r}')
    return lines


def _left_out(found: Survey) -> Iterator[str]:
    for column, guess in found.columns:
        apart = column.name in (found.clock.column, found.label.column)
        if not guess.seen and not apart:
            where = f' of {column.table}' if column.table else ''
            yield f'{"" if guess.sure else "? "}{column.name!r}{where}: {guess.taken}; {guess.why}'


def _comment(text: str) -> list[str]:
    return textwrap.wrap(f'# {text}', 110, subsequent_indent='#   ', break_long_words=False, break_on_hyphens=False)


def _numeric(names: Sequence[str]) -> list[str]:
    line = f'data.numeric = ConfigDict({dict.fromkeys(names, BINS)!r})'
    if len(line) <= 110:
        return [line]
    return ['data.numeric = ConfigDict(', '    {', *(f'        {name!r}: {BINS},' for name in names), '    }', ')']


def _sides(found: Survey) -> list[str]:
    used = {column.table for column, guess in found.columns if guess.seen}
    sides = [side for side in found.sides if side.group.name in used]
    lines = ['data.side_tables = ('] if sides else []
    for side in sides:
        mark = '' if side.sure else '? '
        lines.append(f'    # {mark}{side.why}')
        entry = {'path': side.group.files[0].name, 'key': words.given(side.own_key) if side.on else side.key}
        entry |= {'on': side.key} if side.on else {}
        options = _options(side, found)
        lines += _call('dict', entry | ({'csv': options} if options else {}), 4)
    return [*lines, ')'] if sides else []


def _call(name: str, values: Mapping, indent: int) -> list[str]:
    """`name(key=value, ...),` on one line, or a value a line."""
    shown = {k: f'dict({_keywords(v)})' if isinstance(v, Mapping) else repr(v) for k, v in values.items()}
    line = f'{name}({", ".join(f"{k}={v}" for k, v in shown.items())}),'
    space = ' ' * indent
    if len(line) + indent <= 110:
        return [space + line]
    lines = [f'{space}{name}(']
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += _call(f'{key}=dict', value, indent + 4)
        elif isinstance(value, tuple):
            lines += [f'{space}    {key}=(', *(f'{space}        {one!r},' for one in value), f'{space}    ),']
        else:
            lines.append(f'{space}    {key}={value!r},')
    return [*lines, f'{space}),']


def _keywords(values: Mapping) -> str:
    return ', '.join(f'{key}={value!r}' for key, value in values.items())


def _options(side: Side, found: Survey) -> dict:
    """Keys of a side table's `csv` that are not those of the log's."""
    form, log = side.group.format, found.log.format
    usual = log if log.kind == 'csv' else form._replace(delimiter=',', encoding='utf8')
    if form.kind != 'csv':
        return {}
    options = {k: getattr(form, k) for k in ('delimiter', 'encoding') if getattr(form, k) != getattr(usual, k)}
    return options | ({} if form.header else {'column_names': tuple(side.names)})


def _roles(found: Survey) -> list[str]:
    given = dict(zip(('user', 'item', 'creator', 'context'), found.roles[:4], strict=True))
    named = ', '.join(f'{role}={name!r}' for role, name in given.items())
    mark = f'  # ? {", ".join(found.roles.unsure)}' if found.roles.unsure else ''
    line = f'config.roles = ConfigDict(dict({named})){mark}'
    if len(line) <= 112:
        return [line]
    return [f'# ? {", ".join(found.roles.unsure)}'] * bool(mark) + [line.removesuffix(mark)]
