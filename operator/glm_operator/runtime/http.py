"""JSON over HTTP to pods, by their addresses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp

ANSWER_LIMIT = 4 << 20
"""Bytes of an answer at most; what we ask for is far smaller."""


class NoAnswerError(Exception):
    """No answer in time, a broken connection, or an answer without end. The text says which."""


class Http(Protocol):
    """What the pollers and the verifier ask of the network."""

    async def get(self, url: str, seconds: float) -> tuple[int, Any]:
        """Status and decoded body (text when it is no JSON). Raises NoAnswerError."""
        ...

    async def post(self, url: str, body: Mapping[str, Any], seconds: float) -> tuple[int, Any]:
        """The same for a POST of JSON."""
        ...


class PodHttp:
    """`Http` over one aiohttp session. Proxies and redirects are for other people's addresses.

    The callers bound how much they ask at once. A limit of the session would be shared by all, and
    pods that do not answer would use it up.
    """

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=0)
        self._session = aiohttp.ClientSession(connector=connector, trust_env=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, url: str, seconds: float) -> tuple[int, Any]:
        """Status and decoded body of a GET."""
        return await self._ask("GET", url, None, seconds)

    async def post(self, url: str, body: Mapping[str, Any], seconds: float) -> tuple[int, Any]:
        """Status and decoded body of a POST."""
        return await self._ask("POST", url, body, seconds)

    async def _ask(
        self, method: str, url: str, body: Mapping[str, Any] | None, seconds: float
    ) -> tuple[int, Any]:
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, 3.0))
        try:
            async with self._session.request(
                method, url, json=body, timeout=timeout, allow_redirects=False
            ) as answer:
                return answer.status, decoded(await _whole(answer.content))
        except TimeoutError as error:
            raise NoAnswerError(f"no answer within {seconds:g} s") from error
        except aiohttp.ClientError as error:
            raise NoAnswerError(f"the connection failed ({error})") from error


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """The body to its end: one read returns only what has arrived so far."""
    found = bytearray()
    async for part in content.iter_any():
        found += part
        if len(found) > ANSWER_LIMIT:
            raise NoAnswerError(f"the answer has more than {ANSWER_LIMIT} bytes")
    return bytes(found)


def decoded(raw: bytes) -> Any:
    """JSON where it is JSON, else the text."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        # Brackets by the thousand exhaust the stack; nobody who means well sends them.
        return raw.decode(errors="replace")
