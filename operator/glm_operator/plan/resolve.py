"""What a tier's inputs come to: recorded once, and reused while the inputs stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from glm_operator import catalog
from glm_operator.api.enums import Expert, KVCacheDType, Thinking
from glm_operator.api.tier import AnyTier
from glm_operator.manifests.engine import EngineSpec, canonical_hash
from glm_operator.plan.fit import Ask, Fit, Hosting, Option, Rejection, fit
from glm_operator.plan.observed import Defaults, Node, Revision
from glm_operator.plan.placement import Constraints

LIVE_FIELDS = {"replicas", "drain", "scaling"}
"""Fields of a tier that no pod is made of."""
AUTO = "Auto"


@dataclass(frozen=True, slots=True)
class Inputs:
    """One tier as the user wrote it, and the defaults it is resolved with."""

    name: str
    tier: AnyTier
    pull_secrets: tuple[str, ...]
    defaults: Defaults

    @property
    def model(self) -> catalog.Model:
        """The catalogue's entry."""
        return catalog.get(self.tier.model.preset)

    def hash(self) -> str:
        """Hash of what the user wrote and a pod is made of.

        Fields at their default are left out: one that a later version adds changes nothing.
        """
        written = self.tier.model_dump(
            mode="json", by_alias=True, exclude=LIVE_FIELDS, exclude_defaults=True
        )
        return canonical_hash({"tier": written, "pullSecrets": sorted(self.pull_secrets)})


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a tier would run by its present inputs."""

    engine: EngineSpec | None
    """None where nothing fits."""
    option: Option | None
    rejected: tuple[Rejection, ...]
    inputs: str
    """Hash of the user's inputs."""
    revision: str = ""
    """Names the engine's resolved inputs; empty where nothing fits."""
    recorded: bool = False
    """Taken from a ControllerRevision, not decided now."""
    update: str = ""
    """What today's defaults would change, as a sentence; empty: nothing."""

    def record(self) -> dict[str, Any]:
        """The content of the ControllerRevision. Raises ValueError where nothing fits."""
        if self.engine is None or self.option is None:
            raise ValueError("a tier that does not fit has nothing to record")
        return self.engine.to_data() | {"inputs": self.inputs, "option": asdict(self.option)}


Choose = Callable[[EngineSpec], bool]
"""Whether the promised replicas of an engine would find room now."""


def read_record(revision: Revision) -> tuple[EngineSpec, Option]:
    """The engine and the option that a ControllerRevision recorded."""
    known = {item.name for item in fields(Option)}
    stored: Mapping[str, Any] = revision.data["option"]
    option = Option(**{key: value for key, value in stored.items() if key in known})
    return EngineSpec.from_data(revision.data), option


@dataclass(frozen=True, slots=True)
class Records:
    """The ControllerRevisions of a tier, and which of them have replicas."""

    revisions: tuple[Revision, ...]
    in_use: frozenset[str]

    def matching(self, inputs: str) -> Revision | None:
        """The newest record of these inputs."""
        known = [one for one in self.revisions if one.data.get("inputs") == inputs]
        return max(known, key=lambda one: one.number, default=None)


def resolve(
    wanted: Inputs, nodes: Iterable[Node], records: Records, has_room: Choose
) -> Resolution:
    """Resolve a tier: as recorded, else by the best option that has room, else by the best.

    A record is passed over only where it has no replica and no node could host one any more,
    and something else fits: then the cluster has become another one.
    """
    nodes = tuple(nodes)
    inputs = wanted.hash()
    found = _fit(wanted, nodes)
    record = records.matching(inputs)
    if record is not None:
        engine, option = read_record(record)
        stands = record.hash in records.in_use or not found.options
        if stands or can_be_hosted(engine, nodes):
            rejected = _rejected(found, option)
            # The record's own name: a later version may hash the same engine differently.
            update = _update(wanted, engine)
            return Resolution(engine, option, rejected, inputs, record.hash, True, update)
    sized = [(option, sized_engine(wanted, option)) for option in found.options]
    roomy = (pair for pair in sized if has_room(pair[1]))
    chosen = next(roomy, sized[0] if sized else None)
    if chosen is None:
        return Resolution(None, None, found.rejected, inputs)
    option, engine = chosen
    return Resolution(engine, option, _rejected(found, option), inputs, engine.revision())


def _fit(wanted: Inputs, nodes: tuple[Node, ...]) -> Fit:
    tier = wanted.tier
    tensor = tier.parallelism.tensor
    ask = Ask(
        model=wanted.model,
        quantization=tier.model.quantization.value,
        tensor=0 if tensor == AUTO else int(tensor),
        max_model_len=tier.context.max_model_len,
        fp8_kv_cache=_fp8_kv_cache(tier),
    )
    placement = tier.placement
    constraints = Constraints(
        placement.accelerator_resource,
        placement.node_names,
        dict(placement.node_selector),
        _tolerations(tier),
    )
    return fit(ask, constraints, nodes)


def _fp8_kv_cache(tier: AnyTier) -> bool:
    return tier.context.kv_cache_dtype is KVCacheDType.FP8


def _tolerations(tier: AnyTier) -> tuple[dict[str, str], ...]:
    """As Kubernetes writes them: no empty fields."""
    return tuple(
        {key: value for key, value in item.model_dump(mode="json").items() if value}
        for item in tier.placement.tolerations
    )


def _rejected(found: Fit, chosen: Option) -> tuple[Rejection, ...]:
    """Every option but the chosen one, those that would fit as well included."""
    passed = [
        Rejection(option.describe(), _passed_over(option, chosen))
        for option in found.options
        if (option.gpu, option.tensor) != (chosen.gpu, chosen.tensor)
    ]
    return (*passed, *found.rejected)


def _passed_over(option: Option, chosen: Option) -> str:
    if option.max_model_len < chosen.max_model_len:
        return f"it holds {option.max_model_len} tokens, and {chosen.max_model_len} are possible"
    if option.tensor > chosen.tensor:
        return f"it fits and takes {option.tensor} GPUs per replica instead of {chosen.tensor}"
    if option.tensor == chosen.tensor:
        return "it fits as well; replicas may also be placed there"
    return f"it fits and has no room now, and {chosen.describe()} has"


def sized_engine(wanted: Inputs, option: Option) -> EngineSpec:
    """The engine of a tier at the size of an option, with today's defaults."""
    tier, model = wanted.tier, wanted.model
    placement = tier.placement
    return EngineSpec(
        tier=wanted.name,
        preset=model.preset,
        served_name=model.served_name,
        uri=tier.model.uri,
        model_revision=tier.model.revision,
        quantization=tier.model.quantization.value,
        image=tier.engine.image or wanted.defaults.engine_image,
        tensor=option.tensor,
        expert_parallel=_expert_parallel(tier, model, option.tensor),
        max_model_len=option.max_model_len,
        fp8_kv_cache=_fp8_kv_cache(tier),
        tool_call_parser=model.tool_call_parser,
        reasoning_parser=model.reasoning_parser,
        max_images=tier.max_images,
        thinking=tier.thinking.default is Thinking.ENABLED,
        max_output_tokens=tier.thinking.max_output_tokens,
        extra_args=tier.engine.extra_args,
        env=tuple((one.name, one.value) for one in tier.engine.env),
        cpu=tier.engine.resources.cpu or model.host.cpu,
        memory=tier.engine.resources.memory or model.host.memory,
        resource=placement.accelerator_resource,
        pinning=placement.pinning.value,
        node_names=placement.node_names,
        node_selector=dict(placement.node_selector),
        tolerations=_tolerations(tier),
        runtime_class=placement.runtime_class_name,
        priority_class=placement.priority_class_name,
        image_pull_secrets=wanted.pull_secrets,
        shm_bytes=model.host.shm_bytes,
        startup_seconds=model.host.startup_seconds,
        shutdown_seconds=model.host.shutdown_seconds,
    )


def _expert_parallel(tier: AnyTier, model: catalog.Model, tensor: int) -> bool:
    if not model.is_mixture or tier.parallelism.expert is Expert.DISABLED:
        return False
    return tensor > 1 or tier.parallelism.expert is Expert.ENABLED


def _update(wanted: Inputs, recorded: EngineSpec) -> str:
    """What a change of any RestartsTier field would bring along besides."""
    today = sized_engine(wanted, _size_of(recorded))
    changed = [
        f"{item.name.replace('_', ' ')} {getattr(today, item.name)}"
        for item in fields(EngineSpec)
        if getattr(today, item.name) != getattr(recorded, item.name)
    ]
    return f"today's defaults would give {', '.join(changed)}" if changed else ""


def _size_of(engine: EngineSpec) -> Option:
    return Option("", 0, engine.tensor, engine.max_model_len, 0, 0)


def can_be_hosted(engine: EngineSpec, nodes: Iterable[Node]) -> bool:
    """Whether any node, were it empty, could host a replica."""
    hosting = Hosting(engine)
    return any(not hosting.refusal(node) for node in nodes)
