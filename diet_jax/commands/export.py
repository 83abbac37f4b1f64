"""A memory for models that live elsewhere: PyTorch, FuxiCTR, Keras, Hugging Face datasets (docs/elsewhere.md).

    python scripts/export.py --memory=runs/kuairand/memory --to=exports/kuairand
    diet-export --memory=runs/kuairand/memory --to=exports/kuairand

What a candidate trains on, and the two blocks it is tuned and scored on, which the memory has not seen. --with_log adds
the encoded log, for full runs in that framework. Then `compare --predictions=` answers.
"""

from __future__ import annotations

from absl import flags

from diet_jax.commands import launch


def define() -> None:
    flags.DEFINE_string('memory', None, 'Folder of a memory in its run, runs/<run>/memory.')
    flags.DEFINE_string('to', None, 'Folder to write; there must be none yet.')
    flags.DEFINE_string('label', '', 'The outcome that is predicted, of data.label.name and data.label.others.')
    flags.DEFINE_bool('with_log', False, "The encoded log up to the memory's last block too.")
    flags.mark_flags_as_required(['memory', 'to'])


def main(_) -> int:
    from diet_jax.commands import doors  # starts JAX: not for --help

    args = flags.FLAGS
    command = launch.command()
    print(doors.export(args.memory, args.to, label=args.label, with_log=args.with_log, command=command))
    return 0


def start() -> None:
    """The command, in a process of its own."""
    launch.start(main, define, __doc__)


if __name__ == '__main__':
    start()
