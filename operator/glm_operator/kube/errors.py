"""What can go wrong between us and the API server, in words of our own."""

from __future__ import annotations

import json
from collections.abc import Mapping


class KubeError(Exception):
    """A call to the API server failed. The text is one sentence that may be shown to a user."""

    def __init__(self, sentence: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        """HTTP status, 0 when there was no answer."""
        self.retry_after = retry_after
        """Seconds that the server asked us to wait."""


class NotFoundError(KubeError):
    """The object does not exist (any more)."""


class AlreadyExistsError(KubeError):
    """An object of that name exists."""


class ConflictError(KubeError):
    """The object is not the one that was meant: another uid, or changed since it was read."""


class RefusedError(KubeError):
    """The server understood and said no: quota, admission, schema or rights."""


class SuccessorRefusedError(RefusedError):
    """The server would not create the pod for which another one was to go."""


class ExpiredError(KubeError):
    """The resource version is too old for a watch or a continued list: list again."""


class UnavailableError(KubeError):
    """No answer, an overloaded or failing server, or expired credentials: try again later."""


class LeaseLostError(KubeError):
    """This process is no longer the one that may write."""


class CapacityGoneError(KubeError):
    """The GPUs that the plan counted on are no longer free."""


class ForeignObjectError(KubeError):
    """A child's name is taken by an object that is not ours."""


EXCEEDED_QUOTA = "exceeded quota: "
"""In the server's sentence when a quota is what refuses an object."""
RETRIABLE = (UnavailableError,)
"""Failures after which the same call may be made again at once."""

_BY_STATUS: dict[int, type[KubeError]] = {
    400: RefusedError,
    401: UnavailableError,
    403: RefusedError,
    404: NotFoundError,
    405: RefusedError,
    409: ConflictError,
    410: ExpiredError,
    413: RefusedError,
    415: RefusedError,
    422: RefusedError,
}


def from_response(
    what: str, status: int, body: bytes | str | None, headers: Mapping[str, str]
) -> KubeError:
    """The error of one answered call. `what` names the call, as in `create Pod ml/vision-0`."""
    answer = _status_object(body)
    kind = _BY_STATUS.get(status, UnavailableError)
    if status == 409 and answer.get("reason") == "AlreadyExists":
        kind = AlreadyExistsError
    if status == 422 and _is_about_uid(answer):
        # A patch that names another uid is refused as a change of an immutable field.
        kind = ConflictError
    message = str(answer.get("message") or f"HTTP status {status}")
    return kind(
        f"{what}: {message}", status=status, retry_after=_seconds(headers.get("Retry-After"))
    )


def from_watch(what: str, answer: Mapping[str, object]) -> KubeError:
    """The error that a watch stream ended with; `answer` is the Status object of the event."""
    code = answer.get("code")
    return from_response(what, code if isinstance(code, int) else 0, json.dumps(answer), {})


def _status_object(body: bytes | str | None) -> Mapping[str, object]:
    """The server's Status object, empty when the body is something else (a proxy's page)."""
    try:
        answer = json.loads(body or "{}")
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _is_about_uid(answer: Mapping[str, object]) -> bool:
    details = answer.get("details")
    causes = details.get("causes") if isinstance(details, Mapping) else None
    return any(
        isinstance(cause, Mapping) and cause.get("field") == "metadata.uid"
        for cause in causes or ()
    )


def _seconds(text: str | None) -> float | None:
    """Retry-After as seconds; its date form is not used by the API server."""
    return float(text) if text is not None and text.isdecimal() else None
