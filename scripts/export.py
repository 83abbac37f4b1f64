"""A memory for models that live elsewhere: PyTorch, FuxiCTR, Keras, Hugging Face datasets (docs/elsewhere.md).

python scripts/export.py --memory=runs/kuairand/memory --to=exports/kuairand
diet-export --memory=runs/kuairand/memory --to=exports/kuairand
"""

from diet_jax.commands.entry import export

if __name__ == '__main__':
    export()
