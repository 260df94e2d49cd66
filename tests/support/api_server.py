"""A real API server, asked directly: a test may make hundreds of requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kubernetes import client, config

Json = dict[str, Any]

OBJECTS = "/apis/glm-operator.io/v1alpha1/namespaces/{}/glmdeployments"


class Refused(Exception):
    """The API server did not accept an object; the text is its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ApiServer:
    """Raw JSON requests with a kubeconfig's credentials."""

    def __init__(self, kubeconfig: Path) -> None:
        self._client = config.new_client_from_config(str(kubeconfig))

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()
        self._client.rest_client.pool_manager.clear()

    def get(self, path: str) -> Json:
        """An object or a list. Raises Refused."""
        return self._call("GET", path)

    def create(self, path: str, body: Json, dry_run: bool = False) -> Json:
        """Create an object and return it as stored. Raises Refused."""
        return self._call("POST", path, body, dry_run=dry_run)

    def merge(self, path: str, patch: Json) -> Json:
        """JSON merge patch. Raises Refused."""
        return self._call("PATCH", path, patch, kind="application/merge-patch+json")

    def replace(self, path: str, body: Json, dry_run: bool = False) -> Json:
        """Write a whole object. Raises Refused."""
        return self._call("PUT", path, body, dry_run=dry_run)

    def delete(self, path: str, options: Json | None = None) -> Json:
        """Delete an object, with DeleteOptions. Raises Refused."""
        return self._call("DELETE", path, options)

    def _call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        kind: str = "application/json",
        dry_run: bool = False,
    ) -> Json:
        headers = {"Accept": "application/json", "Content-Type": kind}
        query = [("dryRun", "All")] if dry_run else []
        try:
            answer = self._client.call_api(
                path,
                method,
                query_params=query,
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
            )
        except client.ApiException as error:
            raise Refused(error.status, _message(error.body)) from error
        found: Json = json.loads(answer.data)
        return found


def _message(body: Any) -> str:
    text = body.decode() if isinstance(body, bytes) else str(body)
    return str(json.loads(text)["message"])
