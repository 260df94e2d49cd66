"""One try of a request at one replica: takes a kept connection or opens one, and sends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from glm_serving.gateway.failover import Cause
from glm_serving.gateway.http import upstream_head
from glm_serving.gateway.upstream import UpstreamConnection, connect
from glm_serving.gateway.upstreams import Replica

if TYPE_CHECKING:
    from glm_serving.gateway.exchange import Exchange
    from glm_serving.gateway.gateway import Gateway
    from glm_serving.gateway.pools import Pool


class Attempt:
    """Counts at its replica from its making until it is closed, which is exactly once.

    The exchange is told what comes of it: `attempt_sent`, `attempt_failed`, and as the receiver
    of the connection everything that the replica answers.
    """

    __slots__ = ("_closed", "_connection", "_exchange", "_gateway", "_pool", "_probes", "replica")

    def __init__(self, exchange: Exchange, gateway: Gateway, pool: Pool, replica: Replica) -> None:
        self.replica = replica
        self._exchange = exchange
        self._gateway = gateway
        self._pool = pool
        self._connection: UpstreamConnection | None = None
        self._closed = False
        self._probes = replica.begin()

    def start(self) -> None:
        """Send on a kept connection, else open one."""
        idle = self.replica.idle
        while idle:
            connection = idle.pop()
            if connection.usable():
                self._send(connection)
                return
        self._gateway.spawn(self._connect(Cause.CONNECT))

    def renew(self) -> None:
        """Open a connection anew after a kept one was lost.

        The engine may have closed it while the request was on its way.
        """
        self._connection = None
        self.replica.close_idle()
        # A replica that is gone now had the request: it may have died of it.
        self._gateway.spawn(self._connect(Cause.LOST))

    async def _connect(self, unreached: Cause) -> None:
        """Open a connection and send; `unreached` is the cause when the replica refuses."""
        connection: UpstreamConnection | None = None
        with contextlib.suppress(OSError):
            connection = await connect(self.replica, self._gateway.timings.connect)
        # What was learned of the replica counts, also when the client has left meanwhile.
        if connection is None and not self._closed:
            self._exchange.attempt_failed(unreached)
        elif connection is None:
            self._gateway.pools.replica_failed(self.replica)
        elif not self._closed:
            self._send(connection)
        else:
            self.replica.breaker.reached()
            connection.close()
        self._gateway.pools.kick(self.replica)

    def _send(self, connection: UpstreamConnection) -> None:
        self.replica.breaker.reached()
        self._connection = connection
        exchange = self._exchange
        request_id = exchange.attempt_sent()
        body = exchange.body
        host = str(self.replica.address)
        connection.send(exchange, upstream_head(exchange.head, host, request_id, len(body)), body)

    def pause(self) -> None:
        """Read no more of the answer."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        if self._connection is not None:
            self._connection.resume()

    def answered(self) -> None:
        """The answer is complete: its connection is the replica's again."""
        self._connection = None
        self.close()

    def close(self) -> None:
        """Give the replica back; what it still does is aborted."""
        if self._closed:
            return
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self.replica.end()
        if self._probes:
            self.replica.breaker.probe_over()
            asyncio.get_running_loop().call_soon(self._gateway.pools.kick, self.replica)
        self._pool.tier.forget(self.replica)
        self._gateway.pools.release_soon(self._pool)
