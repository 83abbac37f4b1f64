"""Pictures of reports, as a browser shows them: `<name>-desktop.png`, `<name>-dark.png` and `<name>-phone.png` of each.

    python scripts/screenshots.py runs/demo/compare/example/report.html --to=docs/pictures

The first 1,100 pixels of a page, 1,280 wide and as a phone has it, 390 wide. It takes Chromium, of any name below.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
SHOTS = {'desktop': (1280, False), 'dark': (1280, True), 'phone': (390, False)}  # width, whether in a dark room


def shoot(browser: str, page: Path, to: Path, width: int, height: int, dark: bool) -> None:
    """Writes a picture of a page with 128 colours. A wider frame holds it: a window is 500 wide at least.

    Raises: subprocess.CalledProcessError, TimeoutExpired: the browser does not start, or hangs.
    """
    with tempfile.TemporaryDirectory() as folder:
        frame, made = Path(folder) / 'frame.html', Path(folder) / 'made.png'
        style, shown = f'border:0;width:{width}px;height:{height}px', page.resolve().as_uri()
        frame.write_text(
            '<meta name="color-scheme" content="light dark"><body style="margin:0">'
            f'<iframe src="{shown}" style="{style}"></iframe>'
        )
        options = [
            f'--screenshot={made}',
            f'--window-size={max(width, 500)},{height}',
            f'--user-data-dir={folder}/user',
        ]
        options += ['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--virtual-time-budget=3000']
        options += ['--blink-settings=preferredColorScheme=0'] if dark else []
        subprocess.run([browser, *options, frame.as_uri()], check=True, capture_output=True, timeout=120)
        picture = Image.open(made).convert('RGB').crop((0, 0, width, height))
        # by coverage: the few pixels of an orange cross keep their colour
        picture.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(to, optimize=True)


def main(args: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('report', nargs='+', type=Path, help='a page, report.html')
    parser.add_argument('--to', type=Path, default=Path('docs/pictures'), help='the folder of the pictures')
    parser.add_argument('--height', type=int, default=1100, help='pixels from the top')
    asked = parser.parse_args(args)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        print(f'no browser: none of {", ".join(BROWSERS)} is installed; apt install chromium', file=sys.stderr)
        return 1
    for page in asked.report:
        if not page.is_file():
            print(f'{page} is no file: scripts/compare.py writes report.html', file=sys.stderr)
            return 1
    asked.to.mkdir(parents=True, exist_ok=True)
    for page in asked.report:
        for kind, (width, dark) in SHOTS.items():
            to = asked.to / f'{page.resolve().parent.name if page.stem == "report" else page.stem}-{kind}.png'
            try:
                shoot(browser, page, to, width, asked.height, dark)
            except (subprocess.SubprocessError, OSError) as error:
                print(f'{browser} made no picture of {page} ({type(error).__name__})', file=sys.stderr)
                return 1
            print(f'{to}: {to.stat().st_size / 1000:.0f} kB')
    return 0


if __name__ == '__main__':
    sys.exit(main())
