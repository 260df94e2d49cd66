"""Run by the engine's own Python: which of many command lines vLLM's parser refuses, and why.

Usage: vllm_parses.py FILE, a JSON list of command lines; prints a JSON list, null where accepted.
"""

import contextlib
import io
import json
import sys

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser


def refusal(parser: FlexibleArgumentParser, words: list[str]) -> str | None:
    """What the parser says to a command line that it refuses; None for one that it takes."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            options = parser.parse_args(words)
        validate_parsed_serve_args(options)
        AsyncEngineArgs.from_cli_args(options)
    except SystemExit:
        return told.getvalue().strip().splitlines()[-1]
    except (TypeError, ValueError) as error:
        return str(error)
    return None


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = json.load(file)
    known = make_arg_parser(FlexibleArgumentParser())
    print(json.dumps([refusal(known, words) for words in lines]))
