"""Whether a child on the cluster already is what is wanted, so that it is not written again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glm_operator.api import names
from glm_operator.manifests.engine import canonical_hash


def stamped(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its own hash as annotation: a field that was removed shows as a change."""
    metadata = dict(manifest["metadata"])
    annotations = metadata.get("annotations", {})
    metadata["annotations"] = annotations | {names.ANNOTATION_APPLIED: canonical_hash(manifest)}
    return {**manifest, "metadata": metadata}


def is_applied(manifest: Mapping[str, Any], live: Mapping[str, Any] | None) -> bool:
    """True when `live` holds everything of the stamped manifest. What others added is theirs."""
    return live is not None and _holds(live, manifest)


def _holds(live: Any, wanted: Any) -> bool:
    # Exact types: both sides are JSON, and this runs for every child in every plan.
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return False
        return all(key in live and _holds(live[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(live, list) and _holds_items(live, wanted)
    return bool(live == wanted)


def _holds_items(live: list[Any], wanted: list[Any]) -> bool:
    if all(isinstance(item, dict) and "name" in item for item in wanted):
        by_name = {item.get("name"): item for item in live if isinstance(item, dict)}
        return all(_holds(by_name.get(item["name"]), item) for item in wanted)
    pairs = zip(live, wanted, strict=False)
    return len(live) == len(wanted) and all(_holds(one, two) for one, two in pairs)
