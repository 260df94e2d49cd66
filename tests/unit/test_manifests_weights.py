"""Weights Jobs, the volumes of nodes, and how replicas mount them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from glm_operator.api import names
from glm_operator.manifests.engine import EngineSpec
from glm_operator.manifests.engine_pod import PodIdentity, engine_pod
from glm_operator.manifests.labels import Owner, gateway_selector
from glm_operator.manifests.weights import (
    COMPILED,
    JobSetting,
    claim_name,
    job_name,
    node_claim,
    node_volume,
    volume_name,
    weights_job,
)
from glm_operator.manifests.weights_mount import compile_folder, copy_folder
from glm_operator.manifests.weights_task import TaskKind, WeightsTask
from plan_builders import engine

OWNER = Owner("vision", "ml", "uid-vision")
URI, COMMIT = "hf://zai-org/GLM-4.6V-FP8", "c" * 40
NODE = "gpu-node-2"
SETTING = JobSetting("weights:1", "IfNotPresent")
READ = WeightsTask(TaskKind.READ, URI, "main", secret="hub")
FETCH = WeightsTask(TaskKind.FETCH, URI, COMMIT, NODE, "uid-node")
CHECK = WeightsTask(TaskKind.CHECK, "file:///data/glm", "", NODE, "uid-node")
LOCAL = engine(uri=URI, model_revision=COMMIT, cache="NodeLocal", secret="hub")


def pod_of(task: WeightsTask, setting: JobSetting = SETTING) -> dict[str, Any]:
    found: dict[str, Any] = weights_job(OWNER, task, setting)["spec"]["template"]["spec"]
    return found


def container_of(task: WeightsTask, setting: JobSetting = SETTING) -> dict[str, Any]:
    (only,) = pod_of(task, setting)["containers"]
    return dict(only)


def claims(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """The claims of a pod."""
    found = (one.get("persistentVolumeClaim") for one in pod["volumes"])
    return [one for one in found if one]


# Tasks and names.


def test_a_task_survives_the_annotation_of_its_job() -> None:
    note = weights_job(OWNER, FETCH, SETTING)["metadata"]["annotations"][names.ANNOTATION_TASK]
    assert WeightsTask.from_data(json.loads(note)) == FETCH


def test_a_later_version_may_know_more_of_a_task() -> None:
    assert WeightsTask.from_data(READ.to_data() | {"new": 1}) == READ


@pytest.mark.parametrize("data", [{}, {"kind": "Read"}, {"kind": "Burn", "uri": URI}, {"kind": []}])
def test_what_is_no_task_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        WeightsTask.from_data(data)


def test_every_task_and_every_attempt_has_a_job_of_its_own() -> None:
    tasks = [
        READ,
        FETCH,
        CHECK,
        replace(FETCH, attempt=1),
        replace(FETCH, node="gpu-node-3"),
        replace(FETCH, node_uid="another"),
        replace(FETCH, revision="d" * 40),
        replace(FETCH, secret="hub"),
    ]
    assert len({job_name("vision", task) for task in tasks}) == len(tasks)


def test_the_identity_of_a_task_is_what_it_brings() -> None:
    again = replace(FETCH, attempt=3, secret="another")
    assert again.identity == FETCH.identity
    assert replace(FETCH, node="gpu-node-3").identity != FETCH.identity


def test_names_are_those_of_earlier_versions() -> None:
    """Another name would fetch every copy and replace every pod once more after an upgrade."""
    assert (job_name("vision", FETCH), claim_name("vision", NODE), FETCH.key) == (
        "vision-weights-d936357d53",
        "vision-node-092ee99183",
        "zai-org--GLM-4.6V-FP8--cccccccccccc",
    )
    assert volume_name(OWNER, NODE) == "glm-6cefe1aeba77100fe3c6"


def test_names_of_volumes_are_short_whatever_the_node_is_called() -> None:
    long = ".".join(["node" * 12] * 5)
    volume = node_volume(OWNER, long, long, "/var/lib/x/ml", [])
    claim = node_claim(OWNER, long)
    assert len(volume["metadata"]["name"]) <= 63
    assert len(claim["metadata"]["name"]) <= len("vision-node-") + 10
    labels = {**volume["metadata"]["labels"], **claim["metadata"]["labels"]}
    assert all(len(value) <= 63 for value in labels.values())


# Volumes.


def test_volume_and_claim_are_made_for_each_other() -> None:
    volume = node_volume(OWNER, NODE, "host", "/var/lib/x/ml", [])
    claim = node_claim(OWNER, NODE)
    wanted = volume["spec"]["claimRef"]
    assert (wanted["namespace"], wanted["name"]) == ("ml", claim["metadata"]["name"])
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert volume["spec"]["accessModes"] == claim["spec"]["accessModes"]
    # A claim without a class asks for the cluster's default one; a volume has none.
    assert (claim["spec"]["storageClassName"], "storageClassName" in volume["spec"]) == ("", False)


def test_a_volume_names_its_object_by_label_because_it_cannot_be_owned() -> None:
    metadata = node_volume(OWNER, NODE, NODE, "/var/lib/x/ml", [])["metadata"]
    assert metadata["labels"][names.LABEL_OWNER] == "uid-vision"
    assert metadata["annotations"][names.ANNOTATION_OWNER] == "ml/vision"
    assert not {"namespace", "ownerReferences"} & set(metadata)


def test_a_volume_lies_on_the_node_by_its_hostname_and_is_kept_when_released() -> None:
    spec = node_volume(OWNER, NODE, "host.example", "/var/lib/x/ml", [])["spec"]
    ((at_node,),) = [
        term["matchExpressions"] for term in spec["nodeAffinity"]["required"]["nodeSelectorTerms"]
    ]
    assert (at_node["key"], at_node["values"]) == ("kubernetes.io/hostname", ["host.example"])
    assert (spec["local"], spec["persistentVolumeReclaimPolicy"]) == (
        {"path": "/var/lib/x/ml"},
        "Retain",
    )


def test_a_volume_says_what_of_its_folder_is_needed() -> None:
    volume = node_volume(OWNER, NODE, NODE, "/var/lib/x/ml", ["weights/a--1", "weights/b--2"])
    assert volume["metadata"]["annotations"][names.ANNOTATION_KEEP] == "weights/a--1 weights/b--2"


def test_each_use_of_a_node_has_a_volume_of_its_own() -> None:
    uses = ["weights", COMPILED, "file:///data/glm"]
    assert len({claim_name("vision", NODE, use) for use in uses}) == 3
    assert len({volume_name(OWNER, NODE, use) for use in uses}) == 3


def test_another_object_of_the_same_name_has_other_volumes() -> None:
    assert volume_name(OWNER, NODE) != volume_name(replace(OWNER, uid="later"), NODE)


# Jobs.


@pytest.mark.parametrize("task", [READ, FETCH, CHECK], ids=["read", "fetch", "check"])
def test_the_pod_of_a_job_may_do_nothing_else(task: WeightsTask) -> None:
    pod, container = pod_of(task), container_of(task)
    assert pod["automountServiceAccountToken"] is False
    assert (
        pod["securityContext"] | {"runAsUser": 10001, "fsGroup": 10001, "runAsNonRoot": True}
        == (pod["securityContext"])
    )
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "hostPath" not in json.dumps(pod)


def test_a_job_is_in_no_service_and_no_budget() -> None:
    job = weights_job(OWNER, FETCH, SETTING)
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert not {names.LABEL_TIER, names.LABEL_REVISION, names.LABEL_ROUTABLE} & set(labels)
    assert not gateway_selector("vision").items() <= labels.items()
    assert labels[names.LABEL_DEPLOYMENT] == "vision"


def test_a_permanent_failure_ends_a_job_and_a_lost_node_does_not_count() -> None:
    rules = weights_job(OWNER, FETCH, SETTING)["spec"]["podFailurePolicy"]["rules"]
    assert [one["action"] for one in rules] == ["Ignore", "FailJob"]
    assert rules[1]["onExitCodes"]["values"] == [3]


@pytest.mark.parametrize(
    ("task", "command"),
    [
        (READ, ["read", "--source", URI, "--revision", "main"]),
        (replace(READ, revision=""), ["read", "--source", URI]),
        (FETCH, ["fetch", "--source", URI, "--revision", COMMIT, "--into", "/cache"]),
        (CHECK, ["check", "--path", "/weights"]),
        (replace(CHECK, kind=TaskKind.READ), ["read", "--path", "/weights"]),
        (WeightsTask(TaskKind.READ, "pvc://m/a/b", claim="m"), ["read", "--path", "/weights/a/b"]),
        (WeightsTask(TaskKind.READ, "pvc://m", claim="m"), ["read", "--path", "/weights"]),
    ],
)
def test_the_command_of_a_task(task: WeightsTask, command: list[str]) -> None:
    assert container_of(task)["args"] == [*command, "--state-port", "8080"]


@pytest.mark.parametrize(
    ("task", "claim", "read_only", "mount"),
    [
        (FETCH, claim_name("vision", NODE), False, "/cache"),
        (replace(FETCH, node="", claim="models"), "models", False, "/cache"),
        (CHECK, claim_name("vision", NODE, "file:///data/glm"), True, "/weights"),
        (WeightsTask(TaskKind.READ, "pvc://m/a", claim="m"), "m", True, "/weights"),
    ],
    ids=["node", "claim", "folder of a node", "pvc"],
)
def test_only_fetching_writes(task: WeightsTask, claim: str, read_only: bool, mount: str) -> None:
    (source,) = claims(pod_of(task))
    assert (source["claimName"], source.get("readOnly", False)) == (claim, read_only)
    (mounted,) = [one for one in container_of(task)["volumeMounts"] if one["name"] == "weights"]
    assert (mounted["mountPath"], mounted.get("readOnly", False)) == (mount, read_only)


def test_reading_from_the_hub_needs_no_volume() -> None:
    assert claims(pod_of(READ)) == []


def test_the_secret_becomes_variables_and_must_exist() -> None:
    assert container_of(READ)["envFrom"] == [{"secretRef": {"name": "hub"}}]
    assert "envFrom" not in container_of(FETCH)


def test_a_job_takes_over_what_its_tier_and_the_platform_say() -> None:
    setting = JobSetting(
        "weights:1",
        "Always",
        hub_endpoint="http://hub.example",
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        pull_secrets=["registry"],
        node_selector={"pool": "gpu"},
    )
    pod, container = pod_of(READ, setting), container_of(READ, setting)
    assert (container["image"], container["imagePullPolicy"]) == ("weights:1", "Always")
    assert {"name": "GLM_HUB_ENDPOINT", "value": "http://hub.example"} in container["env"]
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert "nodeSelector" not in pod, "what asks the hub may run anywhere"
    # The volume of a node says where its pod has to be.
    assert "nodeSelector" not in pod_of(FETCH, setting)
    shared = replace(FETCH, node="", node_uid="", claim="models")
    assert pod_of(shared, setting)["nodeSelector"] == {"pool": "gpu"}


# Replicas.


def replica(spec: EngineSpec, node: str = NODE) -> dict[str, Any]:
    identity = PodIdentity(0, node, gpu="H100")
    found: dict[str, Any] = engine_pod(OWNER, spec, "rev", identity, "Never")["spec"]
    return found


def argument(pod: dict[str, Any], name: str) -> str:
    """The value of an argument of the engine; empty where it is not given."""
    arguments = pod["containers"][0]["args"]
    return str(arguments[arguments.index(name) + 1]) if name in arguments else ""


def variables(pod: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in pod["containers"][0]["env"]}


def mounts(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The mounts of the engine by the claim that they show."""
    sources = {
        one["name"]: one["persistentVolumeClaim"]["claimName"]
        for one in pod["volumes"]
        if "persistentVolumeClaim" in one
    }
    found = pod["containers"][0]["volumeMounts"]
    return {sources[one["name"]]: one for one in found if one["name"] in sources}


def test_a_replica_reads_the_copy_of_its_node_and_compiles_beside_it() -> None:
    pod = replica(LOCAL)
    copy, compiled = claim_name("vision", NODE), claim_name("vision", NODE, COMPILED)
    assert claims(pod) == [{"claimName": copy, "readOnly": True}, {"claimName": compiled}]
    shown = mounts(pod)
    assert shown[copy] | {"mountPath": "/weights", "readOnly": True} == shown[copy]
    assert shown[copy]["subPath"] == copy_folder(LOCAL) == f"weights/{FETCH.key}"
    assert shown[compiled]["subPath"] == compile_folder(LOCAL, "H100")
    assert "readOnly" not in shown[compiled]


def test_a_replica_with_a_copy_asks_no_hub() -> None:
    pod = replica(LOCAL)
    assert (argument(pod, "--model"), argument(pod, "--revision")) == ("/weights", "")
    assert variables(pod)["HF_HUB_OFFLINE"] == "1"
    assert variables(pod)["VLLM_CACHE_ROOT"] == "/compile"
    assert "envFrom" not in pod["containers"][0]


@pytest.mark.parametrize(
    ("spec", "node"),
    [(replace(LOCAL, cache=""), NODE), (LOCAL, "")],
    ids=["Ephemeral", "no node yet"],
)
def test_a_replica_without_a_copy_downloads_the_commit_by_itself(
    spec: EngineSpec, node: str
) -> None:
    pod = replica(spec, node)
    assert argument(pod, "--model") == "zai-org/GLM-4.6V-FP8"
    assert argument(pod, "--revision") == COMMIT
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "hub"}}]
    assert claims(pod) == []
    assert "HF_HUB_OFFLINE" not in variables(pod)
    assert variables(pod)["VLLM_CACHE_ROOT"].startswith("/tmp/")


@pytest.mark.parametrize("node", [NODE, ""])
def test_a_copy_in_a_claim_is_read_on_any_node(node: str) -> None:
    spec = replace(LOCAL, cache="PersistentVolumeClaim", cache_claim="models")
    pod = replica(spec, node)
    assert claims(pod) == [{"claimName": "models", "readOnly": True}]
    assert mounts(pod)["models"]["subPath"] == copy_folder(spec)
    assert argument(pod, "--model") == "/weights"
    assert variables(pod)["VLLM_CACHE_ROOT"].startswith("/tmp/")


def test_a_folder_of_the_node_is_shown_whole_and_read_only() -> None:
    uri = "file:///data/glm"
    pod = replica(engine(uri=uri))
    claim = claim_name("vision", NODE, uri)
    assert claims(pod) == [{"claimName": claim, "readOnly": True}]
    assert "subPath" not in mounts(pod)[claim]
    assert argument(pod, "--model") == "/weights"


def test_a_users_cache_root_wins() -> None:
    pod = replica(replace(LOCAL, env=(("VLLM_CACHE_ROOT", "/elsewhere"),)))
    assert variables(pod)["VLLM_CACHE_ROOT"] == "/elsewhere"


# Compile caches.


@pytest.mark.parametrize(
    "change",
    [
        {"image": "engine:2"},
        {"tensor": 4},
        {"extra_args": ("--enforce-eager",)},
        {"env": (("VLLM_USE_V2", "1"),)},
        {"model_revision": "d" * 40},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_compiled_for_another_engine_is_not_shared(change: dict[str, Any]) -> None:
    assert compile_folder(replace(LOCAL, **change), "H100") != compile_folder(LOCAL, "H100")


def test_what_is_compiled_is_shared_by_what_compiles_the_same() -> None:
    spec = replace(LOCAL, secret="another", gpu_bytes=1, node_selector={"pool": "a"})
    assert compile_folder(spec, "H100") == compile_folder(LOCAL, "H100")
    assert compile_folder(LOCAL, "L4") != compile_folder(LOCAL, "H100")


# Records of earlier versions.


def test_what_is_new_in_a_record_replaces_no_pod_of_an_earlier_version() -> None:
    spec = engine()
    known = replace(spec, secret="hub", checkpoint="{}", gpu_bytes=1)
    assert known.revision() == spec.revision()
    assert replace(spec, cache="NodeLocal").revision() != spec.revision()
