"""What all launchers share: one clear line for a mistake, and the compilation cache."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable

import jax
from absl import app, flags, logging

from diet_jax.errors import UserError, closest


def run(main: Callable[[list[str]], None]) -> None:
    """Runs an absl main; a `UserError` or a wrong flag becomes `error: <line>` on stderr and exit code 2."""
    logging.set_verbosity(logging.ERROR)
    try:
        app.run(_guarded(main), flags_parser=_parse)
    except UserError as error:
        _stop(error)


def command() -> str:
    """The command that runs now, as a user would type it."""
    return shlex.join(['python', *sys.argv])


def _guarded(main):
    def guarded(argv):
        if len(argv) > 1:
            _stop(f"'{argv[1]}' is not a flag: flags begin with --")
        cache = os.path.join(os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache')), 'diet-jax', 'xla')
        if not jax.config.jax_compilation_cache_dir:
            os.makedirs(cache, mode=0o700, exist_ok=True)
            jax.config.update('jax_compilation_cache_dir', cache)
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
        try:
            main(argv)
        except UserError as error:
            _stop(error)
        except KeyboardInterrupt:
            print('interrupted: run the same command again to go on', file=sys.stderr)
            sys.exit(130)

    return guarded


def _parse(argv):
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _stop(error)
    except (AttributeError, KeyError, ValueError, TypeError, OSError) as error:
        # ml_collections: a key that the config does not have, a value of another type, a file that is not there
        _stop(f'{_flag(argv, error)}: {error}')


def _flag(argv, error) -> str:
    text = str(error)
    for arg in argv[1:]:
        key = arg.split('=')[0].lstrip('-')
        if key.startswith('config.') and key.split('.')[-1] in text:
            return arg
    return next((a for a in argv[1:] if a.startswith('--config')), 'the command line')


def _stop(error) -> None:
    print('error: ' + ' '.join(str(error).split()), file=sys.stderr)
    sys.exit(2)


__all__ = ['run', 'command', 'closest']
