"""Taobao UserBehavior: page views, one block a day, label: what became a cart, a favourite or a purchase.

    python scripts/distill.py --config=configs/taobao.py --workdir=runs/taobao
    python scripts/evaluate.py --config=configs/taobao.py --workdir=runs/taobao

Reads the published log (https://tianchi.aliyun.com/dataset/649) with its columns named: user_behavior*.parquet or
.csv in one folder, by default ../shared/data/taobao; --config.data.root= points elsewhere.

`:smoke` runs the first five days with two candidates; `:histories` adds the items that the user clicked before;
`:smoke,histories` does both.
"""

from ml_collections import ConfigDict

from diet_jax.config import default_config


def get_config(arg: str = '') -> ConfigDict:
    config = default_config()
    data = config.data
    data.root = '../shared/data/taobao'
    data.log = ('user_behavior*.parquet', 'user_behavior*.csv')
    data.time.column, data.time.unit, data.time.utc_offset_hours = 'timestamp', 's', 8.0
    data.block.by, data.block.hours = 'period', 24.0
    data.label.column, data.label.positive = 'behavior', ('cart', 'fav', 'buy')
    data.fields = ('user_id', 'item_id', 'category_id')
    data.time_fields = ('hour', 'weekday')
    data.group = 'user_id'
    config.roles = ConfigDict(dict(user='user_id', item='item_id', creator='category_id', context='hour'))
    config.reference.rate = 4.0  # a pass is 140 steps
    data.since = '2017-11-25'  # a few rows lie up to ten weeks before
    for word in filter(None, arg.split(',')):
        if word == 'smoke':
            data.until = '2017-11-29'
            config.evaluate.candidates, config.evaluate.seeds = ('lr', 'deepfm'), 2
        elif word == 'histories':
            clicked = dict(of=('item_id', 'category_id'), where='', max_len=50)  # every row is a click on an item
            skipped = dict(of='item_id', where='not label', max_len=50)  # looked at, and left there
            data.histories = ConfigDict(dict(clicked=clicked, skipped=skipped))
        else:
            raise ValueError(f"configs/taobao.py takes no argument '{word}': ':smoke' or ':histories'")
    return config
