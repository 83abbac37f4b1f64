"""Did an answer hold? What a comparison foretold, beside full runs that were made since.

    python scripts/judge.py runs/kuairand/compare/example --full=exports/kuairand/anchors.jsonl
    diet-judge runs/kuairand/compare/* --full=past.jsonl

--full has a line a run, {"name": "deepfm-wide", "auc": 0.7351}, as --anchors of compare has. Candidates whose score the
comparison knew are left out. What is printed is kept as judged.json beside compare.json.
"""

from diet_jax.commands.entry import judge

if __name__ == '__main__':
    judge()
