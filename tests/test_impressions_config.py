"""`data.impressions` and `data.first_value`: what a config may say, and what it is told."""

import re

import pytest

from diet_jax.base.errors import UserError
from diet_jax.config import default_config, simulated_data
from diet_jax.config.checks import check_config
from diet_jax.config.data import check_data, data_digest, default_data


def data_of(**changes):
    data = default_data()
    data.root, data.log, data.time.column = '/log', ('*.csv',), 'ts'
    data.fields = ('user', 'shown')
    data.impressions.update(items='shown', mark='-')
    for path, value in changes.items():
        section, _, key = path.rpartition('__')
        (data[section] if section else data)[key] = value
    return data


def test_the_label_is_named_and_a_checked_config_is_its_own():
    data = check_data(data_of())
    assert data['label']['column'] == 'clicked' and check_data(data) == data
    assert check_data(data_of(label__column='y'))['label']['column'] == 'y'
    data = check_data(data_of(fields=('user', 'position'), numeric={'list_length': 4}, first_value={'genres': '|'}))
    assert data['first_value'] == {'genres': '|'} and data['fields'] == ['user', 'position']
    config = default_config()
    config.data = data_of()
    check_config(config, 1)


BAD = [
    (dict(impressions__clicked='hit'), 'data.impressions has both clicked and mark'),
    (dict(impressions__mark=''), 'data.impressions has neither clicked nor mark: give one'),
    (dict(impressions__items=''), "data.impressions.mark is '-', but data.impressions.items is empty"),
    (dict(impressions__items=3), 'data.impressions.items is 3: it must be a string'),
    (dict(impressions__separator=''), 'data.impressions.separator is empty'),
    (dict(impressions__separator='-'), "data.impressions.mark '-' holds the separator '-'"),
    (dict(impressions__parallel='x'), "data.impressions.parallel is 'x': it must be a tuple; write .'x',."),
    (dict(impressions__parallel=('x', 'shown')), "data.impressions names 'shown' twice"),
    (dict(impressions__parallel=(3,)), 'data.impressions names 3, which is no name of a column'),
    (dict(impressions={'itms': 'x'}), "data.impressions has no key 'itms' .did you mean 'items'."),
    (dict(impressions='x'), "data.impressions is 'x': it must be a dict of clicked, items"),
    (dict(time__column='shown'), "data.time.column 'shown' lists items in data.impressions"),
    (dict(label__threshold=2.0), 'leave data.label.threshold and positive out'),
    (dict(label__positive=('a',)), 'leave data.label.threshold and positive out'),
    (dict(label__column='shown'), "data.label.column 'shown' is the label that is made"),
    (dict(label__column='position'), "data.label.column 'position' is the label that is made"),
    (dict(label__column='user'), "data.label.column 'user' is also a field"),
    (dict(fields=('user', 'clicked')), "data.label.column 'clicked' is also a field"),
    (dict(impressions=dict(items='shown', clicked='user')), "data.impressions.clicked 'user' is also a field"),
    (dict(negatives__per_click=1), 'have their own negatives.*set negatives.per_click to 0'),
    (dict(source='simulated'), 'data.impressions is for log files'),
    (dict(first_value='x'), "data.first_value is 'x': it must be a dict"),
    (dict(first_value={'g': 3}), r"data.first_value\['g'\] is 3: it must be the text between two values"),
    (dict(first_value={'shown': ' '}), "data.first_value holds 'shown', of which data.impressions takes all"),
    (
        dict(side_tables=({'path': 'a', 'key': 'k', 'onn': 'x'},)),
        r"side_tables\[0\] has no key 'onn' .did you mean 'on'",
    ),
    (dict(side_tables=({'path': 'a', 'key': 'k', 'on': 3},)), r"side_tables\[0\].on is 3: it must be the log's name"),
    (dict(side_tables=({'path': 'a', 'on': 'x'},)), r'side_tables\[0\].key is missing'),
    (dict(side_tables=('a.csv',)), r"side_tables\[0\] is 'a.csv': it must be a dict"),
]


@pytest.mark.parametrize('changes, message', BAD)
def test_a_bad_config_is_one_clear_line(changes, message):
    data = data_of().to_dict()
    for path, value in changes.items():
        section, _, key = path.rpartition('__')
        (data[section] if section else data)[key] = value
    with pytest.raises(UserError) as error:
        check_data(data)
    assert re.search(message, str(error.value)) and '\n' not in str(error.value), str(error.value)


def test_the_first_value_is_for_files():
    data = simulated_data()
    data.first_value = {'user': '|'}
    with pytest.raises(UserError, match='data.first_value is for log files'):
        check_data(data)


def test_the_name_of_a_cache_changes_only_where_the_rows_do():
    """Digests of configs without the new keys are those of before there were any."""
    data = default_data()
    data.root, data.log, data.time.column, data.label.column = '/log', ('*.csv',), 'ts', 'y'
    data.fields, data.side_tables = ('user',), ({'path': 'a.csv', 'key': 'user'},)
    digest = data_digest(check_data(data))
    assert digest == '683d73dbc84939fa'
    assert data_digest(check_data(simulated_data())) == 'e77d5d9b59734137'
    data.side_tables = ({'path': 'a.csv', 'key': 'user', 'on': 'user'},)
    assert data_digest(check_data(data)) == digest
    others = [data_of(), data_of(impressions__separator='|'), data_of(impressions__parallel=('x',))]
    others += [data_of(first_value={'g': '|'}), data_of(first_value={'g': ','})]
    data.side_tables = ({'path': 'a.csv', 'key': 'user', 'on': 'user_id'},)
    assert len({digest, *(data_digest(check_data(other)) for other in (data, *others))}) == 7
