"""Which of these ideas would win on the full log, and how sure is that? Answered from a memory.

    python scripts/compare.py --memory=runs/kuairand/memory --candidates=configs/candidates/example.py
    diet-compare --memory=runs/kuairand/memory --candidates=configs/candidates/example.py

Several distillations, --memory=runs/a/memory,runs/b/memory, are averaged, which orders better (docs/answer.md).
--anchors=past.jsonl adds scores of past full runs, a line each: {"name": "deepfm-wide", "auc": 0.7351}. Run it again to
go on, or after adding a candidate: finished ones are kept.
"""

from diet_jax.commands.entry import compare

if __name__ == '__main__':
    compare()
