"""How the C library keeps the memory of bodies that are done with."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
"""Numbers of the parameters in glibc's malloc.h."""
LARGE_BYTES = 32 * 1024 * 1024
"""Blocks from this size on are mapped one by one and returned at once; glibc allows no more."""
SPARE_BYTES = 64 * 1024 * 1024
"""Free memory at the end of the heap above which it is returned to the system."""


def keep_freed_memory() -> bool:
    """Let the next body have the memory of the last, instead of new pages from the kernel.

    By default each body of a megabyte is mapped, cleared and unmapped again page by page, which
    costs as much as reading and sending it. False where the C library is not glibc: nothing is
    changed then.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES) and mallopt(_M_TRIM_THRESHOLD, SPARE_BYTES))
