"""What cluster tests do with a GLMDeployment: read an example, wait for a condition, list pods."""

from __future__ import annotations

from typing import Any

import yaml

from glm_dev.kubectl import condition, wait_for
from glm_dev.site import REPOSITORY, Site

NAME = "vision"
Json = dict[str, Any]


def example(name: str, namespace: str) -> Json:
    """One of examples/, moved to another namespace."""
    obj: Json = yaml.safe_load((REPOSITORY / "examples" / f"{name}.yaml").read_text())
    obj["metadata"]["namespace"] = namespace
    return obj


def wait_condition(
    site: Site, namespace: str, kind: str, status: str, reason: str = "", timeout: float = 60
) -> Json:
    """The object, once a condition of its present generation has the status (and the reason)."""
    last: list[Any] = [None]

    def probe() -> Json | None:
        obj = site.kubectl.get("glmdeployment", NAME, namespace)
        found = last[0] = condition(obj, kind)
        current = found.get("observedGeneration") == obj["metadata"]["generation"]
        fits = found.get("status") == status and (not reason or found.get("reason") == reason)
        return obj if fits and current else None

    try:
        return wait_for(f"{kind}={status} {reason}", probe, timeout)
    except Exception as error:
        error.add_note(f"last seen: {last[0]}")
        raise


def engine_pods(site: Site, namespace: str, tier: str) -> list[Json]:
    """The tier's pods that are not being deleted."""
    pods = site.kubectl.list("pod", namespace, f"glm-operator.io/tier={tier}")
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
