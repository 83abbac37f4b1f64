"""Does the memory rank a pool of candidates as the full log does? The trend instrument.

    python scripts/trends.py --config=configs/trends/kuairand.py --workdir=runs/trends-kuairand
    diet-trends --config=configs/trends/kuairand.py --workdir=runs/trends-kuairand

--memory=runs/a/history/00012,runs/b/history/00012 takes these memories, each a distillation with its own seed; without
it they are distilled in the workdir. --from_json=runs/trends-kuairand/trends.json computes summary and report again
from the raw scores. Run it again to go on: finished candidates are kept.
"""

from diet_jax.commands.entry import trends

if __name__ == '__main__':
    trends()
