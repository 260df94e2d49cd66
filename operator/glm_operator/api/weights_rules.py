"""The cross-field rules of a tier's weights; see `rules`."""

from __future__ import annotations

from typing import Any

from glm_operator.api.model import Rule

WEIGHTS = (
    Rule(
        "weights-claim",
        "(self.cache == 'PersistentVolumeClaim') == (self.claimName != '')",
        "claimName names the claim of cache PersistentVolumeClaim, and only of that",
        lambda weights: (weights.cache == "PersistentVolumeClaim") == bool(weights.claim_name),
        given=("cache", "claimName"),
    ),
)


def _is_on_node(tier: Any) -> bool:
    cached = tier.model.uri.startswith("hf://") and tier.weights.cache == "NodeLocal"
    return cached or bool(tier.model.uri.startswith("file://"))


PINNED = Rule(
    "weights-pinned",
    "self.placement.pinning == 'Required' || !(self.model.uri.startsWith('file://')"
    " || (self.model.uri.startsWith('hf://') && self.weights.cache == 'NodeLocal'))",
    "weights on the node need a pod that belongs to it, use pinning Required, or for hf:// cache"
    " PersistentVolumeClaim or Ephemeral",
    lambda tier: tier.placement.pinning == "Required" or not _is_on_node(tier),
    given=("placement.pinning", "weights.cache"),
)


PROVISIONED = Rule(
    "weights-provisioned",
    "self.placement.provisioning == 'None' || !self.model.uri.startsWith('file://')",
    "a node that comes does not hold the folder of a file:// address, use hf:// or pvc://",
    lambda tier: tier.placement.provisioning == "None" or not tier.model.uri.startswith("file://"),
    given=("placement.provisioning",),
)

AUTO_FORMAT = Rule(
    "weights-auto",
    "self.model.quantization != 'Auto'"
    " || (self.weights.prePull == 'Enabled' && !self.model.uri.startsWith('image://'))",
    "Auto needs a checkpoint that is read beforehand, name its format, or use prePull Enabled and"
    " another address than image://",
    lambda tier: (
        tier.model.quantization != "Auto"
        or (tier.weights.pre_pull == "Enabled" and not tier.model.uri.startswith("image://"))
    ),
    given=("model.quantization", "weights.prePull"),
)

OF_TIER = (PINNED, PROVISIONED, AUTO_FORMAT)
"""Those that need the whole tier."""
