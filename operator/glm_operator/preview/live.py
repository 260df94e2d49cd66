"""The live cluster as the planner's input. It is only read."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from kubernetes.config import ConfigException

from glm_operator.api.errors import InvalidObject
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.kube.client import KubernetesCluster
from glm_operator.kube.convert import nodes_of
from glm_operator.kube.errors import KubeError, RefusedError
from glm_operator.kube.execute import UNFINISHED
from glm_operator.kube.read import read_drivers, read_limits, read_owned
from glm_operator.kube.read import read_object as read_stored
from glm_operator.kube.resources import NODE, POD, PRIORITY_CLASS
from glm_operator.kube.retry import Backoff
from glm_operator.kube.transport import Transport, namespace_of
from glm_operator.plan.observed import Observed, PriorityClasses
from glm_operator.preview.errors import InvalidInputError
from glm_operator.preview.files import read_object
from glm_operator.preview.report import Around, Basis, Question, about_edit, about_new
from glm_operator.preview.version import version

USUAL_KUBECONFIG = Path("~/.kube/config")
FORBIDDEN = 403
PATIENCE = Backoff(base_seconds=0.2, limit_seconds=1.0, attempts=2)
"""A person waits for the answer: fewer attempts than the operator makes."""
UNUSABLE_CONFIG = (
    ConfigException,
    OSError,
    yaml.YAMLError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    RecursionError,
)
"""What the client raises for a kubeconfig, the last six for a file that is none."""
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


def live_question(path: str, target: Target) -> Question:
    """How the object of a file would run on the live cluster. Raises `InvalidInputError`."""
    transport, place = _connected(target)
    deployment = read_object(path, target.namespace, place)
    try:
        chosen = f"context {target.context}" if target.context else "the current context"
        return asyncio.run(_ask(transport, deployment, chosen))
    except InvalidObject as error:
        raise InvalidInputError(
            f"{deployment.namespace}/{deployment.name} is stored in a form that this version does"
            f" not read ({error}): use the version of the operator in the cluster"
        ) from error


def _connected(target: Target) -> tuple[Transport, str]:
    """The API server, and the namespace that kubectl would use."""
    file = target.file()
    if target.context and not file:
        raise InvalidInputError(
            f"--context is {target.context}, and there is no kubeconfig that could have it: give"
            f" one with --kubeconfig, {NO_CLUSTER}"
        )
    try:
        return Transport.load(file, target.context), namespace_of(file, target.context)
    except UNUSABLE_CONFIG as error:
        detail = " ".join(str(error).split())
        told = f"kubeconfig {file}: {detail}" if file else detail
        raise InvalidInputError(f"no cluster can be asked ({told}): {NO_CLUSTER}") from error


def _sentence(errors: Sequence[KubeError], server: str) -> str:
    told = "; ".join(str(error) for error in errors)
    if errors[0].status == FORBIDDEN:
        return (
            f"{told}; planning on a live cluster reads nodes and pods of all namespaces, and the"
            " object with what it owns: ask for that right, or give the nodes with --nodes or"
            " --node-shape"
        )
    return f"{told}, asked at {server}: {NO_CLUSTER}"


async def _ask(transport: Transport, deployment: GLMDeployment, chosen: str) -> Question:
    cluster = KubernetesCluster(transport, workers=8, backoff=PATIENCE)
    server = transport.connection().server
    try:
        nodes, pods, limits, priorities, stored = await _all(
            server,
            cluster.find(NODE),
            cluster.find(POD, fields=UNFINISHED),
            read_limits(cluster, deployment.namespace),
            _priorities(cluster),
            _owned(cluster, deployment),
        )
        around = Around(
            nodes_of(nodes, pods),
            limits,
            priorities=priorities,
            basis=Basis(f"the cluster at {server} ({chosen})", version()),
        )
        question = about_new(deployment, around)
        (drivers,) = await _all(server, read_drivers(cluster, question.observed))
    finally:
        cluster.close()
    around = replace(around, drivers=drivers)
    if stored is None:
        return about_new(deployment, around)
    return about_edit(deployment, stored, around, time.time())


async def _priorities(cluster: KubernetesCluster) -> PriorityClasses:
    """The PriorityClasses; where they may not be read, nothing is said about them."""
    try:
        found = await cluster.find(PRIORITY_CLASS)
    except RefusedError:
        return PriorityClasses()
    return PriorityClasses({one["metadata"]["name"]: one["value"] for one in found}, complete=True)


async def _all(server: str, *calls: Awaitable[Any]) -> list[Any]:
    """All results; every missing right at once, so that nobody has to ask for them one by one."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    failed = [one for one in results if isinstance(one, KubeError)]
    if failed:
        forbidden = [one for one in failed if one.status == FORBIDDEN]
        raise InvalidInputError(_sentence(forbidden or failed[:1], server))
    for one in results:
        if isinstance(one, BaseException):
            raise one
    return results


async def _owned(cluster: KubernetesCluster, deployment: GLMDeployment) -> Observed | None:
    stored = await read_stored(cluster, deployment.namespace, deployment.name)
    return None if stored is None else (await read_owned(cluster, stored)).observed
