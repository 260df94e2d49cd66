"""The closed catalogue of reasons: why a tier was chosen, and why a request was refused.

Decisions travel in `x-glm-decision`; errors in `error.code`; both are labels of
`glm_gateway_requests_total` and fields of the access log. docs/gateway.md lists every one.
"""

from __future__ import annotations

from dataclasses import dataclass

INVALID = "invalid_request_error"
OVER_LIMIT = "rate_limit_error"
SERVER = "server_error"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a tier was chosen."""

    name: str
    sentence: str


@dataclass(frozen=True, slots=True)
class ErrorReason:
    """Why a request was not answered: HTTP status, OpenAI error type, one sentence."""

    name: str
    status: int
    type: str
    sentence: str
    final: bool = False
    """The same request would fare no better: both SDKs are told not to send it again."""


DECISIONS: dict[str, Reason] = {}
ERRORS: dict[str, ErrorReason] = {}


def _decision(name: str, sentence: str) -> Reason:
    return DECISIONS.setdefault(name, Reason(name, sentence))


def _error(name: str, status: int, kind: str, sentence: str, final: bool = False) -> ErrorReason:
    return ERRORS.setdefault(name, ErrorReason(name, status, kind, sentence, final))


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

INVALID_REQUEST = _error(
    "InvalidRequest", 400, INVALID, "The request is malformed; the message names the field."
)
MODEL_NOT_FOUND = _error("ModelNotFound", 404, INVALID, "No tier or alias has this model name.")
PATH_NOT_FOUND = _error("PathNotFound", 404, INVALID, "The gateway does not serve this path.")
METHOD_NOT_ALLOWED = _error("MethodNotAllowed", 405, INVALID, "The path has another method.")
REQUEST_TIMEOUT = _error(
    "RequestTimeout", 408, INVALID, "The head or body of the request came too slowly."
)
BODY_TOO_LARGE = _error("BodyTooLarge", 413, INVALID, "The body is larger than `maxBodyBytes`.")
UNSUPPORTED_ENCODING = _error(
    "UnsupportedEncoding", 415, INVALID, "The body is compressed or is not application/json."
)
INVALID_API_KEY = _error("InvalidAPIKey", 401, INVALID, "The request has no valid API key.")
TIER_NOT_PERMITTED = _error(
    "TierNotPermitted", 403, INVALID, "The API key may not use any tier that could serve this."
)
REQUEST_LIMIT_REACHED = _error(
    "RequestLimitReached", 429, OVER_LIMIT, "The requests per minute of the API key are spent."
)
TOKEN_LIMIT_REACHED = _error(
    "TokenLimitReached", 429, OVER_LIMIT, "The tokens per minute of the API key are spent."
)
IN_FLIGHT_LIMIT_REACHED = _error(
    "InFlightLimitReached", 429, OVER_LIMIT, "The API key has as many requests running as it may."
)
REQUEST_OVER_TOKEN_LIMIT = _error(
    "RequestOverTokenLimit",
    400,
    INVALID,
    "The request alone is over the tokens per minute of the API key.",
)
KEYS_NOT_READ = _error(
    "APIKeysNotRead", 503, SERVER, "The API keys of this gateway could not be read yet."
)
HEADERS_TOO_LARGE = _error(
    "HeadersTooLarge", 431, INVALID, "The head of the request has too many bytes or lines."
)
MEDIA_URL_NOT_ALLOWED = _error(
    "MediaURLNotAllowed",
    400,
    INVALID,
    "The URL of an image or video is not in `media.allowedDomains`; a data: URL always passes.",
)
MEDIA_TOO_LARGE = _error(
    "MediaTooLarge", 400, INVALID, "An image has too many pixels, or a video too many frames."
)
UNSUPPORTED_MODALITY = _error(
    "UnsupportedModality", 400, INVALID, "No tier that may serve takes this kind of content."
)
TOO_MANY_IMAGES = _error(
    "TooManyImages", 400, INVALID, "No tier that may serve takes this many images."
)
CONTEXT_TOO_LONG = _error(
    "ContextTooLong", 400, INVALID, "The request is longer than the context of every tier."
)
HOLD_QUEUE_FULL = _error(
    "HoldQueueFull", 429, OVER_LIMIT, "The queue of requests that wait for this tier is full."
)
TOO_MANY_BYTES_IN_FLIGHT = _error(
    "TooManyBytesInFlight", 429, OVER_LIMIT, "The bodies in flight reached `maxInFlightBytes`."
)
HOLD_TIMEOUT = _error(
    "HoldTimeout", 503, SERVER, "No replica became ready within `holdTimeoutSeconds`."
)
WAIT_TOO_LONG = _error(
    "WaitTooLong", 503, SERVER, "A replica is expected later than this request may wait."
)
TIER_UNAVAILABLE = _error(
    "TierUnavailable", 503, SERVER, "No replica takes requests now, and `degradation` is `Reject`."
)
SHUTTING_DOWN = _error("ShuttingDown", 503, SERVER, "This gateway is stopping; try again.")
TIER_REMOVED = _error("TierRemoved", 503, SERVER, "The tier left the configuration while waiting.")
UPSTREAM_FAILED = _error(
    "UpstreamFailed", 502, SERVER, "Every replica tried failed before its first byte."
)
REQUEST_KILLS_ENGINE = _error(
    "RequestKillsEngine",
    500,
    SERVER,
    "Two replicas died while they held this request; its body is refused for ten minutes.",
    final=True,
)
FIRST_TOKEN_TIMEOUT = _error(
    "FirstTokenTimeout", 504, SERVER, "No token of a stream within `firstTokenTimeoutSeconds`."
)
IDLE_TIMEOUT = _error(
    "IdleTimeout", 504, SERVER, "An answer paused for `idleTimeoutSeconds`; it is cut."
)
TOTAL_TIMEOUT = _error(
    "TotalTimeout", 504, SERVER, "The request was not done within `totalTimeoutSeconds`."
)
ENGINE_REFUSED = _error(
    "EngineRefused",
    400,
    INVALID,
    "The engine refused a request whose stream had begun while it was held.",
)
STREAM_BROKEN = _error(
    "StreamBroken", 502, SERVER, "The replica was lost after its first byte; the answer is cut."
)
CLIENT_CLOSED = _error("ClientClosed", 499, INVALID, "The client left before the answer was done.")
INTERNAL_ERROR = _error(
    "InternalError", 500, SERVER, "The gateway has a defect; its log has the traceback."
)
