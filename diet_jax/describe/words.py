"""What the name of a column or a file suggests."""

from __future__ import annotations

import re

from diet_jax.config.data import name_fault

USER = {'user', 'users', 'uid', 'member', 'members', 'customer', 'customers', 'visitor', 'viewer', 'account', 'reader'}
ITEM = (
    {'item', 'items', 'iid', 'video', 'videos', 'article', 'articles', 'movie', 'movies', 'product', 'products', 'news'}
    | {'ad', 'ads', 'sku', 'song', 'songs', 'track', 'tracks', 'photo', 'post', 'posts', 'book', 'books', 'business'}
    | {'asin', 'content', 'doc', 'document', 'goods', 'listing', 'offer', 'recipe', 'game', 'app', 'creative', 'pid'}
)
CREATOR = {'author', 'creator', 'artist', 'seller', 'brand', 'publisher', 'shop', 'merchant', 'advertiser', 'uploader'}
GENRE = {'category', 'categories', 'cate', 'genre', 'genres', 'topic'}  # in a creator's place
CONTEXT = {'tab', 'page', 'scene', 'placement', 'position', 'slot', 'channel', 'referrer', 'referer', 'source'}
DEVICE = {'device', 'os', 'platform', 'browser', 'environment', 'occupation', 'country', 'region', 'city'}  # at a pinch
IDENTITY = {'id', 'ids', 'code', 'type', 'kind', 'class', 'feat', 'tag', 'tags', 'music', 'language', 'gender', 'zip'}
CATEGORY = USER | ITEM | CREATOR | GENRE | CONTEXT | DEVICE | IDENTITY
NUMBER = {
    'num',
    'number',
    'count',
    'cnt',
    'price',
    'amount',
    'duration',
    'length',
    'size',
    'width',
    'height',
    'days',
} | {'seconds', 'ms', 'weight', 'distance', 'score', 'rate', 'ratio', 'lat', 'lon', 'latitude', 'longitude'}
IDS = {'id', 'ids', 'key', 'code', 'no', 'nr', 'uuid', 'guid'}
SESSION = {'session', 'request', 'trace', 'impression', 'uuid', 'guid', 'row', 'index', 'query', 'visit'}
CALENDAR = {'date', 'day', 'dt', 'ds', 'hour', 'hourmin', 'weekday', 'month', 'year', 'week', 'minute', 'dow'}
TIME = {'timestamp', 'time', 'ts', 'datetime', 'when', 'at', 'second', 'unixtime', 'epoch', 'created', 'clock'}
NOT_THE_TIME = {'start', 'end', 'upload', 'register', 'birth', 'publish', 'published', 'update', 'updated', 'expire'}

# Exact names of a label first, then what sounds like one, then feedback that may be all there is.
LABELS = (
    {'click', 'clicked', 'is_click', 'isclick', 'is_clicked', 'label', 'target', 'y', 'user_clicked'},
    {'click', 'clicked', 'label', 'target'},
    {'like', 'liked', 'buy', 'bought', 'purchase', 'purchased', 'conversion', 'converted', 'view', 'response', 'is'},
)
RATINGS = {'rating', 'ratings', 'stars', 'score', 'overall'}
ACTIONS = {'behavior', 'behaviour', 'behavior_type', 'event', 'event_type', 'action', 'action_type', 'interaction'}
SEEN = {'pv', 'view', 'views', 'impression', 'show', 'shown', 'exposure', 'skip', 'none', 'no', 'false', 'n', 'f', '0'}
YES = {'true', 'yes', 'y', 't', '1', 'positive'}
CHOSEN = {'click', 'clicks', 'clicked', 'chosen', 'selected', 'bought', 'purchased', 'ordered', 'positive', 'positives'}
DISPLAYED = {'show', 'shown', 'impression', 'impressions', 'inview', 'candidate', 'candidates', 'slate', 'displayed'}

FEEDBACK = (
    {'like', 'liked', 'follow', 'followed', 'comment', 'forward', 'share', 'shared', 'hate', 'dislike', 'click'}
    | {'clicked', 'cart', 'fav', 'favorite', 'favourite', 'buy', 'bought', 'purchase', 'purchased', 'order', 'ordered'}
    | {'conversion', 'converted', 'revenue', 'watched', 'watch', 'watchtime', 'dwell', 'stay', 'played', 'playtime'}
    | {'completion', 'completed', 'finish', 'finished', 'bounce', 'rating', 'ratings', 'stars', 'report', 'collect'}
    | {'useful', 'funny', 'helpful', 'votes'}
)
FEEDBACK_PHRASES = r'play_time|play_duration|long_view|view_time|read_time|time_spent|profile_enter|watch_ratio'
AT_ITS_END = r'session_(size|length|duration|count|clicks|end)'
# Of a side table: what has been counted over a whole log.
STATISTIC = r'(show|play|click|view|like|share|comment|download|collect|report|buy|cart|exposure|purchase)\w*_' + (
    r'(cnt|count|num|rate|duration)$|(^|_)(ctr|cvr|popularity|vote_average|vote_count|avg_rating|mean_rating)($|_)'
)


def tokens(name: str) -> list[str]:
    """The words of a name, small.

    >>> tokens('click_deviceGroup'), tokens('UserID'), tokens('time_ms2')
    (['click', 'device', 'group'], ['user', 'id'], ['time', 'ms', '2'])
    """
    return [word.lower() for word in re.findall(r'[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+', name)]


def snake(name: str) -> str:
    """A name as its words joined by _.

    >>> snake('playTime')
    'play_time'
    """
    return '_'.join(tokens(name))


def has(name: str, words: set[str]) -> bool:
    """Whether one of the words is in a name.

    >>> has('userId', USER), has('used', USER)
    (True, False)
    """
    return not words.isdisjoint(tokens(name))


def singular(stem: str) -> str:
    """A table's name as that of one of its rows.

    >>> singular('users'), singular('categories'), singular('news')
    ('user', 'category', 'news')
    """
    if stem.endswith('ies') and stem != 'movies':
        return stem[:-3] + 'y'
    return stem if stem == 'news' or not stem.endswith('s') or stem.endswith('ss') else stem[:-1]


def alike(one: str, other: str) -> bool:
    """Whether two names are one but for `_id` and spelling.

    >>> alike('user', 'user_id'), alike('userId', 'user_id'), alike('user_id', 'video_id')
    (True, True, False)
    """
    short = [[word for word in tokens(name) if word not in ('id', 'ids')] for name in (one, other)]
    return bool(short[0]) and short[0] == short[1]


def thing(name: str) -> str:
    """What a name is of, by its last word that says so: 'user', 'item', 'creator', 'genre', or '' where none does.

    >>> thing('item_category_id'), thing('movieId'), thing('title')
    ('genre', 'item', '')
    """
    sets = {'user': USER, 'creator': CREATOR, 'genre': GENRE, 'item': ITEM}
    own = [word for word in tokens(name) if word not in IDS and not word.isdigit()][-1:]
    return next((which for which, found in sets.items() if not found.isdisjoint(own)), '')


def head(name: str) -> str:
    """What an id's name is of; '' of other names.

    >>> head('station_code'), head('StationID'), head('title')
    ('station', 'station', '')
    """
    own = tokens(name)
    return '_'.join(word for word in own if word not in IDS) if own and own[-1] in IDS else ''


def given(name: str) -> str:
    """A name that a field can have, for a column whose own is none (`config.data.name_fault`).

    >>> given('device/os'), given('stage'), given('user')
    ('device_os', 'stage_field', 'user')
    """
    if not name_fault(name):
        return name
    clean = re.sub(r'\W+', '_', name).strip('_')[:100] or 'column'
    return clean if not name_fault(clean) else f'{clean}_field'
