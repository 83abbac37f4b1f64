"""KuaiRand-Pure: impressions of short videos, one block a day, label `is_click`.

    python scripts/distill.py --config=configs/kuairand.py --workdir=runs/kuairand
    python scripts/evaluate.py --config=configs/kuairand.py --workdir=runs/kuairand

Reads the published files (https://kuairand.com): log_standard_*_pure.csv or .parquet, user_features_pure.csv and
video_features_basic_pure.csv in one folder, by default ../shared/data/kuairand; --config.data.root= points elsewhere.

`:smoke` runs the first five days with two candidates; `:stages` evaluates ten of configs/pools/ctr.py, enough
for tau_sig at every stage; `:histories` adds what the user clicked and what it passed over, `:outcomes` likes and long
views beside clicks. Several are joined by a comma: `:smoke,histories`.
"""

from ml_collections import ConfigDict

from diet_jax.config import default_config


def get_config(arg: str = '') -> ConfigDict:
    config = default_config()
    data = config.data
    data.root = '../shared/data/kuairand'
    data.log = ('log_standard_*_pure.parquet', 'log_standard_*_pure.csv')
    data.time.column, data.time.utc_offset_hours = 'time_ms', 8.0
    # Two clocks disagree for 1 % of the rows: the log's own `date` cuts the days.
    data.block.by, data.block.column = 'column', 'date'
    data.label.column = 'is_click'
    # Outcomes (long_view, play_time_ms, ...) are no features. Numbers of follows, fans and friends come as ranges.
    data.fields = (
        'user_id',
        'video_id',
        'tab',
        'author_id',
        'video_type',
        'upload_type',
        'music_id',
        'music_type',
        'tag',
        'user_active_degree',
        'is_lowactive_period',
        'is_live_streamer',
        'is_video_author',
        'follow_user_num_range',
        'fans_user_num_range',
        'friend_user_num_range',
        'register_days_range',
        *(f'onehot_feat{i}' for i in range(10)),
    )
    data.numeric = ConfigDict({'video_duration': 16})
    data.time_fields = ('hour', 'weekday')
    data.side_tables = (
        dict(path='user_features_pure.csv', key='user_id'),
        dict(path='video_features_basic_pure.csv', key='video_id'),
    )
    data.group = 'user_id'
    config.roles = ConfigDict(dict(user='user_id', item='video_id', creator='author_id', context='tab'))
    for word in filter(None, arg.split(',')):
        _take(config, word)
    return config


def _take(config: ConfigDict, word: str) -> None:
    data = config.data
    if word == 'smoke':
        data.until = '20220429'
        config.evaluate.candidates, config.evaluate.seeds = ('lr', 'deepfm'), 2
    elif word == 'stages':
        variants = (
            dict(name='deepfm-dim2', model='deepfm', dim=2),
            dict(name='deepfm-no-user', model='deepfm', drop=('user_id',)),
            dict(name='mlp-no-context', model='mlp', drop=('tab',)),
        )
        config.evaluate.candidates = ('lr', 'fm', 'fwfm', 'mlp', 'deepfm', 'dcnv2', 'dlrm', *variants)
    elif word == 'histories':
        clicked = dict(of=('video_id', 'author_id'), max_len=50)
        skipped = dict(of='video_id', where='not label', max_len=50)
        data.histories = ConfigDict(dict(clicked=clicked, skipped=skipped))
    elif word == 'outcomes':
        data.label.name, data.label.others = 'click', ConfigDict(dict(like='is_like', long_view='long_view'))
    else:
        words = "':smoke', ':stages', ':histories' or ':outcomes'"
        raise ValueError(f"configs/kuairand.py takes no argument '{word}': {words}")
