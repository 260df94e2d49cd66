"""`glm-weights`: the command line."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from glm_serving.weights import tasks
from glm_serving.weights.errors import WeightsError, of_the_disk
from glm_serving.weights.hub import Access
from glm_serving.weights.progress import Progress, served
from glm_serving.weights.result import Result
from glm_serving.weights.tasks import World

LAST_PORT = 65535
COMMIT = re.compile(r"[0-9a-f]{40}")
UMASK = 0o027
"""The owner writes, the engines' group reads, others see nothing."""
TERMINATION_LOG = Path("/dev/termination-log")


def main(argv: Sequence[str] | None = None) -> int:
    """Do one task; the exit code is 0 done, 1 try again, 3 it will not work, 2 for bad words."""
    arguments = parse(argv)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    # One line for each request of the hub's client is too many.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    os.umask(UMASK)
    # What came so far stays for the next Job; threads in mid-transfer need not be asked.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    progress = Progress()
    with served(progress, arguments.state_port):
        result = run(arguments, World(Access.from_environment(os.environ), progress))
    _tell(result, arguments.result)
    return result.exit_code


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; None: that of the process."""
    return _parser().parse_args(argv)


def run(arguments: argparse.Namespace, world: World) -> Result:
    """Do the task of the command line; every failure is a result."""
    begin = time.monotonic()
    try:
        result = _task(arguments, world)
    except WeightsError as error:
        return Result.of(error, time.monotonic() - begin)
    except OSError as error:
        return Result.of(of_the_disk(error), time.monotonic() - begin)
    return replace(result, seconds=time.monotonic() - begin)


def _task(arguments: argparse.Namespace, world: World) -> Result:
    if arguments.command == "fetch":
        return tasks.fetch(arguments.source, arguments.revision, arguments.into, world)
    if arguments.path is not None:
        return tasks.read_folder(arguments.path, world)
    return tasks.read_hub(arguments.source, arguments.revision, world)


def _tell(result: Result, where: Path) -> None:
    """Leave the result where the kubelet looks, if that is there, and in the log."""
    print(result.to_text(), flush=True)
    if result.message:
        print(f"glm-weights: {result.message}", file=sys.stderr)
    if where != TERMINATION_LOG or where.exists():
        where.write_text(result.to_text())


def _port(text: str) -> int:
    """A port to listen on; 0 is any free one."""
    if not text.isdecimal() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: use 0 to {LAST_PORT}")
    return int(text)


def _commit(text: str) -> str:
    if not COMMIT.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no commit: `glm-weights read` tells it")
    return text


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--state-port", type=_port, help="answer GET /state on this port")
    common.add_argument(
        "--result", type=Path, default=TERMINATION_LOG, help="file for the JSON of the result"
    )
    parser = argparse.ArgumentParser(prog="glm-weights", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    read = commands.add_parser("read", parents=[common], help="tell what a checkpoint is")
    where = read.add_mutually_exclusive_group(required=True)
    where.add_argument("--source", metavar="hf://ORG/NAME", help="a repository of the hub")
    where.add_argument("--path", type=Path, metavar="DIR", help="a folder")
    read.add_argument("--revision", default="", help="branch, tag or commit; else the default")
    fetch = commands.add_parser("fetch", parents=[common], help="bring a checkpoint to a disk")
    fetch.add_argument("--source", metavar="hf://ORG/NAME", required=True, help="a repository")
    fetch.add_argument("--revision", type=_commit, required=True, metavar="COMMIT")
    fetch.add_argument(
        "--into", type=Path, required=True, metavar="DIR", help="the copy is DIR/weights/<key>"
    )
    check = commands.add_parser("check", parents=[common], help="see whether a folder is whole")
    check.add_argument("--path", type=Path, required=True, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
