"""The chart installed by the real Helm on a real API server (no nodes are needed for that)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import yaml

from glm_dev.cluster import ClusterSpec, LocalCluster
from glm_dev.kubectl import Kubectl, KubectlError, wait_for
from glm_operator.api import names
from helm import CHART, Helm, HelmError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

RELEASE = "glm-operator"
NAMESPACE = "glm-system"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
AGENT = f"{ACCOUNT}-node"
DEFINITION = f"{names.PLURAL}.{names.GROUP}"
OURS = f"app.kubernetes.io/instance={RELEASE}"


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    # Never the user's own cluster: the tests take the definition away, and its objects with it.
    spec = ClusterSpec(name=f"chart-{os.getpid()}", nodes="none", temporary=True)
    with LocalCluster.up(spec) as cluster:
        kubectl = cluster.kubectl
        kubectl.run("create", "namespace", NAMESPACE)
        level = "pod-security.kubernetes.io/enforce=restricted"
        kubectl.run("label", "namespace", NAMESPACE, level)
        kubectl.run("create", "namespace", "ml")
        yield kubectl


@pytest.fixture(scope="module")
def release(helm: Helm, kubectl: Kubectl) -> Helm:
    """Helm with the chart installed."""
    bound = Helm(helm.path, kubectl.kubeconfig)
    install(bound)
    return bound


def install(helm: Helm) -> None:
    helm.run("install", RELEASE, str(CHART), "--namespace", NAMESPACE)


def uninstall(helm: Helm) -> None:
    helm.run("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")


def upgrade(helm: Helm, setting: str) -> None:
    helm.run("upgrade", RELEASE, str(CHART), "--namespace", NAMESPACE, "--set", setting)


def may(kubectl: Kubectl, user: str, what: str) -> bool:
    """Whether the API server would let a user do that: `patch pods/status in ml`."""
    verb, resource, _, namespace = what.split(" ")
    kind, _, subresource = resource.partition("/")
    plural, _, group = kind.partition(".")
    attributes = {
        "namespace": "" if namespace == "cluster" else namespace,
        "verb": verb,
        "group": group,
        "resource": plural,
        "subresource": subresource,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    query = ("create", "-f", "-", "-o", "jsonpath={.status.allowed}")
    return kubectl.run(*query, stdin=yaml.safe_dump(review)) == "true"


def everything_of_the_release(kubectl: Kubectl) -> set[str]:
    """Kind and name of every object with the release's label, in all namespaces.

    The definition has no such label: it is generated, the same for every release.
    """
    kinds = kubectl.run("api-resources", "--verbs=list", "-o", "name").split()
    return set(kubectl.run("get", ",".join(kinds), "-A", "-l", OURS, "-o", "name").split())


def test_the_pod_is_admitted_where_restricted_is_enforced(release: Helm, kubectl: Kubectl) -> None:
    pods = wait_for("the operator's pod", lambda: kubectl.list("pods", NAMESPACE), 30)
    assert [pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods] == [
        "operator"
    ]


def test_the_operator_may_do_its_work(release: Helm, kubectl: Kubectl) -> None:
    wanted = {
        "watch nodes in cluster",
        "create pods in ml",
        "patch pods/status in ml",
        f"patch {DEFINITION}/status in ml",
        "patch deployments.apps in ml",
        "create events.events.k8s.io in ml",
        "create jobs.batch in ml",
        "create persistentvolumeclaims in ml",
        "create persistentvolumes in cluster",
        f"create leases.coordination.k8s.io in {NAMESPACE}",
    }
    assert {what for what in wanted if not may(kubectl, ACCOUNT, what)} == set()


def test_the_operator_may_do_nothing_else_of_weight(release: Helm, kubectl: Kubectl) -> None:
    unwanted = {
        f"get secrets in {NAMESPACE}",
        "list secrets in ml",
        "patch nodes in cluster",
        "create pods/exec in ml",
        f"patch {DEFINITION} in ml",
        "create clusterrolebindings.rbac.authorization.k8s.io in cluster",
        "patch clusterroles.rbac.authorization.k8s.io in cluster",
        "create roles.rbac.authorization.k8s.io in ml",
        "get leases.coordination.k8s.io in ml",
        "impersonate users in cluster",
    }
    assert {what for what in unwanted if may(kubectl, ACCOUNT, what)} == set()


def test_the_node_agent_may_watch_volumes_and_nothing_else(release: Helm, kubectl: Kubectl) -> None:
    assert may(kubectl, AGENT, "watch persistentvolumes in cluster")
    unwanted = {
        "patch persistentvolumes in cluster",
        "get nodes in cluster",
        "list pods in ml",
        f"get secrets in {NAMESPACE}",
    }
    assert {what for what in unwanted if may(kubectl, AGENT, what)} == set()


def volume(name: str, path: str, namespace: str, **labels: str) -> dict[str, object]:
    """A folder of a node for a claim in a namespace."""
    where = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["gpu-1"]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "claimRef": {"namespace": namespace, "name": name},
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [where]}]}},
        },
    }


COPIES = "/var/lib/glm-operator"


def as_operator(kubectl: Kubectl, verb: str, manifest: dict[str, object], *options: str) -> str:
    """What the API server answers to the operator."""
    text = yaml.safe_dump(manifest)
    return kubectl.run(verb, *options, "-f", "-", f"--as={ACCOUNT}", stdin=text)


@pytest.fixture(scope="module")
def policed(release: Helm, kubectl: Kubectl) -> Kubectl:
    """A policy is enforced a moment after it was made."""

    def refused() -> bool:
        try:
            as_operator(kubectl, "create", volume("early", "/etc", "ml"), "--dry-run=server")
        except KubectlError:
            return True
        return False

    wait_for("the policy to be enforced", refused, 30)
    return kubectl


@pytest.mark.parametrize("path", [COPIES, f"{COPIES}/other", f"{COPIES}/ml/weights", "/etc"])
def test_the_operator_shows_a_namespace_no_folder_but_its_own(policed: Kubectl, path: str) -> None:
    stolen = volume("stolen", path, "ml", **{names.LABEL_OWNER: "uid"})
    with pytest.raises(KubectlError, match="the operator makes volumes of"):
        as_operator(policed, "apply", stolen, "--server-side")


def test_the_operator_makes_and_deletes_its_own_volumes(policed: Kubectl) -> None:
    own = volume("own", f"{COPIES}/ml", "ml", **{names.LABEL_OWNER: "uid"})
    assert "serverside-applied" in as_operator(policed, "apply", own, "--server-side")
    assert "deleted" in as_operator(policed, "delete", own)


def test_the_operator_touches_no_volume_of_others(policed: Kubectl) -> None:
    others = volume("others", f"{COPIES}/ml", "ml")
    policed.apply(others)
    ours = volume("others", f"{COPIES}/ml", "ml", **{names.LABEL_OWNER: "uid"})
    with pytest.raises(KubectlError, match="changes and deletes its own volumes only"):
        as_operator(policed, "apply", ours, "--server-side", "--force-conflicts")
    with pytest.raises(KubectlError, match="changes and deletes its own volumes only"):
        as_operator(policed, "delete", others)
    policed.run("delete", "pv", "others")


def test_the_operator_can_bind_the_gateway_role_and_no_other(
    release: Helm, kubectl: Kubectl
) -> None:
    def bind(role: str) -> str:
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"bind-{role}", "namespace": "ml"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": role,
            },
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "ml"}],
        }
        text = yaml.safe_dump(binding)
        return kubectl.run("apply", "--server-side", "-f", "-", f"--as={ACCOUNT}", stdin=text)

    for role in (names.GATEWAY_CLUSTER_ROLE, names.GATEWAY_KEYS_CLUSTER_ROLE):
        assert "serverside-applied" in bind(role)
    for role in ("view", "cluster-admin"):
        with pytest.raises(KubectlError, match="attempting to grant RBAC permissions not"):
            bind(role)


def user_binding(user: str, role: str) -> dict[str, object]:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{user}-{role}"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }


def test_who_may_edit_a_namespace_may_write_objects_and_no_status(
    release: Helm, kubectl: Kubectl
) -> None:
    kubectl.apply(user_binding("somebody", "edit"), "ml")
    wait_for(
        "the roles to be aggregated",
        lambda: may(kubectl, "somebody", f"create {DEFINITION} in ml"),
        20,
    )
    assert may(kubectl, "somebody", f"patch {DEFINITION}/scale in ml")
    assert not may(kubectl, "somebody", f"patch {DEFINITION}/status in ml")
    assert not may(kubectl, "somebody", f"create {DEFINITION} in {NAMESPACE}")


def test_who_may_view_a_namespace_may_read_objects_only(release: Helm, kubectl: Kubectl) -> None:
    kubectl.apply(user_binding("reader", "view"), "ml")
    wait_for(
        "the roles to be aggregated",
        lambda: may(kubectl, "reader", f"list {DEFINITION} in ml"),
        20,
    )
    assert not may(kubectl, "reader", f"patch {DEFINITION} in ml")


def test_a_second_installation_is_refused(release: Helm) -> None:
    with pytest.raises(HelmError, match="exists and cannot be imported into the current release"):
        release.run("install", "another", str(CHART), "--namespace", "ml")


def test_an_upgrade_changes_the_running_release(release: Helm, kubectl: Kubectl) -> None:
    upgrade(release, "logLevel=debug")
    deployment = kubectl.get("deployment", RELEASE, NAMESPACE)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"name": "GLM_OPERATOR_LOG_LEVEL", "value": "debug"} in container["env"]


def test_uninstalling_leaves_what_gateways_and_the_next_installation_need(
    release: Helm, kubectl: Kubectl
) -> None:
    before = kubectl.get("crd", DEFINITION)["metadata"]["uid"]
    assert len(everything_of_the_release(kubectl)) > 10
    kubectl.apply(user_binding("gateway", names.GATEWAY_CLUSTER_ROLE), "ml")
    uninstall(release)
    roles = {
        f"clusterrole.rbac.authorization.k8s.io/{name}"
        for name in (names.GATEWAY_CLUSTER_ROLE, names.GATEWAY_KEYS_CLUSTER_ROLE)
    }
    wait_for("all else to go", lambda: everything_of_the_release(kubectl) == roles, 30)
    # What a gateway that restarts needs before it is ready.
    assert may(kubectl, "gateway", "list configmaps in ml")
    assert may(kubectl, "gateway", "watch endpointslices.discovery.k8s.io in ml")
    assert kubectl.list("secrets", NAMESPACE) == []
    install(release)
    assert kubectl.get("crd", DEFINITION)["metadata"]["uid"] == before


def test_what_is_not_kept_goes_with_the_release(release: Helm, kubectl: Kubectl) -> None:
    upgrade(release, "crds.keep=false")
    uninstall(release)
    wait_for(
        "the definition to go",
        lambda: not kubectl.run("get", "crd", DEFINITION, "--ignore-not-found"),
        30,
    )
    wait_for("everything to go", lambda: not everything_of_the_release(kubectl), 30)
    install(release)
