"""The subcommand `plan`: its flags, where its input comes from, its exit code."""

from __future__ import annotations

import argparse
import sys

from glm_operator.preview.checkpoints import SPELLING as CHECKPOINT
from glm_operator.preview.checkpoints import Given, checkpoints_of
from glm_operator.preview.errors import InvalidInputError
from glm_operator.preview.files import STANDARD_INPUT, read_around, read_object
from glm_operator.preview.report import Around, Basis, Question, about_new
from glm_operator.preview.shapes import SPELLING, nodes_of_shapes
from glm_operator.preview.table import render
from glm_operator.preview.text import terminal_width
from glm_operator.preview.version import version

EXIT_OK = 0
EXIT_BAD_INPUT = 2
EXIT_DOES_NOT_FIT = 3
FORMS = ("table", "json", "yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `glm-operator plan`."""
    parser.description = (
        "Without --nodes and --node-shape: on the cluster of the kubeconfig, which is only read; "
        "an object that exists there is planned as an edit. "
        f"Exit code {EXIT_OK}: it fits. {EXIT_DOES_NOT_FIT}: it does not. "
        f"{EXIT_BAD_INPUT}: the input cannot be used."
    )
    object_help = "file with the GLMDeployment, - for standard input"
    parser.add_argument("-f", "--filename", required=True, metavar="OBJECT", help=object_help)
    _add_sources(parser.add_mutually_exclusive_group())
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar=CHECKPOINT,
        help="plan with what `glm-weights read` printed of a checkpoint, - for standard input",
    )
    parser.add_argument("--kubeconfig", metavar="FILE", default="", help="else $KUBECONFIG")
    parser.add_argument("--context", default="", help="context of the kubeconfig")
    parser.add_argument("-n", "--namespace", default="", help="namespace of the object")
    parser.add_argument("-o", "--output", choices=FORMS, default="table", help="default: table")
    arithmetic = "show the arithmetic, step by step"
    parser.add_argument("--explain", action="store_true", help=arithmetic)


def _add_sources(group: argparse._MutuallyExclusiveGroup) -> None:
    group.add_argument(
        "--nodes",
        metavar="NODES",
        help="`kubectl get nodes,pods -A -o json` in a file, - for standard input",
    )
    group.add_argument(
        "--node-shape",
        action="append",
        metavar="SHAPE",
        help=f"{SPELLING}; may be repeated",
    )


def run(options: argparse.Namespace) -> int:
    """Plan, print, and return the exit code."""
    try:
        result = _told(_question(options), options).answer(options.explain)
    except InvalidInputError as error:
        print(f"glm-operator: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(render(result, options.output, terminal_width()), end="")
    return EXIT_OK if result.fits else EXIT_DOES_NOT_FIT


def _told(question: Question, options: argparse.Namespace) -> Question:
    given = map(Given.of, options.checkpoint)
    return question.told(checkpoints_of(given, question.observed.object))


def _question(options: argparse.Namespace) -> Question:
    _check_standard_input(options)
    if options.nodes is None and not options.node_shape:
        return _live(options)
    _check_offline(options)
    deployment = read_object(options.filename, options.namespace)
    if options.nodes is not None:
        around = read_around(options.nodes, deployment)
    else:
        text = f"the node shape {', '.join(options.node_shape)}"
        basis = Basis(text, version(), described=True)
        around = Around(nodes_of_shapes(options.node_shape, deployment), basis=basis)
    return about_new(deployment, around)


def _check_offline(options: argparse.Namespace) -> None:
    if options.kubeconfig or options.context:
        raise InvalidInputError(
            "--kubeconfig and --context are for planning on a live cluster: leave them out, or"
            " leave --nodes and --node-shape out"
        )


def _check_standard_input(options: argparse.Namespace) -> None:
    paths = [("-f", options.filename), ("--nodes", options.nodes)]
    paths += [("--checkpoint", Given.of(one).path) for one in options.checkpoint]
    asking = [flag for flag, path in paths if path == STANDARD_INPUT]
    if len(asking) > 1:
        raise InvalidInputError(
            f"{' and '.join(asking)} are -, and there is one standard input: give one as a file"
        )


def _live(options: argparse.Namespace) -> Question:
    # Only here the client of the API server is needed; the other forms start without its cost.
    from glm_operator.preview.live import Target, live_question

    target = Target(options.kubeconfig, options.context, options.namespace)
    return live_question(options.filename, target)
