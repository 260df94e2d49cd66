"""Names that the operator, the chart, the gateway and the tests agree on."""

GROUP = "glm-operator.io"
VERSION = "v1alpha1"
KIND = "GLMDeployment"
PLURAL = "glmdeployments"
API_VERSION = f"{GROUP}/{VERSION}"

FLAGSHIP = "flagship"
FLASH = "flash"
TEXT = "text"
TIERS = (FLAGSHIP, FLASH, TEXT)
"""In the order in which users see them."""

MANAGER = "glm-operator"
"""Value of `app.kubernetes.io/managed-by` and prefix of every field manager."""

LABEL_DEPLOYMENT = f"{GROUP}/deployment"
LABEL_TIER = f"{GROUP}/tier"
LABEL_REVISION = f"{GROUP}/revision"
LABEL_ROUTABLE = f"{GROUP}/routable"
"""Present with value `true` only while the gateway may route to the pod."""

ANNOTATION_APPLIED = f"{GROUP}/applied"
"""Hash of the manifest last applied, so that an unchanged child is not written again."""
ANNOTATION_DRAINING_SINCE = f"{GROUP}/draining-since"
"""RFC 3339 time at which a replica was taken out of routing to be removed."""
ANNOTATION_VERIFIED_CONTAINER = f"{GROUP}/verified-container"
"""Container id that the tool-call checks were made against."""

ANNOTATION_ATTEMPT = f"{GROUP}/attempt"
"""How many replicas in a row failed before this one; sets the back-off before the next."""

ANNOTATION_PLANNED_NODE = f"{GROUP}/planned-node"
"""Where room was taken for a replica that is not pinned; it holds GPUs there until it is bound."""

ANNOTATION_ASKS_FOR_NODE = f"{GROUP}/asks-for-node"
"""What a replica without a node asks a node autoscaler for, such as 8xH100-80GB."""

LABEL_NODE = f"{GROUP}/node"
"""Short hash of a node's name, on volumes of that node: names may be longer than a label."""
LABEL_OWNER = f"{GROUP}/owner"
"""Uid of the GLMDeployment that a cluster-scoped object is for."""
ANNOTATION_OWNER = f"{GROUP}/owner"
"""Namespace and name of that GLMDeployment, with a slash between them."""
ANNOTATION_NODE = f"{GROUP}/node"
"""Name of the node that a volume lies on."""
ANNOTATION_KEEP = f"{GROUP}/keep"
"""Folders below a volume's path that its object needs, separated by spaces; others are removed."""
ANNOTATION_TASK = f"{GROUP}/task"
"""What a weights Job does, as JSON."""

GATE_VERIFIED = f"{GROUP}/tool-call-verified"
"""Readiness gate and pod condition type set by the operator after the functional checks."""

ENGINE_CONTAINER = "engine"
ENGINE_PORT = 8000
GATEWAY_PORT = 8080
GATEWAY_ADMIN_PORT = 9090
GATEWAY_CONFIG_KEY = "config.json"
GATEWAY_CLUSTER_ROLE = "glm-operator-gateway"
GATEWAY_KEYS_CLUSTER_ROLE = "glm-operator-gateway-keys"
"""ClusterRole installed by the chart that the operator may bind, never write."""


def child(deployment: str, suffix: str) -> str:
    """Name of a child object, for example `vision-gateway` or `vision-flash`."""
    return f"{deployment}-{suffix}"


def replica(deployment: str, tier: str, revision: str, ordinal: int) -> str:
    """Name of an engine pod: `<deployment>-<tier>-<revision>-<n>`."""
    return f"{deployment}-{tier}-{revision}-{ordinal}"
