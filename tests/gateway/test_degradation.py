"""What clients see of rules, and of a tier that takes no request, over real sockets."""

from __future__ import annotations

import hashlib
import json

import pytest

from gateway_fakes import Call, answer, chat, config, engines, run, running
from glm_serving.gateway.config import Auth
from glm_serving.gateway.keys import read_entries
from glm_serving.gateway.rules import Degradation, Match, Rule

CLICK = [{"type": "function", "function": {"name": "click"}}]
"""Offered with text, it makes a request one for the flagship."""


def test_a_weaker_tier_answers_and_says_so() -> None:
    async def scenario() -> None:
        policy = config(degradation=Degradation.DEGRADE)
        async with (
            engines(answer) as [engine],
            running(policy, flash=[engine.url]) as gateway,
        ):
            got = await gateway.ask(chat(tools=CLICK))
            assert (got.status, got.headers["x-glm-tier"]) == (200, "flash")
            assert got.headers["x-glm-degraded"] == "flagship"
            assert got.headers["x-glm-decision"] == "TextWithTools"
            tiers = gateway.gateway.report().tiers
            assert (tiers["flagship"].arrivals, tiers["flash"].arrivals) == (1, 0)
            assert (tiers["flagship"].expected, tiers["flagship"].held) == (1, 0)
            assert tiers["flash"].expected == 0
            assert gateway.log()[0]["degraded"] == "flagship"

    run(scenario())


def test_the_tier_that_was_chosen_answers_without_the_header() -> None:
    async def scenario() -> None:
        policy = config(degradation=Degradation.DEGRADE)
        async with (
            engines(answer, answer) as [one, two],
            running(policy, flash=[one.url], flagship=[two.url]) as gateway,
        ):
            got = await gateway.ask(chat(tools=CLICK))
            assert (got.status, got.headers["x-glm-tier"]) == (200, "flagship")
            assert "x-glm-degraded" not in got.headers

    run(scenario())


async def hang_up(call: Call) -> None:
    """A replica that dies before its first byte."""
    call.writer.close()


@pytest.mark.parametrize("degradation", Degradation)
def test_a_weaker_tier_takes_over_from_replicas_that_fail_only_where_it_may(
    degradation: Degradation,
) -> None:
    async def scenario() -> None:
        async with (
            engines(hang_up, answer) as [dying, well],
            running(
                config(degradation=degradation), flagship=[dying.url], flash=[well.url]
            ) as gateway,
        ):
            got = await gateway.ask(chat(tools=CLICK))
            assert len(dying.calls) >= 1
            if degradation is Degradation.DEGRADE:
                assert (got.status, got.headers["x-glm-tier"]) == (200, "flash")
                assert got.headers["x-glm-degraded"] == "flagship"
                assert gateway.log()[0]["attempts"] == 2
            else:
                assert (got.status, got.headers["x-glm-tier"]) == (500, "flagship")
            assert gateway.gateway.report().tiers["flash"].arrivals == 0

    run(scenario())


def test_a_tier_that_takes_no_request_is_refused_at_once_where_the_object_says_so() -> None:
    async def scenario() -> None:
        policy = config(degradation=Degradation.REJECT)
        async with (
            engines(answer) as [engine],
            running(policy, flash=[engine.url]) as gateway,
        ):
            got = await gateway.ask(chat(tools=CLICK))
            assert (got.status, got.error["code"]) == (503, "TierUnavailable")
            assert 1 <= int(got.headers["retry-after"]) <= 120
            flagship = gateway.gateway.report().tiers["flagship"]
            assert (flagship.arrivals, flagship.expected) == (1, 1)
            assert (await gateway.ask(chat())).status == 200

    run(scenario())


def test_a_rule_reads_a_header_that_the_gateway_else_drops() -> None:
    async def scenario() -> None:
        rule = Rule("batch", "flash", Match(headers={"x-team": "batch"}))
        policy = config(rules=(rule,))
        async with (
            engines(answer, answer) as [one, two],
            running(policy, flash=[one.url], flagship=[two.url]) as gateway,
        ):
            ruled = await gateway.ask(chat(tools=CLICK), X_Team="batch")
            assert (ruled.headers["x-glm-tier"], ruled.headers["x-glm-decision"]) == (
                "flash",
                "Rule/batch",
            )
            assert "x-team" not in one.calls[0].request.headers
            other = await gateway.ask(chat(tools=CLICK), X_Team="search")
            assert other.headers["x-glm-tier"] == "flagship"
            assert [line.get("rule") for line in gateway.log()] == ["batch", None]

    run(scenario())


def test_a_key_is_served_by_its_tiers_and_refused_where_it_names_another() -> None:
    async def scenario() -> None:
        locked = config(auth=Auth(keys_file="keys.json"))
        entry = {"sha256": hashlib.sha256(b"a-key").hexdigest(), "tiers": ["flash"]}
        async with (
            engines(answer) as [engine],
            running(locked, flash=[engine.url]) as gateway,
        ):
            gateway.gateway.take_keys(read_entries({"alice": json.dumps(entry).encode()}))
            served = await gateway.ask(chat(tools=CLICK), x_api_key="a-key")
            assert served.headers["x-glm-decision"] == "OnlyTierForKey"
            refused = await gateway.ask(chat(model="glm-4.6v"), x_api_key="a-key")
            assert (refused.status, refused.error["code"]) == (403, "TierNotPermitted")

    run(scenario())
