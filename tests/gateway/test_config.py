"""The configuration file: what is read, and what is refused with which sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway_fakes import DATA
from glm_serving.gateway.config import Address, Media, address_of, client_names, parse
from glm_serving.gateway.errors import ConfigError

FIXTURE = json.loads((DATA / "gateway-config.json").read_text())
ALONE = {"version": 1, "tiers": {"flash": {"model": "m", "contextTokens": 1}}}


def test_every_value_of_the_shared_fixture_is_read() -> None:
    found = parse(json.dumps(FIXTURE).encode())
    assert (found.deployment, found.namespace, found.generation) == ("vision", "ml", 3)
    assert (found.auto_model, found.quality_tolerance_points) == ("glm", 5)
    assert found.tiers["flash"].hold_timeout_seconds == 300
    assert found.tiers["flagship"].service == "vision-flagship"
    assert (found.tiers["text"].max_images, found.tiers["text"].context_tokens) == (0, 202752)
    assert found.limits.max_held_requests == 512
    assert found.media == Media(allowed_domains=("images.example.org",), allow_http=True)
    assert client_names(found) == {
        "glm": "auto",
        "gpt-4o": "auto",
        "house-vision": "flagship",
        "glm-4.6v": "flagship",
        "glm-4.6v-flash": "flash",
        "glm-4.6": "text",
    }


def test_what_is_not_given_has_a_default() -> None:
    found = parse(json.dumps(ALONE).encode())
    assert (found.auto_model, found.tiers["flash"].max_images) == ("glm", 16)
    assert found.limits.max_body_bytes == 64 * 1024 * 1024


def test_unknown_keys_of_a_newer_operator_are_ignored() -> None:
    assert parse(json.dumps(ALONE | {"later": 1}).encode()).version == 1


def tiers(**changes: Any) -> dict[str, Any]:
    return {"tiers": {"flash": ALONE["tiers"]["flash"] | changes}}  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"version": 2}, "version is 2: this gateway reads version 1"),
        ({"tiers": {}}, "tiers has no entry: use flagship, flash, text"),
        ({"tiers": {"tiny": {"model": "m", "contextTokens": 1}}}, "tiers has ['tiny']: use"),
        (
            {"tiers": {"text": {"model": "m", "contextTokens": 1}}},
            "tiers.text.maxImages is 16: its model takes text only, write 0",
        ),
        (
            {"tiers": {"text": ALONE["tiers"]["flash"] | {"maxImages": 0, "maxVideos": 1}}},  # type: ignore[index]
            "tiers.text.maxVideos is 1: its model takes text only, write 0",
        ),
        ({"aliases": {"x": "flagship"}}, "aliases.x is 'flagship': use 'auto' or a tier"),
        (tiers(contextTokens=0), "contextTokens"),
        (tiers(maxImages=-1), "maxImages"),
        (tiers(endpoints=[{"name": "a", "url": "https://e:1"}]), "write it as http://host:port"),
        (tiers(endpoints=[{"name": "a", "url": "http://e"}]), "write it as http://host:port"),
        (tiers(endpoints=[{"name": "a", "url": "http://e:1/v1"}]), "write it as http://host:port"),
        (tiers(endpoints=[{"name": "a", "url": "http://e:99999"}]), "cannot be read"),
        (tiers(endpoints=[{"name": "a", "url": "http://e:1"}] * 2), "has 'a' twice: rename one"),
        ({"limits": {"maxBodyBytes": "big"}}, "maxBodyBytes"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(json.dumps(ALONE | changes).encode())
    assert sentence in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100000])
def test_what_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        parse(text)


def test_an_address_may_be_a_name_or_ipv6() -> None:
    assert address_of("http://engine.ml.svc:8000") == Address("engine.ml.svc", 8000)
    assert address_of("http://[fd00::1]:8000/") == Address("fd00::1", 8000)
