"""The command `glm-operator`: run it, plan without a cluster, print what is generated."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from glm_operator import offline
from glm_operator.api import crd, reference
from glm_operator.plan.observed import Defaults
from glm_operator.runtime.settings import InvalidSettingError, Settings, variable

EXIT_OK = 0
EXIT_BAD_INPUT = 2
EXIT_DOES_NOT_FIT = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns its exit code."""
    options = _parser().parse_args(arguments)
    code: int = options.command(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="glm-operator", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="run the operator"))
    _add_crd(commands.add_parser("crd", help="print the CustomResourceDefinition"))
    _add_plan(commands.add_parser("plan", help="plan an object on given nodes, without a cluster"))
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    for field in fields(Settings):
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(flag, metavar="VALUE", help=f"else ${variable(field.name)}")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    # Only this command needs kopf and a cluster; the others start without the cost of both.
    from glm_operator.handlers import register
    from glm_operator.runtime.main import run

    try:
        settings = Settings.load(os.environ, vars(options))
    except InvalidSettingError as error:
        return _bad_input(str(error))
    return run(settings, register)


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
    parser.description = (
        f"Exit code {EXIT_OK}: it fits. {EXIT_DOES_NOT_FIT}: it does not. "
        f"{EXIT_BAD_INPUT}: a file cannot be used."
    )
    parser.add_argument(
        "-f", "--filename", required=True, type=Path, metavar="OBJECT", help="the GLMDeployment"
    )
    parser.add_argument(
        "--nodes",
        required=True,
        type=Path,
        metavar="NODES",
        help="`kubectl get nodes -o yaml`; with `nodes,pods -A`, taken GPUs count too",
    )
    forms = ("table", "json", "yaml")
    parser.add_argument("-o", "--output", choices=forms, default="table", help="default: table")
    parser.set_defaults(command=_plan)


def _plan(options: argparse.Namespace) -> int:
    try:
        deployment = offline.read_object(options.filename)
        nodes = offline.read_nodes(options.nodes, deployment)
    except offline.InvalidInputError as error:
        return _bad_input(str(error))
    result = offline.report(deployment, nodes, Defaults())
    print(offline.render(result, options.output), end="")
    return EXIT_OK if result.fits else EXIT_DOES_NOT_FIT


def _bad_input(sentence: str) -> int:
    print(f"glm-operator: {sentence}", file=sys.stderr)
    return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
