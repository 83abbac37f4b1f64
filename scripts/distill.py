"""Brings the memory of a workdir up to the last block of a log.

    python scripts/distill.py --config=configs/kuairand.py --workdir=runs/kuairand
    diet-distill --config=configs/kuairand.py --workdir=runs/kuairand

Run it again when the log has grown: only the new blocks are processed.

On several hosts the same command runs on each, with `--distributed` where a cluster says who is who, or with
`--coordinator=host:port --processes=N --process=0` .. N - 1 (docs/scaling.md).
"""

from diet_jax.commands.entry import distill

if __name__ == '__main__':
    distill()
