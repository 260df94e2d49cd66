"""One way of running a tier on one kind of node: whether it fits, and what it comes to.

Exact by the catalogue: weights and KV cache are arithmetic, only the reserve is an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass

from glm_operator import catalog
from glm_operator.api import reasons
from glm_operator.catalog import Budget, Format, Sharding

GIB = 1 << 30
AUTO = "Auto"
FP8 = "FP8"
CONTEXT_STEP = 1024
"""Automatic lengths are whole multiples, so that a few bytes more or less change nothing."""
SHORTEST_CONTEXT = 8192
"""Tokens of an automatic length: an image of the largest size, a question and an answer."""
SHORT_REQUEST_TOKENS = 1024
"""Few requests with an image are shorter; more of them than the cache holds only push each other
out of it."""
LARGEST_BATCH = 256
"""vLLM 0.32's own default of --max-num-seqs on most GPUs; the sampler's buffers grow with it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be sized, as the user wrote it."""

    model: catalog.Model
    form: Format
    tensor: int = 0
    """0: the planner chooses."""
    pipeline: int = 0
    """0: the planner chooses."""
    expert: str = AUTO
    """Auto, Enabled or Disabled."""
    max_model_len: int = 0
    """Tokens; 0: the longest that fits."""
    kv_cache: str = AUTO
    """Auto, BF16 or FP8."""
    sequences: int = 1
    """Requests of full length that one replica must hold at once."""
    videos: int = 0
    """Most videos in one request."""

    def sharding(self, tensor: int, pipeline: int) -> Sharding:
        """A sharding with the experts spread as asked."""
        wanted = self.expert == "Enabled" or (self.expert == AUTO and tensor > 1)
        return Sharding(tensor, pipeline, wanted and self.model.is_mixture)

    @property
    def full_length(self) -> int:
        """The length that is wanted: as written, else the model's own."""
        return self.max_model_len or self.model.max_context_tokens


@dataclass(frozen=True, slots=True)
class Shape:
    """Nodes that are alike: the same GPU, and as many of them."""

    gpu: catalog.GPU
    gpus: int

    def describe(self) -> str:
        """The shape in words."""
        return f"{self.gpus} x {self.gpu.product} ({gib(self.gpu.memory_bytes)})"


@dataclass(frozen=True, slots=True)
class Option:
    """One way of running the tier that fits. Recorded: fields may be added with a default."""

    gpu: str
    gpu_bytes: int
    tensor: int
    max_model_len: int
    kv_tokens: int
    """Tokens that the KV cache of one replica holds."""
    headroom_bytes: int
    """Memory of each GPU that is left beside the full-length requests that were asked for."""
    pipeline: int = 1
    expert: bool = False
    fp8_kv_cache: bool = False
    weight_bytes: int = 0
    """Weights on each GPU of the fullest stage; 0 in records of older versions."""
    max_num_seqs: int = 0
    """Requests that one replica runs at once; 0: vLLM's default."""
    warnings: tuple[str, ...] = ()
    """What a user should know before buying or starting it, in sentences."""

    @property
    def sharding(self) -> Sharding:
        """How a replica is spread over its GPUs."""
        return Sharding(self.tensor, self.pipeline, self.expert)

    @property
    def full_length_sequences(self) -> int:
        """Requests of full length that one replica holds at once."""
        return self.kv_tokens // self.max_model_len

    def describe(self) -> str:
        """The option in words."""
        cache = ", FP8 KV cache" if self.fp8_kv_cache else ""
        return f"{self.sharding.describe()}{cache} on {self.gpu}"

    def figures(self) -> str:
        """What the option comes to, in words."""
        return (
            f"{gib(self.weight_bytes)} of weights per GPU, {self.kv_tokens} tokens of KV cache,"
            f" {self.full_length_sequences} x {self.max_model_len} tokens"
        )


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a size does not fit, and by how much."""

    reason: str
    """One of the catalogue's."""
    message: str
    """The same as a sentence with its figures."""
    distance: tuple[int, int]
    """How far it is from fitting: kind of lack, then GPUs or bytes."""


LARGEST_NODE = 8
"""GPUs of the largest nodes commonly sold; a size that needs more is not near to fitting."""
GPUS_LACK, MEMORY_LACKS, BOTH_LACK = range(3)
"""Kinds of lack: with more of the same GPUs it would fit; each GPU is too small; both."""


def size(ask: Ask, shape: Shape, sharding: Sharding, fp8_kv: bool) -> Option | Misfit:
    """What a replica comes to on a kind of node, or why it does not fit in one sentence."""
    illegal = catalog.refusal(ask.model, sharding) or _slice_refusal(shape, sharding)
    if illegal:
        return Misfit(reasons.ILLEGAL_SHARDING, illegal, (BOTH_LACK, sharding.gpus))
    unsupported = _format_refusal(ask, shape, fp8_kv)
    if unsupported:
        return Misfit(reasons.FORMAT_UNSUPPORTED, unsupported, (BOTH_LACK, sharding.gpus))
    budget = budget_of(ask, shape.gpu, sharding, fp8_kv)
    lacking = lacks(ask, budget)
    if sharding.gpus > shape.gpus:
        gpus = "1 GPU" if sharding.gpus == 1 else f"{sharding.gpus} GPUs"
        message = f"needs {gpus} on one node, and these have {shape.gpus}"
        sold = sharding.gpus <= LARGEST_NODE
        kind = GPUS_LACK if lacking <= 0 and sold else BOTH_LACK
        return Misfit(reasons.TOO_FEW_GPUS, message, (kind, sharding.gpus - shape.gpus))
    if lacking > 0:
        message = _too_little(ask, budget)
        return Misfit(reasons.TOO_LITTLE_MEMORY, message, (MEMORY_LACKS, lacking))
    return _option(ask, shape, sharding, budget, fp8_kv)


def _slice_refusal(shape: Shape, sharding: Sharding) -> str:
    """Slices do not reach each other, and a program sees one of them only.

    https://docs.nvidia.com/datacenter/tesla/mig-user-guide (CUDA device enumeration, no peer to
    peer between slices).
    """
    if sharding.gpus == 1 or not shape.gpu.is_slice:
        return ""
    return f"{shape.gpu.product} is a slice of a GPU, and slices cannot work together"


def _option(ask: Ask, shape: Shape, sharding: Sharding, budget: Budget, fp8_kv: bool) -> Option:
    return Option(
        gpu=shape.gpu.product,
        gpu_bytes=shape.gpu.memory_bytes,
        tensor=sharding.tensor,
        max_model_len=length_of(ask, budget),
        kv_tokens=budget.tokens,
        headroom_bytes=-lacks(ask, budget),
        pipeline=sharding.pipeline,
        expert=sharding.expert,
        fp8_kv_cache=fp8_kv,
        weight_bytes=budget.weights,
        max_num_seqs=min(LARGEST_BATCH, max(ask.sequences, budget.tokens // SHORT_REQUEST_TOKENS)),
        warnings=tuple(_warnings(ask, shape.gpu, sharding, fp8_kv, length_of(ask, budget))),
    )


def budget_of(ask: Ask, gpu: catalog.GPU, sharding: Sharding, fp8_kv: bool) -> Budget:
    """The memory of one GPU under a sharding."""
    return catalog.budget(ask.model, ask.form, sharding, gpu.memory_bytes, fp8_kv, ask.videos)


def length_of(ask: Ask, budget: Budget) -> int:
    """Tokens of the longest conversation that is wanted or possible."""
    if ask.max_model_len:
        return ask.max_model_len
    whole = budget.tokens // ask.sequences // CONTEXT_STEP * CONTEXT_STEP
    longest = ask.model.max_context_tokens
    return max(min(SHORTEST_CONTEXT, longest), min(longest, whole))


def lacks(ask: Ask, budget: Budget) -> int:
    """Bytes of each GPU that are missing for the requests of full length; negative: left over."""
    return length_of(ask, budget) * ask.sequences * budget.per_token - budget.cache


def _format_refusal(ask: Ask, shape: Shape, fp8_kv: bool) -> str:
    """Why a GPU cannot compute with a number format, or an empty string.

    vLLM runs FP8 weights on NVIDIA GPUs of every age (Marlin) and on AMD's from MI300 on.
    """
    small = ask.form.kind == FP8 or fp8_kv
    if small and shape.gpu.is_amd and not shape.gpu.has_fp8:
        return f"{shape.gpu.product} has no FP8 units, and vLLM for AMD does without them only BF16"
    return ""


def _warnings(
    ask: Ask, gpu: catalog.GPU, sharding: Sharding, fp8_kv: bool, length: int
) -> list[str]:
    found = []
    if ask.form.kind == FP8 and not gpu.has_fp8:
        found.append(
            f"{gpu.product} has no FP8 units: FP8 weights save memory there and no time, because"
            " every step converts them"
        )
    if fp8_kv and not gpu.has_fp8:
        found.append(
            f"an FP8 KV cache on {gpu.product} needs an attention back-end that converts it; vLLM"
            " does not start where it finds none"
        )
    if fp8_kv and ask.kv_cache == AUTO:
        found.append(
            "the KV cache is FP8 because nothing fits with BF16; it costs some accuracy, and"
            " context.kvCacheDType: BF16 forbids it"
        )
    if ask.videos and length < ask.model.video_tokens:
        found.append(
            f"a video may take {ask.model.video_tokens} tokens, and a conversation holds {length}:"
            " longer videos are refused"
        )
    cut = catalog.group_refusal(ask.model, ask.form, sharding)
    if cut:
        found.append(f"it starts only if the checkpoint leaves that layer unquantised: {cut}")
    return found


def _too_little(ask: Ask, budget: Budget) -> str:
    cache = budget.cache
    left = f"leave {gib(cache)}" if cache > 0 else f"are {gib(-cache)} too much"
    length = length_of(ask, budget)
    wanted = f"{ask.sequences} x {length}" if ask.sequences > 1 else str(length)
    needed = gib(length * ask.sequences * budget.per_token)
    return (
        f"{gib(budget.weights)} of weights and {gib(budget.reserve)} of reserve in"
        f" {gib(budget.usable)} per GPU {left}, and {wanted} tokens of KV cache need {needed}"
    )


def gib(size: int) -> str:
    """Bytes in words."""
    return f"{size / GIB:.1f} GiB"
