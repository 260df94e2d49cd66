"""The choices of the object's fields."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """What the operator may do for an object."""

    LIVE = "Live"
    PLAN = "Plan"
    PAUSED = "Paused"


class Quantization(StrEnum):
    """Number format of a checkpoint's weights."""

    AUTO = "Auto"
    BF16 = "BF16"
    FP8 = "FP8"
    INT4 = "INT4"


class WeightsCache(StrEnum):
    """Where a checkpoint of the hub is kept."""

    NODE_LOCAL = "NodeLocal"
    CLAIM = "PersistentVolumeClaim"
    EPHEMERAL = "Ephemeral"


class PrePull(StrEnum):
    """Whether a checkpoint is read and fetched before GPUs are taken."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class AllowHTTP(StrEnum):
    """Whether media may be named by http URLs too."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class Expert(StrEnum):
    """Whether whole experts are spread over the GPUs of a replica."""

    AUTO = "Auto"
    ENABLED = "Enabled"
    DISABLED = "Disabled"


class KVCacheDType(StrEnum):
    """Number format of the key-value cache."""

    AUTO = "Auto"
    BF16 = "BF16"
    FP8 = "FP8"


class Thinking(StrEnum):
    """Whether the model reasons before it answers where the client does not say."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class TolerationOperator(StrEnum):
    """How a toleration matches a taint."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Pinning(StrEnum):
    """How strictly a replica belongs to the node that the planner chose."""

    REQUIRED = "Required"
    PREFERRED = "Preferred"
    NONE = "None"


class Provisioning(StrEnum):
    """Where GPUs may come from that the cluster does not have yet."""

    NONE = "None"
    NODE_AUTOSCALER = "NodeAutoscaler"


class ScalingMode(StrEnum):
    """Who writes the number of flash replicas."""

    INTERNAL = "Internal"
    EXTERNAL = "External"
    OFF = "Off"


class Task(StrEnum):
    """What a request asks of a model; what clients may declare in `x-glm-task`."""

    GUI_AGENT = "gui-agent"
    DESIGN_TO_CODE = "design-to-code"
    LONG_VIDEO = "long-video"
    OCR_AND_CHARTS = "ocr-and-charts"
    VISUAL_MATHS = "visual-maths"
    GROUNDING = "grounding"
    GENERAL = "general"


class Presence(StrEnum):
    """Whether a request must have something for a rule to match."""

    ANY = "Any"
    REQUIRED = "Required"
    EXCLUDED = "Excluded"


class RuleTier(StrEnum):
    """The tier that a rule names."""

    FLAGSHIP = "flagship"
    FLASH = "flash"
    TEXT = "text"


class Degradation(StrEnum):
    """What happens to a request whose tier takes none now."""

    HOLD = "Hold"
    DEGRADE = "Degrade"
    REJECT = "Reject"


class ServiceType(StrEnum):
    """How far a Service can be reached."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class AliasTarget(StrEnum):
    """What a client's model name stands for."""

    AUTO = "auto"
    FLAGSHIP = "flagship"
    FLASH = "flash"
    TEXT = "text"
