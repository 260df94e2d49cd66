"""One blocking request to the API server through the `kubernetes` package, as raw JSON.

Typed models are never used: decoding a list of 4,000 pods takes nine times as long with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from glm_operator.kube.errors import UnavailableError, from_response

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
USER_AGENT = "glm-operator"

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `what` names it in errors, as in `create Pod ml/vision-flash-0`."""

    what: str
    method: str
    path: str
    query: Query = ()
    body: Mapping[str, Any] | None = None
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the API server is and who we are, for clients other than this one (kopf)."""

    server: str
    ca_path: str | None
    certificate_path: str | None
    key_path: str | None
    token: str | None
    verify: bool


def namespace_of(kubeconfig: str, context: str = "") -> str:
    """The namespace that kubectl would use: the context's own, else `default`.

    Raises:
        kubernetes.config.ConfigException: there is no such file or context.
    """
    if not kubeconfig:
        return "default"
    contexts, current = config.list_kube_config_contexts(kubeconfig)
    chosen = next((one for one in contexts if one["name"] == context), current)
    return str(chosen["context"].get("namespace") or "default")


class Transport:
    """Sends requests; thread-safe. Every failure is one of `kube.errors`."""

    def __init__(self, configuration: client.Configuration, connections: int = 32) -> None:
        # Retries are ours: urllib3's own would sleep in a thread of the pool.
        configuration.retries = False
        configuration.connection_pool_maxsize = connections
        self._configuration = configuration
        self._api = client.ApiClient(configuration)

    @classmethod
    def load(cls, kubeconfig: str = "", context: str = "", connections: int = 32) -> Transport:
        """Connect by a kubeconfig file, or by the pod's service account when it is empty.

        Raises:
            kubernetes.config.ConfigException: neither works; the message says what is missing.
        """
        configuration = client.Configuration()
        if kubeconfig:
            config.load_kube_config(kubeconfig, context or None, configuration)
        else:
            config.load_incluster_config(configuration)
        return cls(configuration, connections)

    def connection(self) -> Connection:
        """The address and credentials in use now; a service account's token is read again."""
        used = self._configuration
        header = used.get_api_key_with_prefix("BearerToken", alias="authorization")
        return Connection(
            server=used.host,
            ca_path=used.ssl_ca_cert,
            certificate_path=used.cert_file,
            key_path=used.key_file,
            token=header.partition(" ")[2] if header else None,
            verify=bool(used.verify_ssl),
        )

    def send(self, request: Request) -> dict[str, Any]:
        """Send one request and return the decoded JSON answer."""
        response = self._open(request, READ_SECONDS)
        try:
            answer: dict[str, Any] = json.loads(response.data)
            return answer
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise UnavailableError(f"{request.what}: the answer broke off ({error})") from error

    def lines(self, request: Request, read_seconds: float) -> Iterator[Mapping[str, Any]]:
        """Stream the JSON lines of a watch; ends when the server ends it or stays silent."""
        response = self._open(request, read_seconds)
        try:
            for line in response:
                if line.strip():
                    yield json.loads(line)
        except urllib3.exceptions.ReadTimeoutError:
            return
        except (urllib3.exceptions.HTTPError, ValueError, OSError) as error:
            raise UnavailableError(f"{request.what}: the stream broke off ({error})") from error
        finally:
            # Not released to the pool: the rest of an endless answer would have to be read.
            response.close()

    def _open(self, request: Request, read_seconds: float) -> urllib3.HTTPResponse:
        headers = {
            "Accept": "application/json",
            "Content-Type": request.content_type,
            "User-Agent": USER_AGENT,
        }
        self._api.update_params_for_auth(headers, [], ["BearerToken"])
        try:
            answer: urllib3.HTTPResponse = self._api.rest_client.request(
                request.method,
                self._configuration.host + request.path,
                query_params=list(request.query),
                headers=headers,
                body=None if request.body is None else dict(request.body),
                _preload_content=False,
                _request_timeout=(CONNECT_SECONDS, read_seconds),
            )
        except ApiException as error:
            status, headers_in = error.status or 0, error.headers or {}
            raise from_response(request.what, status, error.body, headers_in) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            sentence = f"{request.what}: no answer from the API server ({error})"
            raise UnavailableError(sentence) from error
        return answer
