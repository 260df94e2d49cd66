"""As much of an API client as starting a cluster takes; kubectl costs 0.1 s of CPU a call."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any

from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.plan import ClusterPlan

REQUEST_SECONDS = 5.0
"""A lost request must not hold up a start."""
Json = dict[str, Any]


class ApiClient:
    """The administrator's requests to one API server."""

    def __init__(self, plan: ClusterPlan) -> None:
        pki = plan.directory / "pki"
        self._host = str(plan.addresses.control_plane)
        self._context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._context.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def ready(self) -> bool:
        """Whether the API server serves."""
        try:
            return self._request("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> Json | None:
        """An object or list; None if it does not exist or the API server does not answer now."""
        try:
            status, body = self._request("GET", path)
        except OSError:
            return None
        return dict(json.loads(body)) if status == 200 else None

    def names(self, path: str) -> set[str]:
        """The names of all objects in a list.

        Raises:
            ClusterError: the API server does not answer.
        """
        found = self.get(path)
        if found is None:
            raise ClusterError(f"The API server does not answer {path}.")
        return {item["metadata"]["name"] for item in found["items"]}

    def create(self, path: str, manifest: Mapping[str, Any]) -> None:
        """Create an object that may exist already.

        Raises:
            ClusterError: the API server refused, or does not answer.
        """
        try:
            status, body = self._request("POST", path, json.dumps(manifest))
        except OSError as error:
            raise ClusterError(f"The API server does not answer: {error}.") from error
        if status not in (200, 201, 409):
            raise ClusterError(f"The API server refused {path}: {body.decode()[:400]}")

    def _request(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            self._host, 6443, timeout=REQUEST_SECONDS, context=self._context
        )
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"{method} {path}: {error}") from error
        finally:
            connection.close()
