"""What describe calls a column is what preparation reads it as: types, words that mean missing, lists, keys."""

import numpy as np
import pyarrow as pa
import pytest
from test_describe import DAY, ITEMS, START, rows, taken, write_csv, write_parquet
from test_describe_config import described, stream_of

from diet_jax.base.errors import UserError
from diet_jax.data import values
from diet_jax.describe import summary, survey
from diet_jax.describe.lists import separator
from diet_jax.describe.shown import find
from diet_jax.describe.shown import rows as rows_of
from diet_jax.describe.typed import typed

TEXTS = [
    (['3', '', '4.0', 'NULL', '<NA>'], 'int64', [3, None, 4, None, None]),
    (['TRUE', 'false', '1'], 'bool', [True, False, True]),
    (['0501', '501'], 'string', ['0501', '501']),
    (['1e5', '2e5'], 'string', ['1e5', '2e5']),
    ([' 3', '+4'], 'string', [' 3', '+4']),
    (['1.5', '3', '\\N'], 'double', [1.5, 3.0, None]),
    (['1e-3', ' .5', 'inf'], 'double', [0.001, 0.5, float('inf')]),
    (['9' * 20, '1'], 'string', ['9' * 20, '1']),
    (['1.5', 'x'], 'string', ['1.5', 'x']),
    (['1', 'true', 'x'], 'string', ['1', 'true', 'x']),
]


@pytest.mark.parametrize(('words', 'kind', 'expected'), TEXTS, ids=str)
@pytest.mark.parametrize('packed', [False, True], ids=['text', 'dictionary'])
def test_text_is_typed_as_preparation_reads_it(words, kind, expected, packed):
    """Whole numbers, flags and text as categories, numbers as numbers: by the same functions."""
    column = pa.array(words)
    found = typed([column.dictionary_encode() if packed else column])
    assert (str(found.values.type), found.values.to_pylist()) == (kind, expected)
    if kind == 'double':
        assert values.numbers(column, '').to_pylist() == expected
    elif not found.verbatim:
        assert values.categories(column, '').to_pylist() == expected
    else:
        with pytest.raises(UserError, match='data.csv.strings to take each as written'):
            values.categories(column, '')


def test_files_of_several_types_are_one_column():
    assert typed([pa.array([1, 0]), pa.array([True])]).values.to_pylist() == [True, False, True]
    assert typed([pa.array([1]), pa.array(['2'])]).values.to_pylist() == [1, 2]
    assert typed([pa.array([1.0, float('nan')]), pa.array(['a'])]).values.to_pylist() == ['1', None, 'a']
    assert typed([pa.nulls(1), pa.array([2.5])]).values.to_pylist() == [None, 2.5]
    assert typed([pa.array([2**63], pa.uint64())]).values.to_pylist() == [str(2**63)]
    assert str(typed([pa.array([1.5]), pa.array(['a'])]).values.type) == 'binary'  # no config reads it


def test_text_of_parquet_is_read_as_csv_is(tmp_path):
    log = rows()
    write_csv(tmp_path / 'text' / 'log.csv', log)
    write_parquet(tmp_path / 'words' / 'log.parquet', {name: values.astype(str) for name, values in log.items()})
    write_parquet(tmp_path / 'types' / 'log.parquet', log)
    surveys = [survey(str(tmp_path / folder)) for folder in ('text', 'words', 'types')]
    for found in surveys:
        assert taken(found) == taken(surveys[0]) and found.label.column == 'click' and found.label.threshold is None
        assert [c.kind for c, _ in found.columns] == ['int'] * 5


def test_words_among_numbers_are_written_as_null_words(tmp_path):
    log = rows()
    price = np.arange(len(log['ts'])) / 4
    log['price'] = np.where(np.arange(len(price)) % 10, price.astype(str), 'NA')
    log['city'] = np.where(log['tab'] > 1, 'NA', 'Bonn')
    log['code'] = np.where(log['tab'] > 1, 'n/a', 'x7')  # words of a text are its values
    write_csv(tmp_path / 'log' / 'log.csv', log)
    text, config = described(tmp_path / 'log')
    assert tuple(config.data.null_words) == ('', 'NULL', 'null', '\\N', 'nan', 'NaN', 'None', '<NA>', 'NA')
    assert "# ? 'NA' stands among the numbers of price: missing, in all text." in text
    assert taken(survey(str(tmp_path / 'log')))['price'] == 'numeric' and 'price' in config.data.numeric
    said = summary(survey(str(tmp_path / 'log')))['said']
    assert "? 'NA' among the numbers of price means missing, in every column of text" in said
    stream = stream_of(config, tmp_path / 'run')
    names = [field.name for field in stream.fields]
    cities = stream.values(stream.load(0).ids[:, names.index('city')]).to_pylist()
    first = np.argsort(log['ts'], kind='stable')[: len(cities)]
    assert cities == [None if log['city'][i] == 'NA' else 'Bonn' for i in first]
    codes = stream.values(stream.load(0).ids[:, names.index('code')]).to_pylist()
    assert codes == log['code'][first].tolist()


def test_no_word_is_added_where_none_stands_in_the_way(tmp_path):
    log = rows()
    log['city'] = np.where(log['tab'] > 1, 'NA', 'Bonn')
    log['zip'] = np.where(log['tab'] > 1, '?', '00501')
    write_csv(tmp_path / 'log.csv', log)
    text, config = described(tmp_path)
    assert 'null_words' not in text and 'strings' not in text
    assert {'city', 'zip'} <= set(config.data.fields)


def test_flags_written_in_two_ways_beside_words_are_taken_as_written(tmp_path):
    log = rows()
    log['flag'] = np.array(['1', 'true', 'odd', '0'])[log['tab']]
    write_csv(tmp_path / 'log' / 'log.csv', log)
    _, config = described(tmp_path / 'log')
    assert tuple(config.data.csv.strings) == ('flag',)
    stream = stream_of(config, tmp_path / 'run')
    assert sum(block.rows for block in stream.blocks) == len(log['ts'])


def test_latin1_far_into_a_file_is_its_encoding(tmp_path):
    log = rows(days=14, each=1200)
    log['city'] = np.where(np.arange(len(log['ts'])) < 16_000, 'Bonn', 'Köln')
    write_csv(tmp_path / 'log' / 'log.csv', log)
    path = tmp_path / 'log' / 'log.csv'
    path.write_bytes(path.read_text().encode('latin1'))
    _, config = described(tmp_path / 'log')
    assert config.data.csv.encoding == 'latin1'
    assert stream_of(config, tmp_path / 'run').blocks[0].rows > 0


# Side tables.


def joins(folder):
    """({file: (key, on)} of the config, notes) of a folder."""
    text, config = described(folder)
    found = survey(str(folder))
    assert all(
        '# ?' in text.split(f"path='{t['path']}'")[0].splitlines()[-2] for t in config.data.side_tables if 'on' in t
    )
    return {t['path']: (t['key'], t.get('on')) for t in config.data.side_tables}, ' '.join(found.notes)


def spread(values):
    """Ids far from each other, as hashes are."""
    return np.asarray(values) * 7919 + 10**6


JOINED = [
    ('items.csv', 'id', 'item_id'),  # the file says what the id is of
    ('catalogue.csv', 'article_id', 'item_id'),  # another word for an item
    ('products.csv', 'pid', 'item_id'),
    ('items.csv', 'mid', 'item_id'),  # an id in a file of items
    ('catalogue.csv', 'itemId', 'item_id'),
    ('people.csv', 'uid', 'user_id'),
]


@pytest.mark.parametrize(('file', 'own', 'on'), JOINED, ids=str)
def test_a_key_of_another_name_is_joined_where_names_speak(tmp_path, file, own, on):
    log = rows()
    write_csv(tmp_path / 'log.csv', log)
    keys = range(500, 590) if on == 'item_id' else range(40)
    write_csv(tmp_path / file, {own: keys, 'author': [i % 9 for i in keys]})
    assert joins(tmp_path)[0] == {file: (own, on)}
    found = survey(str(tmp_path))
    assert taken(found)['author'] == 'field' and found.sides[0].names == (on, 'author')


def test_the_key_of_most_of_the_logs_values_is_taken(tmp_path):
    write_csv(tmp_path / 'log.csv', rows())
    write_csv(tmp_path / 'items.csv', {'article_id': range(530, 620), 'video_id': range(500, 590), 'x': [1, 2, 3] * 30})
    assert joins(tmp_path)[0] == {'items.csv': ('video_id', 'item_id')}


def test_where_names_say_nothing_values_that_cannot_meet_by_chance_join(tmp_path):
    log = rows(each=400)
    log['thing'] = spread(np.random.default_rng(3).integers(0, 300, len(log['ts'])))
    log['word'] = np.array([f'w{i % 200}' for i in range(len(log['ts']))])
    write_csv(tmp_path / 'log.csv', log)
    write_csv(tmp_path / 'a.csv', {'k': spread(range(300)), 'size_class': [i % 7 for i in range(300)]})
    write_csv(tmp_path / 'b.csv', {'k': [f'w{i}' for i in range(200)], 'form': [i % 7 for i in range(200)]})
    assert joins(tmp_path)[0] == {'a.csv': ('k', 'thing'), 'b.csv': ('k', 'word')}


def _small_integers(folder, log):
    """Whole numbers 0, 1, 2, ... hold those of any column."""
    log['item_id'] = np.random.default_rng(4).integers(0, 150, len(log['ts']))
    write_csv(folder / 'table.csv', {'n': range(500), 'x': [1, 2] * 250})


def _few_values(folder, log):
    log['thing'] = spread(log['item_id'])
    write_csv(folder / 'table.csv', {'k': spread(np.unique(log['item_id'])), 'x': [1, 2] * 45})


def _two_things(folder, log):
    """A user's id is no item's, however many values they share."""
    write_csv(folder / 'table.csv', {'member_id': range(500, 590), 'x': [1, 2] * 45})


def _other_type(folder, log):
    write_csv(folder / 'items.csv', {'id': [f'i{i}' for i in range(500, 590)], 'x': [1, 2] * 45})


def _no_value(folder, log):
    write_csv(folder / 'items.csv', {'item_id': range(90), 'x': [1, 2] * 45})


def _repeated(folder, log):
    write_csv(folder / 'items.csv', {'item_id': [*range(500, 589), 500], 'x': [1, 2] * 45})


def _null(folder, log):
    write_csv(folder / 'items.csv', {'item_id': [*range(500, 589), ''], 'x': [1, 2] * 45})


NOT_JOINED = [
    (_small_integers, "its 'n' is all numbers of a range, so it has those of the log's 'item_id' by chance or not"),
    (_few_values, "its 'k' has 100.0% of the 90 values of the log's 'thing', but another name: dict(path='table.csv',"),
    (_two_things, "where one is a key, dict(path='table.csv', key='...', on='...') in data.side_tables names both"),
    (_other_type, "its 'id' is text and the log's 'item_id' whole numbers: write both in one way"),
    (_no_value, "its 'item_id' has 0.0% of the values of the log's 'item_id' (0 there,"),
    (_repeated, "its 'item_id' holds 1 values again: keep one row a value"),
    (_null, "its 'item_id' is null in 1 rows: remove those rows"),
]


@pytest.mark.parametrize(('make', 'said'), NOT_JOINED, ids=lambda part: getattr(part, '__name__', ''))
def test_a_table_that_is_not_joined_is_said_why(tmp_path, make, said):
    log = rows(each=200)
    (tmp_path / 'log').mkdir()
    make(tmp_path / 'log', log)
    write_csv(tmp_path / 'log' / 'log.csv', log)
    joined, notes = joins(tmp_path / 'log')
    assert joined == {} and said in notes and '\n' not in notes
    assert stream_of(described(tmp_path / 'log')[1], tmp_path / 'run').blocks[0].rows > 0


def test_a_key_that_is_text_in_one_file_is_compared_as_text(tmp_path):
    log = rows()
    log['item_id'] = np.where(log['item_id'] == 501, 'x', log['item_id'].astype(str))
    write_csv(tmp_path / 'log' / 'log.csv', log)
    write_csv(tmp_path / 'log' / 'items.csv', {'item_id': range(500, 590), 'author': [i % 9 for i in range(90)]})
    found = survey(str(tmp_path / 'log'))
    assert [side.key for side in found.sides] == ['item_id'] and found.sides[0].why.startswith(f'{89 / 90:.1%}')
    stream = stream_of(described(tmp_path / 'log')[1], tmp_path / 'run')
    place = [field.name for field in stream.fields].index('author')
    known = stream.values(stream.load(0).ids[:, place]).to_pylist()
    first = log['item_id'][np.argsort(log['ts'], kind='stable')[: len(known)]]
    assert known == [None if item == 'x' else (int(item) - 500) % 9 for item in first]


# Lists.


def lists_shown(n=1400, seed=0):
    """A log whose rows list what was shown, and the rows that it stands for."""
    rng = np.random.default_rng(seed)
    shown = [rng.choice(ITEMS, rng.integers(2, 6), replace=False) + 500 for _ in range(n)]
    hits = [rng.random(len(items)) < np.where(items % 3 == 0, 0.7, 0.2) for items in shown]
    log = {'user_id': rng.integers(0, 40, n), 'ts': np.sort(START + rng.integers(0, 14 * DAY, n))}
    flat = {
        'item': np.concatenate(shown),
        'clicked': np.concatenate(hits),
        'position': np.concatenate([np.arange(len(s)) for s in shown]),
    }
    return log, shown, hits, flat


def as_marked(shown, hits):
    return [' '.join(f'N{i}-{int(h)}' for i, h in zip(*row, strict=True)) for row in zip(shown, hits, strict=True)]


def of_clicked(shown, hits):
    return [items[hit].tolist() for items, hit in zip(shown, hits, strict=True)]


def test_marked_items_are_a_row_each():
    log, shown, hits, flat = lists_shown(300)
    columns = {name: pa.array(values) for name, values in log.items()} | {
        'impressions': pa.array(as_marked(shown, hits))
    }
    found = find(columns)
    assert found[:5] == ('impressions', '', ' ', '-', ())
    made, each = rows_of(columns, found)
    assert each == len(flat['item']) / 300
    assert made['impressions'].to_pylist() == [f'N{i}' for i in flat['item']]
    np.testing.assert_array_equal(made['clicked'], flat['clicked'])
    np.testing.assert_array_equal(made['position'], flat['position'])
    np.testing.assert_array_equal(made['user_id'], np.repeat(log['user_id'], [len(s) for s in shown]))


WRITTEN = {
    '': lambda row: list(row),
    '|': lambda row: '|'.join(map(str, row)),
    ',': lambda row: str([int(value) for value in row]),
}


@pytest.mark.parametrize('between', WRITTEN)
def test_a_list_and_those_of_it_that_were_clicked(between):
    log, shown, hits, flat = lists_shown(300)
    write = WRITTEN[between]
    columns = {
        'user_id': pa.array(log['user_id']),
        'shown': pa.array([write(row) for row in shown]),
        'clicks': pa.array([write(row) for row in of_clicked(shown, hits)]),
        'prices': pa.array([write(row % 7) for row in shown]),
        'history': pa.array([write(row[:2]) for row in shown]),
    }
    found = find(columns)
    assert found[:5] == ('shown', 'clicks', between, '', ('prices',)) and found.sure
    made, _ = rows_of(columns, found)
    assert 'clicks' not in made and made['shown'].to_pylist() == flat['item'].tolist()
    np.testing.assert_array_equal(made['clicked'], flat['clicked'])
    assert made['prices'].to_pylist() == (flat['item'] % 7).tolist()


def test_lists_without_a_name_for_clicks_or_what_was_shown_are_none():
    _, shown, hits, _ = lists_shown(300)
    columns = {'tags': pa.array([list(row) for row in shown]), 'main': pa.array(of_clicked(shown, hits))}
    assert find(columns) is None
    found = find({'inview': columns['tags'], 'main': columns['main']})
    assert (found.items, found.clicked, found.sure) == ('inview', 'main', False)
    odd = [[9_999], *of_clicked(shown, hits)[1:]]  # clicked, and never shown
    assert find({'inview': columns['tags'], 'clicked': pa.array(odd)}) is None
    assert find({'day': pa.array(['2024-0', '2024-1'] * 9)}) is None


@pytest.mark.parametrize('marked', [True, False])
def test_the_config_of_a_log_of_lists(tmp_path, marked):
    log, shown, hits, flat = lists_shown()
    if marked:
        write_csv(tmp_path / 'log.csv', log | {'impressions': as_marked(shown, hits)})
        write_csv(
            tmp_path / 'news.csv', {'nid': [f'N{i}' for i in range(500, 590)], 'topic': [i % 7 for i in range(90)]}
        )
    else:
        write_parquet(
            tmp_path / 'log.parquet',
            log | {'items': [list(row) for row in shown], 'clicked_items': of_clicked(shown, hits)},
        )
    text, config = described(tmp_path)
    item = 'impressions' if marked else 'items'
    given = dict(items=item, separator=' ', mark='-') if marked else dict(items=item, clicked='clicked_items')
    assert config.data.impressions.to_dict() == given
    fields = ('user_id', item, *(('topic',) if marked else ()), 'position')
    assert (config.data.label.column, config.data.fields) == ('clicked', fields)
    assert config.roles.to_dict() == dict(user='user_id', item=item, creator='topic' * marked, context='position')
    assert [(t['key'], t['on']) for t in config.data.side_tables] == [('nid', 'impressions')] * marked
    assert "    # ? 'position' is known when a list is shown, and not when one is made.\n" in text
    found = survey(str(tmp_path))
    assert found.rows == len(flat['item']) and found.whole
    np.testing.assert_array_equal(found.label.values, flat['clicked'])
    day = np.repeat((log['ts'] - START) // DAY, [len(row) for row in shown])
    np.testing.assert_array_equal(found.days.rows, np.bincount(day))


def test_side_tables_and_names_of_a_log_of_lists_without_a_header(tmp_path):
    log, shown, hits, _ = lists_shown()
    number = {'c0': np.arange(len(shown)) + 1}
    write_csv(tmp_path / 'behaviors.tsv', number | log | {'c3': as_marked(shown, hits)}, '\t', header=False)
    write_csv(tmp_path / 'news.csv', {'news': [f'N{i}' for i in range(500, 590)], 'category': ['a', 'b', 'c'] * 30})
    _, config = described(tmp_path)
    assert tuple(config.data.csv.column_names) == ('c0', 'user', 'timestamp', 'item')
    assert config.data.impressions['items'] == 'item' and config.data.label.column == 'clicked'
    assert [(t['path'], t['key'], t['on']) for t in config.data.side_tables] == [('news.csv', 'news', 'item')]
    assert tuple(config.data.fields) == ('user', 'item', 'category', 'position')


def test_of_several_values_in_a_cell_the_first_is_taken_where_cells_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr('diet_jax.describe.lists.WHOLE', 3)
    log = rows()
    n = len(log['ts'])
    log['genres'] = np.array(['Comedy|War', 'War', 'Comedy', 'War|Comedy'])[log['tab']]
    tags = np.empty(n, object)
    tags[:] = [[int(t), 9] if t else [] for t in log['tab']]
    vector = np.empty(n, object)
    vector[:] = [[0.5, 0.25 * t] for t in log['tab']]
    write_parquet(tmp_path / 'log.parquet', log | {'tags': tags, 'vector': vector})
    text, config = described(tmp_path)
    assert config.data.first_value.to_dict() == {'genres': '|', 'tags': ''}
    assert '    # ? Of several values the first; as whole: leave it out.\n' in text
    found = survey(str(tmp_path))
    columns = {c.name: c for c, _ in found.columns}
    assert (columns['genres'].values, columns['tags'].values) == (2, 3)
    assert columns['tags'].missing == np.mean(log['tab'] == 0) and columns['tags'].kind == 'int'
    assert taken(found)['vector'] == 'nested' and {'genres', 'tags'} <= set(config.data.fields)
    assert 'several values in a cell, of which the first is taken: ? genres, tags' in summary(found)['said']


@pytest.mark.parametrize(
    ('cells', 'between'),
    [
        (['Comedy|War', 'War', 'Comedy', 'War|Comedy|Drama', 'Drama'] * 3, '|'),
        (['N1 N2', 'N2', 'N1', 'N2 N1 N3', 'N3'] * 3, ' '),
        (['the war', 'war', 'the end', 'end of the war', 'of'] * 3, None),  # words of a title
        (['Bonn, Germany', 'Ulm, Germany', 'Rome, Italy', 'Pisa, Italy', 'Bari, Italy'], None),  # always two
        (['[0,10)', '[10,20)', '20+'], None),
        ([[1], [2, 3]], ''),
        ([[[1]], [[2]]], None),
        ([1, 2], None),
    ],
)
def test_what_stands_between_values(cells, between):
    assert separator(pa.array(cells)) == between


def test_words_of_the_logs_numbers_are_null_in_side_tables_too(tmp_path):
    log = rows()
    log['price'] = np.where(log['tab'] > 0, (log['tab'] / 4).astype(str), 'NA')
    write_csv(tmp_path / 'log.csv', log)
    write_csv(tmp_path / 'items.csv', {'item_id': range(500, 590), 'town': ['NA', 'Bonn', 'Ulm'] * 30})
    figures = {c.name: c for c, _ in survey(str(tmp_path)).columns}
    assert (figures['town'].values, figures['town'].missing) == (2, 1 / 3)
