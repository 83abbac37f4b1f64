"""What tests that start commands share."""

import os


def one_device(**more: str) -> dict[str, str]:
    """The environment of a command that sees one CPU device, as most machines have."""
    flags = [flag for flag in os.environ.get('XLA_FLAGS', '').split() if 'device_count' not in flag]
    return {**os.environ, 'XLA_FLAGS': ' '.join(flags), **more}
