"""The closed catalogue of reasons: conditions, events, checks of engines, errors of the gateway.

To add a reason, add one line: a constant and its sentence. docs/reasons.md is generated from
here, and a test fails on a reason that is used and not listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Where a reason is met."""

    CONDITION = "condition"
    EVENT = "event"
    PLAN = "plan"
    """In `status.plan`, of a way of running a tier that was not taken."""
    CHECK = "check"
    """On the pod condition that says whether an engine's tool calls were verified."""
    DECISION = "decision"
    """In the gateway's header `x-glm-decision`."""
    ERROR = "error"
    """In `error.code` of the gateway's answers."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One entry of the catalogue."""

    name: str
    kinds: tuple[Kind, ...]
    sentence: str


CATALOGUE: dict[str, Reason] = {}
"""Every reason by its name."""


def _reason(name: str, sentence: str, *kinds: Kind) -> str:
    if name in CATALOGUE:
        raise ValueError(f"the reason {name} is in the catalogue twice")
    CATALOGUE[name] = Reason(name, kinds, sentence)
    return name


def _condition(name: str, sentence: str) -> str:
    return _reason(name, sentence, Kind.CONDITION)


def _event(name: str, sentence: str) -> str:
    return _reason(name, sentence, Kind.EVENT)


def _check(name: str, sentence: str) -> str:
    return _reason(name, sentence, Kind.CHECK, Kind.CONDITION)


def _shown(name: str, sentence: str) -> str:
    return _reason(name, sentence, Kind.CONDITION, Kind.EVENT)


def _decision(name: str, sentence: str) -> str:
    return _reason(name, sentence, Kind.DECISION)


def _plan(name: str, sentence: str) -> str:
    return _reason(name, sentence, Kind.PLAN)


def _error(name: str, sentence: str) -> str:
    return _reason(name, sentence, Kind.ERROR)


# Of the object as a whole.
SERVING = _condition("Serving", "A request to the gateway would be answered now.")
PLAN_ONLY = _condition(
    "PlanOnly", "mode is Plan: nothing is created, and what runs is left as it is."
)
INVALID_SPEC = _shown("InvalidSpec", "The object breaks a rule of its schema; nothing changes.")
REFUSED = _shown("Refused", "The API server refused what the plan asks for; the message says why.")
NAME_TAKEN = _shown("NameTaken", "An object that belongs to something else has a child's name.")

# Of the plan.
FITS = _condition("Fits", "Every tier has a size that fits nodes of this cluster.")
DOES_NOT_FIT = _shown("DoesNotFit", "No node of this cluster could hold a replica of the tier.")
ONLY_DRA = _shown(
    "OnlyDRA",
    "GPUs are offered by dynamic resource allocation only; the planner counts those of a "
    "device plugin.",
)
QUOTA_EXCEEDED = _shown(
    "QuotaExceeded", "A ResourceQuota of the namespace does not admit a further replica."
)
OUTSIDE_LIMIT_RANGE = _shown(
    "OutsideLimitRange", "A LimitRange of the namespace does not admit what a replica asks for."
)
WAITING_FOR_GPUS = _shown("WaitingForGPUs", "The tier fits, and others hold the GPUs it needs.")
WAITING_FOR_NODES = _shown(
    "WaitingForNodes", "Replicas exist without a node, for a node autoscaler to make one."
)
NODES_DID_NOT_COME = _shown(
    "NodesDidNotCome",
    "The node autoscaler made no node in time that can host a replica; it is asked again later.",
)
PRIORITY_CLASS_MISSING = _shown(
    "PriorityClassMissing", "`placement.priorityClassName` names a class that does not exist."
)

# Of the weights. Those that a weights Job reports are listed in its package too; a test compares.
READING_CHECKPOINT = _condition(
    "ReadingCheckpoint", "A Job reads what the checkpoint is before any GPU is taken."
)
FETCHING_WEIGHTS = _condition(
    "FetchingWeights", "Weights are on their way to the node of a replica; its pod comes after."
)
WEIGHTS_FETCH_STARTED = _event(
    "WeightsFetchStarted", "A Job began to bring a checkpoint to the node of the message."
)
WEIGHTS_FETCHED = _event(
    "WeightsFetched", "The node of the message holds a complete, verified checkpoint."
)
WEIGHTS_JOB_BLOCKED = _shown(
    "WeightsJobBlocked", "The pod of a weights Job cannot start; the message says why."
)
WEIGHTS_JOB_FAILED = _shown(
    "WeightsJobFailed", "A weights Job ended without telling why; its pod's log may."
)
TOKEN_REFUSED = _shown(
    "TokenRefused",
    "The hub does not give the repository to this token; put one that may read it into the Secret "
    "of `weights.secretRef`.",
)
CHECKPOINT_NOT_FOUND = _shown(
    "CheckpointNotFound", "There is no such repository, revision, or folder."
)
HUB_UNREACHABLE = _shown("HubUnreachable", "The hub does not answer; it is tried again.")
FILE_MISSING = _shown("FileMissing", "The checkpoint lacks the file of the message.")
FILE_DAMAGED = _shown(
    "FileDamaged", "A file of the checkpoint is cut or has another checksum than the hub says."
)
DISK_TOO_SMALL = _shown(
    "DiskTooSmall", "The disk that should keep the weights has too little free space."
)
CHECKPOINT_UNREADABLE = _shown(
    "CheckpointUnreadable", "A file that describes the checkpoint cannot be understood."
)
ARCHITECTURE_UNSUPPORTED = _shown(
    "ArchitectureUnsupported", "The engine does not serve models of the checkpoint's architecture."
)
CHECKPOINT_MISMATCH = _shown(
    "CheckpointMismatch", "The checkpoint is of another kind than the tier's preset."
)
NODE_PATH_NOT_ALLOWED = _shown(
    "NodePathNotAllowed",
    "The platform does not allow this folder of its nodes (`weights.nodePaths`).",
)
NODE_CACHE_DISABLED = _shown(
    "NodeCacheDisabled", "The platform keeps no weights on its nodes (`weights.nodeLocal.enabled`)."
)

# Of ways to run a tier that were not taken.
TOO_FEW_GPUS = _plan("TooFewGPUs", "A replica needs more GPUs than one such node has.")
TOO_LITTLE_MEMORY = _plan(
    "TooLittleMemory", "Weights, reserve and KV cache are more than a GPU's memory."
)
ILLEGAL_SHARDING = _plan("IllegalSharding", "vLLM cannot divide the model like this.")
GROUPS_CUT = _plan("GroupsCut", "It would cut groups of weights that share one scale.")
FORMAT_UNSUPPORTED = _plan("FormatUnsupported", "The GPU cannot compute in the number format.")
GPU_UNUSABLE = _plan("GPUUnusable", "The GPUs of the node are cut, shared, too old or unknown.")
PLACEMENT_EXCLUDES = _plan("PlacementExcludes", "The tier's placement leaves the node out.")
SHORTER_CONTEXT = _plan("ShorterContext", "It fits with less context than another way.")
MORE_GPUS = _plan("MoreGPUs", "It fits and takes more GPUs than another way.")
JUST_AS_GOOD = _plan("JustAsGood", "It fits as well; replicas may also be placed there.")
NO_ROOM_NOW = _plan("NoRoomNow", "It fits, others hold the GPUs, and another way has room.")
DECIDED_BEFORE = _plan(
    "DecidedBefore", "It fits on fewer GPUs; what the tier began with stays until it is edited."
)

# Of a tier.
AVAILABLE = _condition("Available", "At least one replica of the tier is verified and routable.")
STARTING = _condition("Starting", "Replicas of the tier exist, and none has become ready yet.")
UNAVAILABLE = _condition("Unavailable", "The tier has no replica that could answer.")
SCALED_TO_ZERO = _condition("ScaledToZero", "The tier sleeps by choice; a request wakes it.")
NOT_WANTED = _condition("NotWanted", "The object does not have this tier.")
TIER_PAUSED = _shown("Paused", "mode is Paused: what runs is kept, nothing else changes.")
ENGINE_FAILED = _shown("EngineFailed", "The engine of a replica ended; the message says how.")
IMAGE_PULL_FAILED = _shown("ImagePullFailed", "A node cannot pull the engine's image.")
UNSCHEDULABLE = _shown(
    "Unschedulable", "The scheduler cannot put a replica on its node; the message is its own."
)
SCHEDULING_GATED = _shown(
    "SchedulingGated",
    "A queue or webhook gated a replica; the scheduler waits until it lifts that.",
)
NODE_LOST = _shown("NodeLost", "The node of a replica is gone or not ready.")

# Of the checks on an engine.
VERIFIED = _check("Verified", "The engine returned the tool calls of both checks.")
NOT_CHECKED = _condition("NotChecked", "No engine has come far enough to be checked.")
IMAGE_CALL_FAILED = _check("ImageCallFailed", "An image with a required tool call went wrong.")
TEXT_CALL_FAILED = _check(
    "TextCallFailed", "A required tool call of a model without vision went wrong."
)
TOOL_PARSER_FAILED = _check(
    "ToolParserFailed", "The engine did not parse the model's own tool call; look at its parser."
)
ENGINE_DIED = _check("EngineDied", "The engine stopped answering while it was checked.")
NO_ANSWER = _check("NoAnswer", "The engine did not answer a check in time.")
CONTAINER_RESTARTED = _check("ContainerRestarted", "The checked container is not the running one.")

# Of the gateway.
GATEWAY_READY = _condition("GatewayReady", "Every gateway pod is ready.")
GATEWAY_STARTING = _condition("GatewayStarting", "No gateway pod is ready yet.")
GATEWAY_DEGRADED = _condition("GatewayDegraded", "Some gateway pods are not ready.")
NO_API_KEYS = _condition("NoAPIKeys", "Anyone who reaches the gateway may use it.")
API_KEYS_REQUIRED = _condition("APIKeysRequired", "Clients of the gateway need an API key.")
API_KEYS_SECRET_NOT_ALLOWED = _condition(
    "APIKeysSecretNotAllowed",
    "The platform does not let gateways read a Secret of this name (`gateway.apiKeysSecretNames`).",
)

# Of progress and health.
UP_TO_DATE = _condition("UpToDate", "What runs is what the object asks for.")
ROLLING_OUT = _condition("RollingOut", "Replicas of an older revision are being replaced.")
SCALING = _condition("Scaling", "Replicas are being added or removed.")
HEALTHY = _condition("Healthy", "Everything that should run runs.")
REPLICAS_MISSING = _shown("ReplicasMissing", "Fewer replicas serve than should.")

# Of what the operator did.
REPLICA_CREATED = _event("ReplicaCreated", "A replica was created on the node of the message.")
REPLICA_REMOVED = _event("ReplicaRemoved", "A replica was removed for the reason of the message.")
SCALED_UP = _event("ScaledUp", "The autoscaler asked for more replicas.")
SCALED_DOWN = _event("ScaledDown", "The autoscaler asked for fewer replicas.")
RESTARTS_TIER = _event("RestartsTier", "An edit replaces the replicas of the tier.")

# The gateway's decisions and errors. Its package does not import this one; a test compares both.
CLIENT_NAMED_TIER = _decision(
    "ClientNamedTier", "The model name, an alias or `x-glm-tier` names the tier."
)
ONLY_TIER = _decision("OnlyTier", "There is no other tier, or none that has served yet.")
ONLY_TIER_FOR_KEY = _decision("OnlyTierForKey", "The API key may use no other tier.")
ONLY_TIER_THAT_FITS = _decision(
    "OnlyTierThatFits", "No other tier holds this context or this many images or videos."
)
ONLY_TIER_WITH_VISION = _decision(
    "OnlyTierWithVision", "The task is about images, and no other tier sees them."
)
RULE = _decision("Rule", "A rule of `routing.rules` names the tier; its name follows.")
OPEN_TOOL_LOOP = _decision(
    "OpenToolLoop",
    "A tool loop is open: it keeps the tier its opening calls for, or the next that can hold it.",
)
TEXT_ONLY = _decision("TextOnly", "Text without tools.")
TEXT_WITH_TOOLS = _decision("TextWithTools", "Text with tools.")
LEAD_WITHIN_TOLERANCE = _decision(
    "LeadWithinTolerance",
    "The flagship's published lead at this task is below `qualityTolerancePoints`.",
)
LEAD_ABOVE_TOLERANCE = _decision(
    "LeadAboveTolerance",
    "The flagship's published lead at this task is at least `qualityTolerancePoints`.",
)
NO_PUBLISHED_LEAD = _decision(
    "NoPublishedLead", "No figure is published for this task, so the flagship serves."
)
MODELS_LISTED = _decision("ModelsListed", "The gateway itself answered which models there are.")
TOKENS_COUNTED = _decision(
    "TokensCounted", "An engine of the tier that would serve counted the tokens of a prompt."
)
TOKENS_ESTIMATED = _decision(
    "TokensEstimated",
    "The gateway estimated the tokens of a prompt, for no engine could count them.",
)
INVALID_REQUEST = _error("InvalidRequest", "The request is malformed; the message names the field.")
MODEL_NOT_FOUND = _error("ModelNotFound", "No tier or alias has this model name.")
PATH_NOT_FOUND = _error("PathNotFound", "The gateway does not serve this path.")
METHOD_NOT_ALLOWED = _error("MethodNotAllowed", "The path has another method.")
REQUEST_TIMEOUT = _error("RequestTimeout", "The head or body of the request came too slowly.")
BODY_TOO_LARGE = _error("BodyTooLarge", "The body is larger than `maxBodyBytes`.")
UNSUPPORTED_ENCODING = _error(
    "UnsupportedEncoding", "The body is compressed or is not application/json."
)
INVALID_API_KEY = _error("InvalidAPIKey", "The request has no valid API key.")
TIER_NOT_PERMITTED = _error(
    "TierNotPermitted", "The API key may not use any tier that could serve this."
)
REQUEST_LIMIT_REACHED = _error(
    "RequestLimitReached", "The requests per minute of the API key are spent."
)
TOKEN_LIMIT_REACHED = _error("TokenLimitReached", "The tokens per minute of the API key are spent.")
IN_FLIGHT_LIMIT_REACHED = _error(
    "InFlightLimitReached", "The API key has as many requests running as it may."
)
REQUEST_OVER_TOKEN_LIMIT = _error(
    "RequestOverTokenLimit", "The request alone is over the tokens per minute of the API key."
)
KEYS_NOT_READ = _reason(
    "APIKeysNotRead",
    "The API keys of this gateway could not be read yet.",
    Kind.ERROR,
    Kind.CONDITION,
)
HEADERS_TOO_LARGE = _error(
    "HeadersTooLarge", "The head of the request has too many bytes or lines."
)
MEDIA_URL_NOT_ALLOWED = _error(
    "MediaURLNotAllowed",
    "The URL of an image or video is not in `media.allowedDomains`; a data: URL always passes.",
)
MEDIA_TOO_LARGE = _error(
    "MediaTooLarge", "An image has too many pixels, or a video too many frames."
)
UNSUPPORTED_MODALITY = _error(
    "UnsupportedModality", "No tier that may serve takes this kind of content."
)
TOO_MANY_IMAGES = _error("TooManyImages", "No tier that may serve takes this many images.")
CONTEXT_TOO_LONG = _error("ContextTooLong", "The request is longer than the context of every tier.")
HOLD_QUEUE_FULL = _error("HoldQueueFull", "The queue of requests that wait for this tier is full.")
TOO_MANY_BYTES_IN_FLIGHT = _error(
    "TooManyBytesInFlight", "The bodies in flight reached `maxInFlightBytes`."
)
HOLD_TIMEOUT = _error("HoldTimeout", "No replica became ready within `holdTimeoutSeconds`.")
WAIT_TOO_LONG = _error("WaitTooLong", "A replica is expected later than this request may wait.")
TIER_UNAVAILABLE = _error(
    "TierUnavailable", "No replica takes requests now, and `degradation` is `Reject`."
)
SHUTTING_DOWN = _error("ShuttingDown", "This gateway is stopping; try again.")
TIER_REMOVED = _error("TierRemoved", "The tier left the configuration while waiting.")
UPSTREAM_FAILED = _error("UpstreamFailed", "Every replica tried failed before its first byte.")
REQUEST_KILLS_ENGINE = _error(
    "RequestKillsEngine",
    "Two replicas died while they held this request; its body is refused for ten minutes.",
)
FIRST_TOKEN_TIMEOUT = _error(
    "FirstTokenTimeout", "No token of a stream within `firstTokenTimeoutSeconds`."
)
IDLE_TIMEOUT = _error("IdleTimeout", "An answer paused for `idleTimeoutSeconds`; it is cut.")
TOTAL_TIMEOUT = _error("TotalTimeout", "The request was not done within `totalTimeoutSeconds`.")
ENGINE_REFUSED = _error(
    "EngineRefused", "The engine refused a request whose stream had begun while it was held."
)
STREAM_BROKEN = _error(
    "StreamBroken", "The replica was lost after its first byte; the answer is cut."
)
CLIENT_CLOSED = _error("ClientClosed", "The client left before the answer was done.")
INTERNAL_ERROR = _error("InternalError", "The gateway has a defect; its log has the traceback.")
