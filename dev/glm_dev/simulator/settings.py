"""What the simulator is told: vLLM's flags on the command line, behaviour by `SIM_*` variables."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, get_type_hints

PREFIX = "SIM_"

NATIVE_PARSERS = frozenset({"glm45", "glm47"})
"""Parsers that read GLM's own tool call markup."""

JSON_PARSERS = frozenset({"hermes", "qwen3_json"})
"""Parsers that read a JSON object between `<tool_call>` tags."""

OTHER_PARSERS = frozenset(
    (
        *("apertus", "cohere_command3", "cohere_command4", "deepseek_v3", "deepseek_v31"),
        *("deepseek_v32", "deepseek_v4", "deepseek_v41", "dots", "ernie45"),
        *("functiongemma", "gemma4", "gigachat3", "granite", "granite-20b-fc", "granite4"),
        *("hf", "hunyuan_a13b", "hy_v3", "hy_v4", "inkling", "internlm", "jamba"),
        *("k2_horizon", "kimi_k2", "kimi_k3", "lfm2", "ling3", "llama3_json"),
        *("llama4_json", "llama4_pythonic", "longcat", "mimo", "minicpm5", "minimax_m2"),
        *("minimax_m3", "mistral", "muse_glimmer", "olmo3", "openai", "phi4_mini_json"),
        *("plamo3", "poolside_v1", "pythonic", "qwen3_coder", "qwen3_xml", "seed_oss"),
        *("step3", "step3p5", "xlam"),
    )
)
"""The rest of vLLM 0.32's parsers: they find no tool call in what a GLM model writes."""

PARSERS = NATIVE_PARSERS | JSON_PARSERS | OTHER_PARSERS


TEXT_MODELS = frozenset({"glm-4.6"})
"""Served names that stand for a model without vision: there is no checkpoint to tell."""


class SettingsError(ValueError):
    """The command line or a `SIM_*` variable makes no sense; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What vLLM's command line fixes for the life of the process."""

    model: str
    served_names: tuple[str, ...]
    host: str = "0.0.0.0"
    port: int = 8000
    tool_call_parser: str = ""
    auto_tool_choice: bool = False
    reasoning_parser: str = ""
    tensor_parallel_size: int = 1
    max_model_len: int = 131072
    max_num_seqs: int = 256
    max_num_queued_reqs: int | None = None
    """Cap on unfinished requests, running ones included, as vLLM 0.32 counts them."""
    max_images: int | None = None
    shutdown_timeout: int = 0
    """Seconds that requests in flight may still take after SIGTERM; 0 aborts them."""
    thinking: bool = True
    prompt_tokens_details: bool = False
    skip_model_name_validation: bool = False
    kept: tuple[str, ...] = ()
    """Arguments that the simulator accepts and does not act on."""

    @property
    def name(self) -> str:
        """The name in answers and metric labels: the first served name."""
        return self.served_names[0]

    @property
    def sees(self) -> bool:
        """Whether the model takes images."""
        return self.name not in TEXT_MODELS


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Speeds and injected failures; every field can be changed while the process runs."""

    startup_seconds: float = 0.0
    """Time between process start and the first accepted connection."""
    first_token_ms: float = 20.0
    inter_token_ms: float = 5.0
    prefill_tokens_per_second: float = 0.0
    """Prompt tokens worked off per second before the first token; 0 is without limit."""
    output_tokens: int = 32
    """Length of a text answer that no `max_tokens` cuts."""
    kv_tokens: int = 500_000
    """Tokens that the key-value cache holds; what does not fit waits."""
    seed: int = 0
    die_at_image: bool = False
    """Exit with code 0 at the first image, as vLLM does without a C++ compiler."""
    hang: bool = False
    """Accept requests and never answer them, while /health says 200."""
    unhealthy: bool = False
    """/health answers 503, as vLLM does when its engine core is dead."""
    fail_status: int = 0
    """Answer every generation with this status in vLLM's error body; 0 is off."""
    fail_count: int = 0
    """How many generations `fail_status` applies to; 0 means all."""
    crash_after_requests: int = 0
    """Exit with code 1 before the first byte of this generation, counted from 1; 0 is off."""
    crash_after_tokens: int = 0
    """Exit with code 1 once a generation has sent this many tokens; 0 is off."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read `SIM_<FIELD>` variables. Raises SettingsError for unknown names and bad values."""
        given = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in environment.items()
            if name.startswith(PREFIX)
        }
        return cls().changed(given)

    def changed(self, values: Mapping[str, Any]) -> Self:
        """A copy with some fields replaced. Raises SettingsError for unknown names and values."""
        kinds = get_type_hints(type(self))
        unknown = sorted(set(values) - {item.name for item in fields(self)})
        if unknown:
            names = ", ".join(sorted(item.name for item in fields(self)))
            raise SettingsError(f"unknown behaviour {', '.join(unknown)}; there are: {names}")
        return replace(self, **{n: _converted(n, v, kinds[n]) for n, v in values.items()})


def _converted(name: str, value: Any, kind: type) -> Any:
    try:
        if kind is bool:
            return str(value).lower() in ("1", "true", "yes")
        return kind(value)
    except (TypeError, ValueError):
        raise SettingsError(f"{name}={value!r} is not a {kind.__name__}") from None


def parse(argv: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Read vLLM's command line. Unknown flags are kept; raises SettingsError as vLLM would."""
    known, kept = _parser().parse_known_args(argv)
    if known.enable_auto_tool_choice and not known.tool_call_parser:
        raise SettingsError("Error: --enable-auto-tool-choice requires --tool-call-parser")
    if known.enable_auto_tool_choice and known.tool_call_parser not in PARSERS:
        chosen = ",".join(sorted(PARSERS))
        raise SettingsError(
            f"invalid tool call parser: {known.tool_call_parser} (chose from {{ {chosen} }})"
        )
    template = _object(known.default_chat_template_kwargs, "--default-chat-template-kwargs")
    limits = _object(known.limit_mm_per_prompt, "--limit-mm-per-prompt")
    return Settings(
        model=known.model,
        served_names=tuple(known.served_model_name or [known.model]),
        host=known.host or "0.0.0.0",
        port=known.port,
        tool_call_parser=known.tool_call_parser,
        auto_tool_choice=known.enable_auto_tool_choice,
        reasoning_parser=known.reasoning_parser,
        tensor_parallel_size=known.tensor_parallel_size,
        max_model_len=known.max_model_len,
        max_num_seqs=known.max_num_seqs,
        max_num_queued_reqs=known.max_num_queued_reqs,
        max_images=limits.get("image"),
        shutdown_timeout=known.shutdown_timeout,
        thinking=bool(template.get("enable_thinking", True)),
        prompt_tokens_details=known.enable_prompt_tokens_details,
        skip_model_name_validation=environment.get("VLLM_SKIP_MODEL_NAME_VALIDATION") == "1",
        kept=tuple(kept),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vllm", allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--served-model-name", nargs="+")
    parser.add_argument("--host", default="")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--tool-call-parser", default="")
    parser.add_argument("--enable-auto-tool-choice", action="store_true")
    parser.add_argument("--reasoning-parser", default="")
    parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    parser.add_argument("--max-model-len", type=_length, default=131072)
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--max-num-queued-reqs", type=int)
    parser.add_argument("--limit-mm-per-prompt", default="{}")
    parser.add_argument("--shutdown-timeout", type=int, default=0)
    parser.add_argument("--default-chat-template-kwargs", default="{}")
    parser.add_argument("--enable-prompt-tokens-details", action="store_true")
    return parser


def _length(text: str) -> int:
    """`--max-model-len` takes 8192, 8k (thousand), 8K (1024), auto and -1."""
    if text in ("auto", "-1"):
        return 131072
    factor = {"k": 1000, "K": 1024, "m": 10**6, "M": 2**20}.get(text[-1:], 1)
    return int(float(text.rstrip("kKmM")) * factor)


def _object(text: str, flag: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{flag}: {text!r} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise SettingsError(f"{flag}: {text!r} is not a JSON object")
    return value
