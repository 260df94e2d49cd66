"""API keys from a file, read again when it changes."""

from __future__ import annotations

from pathlib import Path

from glm_serving.gateway.config import Auth
from glm_serving.gateway.errors import ConfigError
from glm_serving.gateway.filesource import Stamp, stamp_of
from glm_serving.gateway.keys import Entries, read_file


class KeysFile:
    """The keys file that the configuration names, watched by its time stamp."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[Path, Stamp | None] | None = None

    def first(self, auth: Auth) -> Entries | None:
        """The entries at the start, where keys are asked for.

        Raises:
            ConfigError: the file does not exist or cannot be read, or keys are elsewhere.
        """
        if auth.api_keys_secret:
            raise ConfigError(
                f"auth.apiKeysSecret is {auth.api_keys_secret!r}: without Kubernetes use"
                " auth.keysFile"
            )
        found = self.changed(auth)
        if found is not None and found.ring is None:
            raise ConfigError(found.troubles[0])
        return found

    def changed(self, auth: Auth) -> Entries | None:
        """The entries, if the file or its name is another than at the last call.

        A file that is gone has no entries.

        Raises:
            ConfigError: the file cannot be read.
        """
        if not auth.keys_file:
            self._seen = None
            return None
        path = self._folder / auth.keys_file
        stamp = stamp_of(path)
        if (path, stamp) == self._seen:
            return None
        self._seen = (path, stamp)
        if stamp is None:
            return Entries(None, (f"auth.keysFile {path} does not exist: no key is valid",))
        try:
            return read_file(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"auth.keysFile {path} cannot be read: {error.strerror}") from error
        except ConfigError as error:
            raise ConfigError(f"auth.keysFile {path}: {error}") from error
