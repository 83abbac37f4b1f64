"""What Arrow parses, such that a process can end at any time after.

Arrow parses in threads of its own. One that lets go of a Python object while Python ends has the process killed
(SIGABRT), or waits forever (apache/arrow issues 34314, 50482). So bytes are copied, and Python streams are waited for.
"""

import atexit
import io
import time
import weakref

import numpy as np
import pyarrow as pa

PATIENCE = 5.0  # seconds, at most, that the end of a process waits

_LENT: weakref.WeakSet[io.RawIOBase] = weakref.WeakSet()


def source(data: bytes) -> pa.BufferReader:
    """Bytes to be parsed, in memory that is Arrow's own."""
    buffer = pa.allocate_buffer(len(data))
    np.frombuffer(buffer, np.uint8)[:] = np.frombuffer(data, np.uint8)
    return pa.BufferReader(buffer)


def stream(file: io.RawIOBase) -> pa.PythonFile:
    """A Python file to be parsed. The process does not end before Arrow has let go of it."""
    _LENT.add(file)
    return pa.PythonFile(file, 'r')


@atexit.register
def _wait() -> None:
    end = time.monotonic() + PATIENCE
    while _LENT and time.monotonic() < end:
        time.sleep(0.001)
