"""Eight fake CPU devices for every test, asked for before jax is imported; and where the real logs are."""

import atexit
import gc
import os
import pathlib
import shutil
import tempfile

_DEVICES = '--xla_force_host_platform_device_count'
if _DEVICES not in os.environ.get('XLA_FLAGS', ''):
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {_DEVICES}=8'.strip()
os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # JAX_PLATFORMS=cuda,cpu runs the same tests on a GPU
os.environ.setdefault('DIET_FSYNC', '0')  # nobody pulls the plug: a sync a file would cost minutes
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # XLA's notes about the CPU at hand are not ours
# Most of the time of a test is XLA's. Its optimizer does little, and what one process has compiled no other compiles:
# pytest's workers and the commands that tests run have this environment from the first process.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.05')
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='diet-jax-tests-')
    atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)

import pytest  # noqa: E402

_REPO = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def data_root() -> pathlib.Path:
    """The folder of the real logs (`kuairand/`, ...); without one, a test that asks for it is skipped."""
    root = pathlib.Path(os.environ.get('DIET_DATA', _REPO.parent / 'shared' / 'data'))
    if not root.is_dir():
        pytest.skip(f'no real logs at {root}: DIET_DATA names the folder that holds kuairand/')
    return root


@pytest.fixture(scope='session')
def distilled(tmp_path_factory) -> pathlib.Path:
    """A finished workdir of the tiny run (tests/tiny.py): to be read, or copied."""
    import tiny

    workdir = tmp_path_factory.mktemp('tiny') / 'run'
    tiny.distill(workdir)
    return workdir


@pytest.fixture(scope='module', autouse=True)
def few_programs():
    """Drops compiled programs before Linux drops the process: it grants 65,530 memory maps, a program takes dozens."""
    yield
    maps = pathlib.Path('/proc/self/maps')
    if maps.exists() and len(maps.read_bytes().splitlines()) > 20_000:
        import jax

        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope='module')
def healthy(tmp_path_factory):
    """What is true of the little log of `quirky`, plainly written."""
    import quirky

    root = tmp_path_factory.mktemp('healthy')
    for d, columns in enumerate(quirky.days()):
        quirky.csv(root / 'log', d, columns)
    found = quirky.facts(quirky.data_of(root / 'log'), root / 'w')
    assert found.rows == [quirky.ROWS] * quirky.DAYS and found.values == {
        'user': quirky.USERS,
        'item': quirky.ITEMS,
        'city': 3,
        'x': 4,
    }
    assert 'read as whole numbers: item, user' in found.said and 'read as text: city' in found.said
    return found
