"""What a user can get wrong, said in one line."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a config, a command or a file.

    The message is one line that names the file, the column, the value and the way out. Scripts print it as
    `error: <line>` and exit with code 2, without a traceback.
    """

    def __init__(self, message: str):
        super().__init__(' '.join(str(message).split()))


def closest(name: str, options: Iterable[str]) -> str:
    """A hint for a misspelt name: " (did you mean 'x'?)", or the first options there are.

    >>> closest('user', ['user_id', 'tab'])
    " (did you mean 'user_id'?)"
    """
    options = [str(option) for option in options]
    match = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    if match:
        return f" (did you mean '{match[0]}'?)"
    shown = ', '.join(options[:12]) + (', ...' if len(options) > 12 else '')
    return f' (there are: {shown})' if options else ''
