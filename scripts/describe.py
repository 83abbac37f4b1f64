"""From a folder of log files to a config that runs: what the columns are, and what they may be.

    python scripts/describe.py --root=FOLDER --out=configs/mine.py
    diet-describe --root=FOLDER --out=configs/mine.py

Prints what it found, with a question mark at every guess; without --out it prints the config, too, and writes nothing.

    --log='ratings*.csv'    which files are the log, where there are several
    --hours=1               length of a block, where a day is too long
"""

from diet_jax.commands.entry import describe

if __name__ == '__main__':
    describe()
