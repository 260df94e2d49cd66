"""What a tier's inputs come to: recorded once, and reused while the inputs stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from glm_operator import catalog
from glm_operator.api import reasons
from glm_operator.api.enums import Quantization, Thinking, WeightsCache
from glm_operator.api.model import Model
from glm_operator.api.tier import AnyTier
from glm_operator.manifests.engine import EngineSpec, canonical_hash
from glm_operator.plan.fit import Fit, Rejection, fit
from glm_operator.plan.hosting import can_be_hosted
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.observed import Defaults, Node, Revision
from glm_operator.plan.placement import Constraints
from glm_operator.plan.sizing import AUTO, Ask, Option

LIVE_FIELDS = {"replicas", "drain", "scaling"}
"""Fields of a tier that no pod is made of."""
LIVE_PLACEMENT = ("provisioning", "node_autoscaler")
"""Fields of its placement of which the same is true."""
LIVE_WEIGHTS = ("pre_pull", "secret_ref")
"""Fields of its weights of which the same is true."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """One tier as the user wrote it, and the defaults it is resolved with."""

    name: str
    tier: AnyTier
    pull_secrets: tuple[str, ...]
    defaults: Defaults
    facts: Mapping[str, Any] | None = None
    """What the checkpoint is; None: the preset is believed."""
    commit: str = ""
    """What `model.revision` was resolved to; empty: unknown."""
    allowed_domains: tuple[str, ...] = ()
    """Hosts of media by URL, of the object; a model without vision has none."""

    @property
    def media_domains(self) -> tuple[str, ...]:
        """Hosts from which the tier's engines fetch media, in an order of their own."""
        return tuple(sorted(self.allowed_domains)) if self.tier.max_images else ()

    @property
    def model(self) -> catalog.Model:
        """The catalogue's entry."""
        return catalog.get(self.tier.model.preset)

    @property
    def checkpoint(self) -> catalog.Checkpoint:
        """The model as the checkpoint has it, where it was read; else as the preset does.

        Raises:
            glm_operator.catalog.CheckpointRefused: the tier cannot serve it.
        """
        model, written = self.tier.model, self.tier.model.quantization
        told = catalog.text_of(self.facts)
        if written is not Quantization.AUTO:
            form = catalog.Format(written.value, model.group_size)
            return catalog.adapted(self.model, form, told)
        # Until it is read the largest is counted.
        found = catalog.adapted(self.model, catalog.Format("BF16"), told)
        return catalog.adapted(self.model, found.form, told)

    @property
    def ask(self) -> Ask:
        """What is to be sized. Raises as `checkpoint` does."""
        tier, found = self.tier, self.checkpoint
        tensor, pipeline = tier.parallelism.tensor, tier.parallelism.pipeline
        return Ask(
            model=found.model,
            form=found.form,
            tensor=0 if tensor == AUTO else int(tensor),
            pipeline=0 if pipeline == AUTO else int(pipeline),
            expert=tier.parallelism.expert.value,
            max_model_len=tier.context.max_model_len,
            kv_cache=tier.context.kv_cache_dtype.value,
            sequences=tier.context.full_length_sequences,
            videos=tier.max_videos,
        )

    @property
    def constraints(self) -> Constraints:
        """Which nodes the tier accepts, apart from what its model needs."""
        placement = self.tier.placement
        return Constraints(
            placement.accelerator_resource,
            placement.node_names,
            dict(placement.node_selector),
            tolerations_of(self.tier),
        )

    def hash(self) -> str:
        """Hash of what the user wrote and a pod is made of.

        Fields at their default are left out: one that a later version adds changes nothing.
        """
        fixed = {
            "placement": without_live(self.tier.placement, LIVE_PLACEMENT),
            "weights": without_live(self.tier.weights, LIVE_WEIGHTS),
        }
        written = self.tier.model_copy(update=fixed).model_dump(
            mode="json", by_alias=True, exclude=LIVE_FIELDS, exclude_defaults=True
        )
        domains = {"mediaDomains": self.media_domains} if self.media_domains else {}
        secrets = sorted(self.pull_secrets)
        return canonical_hash({"tier": written, "pullSecrets": secrets, **domains})


UNTOLD = ("secret", "checkpoint")
"""Fields of an engine that are no default of ours."""


def without_live(part: Model, live: Iterable[str]) -> Model:
    """A part of a tier with its live fields at their defaults."""
    return part.model_copy(update={name: getattr(type(part)(), name) for name in live})


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a tier would run by its present inputs."""

    engine: EngineSpec | None
    """None where nothing fits."""
    option: Option | None
    fit: Fit
    """Everything that was looked at now."""
    inputs: str
    """Hash of the user's inputs."""
    revision: str = ""
    """Names the engine's resolved inputs; empty where nothing fits."""
    recorded: bool = False
    """Taken from a ControllerRevision, not decided now."""
    update: str = ""
    """What today's defaults would change, as a sentence; empty: nothing."""
    refusal: catalog.CheckpointRefused | None = None
    """Why the tier cannot serve the checkpoint, whatever the nodes."""
    checkpoint: catalog.Checkpoint | None = None
    """What does not fit; None where something does, or it cannot be served."""

    def record(self) -> dict[str, Any]:
        """The content of the ControllerRevision. Raises ValueError where nothing fits."""
        if self.engine is None or self.option is None:
            raise ValueError("a tier that does not fit has nothing to record")
        # As it is stored: what is compared with the stored record must hold lists, not tuples.
        option = asdict(self.option) | {"warnings": list(self.option.warnings)}
        return self.engine.to_data() | {"inputs": self.inputs, "option": option}


Choose = Callable[[EngineSpec], bool]
"""Whether an engine would find room now; or whether new nodes could host it."""


def read_record(revision: Revision) -> tuple[EngineSpec, Option]:
    """The engine and the option that a ControllerRevision recorded."""
    known = {item.name for item in fields(Option)}
    stored: Mapping[str, Any] = revision.data["option"]
    values = {key: value for key, value in stored.items() if key in known}
    values["warnings"] = tuple(values.get("warnings", ()))
    option = Option(**values)
    engine = EngineSpec.from_data(revision.data)
    return replace(engine, gpu_bytes=engine.gpu_bytes or option.gpu_bytes), option


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
    wanted: Inputs, nodes: Iterable[Node], records: Records, prefer: Sequence[Choose]
) -> Resolution:
    """Resolve a tier: as recorded, else by the best option that is preferred, else by the best.

    `prefer`: what an option should be, the most important first.

    A record is passed over only where it has no replica and no node could host one any more,
    and something else fits: then the cluster has become another one.
    """
    nodes = Kinds.of(nodes)
    inputs = wanted.hash()
    try:
        _check_length(wanted)
        found = fit(wanted.ask, wanted.constraints, nodes)
    except catalog.CheckpointRefused as refused:
        return Resolution(None, None, Fit((), ()), inputs, refusal=refused)
    record = records.matching(inputs)
    if record is not None:
        engine, option = read_record(record)
        stands = record.hash in records.in_use or not found.options
        if stands or can_be_hosted(engine, nodes):
            # The record's own name: a later version may hash the same engine differently.
            update = _update(wanted, engine)
            engine = replace(engine, secret=wanted.tier.weights.secret_ref)
            return Resolution(engine, option, found, inputs, record.hash, True, update)
    sized = [(option, sized_engine(wanted, option)) for option in found.options]
    preferred = (pair for choose in prefer for pair in sized if choose(pair[1]))
    chosen = next(preferred, sized[0] if sized else None)
    if chosen is None:
        return Resolution(None, None, found, inputs, checkpoint=wanted.checkpoint)
    option, engine = chosen
    told = _warned(option, found.options[0])
    told = replace(told, warnings=(*_of_checkpoint(wanted), *told.warnings))
    return Resolution(engine, told, found, inputs, engine.revision())


def _of_checkpoint(wanted: Inputs) -> tuple[str, ...]:
    """What a user should know of the checkpoint."""
    if wanted.facts is None and wanted.tier.model.quantization is Quantization.AUTO:
        return (
            "model.quantization is Auto, and the checkpoint is not read yet: BF16 is counted, which"
            " takes the most memory",
        )
    return wanted.checkpoint.differences


def tolerations_of(tier: AnyTier) -> tuple[dict[str, str], ...]:
    """What a tier tolerates, as Kubernetes writes it: no empty fields."""
    return tuple(
        {key: value for key, value in item.model_dump(mode="json").items() if value}
        for item in tier.placement.tolerations
    )


def passed_over(found: Fit, chosen: Option, *, recorded: bool) -> tuple[Rejection, ...]:
    """Every other option that fits, and why the chosen one was taken before it.

    `recorded`: it was chosen when the tier began, for the nodes and the room of that time.
    """
    others = (
        option
        for option in found.options
        if (option.gpu, option.sharding) != (chosen.gpu, chosen.sharding)
    )
    return tuple(_passed_over(option, chosen, recorded) for option in others)


def _passed_over(option: Option, chosen: Option, recorded: bool) -> Rejection:
    reason, why = _why_not(option, chosen, recorded)
    return Rejection(option.describe(), reason, f"{why}: {option.figures()}")


def _why_not(option: Option, chosen: Option, recorded: bool) -> tuple[str, str]:
    if option.max_model_len > chosen.max_model_len:
        return _why_not_longer(option, chosen, recorded)
    gpus, fewer = option.sharding.gpus, chosen.sharding.gpus
    if option.max_model_len < chosen.max_model_len:
        text = f"holds {option.max_model_len} tokens, and {chosen.max_model_len} are possible"
        return reasons.SHORTER_CONTEXT, text
    if gpus > fewer:
        return reasons.MORE_GPUS, f"takes {gpus} GPUs per replica instead of {fewer}"
    if gpus == fewer:
        return reasons.JUST_AS_GOOD, "does as well; replicas may also be placed there"
    return _why_not_longer(option, chosen, recorded)


def _why_not_longer(option: Option, chosen: Option, recorded: bool) -> tuple[str, str]:
    """Why an option was not taken that is better than the chosen one."""
    if recorded:
        kept = f"what the tier began with, {chosen.describe()}, stays until the tier is edited"
        return reasons.DECIDED_BEFORE, kept
    return reasons.NO_ROOM_NOW, f"has no room now, and {chosen.describe()} has"


def _warned(option: Option, best: Option) -> Option:
    """The option with a warning where it holds less than one that has no room now."""
    if option.max_model_len >= best.max_model_len:
        return option
    warning = (
        f"it holds {option.max_model_len} of {best.max_model_len} tokens, because"
        f" {best.describe()} has no room now, and it stays so until the tier is edited;"
        f" context.maxModelLen: {best.max_model_len} waits for room instead"
    )
    return replace(option, warnings=(*option.warnings, warning))


def sized_engine(wanted: Inputs, option: Option) -> EngineSpec:
    """The engine of a tier at the size of an option, with today's defaults."""
    tier, model, form = wanted.tier, wanted.model, wanted.checkpoint.form
    placement = tier.placement
    return EngineSpec(
        tier=wanted.name,
        preset=model.preset,
        served_name=model.served_name,
        uri=tier.model.uri,
        model_revision=wanted.commit or tier.model.revision,
        cache=_cache(tier),
        cache_claim=tier.weights.claim_name,
        secret=tier.weights.secret_ref,
        quantization=form.kind,
        image=tier.engine.image or wanted.defaults.engine_image,
        tensor=option.tensor,
        pipeline=option.pipeline,
        expert_parallel=option.expert,
        max_model_len=option.max_model_len,
        fp8_kv_cache=option.fp8_kv_cache,
        max_num_seqs=option.max_num_seqs,
        gpu_bytes=option.gpu_bytes,
        group_size=form.group,
        checkpoint=catalog.text_of(wanted.facts),
        full_length_sequences=tier.context.full_length_sequences,
        tool_call_parser=model.tool_call_parser,
        reasoning_parser=model.reasoning_parser,
        max_images=tier.max_images,
        max_videos=tier.max_videos,
        media_domains=wanted.media_domains,
        thinking=tier.thinking.default is Thinking.ENABLED,
        max_output_tokens=tier.thinking.max_output_tokens,
        extra_args=tier.engine.extra_args,
        env=tuple((one.name, one.value) for one in tier.engine.env),
        cpu=tier.engine.resources.cpu or model.host.cpu(option.sharding.gpus),
        memory=tier.engine.resources.memory or model.host.memory(option.sharding.gpus),
        resource=placement.accelerator_resource,
        pinning=placement.pinning.value,
        node_names=placement.node_names,
        node_selector=dict(placement.node_selector),
        tolerations=tolerations_of(tier),
        runtime_class=placement.runtime_class_name,
        priority_class=placement.priority_class_name,
        image_pull_secrets=wanted.pull_secrets,
        shm_bytes=model.host.shm_bytes,
        startup_seconds=model.host.startup_seconds,
        shutdown_seconds=model.host.shutdown_seconds,
    )


def _check_length(wanted: Inputs) -> None:
    """Raise CheckpointRefused where more context is asked for than the checkpoint holds."""
    asked, holds = wanted.tier.context.max_model_len, wanted.checkpoint.model.max_context_tokens
    if asked > holds:
        sentence = (
            f"context.maxModelLen is {asked}, and the checkpoint holds {holds} tokens"
            " (max_position_embeddings of config.json): ask for at most so many, or 0"
        )
        raise catalog.CheckpointRefused(reasons.CHECKPOINT_MISMATCH, sentence)


def _cache(tier: AnyTier) -> str:
    """Where a Job keeps a copy of the weights; empty: nowhere."""
    cached = tier.model.uri.startswith("hf://") and tier.weights.cache is not WeightsCache.EPHEMERAL
    return tier.weights.cache.value if cached else ""


def _update(wanted: Inputs, recorded: EngineSpec) -> str:
    """What a change of any RestartsTier field would bring along besides."""
    today = sized_engine(wanted, _size_of(recorded))
    changed = [
        f"{item.name.replace('_', ' ')} {getattr(today, item.name)}"
        for item in fields(EngineSpec)
        if item.name not in UNTOLD and getattr(today, item.name) != getattr(recorded, item.name)
    ]
    return f"today's defaults would give {', '.join(changed)}" if changed else ""


def _size_of(engine: EngineSpec) -> Option:
    """The size of a recorded engine, so that only other things are compared."""
    return Option(
        gpu="",
        gpu_bytes=engine.gpu_bytes,
        tensor=engine.tensor,
        max_model_len=engine.max_model_len,
        kv_tokens=0,
        headroom_bytes=0,
        pipeline=engine.pipeline,
        expert=engine.expert_parallel,
        fp8_kv_cache=engine.fp8_kv_cache,
        max_num_seqs=engine.max_num_seqs,
    )
