"""`python -m glm_dev.hub FOLDER... --port N`: a hub of local folders, for clusters and demos."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from glm_dev.hub.repository import DEFAULT_BRANCH, Access
from glm_dev.hub.server import Hub


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the process is ended."""
    arguments = _parser().parse_args(argv)
    hub = Hub()
    hub.faults.bytes_per_second = arguments.bytes_per_second
    for text in arguments.folders:
        name, branch, folder = split(text)
        if not folder.is_dir():
            print(f"There is no folder {folder}.", file=sys.stderr)
            return 2
        commit = hub.publish(
            name,
            folder,
            branch=branch,
            access=Access.GATED if arguments.token else Access.PUBLIC,
            readers=arguments.token,
            hashed=not arguments.hollow,
        )
        print(f"hf://{name}  revision {branch}  commit {commit}", flush=True)
    with hub.running(arguments.host, arguments.port) as address:
        print(f"HF_ENDPOINT={address}", flush=True)
        threading.Event().wait()
    return 0


def split(text: str) -> tuple[str, str, Path]:
    """`[organisation/name[@branch]=]folder` as its parts; the name is else the folder's own."""
    before, separator, after = text.partition("=")
    folder = Path(after if separator else before).resolve()
    name, _, branch = before.partition("@")
    if not separator:
        name, branch = "/".join(folder.parts[-2:]), ""
    return name, branch or DEFAULT_BRANCH, folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m glm_dev.hub", description=__doc__)
    parser.add_argument(
        "folders", nargs="+", metavar="[ORG/NAME[@BRANCH]=]FOLDER", help="checkpoints to serve"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8090, help="port to listen on; 0: any")
    parser.add_argument(
        "--token", action="append", default=[], help="makes the repositories gated; may be repeated"
    )
    parser.add_argument(
        "--hollow", action="store_true", help="make checksums up: to be read, not to be fetched"
    )
    parser.add_argument(
        "--bytes-per-second", type=int, default=0, help="slow each transfer down; 0: do not"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
