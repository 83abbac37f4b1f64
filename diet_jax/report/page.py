"""One self-contained HTML page: pieces of text in, escaped markup out. No link, no other file, and no script but a few
lines that sort and filter a table.

Text arguments are plain text and are escaped here; arguments called `html` are markup made by this module.
The first functions write numbers as text, here and on the terminal alike.
"""

import base64
import html as _html
import math
import textwrap
from collections.abc import Sequence

_CSS = """
:root { color-scheme:light dark; --page:#fff; --ink:#1f2328; --muted:#59636e; --line:#dfe3e8; --soft:#f6f8fa;
  --blue:#1f6fb4; --warn:#fff8ec }
@media (prefers-color-scheme:dark) { :root { --page:#16191d; --ink:#e3e7ec; --muted:#9aa4af; --line:#363c44;
  --soft:#21262c; --blue:#6fb1ea; --warn:#332815 } img { background:#fff; border-radius:6px } }
* { box-sizing:border-box }
body { margin:0; background:var(--page); color:var(--ink); font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
  "Helvetica Neue","DejaVu Sans",Arial,sans-serif; }
main { max-width:1120px; margin:0 auto; padding:40px 28px 72px }
h1 { font-size:26px; line-height:1.25; font-weight:650; margin:0 0 4px; letter-spacing:-.01em }
h2 { font-size:18px; font-weight:650; margin:44px 0 8px; padding-top:16px; border-top:1px solid var(--line) }
p { max-width:78ch; margin:8px 0 12px; text-wrap:pretty; overflow-wrap:anywhere }
.sub, .note, figcaption { color:var(--muted) }
.note, figcaption { font-size:13px; line-height:1.5 }
.tiles { display:grid; gap:12px; margin:22px 0 18px;
  grid-template-columns:repeat(auto-fit,minmax(130px,1fr)) }
.tile { border:1px solid var(--line); border-radius:8px; padding:12px 14px }
.tile b { display:block; font-size:22px; line-height:1.3; font-weight:650; font-variant-numeric:tabular-nums }
.tile span { display:block; font-size:12.5px; color:var(--muted); line-height:1.4 }
.tile .k { color:var(--ink); font-weight:550 }
.pair { display:grid; grid-template-columns:repeat(2,minmax(0,1fr)); gap:28px }
@media (max-width:820px) { .pair { grid-template-columns:minmax(0,1fr) } }
figure { margin:14px 0 18px }
img { display:block; width:100%; height:auto }
.scroll { overflow-x:auto; margin:12px 0 18px }
table { border-collapse:collapse; font-size:13px; font-variant-numeric:tabular-nums; white-space:nowrap }
th, td { padding:5px 11px; text-align:right; border-bottom:1px solid var(--line) }
th { white-space:pre; color:var(--muted); font-weight:550; vertical-align:bottom; line-height:1.35 }
thead tr.group th { text-align:center; border-bottom:1px solid var(--line); color:var(--ink) }
th:first-child, td:first-child { text-align:left; padding-left:2px }
.scroll tr:not(.group) > :first-child { position:sticky; left:0; background:var(--page) }
tbody tr:hover, .scroll tbody tr:hover > :first-child { background:var(--soft) }
td.words { white-space:normal; min-width:34ch; color:var(--muted) } .words { text-align:left }
th button { all:unset; cursor:pointer; white-space:pre } th button:focus-visible { outline:2px solid var(--blue) }
th[aria-sort=descending] button::after { content:" \\2193" } th[aria-sort=ascending] button::after { content:" \\2191" }
.filter { font:inherit; font-size:13px; padding:4px 8px; border:1px solid var(--line); border-radius:6px;
  background:var(--page); color:var(--ink); min-width:22ch }
svg { display:block; width:100%; height:auto; min-width:640px; font-size:13px } svg text { fill:var(--ink) }
svg .tick { fill:var(--muted); font-size:12px } svg .grid { stroke:var(--line) } svg .row { fill:transparent }
svg .point:hover .row, svg .point:focus .row { fill:var(--soft) } svg .point:focus { outline:none }
figure { overflow-x:auto }
@media (max-width:600px) { main { padding:24px 16px 48px } svg { min-width:900px }
  main > figure img { min-width:640px } }
.missing { background:var(--warn); border-left:3px solid #d9730d; padding:10px 14px; margin:12px 0;
  border-radius:0 6px 6px 0 }
pre { background:var(--soft); border:1px solid var(--line); border-radius:6px; padding:11px 14px;
  font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace; margin:10px 0;
  white-space:pre-wrap; overflow-wrap:anywhere }
code { font:.9em ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace; background:var(--soft);
  padding:1px 4px; border-radius:4px }
details { margin:10px 0 } summary { cursor:pointer; color:var(--blue); font-size:14px }
@media print { .filter { display:none }
  main { padding:0 } h2 { break-after:avoid } figure, .tile { break-inside:avoid } }
"""


DASH = '–'  # a number that is not there


def number(value: float | None, form: str = '.4f') -> str:
    """A number in a format; a dash where there is none."""
    return DASH if value is None or not math.isfinite(value) else format(value, form)


def share(value: float | None) -> str:
    """A share as per cent, three digits."""
    return DASH if value is None or not math.isfinite(value) else f'{100 * value:.3g} %'


def spread(mean: float, sd: float) -> str:
    """A mean and its standard deviation, where there is one."""
    return f'{number(mean)} ± {sd:.4f}' if math.isfinite(sd) else number(mean)


def size(count: float | None) -> str:
    """A number of bytes."""
    if count is None:
        return DASH
    power = min(int(math.log2(max(count, 1)) // 10), 3)
    return f'{count / 1024**power:.{1 if power else 0}f} {("B", "KiB", "MiB", "GiB")[power]}'


def span(values: Sequence[float]) -> str:
    """Sorted ratios as one number, or as the least and the greatest."""
    ends = [format(value, '.0f' if value >= 9.95 else '.1f') for value in (*values[:1], *values[-1:])]
    return DASH.join(dict.fromkeys(ends)) or DASH


def escape(text: object) -> str:
    return _html.escape(str(text))


_SORT = """
for (const table of document.querySelectorAll('table[data-sort]')) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells], body = table.tBodies[0];
  const value = (row, i) => row.cells[i].textContent.trim();
  heads.forEach((head, i) => head.firstChild.addEventListener('click', () => {
    const up = head.getAttribute('aria-sort') === 'descending' ? 1 : -1, rows = [...body.rows];
    const number = rows.some(row => !isNaN(parseFloat(value(row, i))));
    rows.sort((a, b) => {
      const [x, y] = [value(a, i), value(b, i)], [m, n] = [parseFloat(x), parseFloat(y)];
      if (!number) return -up * x.localeCompare(y);
      return isNaN(m) - isNaN(n) || up * (m - n) || 0;
    });
    heads.forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up < 0 ? 'descending' : 'ascending');
    body.append(...rows);
  }));
  const filter = table.parentNode.previousElementSibling.querySelector('input');
  filter.addEventListener('input', () => {
    const words = filter.value.toLowerCase().split(/\\s+/);
    for (const row of body.rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
  });
}
"""


def document(title: str, html: Sequence[str]) -> str:
    """The whole page from the markup of its parts."""
    script = f'<script>{_SORT}</script>\n' if any('data-sort' in part for part in html) else ''
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>{_CSS}</style></head>\n'
        '<body><main>\n' + '\n'.join(html) + f'\n</main>{script}</body></html>\n'
    )


def title(text: str, sub: str) -> str:
    return f'<h1>{escape(text)}</h1>\n<p class="sub">{escape(sub)}</p>'


def heading(text: str) -> str:
    return f'<h2>{escape(text)}</h2>'


def paragraph(text: str) -> str:
    return f'<p>{escape(text)}</p>'


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def missing(file: str, what: str, command: str) -> str:
    """A notice for a file that is not there.

    Args:
        file: its name in the workdir.
        what: what cannot be shown without it.
        command: any of the project's commands on this workdir; the one named is the same with its own script.
    """
    script = 'scripts/evaluate.py' if file == 'evaluate.json' else 'scripts/distill.py'
    for other in ('scripts/distill.py', 'scripts/evaluate.py'):
        command = command.replace(other, script)
    writes = command if script in command else f'python {script}'
    text = f'{file} is not in this workdir, so {what} cannot be shown. This command writes it:'
    return f'<div class="missing">{escape(text)} <code>{escape(writes)}</code></div>'


def tiles(items: Sequence[tuple[str, str, str]]) -> str:
    """Headline numbers: (name, value, what it is measured against)."""
    cells = (
        f'<div class="tile"><span class="k">{escape(name)}</span><b>{escape(value)}</b>'
        f'<span>{escape(against)}</span></div>'
        for name, value, against in items
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def picture(png: bytes, alt: str, caption: str = '') -> str:
    """A PNG inside the page."""
    data = base64.b64encode(png).decode('ascii')
    below = f'<figcaption>{escape(caption)}</figcaption>' if caption else ''
    return f'<figure><img src="data:image/png;base64,{data}" alt="{escape(alt)}">{below}</figure>'


def pair(html: Sequence[str]) -> str:
    """Two pieces side by side, one above the other on a narrow screen."""
    return '<div class="pair">' + ''.join(f'<div>{piece}</div>' for piece in html) + '</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], groups: Sequence[tuple[str, int]] = ()) -> str:
    """A table; the first column is set left, the others right.

    Args:
        header: one text per column.
        rows: texts, one per column.
        groups: (text, columns spanned) of a line above the header, or nothing.
    """
    top = ''
    if groups:
        top = '<tr class="group">' + ''.join(f'<th colspan="{n}">{escape(text)}</th>' for text, n in groups) + '</tr>'
    head = '<tr>' + ''.join(f'<th>{escape(text)}</th>' for text in header) + '</tr>'
    body = '\n'.join('<tr>' + ''.join(f'<td>{escape(cell)}</td>' for cell in row) + '</tr>' for row in rows)
    return f'<div class="scroll"><table><thead>{top}{head}</thead>\n<tbody>{body}</tbody></table></div>'


def narrow(name: str, width: int = 11) -> str:
    """The name of a column in lines that are no wider than they must be.

    >>> narrow('AUC on the memory'), narrow('90 % interval'), narrow('deepfm-no-creator')
    ('AUC on the\\nmemory', '90 %\\ninterval', 'deepfm-no-\\ncreator')
    """
    return '\n'.join(textwrap.wrap(name, width, break_long_words=False))


def sortable(header: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = ()) -> str:
    """A table that is sorted by a click, or Enter, on a column's name, and filtered by words in any of its cells.

    Args: header, rows: as of `table`; words: columns of text, set left.
    """
    kind = lambda i: ' class="words"' * (i in words)  # noqa: E731
    name = lambda i, text: f'<th scope="col"{kind(i)}><button type="button">{escape(text)}</button></th>'  # noqa: E731
    cell = lambda i, text: f'<td{kind(i)}>{escape(text)}</td>'  # noqa: E731
    head = ''.join(name(*each) for each in enumerate(header))
    body = '\n'.join('<tr>' + ''.join(cell(*each) for each in enumerate(row)) + '</tr>' for row in rows)
    return (
        '<p><label class="note">Show rows with <input class="filter" type="search" placeholder="words"></label></p>'
        f'<div class="scroll"><table data-sort><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


def pre(text: str) -> str:
    return f'<pre>{escape(text)}</pre>'


def details(summary: str, html: str) -> str:
    """Something long, folded away until it is asked for."""
    return f'<details><summary>{escape(summary)}</summary>{html}</details>'
