"""The engine pod: vLLM's arguments and variables, probes, security, placement."""

from __future__ import annotations

import json
from typing import Any

import pytest

from glm_operator.api import flags, names
from glm_operator.kube import convert
from glm_operator.manifests import arguments
from glm_operator.manifests.engine import EngineSpec
from glm_operator.manifests.engine_pod import NodeWish, PodIdentity, engine_pod, grace_seconds
from glm_operator.manifests.labels import Owner
from plan_builders import engine

OWNER = Owner("vision", "ml", "uid-vision")


def pod(spec: EngineSpec | None = None, node: str = "gpu-node-2") -> dict[str, Any]:
    return engine_pod(OWNER, spec or engine(), "5f2a9c1e", PodIdentity(3, node), "IfNotPresent")


def container(spec: EngineSpec | None = None) -> dict[str, Any]:
    (only,) = pod(spec)["spec"]["containers"]
    return dict(only)


def env(spec: EngineSpec | None = None) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container(spec)["env"]}


def test_a_model_without_vision_is_told_nothing_of_images() -> None:
    seeing, blind = engine(), engine(max_images=0)
    left = [word for word in arguments.arguments(seeing) if word not in arguments.arguments(blind)]
    assert left == ["--mm-encoder-tp-mode", "data", "--limit-mm-per-prompt", _LIMITS]
    assert len(arguments.arguments(blind)) == len(arguments.arguments(seeing)) - len(left)


_LIMITS = '{"image":16,"video":0}'


def test_the_flagships_arguments() -> None:
    spec = engine(
        uri="hf://zai-org/GLM-4.6V-FP8",
        model_revision="abc123",
        tensor=4,
        max_model_len=131_072,
        expert_parallel=True,
        shutdown_seconds=120,
        extra_args=("--enforce-eager",),
    )
    assert arguments.arguments(spec) == [
        *("--model", "zai-org/GLM-4.6V-FP8", "--revision", "abc123"),
        *("--served-model-name", "glm-4.6v", "--port", "8000"),
        *("--tensor-parallel-size", "4", "--enable-expert-parallel"),
        *("--mm-encoder-tp-mode", "data"),
        *("--tool-call-parser", "glm45", "--reasoning-parser", "glm45"),
        "--enable-auto-tool-choice",
        *("--limit-mm-per-prompt", '{"image":16,"video":0}'),
        *("--max-model-len", "131072", "--max-num-batched-tokens", "8192"),
        *("--gpu-memory-utilization", "0.92"),
        *("--default-chat-template-kwargs", '{"enable_thinking":true}'),
        *("--override-generation-config", '{"max_new_tokens":16384}'),
        *("--allowed-media-domains", "no-media.invalid"),
        *("--max-num-queued-reqs", "256", "--shutdown-timeout", "120"),
        "--enable-prompt-tokens-details",
        *("--disable-access-log-for-endpoints", "/health,/metrics,/ping"),
        "--enforce-eager",
    ]


def test_the_engine_fetches_media_from_the_allowed_hosts_and_no_others() -> None:
    found = arguments.arguments(engine(media_domains=("a.example.org", "b.example.org")))
    at = found.index("--allowed-media-domains")
    assert found[at + 1 : at + 4] == ["a.example.org", "b.example.org", "--max-num-queued-reqs"]


def test_hosts_of_media_change_the_revision_and_none_do_not() -> None:
    some = engine(media_domains=("a.example.org",))
    assert some.revision() != engine().revision()
    assert EngineSpec.from_data(json.loads(json.dumps(some.to_data()))) == some
    older = {key: value for key, value in engine().to_data().items() if key != "media_domains"}
    assert EngineSpec.from_data(older).revision() == engine().revision()


def test_a_dense_model_gets_no_expert_parallelism_and_no_revision() -> None:
    found = arguments.arguments(engine())
    assert "--enable-expert-parallel" not in found
    assert "--revision" not in found


@pytest.mark.parametrize(
    ("changes", "option", "value"),
    [
        ({"fp8_kv_cache": True}, "--kv-cache-dtype", "fp8"),
        ({"thinking": False}, "--default-chat-template-kwargs", '{"enable_thinking":false}'),
        ({"max_output_tokens": 9}, "--override-generation-config", '{"max_new_tokens":9}'),
        ({"max_images": 2}, "--limit-mm-per-prompt", '{"image":2,"video":0}'),
    ],
)
def test_a_field_reaches_its_option(changes: dict[str, Any], option: str, value: str) -> None:
    found = arguments.arguments(engine(**changes))
    assert found[found.index(option) + 1] == value


def test_no_dangerous_option_is_ever_given() -> None:
    spec = engine(expert_parallel=True, fp8_kv_cache=True, model_revision="x")
    assert not [one for one in arguments.arguments(spec) if flags.is_dangerous(one)]
    assert not set(env()) & set(flags.DANGEROUS_VARIABLES)


def test_the_users_arguments_are_last_so_that_they_count() -> None:
    spec = engine(extra_args=("--tool-call-parser", "hermes"))
    assert arguments.arguments(spec)[-2:] == ["--tool-call-parser", "hermes"]


@pytest.mark.parametrize(
    ("uri", "path", "claim"),
    [
        ("hf://zai-org/GLM-4.6V-FP8", "zai-org/GLM-4.6V-FP8", ""),
        ("pvc://weights/glm/4.6v", "/weights/glm/4.6v", "weights"),
        ("pvc://weights", "/weights", "weights"),
        ("image:///models/flagship", "/models/flagship", ""),
    ],
)
def test_where_the_weights_are(uri: str, path: str, claim: str) -> None:
    assert (arguments.model_path(uri), arguments.claim_of(uri)) == (path, claim)


@pytest.mark.parametrize(
    ("uri", "path", "mounts"),
    [
        ("pvc://weights/glm/4.6v", "/weights/glm/4.6v", 1),
        ("image:///models/flagship", "/models/flagship", 0),
    ],
)
def test_a_claim_for_copies_of_the_hub_changes_no_other_address(
    uri: str, path: str, mounts: int
) -> None:
    made = container(engine(uri=uri, cache_claim="copies"))
    assert made["args"][:2] == ["--model", path]
    assert sum(one["name"] == "weights" for one in made["volumeMounts"]) == mounts


def test_a_claim_is_mounted_read_only() -> None:
    made = pod(engine(uri="pvc://weights/glm"))["spec"]
    source = {"claimName": "weights", "readOnly": True}
    assert {"name": "weights", "persistentVolumeClaim": source} in made["volumes"]
    mounts = made["containers"][0]["volumeMounts"]
    assert {"name": "weights", "mountPath": "/weights", "readOnly": True} in mounts


def test_no_pod_mounts_the_host() -> None:
    for uri in ("hf://a/b", "pvc://weights/glm", "image:///models/x"):
        volumes = pod(engine(uri=uri))["spec"]["volumes"]
        assert not [one for one in volumes if "hostPath" in one]


def test_the_hub_is_reached_only_for_weights_from_the_hub() -> None:
    assert "HF_HUB_OFFLINE" not in env(engine(uri="hf://a/b"))
    assert env(engine(uri="image:///m"))["HF_HUB_OFFLINE"] == "1"


def test_the_engine_takes_every_client_name_and_follows_no_redirect() -> None:
    assert env()["VLLM_SKIP_MODEL_NAME_VALIDATION"] == "1"
    assert env()["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "0"


def test_a_variable_of_the_user_wins_and_is_there_once() -> None:
    found = container(engine(env=(("HOME", "/data"), ("MINE", "1"))))["env"]
    assert [one["name"] for one in found].count("HOME") == 1
    assert {"name": "HOME", "value": "/data"} in found
    assert found[-1] == {"name": "MINE", "value": "1"}


def test_the_engine_waits_for_itself_as_long_as_the_kubelet_does() -> None:
    spec = engine(startup_seconds=3600)
    probe = container(spec)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 3600
    assert env(spec)["VLLM_ENGINE_READY_TIMEOUT_S"] == "3600"


def test_the_grace_holds_prestop_and_the_requests_in_flight() -> None:
    spec = engine(shutdown_seconds=120)
    pre_stop = container(spec)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod(spec)["spec"]["terminationGracePeriodSeconds"] > pre_stop + 120
    assert grace_seconds(spec) == pod(spec)["spec"]["terminationGracePeriodSeconds"]


def test_the_pod_obeys_pod_security_restricted() -> None:
    spec = pod()["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = spec["containers"][0]["securityContext"]
    assert security == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)


def test_the_pod_gets_no_service_variables_and_no_token() -> None:
    assert pod()["spec"]["enableServiceLinks"] is False
    assert pod()["spec"]["automountServiceAccountToken"] is False


def test_shared_memory_is_memory_of_the_tiers_size() -> None:
    shm = pod(engine(shm_bytes=16 << 30))["spec"]["volumes"][0]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": str(16 << 30)}


def test_gpus_are_asked_for_and_memory_is_limited() -> None:
    resources = container(engine(tensor=4, cpu="8", memory="64Gi"))["resources"]
    assert resources == {
        "requests": {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "4"},
        "limits": {"memory": "64Gi", "nvidia.com/gpu": "4"},
    }


PIN = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-node-2"]}]}


@pytest.mark.parametrize(
    ("pinning", "affinity"),
    [
        (
            "Required",
            {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [PIN]},
            },
        ),
        (
            "Preferred",
            {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 100, "preference": PIN}
                ]
            },
        ),
    ],
)
def test_the_pod_is_pinned_to_its_node(pinning: str, affinity: dict[str, Any]) -> None:
    found = pod(engine(pinning=pinning))["spec"]["affinity"]
    assert found == {"nodeAffinity": affinity}


def test_without_pinning_the_scheduler_chooses_by_the_selector() -> None:
    spec = pod(engine(pinning="None", node_selector={"pool": "gpu"}))["spec"]
    assert "affinity" not in spec
    assert spec["nodeSelector"] == {"pool": "gpu"}


def test_gpu_taints_are_tolerated_and_the_users_too() -> None:
    mine = {"key": "team", "operator": "Exists"}
    found = pod(engine(tolerations=(mine,)))["spec"]["tolerations"]
    gpu = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert found == [gpu, mine]


def test_optional_fields_are_left_out_or_given() -> None:
    optional = {"runtimeClassName", "priorityClassName", "imagePullSecrets", "nodeSelector"}
    assert not optional & set(pod()["spec"])
    spec = engine(runtime_class="glm-engine", priority_class="high", image_pull_secrets=("s",))
    made = pod(spec)["spec"]
    assert made["runtimeClassName"] == "glm-engine"
    assert made["priorityClassName"] == "high"
    assert made["imagePullSecrets"] == [{"name": "s"}]


def test_the_pod_names_its_owner_tier_and_revision() -> None:
    metadata = pod()["metadata"]
    assert metadata["name"] == "vision-flagship-5f2a9c1e-3"
    assert metadata["labels"][names.LABEL_DEPLOYMENT] == "vision"
    assert metadata["labels"][names.LABEL_TIER] == "flagship"
    assert metadata["labels"][names.LABEL_REVISION] == "5f2a9c1e"
    assert names.LABEL_ROUTABLE not in metadata["labels"]
    (owner,) = metadata["ownerReferences"]
    assert (owner["controller"], owner["blockOwnerDeletion"]) == (True, False)


def test_the_gate_is_the_operators_own_condition() -> None:
    assert pod()["spec"]["readinessGates"] == [{"conditionType": names.GATE_VERIFIED}]


def test_the_longest_name_still_is_a_label() -> None:
    long = Owner("v" * 40, "ml", "u")
    made = engine_pod(long, engine(), "5f2a9c1e", PodIdentity(9999), "IfNotPresent")
    assert len(made["metadata"]["name"]) <= 63


def test_a_stored_engine_reads_back_as_it_was() -> None:
    spec = engine(
        env=(("A", "1"),),
        extra_args=("--x",),
        tolerations=({"key": "t", "operator": "Exists"},),
        node_names=("n",),
        node_selector={"a": "b"},
        image_pull_secrets=("s",),
    )
    assert EngineSpec.from_data(json.loads(json.dumps(spec.to_data()))) == spec


def test_a_newer_operators_record_is_read_and_an_older_ones_too() -> None:
    data = engine().to_data()
    older = {key: value for key, value in data.items() if key not in ("env", "shm_bytes")}
    assert EngineSpec.from_data(older | {"later_field": 1}) == engine()


def test_a_revisions_name_never_changes() -> None:
    # Another value here would replace every engine pod of every installation.
    assert engine(uri="file:///m/f").revision() == "1b02f4ea"
    assert engine(max_images=16).revision() == engine().revision()
    assert engine(max_images=3).revision() != engine().revision()


def test_a_replica_for_a_new_node_names_none_and_avoids_what_is_too_small() -> None:
    wish = NodeWish("8xH100-80GB", "nvidia.com/gpu.product", ("NVIDIA-L4",), ("NVIDIA-H100",))
    identity = PodIdentity(3, wish=wish)
    made = engine_pod(OWNER, engine(), "5f2a9c1e", identity, "IfNotPresent")
    affinity = made["spec"]["affinity"]["nodeAffinity"]
    avoided = {"key": wish.label, "operator": "NotIn", "values": ["NVIDIA-L4"]}
    assert affinity["requiredDuringSchedulingIgnoredDuringExecution"] == {
        "nodeSelectorTerms": [{"matchExpressions": [avoided]}]
    }
    assert made["metadata"]["annotations"][names.ANNOTATION_ASKS_FOR_NODE] == "8xH100-80GB"
    replica = convert.replica_of(made | {"metadata": made["metadata"] | {"uid": "u"}}, "u")
    assert (replica.asks, replica.node, replica.bound) == (True, "", False)
    assert convert.holding_node(made) == ""
