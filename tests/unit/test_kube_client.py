"""Calls to the API server over a real socket: requests, errors, retries and the fence."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes import client

from glm_operator.kube import errors
from glm_operator.kube.client import KubernetesCluster
from glm_operator.kube.errors import KubeError, LeaseLostError
from glm_operator.kube.resources import LEASE, NODE, POD, resource_of
from glm_operator.kube.retry import Backoff
from glm_operator.kube.transport import Request, Transport

FAST = Backoff(base_seconds=0.001, limit_seconds=0.002, attempts=3)
Answer = tuple[int, Any, dict[str, str]]


class Server:
    """Plays answers in order and keeps what was asked; the last answer repeats."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None: ...

            def answer(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                outer.asked.append((self.command, self.path, dict(self.headers), body))
                status, given, headers = (
                    outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                )
                raw = given if isinstance(given, bytes) else json.dumps(given).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(raw)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def plan(self, *answers: Any) -> None:
        self.answers = [one if isinstance(one, tuple) else (200, one, {}) for one in answers]

    def transport(self) -> Transport:
        configuration = client.Configuration()
        configuration.host = f"http://127.0.0.1:{self.http.server_port}"
        configuration.api_key["BearerToken"] = "bearer secret"
        return Transport(configuration)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def call(server: Server, work: Any, **options: Any) -> Any:
    """Run `work(cluster)` on a cluster that talks to the server."""

    async def main() -> Any:
        cluster = KubernetesCluster(server.transport(), backoff=FAST, **options)
        try:
            return await work(cluster)
        finally:
            cluster.close()

    return asyncio.run(main())


MANIFEST = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "ml"}}


@pytest.mark.parametrize(
    ("work", "method", "path", "content"),
    [
        (lambda c: c.get(POD, "ml", "a"), "GET", "/api/v1/namespaces/ml/pods/a", None),
        (lambda c: c.get(NODE, "", "n"), "GET", "/api/v1/nodes/n", None),
        (lambda c: c.create(MANIFEST), "POST", "/api/v1/namespaces/ml/pods", "application/json"),
        (
            lambda c: c.create(MANIFEST, dry_run=True),
            "POST",
            "/api/v1/namespaces/ml/pods?dryRun=All",
            "application/json",
        ),
        (lambda c: c.update(MANIFEST), "PUT", "/api/v1/namespaces/ml/pods/a", "application/json"),
        (
            lambda c: c.apply(MANIFEST, "m"),
            "PATCH",
            "/api/v1/namespaces/ml/pods/a?fieldManager=m&force=true",
            "application/apply-patch+yaml",
        ),
        (
            lambda c: c.apply_status(MANIFEST, "m"),
            "PATCH",
            "/api/v1/namespaces/ml/pods/a/status?fieldManager=m&force=true",
            "application/apply-patch+yaml",
        ),
        (
            lambda c: c.patch(POD, "ml", "a", {"x": 1}),
            "PATCH",
            "/api/v1/namespaces/ml/pods/a",
            "application/merge-patch+json",
        ),
        (
            lambda c: c.patch_pod_status("ml", "a", {"x": 1}),
            "PATCH",
            "/api/v1/namespaces/ml/pods/a/status",
            "application/strategic-merge-patch+json",
        ),
    ],
    ids=[
        "get",
        "get node",
        "create",
        "try",
        "update",
        "apply",
        "apply status",
        "patch",
        "patch status",
    ],
)
def test_a_call_is_one_request(
    server: Server, work: Any, method: str, path: str, content: str | None
) -> None:
    server.plan({"ok": True})
    assert call(server, work) == {"ok": True}
    ((used, where, headers, _),) = server.asked
    assert (used, where) == (method, path)
    assert headers["authorization"] == "bearer secret"
    assert content is None or headers["Content-Type"] == content


def test_a_lease_lies_in_its_group() -> None:
    assert LEASE.path("glm-system", "x") == (
        "/apis/coordination.k8s.io/v1/namespaces/glm-system/leases/x"
    )


def test_a_kind_that_is_not_ours_has_no_resource() -> None:
    with pytest.raises(KeyError):
        resource_of({"apiVersion": "v1", "kind": "Secret"})


def test_a_list_follows_its_pages(server: Server) -> None:
    server.plan({"items": [1], "metadata": {"continue": "t"}}, {"items": [2], "metadata": {}})
    found = call(server, lambda c: c.find(POD, "ml", labels="a=b", fields="spec.nodeName=n"))
    assert found == [1, 2]
    assert "labelSelector=a%3Db" in server.asked[0][1]
    assert "fieldSelector=spec.nodeName%3Dn" in server.asked[0][1]
    assert "continue=t" in server.asked[1][1]


def test_a_deletion_carries_its_preconditions(server: Server) -> None:
    server.plan({})
    call(server, lambda c: c.delete(POD, "ml", "a", uid="u", grace_seconds=0))
    body = server.asked[0][3]
    assert body["preconditions"] == {"uid": "u"}
    assert body["gracePeriodSeconds"] == 0


def test_what_is_gone_is_deleted_already(server: Server) -> None:
    server.plan((404, {"message": "not found"}, {}))
    call(server, lambda c: c.delete(POD, "ml", "a"))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"message": "no"}, errors.NotFoundError),
        (409, {"reason": "AlreadyExists"}, errors.AlreadyExistsError),
        (409, {"reason": "Conflict"}, errors.ConflictError),
        (422, {"details": {"causes": [{"field": "metadata.uid"}]}}, errors.ConflictError),
        (422, {"details": {"causes": [{"field": "spec"}]}}, errors.RefusedError),
        (403, {"message": "exceeded quota"}, errors.RefusedError),
        (410, {}, errors.ExpiredError),
        (401, {}, errors.UnavailableError),
        (500, b"<html>", errors.UnavailableError),
        (503, {}, errors.UnavailableError),
    ],
)
def test_answers_become_errors_of_our_own(
    server: Server, status: int, body: Any, kind: type[KubeError]
) -> None:
    server.plan((status, body, {}))
    with pytest.raises(kind) as caught:
        call(server, lambda c: c.create(MANIFEST))
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert str(caught.value).startswith("create Pod ml/a: ")


def test_the_servers_own_words_are_kept(server: Server) -> None:
    server.plan((403, {"message": "exceeded quota: gpus"}, {}))
    with pytest.raises(KubeError, match="create Pod ml/a: exceeded quota: gpus"):
        call(server, lambda c: c.create(MANIFEST))


def test_a_passing_failure_is_tried_again(server: Server) -> None:
    server.plan((503, {}, {}), (429, {}, {"Retry-After": "0"}), {"ok": True})
    assert call(server, lambda c: c.get(POD, "ml", "a")) == {"ok": True}
    assert len(server.asked) == 3


def test_attempts_are_bounded(server: Server) -> None:
    server.plan((503, {}, {}))
    with pytest.raises(errors.UnavailableError):
        call(server, lambda c: c.get(POD, "ml", "a"))
    assert len(server.asked) == FAST.attempts


def test_a_refusal_is_not_repeated(server: Server) -> None:
    server.plan((403, {}, {}))
    with pytest.raises(errors.RefusedError):
        call(server, lambda c: c.create(MANIFEST))
    assert len(server.asked) == 1


def test_nobody_there_is_unavailable(server: Server) -> None:
    transport = server.transport()
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(errors.UnavailableError, match="get Pod: no answer from the API server"):
        transport.send(Request("get Pod", "GET", "/api/v1/pods"))


def test_an_answer_that_is_no_json_is_unavailable(server: Server) -> None:
    server.plan((200, b"<html>", {}))
    with pytest.raises(errors.UnavailableError, match="broke off"):
        call(server, lambda c: c.get(POD, "ml", "a"))


def test_a_fenced_process_reads_but_does_not_write(server: Server) -> None:
    def fence() -> None:
        raise LeaseLostError("lost")

    server.plan({"ok": True})
    assert call(server, lambda c: c.get(POD, "ml", "a"), fence=fence) == {"ok": True}
    with pytest.raises(LeaseLostError):
        call(server, lambda c: c.create(MANIFEST), fence=fence)
    assert len(server.asked) == 1


def test_a_stream_is_read_line_by_line(server: Server) -> None:
    server.plan((200, b'{"type": "A"}\n\n{"type": "B"}\n', {}))
    request = Request("watch pods", "GET", "/api/v1/pods")
    found = list(server.transport().lines(request, read_seconds=5))
    assert [one["type"] for one in found] == ["A", "B"]


def test_the_connection_in_use_is_shown_to_other_clients(server: Server) -> None:
    shown = server.transport().connection()
    assert shown.server == f"http://127.0.0.1:{server.http.server_port}"
    assert shown.token == "secret"
