"""MovieLens 1M: ratings, blocks of 30,000 rows in order of time, label `rating >= 4`.

    python scripts/distill.py --config=configs/movielens.py --workdir=runs/movielens
    python scripts/evaluate.py --config=configs/movielens.py --workdir=runs/movielens

Reads the published files (https://grouplens.org/datasets/movielens/1m): ratings.dat.gz or ratings.dat, users.dat and
movies.dat in one folder, by default ../shared/data/movielens-1m-half; --config.data.root= points elsewhere.

`:smoke` runs blocks of 5,000 rows up to 2000-10-25 (five in the half that begins in 2000-10), with two candidates.
`:histories` adds the movies that the user rated 4 and more, and those rated less. `:smoke,histories` does both.
"""

from ml_collections import ConfigDict

from diet_jax.config import default_config


def get_config(arg: str = '') -> ConfigDict:
    config = default_config()
    data = config.data
    data.root = '../shared/data/movielens-1m-half'
    data.log = ('ratings.dat.gz', 'ratings.dat')
    data.csv.delimiter, data.csv.encoding = '::', 'latin1'
    data.csv.column_names = ('user', 'movie', 'rating', 'timestamp')
    data.csv.strings = ('zip',)
    data.time.column, data.time.unit = 'timestamp', 's'
    # Four fifths of the rows lie in two months: days would be 63,000 rows, or none. A second is never split.
    data.block.by, data.block.rows = 'rows', 30_000
    data.label.column, data.label.threshold = 'rating', 4.0
    data.fields = ('user', 'movie', 'gender', 'age', 'occupation', 'zip', 'genres')  # genres as one value: 'Comedy|War'
    data.time_fields = ('hour', 'weekday')  # UTC: where a user lives is not known
    data.side_tables = (
        dict(path='users.dat', key='user', csv=dict(column_names=('user', 'gender', 'age', 'occupation', 'zip'))),
        dict(path='movies.dat', key='movie', csv=dict(column_names=('movie', 'title', 'genres'))),
    )
    data.group = 'user'
    config.roles = ConfigDict(dict(user='user', item='movie', creator='genres', context='occupation'))
    for word in filter(None, arg.split(',')):
        if word == 'smoke':
            data.block.rows, data.until = 5_000, '2000-10-26'
            config.evaluate.candidates, config.evaluate.seeds = ('lr', 'deepfm'), 2
        elif word == 'histories':
            clicked = dict(of=('movie', 'genres'), max_len=50)
            skipped = dict(of='movie', where='not label', max_len=50)
            data.histories = ConfigDict(dict(clicked=clicked, skipped=skipped))
        else:
            raise ValueError(f"configs/movielens.py takes no argument '{word}': ':smoke' or ':histories'")
    return config
