"""Names and lengths of messages and responses; their content is not yet looked into."""

from __future__ import annotations

import re

import msgspec

from glm_serving.gateway.bodies import Body, check_text
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts.decoding import Scalar, count, decode, flag
from glm_serving.gateway.facts.estimate import CHARS_PER_TOKEN
from glm_serving.gateway.facts.model import Facts
from glm_serving.gateway.facts.stateless import Stateful, check_stateless
from glm_serving.gateway.reasons import MEDIA_URL_NOT_ALLOWED

_REMOTE = re.compile(rb'"(?:url|image_url|file_url)"\s*:\s*"(?!data:)')


class _Message(msgspec.Struct):
    model: str
    stream: Scalar = None
    max_tokens: Scalar = None


class _Response(Stateful, kw_only=True):
    model: str
    stream: Scalar = None
    max_output_tokens: Scalar = None


_message_decoder = msgspec.json.Decoder(_Message)
_response_decoder = msgspec.json.Decoder(_Response)


def of_messages(body: Body) -> Facts:
    """Facts of an Anthropic message.

    Raises:
        Refusal: the body is malformed, or carries media by URL.
    """
    request = decode(_message_decoder, body)
    return _facts(body, request.model, request.stream, request.max_tokens)


def of_responses(body: Body) -> Facts:
    """Facts of a response.

    Raises:
        Refusal: the body is malformed, needs what is not stored, or carries media by URL.
    """
    request = decode(_response_decoder, body)
    check_stateless(request)
    return _facts(body, request.model, request.stream, request.max_output_tokens)


def _facts(body: Body, model: str, stream: Scalar, max_tokens: Scalar) -> Facts:
    check_text(body, (), ("model", "messages", "input"))
    if _REMOTE.search(body):
        raise Refusal(
            MEDIA_URL_NOT_ALLOWED, "the gateway allows no media by URL; send the bytes inline"
        )
    return Facts(
        model=model,
        stream=flag(stream),
        text_chars=len(body),
        prompt_tokens=round(len(body) / CHARS_PER_TOKEN),
        max_tokens=count(max_tokens),
    )
