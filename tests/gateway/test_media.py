"""Which media the gateway takes: by URL, by number of pixels, by number of frames."""

from __future__ import annotations

import base64
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gateway_fakes import PNG_640x480, answer, chat, config, engines, run, running
from glm_serving.gateway.config import Media
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts, of_chat
from glm_serving.gateway.facts.media import VIDEO_TOKENS

ALLOWED = Media(allowed_domains=("images.example.org", "minio"))


def asked(url: str, rules: Media = ALLOWED, kind: str = "image_url") -> Facts:
    part = {"type": kind, kind: {"url": url}}
    return of_chat(chat(messages=[{"role": "user", "content": [part]}]), rules)


def refused(url: str, rules: Media = ALLOWED, kind: str = "image_url") -> Refusal:
    with pytest.raises(Refusal) as caught:
        asked(url, rules, kind)
    assert caught.value.param == f"messages[0].content[0].{kind}"
    return caught.value


@pytest.mark.parametrize(
    "url",
    [
        "https://images.example.org",
        "https://images.example.org/",
        "https://images.example.org/a/b.png?x=1&y=@#f",
        "https://IMAGES.example.ORG/a.png",
        "https://images.example.org:8443/a.png",
        "https://minio/a%20b.png",
    ],
)
def test_a_plain_url_of_an_allowed_host_passes_and_counts_as_a_screenshot(url: str) -> None:
    found = asked(url)
    assert (found.images, found.image_tokens, found.image_pixels) == (1, 2691, 0)
    assert asked(url, kind="video_url").image_tokens == VIDEO_TOKENS


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.org/a.png",
        "https://images.example.org.evil.org/",
        "https://evil.org/images.example.org",
        "https://a.images.example.org/",
        "https://example.org/",
    ],
)
def test_another_host_is_refused_by_name(url: str) -> None:
    refusal = refused(url)
    assert refusal.reason.name == "MediaURLNotAllowed"
    assert "which is not in media.allowedDomains" in str(refusal)


@pytest.mark.parametrize(
    "url",
    [
        "https://images.example.org\\@evil.org/",
        "https://evil.org\\.images.example.org/",
        "https://user@images.example.org/",
        "https://images.example.org:443@evil.org/",
        "https://images.example.org./a",
        "https://images.example.org?@evil.org/",
        "https://images.example.org#@evil.org/",
        "https://images.example.org/a b",
        "https://images.example.org/a\tb",
        "https://images.example.org/a\r\nHost: evil.org",
        "https://images.example.org/\u202e",
        "https://images.example\u3002org/",
        "https://im\u00e0ges.example.org/",
        " https://images.example.org/",
        "https://images.example.org/ ",
        "https:images.example.org/",
        "https:///images.example.org/",
        "https://images.example.org:/",
        "https://images.example.org:123456/",
        "//images.example.org/a",
        "HTTPS://images.example.org/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://[::1]/",
        "https://[fe80::1%25eth0]/",
        "https://images_example.org/",
        "https://-images.example.org/",
        "https://images..example.org/",
        "file:///etc/passwd",
        "ftp://images.example.org/",
        "/etc/passwd",
        "a.png",
        "",
        "https://images.example.org/" + "a" * 8192,
    ],
)
def test_a_url_that_can_be_read_in_two_ways_is_refused(url: str) -> None:
    refusal = refused(url)
    assert refusal.reason.name == "MediaURLNotAllowed"
    assert "write a plain https://host/path" in str(refusal)
    assert len(str(refusal)) < 400


def test_http_is_refused_until_it_is_allowed() -> None:
    assert "media.allowHTTP" in str(refused("http://images.example.org/a"))
    rules = Media(allowed_domains=("images.example.org",), allow_http=True)
    assert asked("http://images.example.org/a", rules).images == 1


def test_without_allowed_domains_the_way_out_is_named() -> None:
    refusal = refused("https://images.example.org/a", Media())
    assert "media.allowedDomains is empty" in str(refusal)


def taken(url: str) -> bool:
    try:
        asked(url)
    except Refusal:
        return False
    return True


@given(st.text(max_size=60))
def test_no_text_is_taken_for_a_url_of_another_host(text: str) -> None:
    for url in (text, f"https://{text}", f"https://images.example.org{text}"):
        if taken(url):
            host = url.removeprefix("https://").lower()
            assert url.startswith("data:") or host.startswith(("images.example.org", "minio"))


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png,plain",
        "data:image/png;base64",
        "data:,AAAA",
        "data:;base64,AAAA",
        "data:image/png;charset=\u00e9;base64,AAAA",
        "data:image/png;base64 ,AAAA",
    ],
)
def test_a_data_url_of_another_form_is_refused(url: str) -> None:
    refusal = refused(url, Media())
    assert refusal.reason.name == "InvalidRequest"
    assert "write it as data:image/png;base64,..." in str(refusal)


def png_of(wide: int, high: int) -> str:
    """Only the header of an image: a bomb has no more."""
    size = wide.to_bytes(4, "big") + high.to_bytes(4, "big")
    data = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + size + b"\x08\x06\x00\x00\x00"
    return "data:image/png;base64," + base64.b64encode(data).decode()


def test_an_image_of_too_many_pixels_is_refused_by_its_header() -> None:
    refusal = refused(png_of(65_535, 65_535))
    assert refusal.reason.name == "MediaTooLarge"
    assert "has 65535 x 65535 pixels: at most 40000000" in str(refusal)
    assert asked(png_of(8000, 5000)).largest_image_pixels == 40_000_000


def test_the_pixels_of_all_images_together_are_bounded() -> None:
    part = {"type": "image_url", "image_url": {"url": png_of(8000, 5000)}}
    rules = Media(max_request_pixels=80_000_000)
    messages = [{"role": "user", "content": [part, part, part]}]
    with pytest.raises(Refusal, match=r"up to messages\[0\].content\[2\].image_url have 120000000"):
        of_chat(chat(messages=messages), rules)


def frame(wide: int, high: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (wide, high)).save(buffer, format="JPEG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_frames_of_a_video_are_counted_by_their_commas() -> None:
    url = "data:video/jpeg;base64," + ",".join([frame(224, 224)] * 6)
    found = asked(url, kind="video_url")
    assert (found.videos, found.images) == (1, 0)
    assert found.image_tokens == 3 * (64 + 8)
    refusal = refused("data:VIDEO/JPEG;base64," + "AAAA," * 640, kind="video_url")
    assert refusal.reason.name == "MediaTooLarge"
    assert "has 641 frames: at most 640" in str(refusal)


def test_every_frame_has_to_keep_to_the_pixels() -> None:
    rules = Media(max_image_pixels=100_000)
    url = f"data:video/jpeg;base64,{frame(200, 200)},{frame(400, 300)}"
    assert "400 x 300" in str(refused(url, rules, "video_url"))


def test_other_videos_cost_what_a_video_costs_at_most() -> None:
    assert asked("data:video/mp4;base64,AAAA", kind="video_url").image_tokens == VIDEO_TOKENS


def test_media_that_an_engine_may_keep_under_a_name_are_refused() -> None:
    part = {"type": "image_url", "image_url": {"url": PNG_640x480}, "uuid": "theirs"}
    with pytest.raises(Refusal, match=r"messages\[0\].content\[0\].uuid"):
        of_chat(chat(messages=[{"role": "user", "content": [part]}]))


def test_equal_media_have_equal_keys_and_others_have_not() -> None:
    long = "data:image/png;base64," + "A" * 200_000
    assert asked(long).media == asked(long).media
    keys = {asked(long[:at] + "B" + long[at + 1 :]).media for at in (100, 199_990)}
    keys |= {asked(long + "A").media, asked(long).media, asked(PNG_640x480).media}
    assert len(keys) == 5


def test_the_rules_of_the_configuration_apply_at_once() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://images.example.org/a.png"}}
    body = chat(messages=[{"role": "user", "content": [part]}])

    async def scenario() -> None:
        base = config(media=Media())
        async with engines(answer) as [engine], running(base, flash=[engine.url]) as gateway:
            got = await gateway.ask(body)
            assert (got.status, got.error["code"]) == (400, "MediaURLNotAllowed")
            assert got.error["param"] == "messages[0].content[0].image_url"
            gateway.gateway.apply(config(media=ALLOWED))
            gateway.endpoints(flash=[engine.url])
            assert (await gateway.ask(body)).status == 200
            assert engine.calls[0].request.body == body

    run(scenario())
