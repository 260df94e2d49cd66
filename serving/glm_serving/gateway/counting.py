"""`/v1/messages/count_tokens`: by an engine of the tier that would serve, else by estimate.

Counting must not look like work, or an agent that counts would keep a tier awake for nothing: it
is no arrival, waits for no replica, and is not in flight at the one that it asks.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec

from glm_serving.gateway import dialects, routes
from glm_serving.gateway.bodies import Body
from glm_serving.gateway.client import ClientConnection
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.http import RequestHead, upstream_head
from glm_serving.gateway.reasons import (
    CLIENT_CLOSED,
    CONTEXT_TOO_LONG,
    TOKENS_COUNTED,
    TOKENS_ESTIMATED,
    Reason,
)
from glm_serving.gateway.upstream import UpstreamConnection, connect
from glm_serving.gateway.upstreams import Replica

if TYPE_CHECKING:
    from glm_serving.gateway.gateway import Gateway

MAX_ANSWER_BYTES = 64 * 1024
"""An engine's count is a hundred bytes, its error some hundred."""


class TokenCount:
    """One request to count. Whatever the engine does, the client gets a number or its own fault."""

    def __init__(
        self, gateway: Gateway, client: ClientConnection, head: RequestHead, request_id: str
    ) -> None:
        self._gateway = gateway
        self._client = client
        self._head = head
        self._request_id = request_id
        self._headers = dialects.of(head.path).headers(request_id)
        self._body: Body = b""
        self._estimate = 0
        self._connection: UpstreamConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._status = 0
        self._answer = bytearray()
        self._over = False

    def begin(self, body: Body) -> None:
        """Ask an engine, or estimate. Takes over the body and its reserved bytes."""
        self._client.answerer = self
        self._body = body
        try:
            facts, decision = self._gateway.judge(self._head, body)
        except Refusal as refusal:
            self._refused(refusal)
            return
        self._estimate = facts.prompt_tokens
        replica = self._gateway.pools[decision.tier].tier.choose(self._gateway.clock())
        if replica is None:
            self._answer_estimate()
            return
        self._headers[b"x-glm-tier"] = decision.tier.encode()
        self._headers[b"x-glm-replica"] = replica.name.encode("latin-1")
        self._timer = asyncio.get_running_loop().call_later(
            self._gateway.timings.count, self._answer_estimate
        )
        self._gateway.spawn(self._ask(replica))

    def _refused(self, refusal: Refusal) -> None:
        read = routes.of(self._head).read
        if refusal.reason is CONTEXT_TOO_LONG and read is not None:
            # Whether a prompt is too long is what the client wants to know.
            self._estimate = read(self._body, self._gateway.config.media).prompt_tokens
            self._answer_estimate()
            return
        self.fail(refusal)

    def fail(self, refusal: Refusal) -> None:
        """Answer with an error."""
        self._finish()
        self._gateway.refuse(self._client, self._head, refusal)

    async def _ask(self, replica: Replica) -> None:
        while replica.idle and self._connection is None:
            kept = replica.idle.pop()
            self._connection = kept if kept.usable() else None
        if self._connection is None:
            with contextlib.suppress(OSError):
                self._connection = await connect(replica, self._gateway.timings.connect)
        if self._over:
            self._drop_connection()
            return
        if self._connection is None:
            self._answer_estimate()
            return
        head = upstream_head(
            self._head, str(replica.address), f"{self._request_id}-1", len(self._body)
        )
        self._connection.send(self, head, self._body)

    # --- what the engine answers

    def upstream_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """The engine answers; what it says of the client's own fault is passed on."""
        self._status = status
        if status != 200 and not 400 <= status < 500:
            self._answer_estimate()

    def upstream_body(self, data: bytes, last: bool) -> None:
        """Collect the answer."""
        self._answer += data
        if len(self._answer) > MAX_ANSWER_BYTES:
            self._answer_estimate()

    def upstream_end(self) -> None:
        """Pass the answer on."""
        self._connection = None
        self._reply(self._status, bytes(self._answer), TOKENS_COUNTED)

    def upstream_lost(self, reused: bool, sent: bool) -> None:
        """The engine is gone."""
        self._connection = None
        self._answer_estimate()

    # --- what the client gets

    def _answer_estimate(self) -> None:
        self._headers.pop(b"x-glm-tier", None)
        self._headers.pop(b"x-glm-replica", None)
        data = msgspec.json.encode({"input_tokens": self._estimate})
        self._reply(200, data, TOKENS_ESTIMATED)

    def _reply(self, status: int, data: bytes, reason: Reason) -> None:
        self._finish()
        self._headers[b"x-glm-decision"] = reason.name.encode()
        self._gateway.accounts.local(
            self._request_id, self._head.path, status, len(data), reason=reason
        )
        self._client.reply(status, self._headers, data)

    def shut_down(self) -> None:
        """The time to finish is over."""
        self._answer_estimate()

    # --- the client's side

    def client_gone(self) -> None:
        """The client left."""
        self._finish()
        path, status = self._head.path, CLIENT_CLOSED.status
        self._gateway.accounts.local(self._request_id, path, status, 0, error=CLIENT_CLOSED)

    def client_paused(self) -> None:
        """The answer is short: nothing to pause."""

    def client_resumed(self) -> None:
        """Nothing was paused."""

    # --- ending

    def _finish(self) -> None:
        """Give everything back, once."""
        self._over = True
        self._client.answerer = None
        if self._timer is not None:
            self._timer.cancel()
        self._drop_connection()
        self._gateway.give_bytes(len(self._body))
        self._body = b""
        self._gateway.counted(self)

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
