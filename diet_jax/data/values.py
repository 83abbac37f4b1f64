"""What a value of a log's file means: categories, numbers, labels and times, the same in every file and format.

Files are read as they are written: CSV as text, Parquet in its own types. What a column is is decided over all files,
days and side tables at once (`kind_of`), never file by file. Rules for categories:

1. A null word (`data.null_words`), NaN and an absent column are missing.
2. Text that is a whole number and comes back from one as it was (no leading zero, no exponent, at most 19 digits)
   is that number; `1012.0`, as pandas writes whole numbers beside missing ones, is 1012.
3. true and false are booleans in any case; in a column that holds nothing else, 1 and 0 are true and false.
4. A column with any other text is text in all files: whole numbers are then their digits, booleans true and false.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diet_jax.base.errors import UserError
from diet_jax.config.data import NULL_WORDS

KNOWN = {'bit': 'int64'}  # of earlier blocks: whole numbers, all of them 0 or 1
KINDS = {'int64': pa.int64(), 'bool': pa.bool_(), 'string': pa.string()}
WHOLE = r'^(0|-?[1-9][0-9]*)$'
POINT_ZERO = r'^(0|-?[1-9][0-9]*)\.0+$'
NUMBER = r'^-?[0-9]+(\.[0-9]+)?$'


def by_word(array: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """A change of text, made once a different word: any type of text, dictionaries too -> what `change` gives."""
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    return change(array.dictionary.cast(pa.string())).take(array.indices)


def is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == 'string_view'


def without_null_words(words: pa.Array, nulls: Iterable[str] = NULL_WORDS) -> pa.Array:
    """Text with null words as nulls: string [N]."""
    missing = pc.is_in(words, value_set=pa.array(list(nulls), pa.string()))
    return pc.if_else(missing, pa.scalar(None, pa.string()), words)


def category(array: pa.Array, where: str, nulls: Iterable[str] = NULL_WORDS, verbatim: bool = False) -> pa.Array:
    """A column of one file as int64, bool or string [N]; strings are as rules 1 to 3 leave them.

    Args:
      where: "file: column 'x'", for messages; nulls: words that mean missing; verbatim: text is left as it is.
    Raises:
      UserError: a float that is no whole number, or a nested column.

    >>> category(pa.array(['1012.0', 'TRUE', '00501', '<NA>']), '').to_pylist()
    ['1012', 'true', '00501', None]
    """
    kind = array.type
    try:
        if pa.types.is_null(kind):
            return array.cast(pa.int64())
        if is_text(kind):
            return by_word(array, functools.partial(_words, nulls=nulls, verbatim=verbatim))
        if pa.types.is_dictionary(kind):
            return category(array.dictionary_decode(), where, nulls, verbatim)
        if pa.types.is_boolean(kind):
            return array
        if pa.types.is_integer(kind):
            if pa.types.is_uint64(kind) and (pc.max(array).as_py() or 0) >= 2**63:
                return array.cast(pa.string())
            return array.cast(pa.int64())
        if pa.types.is_floating(kind):
            return whole_numbers(array.cast(pa.float64()), where)
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
            return category(array.cast(pa.binary()).cast(pa.string()), where, nulls, verbatim)
        if pa.types.is_temporal(kind):  # a date is the same as that date at midnight, whatever the unit
            words = by_word(array, lambda w: pc.replace_substring_regex(w, r'(\.[0-9]*?)0+(Z?)$', r'\1\2'))
            words = by_word(words, lambda w: pc.replace_substring_regex(w, r'\.(Z?)$', r'\1'))
            return by_word(words, lambda w: pc.replace_substring_regex(w, r'^(.{10}) 00:00:00$', r'\1'))
        if pa.types.is_decimal(kind):
            return category(array.cast(pa.string()), where, nulls, verbatim)
    # A value that does not cast (bytes that are no UTF-8), or a type for which pyarrow has no cast.
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        way_out = 'set data.csv.encoding, or take it out of data.fields'
        raise UserError(f'{where} cannot be read as categories ({error}): {way_out}') from error
    listed = 'name it in data.lists, or ' if 'list' in str(kind) else ''
    raise UserError(f'{where} is of type {kind}, which is no category: {listed}take it out of data.fields')


def _words(words: pa.Array, nulls, verbatim: bool) -> pa.Array:
    words = without_null_words(words, nulls)
    if verbatim:
        return words
    words = pc.replace_substring_regex(words, POINT_ZERO, r'\1')
    lower = pc.utf8_lower(words)
    return pc.if_else(pc.is_in(lower, value_set=pa.array(['true', 'false'])), lower, words)


Seen = dict[str, tuple[str, str]]  # sort of value -> where such a one stands ("file: column 'x'"), and which it is


def seen_in(array: pa.Array, where: str, seen: Seen) -> None:
    """Adds the sorts of values that a `category` of one file holds."""
    for sort, value in _sorts(array).items():
        seen.setdefault(sort, (where, value))


def kind_of(seen: Seen, known: str | None, name: str, verbatim: bool = False, listed: bool = False) -> str | None:
    """What a column is: 'int64', 'bool' or 'string'; None where it has no value yet.

    Args:
      seen: what it holds, over all files (`seen_in`); known: what it was when earlier blocks were prepared;
      name: of the column, for messages; verbatim: it is text whatever it looks like; listed: its cells are lists.
    Raises:
      UserError: numbers with a fraction; booleans as words and as 1 and 0 beside other words.
    """
    if verbatim or known == 'string':
        return 'string'
    ones, example = 'other_int' not in seen, dict(seen)
    if not ones:
        example['int64'] = example.get('int64', example['other_int'])
    sorts = (set(example) | ({KNOWN.get(known, known)} if known else set())) - {'other_int'}
    if 'fraction' in sorts and not sorts & {'string', 'bool'}:
        where, value = example['fraction']
        raise UserError(
            f'{where} holds {value!r}, no whole number: '
            f'{"name the column" if listed else "list it in data.numeric, or"} in data.csv.strings to take numbers as '
            'names'
        )
    if sorts & {'string', 'fraction'}:
        if {'bool', 'int64'} <= sorts and ones and known != 'int64' and 'string' in example:
            (here, word), (there, one) = (example.get(s, ('an earlier block', 'true')) for s in ('bool', 'int64'))
            other = example['string'][1]
            raise UserError(
                f'{there} holds {one!r} and {here} {word!r} beside {other!r}: whether 1 is true cannot be told; write '
                f"it in one way, or list '{name}' in data.csv.strings to take each as written"
            )
        return 'string'
    if 'bool' in sorts and ('int64' not in sorts or (ones and known != 'int64')):
        return 'bool'
    return ('string' if 'bool' in sorts else 'int64') if sorts else None


def _sorts(array: pa.Array) -> dict[str, str]:
    """{sort of value: one such} of a column: 'int64' (0 and 1 alone), 'other_int', 'bool', 'fraction', 'string'."""
    found: dict[str, str] = {}
    if pa.types.is_boolean(array.type):
        return {'bool': str(array.drop_null()[0]).lower()} if array.null_count < len(array) else {}
    if pa.types.is_integer(array.type):
        low, high = pc.min_max(array).as_py().values()
        if low is None:
            return {}
        return {'int64': str(low)} if low >= 0 and high <= 1 else {'other_int': str(low if low < 0 else high)}
    words = pc.unique(array).drop_null()
    whole = pc.match_substring_regex(words, WHOLE)
    fits = pc.and_(whole, pc.less_equal(pc.utf8_length(words), 18))
    edge = words.filter(pc.and_(whole, pc.invert(fits)))  # 19 digits and more: some fit 64 bits
    if len(edge) and all(-(2**63) <= int(w) < 2**63 for w in edge.to_pylist()):
        fits = whole
    one = pc.is_in(words, value_set=pa.array(['0', '1']))
    boolean = pc.is_in(words, value_set=pa.array(['true', 'false']))
    fraction = pc.and_(pc.match_substring_regex(words, NUMBER), pc.match_substring(words, '.'))
    rest = pc.invert(pc.or_(pc.or_(fits, boolean), fraction))
    sorts = {'int64': pc.and_(fits, one), 'other_int': pc.and_(fits, pc.invert(one)), 'bool': boolean}
    for sort, where in {**sorts, 'fraction': fraction, 'string': rest}.items():
        some = words.filter(where)
        if len(some):
            found[sort] = some[0].as_py()
    return found


def as_kind(array: pa.Array, kind: str | None) -> pa.Array:
    """A `category` of one file as what its column is over all files: int64, bool or string [N]."""
    target = KINDS[kind or 'int64']
    if array.type == target:
        return array
    if kind == 'bool':  # 1 and 0, as numbers or as text, beside true and false
        text = array.cast(pa.string()) if not pa.types.is_string(array.type) else array
        return pc.if_else(pc.is_null(text), None, pc.is_in(text, value_set=pa.array(['1', 'true'])))
    if pa.types.is_string(array.type) and kind != 'string':
        array = by_word(array, lambda words: _ones(words).cast(pa.int64()))
    return array.cast(target)


def _ones(words: pa.Array) -> pa.Array:
    """true and false as 1 and 0."""
    words = pc.if_else(pc.equal(words, 'true'), '1', words)
    return pc.if_else(pc.equal(words, 'false'), '0', words)


def categories(array: pa.Array, where: str, nulls: Iterable[str] = NULL_WORDS) -> pa.Array:
    """A column that stands alone, a table at hand, as int64, bool or string [N]."""
    found, seen = category(array, where, nulls), {}
    seen_in(found, where, seen)
    return as_kind(found, kind_of(seen, None, where))


def whole_numbers(array: pa.Array, where: str, way_out: str = 'list it in data.numeric instead') -> pa.Array:
    """Floats as int64; NaN is null. Raises UserError at a fraction, or beyond 2^53, where floats skip numbers."""
    array = pc.if_else(pc.is_nan(array), pa.scalar(None, pa.float64()), array)
    odd = array.filter(pc.or_(pc.not_equal(array, pc.floor(array)), pc.greater(pc.abs(array), 2.0**53)))
    if len(odd):
        value = odd[0].as_py()
        if value == np.floor(value):
            raise UserError(
                f'{where} holds {value:.17g}, too large for an exact float, so its last digits are lost: write the '
                'column as whole numbers or as text (in pandas: dtype Int64), or take it out of data.fields'
            )
        raise UserError(f'{where} holds {value!r}, no whole number: {way_out}')
    return array.cast(pa.int64())


def numbers(array: pa.Array, where: str, key: str = 'data.numeric', csv: Mapping | None = None, nulls=NULL_WORDS):
    """A column as float64 [N]; NaN becomes null. Raises UserError where it does not hold numbers.

    Args: csv: `data.csv`, for how numbers are written in text.
    """
    kind = array.type
    if pa.types.is_null(kind):
        return array.cast(pa.float64())
    if is_text(kind):
        return _parsed(array, where, key, csv or {}, nulls)
    if pa.types.is_boolean(kind):
        array = array.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        shown = array.drop_null()
        value = shown[0].as_py() if len(shown) else str(kind)
        raise UserError(f'{where} is of type {kind} and holds {value!r}: it must hold numbers; correct it or {key}')
    array = array.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_nan(array), pa.scalar(None, pa.float64()), array)


def _parsed(words: pa.Array, where: str, key: str, csv: Mapping, nulls) -> pa.Array:
    """Text of a numeric column as float64; true and false are 1 and 0."""
    if pa.types.is_dictionary(words.type):
        return by_word(words, lambda different: _parsed(different, where, key, csv, nulls))
    words = without_null_words(pc.utf8_trim_whitespace(words.cast(pa.string())), nulls)
    usual = csv.get('decimal_point', '.') == '.' and not csv.get('thousands')
    if usual:
        try:
            found = words.cast(pa.float64())
            return pc.if_else(pc.is_nan(found), pa.scalar(None, pa.float64()), found)
        except pa.ArrowInvalid:
            pass  # true, false, or what is no number
    lower = pc.utf8_lower(words)
    plain = _ones(pc.if_else(pc.is_in(lower, value_set=pa.array(['true', 'false'])), lower, words))
    if thousands := csv.get('thousands'):
        plain = pc.replace_substring(plain, thousands, '')
    if (point := csv.get('decimal_point', '.')) != '.':
        odd = plain.filter(pc.match_substring(plain, '.'))
        if len(odd):
            raise UserError(f"{where} holds {odd[0].as_py()!r}, but data.csv.decimal_point is '{point}': correct it")
        plain = pc.replace_substring(plain, point, '.')
    try:
        found = plain.cast(pa.float64())
    except pa.ArrowInvalid:
        bad = next(a for a, b in zip(words.to_pylist(), plain.to_pylist()) if b is not None and not _is_number(b))
        raise UserError(
            f'{where} holds {bad!r}, no number: correct it or {key}, list it in data.null_words where it means '
            'missing, or set data.csv.decimal_point and data.csv.thousands'
        ) from None
    return pc.if_else(pc.is_nan(found), pa.scalar(None, pa.float64()), found)


def _is_number(word: str) -> bool:
    try:
        pa.array([word]).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def labels(
    array: pa.Array,
    label: Mapping,
    where: str,
    csv: Mapping | None = None,
    nulls=NULL_WORDS,
    key: str = 'data.label',
) -> pa.Array:
    """The label as float32 0 / 1, null where the log's is null; see `data.label`. key: of the config, for messages.

    Words are compared as `category` reads them, so 'True' in one file is 'true' in another, and true is 1.
    """
    if label['positive']:
        if pa.types.is_floating(array.type):  # 4.5, and 5.0 as 5
            array = pc.if_else(pc.is_nan(array), None, array).cast(pa.string())
        text = category(array, where, nulls).cast(pa.string())
        hit = by_word(text, lambda words: pc.is_in(_ones(words), value_set=positives(label)))
        return pc.if_else(pc.is_null(text), pa.scalar(None, pa.float32()), hit.cast(pa.float32()))
    if is_text(array.type) and label['threshold'] is None:
        words = category(array, where, nulls)
        odd = [w for w in pc.unique(words).drop_null().to_pylist() if w not in ('true', 'false') and not _is_number(w)]
        if odd:
            raise UserError(
                f'{where} holds {odd[0]!r}, a string: a label must be 0 or 1; name the values that count as 1 in '
                f'{key}.positive'
            )
    column = numbers(array, where, key, csv, nulls)
    if label['threshold'] is not None:
        return pc.greater_equal(column, float(label['threshold'])).cast(pa.float32())
    bad = column.filter(pc.and_(pc.not_equal(column, 0.0), pc.not_equal(column, 1.0)))
    if len(bad):
        raise UserError(f'{where} holds {bad[0].as_py():g}: a label must be 0 or 1; set {key}.threshold')
    return column.cast(pa.float32())


def positives(label: Mapping) -> pa.Array:
    """The words of `data.label.positive` as a column's are read."""
    return _ones(category(pa.array([str(value) for value in label['positive']]), 'data.label.positive', nulls=()))


def words_of(array: pa.Array, where: str, nulls=NULL_WORDS) -> set[str]:
    """The different words of a label's column, as `labels` compares them."""
    if pa.types.is_floating(array.type):
        array = array.cast(pa.string())
    return set(by_word(category(array, where, nulls).cast(pa.string()), _ones).unique().drop_null().to_pylist())
