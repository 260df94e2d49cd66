"""What the hub says of a repository, in the JSON and headers of the real one.

As huggingface_hub 2.4 reads them: hf_api.py (ModelInfo, RepoSibling, RepoFile), file_download.py
(get_hf_file_metadata) and utils/_http.py (hf_raise_for_status).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from glm_dev.hub.repository import POINTER_BYTES, Access, Blob, Commit, Repository

INVALID_TOKEN = "Invalid credentials in Authorization header"


@dataclass(frozen=True)
class Refusal:
    """An answer without what was asked for."""

    status: HTTPStatus
    headers: dict[str, str] = field(default_factory=dict)


def refusal(status: HTTPStatus, code: str, message: str) -> Refusal:
    """A refusal in the hub's words."""
    named = {"X-Error-Code": code} if code else {}
    return Refusal(status, {**named, "X-Error-Message": message})


def no_repository(token: str) -> Refusal:
    """Without a token the real hub does not even say that there is none."""
    if token:
        return refusal(HTTPStatus.NOT_FOUND, "RepoNotFound", "Repository not found")
    return refusal(HTTPStatus.UNAUTHORIZED, "RepoNotFound", "Invalid username or password.")


def no_revision(revision: str) -> Refusal:
    """There is no such branch or commit."""
    return refusal(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")


def no_entry(name: str) -> Refusal:
    """There is no such file."""
    return refusal(HTTPStatus.NOT_FOUND, "EntryNotFound", f"Entry not found: {name}")


def gated(repository: Repository, token: str) -> Refusal:
    """Its licence is not accepted."""
    status = HTTPStatus.FORBIDDEN if token else HTTPStatus.UNAUTHORIZED
    return refusal(status, "GatedRepo", f"Access to model {repository.name} is restricted")


def refused(repository: Repository | None, token: str, known: frozenset[str]) -> Refusal | None:
    """Why the bearer does not see the repository at all; None: it does."""
    if token and token not in known:
        return refusal(HTTPStatus.UNAUTHORIZED, "", INVALID_TOKEN)
    if repository is None:
        return no_repository(token)
    if repository.access is Access.PRIVATE and not repository.open_to(token):
        return no_repository(token)
    return None


def model_info(repository: Repository, commit: Commit) -> dict[str, Any]:
    """`GET /api/models/...`."""
    return {
        "_id": commit.sha[:24],
        "id": repository.name,
        "modelId": repository.name,
        "sha": commit.sha,
        "private": repository.access is Access.PRIVATE,
        "gated": "manual" if repository.access is Access.GATED else False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [_sibling(blob) for blob in commit.blobs.values()],
    }


def _sibling(blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": blob.name, "size": blob.size, "blobId": blob.etag[:40]}
    if blob.large:
        lfs = {"sha256": blob.sha256, "size": blob.size, "pointerSize": POINTER_BYTES}
        return {**entry, "lfs": lfs}
    return entry


def tree(commit: Commit) -> list[dict[str, Any]]:
    """`GET /api/models/.../tree/...`, always with everything below."""
    return [_entry(blob) for blob in commit.blobs.values()]


def _entry(blob: Blob) -> dict[str, Any]:
    entry = {"type": "file", "path": blob.name, "size": blob.size, "oid": blob.etag[:40]}
    if blob.large:
        lfs = {"oid": blob.sha256, "size": blob.size, "pointerSize": POINTER_BYTES}
        return {**entry, "lfs": lfs}
    return entry


def file_headers(blob: Blob, commit: Commit) -> dict[str, str]:
    """What the hub itself says of a file; of a large one before it sends on to its store."""
    headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
    if blob.large:
        return {
            **headers,
            "X-Linked-Size": str(blob.size),
            "X-Linked-Etag": f'"{blob.etag}"',
        }
    return {**headers, "ETag": f'"{blob.etag}"'}
