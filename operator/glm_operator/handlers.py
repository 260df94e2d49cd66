"""What kopf tells us of: events of our objects and of what they own. Keys only, never content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kopf

from glm_operator.api import names
from glm_operator.kube.resources import (
    CHILDREN,
    CONTROLLER_REVISION,
    LIMIT_RANGE,
    POD,
    RESOURCE_QUOTA,
)
from glm_operator.runtime.kopf_thread import Enqueue
from glm_operator.runtime.loop import EVERY_OBJECT

OWNED = {names.LABEL_DEPLOYMENT: kopf.PRESENT}


def register(registry: kopf.OperatorRegistry, enqueue: Enqueue) -> None:
    """Add the event handlers. `on.event` writes nothing to the objects, unlike all others."""

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def object_seen(*, namespace: str | None, name: str, **_: Any) -> None:
        enqueue((namespace or "", name))

    for kind in (RESOURCE_QUOTA, LIMIT_RANGE):

        @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry)
        async def limit_seen(*, namespace: str | None, **_: Any) -> None:
            enqueue((namespace or "", EVERY_OBJECT))

    for kind in (POD, CONTROLLER_REVISION, *CHILDREN):

        @kopf.on.event(kind.group, kind.version, kind.plural, labels=OWNED, registry=registry)
        async def child_seen(*, namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:
            enqueue((namespace or "", labels[names.LABEL_DEPLOYMENT]))
