"""The parts of glm-weights that need no hub: choice of files, waiting, progress, the last word."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glm_dev.hub.repository import Blob
from glm_operator.manifests import weights_task
from glm_serving.weights import copy, reasons
from glm_serving.weights.disk import locked, require_space
from glm_serving.weights.errors import WeightsError, of_the_disk
from glm_serving.weights.files import MARKER, File, needed, require_whole
from glm_serving.weights.hub import PUBLIC_HUB, Access
from glm_serving.weights.marker import Marker, complete, read_marker
from glm_serving.weights.patience import LONGEST_SECONDS, TRIES, Patience
from glm_serving.weights.progress import Progress, Stage
from glm_serving.weights.result import MAX_BYTES, Result
from glm_serving.weights.verify import verify

TOKENIZER = ("tokenizer_config.json", "vocab.json", "merges.txt")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("config.json", True),
        ("model-00001-of-00002.safetensors", True),
        ("model.safetensors.index.json", True),
        ("chat_template.jinja", True),
        ("merges.txt", True),
        ("tokenizer.model", True),
        ("pytorch_model.bin", False),
        ("model.gguf", False),
        ("consolidated.safetensors", False),
        ("original/consolidated.00.pth", False),
        ("onnx/config.json", False),
        ("README.md", False),
        (".gitattributes", False),
        (MARKER, False),
    ],
)
def test_only_what_an_engine_reads_is_fetched(name: str, wanted: bool) -> None:
    assert needed(name) is wanted


@pytest.mark.parametrize(
    ("tokenizer", "whole"),
    [
        (("tokenizer.json",), True),
        (TOKENIZER, True),
        (("tokenizer_config.json", "tokenizer.model"), True),
        (("tokenizer_config.json",), False),
        (TOKENIZER[1:], False),
        ((), False),
    ],
)
def test_a_tokenizer_is_a_file_or_a_set_of_files(tokenizer: tuple[str, ...], whole: bool) -> None:
    names = ["config.json", "model.safetensors", *tokenizer]
    if whole:
        require_whole(names, "here")
        return
    with pytest.raises(WeightsError, match=r"here holds no tokenizer\.json"):
        require_whole(names, "here")


@given(
    st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,20}/[a-zA-Z0-9._-]{1,20}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{40}", fullmatch=True),
)
def test_the_operator_and_the_job_name_a_copy_alike(name: str, commit: str) -> None:
    assert copy.checkpoint_key(name, commit) == weights_task.checkpoint_key(f"hf://{name}", commit)


@pytest.mark.parametrize(
    ("variables", "endpoint", "token"),
    [
        ({}, PUBLIC_HUB, ""),
        ({"HF_ENDPOINT": "", "GLM_HUB_ENDPOINT": "http://b"}, "http://b", ""),
        ({"HF_ENDPOINT": "http://a/", "GLM_HUB_ENDPOINT": "http://b"}, "http://a", ""),
        ({"HF_TOKEN": "secret\n"}, PUBLIC_HUB, "secret"),
    ],
)
def test_the_users_endpoint_comes_before_the_platforms(
    variables: dict[str, str], endpoint: str, token: str
) -> None:
    assert Access.from_environment(variables) == Access(endpoint, token)


class Flaky:
    """Work that fails, and gets some bytes before each failure."""

    def __init__(self, reason: str, gains: list[int]) -> None:
        self.reason, self.gains = reason, gains
        self.moved, self.tries = 0, 0
        self.pauses: list[float] = []
        self.told: list[int] = []

    def work(self) -> str:
        self.tries += 1
        if not self.gains:
            return "done"
        self.moved += self.gains.pop(0)
        raise WeightsError(self.reason, "no.")

    def patience(self) -> Patience:
        return Patience(lambda: self.moved, self.tell, self.pauses.append, lambda: 1.0)

    def tell(self, trouble: str) -> None:
        self.told.append(self.tries)


def test_waits_grow_up_to_a_minute() -> None:
    flaky = Flaky(reasons.HUB_UNREACHABLE, [0] * (TRIES - 1))
    assert flaky.patience()(flaky.work) == "done"
    assert flaky.pauses == [1, 2, 4, 8, 16, 32, LONGEST_SECONDS, LONGEST_SECONDS, LONGEST_SECONDS]


def test_it_gives_up_where_no_byte_moves() -> None:
    flaky = Flaky(reasons.HUB_UNREACHABLE, [0] * 50)
    with pytest.raises(WeightsError):
        flaky.patience()(flaky.work)
    assert flaky.tries == TRIES


def test_it_counts_anew_whenever_bytes_came() -> None:
    flaky = Flaky(reasons.HUB_UNREACHABLE, [1] * 50)
    assert flaky.patience()(flaky.work) == "done"
    assert set(flaky.pauses) == {1}


def test_what_needs_somebody_is_not_tried_again() -> None:
    flaky = Flaky(reasons.TOKEN_REFUSED, [0])
    with pytest.raises(WeightsError):
        flaky.patience()(flaky.work)
    assert flaky.tries == 1


@given(st.integers(1, TRIES), st.floats(0, 1))
def test_a_wait_is_half_chance(failed: int, chance: float) -> None:
    longest = min(LONGEST_SECONDS, 2.0 ** (failed - 1))
    patient = Patience(lambda: 0, lambda _: None, chance=lambda: chance)
    assert longest / 2 <= patient.wait(failed) <= longest


def test_trouble_is_told_from_the_third_failure_in_a_row_on() -> None:
    flaky = Flaky(reasons.HUB_UNREACHABLE, [0, 1, 0, 0, 0])
    assert flaky.patience()(flaky.work) == "done"
    assert flaky.told == [4, 5]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> Progress:
    return Progress(clock)


def test_the_rate_is_that_of_the_last_seconds(clock: Clock, progress: Progress) -> None:
    progress.expect(10_000, 1_000)
    for _ in range(30):
        clock.now += 1
        progress.add(100)
    told = progress.state()
    assert (told["stage"], told["bytes"], told["totalBytes"]) == ("Fetching", 4_000, 10_000)
    assert told["bytesPerSecond"] == 100
    clock.now += 60
    assert progress.state()["bytesPerSecond"] == 0


def test_there_is_no_rate_before_time_passed(progress: Progress) -> None:
    progress.expect(10, 0)
    assert progress.state()["bytesPerSecond"] == 0
    progress.add(5)
    assert progress.state()["bytesPerSecond"] == 0


def test_a_rate_of_the_first_moments_is_not_told(clock: Clock, progress: Progress) -> None:
    progress.expect(10_000, 0)
    rates = []
    for _ in range(5):
        progress.add(100)
        rates.append(progress.state()["bytesPerSecond"] > 0)
        clock.now += 1
    assert rates == [False, False, False, True, True]


def test_trouble_ends_with_the_next_byte(progress: Progress) -> None:
    progress.expect(10, 0)
    progress.suffer("the hub does not answer.")
    told = [progress.state()["trouble"]]
    progress.add(1)
    assert [*told, progress.state()["trouble"]] == ["the hub does not answer.", ""]


def test_a_copy_that_is_all_there_is_verified(progress: Progress) -> None:
    progress.expect(10, 10)
    assert progress.state()["stage"] == Stage.VERIFYING


def test_all_bytes_there_is_verifying_until_some_are_thrown_away(progress: Progress) -> None:
    progress.expect(10, 4)
    progress.add(6)
    assert progress.state()["stage"] == Stage.VERIFYING
    progress.add(-6)
    assert progress.state()["stage"] == Stage.FETCHING
    assert progress.moved == 6


def facts(patterns: int) -> dict[str, Any]:
    return {"quantization": {"method": "fp8", "ignore": ["x" * 96] * patterns, "ignored": 200}}


def test_the_last_word_has_all_keys() -> None:
    told = json.loads(Result(bytes=7, seconds=1.26, facts={"version": 1}).to_text())
    assert told == {
        **{"version": 1, "outcome": "Done", "reason": "", "message": "", "file": ""},
        **{"bytes": 7, "seconds": 1.3, "facts": {"version": 1}},
    }


@given(st.integers(0, 60), st.text(max_size=6000))
@example(60, "\U0001f600" * 2000)
def test_the_last_word_fits_the_termination_message(patterns: int, message: str) -> None:
    text = Result(reason="FileDamaged", message=message, facts=facts(patterns)).to_text()
    assert len(text.encode()) <= MAX_BYTES
    assert json.loads(text)["outcome"] == "Failed"


def test_only_an_unreachable_hub_is_worth_another_try() -> None:
    codes = {reason: Result.of(WeightsError(reason, "."), 0).exit_code for reason in reasons.ALL}
    assert {reason for reason, code in codes.items() if code == 1} == {reasons.HUB_UNREACHABLE}
    assert set(codes.values()) == {1, 3}


def published(tmp_path: Path, name: str) -> tuple[Path, File]:
    """A file, and what the hub says of it."""
    path = tmp_path / name
    path.write_bytes(b"content")
    blob = Blob(name, path)
    if blob.large:
        return path, File(name, blob.size, sha256=blob.sha256)
    return path, File(name, blob.size, git_sha1=blob.git_sha1)


@pytest.mark.parametrize("name", ["a.safetensors", "config.json"])
@pytest.mark.parametrize("content", [b"Content", b"conten", b""])
def test_another_content_is_damage(tmp_path: Path, name: str, content: bytes) -> None:
    path, file = published(tmp_path, name)
    verify(path, file)
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name} is damaged: its? ") as caught:
        verify(path, file)
    assert (caught.value.reason, caught.value.file) == (reasons.FILE_DAMAGED, name)


def test_the_checksum_of_a_small_file_is_gits(tmp_path: Path) -> None:
    """As `printf content | git hash-object --stdin` says."""
    path = tmp_path / "a.json"
    path.write_bytes(b"content")
    verify(path, File("a.json", 7, git_sha1="6b584e8ece562ebffc15d38808cd6b98fc3d97ea"))


def marked(folder: Path) -> Marker:
    (folder / "a").write_bytes(b"123")
    marker = Marker("hf://o/n", "c" * 40, (File("a", 3, sha256="x"),))
    (folder / MARKER).write_text(marker.to_text())
    return marker


def test_a_marker_is_read_as_it_was_written(tmp_path: Path) -> None:
    marker = marked(tmp_path)
    assert read_marker(tmp_path) == complete(tmp_path) == marker
    assert marker.bytes == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "files": 3}'])
def test_a_marker_that_cannot_be_used_is_none(tmp_path: Path, text: str) -> None:
    marked(tmp_path)
    (tmp_path / MARKER).write_text(text)
    assert complete(tmp_path) is None


@pytest.mark.parametrize("content", [b"12", b"1234", None])
def test_a_copy_with_a_file_of_another_length_is_not_complete(
    tmp_path: Path, content: bytes | None
) -> None:
    marked(tmp_path)
    (tmp_path / "a").unlink()
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    assert complete(tmp_path) is None


@pytest.mark.parametrize("room", [0, 99])
def test_a_shortage_is_told_exactly(tmp_path: Path, room: int) -> None:
    with pytest.raises(WeightsError, match=f"{100 - room} too few"):
        require_space(tmp_path, 100, lambda folder: room)
    require_space(tmp_path, room, lambda folder: room)


def test_the_second_one_waits_for_the_lock_and_says_so(tmp_path: Path) -> None:
    waits, order = threading.Event(), []

    def second() -> None:
        with locked(tmp_path / "lock", waits.set):
            order.append("second")

    with locked(tmp_path / "lock", pytest.fail):
        other = threading.Thread(target=second)
        other.start()
        assert waits.wait(10)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]


def test_a_lock_whose_file_was_swept_meanwhile_is_taken_anew(tmp_path: Path) -> None:
    path, waits, held = tmp_path / "lock", threading.Event(), []

    def second() -> None:
        with locked(path, waits.set):
            held.append(path.exists())

    with locked(path, pytest.fail):
        other = threading.Thread(target=second)
        other.start()
        assert waits.wait(10)
        path.unlink()
    other.join(10)
    assert held == [True]


@pytest.mark.parametrize(
    ("number", "reason", "words"),
    [
        (28, reasons.DISK_TOO_SMALL, "became full while a was written"),
        (122, reasons.DISK_TOO_SMALL, "free space on it, or use a larger one"),
        (13, reasons.CHECKPOINT_UNREADABLE, "a cannot be used: .*; let group 10001 use it"),
        (30, reasons.CHECKPOINT_UNREADABLE, "let group 10001 use it"),
        (5, reasons.CHECKPOINT_UNREADABLE, "see whether the disk is in order"),
    ],
)
def test_errors_of_the_disk_have_a_way_out(number: int, reason: str, words: str) -> None:
    told = of_the_disk(OSError(number, "reason"), "a")
    assert told.reason == reason
    assert re.search(words, str(told))
