"""The gateway itself: configuration, tiers, connections and the accounts of every request."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Collection, Coroutine, Mapping

from glm_serving.gateway import dialects, modellist, routes
from glm_serving.gateway.accesslog import AccessLog
from glm_serving.gateway.accounts import Accounts
from glm_serving.gateway.bodies import Body
from glm_serving.gateway.client import ClientConnection
from glm_serving.gateway.config import Address, Config
from glm_serving.gateway.counting import TokenCount
from glm_serving.gateway.decide import Decision, Hints, State, decide
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.exchange import Exchange
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.gauges import add_gauges
from glm_serving.gateway.guard import Guard
from glm_serving.gateway.holding import Bounds
from glm_serving.gateway.http import RequestHead, request_id_of
from glm_serving.gateway.keys import Entries, Key
from glm_serving.gateway.limits import ByteBudget, RetryBudget, Timings
from glm_serving.gateway.metrics import Metrics
from glm_serving.gateway.poison import RefusedBodies
from glm_serving.gateway.policy import policy_of
from glm_serving.gateway.pools import Pools
from glm_serving.gateway.quotas import Charge
from glm_serving.gateway.reasons import (
    INTERNAL_ERROR,
    MODELS_LISTED,
    PATH_NOT_FOUND,
    UNSUPPORTED_ENCODING,
)
from glm_serving.gateway.state import Report, report_of
from glm_serving.gateway.usage import Usage

log = logging.getLogger("glm_gateway")


class Gateway:
    """Serves client connections from one configuration that may change while it runs."""

    def __init__(
        self,
        config: Config,
        *,
        timings: Timings | None = None,
        access_log: AccessLog | None = None,
        pod: str = "",
        random: Callable[[], float] = random.random,
    ) -> None:
        self.timings = timings or Timings()
        self.metrics = Metrics()
        self.access_log = access_log or AccessLog()
        self.accounts = Accounts(self.metrics, self.access_log)
        self.clock = asyncio.get_running_loop().time
        self.pools = Pools(self.clock, self.timings, random)
        self.draining = False
        """The process is stopping: not ready, and every answer ends its connection."""
        self.pod = pod or os.environ.get("POD_NAME") or os.uname().nodename
        self._started = time.monotonic()
        self.guard = Guard(config.auth)
        self._bytes = ByteBudget(config.limits.max_in_flight_bytes)
        self._retries = RetryBudget()
        self.refused_bodies = RefusedBodies()
        self._connections: set[ClientConnection] = set()
        self._exchanges: set[Exchange] = set()
        self._counts: set[TokenCount] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self.apply(config)
        add_gauges(self)

    # --- configuration and endpoints

    def apply(self, config: Config) -> None:
        """Take over a configuration. Connections, counters and what runs are untouched."""
        self.config = config
        self.guard.configure(config.auth)
        log.setLevel(config.log_level.upper())
        self._policy = policy_of(config)
        self._bytes.limit = config.limits.max_in_flight_bytes
        for pool in self.pools.configure(config.tiers, self._bounds()):
            for exchange in tuple(self._exchanges):
                if exchange.tier == pool.tier.name:
                    exchange.tier_removed()
            self.pools.drop_if_over(pool.tier.name)

    def set_service_endpoints(self, endpoints: Mapping[str, Mapping[str, Address]]) -> None:
        """Take over the ready endpoints of every watched service, service -> name -> address."""
        gateways = endpoints.get(self.config.gateway_service, {})
        self.guard.gateways = max(1, len(gateways))
        self.pools.set_service_endpoints(endpoints)

    def take_keys(self, entries: Entries | None) -> None:
        """Take over the API keys that were read; None: nothing is new."""
        if entries is None:
            return
        for trouble in entries.troubles:
            log.error("API keys: %s", trouble)
            self.metrics.config_errors.add()
        gone = entries.troubles[0] if entries.ring is None else ""
        self.guard.set_keys(entries.ring, gone)
        for pool in self.pools:
            pool.queue.bounds = self._bounds()

    def keys_not_read(self, trouble: str) -> None:
        """Say why the API keys could not be read; those that were read last stay."""
        log.warning("API keys: %s", trouble)
        self.guard.trouble = trouble

    def _bounds(self) -> Bounds:
        return Bounds.of(self.config.limits, several_keys=self.guard.has_several_keys)

    # --- judging

    def admit(self, connection: ClientConnection, head: RequestHead) -> int:
        """Check path, method, key and encoding; returns the bytes the body may have.

        Raises:
            Refusal: the gateway does not serve this, or not to this client.
        """
        route = routes.of(head)
        head.key = self.guard.identify(head)
        if route.read is None:
            return 0
        coding = head.text(b"content-encoding").lower()
        media = head.text(b"content-type").partition(";")[0].strip().lower()
        if coding not in {"", "identity"}:
            raise Refusal(UNSUPPORTED_ENCODING, f"content-encoding is {coding!r}: send it plain")
        if media != "application/json":
            raise Refusal(UNSUPPORTED_ENCODING, f"content-type is {media!r}: send application/json")
        return self.config.limits.max_body_bytes

    def judge(self, head: RequestHead, body: Body) -> tuple[Facts, Decision]:
        """Facts and decision of a request.

        Raises:
            Refusal: it is malformed, or no tier may serve it.
        """
        began = time.perf_counter()
        read = routes.of(head).read
        assert read is not None
        headers = {name.decode(): head.text(name) for name in self._policy.headers}
        named, task = head.text(b"x-glm-tier"), head.text(b"x-glm-task")
        hints = Hints(named, task, headers, head.key.tiers)
        try:
            facts = read(body, self.config.media)
            return facts, decide(facts, hints, State(self.pools.serving()), self._policy)
        finally:
            self.metrics.decision.observe(time.perf_counter() - began)

    @property
    def rule_headers(self) -> frozenset[bytes]:
        """Headers that the rules of the configuration look at."""
        return self._policy.headers

    def charge(self, key: Key, facts: Facts) -> Charge | None:
        """Count a request of a key, to be settled when it is over.

        Raises:
            Refusal: a limit of the key is reached.
        """
        return self.guard.charge(key, facts, self.clock())

    # --- requests

    def begin(self, connection: ClientConnection, head: RequestHead, body: Body) -> None:
        """Run a request whose body is read."""
        self.metrics.bytes.add(("received",), len(body))
        request_id = request_id_of(head)
        if routes.of(head).read is None:
            self.give_bytes(len(body))
            self._answer_models(connection, head, request_id)
            return
        runner = self._runner(connection, head, request_id)
        try:
            runner.begin(body)
        except Exception:
            log.exception("request %s", request_id)
            runner.fail(Refusal(INTERNAL_ERROR))

    def _runner(
        self, connection: ClientConnection, head: RequestHead, request_id: str
    ) -> Exchange | TokenCount:
        if head.path == routes.COUNT_TOKENS:
            count = TokenCount(self, connection, head, request_id)
            self._counts.add(count)
            return count
        self._retries.earn()
        exchange = Exchange(self, connection, head, request_id)
        self._exchanges.add(exchange)
        return exchange

    def _answer_models(
        self, connection: ClientConnection, head: RequestHead, request_id: str
    ) -> None:
        try:
            if head.path == routes.MODELS:
                data = modellist.listing(self.config, self.pools.serving())
            else:
                name = head.path.removeprefix(routes.MODEL_PREFIX)
                data = modellist.one(self.config, self.pools.serving(), name)
        except Refusal as refusal:
            self.refuse(connection, head, refusal)
            return
        self.accounts.local(request_id, routes.MODELS, 200, len(data), reason=MODELS_LISTED)
        connection.reply(200, dialects.of(head.path).headers(request_id), data)

    def refuse(
        self, connection: ClientConnection, head: RequestHead | None, refusal: Refusal
    ) -> None:
        """Answer a request that never became an exchange."""
        request_id = request_id_of(head)
        path = head.path if head is not None else b""
        # Not a path that somebody made up: it would fill the log with whatever they like.
        logged = b"" if refusal.reason is PATH_NOT_FOUND else path
        self.accounts.local(request_id, logged, refusal.reason.status, 0, error=refusal.reason)
        connection.refuse(refusal, dialects.of(path).headers(request_id))

    def finished(self, exchange: Exchange, sent_bytes: int, usage: Usage | None) -> None:
        """Account for a request that is over."""
        self._exchanges.discard(exchange)
        self._ended.set()
        if exchange.charge is not None:
            used = usage.prompt + usage.completion if usage is not None else 0
            exchange.charge.settle(used, self.clock())
        self.pools.drop_if_over(exchange.tier)
        self.accounts.exchange(exchange, sent_bytes, usage)

    def counted(self, count: TokenCount) -> None:
        """A request to count tokens is over."""
        self._counts.discard(count)
        self._ended.set()

    def retry(self) -> bool:
        """Whether a fully sent request may be sent again."""
        return self._retries.spend()

    def has_room(self, count: int) -> bool:
        """Whether so many bytes of a body could be reserved now."""
        return self._bytes.holds(count)

    def take_bytes(self, count: int) -> bool:
        """Reserve memory for a body."""
        return self._bytes.take(count)

    def give_bytes(self, count: int) -> None:
        """Return memory of a body."""
        self._bytes.give(count)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run a task and keep it alive; an exception in it is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task failed", exc_info=task.exception())

    # --- the life of the process

    def connected(self, connection: ClientConnection) -> None:
        """A client connected."""
        self._connections.add(connection)

    def disconnected(self, connection: ClientConnection) -> None:
        """A client disconnected."""
        self._connections.discard(connection)
        self._ended.set()

    def sweep(self) -> None:
        """Enforce time limits and write the access log; called every `timings.sweep`."""
        now = self.clock()
        for connection in tuple(self._connections):
            connection.sweep(now)
        for exchange in tuple(self._exchanges):
            exchange.sweep(now)
        self.pools.expire_idle()
        self.access_log.flush()

    def close_idle(self) -> None:
        """End client connections on which nothing runs."""
        for connection in tuple(self._connections):
            connection.close_idle()

    def abandon(self) -> None:
        """End what still arrives, waits or runs, and the idle connections to replicas."""
        for connection in tuple(self._connections):
            connection.shut_down()
        for exchange in tuple(self._exchanges):
            exchange.shut_down()
        for count in tuple(self._counts):
            count.shut_down()
        self.pools.close_idle()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition on requests or connections that end."""
        while not condition():
            self._ended.clear()
            await self._ended.wait()

    @property
    def running(self) -> int:
        """Requests that are not over, held ones included."""
        return len(self._exchanges) + len(self._counts)

    @property
    def exchanges(self) -> Collection[Exchange]:
        """The requests that are not over, as they stand."""
        return self._exchanges

    @property
    def busy(self) -> bool:
        """Whether a request is being received, waits or runs."""
        return bool(self.running) or any(one.receiving for one in self._connections)

    @property
    def connections(self) -> int:
        """Open client connections."""
        return len(self._connections)

    @property
    def held(self) -> int:
        """Requests that wait for a replica."""
        return self.pools.held

    @property
    def body_bytes(self) -> int:
        """Bytes of request bodies in memory."""
        return self._bytes.used

    @property
    def uptime_seconds(self) -> float:
        """Since the process began to serve."""
        return time.monotonic() - self._started

    def report(self) -> Report:
        """The answer to `/state`."""
        return report_of(self)
