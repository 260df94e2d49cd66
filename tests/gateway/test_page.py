"""The page of the second port: what it says, and that it says it safely."""

from __future__ import annotations

import asyncio
import html
import re
from html.parser import HTMLParser

from gateway_fakes import (
    Call,
    Running,
    answer,
    chat,
    config,
    engines,
    eventually,
    run,
    running,
)
from glm_serving.compat import override
from glm_serving.gateway.accounts import RECENT
from glm_serving.gateway.page import requests

VOID = {"meta"}


class Reader(HTMLParser):
    """Collects the text of a page, and checks that every element ends where it should."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.sources: list[str] = []
        self.text = ""

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for key, value in attrs if key in {"src", "href"}]
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data
            if {"td", "th"} & set(self.open):
                self.rows[-1][-1] += data


def read(gateway: Running) -> Reader:
    """The page as a browser without its script would see it."""
    page = gateway.admin.page(b"GET", b"/")
    assert (page.status, page.content_type) == (200, b"text/html; charset=utf-8")
    reader = Reader()
    reader.feed(page.body.decode())
    reader.close()
    assert reader.open == []
    return reader


def test_tiers_and_replicas_are_shown_with_their_state() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flagship=[engine.url]) as gateway:
            page = read(gateway)
            for text in ("ml / vision", "gateway-test", "generation 3"):
                assert text in page.text
            assert "flagship glm-4.6v Serving" in page.text
            assert "flash glm-4.6v-flash Asleep" in page.text
            address = engine.url.removeprefix("http://")
            assert ["flagship-0", "Routable", address, "0"] in page.rows

    run(scenario())


def test_the_latest_decision_stands_first_with_its_reason_and_numbers() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            await gateway.ask(chat(), x_request_id="first")
            await gateway.ask(chat(model="glm-4.6v-flash"), x_request_id="second")
            await gateway.ask(chat(model="nobody"), x_request_id="third")
            ended = [row for row in read(gateway).rows if len(row) == len(requests._RECENT)][1:]
            assert [row[1] for row in ended] == ["third", "second", "first"]
            third, second, first = ended
            assert third[8] == "404 ModelNotFound"
            assert (second[5], second[6], second[7], second[8]) == (
                "ClientNamedTier",
                "flash",
                "flash-0",
                "200",
            )
            assert (first[5], first[12], first[13]) == ("TextOnly", "7", "3")

    run(scenario())


def test_what_waits_and_what_runs_is_shown_until_it_is_over() -> None:
    go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        await go_on.wait()
        await answer(call)

    async def scenario() -> None:
        async with engines(slow) as [engine], running(flagship=[engine.url]) as gateway:
            runs = asyncio.create_task(gateway.ask(chat(model="glm-4.6v"), x_request_id="runs"))
            await eventually(lambda: engine.calls, "one runs")
            waits = await gateway.client()
            await waits.request(chat(model="glm-4.6v-flash"), x_request_id="waits")
            await eventually(lambda: gateway.gateway.held, "one waits")
            page = read(gateway)
            assert "1 of at most 512 wait" in page.text
            shown = {row[1]: row[2:5] for row in page.rows if len(row) == len(requests._RUNNING)}
            assert shown["runs"][:2] == ["waiting", "flagship"]
            assert shown["waits"] == ["held", "flash", ""]
            go_on.set()
            waits.abort()
            await runs
            await eventually(lambda: gateway.gateway.running == 0, "all is over")
            assert "None." in read(gateway).text

    run(scenario())


def test_what_a_client_sends_is_text_on_the_page_and_never_markup() -> None:
    evil = "<script>alert(1)</script>"

    async def scenario() -> None:
        hostile = config(deployment=evil, aliases={evil: "auto"})
        async with engines(answer) as [engine], running(hostile, flash=[engine.url]) as gateway:
            assert (await gateway.ask(chat(model=evil))).status == 200
            body = gateway.admin.page(b"GET", b"/").body.decode()
            assert evil not in body
            assert body.count(html.escape(evil)) == 3, "title, heading and model"

    run(scenario())


def test_only_the_latest_are_remembered() -> None:
    async def scenario() -> None:
        async with running() as gateway:
            for number in range(RECENT + 5):
                await gateway.ask(chat(model="nobody"), x_request_id=f"r{number}")
            shown = [entry.id for entry in gateway.gateway.accounts.recent]
            assert shown == [f"r{number}" for number in range(RECENT + 4, 4, -1)]

    run(scenario())


def test_the_browser_may_load_nothing_from_elsewhere() -> None:
    async def scenario() -> None:
        async with running() as gateway:
            policy = gateway.admin.page(b"GET", b"/").headers[b"content-security-policy"].decode()
            assert policy.startswith("default-src 'none'; ")
            assert not re.search(r"unsafe|https?:|\*", policy)
            assert read(gateway).sources == []

    run(scenario())
