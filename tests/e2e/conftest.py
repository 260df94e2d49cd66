"""One local cluster for all end-to-end tests, with the chart installed by Helm."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from glm_dev.demo.scenes import Client
from glm_dev.engine.paths import engine
from glm_dev.hub.server import Hub
from glm_dev.kubectl import wait_for
from glm_dev.site import Site, local_site

NODES = "1x4xH100-80GB,2x1xL40S-48GB"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """Three nodes, every image, the operator with the chart's own service account only."""
    with local_site(f"e2e-{os.getpid()}", NODES, real_engine=True) as opened:
        opened.install_chart()
        yield opened


@pytest.fixture
def namespace(site: Site) -> Iterator[str]:
    """A namespace of the test's own, with Pod Security restricted, gone afterwards."""
    name = f"e2e-{next(_numbers)}"
    site.create_namespace(name)
    yield name
    site.kubectl.run("delete", "glm", "--all", "-n", name, timeout=120)
    wait_for(f"no pod in {name}", lambda: not site.kubectl.list("pod", name), 400)
    # Not waited for: the namespace controller looks again only after half of the longest grace
    # period that it saw, and the gateway's is minutes.
    site.kubectl.run("delete", "namespace", name, "--wait=false")


@pytest.fixture
def hub(site: Site, namespace: str) -> Iterator[Hub]:
    """A hub with the engine's checkpoints, and in the namespace the Secret that leads to it."""
    assert site.local is not None
    made = Hub()
    for tier in ("flagship", "flash"):
        made.publish(f"glm/{tier}", engine().models / tier)
    with made.running(str(site.local.plan.addresses.host)) as endpoint:
        metadata = {"name": "hub", "namespace": namespace}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
        site.kubectl.apply(secret | {"stringData": {"HF_ENDPOINT": endpoint}})
        yield made


@pytest.fixture
def gateway(site: Site, namespace: str) -> Iterator[Callable[[], Client]]:
    """Opens clients for the namespace's gateway, and closes them."""
    with contextlib.ExitStack() as stack:

        def opened() -> Client:
            forward = site.kubectl.port_forward("svc/vision-gateway", 80, namespace)
            client = Client(f"http://127.0.0.1:{stack.enter_context(forward)}", 180)
            stack.callback(client.close)
            return client

        yield opened
