"""vLLM's command line and environment for one tier. Spelling and defaults: vLLM 0.32."""

from __future__ import annotations

import json

from glm_operator.api import names
from glm_operator.manifests.engine import EngineSpec

COMMAND = ("python3", "-m", "vllm.entrypoints.openai.api_server")
"""The module, not the `vllm` script: the CPU distribution ships the script broken."""

GPU_MEMORY_UTILIZATION = "0.92"
"""vLLM 0.32's own default, written out so that the planner's arithmetic stays true."""
MAX_BATCHED_TOKENS = 8192
"""Above the 6,144 tokens of the largest image, so that one image always fits into one step."""
MAX_QUEUED_REQUESTS = 256
"""Above this the engine answers 503 and the gateway tries another replica."""
NO_MEDIA_DOMAIN = "no-media.invalid"
"""An empty list would allow every host; `.invalid` never resolves (RFC 2606)."""
KEEP_ALIVE_SECONDS = 120
"""Longer than any gateway keeps an idle connection, so that the engine never closes first."""
MAX_IMAGE_PIXELS = 40_000_000
MAX_MEDIA_MEGABYTES = 32

NODE_LOCAL = "NodeLocal"
"""EngineSpec.cache of a copy on the node, with its compile cache beside it."""
TEMPORARY = "/tmp"
WEIGHTS_MOUNT = "/weights"


COMPILE_MOUNT = "/compile"


def model_path(uri: str, *, mounted: bool = False) -> str:
    """What `--model` names: a repository of the hub, or a path inside the engine container.

    `mounted`: a copy of the repository is.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "file" or (scheme == "hf" and mounted):
        return WEIGHTS_MOUNT
    if scheme == "pvc":
        return f"{WEIGHTS_MOUNT}/{rest.partition('/')[2]}".rstrip("/")
    return rest


def claim_of(uri: str) -> str:
    """The PersistentVolumeClaim that a `pvc://` address names, else empty."""
    scheme, _, rest = uri.partition("://")
    return rest.partition("/")[0] if scheme == "pvc" else ""


def arguments(spec: EngineSpec, *, mounted: bool = False) -> list[str]:
    """The engine's arguments. The user's come last: vLLM takes the last of a repeated option.

    `mounted`: a copy of the hub's repository is mounted, so nothing is downloaded.
    """
    return [
        *_model(spec, mounted),
        *_parallelism(spec),
        *_tools(spec),
        *_memory(spec),
        *_thinking(spec),
        *("--allowed-media-domains", *(spec.media_domains or (NO_MEDIA_DOMAIN,))),
        *("--max-num-queued-reqs", str(MAX_QUEUED_REQUESTS)),
        *("--shutdown-timeout", str(spec.shutdown_seconds)),
        "--enable-prompt-tokens-details",
        *("--disable-access-log-for-endpoints", "/health,/metrics,/ping"),
        *spec.extra_args,
    ]


def _model(spec: EngineSpec, mounted: bool) -> list[str]:
    named = spec.model_revision and not mounted
    revision = ["--revision", spec.model_revision] if named else []
    return [
        *("--model", model_path(spec.uri, mounted=mounted)),
        *revision,
        *("--served-model-name", spec.served_name),
        *("--port", str(names.ENGINE_PORT)),
    ]


def _parallelism(spec: EngineSpec) -> list[str]:
    expert = ["--enable-expert-parallel"] if spec.expert_parallel else []
    stages = ["--pipeline-parallel-size", str(spec.pipeline)] if spec.pipeline > 1 else []
    # The vision tower has 12 heads: split by tensor parallelism it does not start at 8.
    vision = ["--mm-encoder-tp-mode", "data"] if spec.sees else []
    return ["--tensor-parallel-size", str(spec.tensor), *stages, *expert, *vision]


def _tools(spec: EngineSpec) -> list[str]:
    return [
        *("--tool-call-parser", spec.tool_call_parser),
        *("--reasoning-parser", spec.reasoning_parser),
        "--enable-auto-tool-choice",
    ]


def _memory(spec: EngineSpec) -> list[str]:
    cache = ["--kv-cache-dtype", "fp8"] if spec.fp8_kv_cache else []
    batch = ["--max-num-seqs", str(spec.max_num_seqs)] if spec.max_num_seqs else []
    return [
        *_media(spec),
        *("--max-model-len", str(spec.max_model_len)),
        *batch,
        *("--max-num-batched-tokens", str(MAX_BATCHED_TOKENS)),
        *("--gpu-memory-utilization", GPU_MEMORY_UTILIZATION),
        *cache,
    ]


def _media(spec: EngineSpec) -> list[str]:
    """Nothing for a model without vision: it has no images to count."""
    limits = json.dumps({"image": spec.max_images, "video": spec.max_videos}, separators=(",", ":"))
    return ["--limit-mm-per-prompt", limits] if spec.sees else []


def _thinking(spec: EngineSpec) -> list[str]:
    limit = json.dumps({"max_new_tokens": spec.max_output_tokens}, separators=(",", ":"))
    template = json.dumps({"enable_thinking": spec.thinking}, separators=(",", ":"))
    return [
        *("--default-chat-template-kwargs", template),
        *("--override-generation-config", limit),
    ]


def environment(spec: EngineSpec, *, mounted: bool = False) -> list[dict[str, str]]:
    """The engine's variables: ours, then the user's; a name that both set is the user's."""
    ours = {
        "HOME": TEMPORARY,
        # torch asks for the user's name, and uid 10001 has none in the image.
        "USER": names.ENGINE_CONTAINER,
        "LOGNAME": names.ENGINE_CONTAINER,
        "HF_HOME": f"{TEMPORARY}/huggingface",
        "VLLM_CACHE_ROOT": f"{TEMPORARY}/vllm",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(spec.startup_seconds),
        "VLLM_SKIP_MODEL_NAME_VALIDATION": "1",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "VLLM_MAX_MEDIA_DOWNLOAD_SIZE_MB": str(MAX_MEDIA_MEGABYTES),
        "VLLM_MAX_IMAGE_PIXELS": str(MAX_IMAGE_PIXELS),
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(KEEP_ALIVE_SECONDS),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if mounted or not spec.uri.startswith("hf://"):
        ours["HF_HUB_OFFLINE"] = "1"
    if mounted and spec.cache == NODE_LOCAL:
        ours["VLLM_CACHE_ROOT"] = COMPILE_MOUNT
    merged = ours | dict(spec.env)
    return [{"name": name, "value": value} for name, value in merged.items()]
