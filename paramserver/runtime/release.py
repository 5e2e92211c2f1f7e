"""What two processes must have in common to understand each other."""

from __future__ import annotations

import platform

import paramserver


def release() -> str:
    """Return the versions that pickles and protocol depend on, as one string."""
    return f"paramserver {paramserver.__version__}, Python {platform.python_version()}"
