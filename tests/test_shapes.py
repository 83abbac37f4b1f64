"""Logs of other shapes, read from files: lists of items shown, several values in a cell, keys of other names."""

import numpy as np
import pyarrow as pa
from quirky import DAYS, ROWS, START, csv, data_of, days, facts, healthy_log, parquet, refused, same

from diet_jax.data.stream import open_stream


def test_marked_lists_are_rows(tmp_path, healthy):
    """Five rows of one day are one list, as in MIND: '500-1 501-0'."""
    for d, columns in enumerate(days()):
        lists = [
            ' '.join(f'{i}-{y}' for i, y in zip(columns['item'][a : a + 5], columns['y'][a : a + 5], strict=True))
            for a in range(0, ROWS, 5)
        ]
        first = {name: columns[name][::5] for name in ('ts', 'user', 'city', 'x')}
        csv(tmp_path / 'log', d, {**first, 'shown': lists})
    data = data_of(tmp_path / 'log')
    data.label.column, data.fields = '', ('user', 'shown', 'city', 'position')
    data.impressions.update(items='shown', mark='-')
    found = facts(data, tmp_path / 'w')
    assert found.rows == healthy.rows and found.clicks == healthy.clicks
    assert found.values['shown'] == healthy.values['item'] and found.values['position'] == 5
    clicks = round(sum(rate * ROWS for rate in healthy.clicks))
    assert f'40 lists of items shown are 200 rows, {clicks} of them clicked' in found.said


def test_lists_beside_clicked_ones_with_prices_and_repeats(tmp_path):
    for d, columns in enumerate(days()):
        time = columns['ts'][::5]
        shown = [columns['item'][a : a + 5] for a in range(0, ROWS, 5)]
        clicked = [
            [item for item, y in zip(s, columns['y'][a : a + 5], strict=True) if y]
            for a, s in zip(range(0, ROWS, 5), shown)
        ]
        price = [[float(item) / 7 for item in s] for s in shown]
        table = pa.table({'ts': time, 'user': columns['user'][::5], 'shown': shown, 'clicked': clicked, 'price': price})
        parquet(tmp_path / 'log', d, pa.concat_tables([table, table.slice(0, 1)]))  # the first list comes twice
    data = data_of(tmp_path / 'log')
    data.label.column, data.fields, data.numeric = '', ('user', 'shown'), {'price': 3, 'list_length': 2}
    data.impressions.update(items='shown', clicked='clicked', parallel=('price',))
    data.duplicates = 'drop'
    found = facts(data, tmp_path / 'w')
    assert found.rows == [ROWS] * DAYS and found.values['price'] == 3
    assert '20 rows dropped that repeat an earlier one in every column' in found.said
    # the label is 1 where the item is among those clicked
    want = []
    for columns in days():
        for a in range(0, ROWS, 5):
            hit = {i for i, y in zip(columns['item'][a : a + 5], columns['y'][a : a + 5], strict=True) if y}
            want += [float(item in hit) for item in columns['item'][a : a + 5]]
    stream = open_stream(data, tmp_path / 'w', lambda line: None)
    assert np.concatenate([stream.load(t).label for t in range(DAYS)]).tolist() == want


def test_the_first_of_several_values_in_the_log_and_in_a_side_table(tmp_path, healthy):
    for d, columns in enumerate(days()):
        csv(tmp_path / 'log', d, {**columns, 'city': [f'{c}|zrh' for c in columns['city']]})
    genres = ['Comedy|War', 'War', 'Drama|Comedy', '', 'War|Drama', 'Comedy']
    csv(tmp_path / 'log', '', {'movie': list(range(500, 506)), 'genres': genres}, 'movies.csv')
    data = data_of(tmp_path / 'log', first_value={'city': '|', 'genres': '|'})
    data.fields = (*data.fields, 'genres')
    data.side_tables = (dict(path='movies.csv', key='movie', on='item'),)
    found = facts(data, tmp_path / 'w')
    assert found.values == {**healthy.values, 'genres': 3} and found.missing['genres'] > 0
    assert found.rows == healthy.rows and found.clicks == healthy.clicks
    assert same(found._replace(values=healthy.values, missing=healthy.missing), healthy)


def test_a_side_table_joined_by_a_key_of_another_name_that_comes_from_a_side_table(tmp_path):
    data = healthy_log(tmp_path / 'log')
    csv(tmp_path / 'log', '', {'id': list(range(500, 506)), 'author': [1, 2, 3, 1, 2, 3]}, 'items.csv')
    csv(tmp_path / 'log', '', {'name': [1, 2], 'country': ['nl', 'de']}, 'authors.csv')
    data.fields = (*data.fields, 'country')
    data.side_tables = (dict(path='items.csv', key='id', on='item'), dict(path='authors.csv', key='name', on='author'))
    found = facts(data, tmp_path / 'w')
    third = sum(item in (502, 505) for columns in days() for item in columns['item'])
    assert found.values['country'] == 2 and found.missing['country'] == third
    assert f"{third} of 200 rows have a 'author' that authors.csv does not: missing there" in found.said
    data.side_tables = (dict(path='items.csv', key='id', on='itme'),)
    refused(data, tmp_path / 'v', "has no key column 'itme'", "did you mean 'item'")


def test_a_wrong_separator_is_noticed_in_little_files(tmp_path):
    rng = np.random.default_rng(0)
    for d in range(DAYS):
        lists = ['|'.join(f'N{x}-{int(rng.random() < 0.4)}' for x in range(5)) for _ in range(20)]
        csv(tmp_path / 'log', d, dict(ts=[START + 86400 * d + k for k in range(20)], user=range(20), shown=lists))
    data = data_of(tmp_path / 'log')
    data.label.column, data.numeric, data.fields = '', {}, ('user', 'shown')
    data.impressions.update(items='shown', mark='-')
    refused(data, tmp_path / 'w', "column 'shown' holds", 'data.impressions.separator')
    data.impressions.separator = '|'
    assert facts(data, tmp_path / 'w').rows == [100] * DAYS


def test_clicked_items_that_are_written_otherwise_in_one_file_are_refused(tmp_path):
    for d, columns in enumerate(days()):
        for h, mark in enumerate(('', 'x')):
            shown = [[500, 501, 502] for _ in range(10)]
            clicked = [[f'{mark}501'] for _ in range(10)]
            table = {'ts': columns['ts'][h::5], 'user': columns['user'][h::5], 'shown': shown, 'clicked': clicked}
            parquet(tmp_path / 'log', f'{d}-{h}', table)
    data = data_of(tmp_path / 'log')
    data.label.column, data.numeric, data.fields = '', {}, ('user', 'shown')
    data.impressions.update(items='shown', clicked='clicked')
    refused(data, tmp_path / 'w', "day0-1.parquet: column 'clicked': none of its 10 clicked items")
