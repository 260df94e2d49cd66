"""vLLM options and variables that a user may not set. Spellings: vLLM 0.32's own parser."""

from __future__ import annotations

OPERATOR_FLAGS = (
    "--allowed-media-domains",
    "--config",
    "--data-parallel-address",
    "--data-parallel-external-lb",
    "--data-parallel-hybrid-lb",
    "--data-parallel-multi-port-external-lb",
    "--data-parallel-size-local",
    "--default-chat-template-kwargs",
    "--disable-log-stats",
    "--enable-expert-parallel",
    "--grpc-port",
    "--headless",
    "--host",
    "--kv-cache-dtype",
    "--limit-mm-per-prompt",
    "--max-model-len",
    "--mm-encoder-tp-mode",
    "--model",
    "--nnodes",
    "--override-generation-config",
    "--pipeline-parallel-size",
    "--port",
    "--revision",
    "--root-path",
    "--served-model-name",
    "--shutdown-timeout",
    "--ssl-certfile",
    "--ssl-keyfile",
    "--tensor-parallel-size",
    "--uds",
)
"""Set by the operator, or at odds with how it runs and reaches the engine.

A shorter option that begins one of these is refused with it, because argparse expands what is
unambiguous; so `--data-parallel-size` is covered by `--data-parallel-size-local`.
"""

DANGEROUS_FLAGS = (
    "--allowed-local-media-path",
    "--api-key",
    "--enable-log-outputs",
    "--enable-log-requests",
    "--enable-mm-embeds",
    "--enable-tokenizer-info-endpoint",
    "--profiler-config",
    "--tool-server",
    "--trust-remote-code",
    "--trust-request-chat-template",
    "--trust-request-mm-kwargs",
)
"""They let a client read files, run code or see others' prompts, or hold a secret."""

SHORT_FLAGS = ("-tp", "-ep", "-pp", "-dp", "-dcp", "-pcp", "-asc", "-n", "-r")
"""Short spellings of the operator's options; a value may follow without a space."""

NEGATION = "--no-"
"""Switches a flag off that may also be given without it."""

OPERATOR_VARIABLES = (
    "VLLM_HOST_IP",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS",
    "VLLM_PORT",
    "VLLM_SKIP_MODEL_NAME_VALIDATION",
)
"""Set by the operator, or at odds with how it reaches the engine."""

DANGEROUS_VARIABLES = (
    "VLLM_ALLOW_INSECURE_SERIALIZATION",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "VLLM_API_KEY",
    "VLLM_SERVER_DEV_MODE",
)
"""They open administration to every client, run code, or put a secret into the object."""


def option(argument: str) -> str:
    """The option that an argument names, without its value and dotted key, spelled with dashes."""
    return argument.split("=")[0].split(".")[0].replace("_", "-")


def _abbreviates(argument: str, flags: tuple[str, ...]) -> bool:
    return argument.startswith("--") and any(flag.startswith(option(argument)) for flag in flags)


def is_two_words(argument: str) -> bool:
    """Whether an option and its value share an item; vLLM would take both for one option."""
    return argument.startswith("-") and " " in argument and "=" not in argument


def is_operators(argument: str) -> bool:
    """Whether an argument sets what only the operator may set; abbreviations and `--no-` count."""
    positive = argument.replace(NEGATION, "--")
    return argument.startswith(SHORT_FLAGS) or _abbreviates(positive, OPERATOR_FLAGS)


def is_dangerous(argument: str) -> bool:
    """Whether an argument opens the engine to its clients, abbreviations included."""
    return _abbreviates(argument, DANGEROUS_FLAGS)
