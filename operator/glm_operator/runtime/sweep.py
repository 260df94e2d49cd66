"""Collects node volumes whose object is gone: what has no namespace no owner reference deletes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from glm_operator.api import names
from glm_operator.kube.client import Cluster
from glm_operator.kube.errors import KubeError, LeaseLostError
from glm_operator.kube.resources import DEPLOYMENT_OBJECT, PERSISTENT_VOLUME

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0


async def sweep(cluster: Cluster, namespaces: Sequence[str]) -> int:
    """Delete our volumes of objects that do not exist; returns how many.

    Args:
        cluster: the API server.
        namespaces: those that are served; empty: all. Volumes of others are left alone.

    Raises:
        KubeError: something could not be read or deleted.
    """
    volumes = await cluster.find(PERSISTENT_VOLUME, labels=names.LABEL_OWNER)
    if not volumes:
        return 0
    # The volumes first: an object made in between has none of those that were listed.
    listed = [await cluster.find(DEPLOYMENT_OBJECT, one) for one in namespaces or ("",)]
    alive = {item["metadata"]["uid"] for items in listed for item in items}
    swept = 0
    for volume in volumes:
        metadata = volume["metadata"]
        place = (metadata.get("annotations") or {}).get(names.ANNOTATION_OWNER, "")
        served = not namespaces or place.partition("/")[0] in namespaces
        if served and metadata["labels"][names.LABEL_OWNER] not in alive:
            logger.info("volume %s: its object %s is gone", metadata["name"], place)
            await cluster.delete(PERSISTENT_VOLUME, "", metadata["name"], uid=metadata["uid"])
            swept += 1
    return swept


async def sweep_for_ever(cluster: Cluster, namespaces: Sequence[str]) -> None:
    """Sweep now and then; what fails is tried again the next time.

    Raises:
        LeaseLostError: this process must end.
    """
    while True:
        try:
            await sweep(cluster, namespaces)
        except LeaseLostError:
            raise
        except KubeError as error:
            logger.warning("volumes of objects that are gone could not be swept: %s", error)
        await asyncio.sleep(SWEEP_SECONDS)
