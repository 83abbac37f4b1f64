"""What all commands share: one clear line for a mistake, one place for compiled programs, configs that are found."""

from __future__ import annotations

import errno
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import ConfigDict

from diet_jax.base import signals
from diet_jax.base.errors import UserError
from diet_jax.base.loading import found

TENSORBOARD = 'Figures as TensorBoard scalars too, in tensorboard/ beside the report.'
FAILED = 3  # exit code where all went well and a check of the result did not; 2 is a user's error


def start(main: Callable[[list[str]], int | None], define: Callable[[], None], text: str, words: bool = False) -> None:
    """Runs an absl main, what it returns is the exit code; a `UserError` or a wrong flag becomes `error: <line>` on
    stderr and exit code 2.

    Args: define: defines the command's flags; text: what --help shows above them; words: whether it takes words that
      are no flags.
    """
    signals.end_at_once()
    program = sys.modules['__main__']
    program.__doc__ = program.__doc__ or text
    command()  # as it was typed
    sys.argv[:] = _brought(sys.argv)
    before = set(flags.FLAGS)
    define()
    for name in set(flags.FLAGS) - before:  # --help shows those of the program
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    logging.set_verbosity(logging.ERROR)
    sys.stdout.reconfigure(line_buffering=True)  # progress is seen at once, also through a pipe
    try:
        app.run(_guarded(main, words), flags_parser=_parse)
    except KeyboardInterrupt as stop:  # of `signals.raised`
        signals.end(*stop.args)


_TYPED: list[str] = []


def command() -> str:
    """The command that runs now, as a user would type it."""
    if not _TYPED:
        program = sys.argv[0]
        if program.endswith(os.path.join('commands', os.path.basename(program))):  # python -m, of a sweep's point
            words = ['python', '-m', f'diet_jax.commands.{os.path.basename(program).removesuffix(".py")}']
        else:
            words = ['python', program] if program.endswith('.py') else [os.path.basename(program)]
        _TYPED[:] = [*words, *sys.argv[1:]]
    return shlex.join(_TYPED)


def _brought(argv: list[str]) -> list[str]:
    """Arguments in which a --config that the library brings, and the present folder has not, is where it lies."""
    words = list(argv)
    for i, word in enumerate(words):
        name, equals, value = word.lstrip('-').partition('=')
        if word.startswith('-') and name == 'config' and (equals or i + 1 < len(words)):
            path, colon, arg = (value if equals else words[i + 1]).partition(':')
            words[i if equals else i + 1] = ('--config=' if equals else '') + found(path) + colon + arg
    return words


def _guarded(main, words: bool):
    def guarded(argv):
        if len(argv) > 1 and not words:
            _stop(f"'{argv[1]}' is not a flag: flags begin with --")
        try:
            return main(argv)
        except UserError as error:
            _stop(error)
        except OSError as error:  # no permission, no space; it names the file
            _stop(_of_system(error))
        except Exception:
            if not _among_others():
                raise
            traceback.print_exc()  # one of several processes: raised, it would wait for the others, and they for it
            _exit(1)

    return guarded


def _of_system(error: OSError) -> str:
    """What the system refused, and the way out."""
    ways = {
        errno.ENOSPC: 'make room, and run the same command again to go on',
        errno.EDQUOT: 'make room, and run the same command again to go on',
        errno.EROFS: 'it may only be read: name another folder (--workdir, --to, --out)',
        errno.EACCES: 'its permissions forbid it: change them, or name another folder (--workdir, --to, --out)',
    }
    way = ways.get(error.errno)
    return f'{error.filename}: {error.strerror}: {way}' if way and error.filename else str(error)


def _parse(argv):
    try:
        rest = flags.FLAGS(argv)
        _check_flags()
        return rest
    except UserError as error:
        _stop(error)
    except flags.Error as error:
        _stop(_in_config(_config_path(argv), error) or error)
    except Exception as error:  # a config file is a program: whatever it raises is the user's to see, in one line
        _stop(_located(argv, error))


def _check_flags() -> None:
    """What flags accept and a run cannot use."""
    values = flags.FLAGS.flag_values_dict()
    if values.get('workdir') == '':
        raise UserError('--workdir is empty: name the folder of the run')
    if values.get('config') is not None and not isinstance(flags.FLAGS.config, ConfigDict):
        path = flags.FLAGS['config'].config_filename.partition(':')[0]
        if not os.path.exists(path):
            raise UserError(f'--config={path}: there is no such file')
        raise UserError(f'--config={path}: its get_config() must return a ConfigDict')


def _located(argv, error) -> str:
    """An error as one line that begins with the config file and its line, or with the flag."""
    path, said = _config_path(argv), _said(error)
    if isinstance(error, SyntaxError):
        return f'{error.filename} line {error.lineno}: {error.msg}'
    if line := _in_config(path, error):
        return line
    for arg in argv[1:]:
        key = arg.partition('=')[0].lstrip('-')
        if key.startswith('config.') and key.rpartition('.')[2] in said:
            if not isinstance(error, (AttributeError, KeyError)):
                return f'{arg}: {said}'
            near = re.search(r'Did you mean "(\w+)"', said)
            hint = f" (did you mean '{near[1]}'?)" if near else ''
            return f"{arg}: the config has no key '{key.rpartition('.')[2]}'{hint}"
    if path and not os.path.exists(path):
        return f'--config={path}: there is no such file'
    return f'--config={path}: {said}' if path else said


def _in_config(path: str, error) -> str:
    """What an error that arose in the config file says, with its line; '' if it arose elsewhere."""
    while error is not None:  # absl wraps some of them
        frames = [f for f in traceback.extract_tb(error.__traceback__) if path and f.filename.endswith(path)]
        if frames:
            return f'{path} line {frames[-1].lineno}: {type(error).__name__}: {_said(error)}'
        error = error.__cause__ or error.__context__
    return ''


def _config_path(argv) -> str:
    for i, arg in enumerate(argv[1:], 1):
        name, equals, value = arg.lstrip('-').partition('=')
        if name == 'config':
            return (value if equals else ''.join(argv[i + 1 : i + 2])).partition(':')[0]
    return ''


def _said(error) -> str:
    return error.args[0] if error.args and isinstance(error.args[0], str) else str(error)


def _stop(error) -> None:
    print('error: ' + ' '.join(str(error).split()), file=sys.stderr)
    _exit(2)


def _exit(code: int) -> None:
    """Ends the process; one of several at once: a tidy exit would wait for the others, and they for this one."""
    if _among_others():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _among_others() -> bool:
    """Whether this process has joined others; JAX is not started to know."""
    return 'jax' in sys.modules and sys.modules['jax'].distributed.is_initialized()
