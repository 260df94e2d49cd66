"""The arithmetic of a candidate as text: one line for each step, figures under each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from glm_operator.catalog.memory import RESERVE_BYTES
from glm_operator.plan.sizing import CONTEXT_STEP, LARGEST_BATCH, SHORT_REQUEST_TOKENS
from glm_operator.preview.text import wrapped

GIB = 1 << 30
LABEL_WIDTH = 32
FIGURE_WIDTH = 16
NOTABLE_COPY = 1 << 20

Json = Mapping[str, Any]
Step = tuple[str, str, str]
"""What, the figure, how it comes about."""


def explanation(tier: str, candidate: Json, width: int) -> list[str]:
    """The lines of one candidate."""
    state = "taken" if candidate["taken"] else "rejected"
    lines = wrapped(f"{tier}, {state}: {candidate['option']}", width)
    for step in _steps(candidate):
        lines += _lines(step, width)
    return [*lines, *_ending(candidate, width)]


def _lines(step: Step, width: int) -> list[str]:
    label, figure, how = step
    start = f"  {label.ljust(LABEL_WIDTH)}{figure.rjust(FIGURE_WIDTH)}"
    return wrapped(how, width, f"{start}  ", " " * (len(start) + 2)) if how else [start]


def _steps(one: Json) -> Iterator[Step]:
    """Per GPU, from the memory of the device to the tokens of the cache."""
    kept = one["reportedMiB"] * (1 << 20) - one["deviceBytes"]
    yield "memory of a GPU", f"{one['reportedMiB']:,} MiB", "as the driver's tool reports it"
    yield "what a program sees", _gib(one["deviceBytes"]), f"the driver keeps {kept >> 20:,} MiB"
    yield "usable", _gib(one["usableBytes"]), f"x 0.{one['utilizationPercent']}"
    yield "- weights", _gib(one["weightBytes"]), _stage(one)
    for part in one["weights"]:
        yield f"    {part['part']}", _gib(part["gpuBytes"]), _part(part)
    yield "- reserve", _gib(one["reserveBytes"]), _reserve(one)
    yield "= KV cache", _gib(one["cacheBytes"]), f"{one['cacheBytes']:,} bytes"
    yield "/ bytes of a token", f"{one['bytesPerToken']:,}", _token(one)
    yield "= tokens in the KV cache", f"{one['kvTokens']:,}", ""


def _stage(one: Json) -> str:
    layers = one["stage"]["layers"]
    if one["stages"] == 1:
        return ""
    return f"pipeline stage {one['stage']['number']}, {layers} layers: the one with least room"


def _part(part: Json) -> str:
    scales = f", scales {_gib(part['scaleBytes'])} of it" if part["scaleBytes"] else ""
    share = "whole on every GPU" if part["whole"] else f"of {_gib(part['bytes'])}{_copied(part)}"
    return f"{share}: {part['parameters']:,} parameters in {part['format']}{scales}"


def _copied(part: Json) -> str:
    """What a GPU holds beyond its equal share; a few bytes come from rounding."""
    copied = part["copiedBytes"]
    return f", {_gib(copied)} of it on other GPUs too" if copied >= NOTABLE_COPY else ""


def _reserve(one: Json) -> str:
    videos = "" if one["reserveBytes"] == RESERVE_BYTES else ", with video"
    return f"an estimate{videos}: activations, the encoder's profile run, CUDA graphs, NCCL"


def _token(one: Json) -> str:
    return (
        f"{one['stage']['layers']} layers x 2 x {one['kvHeadsPerGpu']} of {one['kvHeads']} KV heads"
        f" x {one['headDim']} x {one['kvElementBytes']} bytes"
    )


def _ending(one: Json, width: int) -> list[str]:
    if not one["taken"]:
        return wrapped(one["message"], width, "  => ", "     ")
    steps: list[Step] = [
        ("/ --max-model-len", f"{one['maxModelLen']:,}", _length(one)),
        (
            "= full-length requests",
            f"{one['fullLengthSequences']:,}",
            "at once",
        ),
        ("--max-num-seqs", f"{one['maxNumSeqs']:,}", _batch()),
        ("--max-num-batched-tokens", f"{one['maxNumBatchedTokens']:,}", _image(one)),
    ]
    return [line for step in steps for line in _lines(step, width)]


def _length(one: Json) -> str:
    return (
        f"as written, else the model's own limit or what {one['fullLengthSequencesWanted']} such"
        f" leave, in steps of {CONTEXT_STEP:,}"
    )


def _batch() -> str:
    return f"tokens / {SHORT_REQUEST_TOKENS:,}, at most {LARGEST_BATCH}: few requests are shorter"


def _image(one: Json) -> str:
    tokens = one["imageTokens"]
    return (
        f"above the {tokens:,} tokens of the largest image: one fits into a step" if tokens else ""
    )


def _gib(size: int) -> str:
    """Two figures more than the sums need; what is small in MiB."""
    return f"{size / GIB:,.2f} GiB" if abs(size) >= GIB // 10 else f"{size / (1 << 20):,.1f} MiB"
