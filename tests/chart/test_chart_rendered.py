"""The chart as the real Helm renders it."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from glm_operator.api import names
from glm_operator.catalog import gpus
from glm_operator.cli import parser
from glm_operator.kube import resources
from glm_operator.plan.observed import Defaults
from glm_operator.runtime.settings import Settings, variable
from helm import CHART, ROOT, Helm, HelmError, Manifest, pick

pytestmark = [pytest.mark.helm, pytest.mark.timeout(120)]

DIGEST = "sha256:" + "0" * 64


def operator_pod(manifests: list[Manifest]) -> dict[str, Any]:
    return dict(pick(manifests, "Deployment")["spec"]["template"]["spec"])


def container(manifests: list[Manifest]) -> dict[str, Any]:
    (only,) = operator_pod(manifests)["containers"]
    return dict(only)


def environment(manifests: list[Manifest]) -> dict[str, str]:
    return {item["name"]: item.get("value", "") for item in container(manifests)["env"]}


def rules(manifests: list[Manifest]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (manifest["metadata"]["name"], rule)
        for manifest in manifests
        if manifest["kind"] in {"Role", "ClusterRole"}
        for rule in manifest["rules"]
    ]


def test_helm_lint_finds_nothing(helm: Helm) -> None:
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(CHART))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('image={"digest":"latest"}', r"'/image/digest': 'latest' does not match pattern"),
        ('image={"repository":"http://x y"}', r"'/image/repository': .* does not match pattern"),
        ('engine={"image":{"tag":""}}', r"'/engine/image/tag': minLength: got 0, want 1"),
        ('imagePullPolicy="Sometimes"', r"'/imagePullPolicy': value must be one of 'IfNotPresent'"),
        ('watchNamespaces="ml"', r"'/watchNamespaces': got string, want array"),
        ('watchNamespaces=["Not_A_Name"]', r"'/watchNamespaces/0': 'Not_A_Name' does not match"),
        ('crds={"keep":"yes"}', r"'/crds/keep': got string, want boolean"),
        ('resources={"limits":{"memory":"lots"}}', r"'/resources/limits/memory': 'lots' does not"),
        ("replicas=2", r"additional properties 'replicas' not allowed"),
    ],
)
def test_a_bad_value_is_refused_by_name(helm: Helm, setting: str, message: str) -> None:
    with pytest.raises(HelmError, match=message):
        helm.template(setting)


def test_an_engine_image_without_a_tag_is_accepted_with_a_digest(helm: Helm) -> None:
    manifests = helm.template(f'engine={{"image":{{"tag":"","digest":"{DIGEST}"}}}}')
    image = environment(manifests)["GLM_OPERATOR_ENGINE_IMAGE"]
    assert image == f"vllm/vllm-openai@{DIGEST}"


def test_every_object_carries_the_labels_of_the_release(rendered: list[Manifest]) -> None:
    for manifest in rendered:
        if manifest["kind"] == "CustomResourceDefinition":
            continue
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "glm-operator"
        assert labels["app.kubernetes.io/instance"] == "glm-operator"
        assert labels["app.kubernetes.io/part-of"] == "glm-operator"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_namespaced_objects_are_in_the_release_namespace(rendered: list[Manifest]) -> None:
    for manifest in rendered:
        clustered = manifest["kind"].startswith(("Cluster", "CustomResource", "Validating"))
        assert manifest["metadata"].get("namespace") == (None if clustered else "glm-system")


def test_names_start_with_the_release_and_stay_short(helm: Helm) -> None:
    release = "r" * 53
    for manifest in helm.template(release=release):
        name = manifest["metadata"]["name"]
        if name.startswith(names.GATEWAY_CLUSTER_ROLE) or name == f"{names.PLURAL}.{names.GROUP}":
            continue
        assert name.startswith("r" * 50)
        assert len(name) <= 63


def test_selectors_match_the_pod(rendered: list[Manifest]) -> None:
    deployment = pick(rendered, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        pick(rendered, "Service")["spec"]["selector"],
    ):
        assert selector.items() <= labels.items()


def test_a_further_label_cannot_take_the_pod_from_its_deployment(helm: Helm) -> None:
    manifests = helm.template('podLabels={"app.kubernetes.io/name":"other","team":"ml"}')
    labels = pick(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "glm-operator"
    assert labels["team"] == "ml"


def test_the_pod_is_restricted(rendered: list[Manifest]) -> None:
    pod, engine = operator_pod(rendered), container(rendered)
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert engine["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all("hostPath" not in volume for volume in pod["volumes"])


def test_the_image_names_a_numeric_user_that_is_not_root() -> None:
    user = re.search(r"^USER (\d+)", (ROOT / "operator/Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    assert int(user[1]) >= 10000


def test_there_is_one_writer(rendered: list[Manifest]) -> None:
    spec = pick(rendered, "Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_no_rule_is_wider_than_it_says(rendered: list[Manifest]) -> None:
    found = rules(rendered)
    assert found
    for name, rule in found:
        for key in ("apiGroups", "resources", "verbs"):
            assert "*" not in rule[key], f"{name} has a wildcard in {key}"
        assert "nonResourceURLs" not in rule


def test_no_role_touches_definitions_or_what_runs(rendered: list[Manifest]) -> None:
    touched = {resource for _, rule in rules(rendered) for resource in rule["resources"]}
    assert touched.isdisjoint({"customresourcedefinitions", "pods/exec", "nodes/proxy"})


def test_the_operator_is_granted_the_kinds_it_touches_and_no_other(
    rendered: list[Manifest],
) -> None:
    granted = {
        (group, resource.split("/")[0])
        for name, rule in rules(rendered)
        if name.endswith(("-inventory", "-workloads", "-lease", "-volumes"))
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    bind = ("rbac.authorization.k8s.io", "clusterroles")
    assert granted - {bind} == {(known.group, known.plural) for known in resources.KNOWN}


def test_the_operator_may_bind_the_gateway_role_only(rendered: list[Manifest]) -> None:
    about_roles = [
        rule
        for _, rule in rules(rendered)
        if {"roles", "clusterroles"} & set(rule["resources"])
        or {"bind", "escalate", "impersonate"} & set(rule["verbs"])
    ]
    assert about_roles == [
        {
            "apiGroups": ["rbac.authorization.k8s.io"],
            "resources": ["clusterroles"],
            "resourceNames": [names.GATEWAY_CLUSTER_ROLE, names.GATEWAY_KEYS_CLUSTER_ROLE],
            "verbs": ["bind"],
        }
    ]


def test_gateways_may_read_keys_from_the_named_secrets_only(helm: Helm) -> None:
    manifests = helm.template('gateway={"apiKeysSecretNames":["glm-api-keys","team-keys"]}')
    assert pick(manifests, "ClusterRole", names.GATEWAY_KEYS_CLUSTER_ROLE)["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": ["glm-api-keys", "team-keys"],
            "verbs": ["get", "list", "watch"],
        }
    ]
    told = environment(manifests)["GLM_OPERATOR_API_KEYS_SECRET_NAMES"]
    settings = Settings.load({"GLM_OPERATOR_API_KEYS_SECRET_NAMES": told}, {})
    assert settings.api_keys_secret_names == ("glm-api-keys", "team-keys")


def test_without_names_no_rule_is_about_secrets(helm: Helm) -> None:
    manifests = helm.template('gateway={"apiKeysSecretNames":[]}')
    assert "secrets" not in {one for _, rule in rules(manifests) for one in rule["resources"]}
    assert names.GATEWAY_KEYS_CLUSTER_ROLE not in json.dumps(manifests)
    told = environment(manifests)["GLM_OPERATOR_API_KEYS_SECRET_NAMES"]
    settings = Settings.load({"GLM_OPERATOR_API_KEYS_SECRET_NAMES": told}, {})
    assert settings.api_keys_secret_names == ()


def test_the_gateway_role_only_reads_configuration_and_endpoints(rendered: list[Manifest]) -> None:
    role = pick(rendered, "ClusterRole", names.GATEWAY_CLUSTER_ROLE)
    assert {resource for rule in role["rules"] for resource in rule["resources"]} == {
        "configmaps",
        "endpointslices",
    }
    assert all(rule["verbs"] == ["get", "list", "watch"] for rule in role["rules"])


def test_every_binding_names_a_role_of_the_chart_and_its_account(rendered: list[Manifest]) -> None:
    roles = {(m["kind"], m["metadata"]["name"]) for m in rendered if m["kind"].endswith("Role")}
    bindings = [m for m in rendered if m["kind"].endswith("RoleBinding")]
    assert len(bindings) == 5
    for binding in bindings:
        role = binding["roleRef"]["name"]
        assert (binding["roleRef"]["kind"], role) in roles
        (subject,) = binding["subjects"]
        assert subject["name"] == (role if role.endswith("-node") else "glm-operator")
        assert subject["namespace"] == "glm-system"


def test_watched_namespaces_narrow_what_is_written(helm: Helm) -> None:
    manifests = helm.template('watchNamespaces=["ml","vision"]')
    clustered = [m for m in manifests if m["kind"] == "ClusterRoleBinding"]
    assert {m["roleRef"]["name"] for m in clustered} == {
        "glm-operator-inventory",
        "glm-operator-node",
        "glm-operator-volumes",
    }
    inventory = pick(manifests, "ClusterRole", "-inventory")
    assert [(rule["resources"], rule["verbs"]) for rule in inventory["rules"]] == [
        (["nodes", "pods"], ["get", "list", "watch"]),
        (["resourceslices"], ["list"]),
        (["priorityclasses"], ["list", "watch"]),
    ]
    where = {
        m["metadata"]["namespace"]
        for m in manifests
        if m["kind"] == "RoleBinding" and m["roleRef"]["name"].endswith("-workloads")
    }
    assert where == {"ml", "vision"}
    assert environment(manifests)["GLM_OPERATOR_WATCH_NAMESPACES"] == "ml,vision"


def agent(manifests: list[Manifest]) -> dict[str, Any]:
    return dict(pick(manifests, "DaemonSet")["spec"]["template"]["spec"])


def test_the_node_agent_reaches_one_folder_and_writes_nothing_to_the_api(helm: Helm) -> None:
    manifests = helm.template('weights={"nodeLocal":{"path":"/data/glm"}}')
    pod = agent(manifests)
    hosts = [one["hostPath"]["path"] for one in pod["volumes"] if "hostPath" in one]
    assert hosts == ["/data/glm"]
    (only,) = pod["containers"]
    assert only["args"][0] == "--root=/data/glm"
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "FOWNER"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    role = pick(manifests, "ClusterRole", "-node")
    assert [(one["resources"], one["verbs"]) for one in role["rules"]] == [
        (["persistentvolumes"], ["list", "watch"])
    ]
    assert environment(manifests)["GLM_OPERATOR_NODE_ROOT"] == "/data/glm"


def test_the_node_agent_runs_where_the_planner_knows_the_gpus(rendered: list[Manifest]) -> None:
    affinity = agent(rendered)["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    keys = {one["matchExpressions"][0]["key"] for one in terms}
    assert keys == {
        gpus.product_label("nvidia.com/gpu"),
        gpus.memory_label("nvidia.com/gpu"),
        gpus.product_label("amd.com/gpu"),
    }
    assert agent(rendered)["tolerations"] == [{"operator": "Exists"}]


def test_the_node_agent_understands_its_command_line(rendered: list[Manifest]) -> None:
    (only,) = agent(rendered)["containers"]
    assert only["command"] == ["glm-operator", "node-agent"]
    given = parser().parse_args(["node-agent", "--node=gpu-1", *only["args"]])
    assert str(given.root) == Defaults().node_root
    (port,) = only["ports"]
    assert (port["name"], port["containerPort"]) == ("metrics", given.port)
    probes = [only[f"{kind}Probe"]["httpGet"] for kind in ("liveness", "readiness")]
    assert probes == [{"path": path, "port": "metrics"} for path in ("/healthz", "/readyz")]


def test_a_platform_without_weights_on_nodes_has_no_agent_and_no_right_to_volumes(
    helm: Helm,
) -> None:
    manifests = helm.template('weights={"nodeLocal":{"enabled":false}}')
    assert not [m for m in manifests if m["kind"] in ("DaemonSet", "ValidatingAdmissionPolicy")]
    touched = {resource for _, rule in rules(manifests) for resource in rule["resources"]}
    assert "persistentvolumes" not in touched
    assert environment(manifests)["GLM_OPERATOR_NODE_LOCAL"] == "false"


def test_folders_of_nodes_need_the_right_to_volumes_and_no_agent(helm: Helm) -> None:
    manifests = helm.template(
        'weights={"nodeLocal":{"enabled":false},"nodePaths":["/data/models"]}'
    )
    assert not [m for m in manifests if m["kind"] == "DaemonSet"]
    policy = pick(manifests, "ValidatingAdmissionPolicy")
    told = {one["name"]: one["expression"] for one in policy["spec"]["variables"]}
    assert (told["copies"], told["folders"]) == ("''", '["/data/models"]')
    assert environment(manifests)["GLM_OPERATOR_NODE_PATHS"] == "/data/models"


def test_people_get_no_more_than_the_objects_of_their_namespace(rendered: list[Manifest]) -> None:
    for role in (pick(rendered, "ClusterRole", "-view"), pick(rendered, "ClusterRole", "-edit")):
        assert {group for rule in role["rules"] for group in rule["apiGroups"]} == {names.GROUP}
        written = [rule for rule in role["rules"] if set(rule["verbs"]) - {"get", "list", "watch"}]
        assert all("glmdeployments/status" not in rule["resources"] for rule in written)


def test_aggregation_can_be_switched_off(helm: Helm) -> None:
    manifests = helm.template('rbac={"aggregateClusterRoles":false}')
    assert not [m for m in manifests if m["metadata"]["name"].endswith(("-view", "-edit"))]


def test_images_follow_tag_and_digest(helm: Helm) -> None:
    manifests = helm.template(
        'image={"repository":"registry.example:5000/op","tag":"1.2"}',
        f'gateway={{"image":{{"repository":"gw","digest":"{DIGEST}"}}}}',
        'imagePullPolicy="Never"',
    )
    assert container(manifests)["image"] == "registry.example:5000/op:1.2"
    assert container(manifests)["imagePullPolicy"] == "Never"
    assert environment(manifests)["GLM_OPERATOR_GATEWAY_IMAGE"] == f"gw@{DIGEST}"
    assert environment(manifests)["GLM_OPERATOR_IMAGE_PULL_POLICY"] == "Never"


def test_images_default_to_the_version_of_the_chart(rendered: list[Manifest]) -> None:
    assert container(rendered)["image"] == "glm-operator/operator:0.1.0"
    assert environment(rendered)["GLM_OPERATOR_GATEWAY_IMAGE"] == "glm-operator/gateway:0.1.0"


def test_the_operator_understands_its_environment(helm: Helm) -> None:
    manifests = helm.template('watchNamespaces=["ml","vision"]', 'logLevel="debug"')
    given = {item["name"]: item.get("value", "set") for item in container(manifests)["env"]}
    known = {variable(field.name) for field in dataclasses.fields(Settings)}
    assert given.keys() <= known
    settings = Settings.load(given, {})
    assert settings.watch_namespaces == ("ml", "vision")
    assert settings.log_level == "debug"
    assert settings.namespace == settings.pod_name == "set"


def test_chart_and_operator_have_the_same_defaults(rendered: list[Manifest]) -> None:
    settings = Settings.load(environment(rendered), {})
    assert settings.defaults() == Defaults()
    ports = {port["name"]: port["containerPort"] for port in container(rendered)["ports"]}
    assert ports == {"health": settings.health_port, "metrics": settings.metrics_port}


def test_pull_secrets_reach_the_pod(helm: Helm) -> None:
    manifests = helm.template('imagePullSecrets=["registry"]')
    assert operator_pod(manifests)["imagePullSecrets"] == [{"name": "registry"}]


def test_placement_values_reach_the_pod(helm: Helm) -> None:
    pod = operator_pod(
        helm.template(
            'nodeSelector={"kubernetes.io/arch":"amd64"}',
            'tolerations=[{"key":"infra","operator":"Exists"}]',
            'affinity={"nodeAffinity":{}}',
        )
    )
    assert pod["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert pod["tolerations"] == [{"key": "infra", "operator": "Exists"}]
    assert pod["affinity"] == {"nodeAffinity": {}}


def test_the_definition_comes_with_the_chart_and_is_kept(rendered: list[Manifest]) -> None:
    definition = pick(rendered, "CustomResourceDefinition")
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_definition_can_be_let_go_or_left_out(helm: Helm) -> None:
    definition = pick(helm.template('crds={"keep":false}'), "CustomResourceDefinition")
    assert "helm.sh/resource-policy" not in definition["metadata"].get("annotations", {})
    kinds = {manifest["kind"] for manifest in helm.template('crds={"enabled":false}')}
    assert "CustomResourceDefinition" not in kinds


def test_the_notes_give_the_next_two_commands(helm: Helm) -> None:
    text = helm.run("install", "x", str(CHART), "--dry-run=client", "-n", "glm-system")
    notes = text[text.index("NOTES:") :]
    assert re.findall(r"^  kubectl (\w+)", notes, re.MULTILINE) == ["apply", "get"]
