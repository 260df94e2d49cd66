"""`python -m glm_dev.cluster`: the local cluster from the command line."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from glm_dev.cluster import ClusterError, ClusterSpec, LocalCluster, binaries, registry
from glm_dev.cluster.cluster import (
    DEFAULT_NAME,
    DEFAULT_NODES,
)
from glm_dev.cluster.shapes import parse_memory

Options = argparse.Namespace


def main(argv: list[str] | None = None) -> int:
    """Run one command; 1 with a sentence on stderr when it cannot be done."""
    signal.signal(signal.SIGTERM, _interrupt)
    options = _parser().parse_args(argv)
    try:
        options.run(options)
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m glm_dev.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_up(commands)
    down = _command(commands, "down", _down, "remove a cluster and everything it has")
    down.add_argument("--all", action="store_true", help="every cluster of this machine")
    _command(commands, "status", _status, "what is up")
    _command(commands, "kubeconfig", _kubeconfig, "print the path of the kubeconfig")
    load = _command(commands, "load", _load, "import image archives into every node")
    load.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE")
    for name, action, help_text in NODE_COMMANDS:
        _command(commands, name, action, help_text).add_argument("node", metavar="NODE")
    for name, healthy in (("gpu-unhealthy", False), ("gpu-healthy", True)):
        verb = "mend" if healthy else "break"
        gpu = _command(commands, name, _gpu_health, f"{verb} one GPU of a node")
        gpu.add_argument("node", metavar="NODE")
        gpu.add_argument("gpu", type=int, metavar="INDEX")
        gpu.set_defaults(healthy=healthy)
    kwok = _command(commands, "kwok-nodes", _kwok_nodes, "add nodes without a machine")
    kwok.add_argument("count", type=int, metavar="COUNT")
    kwok.add_argument("shape", metavar="SHAPE", help="for example 8xH100-80GB")
    commands.add_parser("build", help="build every program now").set_defaults(run=_build)
    for name, action in (("helm", _helm), ("kubectl", _kubectl)):
        tool = commands.add_parser(name, help=f"print the path of {name}, built on first use")
        tool.set_defaults(run=action)
    return parser


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _command(
    commands: Commands, name: str, action: Callable[[Options], None], help_text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_text)
    parser.add_argument("--name", default=DEFAULT_NAME, help=f"default {DEFAULT_NAME}")
    parser.set_defaults(run=action)
    return parser


def _add_up(commands: Commands) -> None:
    up = _command(commands, "up", _up, "start a cluster")
    up.add_argument("--nodes", default=DEFAULT_NODES, help=f"default {DEFAULT_NODES}")
    up.add_argument("--cidr", default="", help="addresses (default: a free part of 198.18.0.0/15)")
    up.add_argument("--cpus", type=int, default=0, help="CPUs every node pretends to have")
    up.add_argument("--memory", default="", help="memory every node pretends to have (512Gi)")
    up.add_argument("--engine", type=Path, help="folder of an engine, for RuntimeClass glm-engine")
    up.add_argument("--image", type=Path, action="append", default=[], metavar="ARCHIVE")


def _up(options: Options) -> None:
    spec = ClusterSpec(
        name=options.name,
        nodes=options.nodes,
        cidr=options.cidr,
        cpus=options.cpus,
        memory_gib=parse_memory(options.memory) if options.memory else 0,
        engine=options.engine,
        images=tuple(options.image),
    )
    cluster = LocalCluster.up(spec)
    print(f"export KUBECONFIG={cluster.kubeconfig}")


def _down(options: Options) -> None:
    for name in registry.existing() if options.all else [options.name]:
        registry.remove(name)


def _status(options: Options) -> None:
    found = [LocalCluster.open(name).describe() for name in registry.existing()]
    print("\n".join(found) or "No cluster is up on this machine.")


def _kubeconfig(options: Options) -> None:
    print(LocalCluster.open(options.name).kubeconfig)


def _load(options: Options) -> None:
    LocalCluster.open(options.name).load(options.archives)


def _gpu_health(options: Options) -> None:
    cluster = LocalCluster.open(options.name)
    cluster.set_gpu_health(options.node, options.gpu, options.healthy)


def _kwok_nodes(options: Options) -> None:
    names = LocalCluster.open(options.name).add_kwok_nodes(options.count, options.shape)
    print(f"{names[0]} to {names[-1]} are Ready")


def _build(options: Options) -> None:
    binaries.build([*binaries.CONTROL_PLANE, *binaries.NODES, binaries.HELM])


def _helm(options: Options) -> None:
    print(binaries.helm())


def _kubectl(options: Options) -> None:
    print(binaries.kubectl())


NODE_COMMANDS: tuple[tuple[str, Callable[[Options], None], str], ...] = (
    ("node-down", lambda o: LocalCluster.open(o.name).node_down(o.node), "lose a machine"),
    ("node-up", lambda o: LocalCluster.open(o.name).node_up(o.node), "start it again"),
    ("kubelet-stop", lambda o: LocalCluster.open(o.name).stop_kubelet(o.node), "stop a kubelet"),
    ("kubelet-start", lambda o: LocalCluster.open(o.name).start_kubelet(o.node), "start it again"),
)

if __name__ == "__main__":
    sys.exit(main())
