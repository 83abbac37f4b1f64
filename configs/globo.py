"""Globo.com: clicks on news, blocks of six hours, one negative drawn a click, label `click`.

    python scripts/distill.py --config=configs/globo.py --workdir=runs/globo
    python scripts/evaluate.py --config=configs/globo.py --workdir=runs/globo

Reads the published clicks (https://www.kaggle.com/datasets/gspmoreira/news-portal-user-interactions-by-globocom) as one
Parquet file a UTC day, clicks_2017-10-01.parquet .. clicks_2017-10-16.parquet, in one folder, by default
../shared/data/globo; --config.data.root= points elsewhere.

The log holds clicks only. A negative is its click with another article, drawn uniformly from those clicked in the 24
hours before, less those of the same user (docs/clicks.md). AUC depends on this choice: say it with every figure.
While it trains, the reference model is nearly perfect, for popularity says most; one that stands still, as in the
protocol of stage t, has to know more: DeepFM has an AUC of 0.94 in the next six hours and of 0.72 in the six after
them, LR of 0.89 and 0.68. With blocks of a day a quarter of the clicks are on articles never met, and LR is worse than
chance (0.46).

`:N` takes N days from 2017-10-02 on (6 by default, 14 at most); the same workdir goes on when N grows. `:smoke` runs
the night hours of the first day as five blocks, with two candidates.
"""

from ml_collections import ConfigDict

from diet_jax.config import default_config

LAST = 15  # of October. 10-16 ends, in local time, in the file of 10-17, which is a fragment


def get_config(arg: str = '') -> ConfigDict:
    config = default_config()
    data = config.data
    data.root = '../shared/data/globo'
    data.log = ('clicks_2017-10-0?.parquet', 'clicks_2017-10-1[0-6].parquet')
    # Brasilia, where the log begins at midnight. Blocks are local too: a UTC day would cut the evening in two.
    data.time.column, data.time.utc_offset_hours = 'click_timestamp', -3.0
    data.block.by, data.block.hours = 'period', 6.0
    # Sessions (session_size is known only when one ends) are no features.
    data.fields = (
        'user_id',
        'click_article_id',
        'click_environment',
        'click_deviceGroup',
        'click_os',
        'click_country',
        'click_region',
        'click_referrer_type',
    )
    data.time_fields = ('hour', 'weekday')
    data.group = 'user_id'
    roles = dict(user='user_id', item='click_article_id', creator='click_region', context='click_referrer_type')
    config.roles = ConfigDict(roles)
    data.negatives.per_click, data.negatives.item = 1, 'click_article_id'
    config.twins.other_rates = (4.0,)  # FM's usual rate is too low here (docs/results/globo.md)
    data.since = '2017-10-02'  # 10-01 only fills the first pools
    if arg == 'smoke':
        data.log = ('clicks_2017-10-0[12].parquet',)
        data.block.hours = 1.0
        data.since, data.until = '2017-10-02T01', '2017-10-02T05'
        config.evaluate.candidates, config.evaluate.seeds = ('lr', 'deepfm'), 2
        config.twins.other_rates = ()
        return config
    days = int(arg or 6) if arg.isdigit() or not arg else 0
    if not 1 <= days <= LAST - 1:
        raise ValueError(f"configs/globo.py takes no argument '{arg}': a number of days, 1 to {LAST - 1}, or ':smoke'")
    data.until = f'2017-10-{days + 1:02d}T18'
    return config
