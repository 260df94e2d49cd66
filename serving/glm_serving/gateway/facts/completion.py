"""Facts of a text completion."""

from __future__ import annotations

import msgspec

from glm_serving.gateway.bodies import Body, check_text
from glm_serving.gateway.facts.decoding import Scalar, count, decode, flag
from glm_serving.gateway.facts.estimate import text_tokens
from glm_serving.gateway.facts.model import Facts


class _Completion(msgspec.Struct):
    model: str
    prompt: str | list[str | int | list[int]] | None = None
    stream: Scalar = None
    max_tokens: Scalar = None


_decoder = msgspec.json.Decoder(_Completion)


def of_completion(body: Body) -> Facts:
    """Facts of a text completion: names and lengths only.

    Raises:
        Refusal: the body is malformed.
    """
    request = decode(_decoder, body)
    check_text(body, (), ("model", "prompt"))
    prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt or []
    texts = [p for p in prompts if isinstance(p, str)]
    numbers = sum(1 if isinstance(p, int) else len(p) for p in prompts if not isinstance(p, str))
    sizes = [text_tokens(text) for text in texts]
    return Facts(
        model=request.model,
        stream=flag(request.stream),
        text_chars=sum(len(text) for text in texts),
        prompt_tokens=round(sum(mean for mean, _ in sizes)) + numbers,
        # Prompts of one batch are separate sequences, so only the longest bounds the context.
        min_prompt_tokens=round(max((least for _, least in sizes), default=0)),
        max_tokens=count(request.max_tokens),
    )
