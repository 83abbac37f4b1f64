"""Under which constants of `diet_jax.stats.correction` are whole pools' scores on the log likeliest, given the twins'?

    python scripts/fit_correction.py runs/dev-kuairand/trends.json runs/dev-movielens/trends.json

Studies of development blocks only (docs/results/choices.md): what is chosen here must not be judged on the same block.
"""

import itertools
from pathlib import Path

from absl import app

SHIFTS, SCALES, WIDTHS = (0.003, 0.01, 0.03), (0.002, 0.003, 0.004, 0.006, 0.009, 0.013), (0.05, 0.1, 0.2, 0.4)
NEAR, OWN = (0.0005, 0.001, 0.002, 0.005, 0.01, 1.0), (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)  # 1: scores do not matter


def main(argv):
    from diet_jax.stats import correction, ranking
    from diet_jax.study import predictions, trends

    total = {}
    for path in argv[1:]:
        result, found = trends.read_trends(path), {}
        logits = predictions.mean_logits(result, Path(path).parent)['memory']
        names = [c['name'] for c in result['candidates']]
        full = [c['full']['auc'] for c in result['candidates']]
        raw = ranking.orderings([c['memory'] for c in result['candidates']])  # [C, R, S]
        for values in itertools.product(SHIFTS, SCALES, WIDTHS, NEAR, OWN):
            constants, found[values] = correction.Constants(*values), 0.0
            for r in range(raw.shape[1]):
                known = {names.index(n): twin['auc'][r] for n, twin in result['twins'].items() if n in names}
                found[values] += correction.log_likelihood(raw[:, r], logits[:, r], known, full, constants)
            total[values] = total.get(values, 0.0) + found[values]
        _show(path, found)
    _show('together', total)


def _show(name, found):
    best = max(found.values())
    print(f'{name}: shift, scale, width, near, own error, log likelihood below the best')
    for constants, value in sorted(found.items(), key=lambda item: -item[1])[:6]:
        print('  ' + ''.join(f'{x:<8g}' for x in constants) + f'{value - best:7.2f}')


if __name__ == '__main__':
    app.run(main)
