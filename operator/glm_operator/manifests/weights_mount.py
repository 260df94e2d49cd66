"""How an engine pod reaches weights that lie in a volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glm_operator.manifests import arguments
from glm_operator.manifests.engine import EngineSpec, canonical_hash
from glm_operator.manifests.labels import Owner
from glm_operator.manifests.weights import COMPILED, COPIES, claim_name
from glm_operator.manifests.weights_task import checkpoint_key

COMPILE_HASH_LENGTH = 16


@dataclass(frozen=True, slots=True)
class WeightsMount:
    """A claim, and what of it the engine sees."""

    claim: str
    copy: str = ""
    """Folder of the claim that is seen at /weights; empty: all of it."""
    compile_claim: str = ""
    """The claim of vLLM's compile cache, which is written; empty: none."""
    compiled: str = ""
    """Folder of that claim."""

    def volumes(self) -> list[dict[str, Any]]:
        """The pod's volumes."""
        reading = {"claimName": self.claim, "readOnly": True}
        found: list[dict[str, Any]] = [{"name": "weights", "persistentVolumeClaim": reading}]
        if self.compile_claim:
            writing = {"claimName": self.compile_claim}
            found.append({"name": "compile", "persistentVolumeClaim": writing})
        return found

    def mounts(self) -> list[dict[str, Any]]:
        """The engine container's mounts."""
        weights: dict[str, Any] = {
            "name": "weights",
            "mountPath": arguments.WEIGHTS_MOUNT,
            "readOnly": True,
        }
        found = [weights | ({"subPath": self.copy} if self.copy else {})]
        if self.compile_claim:
            where = {"name": "compile", "mountPath": arguments.COMPILE_MOUNT}
            found.append({**where, "subPath": self.compiled})
        return found


def weights_mount(owner: Owner, spec: EngineSpec, node: str, gpu: str) -> WeightsMount | None:
    """What a replica mounts; None where its weights lie in the image or it downloads them.

    Args:
        owner: the object.
        spec: the engine.
        node: the node of the replica; empty where it has none, and with it no volume of a node.
        gpu: kind of the node's GPUs.
    """
    claim = arguments.claim_of(spec.uri)
    if claim:
        return WeightsMount(claim)
    # A claim is for copies of the hub: weights of other addresses lie where they are.
    if spec.cache_claim and spec.uri.startswith("hf://"):
        return WeightsMount(spec.cache_claim, copy_folder(spec))
    if not node:
        return None
    if spec.uri.startswith("file://"):
        return WeightsMount(claim_name(owner.name, node, spec.uri))
    if spec.cache == arguments.NODE_LOCAL:
        return WeightsMount(
            claim_name(owner.name, node),
            copy_folder(spec),
            claim_name(owner.name, node, COMPILED),
            compile_folder(spec, gpu),
        )
    return None


def copy_folder(spec: EngineSpec) -> str:
    """Folder of a volume that holds the copy of an engine's weights."""
    return f"{COPIES}/{checkpoint_key(spec.uri, spec.model_revision)}"


def compile_folder(spec: EngineSpec, gpu: str) -> str:
    """Folder of a node's volume for what vLLM compiles for an engine on a kind of GPU.

    Compiled code may be shared by engines that are alike in image, arguments and variables, and by
    no others.
    """
    made_of = [
        spec.image,
        arguments.arguments(spec, mounted=True),
        arguments.environment(spec, mounted=True),
        gpu,
        spec.model_revision,
    ]
    return f"{COMPILED}/{canonical_hash(made_of)[:COMPILE_HASH_LENGTH]}"
