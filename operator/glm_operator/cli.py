"""The command `glm-operator`: run it, plan without a cluster, print what is generated."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from glm_operator.api import crd, reference
from glm_operator.preview import command
from glm_operator.preview.command import EXIT_BAD_INPUT, EXIT_OK
from glm_operator.runtime.settings import InvalidSettingError, Settings, variable
from glm_operator.simulate import command as simulation


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns its exit code."""
    options = parser().parse_args(arguments)
    code: int = options.command(options)
    return code


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="glm-operator", description=__doc__)
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="run the operator"))
    _add_agent(commands.add_parser("node-agent", help="keep weights on the disk of one node"))
    _add_crd(commands.add_parser("crd", help="print the CustomResourceDefinition"))
    _add_plan(commands.add_parser("plan", help="what an object needs, and whether it fits"))
    _add_simulate(commands.add_parser("simulate", help="how flash would scale, beside other laws"))
    return made


def _add_run(parser: argparse.ArgumentParser) -> None:
    for field in fields(Settings):
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(flag, metavar="VALUE", help=f"else ${variable(field.name)}")
    parser.set_defaults(command=_run)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    simulation.add_arguments(parser)
    parser.set_defaults(command=simulation.simulate)


def _run(options: argparse.Namespace) -> int:
    # Only this command needs kopf and a cluster; the others start without the cost of both.
    from glm_operator.handlers import register
    from glm_operator.runtime.main import run

    try:
        settings = Settings.load(os.environ, vars(options))
    except InvalidSettingError as error:
        return _bad_input(str(error))
    return run(settings, register)


def _add_agent(parser: argparse.ArgumentParser) -> None:
    node = os.environ.get("NODE_NAME", "")
    parser.add_argument("--node", default=node, required=not node, help="else $NODE_NAME")
    parser.add_argument("--root", type=Path, required=True, help="folder of the copies")
    parser.add_argument(
        "--collect-after-seconds",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="how long what no GLMDeployment needs stays (default: 600)",
    )
    parser.add_argument("--port", type=int, default=9090, help="health and metrics (default: 9090)")
    parser.add_argument("--kubeconfig", default="", help="default: the pod's service account")
    parser.set_defaults(command=_node_agent)


def _node_agent(options: argparse.Namespace) -> int:
    from glm_operator.agent.main import AgentSettings, run

    settings = AgentSettings(
        options.node, options.root, options.collect_after_seconds, options.port, options.kubeconfig
    )
    problem = settings.problem()
    return _bad_input(problem) if problem else run(settings)


def _add_crd(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--write",
        metavar="CHECKOUT",
        nargs="?",
        const=".",
        help="write every generated file into a checkout (default: this folder) instead",
    )
    parser.set_defaults(command=_crd)


def _crd(options: argparse.Namespace) -> int:
    if options.write is None:
        print(crd.render(), end="")
        return EXIT_OK
    root = Path(options.write)
    if not (root / "pyproject.toml").exists():
        return _bad_input(f"{root} is not a checkout of glm-operator: it has no pyproject.toml")
    for path, content in reference.generated().items():
        (root / path).write_text(content, encoding="utf-8")
    return EXIT_OK


def _add_plan(parser: argparse.ArgumentParser) -> None:
    command.add_arguments(parser)
    parser.set_defaults(command=command.run)


def _bad_input(sentence: str) -> int:
    print(f"glm-operator: {sentence}", file=sys.stderr)
    return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
