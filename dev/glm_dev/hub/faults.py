"""What can be wrong with a hub, switched on by tests while it runs."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Faults:
    """All off at first. Files are named as in the repository, whichever repository it is."""

    bytes_per_second: int = 0
    """Of each connection; 0: as fast as it goes."""
    unavailable: int = 0
    """How many of the next requests get 503; -1: all."""
    cut_after: dict[str, int] = field(default_factory=dict)
    """File -> bytes after which each transfer of it breaks."""
    hold_after: dict[str, int] = field(default_factory=dict)
    """File -> place at which its transfer stands still until `release` is set."""
    corrupt: Counter[str] = field(default_factory=Counter)
    """File -> how many of its next transfers change one byte in the middle."""
    truncate: dict[str, int] = field(default_factory=dict)
    """File -> bytes that the store still has of it, while the listing tells its whole size."""
    no_ranges: bool = False
    """Every transfer begins at the first byte, whatever was asked for."""
    gone: set[str] = field(default_factory=set)
    """Files that the listing names and the store lacks."""
    held: threading.Event = field(default_factory=threading.Event)
    """Set as soon as a transfer stands still."""
    release: threading.Event = field(default_factory=threading.Event)


@dataclass
class Served:
    """What the hub has given out."""

    bytes: Counter[str] = field(default_factory=Counter)
    """File -> bytes of its content, of all transfers."""
    transfers: Counter[str] = field(default_factory=Counter)
    """File -> transfers that began at its first byte."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Range of each request."""
    bearers: set[tuple[str, str]] = field(default_factory=set)
    """Each host that was asked, with the token it was shown."""
