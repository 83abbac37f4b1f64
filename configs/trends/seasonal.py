"""Does the memory outlast a season? The simulated stream, four weeks whose weekends differ, scored on a Sunday.

    python scripts/trends.py --config=configs/trends/seasonal.py --workdir=runs/trends-seasonal

Recent rows have not seen a weekend; a memory that forgets neither. Rivals: recent and random rows with our labels and
codebook, a memory of the first day, one distilled in one shot from all days, a warm start, successive halving.
"""

from ml_collections import ConfigDict

from diet_jax.config import default_config, simulated_data


def get_config() -> ConfigDict:
    config = default_config()
    config.data = simulated_data(blocks=28, rows_per_block=6000)
    config.roles = ConfigDict(dict(user='user', item='item', creator='author', context='tab'))
    config.twins.other_rates = (4.0,)  # chosen on stage 25: a Sunday in four weeks is little to learn from
    config.trends.rivals = (
        'recent_rows_our_labels',
        'recent_rows',
        'random_rows_our_labels',
        'static',
        'one_shot',
        'warm_last_block',
        'halving',
    )
    return config
