"""Students on the memory beside full training, by the protocol of stage t, for every stage from the third on.

    python scripts/evaluate.py --config=configs/kuairand.py --workdir=runs/kuairand
    diet-evaluate --config=configs/kuairand.py --workdir=runs/kuairand

--replicates=runs/a,runs/b adds memories of the same log that were distilled with other seeds (--config.seed=).
"""

from diet_jax.commands.entry import evaluate

if __name__ == '__main__':
    evaluate()
