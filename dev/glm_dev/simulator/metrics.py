"""vLLM 0.32's metrics in Prometheus' text format: names, labels and buckets of v1/metrics."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

LATENCY = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
INTER_TOKEN = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0),
)
ITERATION = tuple(float(2**n) for n in (0, *range(3, 15)))
BLOCK_TOKENS = 128
SMALL_COUNTS = (1.0, 2.0, 5.0, 10.0, 20.0)
PREEMPTIONS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
COUNTERS = (
    *("prompt_tokens", "generation_tokens", "prompt_tokens_cached", "num_preemptions"),
    *("prefix_cache_queries", "prefix_cache_hits", "mm_cache_queries", "mm_cache_hits"),
    *("external_prefix_cache_queries", "external_prefix_cache_hits"),
    *("estimated_flops_per_gpu", "estimated_read_bytes_per_gpu", "estimated_write_bytes_per_gpu"),
)
SOURCES = {
    "prompt_tokens_by_source": ("local_compute", "local_cache_hit", "external_kv_transfer"),
    "prompt_tokens_cached_by_source": ("device", "host", "disk", "p2p", "external_unspecified"),
}
PARSER_OUTCOMES = ("tool_call", "no_tool_call")
FINISHED = ("stop", "length", "abort", "error", "repetition")
REJECTIONS = ("max_num_queued_reqs", "max_num_queued_tokens")
Labels = tuple[tuple[str, str], ...]


def token_buckets(max_model_len: int) -> tuple[float, ...]:
    """The 1-2-5 series up to the model's length."""
    series = (m * 10**e for e in itertools.count() for m in (1, 2, 5))
    return tuple(float(v) for v in itertools.takewhile(lambda v: v <= max_model_len, series))


@dataclass(slots=True)
class Histogram:
    """Counts per bucket, not yet cumulative."""

    buckets: Sequence[float]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def observe(self, value: float) -> None:
        """Add one observation."""
        self.counts = self.counts or [0] * (len(self.buckets) + 1)
        self.counts[bisect.bisect_left(self.buckets, value)] += 1
        self.total += value

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        """The `_bucket`, `_count` and `_sum` samples."""
        counts = self.counts or [0] * (len(self.buckets) + 1)
        bounds = [str(float(bound)) for bound in self.buckets] + ["+Inf"]
        for bound, running in zip(bounds, itertools.accumulate(counts), strict=True):
            yield sample(f"{name}_bucket", (*labels, ("le", bound)), running)
        yield sample(f"{name}_count", labels, sum(counts))
        yield sample(f"{name}_sum", labels, self.total)


def sample(name: str, labels: Labels, value: float) -> str:
    """One line of the text format."""
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in sorted(labels))
    return f"{name}{{{inside}}} {float(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Metrics:
    """Counters and histograms of one engine; gauges are passed in when they are read."""

    def __init__(self, model_name: str, max_model_len: int, kv_tokens: int) -> None:
        self._max_model_len = max_model_len
        self._kv_tokens = kv_tokens
        self._labels: Labels = (("model_name", model_name), ("engine", "0"))
        self._model: Labels = (("model_name", model_name),)
        lengths = token_buckets(max_model_len)
        self._counters: dict[tuple[str, Labels], float] = {}
        self._histograms = {
            "vllm:time_to_first_token_seconds": Histogram(FIRST_TOKEN),
            "vllm:inter_token_latency_seconds": Histogram(INTER_TOKEN),
            "vllm:request_time_per_output_token_seconds": Histogram(INTER_TOKEN),
            "vllm:e2e_request_latency_seconds": Histogram(LATENCY),
            "vllm:request_queue_time_seconds": Histogram(LATENCY),
            "vllm:request_prefill_time_seconds": Histogram(LATENCY),
            "vllm:request_decode_time_seconds": Histogram(LATENCY),
            "vllm:request_inference_time_seconds": Histogram(LATENCY),
            "vllm:request_prompt_tokens": Histogram(lengths),
            "vllm:request_generation_tokens": Histogram(lengths),
            "vllm:request_params_max_tokens": Histogram(lengths),
            "vllm:request_max_num_generation_tokens": Histogram(lengths),
            "vllm:request_prefill_kv_computed_tokens": Histogram(lengths),
            "vllm:request_params_n": Histogram(SMALL_COUNTS),
            "vllm:request_num_preemptions": Histogram(PREEMPTIONS),
            "vllm:iteration_tokens_total": Histogram(ITERATION),
        }
        self._declare()

    def _declare(self) -> None:
        """Every counter exists from the start, at 0, as vLLM creates its labels at start."""
        for name in COUNTERS:
            self.add(name, 0)
        for name, sources in SOURCES.items():
            for source in sources:
                self.add(name, 0, ("source", source))
        for mode, outcome in itertools.product(("streaming", "non_streaming"), PARSER_OUTCOMES):
            for kind in ("chat_completions", "responses", "other"):
                self.parsed(mode, outcome, kind, 0)
        for reason in FINISHED:
            self.finished(reason, 0)
        for reason in REJECTIONS:
            self.rejected(reason, 0)

    def add(self, name: str, value: float, *extra: tuple[str, str]) -> None:
        """Add to a counter; the name is without its `_total`."""
        key = (f"vllm:{name}", (*self._labels, *extra))
        self._counters[key] = self._counters.get(key, 0.0) + value

    def observe(self, name: str, value: float) -> None:
        """Add an observation to a histogram."""
        self._histograms[f"vllm:{name}"].observe(value)

    def finished(self, reason: str, count: int = 1) -> None:
        """Count a request by how it ended."""
        self.add("request_success", count, ("finished_reason", reason))

    def parsed(self, mode: str, outcome: str, kind: str, count: int = 1) -> None:
        """Count what the tool parser made of an answer; vLLM gives this one no engine label."""
        extra = (("mode", mode), ("outcome", outcome), ("request_type", kind))
        key = ("vllm:tool_call_parser_invocations", (*self._model, *extra))
        self._counters[key] = self._counters.get(key, 0.0) + count

    def rejected(self, reason: str, count: int = 1) -> None:
        """Count a request that the queue limit refused; vLLM gives this one no engine label."""
        key = ("vllm:admission_rejections", (*self._model, ("reason", reason)))
        self._counters[key] = self._counters.get(key, 0.0) + count

    def render(self, gauges: Mapping[str, float]) -> str:
        """The whole page."""
        return "\n".join(self._lines(gauges)) + "\n"

    def _lines(self, gauges: Mapping[str, float]) -> Iterator[str]:
        for name, value in gauges.items():
            yield f"# TYPE vllm:{name} gauge"
            yield sample(f"vllm:{name}", self._labels, value)
        yield from self._states(gauges)
        ordered = sorted(self._counters.items())
        for name, group in itertools.groupby(ordered, key=lambda item: item[0][0]):
            yield f"# TYPE {name}_total counter"
            for (_, labels), value in group:
                yield sample(f"{name}_total", labels, value)
        for name, histogram in self._histograms.items():
            yield f"# TYPE {name} histogram"
            yield from histogram.lines(name, self._labels)

    def _states(self, gauges: Mapping[str, float]) -> Iterator[str]:
        waiting = gauges.get("num_requests_waiting", 0.0)
        yield "# TYPE vllm:num_requests_waiting_by_reason gauge"
        for reason, value in (("capacity", waiting), ("deferred", 0.0)):
            labels = (*self._labels, ("reason", reason))
            yield sample("vllm:num_requests_waiting_by_reason", labels, value)
        yield "# TYPE vllm:cache_config_info gauge"
        yield sample("vllm:cache_config_info", self._cache_labels(), 1.0)
        yield "# TYPE vllm:engine_sleep_state gauge"
        for state, value in (("awake", 1.0), ("weights_offloaded", 0.0), ("discard_all", 0.0)):
            labels = (*self._labels, ("sleep_state", state))
            yield sample("vllm:engine_sleep_state", labels, value)

    def _cache_labels(self) -> Labels:
        """The useful part of what vLLM shows of its cache, in its own label names."""
        facts = {
            "block_size": BLOCK_TOKENS,
            "cache_dtype": "auto",
            "engine": 0,
            "kv_cache_max_concurrency": self._kv_tokens / self._max_model_len,
            "kv_cache_size_tokens": self._kv_tokens,
            "num_gpu_blocks": self._kv_tokens // BLOCK_TOKENS,
        }
        return tuple((name, str(value)) for name, value in facts.items())
