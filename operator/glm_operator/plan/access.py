"""Who may use the gateway: where its API keys are, and whether it may read them."""

from __future__ import annotations

from glm_operator.api import reasons
from glm_operator.plan.conditions import FALSE, TRUE, Condition
from glm_operator.plan.scaling import is_fresh
from glm_operator.plan.scene import Scene

GATEWAY, UNAUTHENTICATED = "GatewayAvailable", "Unauthenticated"


def keys_readable(scene: Scene) -> bool:
    """Whether the object asks for API keys, of a Secret that gateways may read."""
    return _secret(scene) in scene.defaults.api_keys_secret_names


def locked(scene: Scene) -> Condition | None:
    """Why gateways let nobody in; None: they do, as far as is known."""
    secret = _secret(scene)
    if secret and not keys_readable(scene):
        return Condition(GATEWAY, FALSE, reasons.API_KEYS_SECRET_NOT_ALLOWED, _not_allowed(scene))
    for report in scene.view.reports:
        if secret and is_fresh(report) and report.locked:
            message = f"{report.pod} lets nobody in: {report.locked}."
            return Condition(GATEWAY, FALSE, reasons.KEYS_NOT_READ, message)
    return None


def unauthenticated(scene: Scene) -> Condition:
    """Whether anyone may come."""
    secret = _secret(scene)
    if not secret:
        message = "Anyone who reaches the gateway may use it."
        return Condition(UNAUTHENTICATED, TRUE, reasons.NO_API_KEYS, message)
    if not keys_readable(scene):
        reason = reasons.API_KEYS_SECRET_NOT_ALLOWED
        return Condition(UNAUTHENTICATED, FALSE, reason, _not_allowed(scene))
    message = f"Clients need an API key of the Secret {secret}."
    return Condition(UNAUTHENTICATED, FALSE, reasons.API_KEYS_REQUIRED, message)


def _secret(scene: Scene) -> str:
    return scene.observed.object.spec.gateway.auth.api_keys_secret_ref


def _not_allowed(scene: Scene) -> str:
    allowed = ", ".join(scene.defaults.api_keys_secret_names) or "none"
    return (
        f"gateway.auth.apiKeysSecretRef is {_secret(scene)!r}, and the platform lets gateways read"
        f" {allowed} (gateway.apiKeysSecretNames of the chart): use one of these; until then keys"
        " that were read before stay, and a gateway that has none lets nobody in."
    )
