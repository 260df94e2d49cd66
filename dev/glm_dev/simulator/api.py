"""The paths of the simulated engine: vLLM's, and `/sim/*` to steer and to count."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from glm_dev.simulator import answers, bodies, request
from glm_dev.simulator.answers import Answer
from glm_dev.simulator.dialects import Chat, Completion
from glm_dev.simulator.engine import ABORT, Aborted, Engine
from glm_dev.simulator.errors import ApiError
from glm_dev.simulator.httpd import Request, Responder
from glm_dev.simulator.metrics import Metrics
from glm_dev.simulator.request import Generation
from glm_dev.simulator.settings import Behaviour, Settings, SettingsError

VERSION = "0.32.0"
"""The vLLM whose behaviour this is."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Api:
    """Answers requests; `exit_process` ends the process at once with a code."""

    def __init__(
        self,
        settings: Settings,
        behaviour: Behaviour,
        exit_process: Callable[[int], None] = os._exit,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics(settings.name, settings.max_model_len, behaviour.kv_tokens)
        self.engine = Engine(settings, behaviour, self.metrics)
        self._exit = exit_process
        self._created = int(time.time())
        self._generations = 0
        self._failures = 0
        self._by_id: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._routes = {
            ("GET", "/health"): self._health,
            ("GET", "/ping"): self._health,
            ("GET", "/version"): self._version,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/v1/models"): self._models,
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/completions"): self._completion,
            ("GET", "/sim/behaviour"): self._show_behaviour,
            ("POST", "/sim/behaviour"): self._change_behaviour,
            ("GET", "/sim/requests"): self._requests,
        }

    @property
    def behaviour(self) -> Behaviour:
        """How the engine behaves at this moment."""
        return self.engine.behaviour

    async def handle(self, http: Request, out: Responder) -> None:
        """Answer one request."""
        route = self._routes.get((http.method, http.path))
        try:
            if route is None:
                self._no_route(http, out)
            else:
                await route(http, out)
        except ApiError as error:
            out.json(error.status, error.body())

    def _no_route(self, http: Request, out: Responder) -> None:
        """The web framework's own answer: vLLM's error body comes only from its own paths."""
        known = any(path == http.path for _, path in self._routes)
        status = 405 if known else 404
        out.json(status, {"detail": HTTPStatus(status).phrase})

    async def _health(self, http: Request, out: Responder) -> None:
        out.send(503 if self.behaviour.unhealthy else 200, b"", "application/json")

    async def _version(self, http: Request, out: Responder) -> None:
        out.json(200, {"version": VERSION})

    async def _metrics(self, http: Request, out: Responder) -> None:
        page = self.metrics.render(self.engine.gauges())
        out.send(200, page.encode(), METRICS_TYPE)

    async def _models(self, http: Request, out: Responder) -> None:
        out.json(200, bodies.models(self.settings, self._created))

    async def _show_behaviour(self, http: Request, out: Responder) -> None:
        out.json(200, asdict(self.behaviour))

    async def _change_behaviour(self, http: Request, out: Responder) -> None:
        try:
            self.engine.behaviour = self.behaviour.changed(_object(http))
        except SettingsError as error:
            raise ApiError.bad_request(str(error)) from None
        self._failures = 0
        out.json(200, asdict(self.behaviour))

    async def _requests(self, http: Request, out: Responder) -> None:
        found = {
            "total": self._generations,
            "by_request_id": dict(self._by_id),
            "outcomes": dict(self._outcomes),
            "settings": asdict(self.settings),
        }
        out.json(200, found)

    async def _chat(self, http: Request, out: Responder) -> None:
        await self._generate(http, out, request.chat, Chat)

    async def _completion(self, http: Request, out: Responder) -> None:
        await self._generate(http, out, request.completion, Completion)

    async def _generate(
        self,
        http: Request,
        out: Responder,
        read: Callable[[Any, Settings], Generation],
        dialect: type[Chat] | type[Completion],
    ) -> None:
        self._generations += 1
        identity = http.headers.get("x-request-id") or uuid.uuid4().hex
        self._by_id[identity] += 1
        outcome = "cancelled"
        try:
            await self._injected(out)
            wanted = read(_object(http), self.settings)
            await self._die_at_image(wanted)
            answer = answers.answer(wanted, self.settings, self.behaviour)
            envelope = bodies.Envelope(
                f"{dialect.prefix}-{identity}", int(time.time()), self.settings.name
            )
            talk = dialect(envelope, wanted, answer, self.settings)
            self._count_parser(wanted, answer)
            outcome = await self._run(talk, wanted, answer, out)
        except ApiError as error:
            outcome = str(error.status)
            raise
        finally:
            self._outcomes[outcome] += 1

    def _count_parser(self, wanted: Generation, answer: Answer) -> None:
        if wanted.tools:
            mode = "streaming" if wanted.stream else "non_streaming"
            outcome = "tool_call" if answer.parsed.calls else "no_tool_call"
            self.metrics.parsed(mode, outcome, "chat_completions")

    async def _run(
        self, talk: Chat | Completion, wanted: Generation, answer: Answer, out: Responder
    ) -> str:
        written, finish = 0, answer.finish
        tokens = self.engine.generate(wanted, answer)
        try:
            async for index in tokens:
                written = index + 1
                if wanted.stream:
                    await talk.stream(out, index)
                if written == self.behaviour.crash_after_tokens:
                    self._exit(1)
        except Aborted:
            finish = ABORT
        finally:
            await tokens.aclose()
        if wanted.stream:
            await talk.end_stream(out, finish, written)
        else:
            out.json(200, talk.whole(finish, written))
        return finish

    async def _injected(self, out: Responder) -> None:
        """Failures that strike before the request is read."""
        behaviour = self.behaviour
        if self._generations == behaviour.crash_after_requests:
            self._exit(1)
        if behaviour.hang:
            await asyncio.Event().wait()
        if behaviour.fail_status and (
            not behaviour.fail_count or self._failures < behaviour.fail_count
        ):
            self._failures += 1
            raise ApiError.plain(behaviour.fail_status, "injected failure")

    async def _die_at_image(self, wanted: Generation) -> None:
        """The engine core dies; the server answers 500, says so in /health, and ends with 0."""
        if self.behaviour.die_at_image and wanted.prompt.images:
            self.engine.behaviour = self.behaviour.changed({"unhealthy": True})
            asyncio.get_running_loop().call_later(0.05, self._exit, 0)
            raise ApiError.dead()


def _object(http: Request) -> dict[str, Any]:
    if http.headers.get("content-type", "").partition(";")[0].lower() != "application/json":
        raise ApiError.not_json()
    try:
        value = http.json()
    except json.JSONDecodeError as error:
        raise ApiError.json_invalid(error.pos, error.msg) from None
    if not isinstance(value, dict):
        raise ApiError.wrong_type("body", "a valid dictionary", value)
    return value
