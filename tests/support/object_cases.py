"""Objects that obey and that break each rule, for Python and for a real API server alike."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

REMOVED = object()
"""As the value of a change: the field is taken out."""

FLAGSHIP = "spec.tiers.flagship"
FLASH = "spec.tiers.flash"
TEXT = "spec.tiers.text"
TEXT_TIER = {
    "model": {"preset": "GLM-4.6", "uri": "hf://zai-org/GLM-4.6-FP8", "quantization": "FP8"}
}


def base() -> Json:
    """The smallest object with a flagship and flash."""
    return {
        "apiVersion": "glm-operator.io/v1alpha1",
        "kind": "GLMDeployment",
        "metadata": {"name": "vision", "namespace": "default"},
        "spec": {
            "tiers": {
                "flagship": {
                    "model": {
                        "preset": "GLM-4.6V",
                        "uri": "hf://zai-org/GLM-4.6V-FP8",
                        "quantization": "FP8",
                    }
                },
                "flash": {
                    "model": {
                        "preset": "GLM-4.6V-Flash",
                        "uri": "hf://zai-org/GLM-4.6V-Flash",
                        "quantization": "BF16",
                    }
                },
            }
        },
    }


def changed(changes: Mapping[str, Any], start: Json | None = None) -> Json:
    """The object with some fields set; a path is dotted, from the root."""
    result = copy.deepcopy(start or base())
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = result
        for name in parents:
            place = place.setdefault(name, {})
        if value is REMOVED:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    return result


@dataclass(frozen=True)
class Case:
    """One accepted and one rejected object for one rule."""

    rule: str
    accepted: Mapping[str, Any]
    rejected: Mapping[str, Any]
    sentence: str
    """Part of what the user is told, the same from Python and from the API server."""
    note: str = ""
    """Tells several cases of one rule apart."""

    def __str__(self) -> str:
        return f"{self.rule}-{self.note}" if self.note else self.rule


@dataclass(frozen=True)
class EditCase:
    """A rule about an edit: what it is judged by is the object before."""

    rule: str
    before: Mapping[str, Any]
    accepted: Mapping[str, Any]
    rejected: Mapping[str, Any]
    sentence: str

    def __str__(self) -> str:
        return self.rule


def _arguments(*words: str) -> Json:
    return {f"{FLASH}.engine.extraArgs": list(words)}


def _variable(name: str) -> Json:
    return {f"{FLASH}.engine.env": [{"name": name, "value": "1"}]}


def _toleration(**fields: str) -> Json:
    return {f"{FLASH}.placement.tolerations": [fields]}


def _provisioned(shape: str, resource: str) -> Json:
    placement = {"provisioning": "NodeAutoscaler", "acceleratorResource": resource}
    return {f"{FLASH}.placement": placement | {"nodeAutoscaler": {"nodeShape": shape}}}


def _rules(*rules: Mapping[str, Any]) -> Json:
    whole = [{"name": "mine", "tier": "flash", **rule} for rule in rules]
    return {"spec.routing.rules": whole}


def _alias(name: str, target: str) -> Json:
    return {"spec.gateway.modelAliases": {name: target}}


BY_OPERATOR = "is set by the operator: use the fields of the object instead"
EXPOSES = "is refused: it would open the engine to its clients or expose what they send"

CASES = (
    Case(
        "name-length",
        {"metadata.name": "a" * 40},
        {"metadata.name": "a" * 41},
        f"metadata.name is {'a' * 41}: it must have at most 40 characters",
    ),
    Case(
        "name-form",
        {"metadata.name": "vision-2"},
        {"metadata.name": "vision.eu"},
        "metadata.name is vision.eu: it must begin with a letter and hold only a-z, 0-9 and -",
    ),
    Case(
        "one-tier",
        {FLASH: REMOVED},
        {FLASH: REMOVED, FLAGSHIP: REMOVED},
        "tiers needs at least one of flagship, flash and text",
    ),
    Case(
        "one-tier",
        {FLASH: REMOVED, FLAGSHIP: REMOVED, TEXT: TEXT_TIER},
        {FLASH: REMOVED, FLAGSHIP: REMOVED},
        "tiers needs at least one of flagship, flash and text",
        "text",
    ),
    Case(
        "model-uri",
        {f"{FLASH}.model.uri": "pvc://weights/glm/flash"},
        {f"{FLASH}.model.uri": "s3://bucket/flash"},
        "uri is s3://bucket/flash: it must be hf://organisation/name, pvc://claim/path,",
    ),
    Case(
        "model-uri",
        {f"{FLASH}.model.uri": "image:///models/flash"},
        {f"{FLASH}.model.uri": "image:///models/../etc"},
        "uri is image:///models/../etc: it must be hf://organisation/name",
        "outside",
    ),
    Case(
        "model-revision",
        {f"{FLASH}.model.revision": "main"},
        {f"{FLASH}.model.revision": "main", f"{FLASH}.model.uri": "pvc://weights"},
        "revision is main and uri is pvc://weights: revision names a commit on the hub",
    ),
    Case(
        "model-group-size",
        {f"{FLAGSHIP}.model.groupSize": 128},
        {f"{FLAGSHIP}.model.groupSize": 64},
        "groupSize is 64 and quantization is FP8: Auto and BF16 have no groups, FP8 one scale",
    ),
    Case(
        "alias-shadows-preset",
        {"spec.gateway.modelAliases": {"glm-4.5v": "flagship"}},
        {
            "spec.gateway.modelAliases": {"glm-4.5v": "flash"},
            f"{FLAGSHIP}.model.preset": "GLM-4.5V",
        },
        "must not be the name of a model that a tier serves",
    ),
    Case(
        "context-limit",
        {f"{FLAGSHIP}.model.preset": "GLM-4.5V", f"{FLAGSHIP}.context.maxModelLen": 65_536},
        {f"{FLAGSHIP}.model.preset": "GLM-4.5V", f"{FLAGSHIP}.context.maxModelLen": 65_537},
        "context.maxModelLen is 65537: GLM-4.5V holds at most 65536 tokens",
    ),
    Case(
        "context-limit",
        {f"{FLASH}.context.maxModelLen": 131_072},
        {f"{FLASH}.context.maxModelLen": 131_073},
        "context.maxModelLen is 131073: GLM-4.6V-Flash holds at most 131072 tokens",
        "flash",
    ),
    Case(
        "tensor-legal",
        {f"{FLAGSHIP}.parallelism.tensor": "8"},
        {f"{FLAGSHIP}.parallelism.tensor": "3"},
        "parallelism.tensor is 3: it must be Auto or one of 1, 2, 4, 8, 16, 32, so that",
    ),
    Case(
        "tensor-legal",
        {f"{FLASH}.parallelism.tensor": "2"},
        {f"{FLASH}.parallelism.tensor": "6"},
        "1, 2, 4, 8, 16, 32, so that 32 attention heads and 2 key-value heads divide evenly",
        "flash",
    ),
    Case(
        "tensor-legal",
        {TEXT: TEXT_TIER | {"parallelism": {"tensor": "16"}}},
        {TEXT: TEXT_TIER | {"parallelism": {"tensor": "24"}}},
        "1, 2, 4, 8, 16, 32, so that 96 attention heads",
        "text",
    ),
    Case(
        "expert-dense",
        {f"{FLAGSHIP}.parallelism.expert": "Enabled"},
        {f"{FLASH}.parallelism.expert": "Enabled"},
        "parallelism.expert Enabled needs a mixture of experts, and the models of flash are dense",
    ),
    Case(
        "engine-args-words",
        _arguments("--max-num-seqs=8"),
        _arguments("--max-num-seqs 8"),
        "extraArgs: --max-num-seqs 8 holds two words: give option and value as two items",
    ),
    Case(
        "engine-args-operator",
        _arguments("--max-num-seqs", "8"),
        _arguments("--port=9000"),
        f"extraArgs: --port=9000 {BY_OPERATOR}",
    ),
    Case(
        "engine-args-operator",
        _arguments("--tool-call-parser", "hermes"),
        _arguments("--enforce-eager", "--tensor_parallel_size", "2"),
        f"extraArgs: --tensor_parallel_size {BY_OPERATOR}",
        "underscores",
    ),
    Case(
        "engine-args-operator",
        _arguments("--enable-log-deltas"),
        _arguments("--served-model", "glm"),
        f"extraArgs: --served-model {BY_OPERATOR}",
        "abbreviation",
    ),
    Case(
        "engine-args-operator",
        _arguments("--seed", "-1"),
        _arguments("-tp2"),
        f"extraArgs: -tp2 {BY_OPERATOR}",
        "short",
    ),
    Case(
        "engine-args-operator",
        _arguments("--mm-processor-kwargs.fps", "2"),
        _arguments("--limit-mm-per-prompt.image", "64"),
        f"extraArgs: --limit-mm-per-prompt.image {BY_OPERATOR}",
        "dotted",
    ),
    Case(
        "engine-args-operator",
        _arguments("--no-enable-log-deltas"),
        _arguments("--no-enable-expert-parallel"),
        f"extraArgs: --no-enable-expert-parallel {BY_OPERATOR}",
        "negation",
    ),
    Case(
        "selector-keys",
        {f"{FLASH}.placement.nodeSelector": {"example.com/pool": "gpu"}},
        {f"{FLASH}.placement.nodeSelector": {"not a key!": "gpu"}},
        "a key of nodeSelector must be a label's name",
    ),
    Case(
        "engine-args-dangerous",
        _arguments("--dtype=bfloat16"),
        _arguments("--trust-remote-code"),
        f"extraArgs: --trust-remote-code {EXPOSES}",
    ),
    Case(
        "engine-env-operator",
        _variable("VLLM_CPU_KVCACHE_SPACE"),
        _variable("VLLM_PORT"),
        "env: VLLM_PORT is set by the operator",
    ),
    Case(
        "engine-env-dangerous",
        _variable("TORCHDYNAMO_DISABLE"),
        _variable("VLLM_SERVER_DEV_MODE"),
        f"env: VLLM_SERVER_DEV_MODE {EXPOSES}",
    ),
    Case(
        "context-length",
        {f"{FLASH}.context.maxModelLen": 2048},
        {f"{FLASH}.context.maxModelLen": 2047},
        "maxModelLen is 2047: it must be 0 (the longest that fits) or at least 2048 tokens",
    ),
    Case(
        "toleration",
        _toleration(key="spot", value="true"),
        _toleration(value="true"),
        "a toleration needs a key with operator Equal",
    ),
    Case(
        "toleration",
        _toleration(operator="Exists"),
        _toleration(operator="Exists", key="spot", value="true"),
        "no value with operator Exists",
        "exists",
    ),
    Case(
        "pinned-nodes",
        {f"{FLASH}.placement": {"nodeNames": ["a"]}},
        {
            f"{FLASH}.placement": {"nodeNames": ["a"], "pinning": "None"},
            f"{FLASH}.weights.cache": "Ephemeral",
        },
        "pinning is None: nodeNames needs Required or Preferred",
    ),
    Case(
        "weights-claim",
        {f"{FLASH}.weights": {"cache": "PersistentVolumeClaim", "claimName": "models"}},
        {f"{FLASH}.weights": {"cache": "PersistentVolumeClaim"}},
        "cache is PersistentVolumeClaim and claimName is : claimName names the claim of cache",
    ),
    Case(
        "weights-claim",
        {f"{FLASH}.weights": {"cache": "Ephemeral"}},
        {f"{FLASH}.weights": {"claimName": "models"}},
        "cache is NodeLocal and claimName is models: claimName names the claim of cache",
        "unused",
    ),
    Case(
        "weights-provisioned",
        {
            f"{FLASH}.placement.provisioning": "NodeAutoscaler",
            f"{FLASH}.model.uri": "pvc://weights/flash",
        },
        {
            f"{FLASH}.placement.provisioning": "NodeAutoscaler",
            f"{FLASH}.model.uri": "file:///models/flash",
        },
        "placement.provisioning is NodeAutoscaler: a node that comes does not hold the folder",
    ),
    Case(
        "weights-auto",
        {f"{FLASH}.model.quantization": "Auto"},
        {f"{FLASH}.model.quantization": "Auto", f"{FLASH}.weights.prePull": "Disabled"},
        "model.quantization is Auto and weights.prePull is Disabled: Auto needs a checkpoint",
    ),
    Case(
        "weights-auto",
        {f"{FLASH}.model.quantization": "Auto", f"{FLASH}.model.uri": "pvc://weights"},
        {f"{FLASH}.model.quantization": "Auto", f"{FLASH}.model.uri": "image:///models/flash"},
        "model.quantization is Auto and weights.prePull is Enabled: Auto needs a checkpoint",
        "image",
    ),
    Case(
        "weights-pinned",
        {f"{FLASH}.placement.pinning": "None", f"{FLASH}.weights.cache": "Ephemeral"},
        {f"{FLASH}.placement.pinning": "None"},
        "placement.pinning is None and weights.cache is NodeLocal: weights on the node need a pod",
    ),
    Case(
        "weights-pinned",
        {f"{FLASH}.placement.pinning": "Preferred", f"{FLASH}.model.uri": "image:///models/flash"},
        {f"{FLASH}.placement.pinning": "Preferred", f"{FLASH}.model.uri": "file:///models/flash"},
        "placement.pinning is Preferred and weights.cache is NodeLocal: weights on the node need",
        "file",
    ),
    Case(
        "node-shape",
        {f"{FLASH}.placement.nodeAutoscaler": {"nodeShape": "16xMI300X-192GB"}},
        {f"{FLASH}.placement.nodeAutoscaler": {"nodeShape": "8xH100"}},
        "nodeShape is 8xH100: it must be empty, or the number of GPUs of one node and their name",
    ),
    Case(
        "node-shape",
        {f"{FLASH}.placement.nodeAutoscaler": {"nodeShape": "64xL4-24GB"}},
        {f"{FLASH}.placement.nodeAutoscaler": {"nodeShape": "65xL4-24GB"}},
        "nodeShape is 65xL4-24GB: it must be empty, or the number of GPUs of one node",
        "count",
    ),
    Case(
        "provisioned-nodes",
        {f"{FLASH}.placement": {"provisioning": "NodeAutoscaler", "nodeSelector": {"a": "b"}}},
        {f"{FLASH}.placement": {"provisioning": "NodeAutoscaler", "nodeNames": ["a"]}},
        "provisioning is NodeAutoscaler: a node that comes has no name yet, leave nodeNames empty",
    ),
    Case(
        "provisioned-resource",
        _provisioned("8xMI300X-192GB", "amd.com/gpu"),
        _provisioned("8xMI300X-192GB", "nvidia.com/gpu"),
        "nodeShape is 8xMI300X-192GB and acceleratorResource is nvidia.com/gpu: these GPUs are not",
    ),
    Case(
        "provisioned-resource",
        _provisioned("8xH100-80GB", "example.com/gpu"),
        _provisioned("8xH100-80GB", "amd.com/gpu"),
        "AMD's are amd.com/gpu and NVIDIA's nvidia.com/gpu",
        "nvidia",
    ),
    Case(
        "accelerator-resource",
        {f"{FLASH}.placement.acceleratorResource": "amd.com/gpu"},
        {f"{FLASH}.placement.acceleratorResource": "requests.kubernetes.io/gpu"},
        "acceleratorResource is requests.kubernetes.io/gpu: it must be an extended resource",
    ),
    Case(
        "scaling-range",
        {f"{FLASH}.scaling": {"minReplicas": 4, "maxReplicas": 4}},
        {f"{FLASH}.scaling": {"minReplicas": 5, "maxReplicas": 4}},
        "minReplicas is 5 and maxReplicas is 4: minReplicas must not be above maxReplicas",
    ),
    Case(
        "scaling-zero",
        {f"{FLASH}.scaling": {"minReplicas": 0, "mode": "Internal"}},
        {f"{FLASH}.scaling": {"minReplicas": 0, "mode": "External"}},
        "minReplicas is 0 and mode is External: minReplicas 0 needs mode Internal",
    ),
    Case(
        "limits-bytes",
        {"spec.gateway.limits": {"maxBodyBytes": 4096, "maxInFlightBytes": 4096}},
        {"spec.gateway.limits": {"maxBodyBytes": 4097, "maxInFlightBytes": 4096}},
        "maxBodyBytes is 4097 and maxInFlightBytes is 4096: maxBodyBytes must not be above",
    ),
    Case(
        "rule-headers",
        _rules({"match": {"headers": {"x-team": "batch"}}}),
        _rules({"match": {"headers": {"authorization": "Bearer x"}}}),
        "a name in headers must be in small letters, at most 63, and none that holds a secret",
    ),
    Case(
        "rule-headers",
        _rules({"match": {"headers": {"x-1": "Batch"}}}),
        _rules({"match": {"headers": {"X-1": "Batch"}}}),
        "a name in headers must be in small letters",
        "letters",
    ),
    Case(
        "rule-names",
        _rules({"name": "one"}, {"name": "two"}),
        _rules({"name": "one"}, {"name": "one", "tier": "flagship"}),
        "two rules have the same name, rename one",
    ),
    Case(
        "rule-tier",
        {**_rules({"tier": "text"}), TEXT: TEXT_TIER},
        _rules({"tier": "text"}),
        "routing.rules names a tier that this object does not have",
    ),
    Case(
        "rule-models",
        {**_alias("receipts", "auto"), **_rules({"match": {"models": ["glm", "receipts"]}})},
        {**_alias("receipts", "flash"), **_rules({"match": {"models": ["receipts"]}})},
        "models in routing.rules must be routing.autoModel or an alias for auto",
    ),
    Case(
        "alias-length",
        _alias("a" * 128, "auto"),
        _alias("a" * 129, "auto"),
        "a name in modelAliases must have 1 to 128 characters",
    ),
    Case(
        "alias-shadows-model",
        _alias("gpt-4o", "flagship"),
        _alias("glm-4.6v-flash", "flagship"),
        "modelAliases must not rename a tier's own model (glm-4.6v, glm-4.6v-flash, glm-4.6)",
    ),
    Case(
        "alias-shadows-model",
        _alias("glm-4.6-fp8", "auto"),
        _alias("glm-4.6", "auto"),
        "modelAliases must not rename a tier's own model (glm-4.6v, glm-4.6v-flash, glm-4.6)",
        "text",
    ),
    Case(
        "alias-shadows-auto",
        _alias("house", "auto"),
        _alias("glm", "auto"),
        "routing.autoModel is glm: gateway.modelAliases must not contain this name too",
    ),
    Case(
        "alias-target",
        {**_alias("house", "flagship"), FLASH: REMOVED},
        {**_alias("house", "flash"), FLASH: REMOVED},
        "gateway.modelAliases names a tier that this object does not have",
    ),
    Case(
        "alias-target",
        {**_alias("house", "text"), TEXT: TEXT_TIER},
        _alias("house", "text"),
        "gateway.modelAliases names a tier that this object does not have",
        "text",
    ),
    Case(
        "auto-shadows-model",
        {"spec.routing.autoModel": "auto"},
        {"spec.routing.autoModel": "glm-4.6v"},
        "routing.autoModel is glm-4.6v: it must not be a tier's own model name",
    ),
    Case(
        "auto-shadows-model",
        {"spec.routing.autoModel": "glm-4"},
        {"spec.routing.autoModel": "glm-4.6"},
        "routing.autoModel is glm-4.6: it must not be a tier's own model name",
        "text",
    ),
)

EDIT_CASES = (
    EditCase(
        "one-writer-of-replicas",
        {f"{FLASH}.replicas": 2},
        {f"{FLASH}.replicas": 3, f"{FLASH}.scaling.mode": "Off"},
        {f"{FLASH}.replicas": 3},
        "flash is scaled by the operator: change minReplicas or maxReplicas, or set scaling.mode",
    ),
)

FULL = {
    "mode": "Paused",
    "tiers": {
        "flagship": {
            "model": {
                "preset": "GLM-4.6V",
                "uri": "hf://zai-org/GLM-4.6V",
                "revision": "0123abc",
                "quantization": "FP8",
                "groupSize": 0,
            },
            "engine": {
                "image": "registry.example/vllm:v0.32.0",
                "extraArgs": ["--enforce-eager"],
                "env": [{"name": "NCCL_DEBUG", "value": "WARN"}],
                "resources": {"cpu": "12", "memory": "96Gi"},
            },
            "parallelism": {"tensor": "8", "pipeline": "1", "expert": "Disabled"},
            "context": {"maxModelLen": 65536, "kvCacheDType": "FP8", "fullLengthSequences": 2},
            "multimodal": {"maxImagesPerRequest": 4, "maxVideosPerRequest": 1},
            "thinking": {"default": "Disabled", "maxOutputTokens": 4096},
            "placement": {
                "pinning": "Preferred",
                "nodeNames": ["gpu-1", "gpu-2"],
                "nodeSelector": {"pool": "gpu"},
                "tolerations": [
                    {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoExecute"}
                ],
                "acceleratorResource": "example.com/gpu",
                "runtimeClassName": "nvidia",
                "priorityClassName": "high",
                "provisioning": "None",
                "nodeAutoscaler": {
                    "nodeShape": "8xH100-80GB",
                    "maxUnschedulable": 2,
                    "timeoutSeconds": 600,
                },
            },
            "weights": {
                "cache": "PersistentVolumeClaim",
                "claimName": "models",
                "prePull": "Disabled",
                "secretRef": "hub",
            },
            "replicas": 2,
            "drain": {"timeoutSeconds": 60},
        },
        "flash": {
            "model": {
                "preset": "GLM-4.6V-Flash",
                "uri": "pvc://weights/flash",
                "revision": "",
                "quantization": "INT4",
                "groupSize": 32,
            },
            "engine": {
                "image": "registry.example/vllm:v0.32.0",
                "extraArgs": ["--enforce-eager"],
                "env": [{"name": "NCCL_DEBUG", "value": "WARN"}],
                "resources": {"cpu": "6", "memory": "32Gi"},
            },
            "parallelism": {"tensor": "2", "pipeline": "Auto", "expert": "Disabled"},
            "context": {"maxModelLen": 32768, "kvCacheDType": "FP8", "fullLengthSequences": 4},
            "multimodal": {"maxImagesPerRequest": 8, "maxVideosPerRequest": 0},
            "thinking": {"default": "Disabled", "maxOutputTokens": 2048},
            "placement": {
                "pinning": "None",
                "nodeNames": [],
                "nodeSelector": {"pool": "gpu"},
                "tolerations": [
                    {"key": "", "operator": "Exists", "value": "", "effect": "NoSchedule"}
                ],
                "acceleratorResource": "example.com/gpu",
                "runtimeClassName": "nvidia",
                "priorityClassName": "high",
                "provisioning": "NodeAutoscaler",
                "nodeAutoscaler": {
                    "nodeShape": "8xH100-80GB",
                    "maxUnschedulable": 2,
                    "timeoutSeconds": 600,
                },
            },
            "weights": {
                "cache": "NodeLocal",
                "claimName": "",
                "prePull": "Disabled",
                "secretRef": "hub",
            },
            "replicas": 3,
            "drain": {"timeoutSeconds": 30},
            "scaling": {
                "mode": "External",
                "minReplicas": 2,
                "maxReplicas": 6,
                "scaleToZero": {"idleSeconds": 120, "holdTimeoutSeconds": 60},
            },
        },
        "text": {
            "model": {
                "preset": "GLM-4.6",
                "uri": "hf://zai-org/GLM-4.6",
                "revision": "4567def",
                "quantization": "FP8",
                "groupSize": 128,
            },
            "engine": {
                "image": "registry.example/vllm:v0.32.0",
                "extraArgs": ["--enforce-eager"],
                "env": [{"name": "NCCL_DEBUG", "value": "WARN"}],
                "resources": {"cpu": "16", "memory": "128Gi"},
            },
            "parallelism": {"tensor": "16", "pipeline": "2", "expert": "Disabled"},
            "context": {
                "maxModelLen": 200000,
                "kvCacheDType": "FP8",
                "fullLengthSequences": 1,
            },
            "thinking": {"default": "Disabled", "maxOutputTokens": 8192},
            "placement": {
                "pinning": "Preferred",
                "nodeNames": ["gpu-3"],
                "nodeSelector": {"pool": "gpu"},
                "tolerations": [
                    {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoExecute"}
                ],
                "acceleratorResource": "example.com/gpu",
                "runtimeClassName": "nvidia",
                "priorityClassName": "high",
                "provisioning": "None",
                "nodeAutoscaler": {
                    "nodeShape": "8xH100-80GB",
                    "maxUnschedulable": 2,
                    "timeoutSeconds": 600,
                },
            },
            "weights": {
                "cache": "Ephemeral",
                "claimName": "",
                "prePull": "Disabled",
                "secretRef": "hub",
            },
            "replicas": 2,
            "drain": {"timeoutSeconds": 90},
        },
    },
    "routing": {
        "autoModel": "auto",
        "qualityTolerancePoints": 0,
        "rules": [
            {
                "name": "nightly",
                "match": {
                    "tasks": ["general"],
                    "minImages": 1,
                    "hasVideo": "Excluded",
                    "hasTools": "Any",
                    "inToolLoop": "Required",
                    "minContextTokens": 1000,
                    "headers": {"x-batch": "nightly"},
                    "models": ["gpt-4o"],
                },
                "tier": "flash",
            }
        ],
        "degradation": "Degrade",
    },
    "gateway": {
        "replicas": 3,
        "modelAliases": {"gpt-4o": "auto"},
        "service": {"type": "NodePort"},
        "auth": {"apiKeysSecretRef": "glm-api-keys"},
        "limits": {
            "maxBodyBytes": 1048576,
            "maxInFlightBytes": 8388608,
            "maxHeldRequests": 16,
        },
        "media": {"allowedDomains": ["images.example.org"], "allowHTTP": "Enabled"},
    },
    "imagePullSecrets": ["pull"],
}
"""A spec in which every field has a value that is not its default, where rules allow one."""


def full() -> Json:
    """The object with every field set."""
    return base() | {"spec": copy.deepcopy(FULL)}
