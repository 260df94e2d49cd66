"""A tool loop over several gateways that share nothing, over a restart and while tiers go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from gateway_fakes import PNG_640x480, Running, answer, config, engines, eventually, run, running
from glm_serving.gateway.decide import RANK
from glm_serving.gateway.rules import Degradation, Match, Presence, Rule

STEPS = 20
IMAGE = {"type": "image_url", "image_url": {"url": PNG_640x480}}
TOOLS = [{"type": "function", "function": {"name": "crop_image"}}]
OPENINGS = {
    "for flash": [IMAGE, {"type": "text", "text": "Read the invoice number."}],
    "for the flagship": [IMAGE, {"type": "text", "text": "Which part is broken?"}],
}
RULES = (
    Rule("many-images", "flagship", Match(min_images=5, in_tool_loop=Presence.REQUIRED)),
    Rule("small", "flash", Match(min_context_tokens=500, in_tool_loop=Presence.EXCLUDED)),
    Rule("more", "flash", Match(min_context_tokens=1500)),
)


def conversation(opening: list[dict[str, Any]], steps: int) -> bytes:
    """The request after some steps; every fourth result is an image, one step forgets its tools."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": opening}]
    for step in range(steps):
        function = {"name": "crop_image", "arguments": json.dumps({"x": step})}
        call = {"id": f"c{step}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        content = [IMAGE] if step % 4 == 3 else "nothing there " * 20
        messages.append({"role": "tool", "tool_call_id": f"c{step}", "content": content})
    tools = {} if steps == 7 else {"tools": TOOLS}
    return json.dumps({"model": "glm", "messages": messages, **tools}).encode()


async def tiers_of(gateways: Sequence[Running], opening: str, steps: Iterable[int]) -> list[str]:
    """Who answers some steps of a loop whose requests go to the gateways in turn."""
    tiers = []
    for step in steps:
        got = await gateways[step % len(gateways)].ask(conversation(OPENINGS[opening], step))
        assert (got.status, got.headers.get("x-glm-degraded")) == (200, None)
        tiers.append(got.headers["x-glm-tier"])
    return tiers


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("rules", [(), RULES], ids=["no rules", "rules"])
def test_twenty_steps_over_two_gateways_and_a_restart_never_fall(
    opening: str, rules: tuple[Rule, ...]
) -> None:
    async def scenario() -> list[str]:
        policy = config(rules=rules)
        async with (
            engines(answer, answer) as [one, two],
            running(policy, flash=[one.url], flagship=[two.url]) as lasting,
        ):
            async with running(policy, flash=[one.url], flagship=[two.url]) as old:
                tiers = await tiers_of([old, lasting], opening, range(STEPS // 2))
            async with running(policy, flash=[one.url], flagship=[two.url]) as restarted:
                rest = range(STEPS // 2, STEPS + 1)
                return tiers + await tiers_of([restarted, lasting], opening, rest)

    tiers = run(scenario())
    ranks = [RANK[tier] for tier in tiers]
    assert ranks == sorted(ranks)
    assert tiers[0] == ("flash" if opening == "for flash" else "flagship")
    assert tiers[-1] == ("flagship" if rules or opening == "for the flagship" else "flash")


def test_a_loop_waits_for_its_tier_though_others_may_be_served_by_a_weaker_one() -> None:
    async def scenario() -> None:
        policy = config(degradation=Degradation.DEGRADE)
        async with (
            engines(answer, answer) as [one, two],
            running(policy, flash=[one.url]) as gateway,
        ):
            body = conversation(OPENINGS["for the flagship"], 0)
            opened = await gateway.ask(body)
            assert opened.headers["x-glm-degraded"] == "flagship"
            step = asyncio.create_task(gateway.ask(conversation(OPENINGS["for the flagship"], 1)))
            await eventually(lambda: gateway.gateway.pools.held == 1, "the step waits")
            gateway.endpoints(flash=[one.url], flagship=[two.url])
            assert (await step).headers["x-glm-tier"] == "flagship"

    run(scenario())
