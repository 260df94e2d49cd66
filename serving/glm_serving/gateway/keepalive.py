"""What the client of a stream hears while its request is held: nothing, then that it lives."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from glm_serving.gateway.limits import Timings

if TYPE_CHECKING:
    from glm_serving.gateway.exchange import Exchange
    from glm_serving.gateway.waiting import Wait


class KeepAlive:
    """Opens the stream after a time of silence, and puts comments in it until its answer begins.

    An error before it is opened is one that a client's package sends again; after it none is. So it
    is opened only where a replica is known to come in time.
    """

    def __init__(self, exchange: Exchange, wait: Wait, timings: Timings) -> None:
        self._exchange = exchange
        self._wait = wait
        self._timings = timings
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to count the silence, which lasts since the request arrived."""
        if self._timer is None:
            age = time.monotonic() - self._exchange.began
            self._next(max(0.0, self._timings.silence - age))

    def _next(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._speak)

    def _speak(self) -> None:
        if self._exchange.answer.opened:
            self._exchange.answer.comment()
        elif self._wait.is_held and self._wait.is_soon_over():
            self._exchange.open_stream()
        self._next(self._timings.comment)

    def stop(self) -> None:
        """The answer begins, or never comes."""
        if self._timer is not None:
            self._timer.cancel()
