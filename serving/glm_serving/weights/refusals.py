"""What the hub's client raises, as one sentence with a way out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

import httpx2
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)

from glm_serving.weights import reasons
from glm_serving.weights.errors import WeightsError, damaged, missing, of_the_disk

WHERE_TOKENS_GO = "put one that may read it as HF_TOKEN into the Secret of weights.secretRef"
NO_CONNECTION = (httpx2.HTTPError, httpx2.InvalidURL, ConnectionError, TimeoutError)
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked of the hub."""

    endpoint: str
    repository: str
    revision: str
    """Empty: the default branch."""
    token_given: bool
    file: str = ""


def explain(error: Exception, request: Request) -> WeightsError:
    """The reason and the sentence for an error of the client."""
    if isinstance(error, WeightsError):
        return error
    if isinstance(error, HfHubHTTPError):
        return _answered(error, request)
    if isinstance(error, NO_CONNECTION):
        return _unreachable(request, _words(error))
    if isinstance(error, HFValidationError):
        return _no_repository(request)
    if isinstance(error, OSError) and error.errno is not None:
        return of_the_disk(error, request.file)
    if isinstance(error, OSError):
        # The client's own comparison of lengths: it names both.
        return damaged(request.file, f"the hub sent another length ({_words(error)})")
    return _unreachable(request, f"its answer makes no sense ({_words(error)})")


def _answered(error: HfHubHTTPError, request: Request) -> WeightsError:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return _gated(request)
    if isinstance(error, RemoteEntryNotFoundError):
        return missing(request.file, f"hf://{request.repository}")
    if isinstance(error, RevisionNotFoundError):
        return _no_revision(request)
    if status in REFUSED:
        return _refused(request, status)
    if status == HTTPStatus.NOT_FOUND:
        return _no_repository(request)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return damaged(request.file, "the hub holds less of it than it says")
    return _unreachable(request, f"it answers HTTP {status}")


def _gated(request: Request) -> WeightsError:
    token = "the token given has not" if request.token_given else "no token was given that has"
    return WeightsError(
        reasons.TOKEN_REFUSED,
        f"hf://{request.repository} is gated, and {token} been let in: accept its licence at "
        f"{request.endpoint}/{request.repository}, and {WHERE_TOKENS_GO}.",
    )


def _refused(request: Request, status: int) -> WeightsError:
    if request.token_given:
        said = f"{request.endpoint} refuses the token for hf://{request.repository} (HTTP {status})"
        return WeightsError(reasons.TOKEN_REFUSED, f"{said}: {WHERE_TOKENS_GO}.")
    return WeightsError(
        reasons.TOKEN_REFUSED,
        f"{request.endpoint} shows hf://{request.repository} to nobody without a token, and none "
        f"was given: correct model.uri if there is no such repository, or {WHERE_TOKENS_GO}.",
    )


def _no_revision(request: Request) -> WeightsError:
    return WeightsError(
        reasons.CHECKPOINT_NOT_FOUND,
        f"hf://{request.repository} has no revision {json.dumps(request.revision)}: give a branch, "
        "tag or commit that it has in model.revision.",
    )


def _no_repository(request: Request) -> WeightsError:
    revision = f" with revision {json.dumps(request.revision)}" if request.revision else ""
    return WeightsError(
        reasons.CHECKPOINT_NOT_FOUND,
        f"{request.endpoint} has no repository {request.repository}{revision}: correct model.uri.",
    )


def _unreachable(request: Request, why: str) -> WeightsError:
    return WeightsError(
        reasons.HUB_UNREACHABLE,
        f"{request.endpoint} cannot be used now: {why}; let the cluster's network reach it, or "
        "name a mirror as HF_ENDPOINT in the Secret of weights.secretRef.",
        file=request.file,
    )


def _words(error: Exception) -> str:
    """The first line of what it says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
