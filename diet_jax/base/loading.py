"""Config files: Python programs found by their path, in the present folder or among those that the library brings."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

_LIBRARY = Path(__file__).resolve().parent.parent  # of diet_jax
# A wheel brings the configs inside the package; in a checkout they lie beside it.
BROUGHT = _LIBRARY / 'configs' if (_LIBRARY / 'configs').is_dir() else _LIBRARY.parent / 'configs'


def found(path: str | Path) -> str:
    """A path as it is, or that of the library's own file of the same name where there is none: `configs/demo.py`.

    >>> found('configs/demo.py').endswith('configs/demo.py'), found('mine.py')
    (True, 'mine.py')
    """
    given = Path(path)
    if (
        not given.exists()
        and given.parts[:1] == ('configs',)
        and (brought := BROUGHT.joinpath(*given.parts[1:])).exists()
    ):
        return str(brought)
    return str(path)


def load_module(path: str | Path) -> ModuleType:
    """The module of a Python file anywhere: how a sweep file takes `get_config` from a config file beside it."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, found(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def absolute(path: str) -> str:
    """A path that means the same in every folder; '' and URIs as they are."""
    return str(Path(found(path)).expanduser().absolute()) if path and '://' not in path else path
