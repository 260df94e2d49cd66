"""What the real vLLM answers to a fixed list of requests, reduced to shapes, beside the simulator.

`python tests/support/conformance.py` records the real engine (flash, as examples/local.yaml starts
it) into tests/data/vllm-answers.json; the simulator is held against that file in every test run,
the file against the real engine in `make test-full`.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulators import Reply, send

RECORDED = Path(__file__).resolve().parents[1] / "data" / "vllm-answers.json"
FLAGS = (
    *("--model", "/models/flash", "--served-model-name", "glm-4.6v-flash"),
    *("--max-model-len", "8192", "--limit-mm-per-prompt", '{"image":16,"video":0}'),
    "--enable-prompt-tokens-details",
)
"""What the simulator is told so that it stands for the recorded engine."""
CHAT = "/v1/chat/completions"
NATIVE = "<tool_call>restart\n<arg_key>server</arg_key>\n<arg_value>a</arg_value>\n</tool_call>"
NAMED = {"type": "function", "function": {"name": "restart"}}
SAID = [{"role": "user", "content": "hi there"}]
LONG = [{"role": "user", "content": "a" * 40_000}]


def tool(*servers: str) -> dict[str, Any]:
    """The tool `restart`, strict, for one of some servers."""
    properties = {"server": {"type": "string", "enum": list(servers)}}
    parameters = {
        "type": "object",
        "properties": properties,
        "required": ["server"],
        "additionalProperties": False,
    }
    return {
        "type": "function",
        "function": {"name": "restart", "strict": True, "parameters": parameters},
    }


def png(width: int = 64, height: int = 64) -> str:
    """A red picture as a data URL."""
    rows = b"".join(b"\0" + b"\xc8\x1e\x1e" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def look(url: str, kind: str = "image_url") -> list[dict[str, Any]]:
    """A user message with one picture."""
    content = [{"type": "text", "text": "what"}, {"type": kind, kind: {"url": url}}]
    return [{"role": "user", "content": content}]


def after_a_call() -> list[dict[str, Any]]:
    """A conversation that ends with a tool result holding a picture."""
    function = {"name": "restart", "arguments": '{"server":"a"}'}
    call = {"id": "x", "type": "function", "function": function}
    result = look(png())[0]["content"]
    return [
        *look(png()),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "x", "content": result},
    ]


def quiet(**body: Any) -> dict[str, Any]:
    """A chat request without thinking."""
    return {
        "messages": SAID,
        "max_tokens": 256,
        "seed": 1,
        "chat_template_kwargs": {"enable_thinking": False},
        **body,
    }


BOTH = [tool("a", "b")]
CONSTRAINED = {"tools": [tool("a")], "structured_outputs": {"choice": [NATIVE]}}
USAGE = {"stream_options": {"include_usage": True}}
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": (CHAT, quiet(max_tokens=8)),
    "thinking": (CHAT, {"messages": SAID, "max_tokens": 4, "seed": 1}),
    "image": (CHAT, quiet(messages=look(png()), max_tokens=8)),
    "tool result with image": (CHAT, quiet(messages=after_a_call(), max_tokens=8)),
    "required": (CHAT, quiet(tools=BOTH, tool_choice="required", messages=look(png()))),
    "named": (CHAT, quiet(tools=BOTH, tool_choice=NAMED)),
    "native call": (CHAT, quiet(tool_choice="auto", **CONSTRAINED)),
    "stream": (CHAT, quiet(stream=True, max_tokens=8)),
    "stream with usage": (CHAT, quiet(stream=True, max_tokens=8, **USAGE)),
    "streamed required": (CHAT, quiet(stream=True, tools=BOTH, tool_choice="required")),
    "streamed native call": (CHAT, quiet(stream=True, tool_choice="auto", **CONSTRAINED)),
    "completion": ("/v1/completions", {"prompt": "hello", "max_tokens": 4, "seed": 1}),
}
ERRORS: dict[str, tuple[str, dict[str, Any]]] = {
    "empty tools": (CHAT, quiet(tools=[])),
    "required without tools": (CHAT, quiet(tool_choice="required")),
    "unknown tool choice": (CHAT, quiet(tools=BOTH, tool_choice="sometimes")),
    "unknown tool": (
        CHAT,
        quiet(tools=BOTH, tool_choice={"type": "function", "function": {"name": "stop"}}),
    ),
    "too many tokens": (CHAT, quiet(max_tokens=200_000)),
    "no messages": (CHAT, quiet(messages=[])),
    "foreign address": (CHAT, quiet(messages=look("https://host/x.png"))),
    "bad base64": (CHAT, quiet(messages=look("data:image/png;base64,@@@@"))),
    "video": (CHAT, quiet(messages=look(png(), "video_url"))),
    "text for a number": (CHAT, quiet(max_tokens="x")),
    "text for a list": (CHAT, quiet(messages="x")),
    "longer than the model": (CHAT, quiet(messages=LONG)),
    "unknown path": ("/v2/nothing", {}),
}


def shape(value: Any) -> Any:
    """Keys and kinds of a JSON value; of a list the kind of its first item."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    if value is None or isinstance(value, bool):
        return str(value)
    return "number" if isinstance(value, int | float) else "text"


def summary(reply: Reply) -> dict[str, Any]:
    """An answer's status and shape; of a stream the shapes that follow one another."""
    if reply.text.startswith("data: "):
        shapes = [shape(event) for event in reply.events()]
        return {"status": reply.status, "events": [key for key, _ in itertools.groupby(shapes)]}
    finish = [choice.get("finish_reason") for choice in reply.value.get("choices", [])]
    return {"status": reply.status, "finish": finish, "body": shape(reply.value)}


def fault(reply: Reply) -> dict[str, Any]:
    """An error in full; the validator's own words only up to its first detail."""
    value = reply.value
    if "error" in value:
        value["error"]["message"] = re.sub(r"\n.*", "", value["error"]["message"])
    return {"status": reply.status, "body": value}


def ask(url: str, cases: dict[str, tuple[str, dict[str, Any]]], read: Callable[..., Any]) -> Any:
    """Send the cases to an engine and read each answer."""
    return {name: read(send(url + path, body)) for name, (path, body) in cases.items()}


def samples(page: str) -> dict[str, list[str]]:
    """Names of vLLM's samples on a metrics page with the labels they carry, without `_created`."""
    found = re.findall(r"^(vllm:[a-z_:]+)\{([^}]*)\}", page, re.MULTILINE)
    return {
        name: sorted(re.findall(r'([a-z_]+)="', labels))
        for name, labels in found
        if not name.endswith(("_created", "_info"))
    }


def everything(url: str) -> dict[str, Any]:
    """All that is compared."""
    return {
        "answers": ask(url, ANSWERS, summary),
        "errors": ask(url, ERRORS, fault),
        "models": shape(send(f"{url}/v1/models").value),
        "metrics": samples(send(f"{url}/metrics").text),
    }


def record() -> None:
    """Write down what the real engine answers."""
    from glm_dev.engine.serve import example_spec, serving

    with (
        tempfile.TemporaryDirectory() as folder,
        serving(example_spec("flash"), Path(folder) / "engine.log") as served,
    ):
        text = json.dumps(everything(served.url), indent=1, sort_keys=True)
    RECORDED.write_text(text + "\n")


if __name__ == "__main__":
    record()
