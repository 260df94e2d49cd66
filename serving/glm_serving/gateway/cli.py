"""`glm-gateway`: the command line."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from glm_serving.gateway import checking, explain, keycommand, schema
from glm_serving.gateway.errors import ConfigError
from glm_serving.gateway.filesource import FileSource
from glm_serving.gateway.heap import keep_freed_memory
from glm_serving.gateway.kube import ApiServer
from glm_serving.gateway.kubesource import KubernetesSource
from glm_serving.gateway.server import Options, Source, StaticSource, serve

log = logging.getLogger("glm_gateway")

LAST_PORT = 65535


def check(argv: Sequence[str]) -> int:
    """Say whether a configuration file can be used; 0 when it can and all its keys are known."""
    parser = argparse.ArgumentParser(prog="glm-gateway check", description=check.__doc__)
    parser.add_argument("file", type=Path)
    path = parser.parse_args(argv).file
    try:
        config, unknown = checking.read(path)
    except ConfigError as error:
        print(f"glm-gateway: {error}", file=sys.stderr)
        return 2
    for key in unknown:
        print(f"glm-gateway: {checking.unknown_sentence(path, key)}", file=sys.stderr)
    if unknown:
        return 2
    print(f"{path} can be used: tiers {', '.join(config.tiers)}")
    return 0


def print_schema(argv: Sequence[str]) -> int:
    """Print the JSON Schema of the configuration file."""
    parser = argparse.ArgumentParser(prog="glm-gateway schema", description=print_schema.__doc__)
    parser.parse_args(argv)
    print(schema.text(), end="")
    return 0


def print_key(argv: Sequence[str]) -> int:
    """Print a new API key and its entry."""
    try:
        print(keycommand.make(argv), end="")
    except ConfigError as error:
        print(f"glm-gateway: {error}", file=sys.stderr)
        return 2
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "check": check,
    "explain": explain.main,
    "key": print_key,
    "schema": print_schema,
}
"""What the program does instead of serving, by its first argument."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the gateway, or one of its commands.

    The exit code is 0 after an orderly end, 2 for a bad start.
    """
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in COMMANDS:
        return COMMANDS[words[0]](words[1:])
    return _serve(_parser().parse_args(words))


def _serve(arguments: argparse.Namespace) -> int:
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    log.setLevel(logging.INFO)
    keep_freed_memory()
    options = Options(
        host=arguments.host,
        port=arguments.port,
        admin_port=arguments.admin_port,
        shutdown_delay=arguments.shutdown_delay,
        shutdown_timeout=arguments.shutdown_timeout,
    )
    try:
        uvloop.run(serve(lambda: _source(arguments), options))
    except (ConfigError, OSError) as error:
        print(f"glm-gateway: {error}", file=sys.stderr)
        return 2
    return 0


def _source(arguments: argparse.Namespace) -> Source:
    name = arguments.kubernetes_configmap
    if name:
        if not arguments.namespace:
            raise ConfigError("--namespace is empty: name the namespace of the ConfigMap")
        return KubernetesSource(ApiServer.from_environment(), arguments.namespace, name)
    return StaticSource(FileSource(arguments.config))


def _port(text: str) -> int:
    """A port to listen on; 0 is any free one."""
    if not text.isdecimal() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: use 0 to {LAST_PORT}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    defaults = Options()
    parser = argparse.ArgumentParser(
        prog="glm-gateway",
        description="Serve, from a file or from a ConfigMap.",
        epilog=f"Commands that do not serve: {', '.join(COMMANDS)}; each has its own --help.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, help="configuration file with static endpoints")
    source.add_argument(
        "--kubernetes-configmap", metavar="NAME", help="ConfigMap to watch, with its services"
    )
    parser.add_argument("--namespace", default="", help="namespace of the ConfigMap")
    parser.add_argument("--host", default=defaults.host, help="address to listen on")
    parser.add_argument("--port", type=_port, default=defaults.port, help="port for clients")
    parser.add_argument(
        "--admin-port", type=_port, default=defaults.admin_port, help="metrics, health and /state"
    )
    parser.add_argument(
        "--shutdown-delay",
        type=float,
        default=defaults.shutdown_delay,
        help="seconds for which a stopping gateway still accepts connections",
    )
    parser.add_argument(
        "--shutdown-timeout",
        type=float,
        default=defaults.shutdown_timeout,
        help="seconds for which running requests may finish and held ones wait",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
