"""How fast the parts are: against each other, against the vocabulary's size, against PyTorch where it is installed.

    python -m benchmarks --workdir=runs/bench [--only=influence,unroll,torch]

Run it from a checkout. Writes bench.json and prints a table with ratios and targets. Under 8 minutes on 2 idle cores.
--gpu measures rows/s, bandwidth and the parts of a stage on a GPU instead. Run only where they are named: `devices`,
`long` (100 million rows, half an hour), `profile` (a picture of a stage's time by part, stage.png) and `reading` (logs
of 5 and 20 million rows).
"""

from __future__ import annotations

from absl import flags

from diet_jax.commands import launch


def define() -> None:
    flags.DEFINE_string('workdir', None, 'Where to write bench.json; made if absent.')
    flags.DEFINE_list(
        'only',
        [],
        'influence, vocabulary, recipes, unroll, bf16, start, torch; devices, long, profile, reading; empty: not '
        'these four.',
    )
    flags.DEFINE_enum('sizes', 'full', ['full', 'smoke'], 'smoke: tiny shapes, to see that it runs.')
    flags.DEFINE_bool('gpu', False, 'Measure against the memory bandwidth of a GPU; refuses where there is none.')
    flags.mark_flags_as_required(['workdir'])


def main(_) -> None:
    from benchmarks import runner  # starts JAX: not for --help
    from diet_jax.device.programs import keep_compiled

    keep_compiled()
    args = flags.FLAGS
    result = runner.bench(args.workdir, args.only, args.sizes, args.gpu)
    print(runner.table(result))


if __name__ == '__main__':
    launch.start(main, define, __doc__)
