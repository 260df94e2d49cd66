"""The live cluster as the planner's input. It is only read."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kubernetes.config import ConfigException

from glm_operator.api.errors import InvalidObject
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.kube.client import KubernetesCluster
from glm_operator.kube.convert import nodes_of
from glm_operator.kube.errors import KubeError, RefusedError
from glm_operator.kube.execute import UNFINISHED
from glm_operator.kube.read import read_object as read_stored
from glm_operator.kube.read import read_owned
from glm_operator.kube.resources import NODE, POD
from glm_operator.kube.retry import Backoff
from glm_operator.kube.transport import Transport, namespace_of
from glm_operator.plan.observed import Defaults, Node, Observed
from glm_operator.preview.errors import InvalidInputError
from glm_operator.preview.files import read_object
from glm_operator.preview.report import Report, edit_report, report

USUAL_KUBECONFIG = Path("~/.kube/config")
PATIENCE = Backoff(base_seconds=0.2, limit_seconds=1.0, attempts=2)
"""A person waits for the answer: fewer attempts than the operator makes."""
NO_CLUSTER = "set KUBECONFIG, or give the nodes with --nodes or --node-shape"


@dataclass(frozen=True, slots=True)
class Target:
    """Which cluster and namespace, as the flags say it; empty: as kubectl would choose."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""

    def file(self) -> str:
        """The kubeconfig to use; empty: the service account of the pod that this runs in."""
        given = self.kubeconfig or os.environ.get("KUBECONFIG", "")
        usual = USUAL_KUBECONFIG.expanduser()
        return given or (str(usual) if usual.exists() else "")


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What was read."""

    nodes: tuple[Node, ...]
    observed: Observed | None
    """The object as it is stored, with what it owns; None where it does not exist."""


def live_report(path: str, target: Target) -> Report:
    """Plan the object of a file on the live cluster. Raises `InvalidInputError`."""
    try:
        transport = Transport.load(target.file(), target.context)
        place = namespace_of(target.file(), target.context)
    except (ConfigException, OSError) as error:
        detail = " ".join(str(error).split())
        raise InvalidInputError(f"no cluster can be asked ({detail}): {NO_CLUSTER}") from error
    deployment = read_object(path, target.namespace, place)
    try:
        found = asyncio.run(_read(transport, deployment))
    except KubeError as error:
        raise InvalidInputError(_sentence(error)) from error
    except InvalidObject as error:
        raise InvalidInputError(
            f"{deployment.namespace}/{deployment.name} is stored in a form that this version does"
            f" not read ({error}): use the version of the operator in the cluster"
        ) from error
    if found.observed is None:
        return report(deployment, found.nodes, Defaults())
    return edit_report(deployment, replace(found.observed, nodes=found.nodes), time.time())


def _sentence(error: KubeError) -> str:
    if isinstance(error, RefusedError) and error.status == 403:
        return (
            f"{error}; planning on a live cluster reads nodes and pods of all namespaces, and the"
            " object with its ControllerRevisions: ask for that right, or give the nodes with"
            " --nodes or --node-shape"
        )
    return f"{error}; {NO_CLUSTER}"


async def _read(transport: Transport, deployment: GLMDeployment) -> _Cluster:
    cluster = KubernetesCluster(transport, workers=8, backoff=PATIENCE)
    try:
        nodes, pods, stored = await asyncio.gather(
            cluster.find(NODE),
            cluster.find(POD, fields=UNFINISHED),
            read_stored(cluster, deployment.namespace, deployment.name),
        )
        observed = await _owned(cluster, stored)
    finally:
        cluster.close()
    return _Cluster(nodes_of(nodes, pods), observed)


async def _owned(cluster: KubernetesCluster, stored: Mapping[str, Any] | None) -> Observed | None:
    return None if stored is None else (await read_owned(cluster, stored)).observed
