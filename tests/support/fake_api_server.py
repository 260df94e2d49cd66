"""A small API server: list and watch of three kinds of objects, and the ways in which it fails."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit


class FakeApiServer:
    """Serves config maps, secrets and endpoint slices of one namespace, by name."""

    def __init__(self) -> None:
        self.version = 1
        self.objects: dict[str, dict[str, dict[str, Any]]] = {
            "configmaps": {},
            "endpointslices": {},
            "secrets": {},
        }
        self.requests: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        self.refuse_status = 0
        """Answer every request with this status."""
        self.forbidden: set[str] = set()
        """Resources that the reader has no right to."""
        self._watchers: dict[str, set[asyncio.StreamWriter]] = {
            name: set() for name in self.objects
        }
        self._history: dict[str, list[tuple[int, bytes]]] = {name: [] for name in self.objects}
        self.port = 0

    async def start(self) -> FakeApiServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Go away; what watches hang on is cut."""
        self._server.close()
        for writers in self._watchers.values():
            for writer in tuple(writers):
                writer.transport.abort()
        await asyncio.sleep(0)

    def watching(self, resource: str) -> bool:
        return bool(self._watchers[resource])

    def put(self, resource: str, name: str, value: dict[str, Any]) -> None:
        """Create or change an object and tell the watchers."""
        self.version += 1
        known = name in self.objects[resource]
        metadata = value.get("metadata", {}) | {"name": name, "resourceVersion": str(self.version)}
        self.objects[resource][name] = value | {"metadata": metadata}
        self._tell(resource, "MODIFIED" if known else "ADDED", self.objects[resource][name])

    def delete(self, resource: str, name: str) -> None:
        self.version += 1
        value = self.objects[resource].pop(name)
        value["metadata"]["resourceVersion"] = str(self.version)
        self._tell(resource, "DELETED", value)

    def expire(self, resource: str) -> None:
        """Tell the watchers that their version is too old."""
        status = {"kind": "Status", "code": 410, "message": "too old resource version"}
        self._tell(resource, "ERROR", status)
        for writer in tuple(self._watchers[resource]):
            writer.write(b"0\r\n\r\n")
            writer.close()

    def put_config(self, name: str, text: str) -> None:
        self.put("configmaps", name, {"data": {"config.json": text}})

    def put_secret(self, name: str, **entries: str) -> None:
        data = {key: base64.b64encode(text.encode()).decode() for key, text in entries.items()}
        self.put("secrets", name, {"data": data})

    def put_slice(
        self, name: str, service: str, ready: dict[str, tuple[str, int]], **unready: tuple[str, int]
    ) -> None:
        """A slice with pods, name -> address and port (the same port for all)."""
        ports = {port for _, port in [*ready.values(), *unready.values()]} or {8000}
        (port,) = ports
        pods = [(pod, place, True) for pod, place in ready.items()]
        pods += [(pod, place, False) for pod, place in unready.items()]
        endpoints = [
            {
                "addresses": [place[0]],
                "conditions": {"ready": is_ready},
                "targetRef": {"kind": "Pod", "name": pod},
            }
            for pod, place, is_ready in pods
        ]
        value = {
            "metadata": {"labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": "http", "port": port}],
        }
        self.put("endpointslices", name, value)

    def _tell(self, resource: str, kind: str, value: dict[str, Any]) -> None:
        line = json.dumps({"type": kind, "object": value}).encode() + b"\n"
        if kind != "ERROR":
            self._history[resource].append((self.version, line))
        for writer in self._watchers[resource]:
            _write_line(writer, line)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *rest = head.rstrip().split("\r\n")
            target = urlsplit(line.split(" ")[1])
            headers = dict(item.split(": ", 1) for item in rest)
            query = parse_qs(target.query)
            self.requests.append((target.path, query, headers))
            await self._answer(target.path.rsplit("/", 1)[1], query, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self,
        resource: str,
        query: dict[str, list[str]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if self.refuse_status:
            _write(writer, self.refuse_status, {"kind": "Status", "message": "refused"})
        elif resource in self.forbidden:
            _write(writer, 403, {"kind": "Status", "message": f"{resource} is forbidden"})
        elif "watch" not in query:
            items = list(self.objects[resource].values())
            _write(
                writer, 200, {"metadata": {"resourceVersion": str(self.version)}, "items": items}
            )
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            since = int(query["resourceVersion"][0])
            for version, line in self._history[resource]:
                if version > since:
                    _write_line(writer, line)
            self._watchers[resource].add(writer)
            try:
                await reader.read()
            finally:
                self._watchers[resource].discard(writer)


def _write(writer: asyncio.StreamWriter, status: int, value: object) -> None:
    body = json.dumps(value).encode()
    writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))


def _write_line(writer: asyncio.StreamWriter, line: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(line), line))
