"""The exact list of paths that are served: methods, and how the body is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from glm_serving.gateway import facts
from glm_serving.gateway.bodies import Body
from glm_serving.gateway.config import Media
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.http import RequestHead
from glm_serving.gateway.reasons import METHOD_NOT_ALLOWED, PATH_NOT_FOUND

MODELS = b"/v1/models"
MODEL_PREFIX = b"/v1/models/"
COUNT_TOKENS = b"/v1/messages/count_tokens"


@dataclass(frozen=True, slots=True)
class Route:
    """One path."""

    methods: tuple[str, ...]
    read: Callable[[Body, Media], Facts] | None = None
    """Facts of a body; None where the gateway answers by itself."""


_GENERATES = ("POST",)
_LISTS = Route(("GET", "HEAD"))
_ROUTES = {
    b"/v1/chat/completions": Route(_GENERATES, facts.of_chat),
    b"/v1/completions": Route(_GENERATES, facts.of_completion),
    b"/v1/messages": Route(_GENERATES, facts.of_messages),
    b"/v1/responses": Route(_GENERATES, facts.of_responses),
    COUNT_TOKENS: Route(_GENERATES, facts.of_messages),
    MODELS: _LISTS,
}


def of(head: RequestHead) -> Route:
    """The route of a request. The query string takes no part.

    Raises:
        Refusal: the path is not served, or not with this method.
    """
    route = _ROUTES.get(head.path)
    if route is None and head.path.startswith(MODEL_PREFIX):
        route = _LISTS
    if route is None:
        raise Refusal(PATH_NOT_FOUND, "the gateway does not serve this path")
    if head.method not in route.methods:
        use = " or ".join(route.methods)
        raise Refusal(
            METHOD_NOT_ALLOWED,
            f"method {head.method} is not allowed: use {use}",
            headers={b"allow": ", ".join(route.methods).encode()},
        )
    return route
