"""The Jobs that read, fetch and check checkpoints, and the volumes of nodes that keep them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glm_operator.api import names
from glm_operator.manifests.engine import canonical_hash
from glm_operator.manifests.labels import Owner
from glm_operator.manifests.weights_task import TaskKind, WeightsTask

WEIGHTS_USER = 10001
"""User and group of the Jobs; engines read what they wrote as the same user."""
CONTAINER = "weights"
STATE_PORT = 8080
"""The container's GET /state tells how far it is."""
EXIT_PERMANENT = 3
"""Exit code of a failure that trying again at once would not mend."""
RETRIES = 3
"""Pods that a Job makes after the first, by itself; the operator makes a new Job later."""
COPIES, COMPILED = "weights", "compile"
"""Folders of a node's volume: complete copies, and what vLLM compiled."""
CACHE_MOUNT, SOURCE_MOUNT = "/cache", "/weights"
HASH_LENGTH = 10
NOMINAL_STORAGE = "1Gi"
"""A local volume has no size of its own: the node's disk is what there is."""


@dataclass(frozen=True, slots=True)
class JobSetting:
    """What a weights Job takes over from its tier and from the platform."""

    image: str
    pull_policy: str
    hub_endpoint: str = ""
    tolerations: Sequence[Mapping[str, str]] = ()
    pull_secrets: Sequence[str] = ()
    node_selector: Mapping[str, str] | None = None


def node_hash(node: str) -> str:
    """A node's name as a label and in names: the name itself may be too long for them."""
    return canonical_hash(node)[:HASH_LENGTH]


def job_name(deployment: str, task: WeightsTask) -> str:
    """Name of the Job of a task; another attempt has another name."""
    return names.child(deployment, f"weights-{canonical_hash(task.to_data())[:HASH_LENGTH]}")


def claim_name(deployment: str, node: str, use: str = COPIES) -> str:
    """Name of the claim of a node's volume, in the object's namespace.

    `use`: what of the node it shows: copies, compile caches, or the folder of a file:// address.
    """
    return names.child(deployment, f"node-{canonical_hash([node, use])[:HASH_LENGTH]}")


def volume_name(owner: Owner, node: str, use: str = COPIES) -> str:
    """Name of the PersistentVolume, unique in the cluster."""
    return f"glm-{canonical_hash([owner.uid, node, use])[: 2 * HASH_LENGTH]}"


def node_volume(
    owner: Owner, node: str, hostname: str, path: str, keep: Sequence[str], use: str = COPIES
) -> dict[str, Any]:
    """A folder of a node as a volume, for one claim of the object.

    Several volumes may show the same folder. Copies and compile caches need one each: a pod mounts
    a volume once, read-only or not, and the kubelet makes a folder that a read-only one lacks for
    no container, so that a copy which vanished is noticed.

    Args:
        owner: the object.
        node: name of the node.
        hostname: its label kubernetes.io/hostname, which volumes are bound to nodes by.
        path: the folder on the node.
        keep: folders below it that the object needs.
        use: what of the node it shows; see `claim_name`.
    """
    metadata = owner.metadata(volume_name(owner, node, use), "weights")
    # What has no namespace cannot be owned by what has one: a sweep collects it.
    del metadata["ownerReferences"], metadata["namespace"]
    metadata["labels"] |= {names.LABEL_NODE: node_hash(node), names.LABEL_OWNER: owner.uid}
    metadata["annotations"] = {
        names.ANNOTATION_OWNER: f"{owner.namespace}/{owner.name}",
        names.ANNOTATION_NODE: node,
        names.ANNOTATION_KEEP: " ".join(keep),
    }
    at_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [hostname]}
    claim = {"namespace": owner.namespace, "name": claim_name(owner.name, node, use)}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": metadata,
        "spec": {
            "capacity": {"storage": NOMINAL_STORAGE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "volumeMode": "Filesystem",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim},
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [at_node]}]}},
        },
    }


def node_claim(owner: Owner, node: str, use: str = COPIES) -> dict[str, Any]:
    """The claim through which the object's pods on a node reach its volume."""
    metadata = owner.metadata(claim_name(owner.name, node, use), "weights")
    metadata["labels"] |= {names.LABEL_NODE: node_hash(node)}
    metadata["annotations"] = {names.ANNOTATION_NODE: node}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": NOMINAL_STORAGE}},
            "storageClassName": "",
            "volumeName": volume_name(owner, node, use),
        },
    }


def weights_job(owner: Owner, task: WeightsTask, setting: JobSetting) -> dict[str, Any]:
    """The Job of a task."""
    metadata = owner.metadata(job_name(owner.name, task), "weights")
    metadata["annotations"] = {
        names.ANNOTATION_TASK: json.dumps(task.to_data(), sort_keys=True, separators=(",", ":"))
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": RETRIES,
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [_disrupted()]},
                    {"action": "FailJob", "onExitCodes": _permanent()},
                ]
            },
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {"labels": dict(metadata["labels"])},
                "spec": _pod(owner, task, setting),
            },
        },
    }


def _disrupted() -> dict[str, str]:
    return {"type": "DisruptionTarget", "status": "True"}


def _permanent() -> dict[str, Any]:
    return {"containerName": CONTAINER, "operator": "In", "values": [EXIT_PERMANENT]}


def _pod(owner: Owner, task: WeightsTask, setting: JobSetting) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    source = _source(owner, task)
    if source is not None:
        volumes.append({"name": "weights", "persistentVolumeClaim": source})
    found: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 10,
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": WEIGHTS_USER,
            "runAsGroup": WEIGHTS_USER,
            "fsGroup": WEIGHTS_USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [dict(one) for one in setting.tolerations],
        "containers": [_container(task, setting)],
        "volumes": volumes,
    }
    if setting.pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in setting.pull_secrets]
    # What reads the hub may run anywhere: no GPU node has to be there, or be made, for it.
    if setting.node_selector and task.claim:
        found["nodeSelector"] = dict(setting.node_selector)
    return found


def _source(owner: Owner, task: WeightsTask) -> dict[str, Any] | None:
    """The claim that a task works on; None where it needs none."""
    writes = task.kind is TaskKind.FETCH
    only = {} if writes else {"readOnly": True}
    if task.claim:
        return {"claimName": task.claim, **only}
    if not task.node:
        return None
    use = COPIES if writes else task.uri
    return {"claimName": claim_name(owner.name, task.node, use), **only}


def _container(task: WeightsTask, setting: JobSetting) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]
    if task.kind is TaskKind.FETCH:
        mounts.append({"name": "weights", "mountPath": CACHE_MOUNT})
    elif task.claim or task.node:
        mounts.append({"name": "weights", "mountPath": SOURCE_MOUNT, "readOnly": True})
    env = {"HOME": "/tmp", "HF_HOME": "/tmp/huggingface"}
    env |= {"GLM_HUB_ENDPOINT": setting.hub_endpoint} if setting.hub_endpoint else {}
    found: dict[str, Any] = {
        "name": CONTAINER,
        "image": setting.image,
        "imagePullPolicy": setting.pull_policy,
        "command": ["glm-weights"],
        "args": arguments(task),
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "ports": [{"name": "state", "containerPort": STATE_PORT, "protocol": "TCP"}],
        "resources": {
            "requests": {"cpu": "250m", "memory": "512Mi"},
            "limits": {"memory": "4Gi"},
        },
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if task.secret:
        found["envFrom"] = [{"secretRef": {"name": task.secret}}]
    return found


def arguments(task: WeightsTask) -> list[str]:
    """The command line of a task's container."""
    port = ["--state-port", str(STATE_PORT)]
    if task.kind is TaskKind.CHECK:
        return ["check", "--path", SOURCE_MOUNT, *port]
    if not task.uri.startswith("hf://"):
        return ["read", "--path", _folder(task), *port]
    revision = ["--revision", task.revision] if task.revision else []
    source = ["--source", task.uri, *revision]
    if task.kind is TaskKind.READ:
        return ["read", *source, *port]
    return ["fetch", *source, "--into", CACHE_MOUNT, *port]


def _folder(task: WeightsTask) -> str:
    """Where the checkpoint lies in the container: a pvc:// address may name a folder in it."""
    if not task.uri.startswith("pvc://"):
        return SOURCE_MOUNT
    inside = task.uri.removeprefix("pvc://").partition("/")[2]
    return f"{SOURCE_MOUNT}/{inside}".rstrip("/")
