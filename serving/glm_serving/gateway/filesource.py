"""Configuration from a file, read again when it changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from glm_serving.gateway import checking
from glm_serving.gateway.config import Config
from glm_serving.gateway.errors import ConfigError

log = logging.getLogger("glm_gateway")

Stamp = tuple[int, int, int]


class FileSource:
    """Watches one file by its time stamp, which also sees a ConfigMap volume being replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: Stamp | None = None

    def read(self) -> Config:
        """The configuration in the file.

        Raises:
            ConfigError: the file cannot be read or used.
        """
        self._seen = stamp_of(self.path)
        config, unknown = checking.read(self.path)
        for key in unknown:
            log.warning("%s", checking.unknown_sentence(self.path, key))
        return config

    async def follow(
        self,
        apply: Callable[[Config], None],
        refused: Callable[[ConfigError], None],
        seconds: float,
    ) -> None:
        """Look every `seconds` and hand over each new configuration; a bad one changes nothing."""
        while True:
            await asyncio.sleep(seconds)
            if stamp_of(self.path) == self._seen:
                continue
            try:
                config = self.read()
            except ConfigError as error:
                refused(error)
            else:
                log.info("configuration of generation %d from %s", config.generation, self.path)
                apply(config)


def stamp_of(path: Path) -> Stamp | None:
    """What changes when a file does; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
