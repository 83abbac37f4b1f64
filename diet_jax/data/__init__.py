"""Log files, or a simulated stream, to encoded blocks."""

from diet_jax.data.prepared import Block, BlockInfo, EncodedStream
from diet_jax.data.stream import open_stream

__all__ = ['Block', 'BlockInfo', 'EncodedStream', 'open_stream']
