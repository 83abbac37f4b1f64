"""What a run meets from outside: other processes, damage, no room. It ends right, or in one line, and never wrong."""

import os
import socket
import subprocess
import sys

import pytest
import tiny
from tiny import contents

from diet_jax.base import lock
from diet_jax.base.errors import UserError


def test_two_writers(distilled):
    """The second one is told who the first is, and touches nothing."""
    with lock.held(distilled):
        before = contents(distilled)
        who = rf'another process, process {os.getpid()} on {socket.gethostname()} since \d{{4}}-'
        with pytest.raises(UserError, match=f'{distilled} is being written by {who}'):
            tiny.distill(distilled)
        assert contents(distilled) == before
    assert tiny.distill(distilled).done == 4 and not (distilled / 'lock').exists()


def test_a_lock_ends_with_its_process_and_an_unused_folder_with_the_lock(tmp_path):
    folder = tmp_path / 'a' / 'run'
    with lock.held(folder):
        assert folder.is_dir()
    assert not folder.parent.exists()
    killed = 'import os, pathlib\nfrom diet_jax.base import lock\n'
    killed += f'with lock.held(pathlib.Path({str(folder)!r})): os._exit(9)'
    assert subprocess.run([sys.executable, '-c', killed]).returncode == 9
    assert (folder / 'lock').exists()
    with lock.held(folder):
        (folder / 'memory').mkdir()
    assert os.listdir(folder) == ['memory']
