"""The life of a copy: one Job at a time, resumed, verified, then complete at once.

`fetching/<key>` holds what came so far, a file that is not whole as `<name>.partial`; a rename
makes it `weights/<key>`.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from glm_serving.weights import reasons
from glm_serving.weights.disk import Free, free_bytes, locked, require_space, settle
from glm_serving.weights.errors import WeightsError, of_the_disk
from glm_serving.weights.files import MARKER, Checkpoint, File, require_whole
from glm_serving.weights.folder import Folder
from glm_serving.weights.inspect import read_checkpoint
from glm_serving.weights.marker import Marker, complete
from glm_serving.weights.patience import Patience
from glm_serving.weights.progress import Progress, Stage
from glm_serving.weights.verify import verify

TRANSFERS = 4
"""Files that come side by side; each is verified while the next ones come."""
COMMIT_LENGTH = 12
PARTIAL = ".partial"
log = logging.getLogger(__name__)


class Source(Checkpoint, Protocol):
    """A checkpoint that can be copied."""

    def fetch(self, file: File, into: Path, progress: Progress, stop: threading.Event) -> None:
        """Write a file, going on from what is there of it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one copy lives."""

    into: Path
    key: str

    @property
    def final(self) -> Path:
        """The complete copy."""
        return self.into / "weights" / self.key

    @property
    def partial(self) -> Path:
        """What came so far."""
        return self.into / "fetching" / self.key

    @property
    def lock(self) -> Path:
        """Held by the Job that fetches."""
        return self.into / "fetching" / f"{self.key}.lock"


def checkpoint_key(repository: str, commit: str) -> str:
    """Name of the folder of a copy; the operator computes the same."""
    return f"{repository.replace('/', '--')}--{commit[:COMMIT_LENGTH]}"


@dataclass(frozen=True, slots=True)
class Copier:
    """Brings one checkpoint to one place."""

    place: Place
    commit: str
    open: Callable[[], Source]
    """Asks the hub what there is; only called where the copy is not complete."""
    progress: Progress
    patience: Patience
    free: Free = free_bytes

    def run(self) -> Mapping[str, Any]:
        """Bring it, or find it complete; returns its facts. Raises WeightsError or OSError."""
        self.place.lock.parent.mkdir(parents=True, exist_ok=True)
        self.place.final.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.place.lock, lambda: self.progress.enter(Stage.WAITING)):
            return self._found() or self._bring()

    def _found(self) -> Mapping[str, Any] | None:
        """The facts of a complete copy; None: it must be fetched, or mended."""
        if complete(self.place.final) is None:
            return None
        try:
            return read_checkpoint(Folder(self.place.final), self.commit)
        except WeightsError as error:
            log.warning("%s Fetching it again.", error)
            return None

    def _bring(self) -> Mapping[str, Any]:
        self.progress.enter(Stage.READING)
        source = self.patience(self.open)
        require_whole([file.name for file in source.files], source.name)
        self._begin(source.files)
        try:
            self._fetch_all(source)
            return self._complete(source)
        except (WeightsError, OSError) as error:
            if _is_full(error):
                # Everybody on the node suffers from a full disk, so the room is given back.
                shutil.rmtree(self.place.partial, ignore_errors=True)
            raise

    def _begin(self, files: Collection[File]) -> None:
        """Take up what is there, and see that the rest has room before its first byte."""
        if self.place.final.is_dir():
            # Engines that have it mounted keep the same folder: it comes back with another name.
            shutil.rmtree(self.place.partial, ignore_errors=True)
            self.place.final.rename(self.place.partial)
        self.place.partial.mkdir(exist_ok=True)
        _remove_others(self.place.partial, files)
        present = sum(_present(self.place.partial, file) for file in files)
        total = sum(file.bytes for file in files)
        require_space(self.place.partial, total - present, self.free)
        self.progress.expect(total, present)

    def _fetch_all(self, source: Source) -> None:
        stop = threading.Event()
        with ThreadPoolExecutor(TRANSFERS) as pool:
            running = [pool.submit(self._fetch, source, file, stop) for file in source.files]
            try:
                _raise_first(running)
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)

    def _fetch(self, source: Source, file: File, stop: threading.Event) -> None:
        """Bring one file; what turns out damaged is fetched from its first byte once more."""
        try:
            self._bring_file(source, file, stop)
        except WeightsError as error:
            if error.reason != reasons.FILE_DAMAGED:
                raise
            log.warning("%s Fetching it again.", error)
            self._discard(file)
            self._bring_file(source, file, stop)
        log.info("%s is here and verified", file.name)

    def _bring_file(self, source: Source, file: File, stop: threading.Event) -> None:
        whole, growing = _both(self.place.partial, file)
        self.progress.work_on(file.name)
        if whole.is_file():
            verify(whole, file)
            return
        self.patience(lambda: source.fetch(file, growing, self.progress, stop))
        verify(growing, file)
        settle(growing)
        growing.rename(whole)

    def _discard(self, file: File) -> None:
        self.progress.add(-_present(self.place.partial, file))
        for path in _both(self.place.partial, file):
            path.unlink(missing_ok=True)

    def _complete(self, source: Source) -> Mapping[str, Any]:
        partial, final = self.place.partial, self.place.final
        self.progress.enter(Stage.VERIFYING)
        facts = read_checkpoint(Folder(partial), self.commit)
        marker = Marker(source.name, self.commit, tuple(source.files))
        (partial / MARKER).write_text(marker.to_text())
        settle(partial / MARKER)
        settle(partial)
        partial.rename(final)
        settle(final.parent)
        return facts


def _is_full(error: WeightsError | OSError) -> bool:
    known = error if isinstance(error, WeightsError) else of_the_disk(error)
    return known.reason == reasons.DISK_TOO_SMALL


def _both(folder: Path, file: File) -> tuple[Path, Path]:
    """A file under the name of a whole one, and of a growing one."""
    return folder / file.name, folder / f"{file.name}{PARTIAL}"


def _present(folder: Path, file: File) -> int:
    """Bytes of a file that are there already."""
    return sum(path.stat().st_size for path in _both(folder, file) if path.is_file())


def _remove_others(folder: Path, files: Iterable[File]) -> None:
    """Remove what is no part of the copy, and what grew longer than it should."""
    known = {path.name: file for file in files for path in _both(folder, file)}
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in known or path.stat().st_size > known[path.name].bytes:
            path.unlink()


def _raise_first(running: Iterable[Future[None]]) -> None:
    for done in as_completed(running):
        done.result()
