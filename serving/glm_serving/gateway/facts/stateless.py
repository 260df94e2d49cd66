"""What a stateless `/v1/responses` cannot do: go on from something that a server stored."""

from __future__ import annotations

import msgspec

from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts.decoding import Scalar, flag
from glm_serving.gateway.reasons import INVALID_REQUEST

_ABSENT = msgspec.Raw(b"null")


class Stateful(msgspec.Struct):
    """The fields of a response that refer to what is stored. `store` alone refers to nothing."""

    previous_response_id: msgspec.Raw = _ABSENT
    conversation: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    background: Scalar = None


def check_stateless(request: Stateful) -> None:
    """Refuse what would need a memory that gateways and engines do not have.

    Raises:
        Refusal: the request goes on from a stored response, conversation or prompt, or would run
            in the background.
    """
    for name in ("previous_response_id", "conversation", "prompt"):
        if getattr(request, name) != _ABSENT:
            raise not_stored(name)
    if flag(request.background):
        raise not_stored("background", "an answer is sent once and not stored")


def not_stored(name: str, why: str = "nothing is stored here") -> Refusal:
    """The refusal of a field that refers to what is stored."""
    message = f"{name} cannot be served, for {why}: send the whole input, and wait for the answer"
    return Refusal(INVALID_REQUEST, message, name)
