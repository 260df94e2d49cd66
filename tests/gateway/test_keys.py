"""API keys: what an entry may say, and who comes in with what."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import msgspec
import pytest

from api_keys import digest, entries, entry
from gateway_fakes import (
    Call,
    answer,
    chat,
    config,
    engines,
    eventually,
    request_bytes,
    run,
    running,
    with_endpoints,
)
from glm_serving.gateway.cli import main
from glm_serving.gateway.config import Auth
from glm_serving.gateway.errors import ConfigError
from glm_serving.gateway.filesource import FileSource
from glm_serving.gateway.keys import Key, read_entries, read_file
from glm_serving.gateway.keysfile import KeysFile
from glm_serving.gateway.server import StaticSource

FILE = Auth(keys_file="keys.json")


def test_a_key_is_found_by_its_text_with_all_that_its_entry_says() -> None:
    found = entries(
        alice=entry(
            "a-key",
            team="search",
            requestsPerMinute=100,
            tokensPerMinute=5000,
            maxInFlight=8,
            tiers=["flash"],
        ),
        bob=entry("b-key"),
    )
    assert found.troubles == ()
    assert found.ring is not None
    alice, bob = found.ring.find(b"a-key"), found.ring.find(b"b-key")
    assert alice is not None
    assert bob is not None
    assert (alice.name, alice.team, alice.tiers) == ("alice", "search", {"flash"})
    limits = (alice.requests_per_minute, alice.tokens_per_minute, alice.max_in_flight)
    assert limits == (100, 5000, 8)
    assert (bob.name, bob.team, bob.tiers) == ("bob", "", None)
    assert (bob.requests_per_minute, bob.tokens_per_minute, bob.max_in_flight) == (None,) * 3


@pytest.mark.parametrize("presented", [b"", b"a-ke", b"a-key ", b"A-KEY", digest("a-key").encode()])
def test_nothing_but_the_key_itself_finds_it(presented: bytes) -> None:
    ring = entries(alice=entry("a-key")).ring
    assert ring is not None
    assert ring.find(presented) is None


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("alice", b"sk-plain-key", "entry 'alice' is no JSON object: make one with"),
        ("alice", b"", "entry 'alice' is no JSON object"),
        ("alice", b"{", "entry 'alice' cannot be read"),
        ("alice", b"[" * 100000, "entry 'alice' is no JSON object"),
        ("alice", b'{"a":' * 100000, "entry 'alice' cannot be read"),
        ("alice", b"{}", "missing required field `sha256`"),
        ("alice", b'{"sha256": "abc"}', "sha256"),
        ("alice", json.dumps(entry("k", requestPerMinute=1)).encode(), "requestPerMinute"),
        ("alice", json.dumps(entry("k", requestsPerMinute=0)).encode(), "requestsPerMinute"),
        ("alice", json.dumps(entry("k", maxInFlight=1.5)).encode(), "maxInFlight"),
        ("alice", json.dumps(entry("k", team="a team")).encode(), "team"),
        ("alice", json.dumps(entry("k", tiers=["big"])).encode(), "has tiers ['big']: use flag"),
        ("a b", json.dumps(entry("k")).encode(), "a name has up to 128 of"),
        ("x" * 200, json.dumps(entry("k")).encode(), "a name has up to 128 of"),
    ],
)
def test_a_bad_entry_lets_nobody_in_and_leaves_the_others_alone(
    name: str, text: bytes, sentence: str
) -> None:
    found = read_entries({name: text, "bob": json.dumps(entry("b-key")).encode()})
    assert found.ring is not None
    assert found.ring.names() == {"bob"}
    assert sentence in found.troubles[0]
    assert "plain" not in found.troubles[0]


def test_two_entries_with_one_key_are_told_and_the_first_counts() -> None:
    found = entries(alice=entry("k"), bob=entry("k"))
    assert found.ring is not None
    assert found.ring.names() == {"alice"}
    assert found.troubles == ("entry 'bob' has the same key as 'alice': give it its own",)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"a":' * 100000])
def test_a_keys_file_is_one_json_object(text: bytes) -> None:
    with pytest.raises(ConfigError, match="the keys cannot be read"):
        read_file(text)


def test_a_keys_file_is_read_when_it_changes_and_not_otherwise(tmp_path: Path) -> None:
    path, file = tmp_path / "keys.json", KeysFile(tmp_path)
    path.write_text(json.dumps({"alice": entry("a-key")}))
    first = file.first(FILE)
    assert first is not None
    assert first.ring is not None
    assert first.ring.names() == {"alice"}
    assert file.changed(FILE) is None
    path.write_text(json.dumps({"alice": entry("a-key"), "bob": entry("b-key")}))
    second = file.changed(FILE)
    assert second is not None
    assert second.ring is not None
    assert second.ring.names() == {"alice", "bob"}
    path.unlink()
    third = file.changed(FILE)
    assert third is not None
    assert third.ring is None
    assert "keys.json does not exist" in third.troubles[0]


def test_a_missing_keys_file_or_a_secret_without_kubernetes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"auth.keysFile .*keys.json does not exist"):
        KeysFile(tmp_path).first(FILE)
    with pytest.raises(ConfigError, match=r"without Kubernetes use auth\.keysFile"):
        KeysFile(tmp_path).first(Auth(api_keys_secret="glm-api-keys"))
    (tmp_path / "keys.json").write_text("sk-1")
    with pytest.raises(ConfigError, match=r"auth.keysFile .*keys.json: the keys cannot be read"):
        KeysFile(tmp_path).first(FILE)


def test_the_command_makes_a_key_and_the_entry_that_lets_it_in(
    capsys: pytest.CaptureFixture[str],
) -> None:
    limits = ["--requests-per-minute", "9", "--tokens-per-minute", "99", "--max-in-flight", "2"]
    assert main(["key", "alice", "--team", "search", *limits, "--tier", "flash"]) == 0
    page = capsys.readouterr().out
    (key,) = re.findall(r"^  (glm-\S{43})$", page, re.MULTILINE)
    (line,) = re.findall(r'^  ("alice": .+)$', page, re.MULTILINE)
    (patch,) = re.findall(r"--patch '(.+)'$", page, re.MULTILINE)
    by_file = read_file(f"{{{line}}}".encode()).ring
    data = json.loads(patch)["stringData"]
    by_secret = read_entries({name: text.encode() for name, text in data.items()}).ring
    assert by_file is not None
    assert by_secret is not None
    found = by_file.find(key.encode())
    assert found == by_secret.find(key.encode())
    assert found == Key("alice", "search", frozenset({"flash"}), 9, 99, 2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a b"], "entry 'a b': a name has up to 128 of A-Z a-z 0-9 . _ -"),
        (["alice", "--tier", "big"], "entry 'alice' has tiers ['big']: use flagship, flash, text"),
        (["alice", "--max-in-flight", "0"], "maxInFlight"),
    ],
)
def test_the_command_makes_no_entry_that_could_not_be_used(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["key", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err


LOCKED = msgspec.structs.replace(config(), auth=FILE)
ALICE = entries(alice=entry("a-key", team="search"), bob=entry("b-key"))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer a-key"}, 200),
        ({"authorization": "bearer  a-key "}, 200),
        ({"x_api_key": "a-key"}, 200),
        ({"x_api_key": "a-key", "authorization": "Bearer a-key"}, 200),
        ({"x_api_key": "a-key", "authorization": "Basic YTpi"}, 200),
        ({"x_api_key": "a-key", "authorization": "Bearer b-key"}, 401),
        ({"authorization": "a-key"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Bearer a-key2"}, 401),
        ({"x_api_key": ""}, 401),
        ({}, 401),
    ],
)
def test_a_request_needs_a_known_key(headers: dict[str, str], status: int) -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(LOCKED, flash=[engine.url]) as gateway:
            gateway.gateway.take_keys(ALICE)
            got = await gateway.ask(chat(), **headers)
            assert got.status == status
            assert bool(engine.calls) is (status == 200)
            if status == 401:
                assert got.error["code"] == "InvalidAPIKey"
                assert got.headers["www-authenticate"] == "Bearer"
            else:
                assert not {"authorization", "x-api-key"} & engine.calls[0].request.headers.keys()
                line = gateway.log()[-1]
                assert (line["key"], line["team"]) == ("alice", "search")

    run(scenario())


def test_a_body_is_not_read_from_who_has_no_key() -> None:
    async def scenario() -> None:
        async with running(LOCKED) as gateway:
            gateway.gateway.take_keys(ALICE)
            client = await gateway.client()
            await client.send(request_bytes(b"", content_length="1000000", expect="100-continue"))
            assert (await client.answer()).status == 401

    run(scenario())


def test_models_are_listed_to_known_keys_only() -> None:
    async def scenario() -> None:
        async with running(LOCKED) as gateway:
            gateway.gateway.take_keys(ALICE)
            client = await gateway.client()
            await client.send(b"GET /v1/models HTTP/1.1\r\nx-api-key: a-key\r\n\r\n")
            assert (await client.answer()).status == 200
            await client.send(b"GET /v1/models HTTP/1.1\r\n\r\n")
            assert (await client.answer()).status == 401

    run(scenario())


def test_until_the_keys_are_read_nobody_comes_in_and_the_gateway_is_not_ready() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(LOCKED, flash=[engine.url]) as gateway:
            got = await gateway.ask(chat(), x_api_key="a-key")
            assert (got.status, got.error["code"]) == (503, "APIKeysNotRead")
            assert got.headers["retry-after"] == "1"
            page = gateway.admin.page(b"GET", b"/readyz")
            assert (page.status, page.body) == (503, b"the API keys are not read: not yet\n")
            gateway.gateway.take_keys(ALICE)
            assert gateway.admin.page(b"GET", b"/readyz").status == 200
            assert (await gateway.ask(chat(), x_api_key="a-key")).status == 200

    run(scenario())


def test_a_revoked_key_stops_and_what_it_runs_goes_on() -> None:
    revoked = asyncio.Event()

    async def slow(call: Call) -> None:
        await revoked.wait()
        await answer(call)

    async def scenario() -> None:
        async with engines(slow) as [engine], running(LOCKED, flash=[engine.url]) as gateway:
            gateway.gateway.take_keys(ALICE)
            client = await gateway.client()
            await client.request(chat(), x_api_key="a-key")
            await eventually(lambda: engine.calls, "the request runs")
            gateway.gateway.take_keys(entries(bob=entry("b-key")))
            revoked.set()
            assert (await client.answer()).status == 200
            await client.request(chat(), x_api_key="a-key")
            assert (await client.answer()).status == 401
            assert (await gateway.ask(chat(), x_api_key="b-key")).status == 200

    run(scenario())


def test_keys_may_be_asked_for_and_no_longer_while_the_gateway_runs() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            one = gateway.gateway
            assert (await gateway.ask(chat())).status == 200
            one.apply(msgspec.structs.replace(one.config, auth=FILE))
            one.take_keys(ALICE)
            assert (await gateway.ask(chat())).status == 401
            one.apply(msgspec.structs.replace(one.config, auth=Auth(keys_file="other.json")))
            assert (await gateway.ask(chat(), x_api_key="a-key")).status == 200
            one.apply(msgspec.structs.replace(one.config, auth=Auth()))
            assert (await gateway.ask(chat())).status == 200

    run(scenario())


def test_a_keys_file_that_changes_is_followed(tmp_path: Path) -> None:
    path, keys = tmp_path / "config.json", tmp_path / "keys.json"

    async def scenario() -> None:
        async with engines(answer) as [engine], running(LOCKED) as gateway:
            open_ = with_endpoints(LOCKED, flash=[engine.url])
            path.write_bytes(msgspec.json.encode(open_))
            keys.write_text(json.dumps({"alice": entry("a-key")}))
            source = StaticSource(FileSource(path), poll_seconds=0.01)
            gateway.gateway.apply(await source.first())
            following = asyncio.create_task(source.follow(gateway.gateway))

            async def becomes(status: int) -> None:
                while (await gateway.ask(chat(), x_api_key="a-key")).status != status:
                    pass

            await becomes(200)
            keys.write_text(json.dumps({"bob": entry("b-key")}))
            await becomes(401)
            keys.write_text("not json")
            errors = "glm_gateway_config_errors_total"
            await eventually(lambda: gateway.metric(errors) == 1, "the error is counted")
            assert (await gateway.ask(chat(), x_api_key="b-key")).status == 200
            keys.unlink()
            await becomes(503)
            path.write_bytes(msgspec.json.encode(msgspec.structs.replace(open_, auth=Auth())))
            await becomes(200)
            following.cancel()

    run(scenario())
