"""The real vLLM on CPU as examples/local.yaml starts it: answers, parsers, and two ways to fail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import conformance
from glm_dev.engine.paths import engine
from glm_dev.engine.serve import Served, example_spec, serving
from glm_operator import catalog
from glm_operator.catalog.models import Shapes
from glm_operator.runtime import checks
from simulators import Reply, finish_reasons, send, simulated, start_stream

pytestmark = [pytest.mark.engine, pytest.mark.full, pytest.mark.timeout(600)]

EXIT_SECONDS = 60


@pytest.fixture(scope="module")
def flash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("flash") / "engine.log"
    with serving(example_spec("flash"), log) as served:
        yield served


@pytest.fixture(scope="module")
def flagship(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("flagship") / "engine.log"
    with serving(example_spec("flagship"), log) as served:
        yield served


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    log = tmp_path_factory.mktemp("text") / "engine.log"
    model = {"preset": "GLM-4.6", "served_name": "glm-4.6", "uri": "image:///models/text"}
    with serving(replace(example_spec("flash"), tier="text", max_images=0, **model), log) as served:
        yield served


def chat(served: Served, **body: Any) -> Reply:
    return send(f"{served.url}{conformance.CHAT}", conformance.quiet(**body))


def call_of(reply: Reply) -> Any:
    (call,) = reply.value["choices"][0]["message"]["tool_calls"]
    return call["function"]["name"], json.loads(call["function"]["arguments"])


def constrained(served: Served) -> Any:
    """The answer where the model may write one literal native call and nothing else."""
    return chat(served, tool_choice="auto", **conformance.CONSTRAINED)


def assert_answers(served: Served) -> None:
    """Text, an image, a strict tool call, the literal native call, and a stream."""
    assert chat(served, max_tokens=8).value["usage"]["completion_tokens"] > 0
    look = conformance.look(conformance.png())
    usage = chat(served, messages=look, max_tokens=8).value["usage"]
    assert usage["prompt_tokens_details"]["multimodal_tokens"] == {"image": 9}
    tools = [conformance.tool("a", "b")]
    name, arguments = call_of(chat(served, messages=look, tools=tools, tool_choice="required"))
    assert (name, arguments["server"].strip() in ("a", "b")) == ("restart", True)
    assert call_of(constrained(served)) == ("restart", {"server": "a"})
    events = chat(served, stream=True, max_tokens=8).events()
    assert events[-1]["choices"][0]["finish_reason"] in ("length", "stop")


def test_flash_answers_everything_the_product_asks_of_it(flash: Served) -> None:
    assert_answers(flash)


def test_the_flagship_on_two_ranks_answers_everything_the_product_asks_of_it(
    flagship: Served,
) -> None:
    assert_answers(flagship)


def test_the_text_model_passes_the_operator_s_own_checks(text: Served) -> None:
    for check in checks.checks("glm-4.6", sees=False):
        reply = send(f"{text.url}{conformance.CHAT}", preferring(text, check).body)
        verdict = checks.judge(check, reply.status, reply.value)
        assert verdict.ok, verdict.message


def preferring(served: Served, check: checks.Check) -> checks.Check:
    """The check as the operator sends it."""
    if not check.literal:
        return check
    asked = [{"prompt": text, "add_special_tokens": False} for text in (check.literal, "\n")]
    return checks.steered(check, *(send(f"{served.url}/tokenize", body).value for body in asked))


@pytest.mark.parametrize("kind", ["image_url", "video_url"])
def test_the_text_model_refuses_media_as_the_simulator_does(text: Served, kind: str) -> None:
    asked = conformance.quiet(messages=conformance.look(conformance.png(), kind))
    real = send(f"{text.url}{conformance.CHAT}", asked)
    with simulated("--served-model-name", "glm-4.6") as engine:
        assert (real.status, real.value) == (400, engine.post(conformance.CHAT, asked).value)


def shapes_of(checkpoint: Path) -> Shapes:
    """The part of the catalogue's entry that the KV cache depends on, of a tiny checkpoint."""
    config = json.loads((checkpoint / "config.json").read_text())
    text = config.get("text_config", config)
    return Shapes(
        hidden=text["hidden_size"],
        layers=text["num_hidden_layers"],
        heads=text["num_attention_heads"],
        kv_heads=text["num_key_value_heads"],
        head_dim=text["head_dim"],
        dense_width=text["intermediate_size"],
        vocabulary=text["vocab_size"],
    )


@pytest.mark.parametrize(("tier", "tensor"), [("flagship", 2), ("flash", 1), ("text", 1)])
def test_the_kv_cache_holds_as_many_tokens_as_the_catalogue_computes(
    tier: str, tensor: int, request: pytest.FixtureRequest
) -> None:
    served: Served = request.getfixturevalue(tier)
    model = replace(catalog.of_tier(tier)[0], shapes=shapes_of(engine().models / tier))
    text = send(f"{served.url}/metrics").text
    (info,) = re.findall(r"^vllm:cache_config_info\{(.*)\}", text, re.MULTILINE)
    label = dict(re.findall(r'(\w+)="([^"]*)"', info))
    block = int(label["block_size"])
    per_rank = 1 << 30  # VLLM_CPU_KVCACHE_SPACE of examples/local.yaml
    per_token = catalog.kv_bytes_per_token(model, tensor)
    assert int(label["num_gpu_blocks"]) == per_rank // (per_token * block)


def test_the_recorded_answers_are_still_those_of_the_engine(flash: Served) -> None:
    assert conformance.everything(flash.url) == json.loads(conformance.RECORDED.read_text())


def test_a_foreign_parser_answers_required_and_leaves_the_native_call_as_text(
    tmp_path: Path,
) -> None:
    spec = example_spec("flash", ["--tool-call-parser=hermes"])
    with serving(spec, tmp_path / "engine.log") as served:
        tools = [conformance.tool("a")]
        assert call_of(chat(served, tools=tools, tool_choice="required"))[0] == "restart"
        message = constrained(served).value["choices"][0]["message"]
        assert (message["content"], "tool_calls" in message) == (conformance.NATIVE, False)


def test_without_a_compiler_the_first_request_ends_an_engine_that_was_healthy(
    tmp_path: Path,
) -> None:
    log = tmp_path / "engine.log"
    with serving(example_spec("flagship"), log, without=["TORCHDYNAMO_DISABLE"]) as served:
        assert send(f"{served.url}/health").status == 200
        look = conformance.look(conformance.png())
        assert chat(served, messages=look, max_tokens=8).status == 500
        assert served.process.wait(EXIT_SECONDS) == 0
    assert "InvalidCxxCompiler" in log.read_text()


def test_sigterm_lets_a_stream_finish_and_ends_with_code_0(tmp_path: Path) -> None:
    endless = conformance.quiet(max_tokens=100, ignore_eos=True)
    with serving(example_spec("flash"), tmp_path / "engine.log") as served:
        connection = start_stream(f"{served.url}", endless)
        served.terminate()
        assert finish_reasons(connection)[-1] == "length"
        assert served.process.wait(EXIT_SECONDS) == 0
