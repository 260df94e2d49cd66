"""`glm-operator plan` without files of nodes: a real API server is read, and nothing is written."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from api_server import OBJECTS, ApiServer
from control_plane import ControlPlane
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.kube.convert import nodes_of
from glm_operator.plan.actions import Apply, CreatePod
from glm_operator.plan.observed import Defaults, Observed
from glm_operator.plan.planner import plan
from object_cases import FLAGSHIP, changed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(60, func_only=True)]

Json = dict[str, Any]
Plan = Callable[..., tuple[int, str, str]]
_numbers = itertools.count(1)
OTHER_IMAGE = "mirror.example/vllm:v0.32.0"


@pytest.fixture
def node(control_plane: ControlPlane) -> Iterator[Json]:
    """A node of eight H100 that only the API server knows.

    Each test has its own, by a name of its own: without a kubelet the controllers take a name for
    lost after 40 seconds.
    """
    name = f"plan-live-{next(_numbers)}"
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"}
    body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    control_plane.api.create("/api/v1/nodes", body)
    path = f"/api/v1/nodes/{name}"
    amounts = {"nvidia.com/gpu": "8", "cpu": "192", "memory": "2Ti", "pods": "110"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    status = {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}
    control_plane.api.merge(f"{path}/status", {"status": status})
    # The scheduler would leave it out, and its controller's taint is no part of these tests.
    yield control_plane.api.merge(path, {"spec": {"taints": None}})
    control_plane.api.delete(path)


@pytest.fixture
def planned(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Plan:
    """Runs the command as a process of its own, and returns code, output and errors."""

    def run(obj: Json, *flags: str, kubeconfig: Path | None = None) -> tuple[int, str, str]:
        file = tmp_path / "object.yaml"
        file.write_text(yaml.safe_dump(obj))
        config = str(kubeconfig or control_plane.kubeconfig)
        command = [sys.executable, "-m", "glm_operator.cli", "plan", "-f", str(file)]
        done = subprocess.run(
            [*command, "-n", namespace, *flags],
            env={"KUBECONFIG": config, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=50,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def wanted(changes: Json | None = None) -> Json:
    """An object without a namespace of its own."""
    obj = changed(changes or {})
    del obj["metadata"]["namespace"]
    return obj


@pytest.fixture
def started(control_plane: ControlPlane, namespace: str, node: Json) -> Iterator[Json]:
    """The object with the revisions and pods that an operator with its own image would make."""
    yield _start(control_plane.api, namespace, node)
    # No kubelet ends them, and they hold GPUs of the next test's node.
    path = f"/api/v1/namespaces/{namespace}/pods"
    for pod in control_plane.api.get(path)["items"]:
        control_plane.api.delete(f"{path}/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})


def _start(api: ApiServer, namespace: str, node: Json) -> Json:
    stored = api.create(OBJECTS.format(namespace), wanted())
    observed = Observed(
        GLMDeployment.parse(stored),
        stored["metadata"]["uid"],
        stored["metadata"]["generation"],
        nodes=nodes_of([node], []),
        hypothetical=True,
    )
    actions = plan(observed, 0.0, Defaults(engine_image=OTHER_IMAGE)).actions
    for action in actions:
        match action:
            case CreatePod():
                pod = dict(action.manifest)
                api.create(f"/api/v1/namespaces/{namespace}/pods", pod)
            case Apply() if action.manifest["kind"] == "ControllerRevision":
                path = f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions"
                api.create(path, dict(action.manifest))
    return stored


def messages(output: str) -> list[str]:
    return [edit["message"] for edit in json.loads(output)["edits"]]


def test_a_new_object_is_planned_on_the_nodes_there_are(planned: Plan, node: Json) -> None:
    code, out, err = planned(wanted(), "-o", "json")
    report = json.loads(out)
    assert (code, err, report["edits"]) == (0, "", [])
    assert report["tiers"]["flagship"]["nodes"] == [node["metadata"]["name"]]


@pytest.mark.usefixtures("node")
def test_a_quota_of_the_namespace_counts(
    control_plane: ControlPlane, namespace: str, planned: Plan
) -> None:
    quota = {"metadata": {"name": "gpus"}, "spec": {"hard": {"requests.nvidia.com/gpu": "2"}}}
    control_plane.api.create(f"/api/v1/namespaces/{namespace}/resourcequotas", quota)
    code, out, err = planned(wanted())
    assert (code, err) == (3, "")
    assert "quota" in out


@pytest.mark.usefixtures("node")
def test_a_priority_class_that_is_not_there_is_named(planned: Plan) -> None:
    named = {f"{FLAGSHIP}.placement.priorityClassName": "moon"}
    code, out, _ = planned(wanted(named))
    assert code == 3
    assert "names the PriorityClass moon" in " ".join(out.split())


@pytest.mark.usefixtures("started")
def test_an_edit_says_what_it_restarts_and_writes_nothing(
    control_plane: ControlPlane, namespace: str, planned: Plan
) -> None:
    path = f"{OBJECTS.format(namespace)}/vision"
    before = control_plane.api.get(path)
    shorter = {f"{FLAGSHIP}.context.maxModelLen": 65536, "spec.tiers.flash.scaling.maxReplicas": 4}
    code, out, err = planned(wanted(shorter), "-o", "json")
    assert (code, err) == (0, "")
    assert messages(out) == [
        "flagship: restarts, 1 replica is replaced (context.maxModelLen)",
        "flash: nothing restarts (scaling.maxReplicas: applied live)",
    ]
    assert control_plane.api.get(path) == before


@pytest.mark.usefixtures("started")
def test_the_object_as_it_is_restarts_nothing(planned: Plan) -> None:
    code, out, _ = planned(wanted({f"{FLAGSHIP}.parallelism.tensor": "2"}))
    assert code == 0
    assert "flash: nothing restarts" in out
    same = "flagship: nothing restarts (parallelism.tensor: comes to the same engine)"
    assert same in " ".join(out.split())


@pytest.fixture
def narrow(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Path:
    """A kubeconfig of somebody who may read nodes, and nothing else."""
    api, user = control_plane.api, f"system:serviceaccount:{namespace}:reader"
    role, group = f"nodes-{namespace}", "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}]
    api.create(f"/apis/{group}/v1/clusterroles", {"metadata": {"name": role}, "rules": rules})
    binding = {
        "metadata": {"name": role},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    api.create(f"/apis/{group}/v1/clusterrolebindings", binding)
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": _token(api, namespace)}
    file = tmp_path / "narrow"
    file.write_text(yaml.safe_dump(config))
    return file


def _token(api: ApiServer, namespace: str) -> str:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    api.create(path, {"metadata": {"name": "reader"}})
    answer = api.create(f"{path}/reader/token", {"spec": {"expirationSeconds": 600}})
    return str(answer["status"]["token"])


def test_missing_rights_are_named_together(namespace: str, planned: Plan, narrow: Path) -> None:
    code, out, err = planned(wanted(), kubeconfig=narrow)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    reader = f'User "system:serviceaccount:{namespace}:reader" cannot'
    assert f'{reader} list resource "pods" in API group "" at the cluster scope' in err
    assert f'{reader} get resource "glmdeployments"' in err
    assert f'{reader} list resource "resourcequotas"' in err or "limitranges" in err
    assert "cannot list nodes" not in err
    assert "ask for that right, or give the nodes with --nodes or --node-shape" in err
