"""What kept results are kept under: a digest of all that they were computed from, the code included.

Inputs are declared; of the code whole packages count, so that a file that is split or added cannot be forgotten.
Comments, docstrings and layout do not count: a digest is of the syntax tree.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import CodeType
from typing import Any

LIBRARY = Path(__file__).resolve().parent.parent
LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy')  # whose versions count too


def key(inputs, packages: Iterable[str], root: Path = LIBRARY) -> str:
    """16 hexadecimal digits of some inputs and of the code that made results of them.

    Args:
      inputs: anything that JSON can hold, tuples as lists; packages: of this library, e.g. ('models', 'training');
      root: the folder of the library.

    >>> key({'lr': 0.1}, ['stats']) == key({'lr': 0.1}, ['stats']), key({'lr': 0.2}, ['stats']) == key({'lr': 0.1}, [])
    (True, False)
    """
    code = [code_digest(root / package) for package in sorted(packages)]
    text = json.dumps([inputs, code, _versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def code_digest(folder: Path) -> str:
    """Digest of all Python files in a folder and below it, by their names and what they do."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*.py')):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(meaning(path.read_text(encoding='utf-8')).encode())
    return digest.hexdigest()


def source_digest(of: Any, code: Iterable[CodeType]) -> str:
    """Digest of the file that a class or a function of the user's own is written in: 16 hexadecimal digits.

    Args: code: what it does, as compiled, which counts where it was typed in at a prompt.
    """
    try:
        text = meaning(Path(inspect.getsourcefile(of)).read_text(encoding='utf-8'))
    except (OSError, TypeError, SyntaxError):
        text = repr([one.co_code + repr(one.co_consts).encode() for one in code])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def meaning(source: str) -> str:
    """The syntax tree of a program without its docstrings, as text.

    >>> meaning('x = 1  # one') == meaning("'''Doc.'''\\nx = (1)"), meaning('x = 1') == meaning('x = 2')
    (True, False)
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, 'body', None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            if isinstance(body[0].value.value, str):
                del body[0]
    return ast.dump(tree)


@functools.cache
def _versions() -> list[str]:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f'{name} {version(name)}')
        except PackageNotFoundError:
            found.append(name)
    return found
