"""A repository of the hub at one commit, through the hub's own client."""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import httpx2
from huggingface_hub import HfApi, constants, get_session, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from glm_serving.compat import override
from glm_serving.weights import reasons
from glm_serving.weights.errors import WeightsError, unreadable
from glm_serving.weights.files import File, needed
from glm_serving.weights.progress import Progress
from glm_serving.weights.refusals import Request, explain

SCHEME = "hf://"
PUBLIC_HUB = "https://huggingface.co"
ANSWER_SECONDS = 30.0
NONSENSE = (ValueError, TypeError, KeyError, AttributeError)
"""What the client raises where something else than a hub answers."""
# The client's 10 MiB would move the progress of a slow transfer once a minute.
constants.DOWNLOAD_CHUNK_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class Access:
    """Where the hub is and who asks."""

    endpoint: str
    token: str = ""

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> Access:
        """From HF_ENDPOINT and HF_TOKEN; GLM_HUB_ENDPOINT is the platform's choice behind them."""
        given = variables.get("HF_ENDPOINT") or variables.get("GLM_HUB_ENDPOINT") or PUBLIC_HUB
        return cls(given.rstrip("/"), variables.get("HF_TOKEN", "").strip())

    def require_sane_token(self) -> None:
        """Refuse what cannot stand in a header, before the client shows it in an error.

        Raises:
            WeightsError: TokenRefused.
        """
        if not re.fullmatch(r"[!-~]*", self.token):
            raise WeightsError(
                reasons.TOKEN_REFUSED,
                "HF_TOKEN in the Secret of weights.secretRef holds spaces or other characters "
                "that no token has: write the token alone into it.",
            )


class Repository:
    """A repository at the commit of a revision.

    Raises:
        WeightsError: the hub does not show it.
    """

    def __init__(self, repository: str, revision: str, access: Access) -> None:
        access.require_sane_token()
        self._asked = Request(access.endpoint, repository, revision, bool(access.token))
        self._access = access
        with self._explained():
            info = self._info()
        self.commit = str(info.sha)
        self.files = tuple(_file(each) for each in info.siblings or () if needed(each.rfilename))
        # Compressed answers have no length, and no place to go on from.
        headers = {"Accept-Encoding": "identity"}
        self._headers = build_hf_headers(token=access.token or False, headers=headers)

    @property
    def name(self) -> str:
        """As users write it."""
        return f"{SCHEME}{self._asked.repository}"

    def read(self, file: File, start: int, length: int) -> bytes:
        """Some bytes of a file, fewer where it ends before. Raises WeightsError."""
        headers = {**self._headers, "Range": f"bytes={start}-{start + length - 1}"}
        with self._explained(file.name), self._stream(file, headers) as response:
            hf_raise_for_status(response)
            # A server that knows no ranges begins at the first byte.
            skipped = 0 if response.status_code == httpx2.codes.PARTIAL_CONTENT else start
            return _take(response, skipped, length)

    def fetch(self, file: File, into: Path, progress: Progress, stop: threading.Event) -> None:
        """Write the file, going on from what is there of it. Raises WeightsError.

        `stop` ends it in the middle.
        """
        if file.bytes > constants.MAX_HTTP_DOWNLOAD_SIZE:
            raise unreadable(file.name, f"the hub gives no file of {file.bytes} bytes by HTTP")
        with self._explained(file.name), _Watched(into, progress, stop) as writer:
            http_get(
                self._url(file),
                cast("BinaryIO", writer),
                resume_size=writer.tell(),
                headers=self._headers,
                expected_size=file.bytes,
                displayed_filename=file.name,
            )

    def _info(self) -> ModelInfo:
        api = HfApi(self._access.endpoint, token=self._access.token or False)
        asked = self._asked
        return api.model_info(
            asked.repository,
            revision=asked.revision or None,
            files_metadata=True,
            timeout=ANSWER_SECONDS,
        )

    def _url(self, file: File) -> str:
        return hf_hub_url(
            self._asked.repository,
            file.name,
            revision=self.commit,
            endpoint=self._access.endpoint,
        )

    def _stream(self, file: File, headers: Mapping[str, Any]) -> Any:
        return get_session().stream(
            "GET", self._url(file), headers=dict(headers), timeout=ANSWER_SECONDS
        )

    @contextmanager
    def _explained(self, file: str = "") -> Iterator[None]:
        try:
            yield
        except (OSError, httpx2.HTTPError, httpx2.InvalidURL, *NONSENSE) as error:
            raise explain(error, replace(self._asked, file=file)) from error


def _file(sibling: RepoSibling) -> File:
    """What the hub tells of a file; a large one is known by its SHA-256, a small one as in Git."""
    if sibling.size is None:
        raise unreadable(sibling.rfilename, "the hub does not say how long it is")
    if sibling.lfs is not None:
        return File(sibling.rfilename, sibling.size, sha256=sibling.lfs.sha256)
    return File(sibling.rfilename, sibling.size, git_sha1=sibling.blob_id or "")


def _take(response: httpx2.Response, skipped: int, length: int) -> bytes:
    found = bytearray()
    for chunk in response.iter_bytes():
        found += chunk
        if len(found) >= skipped + length:
            break
    return bytes(found[skipped : skipped + length])


class Stopped(Exception):
    """Another file of the same copy failed, so this one need not come."""


class _Watched(io.BufferedWriter):
    """A file that grows at its end, tells its growth, and can be stopped."""

    def __init__(self, path: Path, progress: Progress, stop: threading.Event) -> None:
        super().__init__(cast("io.RawIOBase", path.open("ab", buffering=0)))
        self._progress = progress
        self._stop = stop

    @override
    def write(self, data: Any) -> int:
        if self._stop.is_set():
            raise Stopped
        self._progress.add(len(data))
        return super().write(data)

    @override
    def truncate(self, size: int | None = None) -> int:
        """The client begins again where a server knows no ranges."""
        before = os.fstat(self.fileno()).st_size
        after = super().truncate(size)
        self._progress.add(after - before)
        return after


def repository_of(source: str) -> str:
    """`organisation/name` of `hf://organisation/name`.

    Raises:
        WeightsError: CheckpointNotFound, it is no such address.
    """
    name = source.removeprefix(SCHEME)
    if name == source or name.count("/") != 1 or not all(name.split("/")):
        raise WeightsError(
            reasons.CHECKPOINT_NOT_FOUND,
            f"{source} names no repository: write model.uri as hf://organisation/name.",
        )
    return name
