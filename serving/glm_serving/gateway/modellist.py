"""`GET /v1/models`: the names a client may send, in OpenAI's shape."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec

from glm_serving.gateway.config import AUTO, Config, client_names
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.reasons import MODEL_NOT_FOUND


def listing(config: Config, serving: frozenset[str]) -> bytes:
    """All models."""
    data = [_model(config, name, target, serving) for name, target in client_names(config).items()]
    return msgspec.json.encode({"object": "list", "data": data})


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
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "glm-operator",
        "tier": target,
        "max_model_len": max(tier.context_tokens for tier in tiers.values()),
        "modalities": ["text", *(["image"] if images else []), *(["video"] if video else [])],
        "state": "serving" if serving & tiers.keys() else "asleep",
    }
