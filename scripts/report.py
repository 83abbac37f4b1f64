"""Several comparisons side by side: an idea's odds over a week, or over several logs.

    python scripts/report.py runs/*/compare/ideas --out=week.html
    diet-report runs/kuairand/compare/* --out=week.html --baseline=production

Each is a folder that scripts/compare.py wrote. The page is one file, with no server and no network.
"""

from diet_jax.commands.entry import report

if __name__ == '__main__':
    report()
