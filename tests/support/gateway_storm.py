"""A gateway in a process of its own, under load from this one, with its memory and its counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway_fakes import Client, with_endpoints
from glm_serving.gateway.config import Config

START_SECONDS = 20
_LISTENING = re.compile(r"listening on (\d+), metrics and state on (\d+)")


@dataclass
class Storm:
    """The gateway that stands in the storm."""

    path: Path
    base: Config
    pid: int
    port: int
    admin_port: int

    async def client(self) -> Client:
        """A new connection."""
        return await Client.open(self.port)

    def endpoints(self, **urls: list[str]) -> None:
        """Change the static endpoints; the gateway looks at its file once a second."""
        other = self.path.with_suffix(".new")
        other.write_bytes(msgspec.json.encode(with_endpoints(self.base, **urls)))
        other.replace(self.path)

    async def state(self) -> dict[str, Any]:
        """What `/state` says now."""
        client = await Client.open(self.admin_port)
        await client.send(b"GET /state HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await client.answer()
        client.abort()
        return dict(json.loads(answer.body))

    def memory_bytes(self) -> int:
        """What the process holds of the machine's memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    async def until(
        self, condition: Callable[[dict[str, Any]], bool], what: str, seconds: float = 60
    ) -> None:
        """Wait until a condition on `/state` holds."""
        deadline = asyncio.get_running_loop().time() + seconds
        state = await self.state()
        while not condition(state):
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}; {state}")
            await asyncio.sleep(0.05)
            state = await self.state()

    async def until_held(self, count: int) -> None:
        """Wait until so many requests are held for flash."""
        await self.until(lambda s: s["tiers"]["flash"]["held"] == count, f"{count} are held")

    async def at_rest(self) -> None:
        """Wait until every count is back at zero."""

        def rests(state: dict[str, Any]) -> bool:
            tiers = state["tiers"].values()
            counts = [state["connections"], state["bodyBytes"]]
            return not any([*counts, *(t["inFlight"] + t["held"] for t in tiers)])

        await self.until(rests, "the gateway is at rest")


@contextlib.asynccontextmanager
async def storm(folder: Path, base: Config, **urls: list[str]) -> AsyncIterator[Storm]:
    """Start the gateway with static endpoints; it must be at rest in the end."""
    path = folder / "config.json"
    path.write_bytes(msgspec.json.encode(with_endpoints(base, **urls)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "glm_serving.gateway.cli", "--config", str(path)),
        *("--host", "127.0.0.1", "--port", "0", "--admin-port", "0"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    errors = asyncio.create_task(_collect(process.stderr, listening := asyncio.Future()))
    try:
        port, admin_port = await asyncio.wait_for(listening, START_SECONDS)
        one = Storm(path, base, process.pid, port, admin_port)
        yield one
        await one.at_rest()
    finally:
        process.kill()
        await process.wait()
        lines = await errors
    assert not [line for line in lines if "Traceback" in line or " ERROR " in line]


async def _collect(
    stderr: asyncio.StreamReader, listening: asyncio.Future[tuple[int, int]]
) -> list[str]:
    """Read the log of the process to its end, and find its ports in it."""
    lines = []
    async for line in stderr:
        lines.append(line.decode())
        found = _LISTENING.search(lines[-1])
        if found and not listening.done():
            listening.set_result((int(found[1]), int(found[2])))
    return lines
