"""The one exception of building images and engines."""

from __future__ import annotations


class BuildError(RuntimeError):
    """Something cannot be built here; the message says why and what to do about it."""
