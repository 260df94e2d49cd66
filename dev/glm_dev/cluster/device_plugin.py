"""A GPU device plugin without hardware, run inside a node.

`python device_plugin.py RESOURCE COUNT UNHEALTHY_FILE` offers COUNT devices of RESOURCE to the
node's kubelet over the device plugin API v1beta1 (k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1).
UNHEALTHY_FILE lists the indexes of the devices that are broken, separated by blanks. The few
messages are encoded by hand, so that nothing is generated; the file imports nothing of the
project, so that a node needs only a Python with grpcio.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

import grpc

FOLDER = Path("/var/lib/kubelet/device-plugins")
KUBELET = FOLDER / "kubelet.sock"
POLL_SECONDS = 0.2
REGISTER_SECONDS = 5.0


def encode_varint(number: int) -> bytes:
    """Seven bits a byte, lowest first (protobuf's encoding)."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_field(number: int, data: bytes | str) -> bytes:
    """One length-delimited field."""
    raw = data.encode() if isinstance(data, str) else data
    return encode_varint(number << 3 | 2) + encode_varint(len(raw)) + raw


def decode_fields(data: bytes) -> list[tuple[int, bytes]]:
    """Number and content of every length-delimited field; the messages used here have no other.

    Raises:
        ValueError: the message holds a field of another kind.
    """
    fields, position = [], 0
    while position < len(data):
        tag, position = _decode_varint(data, position)
        if tag & 7 != 2:
            raise ValueError(f"field {tag >> 3} has wire type {tag & 7}, expected 2")
        length, position = _decode_varint(data, position)
        fields.append((tag >> 3, data[position : position + length]))
        position += length
    return fields


def _decode_varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number, position


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of one node."""

    node: str
    count: int
    unhealthy_file: Path

    def ids(self) -> list[str]:
        """A name for each device, as nvidia's plugin gives its UUIDs."""
        return [f"GPU-{self.node}-{index}" for index in range(self.count)]

    def listing(self) -> bytes:
        """ListAndWatchResponse: every device with its health."""
        broken = self._broken()
        return b"".join(
            encode_field(1, encode_field(1, name) + encode_field(2, self._health(index, broken)))
            for index, name in enumerate(self.ids())
        )

    def _health(self, index: int, broken: set[str]) -> str:
        return "Unhealthy" if str(index) in broken else "Healthy"

    def _broken(self) -> set[str]:
        try:
            return set(self.unhealthy_file.read_text().split())
        except FileNotFoundError:
            return set()


def allocate(request: bytes) -> bytes:
    """AllocateResponse: the environment that nvidia's runtime would read, for each container."""
    answer = b""
    for _, container in decode_fields(request):
        names = sorted(value.decode() for number, value in decode_fields(container) if number == 1)
        variable = encode_field(1, "NVIDIA_VISIBLE_DEVICES") + encode_field(2, ",".join(names))
        answer += encode_field(1, encode_field(1, variable))
    return answer


def watch(devices: Devices, context: grpc.ServicerContext) -> Iterator[bytes]:
    """The listing, and again whenever it changes, until the kubelet hangs up."""
    last = b""
    while context.is_active():
        now = devices.listing()
        if now != last:
            last = now
            yield now
        time.sleep(POLL_SECONDS)


def serve(devices: Devices, socket: Path) -> grpc.Server:
    """A server for the kubelet on a socket of its folder."""

    def identity(data: bytes) -> bytes:
        return data

    def unary(answer: object) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(answer, identity, identity)

    handlers = {
        "GetDevicePluginOptions": unary(lambda request, context: b""),
        "Allocate": unary(lambda request, context: allocate(request)),
        "ListAndWatch": grpc.unary_stream_rpc_method_handler(
            lambda request, context: watch(devices, context), identity, identity
        ),
    }
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service = grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", handlers)
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    return server


def register(resource: str, socket: Path) -> None:
    """Tell the kubelet about the socket. Raises grpc.RpcError when it does not take it."""
    request = encode_field(1, "v1beta1") + encode_field(2, socket.name) + encode_field(3, resource)
    with grpc.insecure_channel(f"unix://{KUBELET}") as channel:
        call = channel.unary_unary("/v1beta1.Registration/Register")
        call(request, timeout=REGISTER_SECONDS, wait_for_ready=True)


def offer_forever(resource: str, devices: Devices) -> None:
    """Register, and again whenever the kubelet restarts, which empties the folder."""
    socket = FOLDER / f"{resource.replace('/', '_')}.sock"
    while True:
        while not KUBELET.exists():
            time.sleep(POLL_SECONDS)
        socket.unlink(missing_ok=True)
        server = serve(devices, socket)
        try:
            register(resource, socket)
            print(f"registered {devices.count} {resource}", flush=True)
            while socket.exists():
                time.sleep(POLL_SECONDS)
        except grpc.RpcError as error:
            print(f"the kubelet refused {resource}: {error}", flush=True)
            time.sleep(1.0)
        finally:
            server.stop(0).wait()


if __name__ == "__main__":
    offer_forever(sys.argv[1], Devices(os.uname().nodename, int(sys.argv[2]), Path(sys.argv[3])))
