"""Which constants of `diet_jax.correction` make the errors of whole pools likeliest? Prints them, study by study.

    python scripts/fit_correction.py runs/dev-kuairand/trends.json runs/dev-movielens/trends.json

Studies of development blocks only (docs/results/fidelity.md): what is chosen here must not be judged on the same block.
"""

import itertools
from pathlib import Path

import numpy as np
from absl import app

WIDTHS, SCALES, OWN = (0.05, 0.1, 0.2, 0.4, 0.8), (0.002, 0.004, 0.008, 0.016, 0.032), (0.001, 0.002, 0.004, 0.008)


def main(argv):
    from diet_jax import correction, predictions, trends

    total = {}
    for path in argv[1:]:
        result, found = trends.read(path), {}
        logits = predictions.mean_logits(result, Path(path).parent)['memory']
        full = [c['full']['auc'] for c in result['candidates']]
        raw = np.array([c['memory']['auc'] for c in result['candidates']])  # [C, R, S]
        for constants in itertools.product(WIDTHS, SCALES, OWN):
            found[constants] = sum(
                correction.log_likelihood(raw[:, r], logits[:, r], full, *constants) for r in range(raw.shape[1])
            )
            total[constants] = total.get(constants, 0.0) + found[constants]
        _show(path, found)
    _show('together', total)


def _show(name, found):
    best = max(found.values())
    print(f'{name}: width, scale, own error, log likelihood below the best')
    for (width, scale, own), value in sorted(found.items(), key=lambda item: -item[1])[:6]:
        print(f'  {width:<5g} {scale:<6g} {own:<6g} {value - best:7.2f}')


if __name__ == '__main__':
    app.run(main)
