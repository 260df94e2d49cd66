"""`GET /v1/models`: the names a client may send.

One object serves both APIs: OpenAI's fields beside Anthropic's, neither of which forbids others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from glm_serving.gateway.config import AUTO, Config, TierConfig, client_names
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.reasons import MODEL_NOT_FOUND

SERVING = "serving"
ASLEEP = "asleep"
"""No replica takes a request now: the first one waits until there is one."""
JOINING = "joining"
"""Added to a stack that serves, and has not served yet."""


def listing(config: Config, serving: frozenset[str]) -> bytes:
    """All models."""
    data = [_model(config, name, target, serving) for name, target in client_names(config).items()]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]}
    return msgspec.json.encode({"object": "list", "data": data, "has_more": False, **ends})


def one(config: Config, serving: frozenset[str], path_name: bytes) -> bytes:
    """One model, by the last part of the path.

    Raises:
        Refusal: there is no such model.
    """
    name = unquote(path_name.decode("latin-1"))
    target = client_names(config).get(name)
    if target is None:
        raise Refusal(MODEL_NOT_FOUND, f"no model is named {name[:100]!r}", "model")
    return msgspec.json.encode(_model(config, name, target, serving))


def _model(config: Config, name: str, target: str, serving: frozenset[str]) -> dict[str, Any]:
    tiers = config.tiers if target == AUTO else {target: config.tiers[target]}
    images = any(tier.max_images for tier in tiers.values())
    video = any(tier.max_videos for tier in tiers.values())
    context = max(tier.context_tokens for tier in tiers.values())
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "glm-operator",
        "type": "model",
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
        "max_input_tokens": context,
        "tier": target,
        "max_model_len": context,
        "modalities": ["text", *(["image"] if images else []), *(["video"] if video else [])],
        "state": _state(tiers, serving),
    }


def _state(tiers: Mapping[str, TierConfig], serving: frozenset[str]) -> str:
    if serving & tiers.keys():
        return SERVING
    return JOINING if all(tier.joining for tier in tiers.values()) else ASLEEP
