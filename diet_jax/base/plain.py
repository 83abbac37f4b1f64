"""Config values as JSON can hold them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict


def plain(value: Any) -> Any:
    """Config values as JSON can hold them: dicts, lists, numbers, strings."""
    if isinstance(value, ConfigDict):
        value = {key: value[key] for key in value}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value  # np.int64(4) is 4


def changes(old, new, key: str = '') -> Iterator[tuple[str, Any, Any]]:
    """(key, old, new) wherever two nested dicts differ, apart from where the log lies."""
    if isinstance(old, dict) and isinstance(new, dict):
        for part in sorted(old.keys() | new.keys()):
            yield from changes(old.get(part), new.get(part), f'{key}.{part}' if key else part)
    elif old != new and key != 'data.root':
        yield key, old, new
