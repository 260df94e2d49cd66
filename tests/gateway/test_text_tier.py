"""A tier without vision behind the gateway: its engines are never sent an image."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway_fakes import Answer, PNG_640x480, Running, chat, config, eventually, run, running
from simulators import simulated

EVERY = ("flagship", "flash", "text")
TEXT_MODEL = ("--served-model-name", "glm-4.6", "glm")
SEEING_MODEL = ("--served-model-name", "glm-4.6v", "glm")
QUIET = {"chat_template_kwargs": {"enable_thinking": False}, "max_tokens": 60}
LOOKUP = {"type": "function", "function": {"name": "lookup_part", "parameters": {}}}
PICTURE = [{"type": "image_url", "image_url": {"url": PNG_640x480}}]
CALL = {
    "role": "assistant",
    "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "lookup_part", "arguments": "{}"}}
    ],
}


def step(result: Any) -> bytes:
    """The second request of a loop that opened as text."""
    opening = {"role": "user", "content": "find the broken part"}
    answered = {"role": "tool", "tool_call_id": "1", "content": result}
    return chat(messages=[opening, CALL, answered], tools=[LOOKUP], **QUIET)


def who(answer: Answer) -> tuple[int, str, str]:
    return answer.status, answer.headers["x-glm-tier"], answer.headers["x-glm-decision"]


def test_a_loop_leaves_the_text_model_with_its_first_image_and_no_step_fails() -> None:
    async def scenario(text: str, flagship: str) -> None:
        async with running(config(EVERY), text=[text], flagship=[flagship]) as gateway:
            assert who(await gateway.ask(chat(**QUIET))) == (200, "text", "TextOnly")
            assert who(await gateway.ask(step("ok"))) == (200, "text", "OpenToolLoop")
            assert who(await gateway.ask(step(PICTURE))) == (200, "flagship", "OpenToolLoop")

    with (
        simulated(*TEXT_MODEL) as text,
        simulated(*SEEING_MODEL) as flagship,
    ):
        run(scenario(text.url, flagship.url))


def test_an_image_for_the_text_model_is_refused_before_its_engine_sees_it() -> None:
    async def scenario(text: str) -> None:
        messages = [{"role": "user", "content": PICTURE}]
        async with running(config(EVERY), text=[text]) as gateway:
            answer = await gateway.ask(chat(model="glm-4.6", messages=messages))
            assert (answer.status, answer.error["code"]) == (400, "UnsupportedModality")
            assert answer.error["message"].endswith("use the model glm-4.6v")
            assert "x-glm-replica" not in answer.headers

    with simulated(*TEXT_MODEL) as text:
        run(scenario(text.url))


def test_requests_are_held_for_the_text_tier_and_reported() -> None:
    async def scenario(text: str) -> None:
        async with running(config(EVERY)) as gateway:
            asking = asyncio.create_task(gateway.ask(chat(**QUIET)))
            await eventually(lambda: gateway.gateway.report().tiers["text"].held, "it is held")
            gateway.endpoints(text=[text])
            assert who(await asking) == (200, "text", "TextOnly")
            assert gateway.gateway.report().tiers["text"].arrivals == 1
            assert gateway.metric("glm_gateway_routable_replicas", tier="text") == 1

    with simulated(*TEXT_MODEL) as text:
        run(scenario(text.url))


async def listed(gateway: Running) -> dict[str, Any]:
    client = await gateway.client()
    await client.send(b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n")
    return {one["id"]: one for one in json.loads((await client.answer()).body)["data"]}


@pytest.mark.parametrize(
    ("tiers", "modalities"), [(EVERY, ["text", "image"]), (("text",), ["text"])]
)
def test_the_list_of_models_tells_what_each_takes(
    tiers: tuple[str, ...], modalities: list[str]
) -> None:
    async def scenario() -> None:
        async with running(config(tiers, aliases={})) as gateway:
            models = await listed(gateway)
            text = models["glm-4.6"]
            assert (text["tier"], text["modalities"]) == ("text", ["text"])
            assert text["max_model_len"] == models["glm"]["max_model_len"] == 202_752
            assert models["glm"]["modalities"] == modalities

    run(scenario())
