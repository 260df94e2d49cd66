"""Facts of a text completion."""

from __future__ import annotations

import msgspec

from glm_serving.gateway.bodies import Body, check_text
from glm_serving.gateway.config import Media
from glm_serving.gateway.facts import session
from glm_serving.gateway.facts.conversation import USER, Turn
from glm_serving.gateway.facts.decoding import ABSENT, Scalar, count, decode, flag
from glm_serving.gateway.facts.estimate import MAX_CHARS_PER_TOKEN, text_tokens
from glm_serving.gateway.facts.media import INLINE_ONLY
from glm_serving.gateway.facts.model import Facts


class _Completion(msgspec.Struct):
    model: str
    prompt: str | list[str | int | list[int]] | None = None
    stream: Scalar = None
    max_tokens: Scalar = None
    n: Scalar = None
    best_of: Scalar = None
    session_id: Scalar = None
    prompt_cache_key: Scalar = None
    metadata: msgspec.Raw = ABSENT


_decoder = msgspec.json.Decoder(_Completion)


def of_completion(body: Body, rules: Media = INLINE_ONLY) -> Facts:
    """Facts of a text completion, which has no media.

    Raises:
        Refusal: the body is malformed.
    """
    request = decode(_decoder, body)
    check_text(body, (), ("model", "prompt"))
    prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt or []
    texts = [p for p in prompts if isinstance(p, str)]
    numbers = sum(1 if isinstance(p, int) else len(p) for p in prompts if not isinstance(p, str))
    sizes = [text_tokens([text]) for text in texts]
    tokens = round(sum(sizes))
    # Prompts of one batch are separate sequences, so only the longest bounds the context.
    longest = max(map(len, texts), default=0) / MAX_CHARS_PER_TOKEN
    named = session.named(request.session_id, request.prompt_cache_key, request.metadata)
    return Facts(
        model=request.model,
        stream=flag(request.stream),
        text_chars=sum(map(len, texts)),
        text_tokens=tokens,
        prompt_tokens=tokens + numbers,
        min_prompt_tokens=round(min(longest, max(sizes, default=0))),
        max_tokens=count(request.max_tokens),
        choices=max(count(request.n), count(request.best_of), 1),
        session=named or session.of_beginning([Turn(USER, texts=texts)]),
    )
